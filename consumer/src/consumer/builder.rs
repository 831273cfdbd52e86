//! The settings of a consumer.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use streambox::EventStore;
use streambox_amqp::{Endpoint, TlsFiles, parse_url, without_password};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{At, Consumer};
use crate::{
    BadConfiguration, Projection,
    broker::{ConsumeSettings, Queues},
    core::{Bounds, Core},
    feed,
    shell::Shell,
    telemetry::Snapshot,
    work::Work,
};

/// Messages that the broker sends ahead of their acknowledgement, unless set otherwise.
const DEFAULT_PREFETCH: u16 = 200;
const PREFETCH: RangeInclusive<u64> = 1..=10_000;
const CONCURRENCY: RangeInclusive<u64> = 1..=1_000;
const APPLY_TIMEOUT_MS: RangeInclusive<u64> = 100..=600_000;
/// The broker closes the channel of whoever keeps a message for half an hour, unless it is configured otherwise.
const HOLD_LIMIT_MS: RangeInclusive<u64> = 1_000..=1_500_000;
const DRAIN_TIMEOUT_MS: RangeInclusive<u64> = 0..=600_000;

impl Consumer {
    /// A consumer of `queues` at the broker at `amqp_url` (for example `amqps://user:password@host:5671/vhost`; parameters as for
    /// `streambox-relay --amqp-url`), whose effects are those of `projection`.
    pub fn builder<P: Projection>(amqp_url: impl Into<String>, queues: Queues, projection: P) -> ConsumerBuilder<P> {
        ConsumerBuilder {
            url: amqp_url.into(),
            queues,
            projection,
            store: None,
            tls: TlsFiles::default(),
            declares: false,
            prefetch: DEFAULT_PREFETCH,
            apply_timeout: Duration::from_mins(1),
            drain_timeout: Duration::from_secs(20),
            bounds: Bounds::default(),
        }
    }
}

/// Settings of a [`Consumer`].
#[derive(Debug)]
#[must_use = "nothing runs before `spawn`"]
pub struct ConsumerBuilder<P> {
    url: String,
    queues: Queues,
    projection: P,
    store: Option<EventStore>,
    tls: TlsFiles,
    declares: bool,
    prefetch: u16,
    apply_timeout: Duration,
    drain_timeout: Duration,
    bounds: Bounds,
}

impl<P: Projection> ConsumerBuilder<P> {
    /// The events table, to read what is missing in the queue. It needs `Query` and `GetItem`.
    ///
    /// Without it a stream of which a message is lost waits, and one that can't be applied keeps its messages.
    pub fn store(mut self, store: EventStore) -> Self {
        self.store = Some(store);
        self
    }

    /// Declares queues, bindings and dead letters whenever it connects. Otherwise they have to exist: `streambox-consumer queues declare`.
    pub fn declare_queues(mut self) -> Self {
        self.declares = true;
        self
    }

    /// The files of TLS, read anew for each connection. The system's authorities and no client certificate by default.
    pub fn tls(mut self, files: TlsFiles) -> Self {
        self.tls = files;
        self
    }

    /// Messages that the broker sends ahead of their acknowledgement: what is held in memory, and what waiting streams have a share of.
    /// 200 by default, at most 10,000.
    pub fn prefetch(mut self, messages: u16) -> Self {
        self.prefetch = messages;
        self
    }

    /// Streams that are worked on at the same time; within a stream it is one event after the other. 16 by default, at most 1,000.
    pub fn concurrency(mut self, streams: usize) -> Self {
        self.bounds.concurrency = streams;
        self
    }

    /// The longest that the projection may take for one event; then it counts as failed. A minute by default, allowed are 100 ms to 10
    /// minutes.
    pub fn apply_timeout(mut self, timeout: Duration) -> Self {
        self.apply_timeout = timeout;
        self
    }

