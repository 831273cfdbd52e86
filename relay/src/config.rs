//! The program's settings: flags, each with an environment variable, checked before anything is begun.

use std::{str::FromStr as _, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use lapin::{types::ShortString, uri::AMQPUri};
use streambox::{limits::MAX_WORKER_ID_BYTES, outbox::WorkerId};

use crate::{
    broker::{BrokerSettings, Unroutable},
    core::{Bounds, GroupSettings, LEAST_TIMEOUT_INTERVALS},
    relay::RelaySettings,
};

const AFTER_HELP: &str = "\
AWS's own settings are found as by every AWS program: AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_DYNAMODB, roles …

Exit codes: 0 done, 1 failed, 2 usage, 78 bad configuration.";

/// Publishes the outbox of a streambox event store to RabbitMQ: at least once, in stream order.
#[derive(Debug, Parser)]
#[command(name = "streambox-relay", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Publish what is pending and whatever is appended, until told to stop (SIGTERM, Ctrl-C).
    Run(Options),
    /// Publish until nothing is pending, then exit: 0 if all was published, 1 if a stream is halted.
    Drain(Options),
}

/// The form of what is printed at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A sentence.
    Text,
    /// One JSON object.
    Json,
}

/// The settings.
#[derive(Debug, Args)]
pub struct Options {
    /// The table.
    #[arg(long, env = "STREAMBOX_TABLE", default_value = "streambox")]
    pub table: String,

    /// The broker, for example `amqp://user:password@host:5672/vhost`.
    #[arg(long, env = "STREAMBOX_AMQP_URL", hide_env_values = true)]
    pub amqp_url: String,

    /// The topic exchange; it is declared, durable, where it does not exist.
    #[arg(long, env = "STREAMBOX_EXCHANGE", default_value = "streambox")]
    pub exchange: String,

    /// What to do with a message that no queue takes.
    #[arg(long, env = "STREAMBOX_UNROUTABLE", value_enum, default_value = "halt")]
    pub unroutable: Unroutable,

    /// Shortest time from one scan of the index to the next, in milliseconds. An idle scan costs half a read unit.
    #[arg(long, env = "STREAMBOX_POLL_INTERVAL_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub poll_interval_ms: u64,

    /// Longest time to finish what is in flight when told to stop, in milliseconds.
    #[arg(long, env = "STREAMBOX_DRAIN_TIMEOUT_MS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(..=600_000))]
    pub drain_timeout_ms: u64,

    /// Connections that publish at the same time, each with one channel.
    #[arg(long, env = "STREAMBOX_PUBLISHERS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub publishers: u16,

    /// Most events in one batch; all of a batch are confirmed before anything is concluded from it.
    #[arg(long, env = "STREAMBOX_BATCH_EVENTS", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub batch_events: u16,

    /// Most streams that are worked on at the same time.
    #[arg(long, env = "STREAMBOX_MAX_STREAMS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_streams: u32,

    /// Most bytes of events that are held in memory, in MiB.
    #[arg(long, env = "STREAMBOX_MAX_BUFFERED_MIB", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub max_buffered_mib: u16,

    /// Appends to one stream that are closer than this by their writers' clocks, in milliseconds, are published only when
    /// it is sure that the earlier one is: it may become visible later. Longer than the clocks of any two writers are apart;
    /// the default bears clocks that are wrong by an hour.
    #[arg(long, env = "STREAMBOX_SETTLE_WINDOW_MS", default_value_t = 10_800_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    pub settle_window_ms: u32,

    /// This worker's name in its group, which no other running worker may have; one that stays the same over restarts lets
    /// a worker that was killed go on at once. By default host, process id and a random number.
    #[arg(long, env = "STREAMBOX_WORKER_ID")]
    pub worker_id: Option<String>,

    /// Time from one heartbeat to the next, in milliseconds. A heartbeat costs one write unit and one read unit.
    #[arg(long, env = "STREAMBOX_HEARTBEAT_INTERVAL_MS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    pub heartbeat_interval_ms: u32,

    /// After this time without a heartbeat, in milliseconds, a worker's streams go to the others; at least twice the
    /// interval.
    #[arg(long, env = "STREAMBOX_WORKER_TIMEOUT_MS", default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(..=600_000))]
    pub worker_timeout_ms: u32,

    /// The form of the summary on standard output.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,

