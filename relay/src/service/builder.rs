//! The settings of a relay inside of a service: those of the program, with the same defaults and the same limits.

use std::{num::NonZeroUsize, time::Duration};

use streambox::EventStore;
use tokio::sync::{mpsc, oneshot};

use super::Relay;
use crate::{
    broker::{MessageFormat, TlsFiles, Unroutable},
    config::{BadConfiguration, BrokerOptions, GroupOptions, WorkOptions},
    relay::{self, Until},
    telemetry::Telemetry,
    view::About,
};

/// Most wakes that wait for the relay's loop.
const MAX_WAITING_WAKES: usize = 1_000;

impl Relay {
    /// A relay of the table of `store`, which publishes to the broker at `amqp_url`, for example
    /// `amqps://user:password@host:5671/vhost`. Its parameters are those of the program's `--amqp-url`.
    ///
    /// The store only says where the table is. It needs the permissions of a relay, which are others than those of a service that
    /// appends, so it may have a client of its own.
    pub fn builder(store: EventStore, amqp_url: impl Into<String>) -> RelayBuilder {
        let (broker, work, group) = (BrokerOptions::new(amqp_url), WorkOptions::default(), GroupOptions::default());
        RelayBuilder { store, broker, work, group }
    }
}

/// Settings of a [`Relay`] inside of a service. Each is a flag of `streambox-relay run`, whose help says more about it.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `spawn`"]
pub struct RelayBuilder {
    store: EventStore,
    broker: BrokerOptions,
    work: WorkOptions,
    group: GroupOptions,
}

impl RelayBuilder {
    /// The topic exchange; it is declared, durable, if it does not exist. `streambox` by default.
    pub fn exchange(mut self, name: impl Into<String>) -> Self {
        self.broker.exchange = name.into();
        self
    }

    /// What to do with a message that no queue takes. Its stream halts by default.
    pub fn unroutable(mut self, unroutable: Unroutable) -> Self {
        self.broker.unroutable = unroutable;
        self
    }

    /// What the body of a message is. The event's payload by default.
    pub fn message_format(mut self, format: MessageFormat) -> Self {
        self.broker.message_format = format;
        self
    }

    /// The `source` of CloudEvents, a URI reference. `/streambox` by default.
    pub fn cloudevents_source(mut self, source: impl Into<String>) -> Self {
        self.broker.cloudevents_source = source.into();
        self
    }

    /// The files of TLS, read anew for each connection. The system's authorities and no client certificate by default.
    pub fn tls(mut self, files: TlsFiles) -> Self {
        self.broker.tls = files;
        self
    }

