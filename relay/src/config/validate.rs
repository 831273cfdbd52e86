//! Turns options into settings, and reports what clap can't know to be wrong.

use std::{ops::RangeInclusive, time::Duration};

use lapin::{
    types::ShortString,
    uri::{AMQPScheme, AMQPUri},
};
use streambox::{StreamId, limits::MAX_WORKER_ID_BYTES, outbox::WorkerId};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    cli::{
        BrokerOptions, DRAIN_TIMEOUT_MS, GroupOptions, HEARTBEAT_INTERVAL_MS, POLL_INTERVAL_MS, PUBLISHERS,
        RelayOptions, ReplayOptions, RunOptions, WORKER_TIMEOUT_MS, WorkOptions,
    },
    error::BadConfiguration,
};
use crate::{
    Chain,
    broker::{BrokerSettings, MessageForm, TlsFiles, parse_url, without_password},
    core::{Bounds, GroupSettings, LEAST_TIMEOUT_INTERVALS},
    flag_values::shown,
    relay::RelaySettings,
    replay::{Of, ReplaySettings},
};

const WORKER_TIMEOUT: &str = "--worker-timeout (STREAMBOX_WORKER_TIMEOUT)";

impl RelayOptions {
    /// The relay's settings.
    ///
    /// # Errors
    /// [`BadConfiguration`] names the setting, its value and what is allowed.
    pub fn settings(&self) -> Result<RelaySettings, BadConfiguration> {
        self.work.relay_settings(&self.broker, None)
    }
}

impl RunOptions {
    /// The relay's settings, those of its group included.
    ///
    /// # Errors
    /// As [`RelayOptions::settings`].
    pub fn settings(&self) -> Result<RelaySettings, BadConfiguration> {
        self.relay.work.relay_settings(&self.relay.broker, Some(&self.group))
    }
}

/// Checks a time that no command line has checked.
fn within(setting: &'static str, time: Duration, allowed_ms: &RangeInclusive<u64>) -> Result<(), BadConfiguration> {
    let (least, most) = (Duration::from_millis(*allowed_ms.start()), Duration::from_millis(*allowed_ms.end()));
    if (least..=most).contains(&time) {
        return Ok(());
    }
    let why = format!("allowed is {} to {}", shown(least), shown(most));
    Err(BadConfiguration::new(setting, shown(time), why))
}

impl GroupOptions {
    /// Checks what the command line checks by itself.
    pub(crate) fn check(&self) -> Result<(), BadConfiguration> {
        let heartbeat = "--heartbeat-interval (STREAMBOX_HEARTBEAT_INTERVAL)";
        within(heartbeat, self.heartbeat_interval, &HEARTBEAT_INTERVAL_MS)?;
        within(WORKER_TIMEOUT, self.worker_timeout, &WORKER_TIMEOUT_MS)
    }

    fn settings(&self) -> Result<GroupSettings, BadConfiguration> {
        let id = self.worker_id.clone().unwrap_or_else(unique_worker_id);
        let id = WorkerId::new(&id)
            .map_err(|why| BadConfiguration::new("--worker-id (STREAMBOX_WORKER_ID)", id, why.to_string()))?;
        let (heartbeat_interval, timeout) = (self.heartbeat_interval, self.worker_timeout);
        let least = heartbeat_interval * LEAST_TIMEOUT_INTERVALS;
        if timeout < least {
            let why = format!(
                "it has to be at least {LEAST_TIMEOUT_INTERVALS} heartbeat intervals, that is {}: one late heartbeat does not mean that a worker has died",
                shown(least)
            );
            return Err(BadConfiguration::new(WORKER_TIMEOUT, shown(timeout), why));
        }
        Ok(GroupSettings { id, heartbeat_interval, timeout })
    }
}

