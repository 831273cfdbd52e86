//! The answer to a `Query` of events, read straight into the attributes that events are made of.
//!
//! The SDK makes a hash map of each item, with a text of its own for each attribute's name and a value for each attribute, known or
//! not. With events of 300 bytes that takes longer than everything else that the library does with them. So the body of a successful answer
//! is read here instead, and the SDK does the rest as always: signing, retries, time limits, errors. What is not as expected, a damaged item
//! above all, is asked for once more and read by the SDK.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_dynamodb::{operation::query::QueryOutput, primitives::Blob, types::AttributeValue};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept, context::BeforeDeserializationInterceptorContextMut, context::Error, context::Output,
        },
        orchestrator::{HttpResponse, OrchestratorError},
        runtime_components::RuntimeComponents,
        ser_de::{DeserializeResponse, SharedResponseDeserializer},
    },
};
use aws_smithy_types::{base64, config_bag::ConfigBag};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{
    schema::{self, ENTITY, Fields, STREAM_ID},
    stream::StreamId,
};

/// The status of an answer that is no error.
const OK: u16 = 200;

/// One page.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    #[serde(default, deserialize_with = "items")]
    pub(super) items: Vec<Fields>,
    last_evaluated_key: Option<Map<String, Value>>,
    consumed_capacity: Option<ConsumedCapacity>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConsumedCapacity {
    capacity_units: Option<f64>,
}

impl Answer {
    /// What the SDK has read itself.
    pub(super) fn of(output: QueryOutput) -> Self {
        let capacity_units = output.consumed_capacity().and_then(|used| used.capacity_units);
        let key = output.last_evaluated_key.map(|key| key.into_keys().map(|name| (name, Value::Null)).collect());
        let mut items: Vec<Fields> = Vec::new();
        for item in output.items.unwrap_or_default() {
            items.push(Fields::beside(items.last().map(|before| &before.stream), item));
        }
        Self { items, last_evaluated_key: key, consumed_capacity: Some(ConsumedCapacity { capacity_units }) }
    }

    /// Whether there is nothing behind it in the range.
    pub(super) fn is_last(&self) -> bool {
        self.last_evaluated_key.as_ref().is_none_or(Map::is_empty)
    }

    pub(super) fn read_units(&self) -> f64 {
        self.consumed_capacity.as_ref().and_then(|used| used.capacity_units).unwrap_or_default()
    }
}

/// Reads the answer to the one request that it is an interceptor of.
#[derive(Clone, Debug, Default)]
pub(super) struct AnswerReader(Arc<Mutex<Found>>);

/// What became of the body.
#[derive(Debug, Default)]
enum Found {
    /// It was left to the SDK.
    #[default]
    Nothing,
    Answer(Answer),
    /// It is not as expected.
    Unread,
}

impl AnswerReader {
    /// The answer, whoever has read it. None if nobody has: the request has to be made again, without this.
    pub(super) fn take(&self, output: QueryOutput) -> Option<Answer> {
        match std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            Found::Nothing => Some(Answer::of(output)),
            Found::Answer(answer) => Some(answer),
            Found::Unread => None,
        }
    }
}

impl Intercept for AnswerReader {
    fn name(&self) -> &'static str {
        "AnswerReader"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Any other answer is an error, which the SDK knows how to read.
        if context.response().status().as_u16() == OK {
            config.interceptor_state().store_put(SharedResponseDeserializer::new(self.clone()));
        }
        Ok(())
    }
}

/// In the place of the SDK's own.
impl DeserializeResponse for AnswerReader {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        _config: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        // An attempt after a broken one may end with another status.
        let body = response.body().bytes().filter(|_| response.status().as_u16() == OK);
        let answer = body.and_then(|body| serde_json::from_slice(body).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answer.map_or(Found::Unread, Found::Answer);
        Ok(Output::erase(QueryOutput::builder().build()))
    }
}

