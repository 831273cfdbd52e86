//! The wire between a store and DynamoDB: an HTTP client around the real one that counts what goes over it, and alters
//! answers or loses them when a test asks for it.

use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
    shared::IntoShared as _,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use serde_json::{Value, json};

pub use crate::fault::Exchange;
use crate::fault::{self, Fault};

/// Why DynamoDB says that it has not done what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another transaction is under way on one of the items of this one.
    TransactionConflict,
    /// A transaction is under way on the item of this request.
    ItemConflict,
    /// There is no capacity for the moment.
    Throttled,
}

impl Refusal {
    fn response(self) -> HttpResponse {
        let (kind, more) = match self {
            Self::TransactionConflict => ("TransactionCanceledException", json!([{ "Code": "TransactionConflict" }])),
            Self::ItemConflict => ("TransactionConflictException", Value::Null),
            Self::Throttled => ("ThrottlingException", Value::Null),
        };
        let body = json!({
            "__type": format!("com.amazonaws.dynamodb.v20120810#{kind}"),
            "message": "refused by the test",
            "CancellationReasons": more,
        });
        let status = StatusCode::try_from(400).expect("a status");
        HttpResponse::new(status, SdkBody::from(body.to_string()))
    }
}

/// Counts what a store sends, and puts faults in its way. A clone is the same wire.
#[derive(Clone, Debug)]
pub struct Wire {
    real: SharedHttpClient,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    exchanges: Mutex<Vec<Exchange>>,
    fault: Mutex<Option<Fault>>,
    refusal: Mutex<Option<(&'static str, Refusal, u32)>>,
}

impl State {
    /// The answer to a request that is not to be sent.
    fn refuse(&self, operation: &str) -> Option<HttpResponse> {
        let mut refusal = self.refusal.lock().expect("nothing panics that holds it");
        let (refused, kind, left) = refusal.as_mut()?;
        if *refused != operation || *left == 0 {
            return None;
        }
        *left -= 1;
        Some(kind.response())
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}

impl Wire {
    /// A wire without a fault.
    #[must_use]
    pub fn new() -> Self {
        Self { real: aws_smithy_http_client::Builder::new().build_http(), state: Arc::default() }
    }

    /// Shows each exchange from now on to `fault`, which may alter the answer or lose it.
    ///
    /// # Panics
    /// If a fault has panicked before.
    pub fn set_fault(&self, fault: impl FnMut(&mut Exchange) + Send + 'static) {
        *self.state.fault.lock().expect("no fault has panicked") = Some(Box::new(fault));
    }

    /// Loses the next `times` answers to an operation.
    pub fn lose_answers(&self, operation: &'static str, times: u32) {
        self.set_fault(fault::lose_answers(operation, times));
    }

    /// Answers the next `times` requests of an operation with a refusal. They are neither sent nor counted.
    ///
    /// # Panics
    /// Never: nothing panics in between.
    pub fn refuse(&self, operation: &'static str, refusal: Refusal, times: u32) {
        *self.state.refusal.lock().expect("nothing panics that holds it") = Some((operation, refusal, times));
    }

    /// Everything goes over the wire again as it is.
    ///
    /// # Panics
    /// If a fault has panicked before.
    pub fn clear_faults(&self) {
        *self.state.fault.lock().expect("no fault has panicked") = None;
        *self.state.refusal.lock().expect("nothing panics that holds it") = None;
    }

    /// Hides one item from the first `times` answers to `Query` that would show it.
    pub fn hide(&self, entity: &str, times: u32) {
        self.hide_from("Query", entity, times);
    }

    /// Hides items of this sort key from the first `times` answers to an operation that would show one.
    pub fn hide_from(&self, operation: &'static str, entity: &str, times: u32) {
        let (entity, mut left) = (entity.to_owned(), times);
        self.set_fault(move |exchange| {
            if exchange.operation != operation || left == 0 {
                return;
            }
            let Some(items) = exchange.answer.get_mut("Items").and_then(Value::as_array_mut) else { return };
            let before = items.len();
            items.retain(|item| item["entity"]["S"] != entity.as_str());
            left -= u32::from(items.len() < before);
        });
    }

    /// What has gone over the wire since the last call, retries included.
    ///
    /// # Panics
    /// If a fault has panicked before.
    #[expect(clippy::must_use_candidate, reason = "called for its effect, too: to count from here on")]
    pub fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.state.exchanges.lock().expect("no fault has panicked"))
    }

    /// Operation and consumed units of what has gone over the wire since the last call.
    ///
    /// # Panics
    /// If a fault has panicked before.
    #[must_use]
    pub fn take_costs(&self) -> Vec<(String, f64)> {
        self.take().into_iter().map(|exchange| (exchange.operation, exchange.units)).collect()
    }
}

impl HttpClient for Wire {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let real = self.real.http_connector(settings, components);
        Connector { real, state: Arc::clone(&self.state) }.into_shared()
    }
}

#[derive(Debug)]
struct Connector {
    real: SharedHttpConnector,
    state: Arc<State>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        if let Some(refused) = self.state.refuse(&operation) {
            return HttpConnectorFuture::ready(Ok(refused));
        }
        let sent = request.body().bytes().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
        let (answer, state) = (self.real.call(request), Arc::clone(&self.state));
        HttpConnectorFuture::new(async move {
            let mut response = answer.await?;
            let body = std::mem::replace(response.body_mut(), SdkBody::taken());
            let body = ByteStream::new(body).collect().await.map_err(|error| ConnectorError::io(error.into()))?;
            let received: Value = serde_json::from_slice(&body.into_bytes()).unwrap_or_default();
            let mut exchange = Exchange::new(operation, sent, received);
            if let Some(fault) = state.fault.lock().expect("no fault has panicked").as_mut() {
                fault(&mut exchange);
            }
            let is_lost = exchange.is_lost;
            *response.body_mut() = SdkBody::from(exchange.answer.to_string());
            response.headers_mut().remove("content-length");
            response.headers_mut().remove("x-amz-crc32");
            state.exchanges.lock().expect("no fault has panicked").push(exchange);
            if is_lost { Err(ConnectorError::io("the answer is lost".into())) } else { Ok(response) }
        })
    }
}
