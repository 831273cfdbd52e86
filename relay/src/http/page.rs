//! The status page: made here, as a whole, each time it is asked for. Its script only asks for it again and puts the new content
//! in place, so HTML is written in one place. Stream ids, reasons and errors come from outside: [`maud`] escapes every value, and
//! what can't be seen is made visible on the finished page.

mod plot;

use std::time::Duration;

use maud::{DOCTYPE, Markup, html};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    broker::{Link, PublisherState, UNROUTABLE_RUN},
    model::HaltedStream,
    text::{by_reason, how_long, iso_8601, one_line, shortened, skip_command},
    view::{BEHIND_AFTER, BrokerTrouble, Sample, View},
};

/// Most characters of a stream id in a row; the whole one is a click away.
const MAX_ID_CHARS: usize = 60;

/// Streams of a group that are shown at once; the others are a click away.
const SHOWN_OF_GROUP: usize = 5;

/// A backlog is compared with that of this long ago, and an error of the last minute is taken as the cause.
const RECENT: Duration = Duration::from_mins(1);

/// A relay works on 512 streams at once: with fewer than this many pending, each of them waits for its own confirms alone.
const FEW_STREAMS: u64 = 16;

/// The style sheet.
pub(super) const STYLE: &str = include_str!("page/page.css");
/// The script.
pub(super) const SCRIPT: &str = include_str!("page/page.js");
/// The icon.
pub(super) const ICON: &str = include_str!("page/icon.svg");

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Good,
    Warning,
    Bad,
}

impl Level {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }

    /// Beside its colour, for readers who can't distinguish colours.
    fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Warning => "!",
            Self::Bad => "✕",
        }
    }
}

/// What stands at the top: how it is, and what to do.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    level: Level,
    title: String,
    advice: String,
}

impl Verdict {
    fn new(level: Level, title: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level, title: title.into(), advice: advice.into() }
    }
}

/// The page.
pub(super) fn page(view: &View) -> String {
    let Verdict { level, title, advice } = verdict(view);
    let about = &view.about;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (level.sign()) " " (title) " · streambox-relay" }
                link rel="icon" href="icon.svg";
                link rel="stylesheet" href="page.css";
                noscript { meta http-equiv="refresh" content="5"; }
                script src="page.js" defer {}
            }
            body {
                header {
                    h1 { "streambox-relay" }
                    p {
                        b { (about.worker.as_deref().unwrap_or("a relay without a group")) }
                        " · table " b { (about.table) } " → exchange " b { (about.exchange) }
                    }
                    p #silence role="alert" hidden {}
                }
                main #content data-taken=(view.taken_at_ms) {
                    section class={ "verdict " (level.class()) } role="status" {
                        span .sign aria-hidden="true" { (level.sign()) }
                        div { h2 { (title) } p { (advice) } }
                    }
                    (tiles(view))
                    (facts(view))
                    (halted(view))
                    (connections(&view.connections))
                    (workers(view))
                }
                footer {
                    p {
                        "Version " (view.version) ", at " (iso_8601(view.taken_at_ms))
                        ". An age is this machine's time less the time that an appender gave its event. "
                        a href="status.json" { "status.json" } " " a href="metrics" { "metrics" } " "
                        a href="readyz" { "readyz" }
                    }
                }
            }
        }
    };
    one_line(&page.into_string())
}

