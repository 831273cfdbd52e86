//! The status page: made here, as a whole, each time it is asked for. Its script only asks for it again and puts the new content
//! in place, so HTML is written in one place. Stream ids, reasons and errors come from outside: [`maud`] escapes every value, and
//! what can't be seen is made visible on the finished page.

mod plot;
mod verdict;

use std::time::Duration;

use maud::{DOCTYPE, Markup, html};
use xxhash_rust::xxh3::xxh3_64;

use self::verdict::{Level, Verdict, verdict};
use crate::{
    broker::{Link, PublisherState},
    model::HaltedStream,
    text::{by_reason, how_long, iso_8601, one_line, shell_word, shortened, skip_command},
    view::{Sample, View},
};

/// Most characters of a stream id in a row; the whole one is a click away.
const MAX_ID_CHARS: usize = 60;

/// Streams of a group that are shown at once; the others are a click away.
const SHOWN_OF_GROUP: usize = 5;

/// The style sheet.
pub(super) const STYLE: &str = include_str!("page/page.css");
/// The script.
pub(super) const SCRIPT: &str = include_str!("page/page.js");
/// The icon.
pub(super) const ICON: &str = include_str!("page/icon.svg");

/// The page.
pub(super) fn page(view: &View) -> String {
    let Verdict { level, title, advice, lasting } = verdict(view);
    let Level { class, sign } = level;
    let about = &view.about;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (sign) " " (title) " · streambox-relay" }
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
                    section class={ "verdict " (class) } role="status" {
                        span .sign aria-hidden="true" { (sign) }
                        div {
                            h2 { (title) }
                            @if let Some(lasting) = lasting { p .since { (since(view, lasting)) } }
                            p { (advice) }
                            @if level != Level::GOOD && view.relay.workers.len() > 1 { (others(view)) }
                        }
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

/// For how long something has been so, and since when.
fn since(view: &View, lasting: Duration) -> String {
    let since_ms = view.taken_at_ms.saturating_sub(i64::try_from(lasting.as_millis()).unwrap_or(i64::MAX));
    format!("For {}, since {}", how_long(lasting), iso_8601(since_ms))
}

/// Where to look whether the other workers see the same.
fn others(view: &View) -> Markup {
    html! {
        p .others {
            "One of " (view.relay.workers.len()) " workers says so. What all of them see: "
            code .copy #status-command { "streambox-relay status --table " (shell_word(&view.about.table)) }
        }
    }
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
