//! What form messages have and where they go: settings of the whole relay, or of a replay.

use lapin::types::{AMQPValue, ShortString};
use streambox::{StreamId, outbox::OutboxEvent};

use super::{
    cloudevents::{self, CLOUDEVENTS_CONTENT_TYPE},
    message::{Message, Unpublishable, iso_8601_ms},
};

/// Header of a message that was published by `replay`: the replay's id.
pub const REPLAY_HEADER: &str = "x-streambox-replay";

/// The `source` of CloudEvents, unless set otherwise.
pub const DEFAULT_CLOUDEVENTS_SOURCE: &str = "/streambox";

/// The form of messages. The default is a plain message to the exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageForm {
    /// What the body is.
    pub format: MessageFormat,
    /// The `source` of CloudEvents.
    pub cloudevents_source: String,
    /// The id of the replay that the messages belong to.
    pub replay: Option<String>,
    /// The queue that the messages go to, past the exchange. It has to exist.
    pub queue: Option<ShortString>,
}

/// What the body of a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum MessageFormat {
    /// The event's payload.
    #[default]
    Plain,
    /// A CloudEvent in structured JSON, whose data is the event's payload.
    #[value(name = "cloudevents")]
    CloudEvents,
}

impl Default for MessageForm {
    fn default() -> Self {
        Self {
            format: MessageFormat::default(),
            cloudevents_source: DEFAULT_CLOUDEVENTS_SOURCE.to_owned(),
            replay: None,
            queue: None,
        }
    }
}

impl MessageForm {
    /// The message of an event.
    ///
    /// # Errors
    /// [`Unpublishable`]: no such message can carry the event.
    pub fn message(&self, stream: &StreamId, event: &OutboxEvent) -> Result<Message, Unpublishable> {
        let mut message = Message::new(stream, event)?;
        if self.format == MessageFormat::CloudEvents {
            let time = iso_8601_ms(event.recorded_at_ms)?;
            message.body = Some(cloudevents::body(&self.cloudevents_source, stream, event, &time)?);
            message.properties = message.properties.with_content_type(CLOUDEVENTS_CONTENT_TYPE.into());
        }
        if let Some(replay) = &self.replay {
            let mut headers = message.properties.headers().clone().unwrap_or_default();
            headers.insert(REPLAY_HEADER.into(), AMQPValue::LongString(replay.as_str().into()));
            message.properties = message.properties.with_headers(headers);
        }
        if let Some(queue) = &self.queue {
            message.routing_key = queue.clone();
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use streambox::Uuid;

    use super::*;

    fn event() -> OutboxEvent {
        OutboxEvent::new(7, Uuid::from_u128(1), "OrderPlaced", "{ }")
    }

    #[test]
    fn a_cloud_event_keeps_routing_key_and_headers() {
        let order = StreamId::new("order-1").unwrap();
        let plain = MessageForm::default().message(&order, &event()).unwrap();
        assert_eq!((plain.body(&event()), plain.body.as_ref()), ("{ }".as_bytes(), None));
        let form = MessageForm { format: MessageFormat::CloudEvents, ..MessageForm::default() };
        let cloud = form.message(&order, &event()).unwrap();
        assert_eq!(cloud.routing_key, plain.routing_key);
        assert_eq!(cloud.properties.headers(), plain.properties.headers());
        assert_eq!(cloud.properties.message_id(), plain.properties.message_id());
        let content_type = cloud.properties.content_type().as_ref().map(|text| text.as_str().to_owned());
        assert_eq!(content_type.as_deref(), Some("application/cloudevents+json; charset=utf-8"));
        assert!(cloud.body(&event()).starts_with(b"{\"specversion\":\"1.0\","));
    }

    #[test]
    fn a_replay_is_marked_and_may_go_to_one_queue() {
        let order = StreamId::new("order-1").unwrap();
        let (replay, queue) = (Some("r-1".to_owned()), Some("rebuild".into()));
        let form = MessageForm { replay, queue, ..MessageForm::default() };
        let message = form.message(&order, &event()).unwrap();
        assert_eq!(message.routing_key.as_str(), "rebuild");
        let headers = message.properties.headers().as_ref().unwrap().inner();
        assert_eq!(headers.get(REPLAY_HEADER), Some(&AMQPValue::LongString("r-1".into())));
        assert!(headers.contains_key("stream_id") && headers.contains_key("version"));
    }
}
