//! An operator's word that an event is not to be applied, and the record of it.
//!
//! One transaction moves the position behind the event and writes who did it, when and why. Only the event that comes next can be
//! skipped: the public event behind the position. Whether it is that, the events table says, if the operator's program can read it.

use aws_sdk_dynamodb::types::{Put, ReturnConsumedCapacity, TransactWriteItem, Update};
use futures_util::TryStreamExt as _;
use streambox::{
    Error, EventStore, Invalid, ReadOptions, StreamId, Uuid,
    limits::{MAX_SKIP_BY_BYTES, MAX_SKIP_REASON_BYTES},
};

use super::{
    Inbox,
    parking::MARK,
    position::Standing,
    schema::{
        self, ATTEMPTS, CONSUMER, Fields, Item, LAST_EVENT_ID, LAST_VERSION, LATEST_VERSION, REASON, RETRY_AT,
        SKIPPED_AT, SKIPPED_BY, SKIPPED_FIRST, SKIPPED_LAST, SKIPPED_STREAM, SKIPS_PARTITION,
    },
    write::Delays,
};
use crate::Position;

/// How many of the newest skips are looked through for one that was done before.
const REMEMBERED_SKIPS: u16 = 100;

/// How often the position is read anew if consumers move it meanwhile.
const SKIP_ATTEMPTS: u32 = 8;

/// An operator's word: which event is not to be applied, who says so, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkipRequest {
    /// The stream.
    pub stream: StreamId,
    /// The version of the event.
    pub version: u64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl SkipRequest {
    /// Asks to skip one event.
    #[must_use]
    pub fn new(stream: &StreamId, version: u64, by: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { stream: stream.clone(), version, by: by.into(), reason: reason.into() }
    }
}

/// The record of a skip.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skip {
    /// The stream.
    pub stream_id: StreamId,
    /// The version behind the position: the skipped one, or that of the first private event before it. Without the events table nobody
    /// knows what the versions from here to the skipped one were.
    pub first: u64,
    /// The version that was skipped.
    pub version: u64,
    /// When: milliseconds since the Unix epoch, by the clock of who did it.
    pub at_ms: i64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// The outcome of [`Inbox::skip`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skipping {
    /// The event is passed over, and this is the record.
    Done(Skip),
    /// It was passed over before. This is the record; no second one was written.
    DoneBefore(Skip),
    /// The stream is applied up to this position, the event included.
    Applied(Position),
    /// Another event comes next.
    NotNext {
        /// How far the stream is applied.
        position: Position,
        /// The version of the public event that comes next; none if there is none.
        next: Option<u64>,
    },
}

impl Inbox {
    /// Passes an event over: its stream stands behind it, as if it were applied, and if the stream is parked, the mark is removed, or it
    /// is tried again now, since more events follow. The record of it is written in the same transaction.
    ///
    /// The event has to be the one that comes next: the first public event behind the position. With a `store` the events are
    /// read from there on to find out. Without one (the events are in another account) nothing but the operator's word says what stands
    /// between the position and the event: all of it is passed over, and the record says so.
    ///
    /// One read unit for the position, those of the events from there to the next public one, and 4 write units; for a parked stream up to
    /// 2 more for the index.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `by` or `reason` is empty or too long, or the version is 0; [`Error::Busy`] if consumers moved the position each time;
    /// [`Error::Corrupt`], [`Error::Unavailable`], [`Error::Configuration`] as reading the events, and as DynamoDB answers. Repeating it is
    /// harmless.
    pub async fn skip(&self, request: &SkipRequest, store: Option<&EventStore>) -> Result<Skipping, Error> {
        check("name of who skips", &request.by, MAX_SKIP_BY_BYTES)?;
        check("reason", &request.reason, MAX_SKIP_REASON_BYTES)?;
        let SkipRequest { stream, version, .. } = request;
        if *version == 0 {
            return Err(Invalid::SkipTarget { target: "0".to_owned() }.into());
        }
        // One id for all attempts, so that a lost answer does not lead to a second record.
        let id = Uuid::new_v4();
        let mut operation = self.request("skip an event", stream.as_str());
        let mut delays = Delays::of_writes();
        for _ in 0..SKIP_ATTEMPTS {
            let standing = self.standing(stream).await?;
            let position = standing.position;
            if *version <= position.version {
                let skips = self.skips(REMEMBERED_SKIPS).await?;
                let done = skips.into_iter().find(|skip| skip.stream_id == *stream && skip.version == *version);
                return Ok(done.map_or(Skipping::Applied(position), Skipping::DoneBefore));
            }
            let event_id = match store {
                None => None,
                Some(store) => match next_public(store, stream, position.version).await? {
                    Some((next, event_id)) if next == *version => Some(event_id),
                    next => return Ok(Skipping::NotNext { position, next: next.map(|(next, _)| next) }),
                },
            };
            let skip = Skip {
                stream_id: stream.clone(),
                first: position.version + 1,
                version: *version,
                at_ms: self.now_ms(),
                by: request.by.clone(),
                reason: request.reason.clone(),
            };
            let transaction = self
                .client
                .transact_write_items()
                .transact_items(self.pass_over(&skip, event_id, &standing))
                .transact_items(self.record(&skip, id))
                .client_request_token(Uuid::new_v4().to_string())
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let Err(error) = self.transact(&mut operation, &transaction).await? else {
                return Ok(Skipping::Done(skip));
            };
            if !operation.is_refused_by_condition(&error) {
                return Err(operation.transaction_failed(error, 2, &[], async { true }).await);
            }
            delays.wait().await;
        }
        Err(operation.busy())
    }

