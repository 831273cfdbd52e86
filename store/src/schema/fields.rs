//! Reads items attribute by attribute.

use std::{borrow::Cow, ops::RangeInclusive};

use aws_sdk_dynamodb::types::AttributeValue;
use uuid::Uuid;

use super::{
    APPEND_FIRST, APPEND_ID, APPEND_LAST, ENTITY, EVENT_TYPE, EVENTS, Item, METADATA, PAYLOAD, PAYLOAD_ENCODING,
    PREVIOUS_AT, PREVIOUS_VERSION, STREAM_ID, parse_number, payload, version_behind,
};
use crate::{
    error::Corrupt,
    event::{AppendRange, event_id},
    limits::{MAX_EVENTS_PER_APPEND, MAX_VERSION},
    metadata::Metadata,
    outbox::entry::OutboxEvent,
    stream::{Previous, StreamId},
};

type Attributes = Vec<(Cow<'static, str>, AttributeValue)>;

/// The attributes of one item, taken out one by one; an error names the item.
#[derive(Debug, PartialEq)]
pub(crate) struct Fields {
    pub(crate) stream: StreamId,
    pub(crate) entity: String,
    /// Few enough that looking through them is quicker than hashing their names.
    attributes: Attributes,
}

impl From<Item> for Fields {
    fn from(item: Item) -> Self {
        Self::new(item)
    }
}

impl Fields {
    /// From what is at hand of an item: its keys, and its other attributes.
    pub(crate) fn of(stream: StreamId, entity: String, attributes: Attributes) -> Self {
        Self { stream, entity, attributes }
    }

    pub(crate) fn new(item: Item) -> Self {
        Self::beside(None, item)
    }

    /// Shares the stream id of a neighbour if it is the same.
    pub(crate) fn beside(neighbour: Option<&StreamId>, item: Item) -> Self {
        let mut attributes: Attributes = item.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect();
        let mut key = |name| match take(&mut attributes, name) {
            Some(AttributeValue::S(text)) => text,
            _ => String::new(),
        };
        let (stream, entity) = (key(STREAM_ID), key(ENTITY));
        let shared = neighbour.filter(|neighbour| neighbour.as_str() == stream);
        let stream = shared.cloned().unwrap_or_else(|| StreamId::stored(&stream));
        Self { stream, entity, attributes }
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<AttributeValue> {
        take(&mut self.attributes, name)
    }

    pub(crate) fn wrong(&self, what: impl Into<String>) -> Corrupt {
        Corrupt { stream: self.stream.clone(), at: self.entity.clone(), what: what.into() }
    }

    pub(crate) fn version_in_key(&self, prefix: &str) -> Result<u64, Corrupt> {
        version_behind(prefix, &self.entity)
            .ok_or_else(|| self.wrong(format!("the key is not `{prefix}` and a version of 20 digits")))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.attributes.iter().any(|(attribute, _)| attribute == name)
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<String, Corrupt> {
        match self.take(name) {
            Some(AttributeValue::S(text)) => Ok(text),
            Some(_) => Err(self.wrong(format!("{name} is not a text"))),
            None => Err(self.wrong(format!("{name} is missing"))),
        }
    }

    pub(crate) fn number<T: std::str::FromStr>(&mut self, name: &str) -> Result<T, Corrupt> {
        match self.take(name) {
            Some(AttributeValue::N(digits)) => parse_number(&digits).ok_or_else(|| {
                let what = if digits.contains('.') { "is not a whole number" } else { "is out of range" };
                self.wrong(format!("{name} {what}: {digits}"))
            }),
            Some(_) => Err(self.wrong(format!("{name} is not a number"))),
            None => Err(self.wrong(format!("{name} is missing"))),
        }
    }

    /// A number that is a version.
    pub(crate) fn version(&mut self, name: &str) -> Result<u64, Corrupt> {
        let version = self.number(name)?;
        if (1..=MAX_VERSION).contains(&version) {
            Ok(version)
        } else {
            Err(self.wrong(format!("{name} is not a version: {version}")))
        }
    }

    /// Checks the versions that an append is said to have: nothing that is computed from them may become larger than an append.
    pub(crate) fn check_append(&self, first: u64, last: u64) -> Result<(), Corrupt> {
        if last < first {
            return Err(self.wrong(format!("its append ends at version {last}, before it begins at {first}")));
        }
        if last - first >= MAX_EVENTS_PER_APPEND as u64 {
            return Err(self.wrong(format!(
                "its append is of versions {first} to {last}, and an append has at most {MAX_EVENTS_PER_APPEND}"
            )));
        }
        Ok(())
    }

    /// The append of the event at `version`: that event alone if nothing else is said.
    pub(crate) fn append(&mut self, version: u64) -> Result<AppendRange, Corrupt> {
        let id = self.uuid(APPEND_ID)?;
        if !self.has(APPEND_FIRST) && !self.has(APPEND_LAST) {
            return Ok(AppendRange { id, first: version, last: version });
        }
        let append = AppendRange { id, first: self.version(APPEND_FIRST)?, last: self.version(APPEND_LAST)? };
        self.check_append(append.first, append.last)?;
        if !(append.first..=append.last).contains(&version) {
            return Err(self.wrong(format!("{APPEND_FIRST} {} and {APPEND_LAST} {}", append.first, append.last)));
        }
        Ok(append)
    }

    /// A flag that is absent if it is not set.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, Corrupt> {
        match self.take(name) {
            None => Ok(false),
            Some(AttributeValue::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(format!("{name} is not true or false"))),
        }
    }

    /// The last public version before version `before`, if there is one.
    pub(crate) fn previous(&mut self, before: u64) -> Result<Option<Previous>, Corrupt> {
        if !self.has(PREVIOUS_VERSION) {
            return Ok(None);
        }
        let previous = Previous { version: self.version(PREVIOUS_VERSION)?, recorded_at_ms: self.number(PREVIOUS_AT)? };
        if previous.version >= before {
            return Err(self.wrong(format!("{PREVIOUS_VERSION} {} is not before version {before}", previous.version)));
        }
        Ok(Some(previous))
    }

    /// Some of the versions of a range, in order, the first and the last among them; absent if it is all of them.
    pub(crate) fn versions(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<Vec<u64>>, Corrupt> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let numbers = value.as_l().map(Vec::as_slice).unwrap_or_default();
        let version = |value: &AttributeValue| value.as_n().ok().and_then(|digits| parse_number::<u64>(digits));
        let versions: Vec<_> = numbers.iter().filter_map(version).filter(|version| range.contains(version)).collect();
        let ends = (versions.first(), versions.last());
        if ends != (Some(range.start()), Some(range.end()))
            || versions.len() != numbers.len()
            || !versions.is_sorted_by(|a, b| a < b)
        {
            return Err(self.wrong(format!(
                "{name} is not a list of versions from {} to {}",
                range.start(),
                range.end()
            )));
        }
        Ok(Some(versions))
    }

    pub(crate) fn uuid(&mut self, name: &str) -> Result<Uuid, Corrupt> {
        match self.take(name) {
            Some(AttributeValue::B(bytes)) => Uuid::from_slice(bytes.as_ref())
                .map_err(|_| self.wrong(format!("{name} is not a UUID: {} bytes", bytes.as_ref().len()))),
            Some(_) => Err(self.wrong(format!("{name} is not binary"))),
            None => Err(self.wrong(format!("{name} is missing"))),
        }
    }

    pub(crate) fn payload(&mut self) -> Result<String, Corrupt> {
        let encoding = if self.has(PAYLOAD_ENCODING) { Some(self.text(PAYLOAD_ENCODING)?) } else { None };
        let value = self.take(PAYLOAD).ok_or_else(|| self.wrong(format!("{PAYLOAD} is missing")))?;
        payload::read(value, encoding.as_deref()).map_err(|fault| self.wrong(format!("{PAYLOAD} {fault}")))
    }

    pub(crate) fn metadata(&mut self) -> Result<Metadata, Corrupt> {
        if !self.has(METADATA) {
            return Ok(Metadata::default());
        }
        let text = self.text(METADATA)?;
        Metadata::from_json_text(text).map_err(|error| self.wrong(error.to_string()))
    }

    /// A copy of the event at a version. `previous`: the public version before it.
    pub(crate) fn copied_event(
        &self,
        copy: AttributeValue,
        append_id: Uuid,
        (version, previous): (u64, Option<u64>),
        recorded_at_ms: i64,
    ) -> Result<OutboxEvent, Corrupt> {
        let AttributeValue::M(item) = copy else {
            return Err(self.wrong(format!("{EVENTS}: the copy of version {version} is not a map")));
        };
        let attributes = item.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect();
        let mut copy = Self { stream: self.stream.clone(), entity: self.entity.clone(), attributes };
        Ok(OutboxEvent {
            version,
            previous_version: previous,
            event_id: event_id(append_id, &self.stream, version),
            event_type: copy.text(EVENT_TYPE)?,
            payload: copy.payload()?,
            metadata: copy.metadata()?,
            recorded_at_ms,
        })
    }
}

fn take(attributes: &mut Attributes, name: &str) -> Option<AttributeValue> {
    let place = attributes.iter().position(|(attribute, _)| attribute == name)?;
    Some(attributes.swap_remove(place).1)
}
