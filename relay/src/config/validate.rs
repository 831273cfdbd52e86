//! Checks everything that the command line's grammar can't, and turns it into settings.

use std::{num::NonZeroUsize, time::Duration};

use lapin::{types::ShortString, uri::AMQPUri};
use streambox::{StreamId, limits::MAX_WORKER_ID_BYTES, outbox::WorkerId};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    cli::{BrokerOptions, GroupOptions, RelayOptions, ReplayOptions, RunOptions, WorkOptions},
    error::BadConfiguration,
};
use crate::{
    broker::{BrokerSettings, MessageForm, parse_url, without_password},
    core::{Bounds, GroupSettings, LEAST_TIMEOUT_INTERVALS},
    relay::RelaySettings,
    replay::{Of, ReplaySettings},
};

impl RelayOptions {
    /// The relay's settings.
    ///
    /// # Errors
    /// [`BadConfiguration`] names the setting, its value and what is allowed.
    pub fn settings(&self) -> Result<RelaySettings, BadConfiguration> {
        Ok(RelaySettings {
            broker: self.broker.settings()?,
            bounds: self.work.bounds()?,
            publishers: usize::from(self.work.publishers),
            poll_interval: Duration::from_millis(self.work.poll_interval_ms),
            drain_timeout: Duration::from_millis(self.work.drain_timeout_ms),
            group: None,
        })
    }
}

impl RunOptions {
    /// The relay's settings, those of its group included.
    ///
    /// # Errors
    /// As [`RelayOptions::settings`].
    pub fn settings(&self) -> Result<RelaySettings, BadConfiguration> {
        Ok(RelaySettings { group: Some(self.group.settings()?), ..self.relay.settings()? })
    }
}

impl GroupOptions {
    fn settings(&self) -> Result<GroupSettings, BadConfiguration> {
        let id = self.worker_id.clone().unwrap_or_else(unique_worker_id);
        let id = WorkerId::new(&id).map_err(|why| BadConfiguration {
            setting: "--worker-id (STREAMBOX_WORKER_ID)",
            value: id,
            why: why.to_string(),
        })?;
        let least_ms = self.heartbeat_interval_ms * LEAST_TIMEOUT_INTERVALS;
        if self.worker_timeout_ms < least_ms {
            return Err(BadConfiguration {
                setting: "--worker-timeout-ms (STREAMBOX_WORKER_TIMEOUT_MS)",
                value: self.worker_timeout_ms.to_string(),
                why: format!(
                    "it has to be at least {LEAST_TIMEOUT_INTERVALS} heartbeat intervals, that is {least_ms}: one \
                     heartbeat that comes late is no death"
                ),
            });
        }
        Ok(GroupSettings {
            id,
            heartbeat_interval: Duration::from_millis(self.heartbeat_interval_ms.into()),
            timeout: Duration::from_millis(self.worker_timeout_ms.into()),
        })
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
    fn bounds(&self) -> Result<Bounds, BadConfiguration> {
        let (first, longest) = (self.retry_delay_ms, self.max_retry_delay_ms);
        if longest < first {
            return Err(BadConfiguration {
                setting: "--max-retry-delay-ms (STREAMBOX_MAX_RETRY_DELAY_MS)",
                value: longest.to_string(),
                why: format!("it is less than --retry-delay-ms, which is {first}; allowed is {first} or more"),
            });
        }
        Ok(Bounds {
            max_streams: self.max_streams as usize,
            max_reads: usize::from(self.max_reads),
            max_batch_events: usize::from(self.batch_events),
            max_batch_bytes: self.batch_kib as usize * 1024,
            max_suspects: usize::from(self.max_suspects),
            max_buffered_bytes: usize::from(self.max_buffered_mib) * 1024 * 1024,
            remembered_streams: NonZeroUsize::new(self.remembered_streams as usize).unwrap_or(NonZeroUsize::MIN),
            settle_window: Duration::from_millis(self.settle_window_ms.into()),
            first_delay: Duration::from_millis(first.into()),
            longest_delay: Duration::from_millis(longest.into()),
            ..Bounds::default()
        })
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
        (broker.tls, broker.timeouts) = self
            .link
            .settings(&broker.uri)
            .map_err(|(setting, path, why)| BadConfiguration { setting, value: path.display().to_string(), why })?;
        Ok(broker)
    }

    fn form(&self) -> Result<MessageForm, BadConfiguration> {
        let source = &self.cloudevents_source;
        if source.is_empty() || source.chars().any(|char| char.is_whitespace() || char.is_control()) {
            return Err(BadConfiguration {
                setting: "--cloudevents-source (STREAMBOX_CLOUDEVENTS_SOURCE)",
                value: source.clone(),
                why: "it is no URI reference; allowed is for example /shop or https://shop.example/orders".to_owned(),
            });
        }
        let (format, cloudevents_source) = (self.message_format, source.clone());
        Ok(MessageForm { format, cloudevents_source, ..MessageForm::default() })
    }

    fn uri(&self) -> Result<AMQPUri, BadConfiguration> {
        parse_url(&self.amqp_url).map_err(|why| BadConfiguration {
            setting: "--amqp-url (STREAMBOX_AMQP_URL)",
            value: without_password(&self.amqp_url),
            why,
        })
    }

    fn exchange(&self) -> Result<ShortString, BadConfiguration> {
        let refuse = |why: &str| {
            let setting = "--exchange (STREAMBOX_EXCHANGE)";
            Err(BadConfiguration { setting, value: self.exchange.clone(), why: why.to_owned() })
        };
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
            let value = self.to_time.clone().unwrap_or_default();
            let why = "it is not later than --from-time: nothing is between the two".to_owned();
            return Err(BadConfiguration { setting: "--to-time", value, why });
        }
        Ok(ReplaySettings { of: self.of()?, from_ms, to_ms, broker, rate: self.rate })
    }

    fn of(&self) -> Result<Of, BadConfiguration> {
        if let Some(stream) = &self.of.stream {
            let (from, to) = (self.from_version.unwrap_or(1), self.to_version);
            if let Some(to) = to.filter(|to| *to < from) {
                let why = format!("it is less than the first version, {from}");
                return Err(BadConfiguration { setting: "--to-version", value: to.to_string(), why });
            }
            return Ok(Of::Stream { stream: stream.clone(), from, to });
        }
        match &self.of.category {
            None => Ok(Of::All),
            Some(category) if category.contains('-') || StreamId::new(format!("{category}-id")).is_err() => {
                let why = "it is no category; allowed is what stands before the first `-` of a stream id".to_owned();
                Err(BadConfiguration { setting: "--category", value: category.clone(), why })
            }
            Some(category) => Ok(Of::Category(category.clone())),
        }
    }
}

fn queue(name: &str) -> Result<ShortString, BadConfiguration> {
    let refuse = |why: &str| BadConfiguration { setting: "--queue", value: name.to_owned(), why: why.to_owned() };
    if name.is_empty() {
        return Err(refuse("it is empty"));
    }
    ShortString::try_new(name).map_err(|_| refuse("it has more than 255 bytes"))
}

fn time_ms(setting: &'static str, text: &str) -> Result<i64, BadConfiguration> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    time.and_then(|time| i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()).ok_or_else(|| BadConfiguration {
        setting,
        value: text.to_owned(),
        why: "it is no time; allowed is RFC 3339, for example 2026-01-31T00:00:00Z".to_owned(),
    })
}