/// Host and process id alone are not unique: in containers both may be the same everywhere.
fn unique_worker_id() -> String {
    let host = nix::unistd::gethostname().map(|host| host.to_string_lossy().into_owned()).unwrap_or_default();
    let suffix = format!("-{}-{:08x}", std::process::id(), fastrand::u32(..));
    let mut end = host.len().min(MAX_WORKER_ID_BYTES - suffix.len());
    while !host.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &host[..end])
}

impl WorkOptions {
    /// Checks what the command line checks by itself.
    pub(crate) fn check(&self) -> Result<(), BadConfiguration> {
        within("--poll-interval (STREAMBOX_POLL_INTERVAL)", self.poll_interval, &POLL_INTERVAL_MS)?;
        within("--busy-poll-interval (STREAMBOX_BUSY_POLL_INTERVAL)", self.busy_poll_interval, &POLL_INTERVAL_MS)?;
        within("--drain-timeout (STREAMBOX_DRAIN_TIMEOUT)", self.drain_timeout, &DRAIN_TIMEOUT_MS)?;
        if PUBLISHERS.contains(&(self.publishers as u64)) {
            return Ok(());
        }
        let why = format!("allowed is {} to {}", PUBLISHERS.start(), PUBLISHERS.end());
        Err(BadConfiguration::new("--publishers (STREAMBOX_PUBLISHERS)", self.publishers.to_string(), why))
    }

    /// The settings of a relay.
    pub(crate) fn relay_settings(
        &self,
        broker: &BrokerOptions,
        group: Option<&GroupOptions>,
    ) -> Result<RelaySettings, BadConfiguration> {
        Ok(RelaySettings {
            broker: broker.settings()?,
            bounds: self.bounds()?,
            publishers: self.publishers,
            poll_interval: self.poll_interval,
            busy_poll_interval: self.busy_poll_interval,
            drain_timeout: self.drain_timeout,
            group: group.map(GroupOptions::settings).transpose()?,
        })
    }

    fn bounds(&self) -> Result<Bounds, BadConfiguration> {
        let (first, longest) = (self.bounds.first_delay, self.bounds.longest_delay);
        if longest < first {
            let first = shown(first);
            let why = format!("it is less than --retry-delay, which is {first}; allowed is {first} or more");
            return Err(BadConfiguration::new("--max-retry-delay (STREAMBOX_MAX_RETRY_DELAY)", shown(longest), why));
        }
        Ok(self.bounds.clone())
    }
}

impl BrokerOptions {
    /// Where and how to publish.
    ///
    /// # Errors
    /// [`BadConfiguration`] names the setting, its value and what is allowed.
    pub fn settings(&self) -> Result<BrokerSettings, BadConfiguration> {
        let mut broker = BrokerSettings::new(self.uri()?, self.exchange()?);
        (broker.unroutable, broker.form) = (self.unroutable, self.form()?);
        broker.timeouts = self.timeouts;
        broker.endpoint.tls = self.tls_for(&broker.endpoint.uri)?;
        broker.endpoint.connect_timeout = self.connect_timeout;
        Ok(broker)
    }

    /// The files of TLS, read once for an early error; each connection reads them again.
    fn tls_for(&self, uri: &AMQPUri) -> Result<TlsFiles, BadConfiguration> {
        let named = [
            ("--amqp-ca-file (STREAMBOX_AMQP_CA_FILE)", &self.tls.authorities),
            ("--amqp-cert-file (STREAMBOX_AMQP_CERT_FILE)", &self.tls.certificate),
        ];
        if let Some((setting, path)) = named.into_iter().find_map(|(flag, path)| Some((flag, path.as_ref()?))) {
            let refuse = |why: String| BadConfiguration::new(setting, path.display().to_string(), why);
            if uri.scheme == AMQPScheme::AMQP {
                return Err(refuse("it is for TLS, and --amqp-url begins with amqp://, not amqps://".to_owned()));
            }
            self.tls.read().map_err(|error| refuse(Chain(&error).to_string()))?;
        }
        Ok(self.tls.clone())
    }

