//! The message of an event. Its form is a contract with consumers, which `docs/messages.md` documents.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use streambox::{
    StreamId,
    message::{self, APP_ID, CONTENT_TYPE, HeaderValue},
    outbox::OutboxEvent,
};

const PERSISTENT: u8 = 2;
const MS_PER_SECOND: i64 = 1_000;

/// An event that no message of AMQP can carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpublishable {
    /// No message can.
    #[error(transparent)]
    Event(#[from] message::Unpublishable),
    /// AMQP's short strings end at 255 bytes.
    #[error("the {what} has {bytes} bytes, AMQP carries at most 255")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
    },
    /// The headers do not fit into one frame.
    #[error(
        "its headers take a frame of {bytes} bytes, and the connection's frames have at most {limit}: the event's metadata \
         that become headers are too long (or raise frame_max of the broker and of --amqp-url)"
    )]
    HeadersTooLong {
        /// The bytes of the frame.
        bytes: usize,
        /// The most that a frame can have on this connection.
        limit: usize,
    },
}

/// A message.
#[derive(Clone, Debug)]
pub struct Message {
    /// `{category}.{event type}`.
    pub routing_key: ShortString,
    /// Everything else.
    pub properties: BasicProperties,
    /// The body, if it is not the event's payload.
    pub body: Option<String>,
}

impl Message {
    /// The body of the message of `event`.
    #[must_use]
    pub fn body<'a>(&'a self, event: &'a OutboxEvent) -> &'a [u8] {
        self.body.as_ref().unwrap_or(&event.payload).as_bytes()
    }

    /// The bytes of the frame that carries the properties. AMQP can't split it: it has to fit into the connection's largest
    /// frame. For the properties that the relay's messages have.
    #[must_use]
    pub fn header_frame_bytes(&self) -> usize {
        // Type, channel, size and end of the frame; class, weight, body size and flags of the header.
        const FRAME: usize = 1 + 2 + 4 + 1;
        const HEADER: usize = 2 + 2 + 8 + 2;
        let short = |text: &Option<ShortString>| text.as_ref().map_or(0, |text| 1 + text.as_str().len());
        let properties = &self.properties;
        let fixed = properties.timestamp().map_or(0, |_| 8) + properties.delivery_mode().map_or(0, |_| 1);
        let texts = [properties.content_type(), properties.message_id(), properties.kind(), properties.app_id()];
        let table = properties.headers().as_ref().map_or(0, |headers| {
            let value = |value: &AMQPValue| match value {
                AMQPValue::LongString(text) => 4 + text.as_bytes().len(),
                _ => 8,
            };
            4 + headers.inner().iter().map(|(name, of)| 1 + name.as_str().len() + 1 + value(of)).sum::<usize>()
        });
        FRAME + HEADER + fixed + texts.into_iter().map(short).sum::<usize>() + table
    }

    /// The plain message of an event.
    ///
    /// # Errors
    /// [`Unpublishable`]: AMQP can't carry the event. The store refuses such events; a table written by hand may have one.
    pub fn new(stream: &StreamId, event: &OutboxEvent) -> Result<Self, Unpublishable> {
        let routing_key = short("routing key", message::routing_key(stream, &event.event_type))?;
        let mut headers = FieldTable::default();
        for (name, value) in message::headers(stream, event)? {
            headers.insert(
                name.into(),
                match value {
                    HeaderValue::Text(text) => AMQPValue::LongString(text.as_ref().into()),
                    HeaderValue::Integer(number) => AMQPValue::LongLongInt(number),
                },
            );
        }
        let properties = BasicProperties::default()
            .with_message_id(short("message id", event.event_id.to_string())?)
            .with_type(short("event type", event.event_type.clone())?)
            .with_content_type(CONTENT_TYPE.into())
            .with_delivery_mode(PERSISTENT)
            .with_app_id(APP_ID.into())
            // AMQP's timestamps have whole seconds; the header has the milliseconds.
            .with_timestamp(u64::try_from(event.recorded_at_ms.div_euclid(MS_PER_SECOND)).unwrap_or_default())
            .with_headers(headers);
        Ok(Self { routing_key, properties, body: None })
    }
}

fn short(what: &'static str, text: String) -> Result<ShortString, Unpublishable> {
    let bytes = text.len();
    ShortString::try_new(text).map_err(|_| Unpublishable::TooLong { what, bytes })
}

#[cfg(test)]
mod tests {
    use streambox::{Metadata, Uuid};

    use super::*;

    fn event(event_type: &str) -> OutboxEvent {
        let mut event = OutboxEvent::new(7, Uuid::from_u128(1), event_type, "{}");
        event.recorded_at_ms = 1_700_000_000_042;
        event
    }

    #[test]
    fn a_message_has_the_fields_of_the_contract() {
        let mut event = event("OrderPlaced");
        event.metadata = Metadata::new().with("correlation_id", "c-1").with("traceparent", "00-a-b-01").with("mine", 1);
        let message = Message::new(&StreamId::new("order-1").unwrap(), &event).unwrap();
        assert_eq!(message.routing_key.as_str(), "order.OrderPlaced");
        let properties = message.properties;
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "00000000-0000-0000-0000-000000000001");
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "OrderPlaced");
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
        assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "streambox");
        assert_eq!((*properties.delivery_mode(), *properties.timestamp()), (Some(2), Some(1_700_000_000)));
        let headers = properties.headers().as_ref().unwrap().inner();
        let text = |name: &str| headers.get(name).and_then(AMQPValue::as_long_string).map(ToString::to_string);
        assert_eq!(text("stream_id").as_deref(), Some("order-1"));
        assert_eq!(headers.get("version"), Some(&AMQPValue::LongLongInt(7)));
        assert_eq!(text("recorded_at").as_deref(), Some("2023-11-14T22:13:20.042Z"));
        assert_eq!(text("correlation_id").as_deref(), Some("c-1"));
        assert_eq!(text("traceparent").as_deref(), Some("00-a-b-01"));
        assert_eq!(headers.len(), 5, "what is the user's own stays in the store");
    }

    #[test]
    fn an_event_that_amqp_cannot_carry_is_an_error_and_no_panic() {
        let order = StreamId::new("order-1").unwrap();
        let error = Message::new(&order, &event(&"T".repeat(250))).unwrap_err();
        assert_eq!(error.to_string(), "the routing key has 256 bytes, AMQP carries at most 255");
        let mut ancient = event("OrderPlaced");
        ancient.recorded_at_ms = i64::MIN;
        assert!(Message::new(&order, &ancient).unwrap_err().to_string().contains("out of range"));
    }
}
