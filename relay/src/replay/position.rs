//! How far a replay has come, as a text that survives the process.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use streambox::{ScanToken, StreamId};

use super::ReplaySettings;

/// The format of the positions that this version writes and reads.
const FORMAT: u32 = 2;

/// What is replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// The events of one stream.
    Stream {
        /// The stream.
        stream: StreamId,
        /// The first version.
        from: u64,
        /// The last version, if it is not the end of the stream.
        to: Option<u64>,
    },
    /// The events of all streams of a category.
    Category(String),
    /// The events of all streams.
    All,
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream { stream, from, to: Some(to) } => write!(f, "stream {stream} from version {from} to {to}"),
            Self::Stream { stream, from, to: None } => write!(f, "stream {stream} from version {from}"),
            Self::Category(category) => write!(f, "category {category}"),
            Self::All => f.write_str("all streams"),
        }
    }
}

/// How far a replay has come, and which replay it is: [`Display`](fmt::Display) writes it as one line of JSON, [`FromStr`] reads
/// it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    format: u32,
    /// The replay's id.
    pub replay: String,
    of: OfText,
    from_ms: Option<i64>,
    to_ms: Option<i64>,
    table: String,
    destination: String,
    pub(super) next: ResumePoint,
    /// Events before it that the broker has confirmed.
    pub published: u64,
    /// Events that were read and left out.
    pub left_out: u64,
    /// Whether the end is reached.
    #[serde(rename = "done")]
    pub is_done: bool,
    /// Events behind it that the broker has confirmed all the same, in this run: they are published again when the replay
    /// resumes here.
    #[serde(skip)]
    pub ahead: u64,
}

/// What is replayed, as a position keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OfText {
    Stream { stream: String, from: u64, to: Option<u64> },
    Category(String),
    All,
}

impl From<&Of> for OfText {
    fn from(of: &Of) -> Self {
        match of {
            Of::Stream { stream, from, to } => Self::Stream { stream: stream.to_string(), from: *from, to: *to },
            Of::Category(category) => Self::Category(category.clone()),
            Of::All => Self::All,
        }
    }
}

/// Where a replay resumes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ResumePoint {
    Beginning,
    /// At this version of the one stream.
    Version(u64),
    /// After what a scan has handed out, as in the checkpoint of an export.
    Scan(ScanToken),
}

/// A position that a replay can't resume from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPosition(String);

impl Position {
    /// The beginning of a replay of `table`.
    #[must_use]
    pub fn beginning(table: &str, settings: &ReplaySettings, replay: impl Into<String>) -> Self {
        let (exchange, queue) = (&settings.broker.exchange, &settings.broker.form.queue);
        let destination = match queue {
            Some(queue) => format!("queue {queue}"),
            None => format!("exchange {exchange}"),
        };
        Self {
            format: FORMAT,
            replay: replay.into(),
            of: OfText::from(&settings.of),
            from_ms: settings.from_ms,
            to_ms: settings.to_ms,
            table: table.to_owned(),
            destination,
            next: ResumePoint::Beginning,
            published: 0,
            left_out: 0,
            is_done: false,
            ahead: 0,
        }
    }

    /// Events that the broker has confirmed, before the position and behind it.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.published + self.ahead
    }

    /// Whether it belongs to the replay that begins with `beginning`: the same events to the same destination.
    ///
    /// # Errors
    /// [`BadPosition`] names the difference.
    pub fn check_for(&self, beginning: &Self) -> Result<(), BadPosition> {
        let refuse = |what: &str| Err(BadPosition(format!("it is of a replay of {what}")));
        if self.table != beginning.table {
            return refuse(&format!("table {}", self.table));
        }
        if self.of != beginning.of {
            return refuse("other events");
        }
        if (self.from_ms, self.to_ms) != (beginning.from_ms, beginning.to_ms) {
            return refuse("other times");
        }
        if self.destination != beginning.destination {
            return refuse(&format!("the same events to {}", self.destination));
        }
        Ok(())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let refuse = |why: String| Err(BadPosition(why));
        match serde_json::from_str::<Versioned>(text) {
            Ok(Versioned { format: FORMAT }) => {}
            Ok(Versioned { format }) => return refuse(format!("its format is {format}, this version knows {FORMAT}")),
            Err(_) => return refuse("it is no position of a replay".to_owned()),
        }
        let damaged = |error: &dyn fmt::Display| BadPosition(format!("it is damaged: {error}"));
        let position: Self = serde_json::from_str(text).map_err(|error| damaged(&error))?;
        if let ResumePoint::Scan(token) = &position.next {
            // Its own parser checks more than its form.
            token.to_string().parse::<ScanToken>().map_err(|error| damaged(&error))?;
        }
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::BrokerSettings, replay::Of};

    fn settings(of: Of) -> ReplaySettings {
        let broker = BrokerSettings::new(lapin::uri::AMQPUri::default(), "streambox".into());
        ReplaySettings { of, from_ms: None, to_ms: Some(5), broker, rate: 1 }
    }

    /// A scan of two segments, somewhere in the middle.
    fn token(turn: usize) -> ScanToken {
        let token = serde_json::json!({
            "format": 1, "category": "order", "turn": turn, "stream": null, "segments": ["start", "end"],
        });
        serde_json::from_value(token).unwrap()
    }

    #[test]
    fn a_position_is_read_as_it_was_written_and_belongs_to_one_replay() {
        let settings = settings(Of::Category("order".to_owned()));
        let beginning = Position::beginning("events", &settings, "r-1");
        let position = Position { next: ResumePoint::Scan(token(1)), published: 7, ..beginning.clone() };
        assert_eq!(position.to_string().parse(), Ok(position.clone()));
        assert!(!position.to_string().contains('\n'));
        assert_eq!(position.check_for(&beginning), Ok(()));

        let other = |change: &dyn Fn(&mut ReplaySettings), table: &str| {
            let mut settings = settings.clone();
            change(&mut settings);
            position.check_for(&Position::beginning(table, &settings, "r-2")).expect_err("it is another").to_string()
        };
        assert!(other(&|_| {}, "orders").contains("table events"));
        assert!(other(&|settings| settings.of = Of::All, "events").contains("other events"));
        assert!(other(&|settings| settings.from_ms = Some(1), "events").contains("other times"));
        let elsewhere = other(&|settings| settings.broker.form.queue = Some("q".into()), "events");
        assert!(elsewhere.contains("exchange streambox"), "{elsewhere}");
    }

    #[test]
    fn what_is_no_position_is_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<Position>().expect_err(text).to_string();
        assert!(refused("").contains("no position"));
        assert!(refused("{\"format\":1}").contains("its format is 1, this version knows 2"));
        assert!(refused("{\"format\":2}").contains("damaged"));
        let beginning = Position::beginning("events", &settings(Of::All), "r-1");
        let damaged = Position { next: ResumePoint::Scan(token(2)), ..beginning }.to_string();
        assert!(refused(&damaged).contains("damaged"), "a scan in two segments has no third");
    }
}