    /// The newest skips of this consumer and generation, the newest first, at most `limit`, strongly consistent: one read unit for each 4
    /// KB. What can't be read of a record (a newer version may write it otherwise) is empty or 0.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn skips(&self, limit: u16) -> Result<Vec<Skip>, Error> {
        let mut request = self.request("read the skips", &self.key);
        request.count_attempt();
        let output = self
            .client
            .query()
            .table_name(&*self.table)
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(i32::from(limit.max(1)))
            .key_condition_expression(format!("{} = :skips AND begins_with({CONSUMER}, :prefix)", schema::STREAM_ID))
            .expression_attribute_values(":skips", schema::text(SKIPS_PARTITION))
            .expression_attribute_values(":prefix", schema::text(&schema::skip_prefix(&self.key)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| request.failed(error))?;
        Ok(output.items().iter().map(read_skip).collect())
    }

    /// Moves the position behind the event, if it and the mark are as they were read.
    fn pass_over(&self, skip: &Skip, event_id: Option<Uuid>, standing: &Standing) -> TransactWriteItem {
        let mut set = vec![format!("{LAST_VERSION} = :version")];
        let mut remove = Vec::new();
        let mut values = Item::from([(":version".to_owned(), schema::number(skip.version))]);
        let mut conditions = Vec::new();
        match event_id {
            Some(id) => {
                set.push(format!("{LAST_EVENT_ID} = :id"));
                values.insert(":id".to_owned(), schema::bytes(id));
            }
            None => remove.push(LAST_EVENT_ID),
        }
        if standing.position.version == 0 {
            conditions.push(format!("attribute_not_exists({LAST_VERSION})"));
        } else {
            conditions.push(format!("{LAST_VERSION} = :last"));
            values.insert(":last".to_owned(), schema::number(standing.position.version));
        }
        match &standing.parked {
            None => conditions.push(format!("attribute_not_exists({RETRY_AT})")),
            Some(parked) if parked.latest_version <= skip.version => {
                conditions.push(format!("{LATEST_VERSION} = :latest"));
                values.insert(":latest".to_owned(), schema::number(parked.latest_version));
                remove.extend(MARK);
            }
            // More events follow, whose messages may have been acknowledged: it stays parked, and is tried now.
            Some(_) => {
                conditions.push(format!("attribute_exists({RETRY_AT})"));
                set.extend([format!("{RETRY_AT} = :now"), format!("{ATTEMPTS} = :none"), format!("{REASON} = :why")]);
                let why = format!("version {} was skipped, what follows is tried next", skip.version);
                values.extend([
                    (":now".to_owned(), schema::number(skip.at_ms)),
                    (":none".to_owned(), schema::number(0)),
                    (":why".to_owned(), schema::text(&why)),
                ]);
            }
        }
        let mut expression = format!("SET {}", set.join(", "));
        if !remove.is_empty() {
            expression = format!("{expression} REMOVE {}", remove.join(", "));
        }
        let update = Update::builder()
            .table_name(&*self.table)
            .set_key(Some(self.position_key(&skip.stream_id)))
            .update_expression(expression)
            .condition_expression(conditions.join(" AND "))
            .set_expression_attribute_values(Some(values))
            .build()
            .expect("an update has a table, a key and an expression");
        TransactWriteItem::builder().update(update).build()
    }

    fn record(&self, skip: &Skip, id: Uuid) -> TransactWriteItem {
        let mut item = schema::key(SKIPS_PARTITION, &schema::skip_key(&self.key, skip.at_ms, id));
        item.extend([
            (SKIPPED_STREAM.to_owned(), schema::text(skip.stream_id.as_str())),
            (SKIPPED_FIRST.to_owned(), schema::number(skip.first)),
            (SKIPPED_LAST.to_owned(), schema::number(skip.version)),
            (SKIPPED_AT.to_owned(), schema::number(skip.at_ms)),
            (SKIPPED_BY.to_owned(), schema::text(&skip.by)),
            (REASON.to_owned(), schema::text(&skip.reason)),
        ]);
        let put = Put::builder()
            .table_name(&*self.table)
            .set_item(Some(item))
            .condition_expression(format!("attribute_not_exists({CONSUMER})"))
            .build()
            .expect("a put has a table and an item");
        TransactWriteItem::builder().put(put).build()
    }
}

/// The first public event behind a version, by its version and id.
async fn next_public(store: &EventStore, stream: &StreamId, behind: u64) -> Result<Option<(u64, Uuid)>, Error> {
    let mut events = store.read_stream(stream, ReadOptions::forward().from_version(behind + 1));
    while let Some(event) = events.try_next().await? {
        if !event.is_private {
            return Ok(Some((event.version, event.event_id())));
        }
    }
    Ok(None)
}

fn read_skip(item: &Item) -> Skip {
    let partition = StreamId::stored(SKIPS_PARTITION);
    let fields = Fields::new(&partition, item);
    Skip {
        stream_id: StreamId::stored(&fields.text(SKIPPED_STREAM).unwrap_or_default()),
        first: fields.number(SKIPPED_FIRST).unwrap_or_default(),
        version: fields.number(SKIPPED_LAST).unwrap_or_default(),
        at_ms: fields.number(SKIPPED_AT).unwrap_or_default(),
        by: fields.text(SKIPPED_BY).unwrap_or_default(),
        reason: fields.text(REASON).unwrap_or_default(),
    }
}

fn check(what: &'static str, text: &str, limit_bytes: usize) -> Result<(), Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::Empty { what });
    }
    if text.len() > limit_bytes {
        return Err(Invalid::TooLong { what, limit_bytes, bytes: text.len() });
    }
    Ok(())
}
