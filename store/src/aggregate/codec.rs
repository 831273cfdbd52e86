//! How a typed event becomes a type and a payload, and back.

use std::fmt::Display;

use serde::{
    Deserialize, Serialize,
    de::{
        self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, Visitor,
        value::{Error as TagError, StrDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::value::RawValue;

use crate::{
    error::{Error, Invalid},
    event::NewEvent,
    json,
};

/// serde's adjacent tagging, by these names.
const TAG: &str = "type";
const CONTENT: &str = "data";

/// A typed event: how it is stored, and how it is read.
///
/// Implemented for every type that serde writes and reads with `#[serde(tag = "type", content = "data")]`. A type that
/// is to be stored in another way implements it by hand, and leaves serde's derives to its payloads:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use streambox::{Error, NewEvent, aggregate::{DecodeError, DomainEvent}};
///
/// #[derive(Serialize, Deserialize)]
/// struct Placed { total_cents: u64 }
///
/// enum OrderEvent { Placed(Placed), Shipped }
///
/// impl DomainEvent for OrderEvent {
///     fn encode(&self) -> Result<NewEvent, Error> {
///         match self {
///             Self::Placed(placed) => NewEvent::json("order-placed", placed),
///             Self::Shipped => NewEvent::json("order-shipped", &()),
///         }
///     }
///
///     fn decode(event_type: &str, payload: &str) -> Result<Self, DecodeError> {
///         match event_type {
///             "order-placed" => Ok(Self::Placed(serde_json::from_str(payload)?)),
///             "order-shipped" => Ok(Self::Shipped),
///             _ => Err(DecodeError::UnknownType),
///         }
///     }
/// }
/// ```
pub trait DomainEvent: Sized + Send + Sync + 'static {
    /// The event's stable type name and its payload; metadata, if it has some of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it can't be written as JSON, or the type breaks a rule.
    fn encode(&self) -> Result<NewEvent, Error>;

    /// Reads an event of this type from its payload, JSON text.
    ///
    /// # Errors
    /// See [`DecodeError`].
    fn decode(event_type: &str, payload: &str) -> Result<Self, DecodeError>;
}

/// Why a stored event is none that the program knows.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// There is no event of this type.
    #[error("the type is not known")]
    UnknownType,
    /// There is one, but its payload has another shape.
    #[error("{0}")]
    Payload(String),
}

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        Self::Payload(error.to_string())
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> DomainEvent for T {
    fn encode(&self) -> Result<NewEvent, Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Tagged<'a> {
            r#type: String,
            #[serde(borrow)]
            data: Option<&'a RawValue>,
        }
        let refuse = |why| Invalid::Payload { event_type: std::any::type_name::<T>().to_owned(), why };
        let text = json::to_text(self).map_err(|error| refuse(error.to_string()))?;
        let tagged: Tagged<'_> = serde_json::from_str(&text).map_err(|error| {
            refuse(format!("{error}; an event is an enum with #[serde(tag = \"{TAG}\", content = \"{CONTENT}\")]"))
        })?;
        NewEvent::from_json_text(tagged.r#type, tagged.data.map_or("null", RawValue::get))
    }

    fn decode(event_type: &str, payload: &str) -> Result<Self, DecodeError> {
        T::deserialize(Stored { event_type, payload })
    }
}

/// A stored event as serde's adjacent tagging wants to see it: the tag first, then the content. So an unknown tag is
/// distinguished from an unknown name in the content, and the content is not copied.
struct Stored<'a> {
    event_type: &'a str,
    payload: &'a str,
}

impl<'de> Deserializer<'de> for Stored<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_map(Fields { stored: self, next: Some(TAG) })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Fields<'a> {
    stored: Stored<'a>,
    next: Option<&'static str>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some(key) = self.next else { return Ok(None) };
        let key: StrDeserializer<'_, DecodeError> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        if self.next == Some(TAG) {
            self.next = Some(CONTENT);
            let tag: StrDeserializer<'_, TagError> = self.stored.event_type.into_deserializer();
            return seed.deserialize(tag).map_err(|_| DecodeError::UnknownType);
        }
        self.next = None;
        let mut payload = serde_json::Deserializer::from_str(self.stored.payload);
        let value = seed.deserialize(&mut payload)?;
        payload.end()?;
        Ok(value)
    }
}

impl de::Error for DecodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Payload(message.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type", content = "data")]
    enum Event {
        Unit,
        Newtype(Option<f64>),
        Tuple(u8, String),
        #[serde(rename = "order.struct")]
        Struct {
            kind: Kind,
            text: String,
        },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Known,
    }

    fn stored(event: &Event) -> (String, String) {
        let new = event.encode().unwrap();
        (new.event_type().to_owned(), new.payload_text().to_owned())
    }

    #[test]
    fn the_tag_is_the_type_and_the_content_the_payload() {
        let text = "a \"quote\"".to_owned();
        for (event, event_type, payload) in [
            (Event::Unit, "Unit", "null"),
            (Event::Newtype(Some(1.0)), "Newtype", "1.0"),
            (Event::Newtype(None), "Newtype", "null"),
            (Event::Tuple(1, text.clone()), "Tuple", r#"[1,"a \"quote\""]"#),
            (Event::Struct { kind: Kind::Known, text }, "order.struct", r#"{"kind":"Known","text":"a \"quote\""}"#),
        ] {
            assert_eq!(stored(&event), (event_type.to_owned(), payload.to_owned()));
            assert_eq!(Event::decode(event_type, payload).unwrap(), event);
        }
    }

    #[test]
    fn an_unknown_type_is_told_from_a_payload_that_does_not_decode() {
        assert!(matches!(Event::decode("Other", "null"), Err(DecodeError::UnknownType)));
        for (event_type, payload, why) in [
            ("order.struct", r#"{"kind":"Other","text":""}"#, "unknown variant `Other`"),
            ("order.struct", r#"{"kind":"Known"}"#, "missing field `text`"),
            ("Tuple", "[1]", "invalid length 1"),
            ("Newtype", "1 2", "trailing characters"),
            ("Tuple", "[1", "EOF"),
        ] {
            let error = Event::decode(event_type, payload).expect_err(payload);
            let DecodeError::Payload(said) = &error else { panic!("{payload}: {error:?}") };
            assert!(said.contains(why), "{payload}: {said}");
        }
    }

    #[test]
    fn what_json_can_not_hold_is_refused() {
        let error = Event::Newtype(Some(f64::NAN)).encode().expect_err("refused");
        assert!(matches!(&error, Error::Invalid(Invalid::Payload { why, .. }) if why == "JSON has no NaN"), "{error}");
    }

    #[test]
    fn an_enum_that_is_tagged_otherwise_is_refused_with_what_to_write() {
        #[derive(Serialize, Deserialize)]
        enum External {
            Placed { total: u8 },
        }
        #[derive(Serialize, Deserialize)]
        #[serde(tag = "type")]
        enum Internal {
            Placed { total: u8 },
        }
        for error in [External::Placed { total: 1 }.encode().err(), Internal::Placed { total: 1 }.encode().err()] {
            let said = error.expect("refused").to_string();
            assert!(said.contains("#[serde(tag = \"type\", content = \"data\")]"), "{said}");
        }
    }
}
