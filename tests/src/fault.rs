//! What can go wrong between a program and DynamoDB: the vocabulary of [`wire`](crate::wire) and [`proxy`](crate::proxy).

use std::collections::HashMap;

use serde_json::Value;

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What was asked for, `Query` for instance.
    pub operation: String,
    /// The request's body.
    pub request: Value,
    /// The answer's body.
    pub answer: Value,
    /// The capacity units that DynamoDB says it has consumed.
    pub units: f64,
    /// Whether the answer is lost on its way back. The request has been carried out.
    pub is_lost: bool,
}

/// Alters an answer, or loses it.
pub type Fault = Box<dyn FnMut(&mut Exchange) + Send>;

impl Exchange {
    /// An exchange as it was.
    #[must_use]
    pub fn new(operation: String, request: Value, answer: Value) -> Self {
        let units = consumed_units(&answer);
        Self { operation, request, answer, units, is_lost: false }
    }

    /// Whether the index was read.
    #[must_use]
    pub fn is_index_scan(&self) -> bool {
        self.operation == "Scan" && self.request.get("IndexName").is_some()
    }

    /// The items of an answer to `Query` or `Scan`.
    pub fn items(&mut self) -> Option<&mut Vec<Value>> {
        self.answer.get_mut("Items").and_then(Value::as_array_mut)
    }
}

/// Loses the next `times` answers to an operation.
pub fn lose_answers(operation: &'static str, times: u32) -> impl FnMut(&mut Exchange) + Send + 'static {
    let mut left = times;
    move |exchange| {
        if exchange.operation == operation && left > 0 {
            left -= 1;
            exchange.is_lost = true;
        }
    }
}

/// Hides one item from the first `times` answers to `Query` that would show it.
pub fn hide(entity: &str, times: u32) -> impl FnMut(&mut Exchange) + Send + 'static {
    let (entity, mut left) = (entity.to_owned(), times);
    move |exchange| {
        if exchange.operation != "Query" || left == 0 {
            return;
        }
        let Some(items) = exchange.items() else { return };
        let before = items.len();
        items.retain(|item| item["entity"]["S"] != entity.as_str());
        left -= u32::from(items.len() < before);
    }
}

/// Transactions that are half visible: of each stream's pending entries the first one stays hidden, `times` times over,
/// wherever a later one is shown.
pub fn hide_the_earlier(times: u32) -> impl FnMut(&mut Exchange) + Send + 'static {
    let mut hidden = HashMap::new();
    move |exchange| {
        if exchange.operation != "Query" {
            return;
        }
        let Some(items) = exchange.items() else { return };
        let is_pending =
            |item: &Value| item["entity"]["S"].as_str().is_some_and(|entity| entity.starts_with("pending#"));
        if items.len() < 2 || !is_pending(&items[0]) {
            return;
        }
        let key = (items[0]["stream_id"].to_string(), items[0]["entity"].to_string());
        let count: &mut u32 = hidden.entry(key).or_default();
        if *count < times {
            *count += 1;
            items.remove(0);
        }
    }
}

/// An index that lags: the rows of half of the streams do not show in its first `scans` answers, all others come in a random
/// order, and rows that are gone show again.
pub fn lagging_index(scans: u32, seed: u64) -> impl FnMut(&mut Exchange) + Send + 'static {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut left = scans;
    let mut shown: Vec<Value> = Vec::new();
    move |exchange| {
        if !exchange.is_index_scan() || left == 0 {
            return;
        }
        let Some(items) = exchange.items() else { return };
        left -= 1;
        items.retain(|item| item["stream_id"]["S"].as_str().is_some_and(|stream| stream.len() % 2 == 0) || left == 0);
        let now = items.clone();
        items.extend(std::mem::replace(&mut shown, now));
        random.shuffle(items);
    }
}

/// One table's units, or those of each table: in batches and transactions it is a list.
fn consumed_units(answer: &Value) -> f64 {
    let units = |consumed: &Value| consumed["CapacityUnits"].as_f64().unwrap_or_default();
    match &answer["ConsumedCapacity"] {
        Value::Array(tables) => tables.iter().map(units).sum(),
        table => units(table),
    }
}
