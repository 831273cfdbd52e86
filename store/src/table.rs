//! The table: what every request needs. All operations take it; [`EventStore`](crate::EventStore) hands it to them.

use std::{
    fmt,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::{
    Client,
    operation::{query::builders::QueryFluentBuilder, scan::builders::ScanFluentBuilder},
    types::ReturnConsumedCapacity,
};

use crate::{
    error::Invalid,
    event::NewEvent,
    failure::{Operation, RequestContext},
    hook::{AppendHook, StoredAppend},
    limits::MAX_RECORDED_AT_MS,
    observe::{Observer, Operation as Observed, Watch},
    schema::{self, Compression, ENTITY, STREAM_ID},
    stream::StreamPosition,
    trace::TraceContext,
};

/// One table, reached through one client. A clone is cheap and shares the settings.
#[derive(Clone)]
pub(crate) struct Table(Arc<Shared>);

struct Shared {
    settings: Settings,
    /// The name with the Region, by which a position knows its table.
    full_name: Arc<str>,
}

pub(crate) struct Settings {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) operation_timeout: Duration,
    pub(crate) compression: Compression,
    pub(crate) trace_context: Option<Box<dyn Fn() -> Option<TraceContext> + Send + Sync>>,
    pub(crate) observer: Option<Observer>,
    pub(crate) append_hook: Option<AppendHook>,
    pub(crate) clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

/// Which sort keys of a partition a Query reads.
pub(crate) enum SortKeys {
    All,
    Between(RangeInclusive<String>),
    BeginWith(&'static str),
}

impl Table {
    pub(crate) fn new(settings: Settings) -> Self {
        let name = &settings.name;
        let full_name = match settings.client.config().region() {
            Some(region) => format!("{name} in {region}").into(),
            None => name.as_str().into(),
        };
        Self(Arc::new(Shared { settings, full_name }))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.settings.client
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.settings.name
    }

    /// The name with the Region.
    pub(crate) fn full_name(&self) -> &Arc<str> {
        &self.0.full_name
    }

    pub(crate) fn operation_timeout(&self) -> Duration {
        self.0.settings.operation_timeout
    }

    pub(crate) fn compression(&self) -> Compression {
        self.0.settings.compression
    }

    /// Adds the current trace context to events that have none.
    pub(crate) fn add_trace_context<'a>(&self, events: impl Iterator<Item = &'a mut NewEvent>) {
        if let Some(current) = self.0.settings.trace_context.as_ref().and_then(|current| current()) {
            events.for_each(|event| event.add_trace_context(&current));
        }
    }

    /// An append is stored.
    pub(crate) fn stored(&self, append: &StoredAppend<'_>) {
        if let Some(hook) = &self.0.settings.append_hook {
            hook.call(append);
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        let since_epoch = (self.0.settings.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX).min(MAX_RECORDED_AT_MS)
    }

    /// Checks that a position is one of this table.
    pub(crate) fn check_position(&self, position: &StreamPosition) -> Result<(), Invalid> {
        position.table().map_or(Ok(()), |other| self.check_is(other))
    }

    pub(crate) fn check_same(&self, other: &Self) -> Result<(), Invalid> {
        self.check_is(&other.0.full_name)
    }

    fn check_is(&self, other: &Arc<str>) -> Result<(), Invalid> {
        if *other == self.0.full_name {
            return Ok(());
        }
        let (table, position_of) = (self.0.full_name.to_string(), other.to_string());
        Err(Invalid::PositionOfOtherTable { table, position_of })
    }

    /// Watches an operation, which begins, for spans and observer. `stream`: its id, or several.
    pub(crate) fn watch(&self, operation: Observed, stream: &str) -> Watch {
        Watch::new(operation, stream, self.0.settings.observer.as_ref())
    }

    /// An operation of several requests, none of which has been sent.
    pub(crate) fn operation<'a>(&'a self, name: &'static str, subject: &'a str) -> Operation<'a> {
        Operation::new(RequestContext::new(self.client(), self.name()), name, subject)
    }

    /// An operation of one request.
    pub(crate) fn request<'a>(&'a self, name: &'static str, subject: &'a str) -> Operation<'a> {
        Operation { attempts: 1, ..self.operation(name, subject) }
    }

    /// A strongly consistent Query of one partition.
    pub(crate) fn query(&self, partition: &str, keys: SortKeys) -> QueryFluentBuilder {
        let query = self
            .client()
            .query()
            .table_name(self.name())
            .consistent_read(true)
            .expression_attribute_values(":partition", schema::text(partition))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match keys {
            SortKeys::All => query.key_condition_expression(format!("{STREAM_ID} = :partition")),
            SortKeys::Between(keys) => {
                let (from, to) = keys.into_inner();
                query
                    .key_condition_expression(format!("{STREAM_ID} = :partition AND {ENTITY} BETWEEN :from AND :to"))
                    .expression_attribute_values(":from", schema::text(from))
                    .expression_attribute_values(":to", schema::text(to))
            }
            SortKeys::BeginWith(prefix) => query
                .key_condition_expression(format!("{STREAM_ID} = :partition AND begins_with({ENTITY}, :prefix)"))
                .expression_attribute_values(":prefix", schema::text(prefix)),
        }
    }

    /// A Scan of the table.
    pub(crate) fn scan(&self) -> ScanFluentBuilder {
        self.client().scan().table_name(self.name()).return_consumed_capacity(ReturnConsumedCapacity::Total)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.full_name)
    }
}
