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

/// A typed event. What stands in the table for it is up to its [`Codec`](Self::Codec).
///
/// An enum that serde writes and reads with `#[serde(tag = "type", content = "data")]` needs one line:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use streambox::aggregate::{DomainEvent, TaggedJson};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(tag = "type", content = "data")]
/// enum OrderEvent {
///     Placed { total_cents: u64 },
///     Shipped,
/// }
///
/// impl DomainEvent for OrderEvent {
///     type Codec = TaggedJson;
/// }
/// ```
pub trait DomainEvent: Sized + Send + Sync + 'static {
    /// How it is stored and read: [`TaggedJson`], or one of your own.
    type Codec: EventCodec<Self>;

    /// The event as an append takes it.
    ///
    /// # Errors
    /// Those of [`EventCodec::encode`].
    fn encode(&self) -> Result<NewEvent, Error> {
        Self::Codec::encode(self)
    }

    /// Reads an event of today's shape. [`Aggregate::decode`](super::Aggregate::decode) reads old shapes, too.
    ///
    /// # Errors
    /// See [`DecodeError`].
    fn decode(event_type: &str, payload: &str) -> Result<Self, DecodeError> {
        Self::Codec::decode(event_type, payload)
    }
}

/// How events of a type are stored and read.
///
/// [`TaggedJson`] does it by serde's derives. Other formats are written by hand:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use streambox::{Error, NewEvent, aggregate::{DecodeError, DomainEvent, EventCodec}};
///
/// #[derive(Serialize, Deserialize)]
/// struct Placed { total_cents: u64 }
///
/// enum OrderEvent { Placed(Placed), Shipped }
///
/// struct OrderCodec;
///
/// impl EventCodec<OrderEvent> for OrderCodec {
///     fn encode(event: &OrderEvent) -> Result<NewEvent, Error> {
///         match event {
///             OrderEvent::Placed(placed) => NewEvent::json("order-placed", placed),
///             OrderEvent::Shipped => NewEvent::json("order-shipped", &()),
///         }
///     }
///
///     fn decode(event_type: &str, payload: &str) -> Result<OrderEvent, DecodeError> {
///         match event_type {
///             "order-placed" => Ok(OrderEvent::Placed(serde_json::from_str(payload)?)),
///             "order-shipped" => Ok(OrderEvent::Shipped),
///             _ => Err(DecodeError::UnknownType),
///         }
///     }
/// }
///
/// impl DomainEvent for OrderEvent {
///     type Codec = OrderCodec;
/// }
/// ```
pub trait EventCodec<E> {
    /// The event's stable type name and its payload; metadata, if it has some of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it can't be written as JSON, or the type breaks a rule.
    fn encode(event: &E) -> Result<NewEvent, Error>;

    /// Reads an event of this type from its payload, JSON text. Old shapes have gone through the aggregate's
    /// [upcasters](super::Upcasters) before.
    ///
    /// # Errors
    /// See [`DecodeError`].
    fn decode(event_type: &str, payload: &str) -> Result<E, DecodeError>;
}

/// Why a stored event can't be decoded.
///
/// Exhaustive: codecs of your own make it, and a program that reads events does different things with the two.
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

/// serde's adjacent tagging, `#[serde(tag = "type", content = "data")]`: the tag is the event type, the content the payload, byte for
/// byte as `serde_json` writes it, `null` for a variant without content.
#[derive(Clone, Copy, Debug)]
pub struct TaggedJson;

impl<E: Serialize + DeserializeOwned> EventCodec<E> for TaggedJson {
    fn encode(event: &E) -> Result<NewEvent, Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Tagged<'a> {
            r#type: String,
            #[serde(borrow)]
            data: Option<&'a RawValue>,
        }
        let refuse = |why| Invalid::Payload { event_type: std::any::type_name::<E>().to_owned(), why };
        let text = json::to_text(event).map_err(|error| refuse(error.to_string()))?;
        let tagged: Tagged<'_> = serde_json::from_str(&text).map_err(|error| {
            refuse(format!("{error}; an event is an enum with #[serde(tag = \"{TAG}\", content = \"{CONTENT}\")]"))
        })?;
        NewEvent::from_json_text(tagged.r#type, tagged.data.map_or("null", RawValue::get))
    }

    fn decode(event_type: &str, payload: &str) -> Result<E, DecodeError> {
        E::deserialize(Stored { event_type, payload })
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

    fn decode(event_type: &str, payload: &str) -> Result<Event, DecodeError> {
        TaggedJson::decode(event_type, payload)
    }

    fn stored(event: &Event) -> (String, String) {
        let new = TaggedJson::encode(event).unwrap();
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
            assert_eq!(decode(event_type, payload).unwrap(), event);
        }
    }

    #[test]
    fn an_unknown_type_is_told_from_a_payload_that_does_not_decode() {
        assert!(matches!(decode("Other", "null"), Err(DecodeError::UnknownType)));
        for (event_type, payload, why) in [
            ("order.struct", r#"{"kind":"Other","text":""}"#, "unknown variant `Other`"),
            ("order.struct", r#"{"kind":"Known"}"#, "missing field `text`"),
            ("Tuple", "[1]", "invalid length 1"),
            ("Newtype", "1 2", "trailing characters"),
            ("Tuple", "[1", "EOF"),
        ] {
            let error = decode(event_type, payload).expect_err(payload);
            let DecodeError::Payload(said) = &error else { panic!("{payload}: {error:?}") };
            assert!(said.contains(why), "{payload}: {said}");
        }
    }

    #[test]
    fn what_json_can_not_hold_is_refused() {
        let error = TaggedJson::encode(&Event::Newtype(Some(f64::NAN))).expect_err("refused");
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
        for error in [
            TaggedJson::encode(&External::Placed { total: 1 }).err(),
            TaggedJson::encode(&Internal::Placed { total: 1 }).err(),
        ] {
            let said = error.expect("refused").to_string();
            assert!(said.contains("#[serde(tag = \"type\", content = \"data\")]"), "{said}");
        }
    }
}
