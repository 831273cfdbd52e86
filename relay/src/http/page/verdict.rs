//! What stands at the top of the page: how the relay is, and what to do.

use std::time::Duration;

use super::grouped;
use crate::{
    broker::{Link, UNROUTABLE_RUN},
    text::how_long,
    view::{BEHIND_AFTER, BrokerTrouble, View},
};

/// A backlog is compared with that of this long ago, and an error of the last minute is taken as the cause.
const RECENT: Duration = Duration::from_mins(1);

/// A relay works on 512 streams at once: with fewer than this many pending, each of them waits for its own confirms alone.
const FEW_STREAMS: u64 = 16;

/// How bad it is: its class in the style sheet, and a sign beside its colour, for readers who can't distinguish colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) class: &'static str,
    pub(super) sign: &'static str,
}

impl Level {
    pub(super) const GOOD: Self = Self { class: "good", sign: "✓" };
    pub(super) const WARNING: Self = Self { class: "warning", sign: "!" };
    pub(super) const BAD: Self = Self { class: "bad", sign: "✕" };
}

/// How the relay is, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) level: Level,
    pub(super) title: String,
    pub(super) advice: String,
    /// For how long it has been like this, if that is known and not in the title.
    pub(super) lasting: Option<Duration>,
}

impl Verdict {
    fn new(level: Level, title: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level, title: title.into(), advice: advice.into(), lasting: None }
    }

    fn lasting(self, lasting: impl Into<Option<Duration>>) -> Self {
        Self { lasting: lasting.into(), ..self }
    }
}

/// The worst comes first.
pub(super) fn verdict(view: &View) -> Verdict {
    if let Some(reason) = &view.not_live {
        return Verdict::new(
            Level::BAD,
            "The relay is stuck",
            format!("{reason}. Restart it; nothing is lost by that."),
        );
    }
    if view.is_stopping {
        let advice = "It was asked to stop: what is in flight is finished, and nothing new is begun.";
        return Verdict::new(Level::WARNING, "The relay is stopping", advice);
    }
    match view.broker_trouble() {
        None => {}
        Some(BrokerTrouble::Blocked(why)) => {
            let advice = format!(
                "RabbitMQ has an alarm of memory or disk ({why}) and blocks everybody who publishes. Free some on the broker: the \
                 relay then continues by itself. Nothing is lost; events stay pending."
            );
            let blocked = view.connections.iter().filter(|one| one.link == Link::Blocked);
            let lasting = blocked.map(|one| one.since.elapsed()).max();
            return Verdict::new(Level::BAD, "The broker takes no messages", advice).lasting(lasting);
        }
        Some(BrokerTrouble::Connecting) => {
            let advice = "It takes a moment. If it stays like this: is the broker up, and --amqp-url right?";
            return Verdict::new(Level::WARNING, "Connecting to the broker", advice).lasting(without_connection(view));
        }
        Some(BrokerTrouble::Lost(error)) => {
            let advice = format!(
                "{error}. The relay tries again for ever and events stay pending: is the broker up, and --amqp-url right?"
            );
            return Verdict::new(Level::BAD, "No connection to the broker", advice).lasting(without_connection(view));
        }
        Some(BrokerTrouble::Silent(time)) => {
            let advice = format!(
                "It is connected, but has confirmed nothing for {}. Events stay pending: look at the broker's log and \
                 queues, a quorum queue without a majority for instance.",
                how_long(time)
            );
            return Verdict::new(Level::BAD, "The broker confirms nothing", advice).lasting(time);
        }
    }
    if let Some(refused) = view.relay.refused.first() {
        let advice =
            format!("{}. The relay tries again for ever, and continues by itself when that is fixed.", refused.text);
        return Verdict::new(Level::BAD, "DynamoDB refuses a request", advice);
    }
    if let Some(reason) = view.not_ready.first() {
        let error = view.relay.last_error.as_ref().map_or_else(String::new, |error| format!(": {}", error.text));
        let advice =
            format!("{reason}{error}. Events stay pending: look at DynamoDB, the role's permissions, the network.");
        let lasting = view.relay.backlog.map(|backlog| backlog.at.elapsed());
        return Verdict::new(Level::BAD, "The table can't be read", advice).lasting(lasting);
    }
    if view.relay.halted_streams > 0 {
        let (streams, are) = if view.relay.halted_streams == 1 { ("stream", "is") } else { ("streams", "are") };
        let title = format!("{} {streams} {are} halted", view.relay.halted_streams);
        let advice = "All others are published. Halted ones are retried automatically: fix the cause named below, or give up on \
                      one entry with the command beside it.";
        let longest = view.relay.halted.iter().map(|halt| view.age(halt.since_ms)).max();
        return Verdict::new(Level::BAD, title, advice).lasting(longest);
    }
    if view.unroutable_run >= UNROUTABLE_RUN {
        let title = format!("The last {} events reached no queue", grouped(view.unroutable_run));
        let advice = format!(
            "They count as published (--unroutable accept). If exchange {} was deleted and declared again, it has lost its \
             bindings: bind the queues again, and publish what they missed with streambox-relay replay.",
            view.about.exchange
        );
        return Verdict::new(Level::WARNING, title, advice);
    }
    let lost: Vec<_> = view.connections.iter().filter(|one| one.link == Link::Connecting).collect();
    if let Some(error) = lost.iter().find_map(|one| one.last_error.as_deref()) {
        let (lost, all) = (lost.len(), view.connections.len());
        let title = format!("{lost} of {all} connections to the broker {} down", if lost == 1 { "is" } else { "are" });
        let advice = format!("{error}. The relay tries again for ever; meanwhile everything goes over the others.");
        return Verdict::new(Level::WARNING, title, advice);
    }
    if let Some((title, advice)) = behind(view) {
        return Verdict::new(Level::WARNING, title, advice);
    }
    let is_empty = view.relay.backlog.as_ref().is_none_or(|backlog| backlog.entries == 0);
    let title = if is_empty { "Everything is published" } else { "All is well: publishing" };
    Verdict::new(Level::GOOD, title, "Connected, reading the table, no stream halted, nothing old pending.")
}