fn items<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Fields>, D::Error> {
    struct Items;
    impl<'de> Visitor<'de> for Items {
        type Value = Vec<Fields>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("items")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Fields>, A::Error> {
            let mut items: Vec<Fields> = Vec::new();
            while let Some(item) =
                list.next_element_seed(ItemBeside(items.last().map(|before| before.stream.clone())))?
            {
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_seq(Items)
}

/// An item that mostly is of the same stream as its neighbour, and then shares its stream id.
struct ItemBeside(Option<StreamId>);

impl<'de> DeserializeSeed<'de> for ItemBeside {
    type Value = Fields;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ItemBeside {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        /// As many as an event has at most.
        const ATTRIBUTES: usize = 8;
        let (mut stream, mut entity) = (None, None);
        let mut attributes = Vec::with_capacity(ATTRIBUTES);
        while let Some(Name(name)) = map.next_key()? {
            match name {
                Some(STREAM_ID) => {
                    let Text { text } = map.next_value()?;
                    let neighbour = self.0.as_ref().filter(|neighbour| neighbour.as_str() == text);
                    stream = Some(neighbour.cloned().unwrap_or_else(|| StreamId::stored(&text)));
                }
                Some(ENTITY) => {
                    let Text { text } = map.next_value()?;
                    entity = Some(text.into_owned());
                }
                Some(name) => {
                    let Attribute(value) = map.next_value()?;
                    attributes.push((Cow::Borrowed(name), value));
                }
                // A newer version may have written it.
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        match (stream, entity) {
            (Some(stream), Some(entity)) => Ok(Fields::of(stream, entity, attributes)),
            _ => Err(de::Error::custom("an item without its keys")),
        }
    }
}

/// The name of an attribute, if events have it.
struct Name(Option<&'static str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Known;
        impl Visitor<'_> for Known {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Name, E> {
                Ok(Name(schema::event_attribute(name)))
            }
        }
        deserializer.deserialize_str(Known)
    }
}

/// An attribute that is a text.
#[derive(Deserialize)]
struct Text<'a> {
    #[serde(rename = "S", borrow)]
    text: Cow<'a, str>,
}

/// An attribute of one of the types that events have.
struct Attribute(AttributeValue);

impl<'de> Deserialize<'de> for Attribute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        enum Typed<'a> {
            S(String),
            N(String),
            #[serde(borrow)]
            B(Cow<'a, str>),
            #[serde(rename = "BOOL")]
            Bool(bool),
        }
        Ok(Self(match Typed::deserialize(deserializer)? {
            Typed::S(text) => AttributeValue::S(text),
            Typed::N(digits) => AttributeValue::N(digits),
            Typed::B(text) => AttributeValue::B(Blob::new(base64::decode(text.as_ref()).map_err(de::Error::custom)?)),
            Typed::Bool(flag) => AttributeValue::Bool(flag),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#""stream_id":{"S":"order-1"},"entity":{"S":"event#00000000000000000001"},"event_type":{"S":"Placed"},
        "payload":{"S":"{\"text\":\"\\u00fc\\n\"}"},"recorded_at":{"N":"7"},"append_id":{"B":"AZejwlsefUSfCmocLot9MA=="}"#;

    fn read(body: &str) -> Result<Answer, serde_json::Error> {
        serde_json::from_slice(body.as_bytes())
    }

    #[test]
    fn an_answer_is_read_as_the_sdk_would_have_it_without_what_no_event_has() {
        let body = format!(
            r#"{{"Count":2,"Items":[{{{EVENT}}},{{{EVENT},"is_private":{{"BOOL":true}},"zone":{{"L":[{{"NULL":true}}]}}}}],
                "ScannedCount":2,"ConsumedCapacity":{{"TableName":"t","CapacityUnits":1.5}},
                "LastEvaluatedKey":{{"stream_id":{{"S":"order-1"}},"entity":{{"S":"event#2"}}}}}}"#
        );
        let answer = read(&body).unwrap();
        assert_eq!((answer.items.len(), answer.read_units(), answer.is_last()), (2, 1.5, false));
        let [first, second] = answer.items.try_into().unwrap();
        assert_eq!((first.has("event_type"), second.has("is_private"), second.has("zone")), (true, true, false));
        let event = schema::read_event(first).unwrap();
        assert_eq!((event.stream_id.as_str(), event.version, event.recorded_at_ms), ("order-1", 1, 7));
        assert_eq!(event.payload, "{\"text\":\"\\u00fc\\n\"}");
        assert_eq!(event.append.id.to_string(), "0197a3c2-5b1e-7d44-9f0a-6a1c2e8b7d30");
        assert!(schema::read_event(second).unwrap().is_private);
    }

    #[test]
    fn an_empty_answer_is_the_last_one() {
        for body in [r#"{"Items":[],"Count":0}"#, r#"{"Count":0,"LastEvaluatedKey":{}}"#] {
            let answer = read(body).unwrap();
            assert!(answer.items.is_empty() && answer.is_last());
        }
    }

    #[test]
    fn what_is_not_as_expected_is_left_to_the_sdk() {
        for item in [
            r#""entity":{"S":"event#1"}"#,
            r#""stream_id":{"S":"order-1"}"#,
            r#""stream_id":{"N":"1"},"entity":{"S":"event#1"}"#,
            r#""stream_id":{"S":"order-1"},"entity":{"S":"event#1"},"payload":{"M":{}}"#,
            r#""stream_id":{"S":"order-1"},"entity":{"S":"event#1"},"append_id":{"B":"?"}"#,
        ] {
            assert!(read(&format!(r#"{{"Items":[{{{item}}}]}}"#)).is_err(), "{item}");
        }
        assert!(read("").is_err() && read("<html>").is_err());
    }
}