    /// The longest that a message is kept unacknowledged; then the connection is opened anew, and all such messages come again, in order.
    /// It has to be below the broker's `consumer_timeout` (30 minutes). 10 minutes by default, allowed are 1 second to 25 minutes.
    pub fn hold_limit(mut self, limit: Duration) -> Self {
        self.bounds.hold_limit = limit;
        self
    }

    /// The delay before the first retry of what has failed, and the longest one; each is twice as long as the one before it. 1 second and
    /// 5 minutes by default.
    pub fn retry_delays(mut self, first: Duration, longest: Duration) -> Self {
        self.bounds.first_retry_delay = first;
        self.bounds.longest_retry_delay = longest;
        self
    }

    /// The time from one look for parked streams to the next, which costs half a read unit. 5 seconds by default.
    pub fn parked_interval(mut self, interval: Duration) -> Self {
        self.bounds.due_interval = interval;
        self
    }

    /// The longest time to finish what is under way when it is stopped. 20 seconds by default, at most 10 minutes.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Starts the consumer, as tasks of the current Tokio runtime. Nothing was sent yet when this returns: a broker that refuses it at its
    /// start ends it, which [`Consumer::ended`] returns; later it tries again for ever.
    ///
    /// # Errors
    /// [`BadConfiguration`] names a setting, its value and what is allowed.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn spawn(self) -> Result<Consumer, BadConfiguration> {
        let uri = parse_url(&self.url).map_err(|why| BadConfiguration {
            setting: "amqp_url",
            value: without_password(&self.url),
            why,
        })?;
        check("prefetch", self.prefetch.into(), &PREFETCH, "")?;
        check("concurrency", self.bounds.concurrency as u64, &CONCURRENCY, "")?;
        for (setting, value, allowed) in [
            ("apply_timeout", self.apply_timeout, &APPLY_TIMEOUT_MS),
            ("hold_limit", self.bounds.hold_limit, &HOLD_LIMIT_MS),
            ("first of retry_delays", self.bounds.first_retry_delay, &(1..=600_000)),
            ("longest of retry_delays", self.bounds.longest_retry_delay, &(1..=86_400_000)),
            ("parked_interval", self.bounds.due_interval, &(10..=600_000)),
            ("drain_timeout", self.drain_timeout, &DRAIN_TIMEOUT_MS),
        ] {
            check(setting, u64::try_from(value.as_millis()).unwrap_or(u64::MAX), allowed, " ms")?;
        }

        let mut endpoint = Endpoint::new(uri);
        endpoint.tls = self.tls.clone();
        let at = At { queues: self.queues.clone(), url: self.url, tls: self.tls };
        let settings = ConsumeSettings {
            endpoint,
            queues: self.queues,
            prefetch: self.prefetch,
            declares: self.declares,
            seed: fastrand::u64(..),
        };
        let (stop, mut stopped) = watch::channel(false);
        let feed = feed::start(Arc::new(settings), stopped.clone());
        let connection = feed.state.clone();
        let has_inbox = self.projection.inbox().is_some();
        let core = Core::new(self.bounds, self.store.is_some(), has_inbox, fastrand::u64(..), Instant::now());
        let (snapshot, snapshots) = watch::channel(Snapshot::default());
        let work = Work { projection: self.projection, store: self.store, apply_timeout: self.apply_timeout };
        let (ask, asked) = mpsc::unbounded_channel();
        let shell = Shell { core, work: Arc::new(work), feed, snapshot, asked, drain_timeout: self.drain_timeout };
        let running = tokio::spawn(shell.run(async move {
            // Also if the other end is dropped.
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        Ok(Consumer { snapshot: snapshots, connection, at, ask, stop, running: Some(running) })
    }
}

fn check(setting: &'static str, value: u64, allowed: &RangeInclusive<u64>, unit: &str) -> Result<(), BadConfiguration> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let why = format!("allowed is {}{unit} to {}{unit}", allowed.start(), allowed.end());
    Err(BadConfiguration { setting, value: format!("{value}{unit}"), why })
}