/// How long ago the last connection ended.
fn without_connection(view: &View) -> Option<Duration> {
    view.connections.iter().map(|one| one.since.elapsed()).min()
}

/// The title and advice for an old backlog. The advice is to start more relays only if they help: what is old can be published, the broker
/// and DynamoDB answer, the backlog does not shrink, and it is of enough streams to be shared out.
fn behind(view: &View) -> Option<(String, String)> {
    let backlog = view.relay.backlog?;
    let is_old = |age: &Duration| *age > BEHIND_AFTER;
    if let Some(age) = view.oldest_workable_age().filter(is_old) {
        let failing = view.relay.last_error.as_ref().filter(|error| error.at.elapsed() < RECENT);
        let advice = match (shrinks(view), failing) {
            (None, _) => "Within a minute this page shows whether the backlog shrinks.".to_owned(),
            (Some(true), _) => "The backlog shrinks: the relay catches up.".to_owned(),
            (Some(false), Some(error)) => format!(
                "The backlog does not shrink, and requests to DynamoDB fail: {}. More relays would not help.",
                error.text
            ),
            (Some(false), None) if backlog.workable_streams < FEW_STREAMS => format!(
                "The backlog does not shrink. It is of {} streams only, and a stream is published one event at a time, so \
                 more relays would not help: look at how long the broker takes to confirm (confirm_seconds).",
                backlog.workable_streams
            ),
            (Some(false), None) => {
                "The backlog does not shrink: start more relays. If that does not help, look at how \
                 long the broker takes to confirm (confirm_seconds)."
                    .to_owned()
            }
        };
        return Some((format!("Behind: the oldest entry is {} old", how_long(age)), advice));
    }
    let age = view.oldest_age().filter(is_old).filter(|_| view.relay.workers.len() > 1)?;
    let advice = "This worker keeps up with its own streams. The pages of the others, or streambox-relay status, show why \
                  that one is late.";
    Some((format!("An entry of another worker is {} old", how_long(age)), advice.to_owned()))
}

/// Whether there is less pending than some time ago; none if that is not known yet.
fn shrinks(view: &View) -> Option<bool> {
    let now = view.history.last()?;
    let began_ms = now.at_ms.saturating_sub(i64::try_from(RECENT.as_millis()).unwrap_or(i64::MAX));
    let before = view.history.iter().rfind(|sample| sample.at_ms <= began_ms)?;
    Some(now.entries? < before.entries?)
}
