//! The form of messages and where they go: settings of the whole relay, or of a replay.

use lapin::types::{AMQPValue, ShortString};
use streambox::{
    StreamId, Uuid,
    message::{CLOUDEVENTS_CONTENT_TYPE, REPLAY_ENDED_HEADER, REPLAY_ENDED_TYPE, REPLAY_HEADER, cloud_event},
    outbox::OutboxEvent,
};

use super::message::{Message, Unpublishable};

/// The version of a message that is not an event: stored events begin with 1.
const NO_EVENT: u64 = 0;

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
#[non_exhaustive]
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
            message.body = Some(cloud_event(&self.cloudevents_source, stream, event)?);
            message.properties = message.properties.with_content_type(CLOUDEVENTS_CONTENT_TYPE.into());
        }
        if let Some(replay) = &self.replay {
            let mut headers = message.properties.headers().clone().unwrap_or_default();
            headers.insert(REPLAY_HEADER.into(), AMQPValue::LongString(replay.as_str().into()));
            if event.version == NO_EVENT {
                headers.insert(REPLAY_ENDED_HEADER.into(), AMQPValue::Boolean(true));
            }
            message.properties = message.properties.with_headers(headers);
        }
        if let Some(queue) = &self.queue {
            message.routing_key = queue.clone();
        }
        Ok(message)
    }
}

/// The last message of a replay to a queue. It is not an event, but has the form of one: a consumer that does not know it finds
/// the headers that it looks for, and drops version 0 as seen.
pub(crate) fn replay_ended(replay: &str, published: u64, now_ms: i64) -> (StreamId, OutboxEvent) {
    let stream = StreamId::new("replay-ended").expect("a valid stream id");
    let body = serde_json::json!({ "replay": replay, "published": published }).to_string();
    let mut event = OutboxEvent::new(NO_EVENT, Uuid::new_v4(), REPLAY_ENDED_TYPE, body);
    event.recorded_at_ms = now_ms;
    (stream, event)
}

#[cfg(test)]
mod tests {
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
        assert!(!headers.contains_key(REPLAY_ENDED_HEADER), "an event ends nothing");
    }

    #[test]
    fn the_end_of_a_replay_is_told_in_the_form_of_an_event_of_version_0() {
        let (replay, queue) = (Some("r-1".to_owned()), Some("rebuild".into()));
        let form = MessageForm { replay, queue, ..MessageForm::default() };
        let (stream, ended) = replay_ended("r-1", 412, 1_700_000_000_042);
        let message = form.message(&stream, &ended).unwrap();
        let headers = message.properties.headers().as_ref().unwrap().inner();
        assert_eq!(headers.get(REPLAY_HEADER), Some(&AMQPValue::LongString("r-1".into())));
        assert_eq!(headers.get(REPLAY_ENDED_HEADER), Some(&AMQPValue::Boolean(true)));
        assert_eq!(headers.get("version"), Some(&AMQPValue::LongLongInt(0)), "a consumer drops it as seen");
        assert!(headers.contains_key("stream_id") && headers.contains_key("recorded_at"));
        assert_eq!(message.properties.kind().as_ref().unwrap().as_str(), REPLAY_ENDED_TYPE);
        assert_eq!(message.routing_key.as_str(), "rebuild");
        let body: serde_json::Value = serde_json::from_slice(message.body(&ended)).unwrap();
        assert_eq!(body, serde_json::json!({ "replay": "r-1", "published": 412 }));
        let cloud = MessageForm { format: MessageFormat::CloudEvents, ..form }.message(&stream, &ended).unwrap();
        let body: serde_json::Value = serde_json::from_slice(cloud.body(&ended)).unwrap();
        assert_eq!((&body["type"], &body["data"]["published"]), (&REPLAY_ENDED_TYPE.into(), &412.into()));
    }
}