/// The worst comes first.
fn verdict(view: &View) -> Verdict {
    if let Some(reason) = &view.not_live {
        return Verdict::new(
            Level::Bad,
            "The relay is stuck",
            format!("{reason}. Restart it; nothing is lost by that."),
        );
    }
    if view.is_stopping {
        let advice = "It was told to: what is in flight is finished, and nothing new is begun.";
        return Verdict::new(Level::Warning, "The relay is stopping", advice);
    }
    match view.broker_trouble() {
        None => {}
        Some(BrokerTrouble::Blocked(why)) => {
            let advice = format!(
                "An alarm of memory or disk ({why}): free some on the broker. The relay waits, nothing is lost."
            );
            return Verdict::new(Level::Bad, "The broker takes no messages", advice);
        }
        Some(BrokerTrouble::Connecting) => {
            let advice = "It takes a moment. If it stays like this: is the broker up, and --amqp-url right?";
            return Verdict::new(Level::Warning, "Connecting to the broker", advice);
        }
        Some(BrokerTrouble::Lost(error)) => {
            let advice = format!(
                "{error}. The relay tries again for ever and events stay pending: is the broker up, and --amqp-url right?"
            );
            return Verdict::new(Level::Bad, "No connection to the broker", advice);
        }
        Some(BrokerTrouble::Silent(time)) => {
            let advice = format!(
                "It is connected, but has confirmed nothing for {}. Events stay pending: look at the broker's log and \
                 queues, a quorum queue without a majority for instance.",
                how_long(time)
            );
            return Verdict::new(Level::Bad, "The broker confirms nothing", advice);
        }
    }
    if let Some(refused) = view.relay.refused.first() {
        let advice =
            format!("{}. The relay tries again for ever, and continues by itself when that is fixed.", refused.text);
        return Verdict::new(Level::Bad, "DynamoDB refuses a request", advice);
    }
    if let Some(reason) = view.not_ready.first() {
        let error = view.relay.last_error.as_ref().map_or_else(String::new, |error| format!(": {}", error.text));
        let advice =
            format!("{reason}{error}. Events stay pending: look at DynamoDB, the role's permissions, the network.");
        return Verdict::new(Level::Bad, "The table can't be read", advice);
    }
    if view.relay.halted_streams > 0 {
        let (streams, are) = if view.relay.halted_streams == 1 { ("stream", "is") } else { ("streams", "are") };
        let title = format!("{} {streams} {are} halted", view.relay.halted_streams);
        let advice = "All others are published. Halted ones are retried automatically: fix the cause named below, or give up on \
                      one entry with the command beside it.";
        return Verdict::new(Level::Bad, title, advice);
    }
    if view.unroutable_run >= UNROUTABLE_RUN {
        let title = format!("The last {} events reached no queue", grouped(view.unroutable_run));
        let advice = format!(
            "They count as published (--unroutable accept). If exchange {} was deleted and declared anew, it has lost its \
             bindings: bind the queues again, and publish what they missed with streambox-relay replay.",
            view.about.exchange
        );
        return Verdict::new(Level::Warning, title, advice);
    }
    let lost: Vec<_> = view.connections.iter().filter(|one| one.link == Link::Connecting).collect();
    if let Some(error) = lost.iter().find_map(|one| one.last_error.as_deref()) {
        let (lost, all) = (lost.len(), view.connections.len());
        let title = format!("{lost} of {all} connections to the broker {} down", if lost == 1 { "is" } else { "are" });
        let advice = format!("{error}. It is tried again for ever; everything goes over the others meanwhile.");
        return Verdict::new(Level::Warning, title, advice);
    }
    if let Some((title, advice)) = behind(view) {
        return Verdict::new(Level::Warning, title, advice);
    }
    let is_empty = view.relay.backlog.as_ref().is_none_or(|backlog| backlog.entries == 0);
    let title = if is_empty { "Everything is published" } else { "All is well: publishing" };
    Verdict::new(Level::Good, title, "Connected, reading the table, no stream halted, nothing old pending.")
}

/// What is said of an old backlog. More relays are the advice only if they help: what is old can be published, the broker
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
    let advice = "This worker keeps up with its own streams. The pages of the others, or streambox-relay status, show what \
                  holds that one up.";
    Some((format!("An entry of another worker is {} old", how_long(age)), advice.to_owned()))
}

/// Whether there is less pending than some time ago; none if that is not known yet.
fn shrinks(view: &View) -> Option<bool> {
    let now = view.history.last()?;
    let began_ms = now.at_ms.saturating_sub(i64::try_from(RECENT.as_millis()).unwrap_or(i64::MAX));
    let before = view.history.iter().rfind(|sample| sample.at_ms <= began_ms)?;
    Some(now.entries? < before.entries?)
}

fn tiles(view: &View) -> Markup {
    let at_least = if view.relay.backlog.is_some_and(|backlog| backlog.at_least) { "≥ " } else { "" };
    let entries = view.relay.backlog.map(|backlog| format!("{at_least}{}", grouped(backlog.entries)));
    let rate = view.history.last().map_or(0.0, |sample| sample.published_per_second);
    let times: Vec<_> = view.history.iter().map(|sample| sample.at_ms).collect();
    let plot = |what: &str, value: fn(&Sample) -> f64, label| {
        plot::svg(what, &times, &view.history.iter().map(value).collect::<Vec<_>>(), label)
    };
    #[expect(clippy::cast_precision_loss, reason = "a height in a plot")]
    let pending = plot("pending entries", |sample| sample.entries.unwrap_or(0) as f64, plot::count);
    let ages = plot("age of the oldest entry", |sample| sample.oldest_age_seconds, plot::seconds);
    let rates = plot("events published in a second", |sample| sample.published_per_second, plot::count);
    let unknown = || "–".to_owned();
    html! {
        section .tiles {
            (tile("Pending entries", &html! { (entries.unwrap_or_else(unknown)) }, &pending))
            (tile("Oldest pending", &html! { (view.oldest_age().map_or_else(unknown, how_long)) }, &ages))
            (tile("Published", &html! { (format!("{rate:.0} ")) small { "events/s" } }, &rates))
        }
    }
}

fn tile(title: &str, value: &Markup, plot: &Markup) -> Markup {
    html! { div .tile { h3 { (title) } p .value { (value) } (plot) } }
}

