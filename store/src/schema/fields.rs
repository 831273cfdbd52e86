//! Reads items attribute by attribute.

use std::ops::RangeInclusive;

use aws_sdk_dynamodb::types::AttributeValue;
use uuid::Uuid;

use super::{
    ENTITY, EVENT_ID, EVENT_TYPE, EVENTS, Item, METADATA, PAYLOAD, PAYLOAD_ENCODING, STREAM_ID, parse_number, payload,
    version_behind,
};
use crate::{
    error::Corrupt,
    limits::{MAX_EVENTS_PER_APPEND, MAX_VERSION},
    metadata::Metadata,
    outbox::entry::OutboxEvent,
    stream::{Previous, StreamId},
};

/// The attributes of one item, taken out one by one; an error names the item.
pub(crate) struct Fields {
    pub(crate) stream: StreamId,
    pub(crate) entity: String,
    /// Few enough that looking through them is quicker than hashing their names.
    attributes: Vec<(String, AttributeValue)>,
}

impl Fields {
    pub(crate) fn new(item: Item) -> Self {
        Self::beside(None, item)
    }

    /// Shares the stream id of a neighbour if it is the same.
    pub(crate) fn beside(neighbour: Option<&StreamId>, item: Item) -> Self {
        let mut attributes: Vec<_> = item.into_iter().collect();
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

    /// A flag that is absent if it is not set.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, Corrupt> {
        match self.take(name) {
            None => Ok(false),
            Some(AttributeValue::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(format!("{name} is not true or false"))),
        }
    }

    /// The append before version `before`, if there is one.
    pub(crate) fn previous(&mut self, first: &str, at: &str, before: u64) -> Result<Option<Previous>, Corrupt> {
        if !self.has(first) {
            return Ok(None);
        }
        let previous = Previous { first: self.version(first)?, recorded_at_ms: self.number(at)? };
        if previous.first >= before {
            return Err(self.wrong(format!("{first} {} is not before version {before}", previous.first)));
        }
        Ok(Some(previous))
    }

    /// Some of the versions of a range, in order, at least one; absent if it is all of them.
    pub(crate) fn versions(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<Vec<u64>>, Corrupt> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let numbers = value.as_l().map(Vec::as_slice).unwrap_or_default();
        let version = |value: &AttributeValue| value.as_n().ok().and_then(|digits| parse_number::<u64>(digits));
        let versions: Vec<_> = numbers.iter().filter_map(version).filter(|version| range.contains(version)).collect();
        if versions.is_empty() || versions.len() != numbers.len() || !versions.is_sorted_by(|a, b| a < b) {
            return Err(self.wrong(format!(
                "{name} is not a list of versions from {} to {}",
                range.start(),
                range.end()
            )));
        }
        Ok(Some(versions))
    }

    pub(crate) fn uuid(&mut self, name: &str) -> Result<Uuid, Corrupt> {
        let text = self.text(name)?;
        text.parse().map_err(|_| self.wrong(format!("{name} is not a UUID: {text}")))
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

    pub(crate) fn copied_event(
        &self,
        copy: AttributeValue,
        version: u64,
        recorded_at_ms: i64,
    ) -> Result<OutboxEvent, Corrupt> {
        let AttributeValue::M(item) = copy else {
            return Err(self.wrong(format!("{EVENTS}: the copy of version {version} is not a map")));
        };
        let attributes = item.into_iter().collect();
        let mut copy = Self { stream: self.stream.clone(), entity: self.entity.clone(), attributes };
        Ok(OutboxEvent {
            version,
            event_id: copy.uuid(EVENT_ID)?,
            event_type: copy.text(EVENT_TYPE)?,
            payload: copy.payload()?,
            metadata: copy.metadata()?,
            recorded_at_ms,
        })
    }
}

fn take(attributes: &mut Vec<(String, AttributeValue)>, name: &str) -> Option<AttributeValue> {
    let place = attributes.iter().position(|(attribute, _)| attribute == name)?;
    Some(attributes.swap_remove(place).1)
}
