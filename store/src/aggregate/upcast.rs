//! Upcasters: events of old shapes as the program of today knows them.

use std::{borrow::Cow, fmt};

use serde_json::Value;

type Replace = Box<dyn Fn(Value) -> Result<Vec<(String, Value)>, UpcastError> + Send + Sync>;

/// Why an upcaster can't read an old event.
pub type UpcastError = Box<dyn std::error::Error + Send + Sync>;

/// Turns stored events of old shapes into those of today, on read. Nothing is ever rewritten.
///
/// They run in the order in which they were added: each looks at what the ones before it have made of an event, and
/// changes it if it is of its type. So the steps from shape to shape stand one below the other, and each is written
/// once:
///
/// ```
/// use serde_json::json;
/// use streambox::aggregate::Upcasters;
///
/// let upcasters = Upcasters::new()
///     .rename("OrderMade", "OrderPlaced")
///     // Also sees events that are of this type and of today's shape: leave those as they are.
///     .change("OrderPlaced", |mut data| {
///         if data.get("currency").is_none() {
///             data["currency"] = json!("EUR");
///         }
///         Ok(data)
///     })
///     .replace("OrderPlacedAndPaid", |data| {
///         Ok([("OrderPlaced".to_owned(), data.clone()), ("OrderPaid".to_owned(), json!({ "method": data["method"] }))])
///     })
///     .remove("OrderViewed");
/// ```
///
/// A payload that no upcaster changes stays the text that was stored: if there is none for its type, if it is only renamed, or if
/// the result equals the input. One that is changed is what [`serde_json::Value`] makes of it, which keeps integers
/// of 64 bits and floats of 64 bits, no longer ones.
#[derive(Default)]
pub struct Upcasters(Vec<(String, Upcast)>);

enum Upcast {
    Rename(String),
    Replace(Replace),
}

impl Upcasters {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Events of type `from` are of type `to`.
    #[must_use]
    pub fn rename(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.0.push((from.into(), Upcast::Rename(to.into())));
        self
    }

    /// Events of this type have another payload. Sees every event of the type, those of today's shape too.
    #[must_use]
    pub fn change(
        self,
        event_type: impl Into<String>,
        change: impl Fn(Value) -> Result<Value, UpcastError> + Send + Sync + 'static,
    ) -> Self {
        let event_type = event_type.into();
        let name = event_type.clone();
        self.replace(event_type, move |data| Ok([(name.clone(), change(data)?)]))
    }

    /// Events of type `from` are these events instead: types and payloads, one, several or none. Together they are
    /// still the one event at its version.
    #[must_use]
    pub fn replace<I: IntoIterator<Item = (String, Value)>>(
        mut self,
        from: impl Into<String>,
        replace: impl Fn(Value) -> Result<I, UpcastError> + Send + Sync + 'static,
    ) -> Self {
        let replace: Replace = Box::new(move |data| Ok(replace(data)?.into_iter().collect()));
        self.0.push((from.into(), Upcast::Replace(replace)));
        self
    }

    /// Events of this type no longer mean anything. Their versions count.
    #[must_use]
    pub fn remove(self, event_type: impl Into<String>) -> Self {
        self.replace(event_type, |_| Ok([]))
    }

    /// What the stored event is today: types and payloads.
    pub(crate) fn upcast<'a>(&'a self, event_type: &'a str, payload: &'a str) -> Result<Vec<Typed<'a>>, UpcastError> {
        let mut events = vec![(Cow::Borrowed(event_type), Cow::Borrowed(payload))];
        for (from, upcast) in &self.0 {
            let mut next = Vec::with_capacity(events.len());
            for (event_type, payload) in events {
                match upcast {
                    _ if event_type != from.as_str() => next.push((event_type, payload)),
                    Upcast::Rename(to) => next.push((Cow::Borrowed(to.as_str()), payload)),
                    Upcast::Replace(replace) => {
                        let data: Value = serde_json::from_str(&payload)?;
                        let before = data.to_string();
                        for (event_type, data) in replace(data)? {
                            let text = data.to_string();
                            let payload = if text == before { payload.clone() } else { Cow::Owned(text) };
                            next.push((Cow::Owned(event_type), payload));
                        }
                    }
                }
            }
            events = next;
        }
        Ok(events)
    }
}

/// An event's type and its payload.
pub(crate) type Typed<'a> = (Cow<'a, str>, Cow<'a, str>);

impl fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(from, _)| from)).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn upcasted(upcasters: &Upcasters, event_type: &str, data: &Value) -> Vec<(String, Value)> {
        let text = data.to_string();
        let events = upcasters.upcast(event_type, &text).unwrap();
        let value = |text: Cow<'_, str>| serde_json::from_str(&text).unwrap();
        events.into_iter().map(|(event_type, payload)| (event_type.into_owned(), value(payload))).collect()
    }

    #[test]
    fn upcasters_run_in_their_order_each_on_what_the_one_before_has_made() {
        let step = |from: &'static str| {
            move |mut data: Value| {
                data.as_array_mut().expect("an array").push(json!(from));
                Ok(data)
            }
        };
        let upcasters =
            Upcasters::new().change("C", step("too early")).rename("A", "B").change("B", step("B")).rename("B", "C");
        let upcasters = upcasters.change("C", step("C"));
        assert_eq!(upcasted(&upcasters, "A", &json!([])), [("C".to_owned(), json!(["B", "C"]))]);
        assert_eq!(upcasted(&upcasters, "B", &json!([])), [("C".to_owned(), json!(["B", "C"]))]);
        assert_eq!(upcasted(&upcasters, "C", &json!([])), [("C".to_owned(), json!(["too early", "C"]))]);
    }

    #[test]
    fn an_event_may_become_several_or_none_and_each_goes_on() {
        let both = |data: Value| Ok([("A".to_owned(), data["a"].clone()), ("B".to_owned(), data["b"].clone())]);
        let upcasters = Upcasters::new().replace("AandB", both).rename("B", "C").remove("D");
        let events = upcasted(&upcasters, "AandB", &json!({ "a": 1, "b": 2 }));
        assert_eq!(events, [("A".to_owned(), json!(1)), ("C".to_owned(), json!(2))]);
        assert_eq!(upcasted(&upcasters, "D", &json!({})), []);
        assert_eq!(upcasters.upcast("Other", "not looked at").unwrap(), [("Other".into(), "not looked at".into())]);
    }

    #[test]
    fn g12_a_payload_that_is_not_changed_stays_the_text_that_was_stored() {
        let stored = r#"{"big": 12345678901234567890123, "price":1.10,"a":1e2}"#;
        let same = Upcasters::new().change("A", Ok).rename("A", "B").change("B", Ok).replace("B", |data| {
            Ok([("C".to_owned(), data.clone()), ("D".to_owned(), json!({ "price": data["price"] }))])
        });
        let events = same.upcast("A", stored).unwrap();
        assert_eq!(events, [("C".into(), stored.into()), ("D".into(), r#"{"price":1.1}"#.into())]);
        assert!(same.upcast("A", "{").is_err());
    }
}