    fn form(&self) -> Result<MessageForm, BadConfiguration> {
        let source = &self.cloudevents_source;
        if source.is_empty() || source.chars().any(|char| char.is_whitespace() || char.is_control()) {
            let why = "it is not a URI reference; allowed is for example /shop or https://shop.example/orders";
            return Err(BadConfiguration::new("--cloudevents-source (STREAMBOX_CLOUDEVENTS_SOURCE)", source, why));
        }
        let (format, cloudevents_source) = (self.message_format, source.clone());
        Ok(MessageForm { format, cloudevents_source, ..MessageForm::default() })
    }

    fn uri(&self) -> Result<AMQPUri, BadConfiguration> {
        let setting = "--amqp-url (STREAMBOX_AMQP_URL)";
        parse_url(&self.amqp_url).map_err(|why| BadConfiguration::new(setting, without_password(&self.amqp_url), why))
    }

    fn exchange(&self) -> Result<ShortString, BadConfiguration> {
        let refuse = |why| Err(BadConfiguration::new("--exchange (STREAMBOX_EXCHANGE)", &self.exchange, why));
        if self.exchange.is_empty() {
            return refuse("it is empty; the default exchange can't be used, since it knows no topics");
        }
        if self.exchange.starts_with("amq.") {
            return refuse("names that begin with `amq.` are the broker's own");
        }
        ShortString::try_new(self.exchange.as_str()).or_else(|_| refuse("it has more than 255 bytes"))
    }
}

impl ReplayOptions {
    /// What to replay, where to, and how fast.
    ///
    /// # Errors
    /// [`BadConfiguration`] names the setting, its value and what is allowed.
    pub fn settings(&self) -> Result<ReplaySettings, BadConfiguration> {
        let mut broker = self.broker.settings()?;
        broker.form.queue = self.queue.as_deref().map(queue).transpose()?;
        let from_ms = self.from_time.as_deref().map(|text| time_ms("--from-time", text)).transpose()?;
        let to_ms = self.to_time.as_deref().map(|text| time_ms("--to-time", text)).transpose()?;
        if let (Some(from), Some(to)) = (from_ms, to_ms)
            && from >= to
        {
            let why = "it is not later than --from-time: nothing is between the two";
            return Err(BadConfiguration::new("--to-time", self.to_time.clone().unwrap_or_default(), why));
        }
        Ok(ReplaySettings { of: self.of()?, from_ms, to_ms, broker, rate: self.rate })
    }

    fn of(&self) -> Result<Of, BadConfiguration> {
        if let Some(stream) = &self.of.stream {
            let (from, to) = (self.from_version.unwrap_or(1), self.to_version);
            if let Some(to) = to.filter(|to| *to < from) {
                let why = format!("it is less than the first version, {from}");
                return Err(BadConfiguration::new("--to-version", to.to_string(), why));
            }
            return Ok(Of::Stream { stream: stream.clone(), from, to });
        }
        match &self.of.category {
            None => Ok(Of::All),
            Some(category) if category.contains('-') || StreamId::new(format!("{category}-id")).is_err() => {
                let why = "it is not a category; allowed is the part of a stream id before its first `-`";
                Err(BadConfiguration::new("--category", category, why))
            }
            Some(category) => Ok(Of::Category(category.clone())),
        }
    }
}

fn queue(name: &str) -> Result<ShortString, BadConfiguration> {
    if name.is_empty() {
        return Err(BadConfiguration::new("--queue", name, "it is empty"));
    }
    ShortString::try_new(name).map_err(|_| BadConfiguration::new("--queue", name, "it has more than 255 bytes"))
}

fn time_ms(setting: &'static str, text: &str) -> Result<i64, BadConfiguration> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    let why = "it is not a time; allowed is RFC 3339, for example 2026-01-31T00:00:00Z";
    time.and_then(|time| i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok())
        .ok_or_else(|| BadConfiguration::new(setting, text, why))
}