    /// What is logged to standard error: a level, or tracing's directives.
    #[arg(long, env = "STREAMBOX_LOG", default_value = "info,lapin=off")]
    pub log: String,
}

/// A setting that can't be used: which one, its value, and what is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{setting} = {value:?}: {why}")]
pub struct BadConfiguration {
    /// Flag and environment variable.
    pub setting: &'static str,
    /// What it was set to; a password in it is left out.
    pub value: String,
    /// What is wrong, and what is allowed.
    pub why: String,
}

impl Options {
    /// Checks everything that the command line's grammar can't.
    ///
    /// # Errors
    /// [`BadConfiguration`] names the setting, its value and what is allowed.
    pub fn settings(&self) -> Result<RelaySettings, BadConfiguration> {
        let broker = BrokerSettings { uri: self.uri()?, exchange: self.exchange()?, unroutable: self.unroutable };
        let bounds = Bounds {
            max_streams: self.max_streams as usize,
            max_batch_events: usize::from(self.batch_events),
            max_buffered_bytes: usize::from(self.max_buffered_mib) * 1024 * 1024,
            settle_window: Duration::from_millis(self.settle_window_ms.into()),
            ..Bounds::default()
        };
        Ok(RelaySettings {
            broker,
            bounds,
            publishers: usize::from(self.publishers),
            poll_interval: Duration::from_millis(self.poll_interval_ms),
            drain_timeout: Duration::from_millis(self.drain_timeout_ms),
            group: Some(self.group()?),
        })
    }

    fn group(&self) -> Result<GroupSettings, BadConfiguration> {
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

    fn uri(&self) -> Result<AMQPUri, BadConfiguration> {
        AMQPUri::from_str(&self.amqp_url).map_err(|why| BadConfiguration {
            setting: "--amqp-url (STREAMBOX_AMQP_URL)",
            value: without_password(&self.amqp_url),
            why: format!("{why}; allowed is amqp:// or amqps://, then user:password@host:port/vhost, percent-encoded"),
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

fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        (None, Some(at)) => format!("…{}", &url[at..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &[&str]) -> Result<RelaySettings, String> {
        let line = ["streambox-relay", "drain"].into_iter().chain(flags.iter().copied());
        let Command::Drain(options) = Cli::parse_from(line).command else { panic!() };
        options.settings().map_err(|bad| bad.to_string())
    }

    #[test]
    fn a_bad_setting_is_named_with_its_value_and_what_is_allowed() {
        let error = settings(&["--amqp-url", "http://u:secret@h/"]).unwrap_err();
        assert!(error.contains("--amqp-url") && error.contains("amqps://") && error.contains("@h/"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let error = settings(&["--amqp-url", "amqp://h", "--exchange", "amq.topic"]).unwrap_err();
        assert!(error.contains("--exchange") && error.contains("amq.topic"), "{error}");
        assert!(settings(&["--amqp-url", "amqp://h", "--exchange", ""]).is_err());
    }

    #[test]
    fn a_group_needs_a_name_and_a_timeout_that_one_late_heartbeat_does_not_reach() {
        let group = |flags: &[&str]| {
            let flags: Vec<_> = ["--amqp-url", "amqp://h"].iter().chain(flags).copied().collect();
            settings(&flags).map(|settings| settings.group.unwrap())
        };
        let (first, second) = (group(&[]).unwrap(), group(&[]).unwrap());
        assert_ne!(first.id, second.id, "two workers never have the same id by default");
        assert_eq!(first, GroupSettings::new(first.id.clone()), "the defaults of the flags are those of the library");
        assert_eq!(group(&["--worker-id", "relay-1"]).unwrap().id.as_str(), "relay-1");
        assert!(group(&["--worker-id", ""]).unwrap_err().contains("--worker-id"));
        let error = group(&["--heartbeat-interval-ms", "5000", "--worker-timeout-ms", "9999"]).unwrap_err();
        assert!(error.contains("--worker-timeout-ms") && error.contains("9999") && error.contains("10000"), "{error}");
    }

    #[test]
    fn the_defaults_of_the_flags_are_the_defaults_of_the_library() {
        let (bounds, defaults) = (settings(&["--amqp-url", "amqp://h"]).unwrap().bounds, Bounds::default());
        assert_eq!(format!("{bounds:?}"), format!("{defaults:?}"));
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