    /// The longest time from one look at the index to the next: while there is nothing to do. 500 ms by default, allowed are 10 ms to
    /// a minute.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.work.poll_interval = interval;
        self
    }

    /// The time to the next look after one that has found work; each look after it that finds none waits half as long again, up to
    /// the poll interval. Each of more than eight live relays waits longer: twice as long if there are sixteen. 25 ms by default,
    /// allowed are 10 ms to a minute.
    pub fn busy_poll_interval(mut self, interval: Duration) -> Self {
        self.work.busy_poll_interval = interval;
        self
    }

    /// The longest time to finish what is in flight when it is stopped. 20 seconds by default, at most 10 minutes.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.work.drain_timeout = timeout;
        self
    }

    /// Connections that publish at the same time, each with one channel. 2 by default, at most 16.
    pub fn publishers(mut self, count: usize) -> Self {
        self.work.publishers = count;
        self
    }

    /// Streams whose last published version is remembered, which saves 4 read units for their next event if that comes within half an
    /// hour. About 160 bytes each; 250,000 by default, which are 40 MB.
    pub fn remembered_streams(mut self, count: NonZeroUsize) -> Self {
        self.work.bounds.remembered_streams = count;
        self
    }

    /// This worker's name in its group, which no other running worker may have. By default host, process id and a random number.
    pub fn worker_id(mut self, id: impl Into<String>) -> Self {
        self.group.worker_id = Some(id.into());
        self
    }

    /// The time from one heartbeat to the next, which costs a write unit and a read unit. 5 seconds by default, allowed are 100 ms to a
    /// minute.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.group.heartbeat_interval = interval;
        self
    }

    /// After this time without a heartbeat a worker's streams go to the others. 15 seconds by default, at least twice the heartbeat
    /// interval, at most 10 minutes.
    pub fn worker_timeout(mut self, timeout: Duration) -> Self {
        self.group.worker_timeout = timeout;
        self
    }

    /// Starts the relay, as a task of the current Tokio runtime. Nothing was sent yet when this returns: a table or a broker that
    /// refuses the relay at its start ends it, which [`Relay::ended`] returns; later it tries again for ever.
    ///
    /// # Errors
    /// [`BadConfiguration`] names a setting, as a flag of the program, its value and what is allowed.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn spawn(self) -> Result<Relay, BadConfiguration> {
        let Self { store, broker, work, group } = self;
        work.check()?;
        group.check()?;
        let settings = work.relay_settings(&broker, Some(&group))?;
        let about = About {
            table: store.table().to_owned(),
            exchange: broker.exchange,
            worker: settings.group.as_ref().map(|group| group.id.to_string()),
            poll_interval: settings.poll_interval,
            longest_delay: settings.bounds.longest_delay,
        };
        let (telemetry, (stop, stopped)) = (Telemetry::default(), oneshot::channel());
        let (wakes, woken) = mpsc::channel(MAX_WAITING_WAKES);
        let reports = telemetry.clone();
        let running = tokio::spawn(async move {
            // Also if the other end is dropped.
            let stopped = async { _ = stopped.await };
            relay::run_woken(&store, settings, &reports, Until::Stopped, woken, stopped).await
        });
        Ok(Relay { wakes, telemetry, about, stop, running: Some(running) })
    }
}

#[cfg(test)]
mod tests {
    use streambox::{Client, EventStore};

    use super::*;

    fn builder(url: &str) -> RelayBuilder {
        let config = streambox::aws_sdk_dynamodb::Config::builder().behavior_version(streambox::behavior_version());
        Relay::builder(EventStore::new(Client::from_conf(config.build()), "events"), url)
    }

    fn refused(builder: RelayBuilder) -> String {
        builder.spawn().expect_err("it can't be used").to_string()
    }

    #[test]
    fn what_the_command_line_would_refuse_is_refused_with_its_name() {
        let good = || builder("amqp://h");
        let hour = Duration::from_hours(1);
        let cases = [
            (good().poll_interval(Duration::ZERO), "--poll-interval", "10ms to 1m"),
            (good().busy_poll_interval(hour), "--busy-poll-interval", "10ms to 1m"),
            (good().drain_timeout(hour), "--drain-timeout", "0s to 10m"),
            (good().publishers(0), "--publishers", "1 to 16"),
            (good().heartbeat_interval(hour), "--heartbeat-interval", "100ms to 1m"),
            (good().worker_timeout(hour), "--worker-timeout", "0s to 10m"),
            (good().worker_timeout(Duration::from_secs(1)), "--worker-timeout", "heartbeat intervals"),
            (good().worker_id(""), "--worker-id", ""),
            (good().exchange("amq.topic"), "--exchange", "the broker's own"),
        ];
        for (builder, setting, why) in cases {
            let text = refused(builder);
            assert!(text.contains(setting) && text.contains(why), "{text}");
        }
    }

    #[test]
    fn a_url_that_can_not_be_used_is_never_shown() {
        let text = refused(builder("amqp://relay:secret@h:port/"));
        assert!(text.contains("--amqp-url") && !text.contains("secret"), "{text}");
        assert!(!format!("{:?}", builder("amqp://relay:secret@h")).contains("secret"));
    }
}
