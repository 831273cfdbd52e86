//! Where a scan resumes: a text that survives the process.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Invalid},
    event::RecordedEvent,
    limits::MAX_SCAN_SEGMENTS,
    schema::{self, ENTITY, Item, STREAM_ID},
    stream::StreamId,
};

/// The format of the tokens that this version writes and reads.
const FORMAT: u32 = 1;

/// How far a consumer has read a scan, as a text: [`Display`](fmt::Display) writes it, [`FromStr`] reads it. It holds
/// one key for each segment and nothing else of the data; take it as opaque.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanToken {
    format: u32,
    category: Option<String>,
    pub(super) turn: usize,
    /// The stream that is being handed out.
    pub(super) stream: Option<String>,
    pub(super) segments: Vec<Progress>,
}

/// How far a segment was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Progress {
    Start,
    /// Behind the item with this key. `append_last`: if it is an event, the last version of its append.
    After {
        stream: String,
        entity: String,
        append_last: u64,
    },
    End,
}

impl Progress {
    pub(crate) fn behind(event: &RecordedEvent) -> Self {
        Self::After {
            stream: event.stream_id.as_str().to_owned(),
            entity: schema::event_key(event.version),
            append_last: event.append.last,
        }
    }

    /// Behind all events of a stream, whatever their keys.
    pub(super) fn behind_events(stream: &StreamId) -> Self {
        Self::After { stream: stream.as_str().to_owned(), entity: schema::behind_events(), append_last: 0 }
    }

    /// Behind the item with the key that a page ended with.
    pub(crate) fn behind_key(key: &Item) -> Self {
        let text = |name| key.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default();
        Self::After { stream: text(STREAM_ID), entity: text(ENTITY), append_last: 0 }
    }
}

impl ScanToken {
    pub(super) fn new(category: Option<String>, turn: usize, stream: Option<String>, segments: Vec<Progress>) -> Self {
        Self { format: FORMAT, category, turn, stream, segments }
    }

    pub(super) fn check_for(&self, segments: u16, category: Option<&str>) -> Result<(), Error> {
        let own = self.segments.len();
        if own != usize::from(segments) {
            return refuse(format!("it is of a scan in {own} segments, this one is in {segments}"));
        }
        if self.category.as_deref() != category {
            let name = |category: Option<&str>| category.map_or("all".to_owned(), |name| format!("{name:?}"));
            let (own, this) = (name(self.category.as_deref()), name(category));
            return refuse(format!("it is of a scan of category {own}, this one is of {this}"));
        }
        Ok(())
    }
}

fn refuse<T>(why: String) -> Result<T, Error> {
    Err(Invalid::ScanToken { why }.into())
}

impl fmt::Display for ScanToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for ScanToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        match serde_json::from_str::<Versioned>(text) {
            Ok(Versioned { format: FORMAT }) => {}
            Ok(Versioned { format }) => return refuse(format!("its format is {format}, this version knows {FORMAT}")),
            Err(_) => return refuse("it is not a scan token".to_owned()),
        }
        let Ok(token) = serde_json::from_str::<Self>(text) else { return refuse("it is damaged".to_owned()) };
        let segments = token.segments.len();
        if token.turn >= segments || segments > usize::from(MAX_SCAN_SEGMENTS) {
            return refuse("it is damaged".to_owned());
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> ScanToken {
        let behind = Progress::After { stream: "order-\"1\"".into(), entity: schema::event_key(3), append_last: 4 };
        let segments = vec![Progress::Start, behind, Progress::End];
        ScanToken::new(Some("order".into()), 1, Some("order-\"1\"".into()), segments)
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        assert_eq!(token().to_string().parse::<ScanToken>().unwrap(), token());
        assert!(!token().to_string().contains('\n'));
    }

    #[test]
    fn a_token_that_does_not_fit_is_refused_with_the_reason() {
        let text = token().to_string();
        for (text, why) in [
            (String::new(), "not a scan token"),
            ("{}".to_owned(), "not a scan token"),
            (text.replace("\"format\":1", "\"format\":2"), "its format is 2, this version knows 1"),
            (text.replace("\"turn\":1", "\"turn\":3"), "damaged"),
            (text.replace("append_last", "last"), "damaged"),
            (text[..text.len() - 1].to_owned(), "not a scan token"),
        ] {
            let error = text.parse::<ScanToken>().expect_err(&text).to_string();
            assert!(error.contains(why), "{error}");
        }
        for (segments, category, why) in [
            (4, Some("order"), "of a scan in 3 segments, this one is in 4"),
            (3, None, "category \"order\", this one is of all"),
            (3, Some("permit"), "category \"order\", this one is of \"permit\""),
        ] {
            let error = token().check_for(segments, category).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