fn facts(view: &View) -> Markup {
    let halted = view.relay.backlog.map_or(0, |backlog| backlog.halted_entries);
    html! {
        p .facts {
            "Since the start: " b { (grouped(view.relay.totals.published)) } " events published, "
            b { (grouped(view.relay.totals.deleted)) } " entries deleted. At work: "
            b { (grouped(view.relay.open_streams as u64)) } " streams, "
            b { (grouped(view.relay.buffered_bytes as u64 / 1024)) } " KiB held."
            @if halted > 0 { " Of halted streams: " b { (grouped(halted)) } " of the pending entries." }
            @if view.unroutable > 0 {
                " " b { (grouped(view.unroutable)) } " events reached no queue (" code { "--unroutable accept" } ")."
            }
        }
    }
}

fn halted(view: &View) -> Markup {
    let halted = &view.relay.halted;
    let unlisted = view.relay.halted_streams.saturating_sub(halted.len());
    html! {
        section #halted {
            h2 { "Halted streams" }
            @if view.relay.halted_streams == 0 {
                p .none { "None." }
            } @else {
                @for (reason, group) in by_reason(halted, |halt| &halt.reason) {
                    @let (shown, more) = group.split_at(group.len().min(SHOWN_OF_GROUP));
                    div .group {
                        p .why {
                            @if group.len() > 1 { b { (group.len()) " streams" } " " }
                            (reason)
                        }
                        (halted_table(view, shown))
                        @if !more.is_empty() {
                            details #{ "more-" (id(reason)) } {
                                summary { (more.len()) " more" }
                                (halted_table(view, more))
                            }
                        }
                    }
                }
                @if unlisted > 0 { p { "And " (grouped(unlisted as u64)) " more, which the log names." } }
                p {
                    "They are retried automatically: fix the cause. The command gives up on publishing one entry, which is \
                     recorded with the reason that you put in the place of " code { "WHY" } "."
                }
            }
        }
    }
}

fn halted_table(view: &View, halted: &[&HaltedStream]) -> Markup {
    let rows = html! { @for halt in halted { (halted_row(view, halt)) } };
    table(&["Stream", "Version", "Since", "Tried", "To give up on it"], &rows)
}

fn halted_row(view: &View, halt: &HaltedStream) -> Markup {
    let HaltedStream { stream, version, since_ms, attempts, retry_at_ms, .. } = halt;
    let short = shortened(stream, MAX_ID_CHARS);
    let retry_in = Duration::from_millis(
        retry_at_ms.and_then(|at| u64::try_from(at.saturating_sub(view.taken_at_ms)).ok()).unwrap_or(0),
    );
    html! {
        tr {
            td .id {
                @if short == *stream { (short) } @else {
                    details #{ "id-" (id(stream)) } { summary { (short) } (stream) }
                }
            }
            td .number data-label="version" { @if *version == 0 { "unknown" } @else { (version) } }
            td data-label="since" { (how_long(view.age(*since_ms))) br; small { (iso_8601(*since_ms)) } }
            td data-label="tried" { (attempts) " times" br; small { "again in " (how_long(retry_in)) } }
            td .command {
                code .copy #{ "skip-" (id(stream)) } { (skip_command(&view.about.table, stream, *version)) }
            }
        }
    }
}

/// An id for the page that stands for a text.
fn id(text: &str) -> String {
    format!("{:x}", xxh3_64(text.as_bytes()))
}

fn connections(connections: &[PublisherState]) -> Markup {
    let rows = html! {
        @for (index, one) in connections.iter().enumerate() {
            tr {
                td .number { (index + 1) }
                td {
                    @let class = if one.link == Link::Connected { "good" } else { "bad" };
                    span class={ "pill " (class) } { (one.link.name()) }
                }
                td { (how_long(one.since.elapsed())) }
                td .number { (one.reconnects) }
                td .why { (one.blocked_because.as_deref().or(one.last_error.as_deref()).unwrap_or_default()) }
            }
        }
    };
    let columns = ["Connection", "State", "For", "Reconnects", "Last error"];
    html! { section #broker { h2 { "Broker" } (table(&columns, &rows)) } }
}

fn table(columns: &[&str], rows: &Markup) -> Markup {
    html! {
        div .scroll { table { thead { tr { @for column in columns { th { (column) } } } } tbody { (rows) } } }
    }
}

fn workers(view: &View) -> Markup {
    let workers = &view.relay.workers;
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    let share = 100.0 / workers.len() as f64;
    html! {
        section #workers {
            h2 { "Workers" }
            @if workers.is_empty() {
                p .none { "This relay runs outside of a group: every stream is its own." }
            } @else {
                p { (workers.len()) (format!(" live, each with {share:.0} % of the streams.")) }
                ul .workers {
                    @for worker in workers {
                        li {
                            (worker)
                            @if view.about.worker.as_ref() == Some(worker) { " " small { "(this one)" } }
                        }
                    }
                }
            }
        }
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
