//! The status page: made here, as a whole, each time it is asked for. Its script only asks for it again and puts the new
//! content in place, so there is one place that writes HTML, and it escapes everything: stream ids, reasons and errors come
//! from outside.

mod plot;

use std::{
    fmt::{self, Display, Write as _},
    time::Duration,
};

use xxhash_rust::xxh3::xxh3_64;

use super::view::{BEHIND_AFTER, BrokerTrouble, ConnectionView, HaltedView, View};
use crate::{
    broker::UNROUTABLE_RUN,
    text::{by_reason, how_long, iso_8601, one_line, shortened, skip_command},
};

/// Most characters of a stream id in a row; the whole one is a click away.
const MAX_ID_CHARS: usize = 60;

/// Streams of a group that are shown at once; the others are a click away.
const SHOWN_OF_GROUP: usize = 5;

/// A backlog is compared with that of so long ago, and an error of the last minute is taken as the cause.
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

    /// Beside its colour, for who can't tell colours apart.
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

/// The page.
pub(super) fn html(view: &View) -> String {
    let mut page = String::new();
    // Writing into a String can't fail.
    let _ = write(&mut page, view);
    page
}

fn write(page: &mut String, view: &View) -> fmt::Result {
    let verdict = verdict(view);
    let (level, sign) = (verdict.level.class(), verdict.level.sign());
    writeln!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{sign} {} · streambox-relay</title>\n\
         <link rel=\"icon\" href=\"icon.svg\">\n<link rel=\"stylesheet\" href=\"page.css\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n\
         <script src=\"page.js\" defer></script>\n</head>\n<body>",
        Escaped(&verdict.title)
    )?;
    let worker = view.worker.as_deref().unwrap_or("a relay without a group");
    writeln!(
        page,
        "<header><h1>streambox-relay</h1><p><b>{}</b> · table <b>{}</b> → exchange <b>{}</b></p>\
         <p id=\"silence\" role=\"alert\" hidden></p></header>\n<main id=\"content\" data-taken=\"{}\">",
        Escaped(worker),
        Escaped(&view.table),
        Escaped(&view.exchange),
        view.taken_at_ms,
    )?;
    writeln!(
        page,
        "<section class=\"verdict {level}\" role=\"status\"><span class=\"sign\" aria-hidden=\"true\">{sign}</span>\
         <div><h2>{}</h2><p>{}</p></div></section>",
        Escaped(&verdict.title),
        Escaped(&verdict.advice),
    )?;
    tiles(page, view)?;
    halted(page, view)?;
    connections(page, &view.connections)?;
    workers(page, view)?;
    writeln!(
        page,
        "</main>\n<footer><p>Version {}, at {}. An age is this machine's time less the time that an appender gave its \
         event. <a href=\"status.json\">status.json</a> <a href=\"metrics\">metrics</a> <a href=\"readyz\">readyz</a>\
         </p></footer>\n</body>\n</html>",
        Escaped(view.version),
        Escaped(iso_8601(view.taken_at_ms)),
    )
}

/// The worst comes first.
fn verdict(view: &View) -> Verdict {
    let verdict =
        |level, title: &str, advice: &str| Verdict { level, title: title.to_owned(), advice: advice.to_owned() };
    if let Some(reason) = &view.not_live {
        return verdict(Level::Bad, "The relay is stuck", &format!("{reason}. Restart it; nothing is lost by that."));
    }
    if view.is_stopping {
        let advice = "It was told to: what is in flight is finished, and nothing new is begun.";
        return verdict(Level::Warning, "The relay is stopping", advice);
    }
    match view.broker_trouble() {
        None => {}
        Some(BrokerTrouble::Blocked(why)) => {
            let advice = format!(
                "An alarm of memory or disk ({why}): free some on the broker. The relay waits, nothing is lost."
            );
            return verdict(Level::Bad, "The broker takes no messages", &advice);
        }
        Some(BrokerTrouble::Connecting) => {
            let advice = "It takes a moment. If it stays like this: is the broker up, and --amqp-url right?";
            return verdict(Level::Warning, "Connecting to the broker", advice);
        }
        Some(BrokerTrouble::Lost(error)) => {
            let advice = format!(
                "{error}. The relay tries again for ever and events stay pending: is the broker up, and --amqp-url right?"
            );
            return verdict(Level::Bad, "No connection to the broker", &advice);
        }
        Some(BrokerTrouble::Silent(time)) => {
            let advice = format!(
                "It is connected, but has confirmed nothing for {}. Events stay pending: look at the broker's log and \
                 queues, a quorum queue without a majority for instance.",
                how_long(time)
            );
            return verdict(Level::Bad, "The broker confirms nothing", &advice);
        }
    }
    if let Some(refused) = view.refused.first() {
        let advice =
            format!("{}. The relay tries again for ever, and goes on by itself when that is mended.", refused.text);
        return verdict(Level::Bad, "DynamoDB refuses a request", &advice);
    }
    if let Some(reason) = view.not_ready.first() {
        let error = view.last_error.as_ref().map_or_else(String::new, |error| format!(": {}", error.text));
        let advice =
            format!("{reason}{error}. Events stay pending: look at DynamoDB, the role's permissions, the network.");
        return verdict(Level::Bad, "The table can't be read", &advice);
    }
    if view.halted_streams > 0 {
        let (streams, are) = if view.halted_streams == 1 { ("stream", "is") } else { ("streams", "are") };
        let title = format!("{} {streams} {are} halted", view.halted_streams);
        let advice = "All others go on. Halted ones are tried again by themselves: fix the cause named below, or give up on \
                      one entry with the command beside it.";
        return verdict(Level::Bad, &title, advice);
    }
    if view.unroutable_run >= UNROUTABLE_RUN {
        let title = format!("The last {} events reached no queue", grouped(view.unroutable_run));
        let advice = format!(
            "They count as published (--unroutable accept). If exchange {} was deleted and declared anew, it has lost its \
             bindings: bind the queues again, and publish what they missed with streambox-relay replay.",
            view.exchange
        );
        return verdict(Level::Warning, &title, &advice);
    }
    let lost: Vec<_> = view.connections.iter().filter(|one| one.state == "connecting").collect();
    if let Some(error) = lost.iter().find_map(|one| one.last_error.as_deref()) {
        let (lost, all) = (lost.len(), view.connections.len());
        let title = format!("{lost} of {all} connections to the broker {} down", if lost == 1 { "is" } else { "are" });
        let advice = format!("{error}. It is tried again for ever; everything goes over the others meanwhile.");
        return verdict(Level::Warning, &title, &advice);
    }
    if let Some((title, advice)) = behind(view) {
        return verdict(Level::Warning, &title, &advice);
    }
    let is_empty = view.backlog.as_ref().is_none_or(|backlog| backlog.entries == 0);
    let title = if is_empty { "Everything is published" } else { "All is well: publishing" };
    verdict(Level::Good, title, "Connected, reading the table, no stream halted, nothing old pending.")
}

/// What is said of an old backlog. More relays are the advice only where they help: what is old can be published, the broker
/// and DynamoDB answer, the backlog does not shrink, and it is of enough streams to be shared out.
fn behind(view: &View) -> Option<(String, String)> {
    let backlog = view.backlog.as_ref()?;
    let old = |age: Option<f64>| age.map(Duration::from_secs_f64).filter(|age| *age > BEHIND_AFTER);
    if let Some(age) = old(backlog.oldest_workable_age_seconds) {
        let failing = view.last_error.as_ref().filter(|error| error.seconds_ago < RECENT.as_secs_f64());
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
    let age = old(backlog.oldest_age_seconds).filter(|_| view.workers.len() > 1)?;
    let advice = "This worker keeps up with its own streams. The pages of the others, or streambox-relay status, show what \
                  holds that one up.";
    Some((format!("An entry of another worker is {} old", how_long(age)), advice.to_owned()))
}

/// Whether there is less pending than some time ago; none where that is not known yet.
fn shrinks(view: &View) -> Option<bool> {
    let now = view.history.last()?;
    let began_ms = now.at_ms.saturating_sub(i64::try_from(RECENT.as_millis()).unwrap_or(i64::MAX));
    let before = view.history.iter().rfind(|sample| sample.at_ms <= began_ms)?;
    Some(now.entries? < before.entries?)
}

fn tiles(page: &mut String, view: &View) -> fmt::Result {
    let backlog = view.backlog.as_ref();
    let at_least = if backlog.is_some_and(|backlog| backlog.at_least) { "≥ " } else { "" };
    let entries = backlog.map_or_else(|| "–".to_owned(), |backlog| format!("{at_least}{}", grouped(backlog.entries)));
    let oldest = backlog.and_then(|backlog| backlog.oldest_age_seconds);
    let oldest = oldest.map_or_else(|| "–".to_owned(), |age| how_long(Duration::from_secs_f64(age)));
    let rate = view.history.last().map_or(0.0, |sample| sample.published_per_second);
    let times: Vec<_> = view.history.iter().map(|sample| sample.at_ms).collect();
    let line = |value: &dyn Fn(&super::Sample) -> f64| view.history.iter().map(value).collect::<Vec<_>>();
    #[expect(clippy::cast_precision_loss, reason = "a height in a plot")]
    let pending = line(&|sample| sample.entries.unwrap_or(0) as f64);
    page.push_str("<section class=\"tiles\">\n");
    tile(page, "Pending entries", &entries, &plot::svg("pending entries", &times, &pending, plot::count))?;
    let ages = line(&|sample| sample.oldest_age_seconds);
    tile(page, "Oldest pending", &oldest, &plot::svg("age of the oldest entry", &times, &ages, plot::seconds))?;
    let rates = line(&|sample| sample.published_per_second);
    let shown = format!("{rate:.0} <small>events/s</small>");
    tile(page, "Published", &shown, &plot::svg("events published in a second", &times, &rates, plot::count))?;
    page.push_str("</section>\n");
    writeln!(
        page,
        "<p class=\"facts\">Since the start: <b>{}</b> events published, <b>{}</b> entries deleted. At work: <b>{}</b> \
         streams, <b>{}</b> KiB held.",
        grouped(view.published),
        grouped(view.deleted),
        grouped(view.open_streams),
        grouped(view.buffered_bytes / 1024),
    )?;
    let halted = backlog.map_or(0, |backlog| backlog.halted_entries);
    if halted > 0 {
        writeln!(page, " Of halted streams: <b>{}</b> of the pending entries.", grouped(halted))?;
    }
    if view.unroutable > 0 {
        let unroutable = grouped(view.unroutable);
        writeln!(page, " <b>{unroutable}</b> events reached no queue (<code>--unroutable accept</code>).")?;
    }
    page.push_str("</p>\n");
    Ok(())
}

/// `value` and `plot` are HTML.
fn tile(page: &mut String, title: &str, value: &str, plot: &str) -> fmt::Result {
    writeln!(page, "<div class=\"tile\"><h3>{}</h3><p class=\"value\">{value}</p>{plot}</div>", Escaped(title))
}

fn halted(page: &mut String, view: &View) -> fmt::Result {
    page.push_str("<section id=\"halted\"><h2>Halted streams</h2>\n");
    if view.halted_streams == 0 {
        page.push_str("<p class=\"none\">None.</p></section>\n");
        return Ok(());
    }
    for (reason, group) in by_reason(&view.halted, |halt| &halt.reason) {
        let count = if group.len() == 1 { String::new() } else { format!("<b>{} streams</b> ", group.len()) };
        writeln!(page, "<div class=\"group\"><p class=\"why\">{count}{}</p>", Escaped(reason))?;
        let (shown, more) = group.split_at(group.len().min(SHOWN_OF_GROUP));
        halted_table(page, view, shown)?;
        if !more.is_empty() {
            let id = xxh3_64(reason.as_bytes());
            writeln!(page, "<details id=\"more-{id:x}\"><summary>{} more</summary>", more.len())?;
            halted_table(page, view, more)?;
            page.push_str("</details>\n");
        }
        page.push_str("</div>\n");
    }
    let untold = view.halted_streams.saturating_sub(view.halted.len() as u64);
    if untold > 0 {
        write!(page, "<p>And {} more, which the log names.</p>", grouped(untold))?;
    }
    page.push_str(
        "<p>They are tried again by themselves: fix the cause. The command gives up on publishing one entry, which is \
         recorded with the reason that you put in the place of <code>WHY</code>.</p></section>\n",
    );
    Ok(())
}

fn halted_table(page: &mut String, view: &View, halted: &[&HaltedView]) -> fmt::Result {
    page.push_str("<div class=\"scroll\"><table><thead><tr><th>Stream</th><th>Version</th><th>Since</th><th>Tried</th><th>To give up on it</th></tr></thead><tbody>\n");
    for halt in halted {
        halted_row(page, view, halt)?;
    }
    page.push_str("</tbody></table></div>\n");
    Ok(())
}

fn halted_row(page: &mut String, view: &View, halt: &HaltedView) -> fmt::Result {
    let lasting = Duration::from_secs_f64(halt.for_seconds);
    let since = view.taken_at_ms.saturating_sub(i64::try_from(lasting.as_millis()).unwrap_or(i64::MAX));
    let id = xxh3_64(halt.stream.as_bytes());
    page.push_str("<tr><td class=\"id\">");
    let short = shortened(&halt.stream, MAX_ID_CHARS);
    if short == halt.stream {
        write!(page, "{}", Escaped(&short))?;
    } else {
        let whole = Escaped(&halt.stream);
        write!(page, "<details id=\"id-{id:x}\"><summary>{}</summary>{whole}</details>", Escaped(&short))?;
    }
    let version = if halt.version == 0 { "unknown".to_owned() } else { halt.version.to_string() };
    writeln!(
        page,
        "</td><td class=\"number\" data-label=\"version\">{version}</td>\
         <td data-label=\"since\">{}<br><small>{}</small></td>\
         <td data-label=\"tried\">{} times<br><small>again in {}</small></td>\
         <td class=\"command\"><code class=\"copy\" id=\"skip-{id:x}\">{}</code></td></tr>",
        Escaped(how_long(lasting)),
        Escaped(iso_8601(since)),
        halt.attempts,
        Escaped(how_long(Duration::from_secs_f64(halt.retry_in_seconds))),
        Escaped(skip_command(&view.table, &halt.stream, halt.version)),
    )
}

fn connections(page: &mut String, connections: &[ConnectionView]) -> fmt::Result {
    page.push_str("<section id=\"broker\"><h2>Broker</h2>\n<div class=\"scroll\"><table><thead><tr><th>Connection</th><th>State</th><th>For</th><th>Reconnects</th><th>Last error</th></tr></thead><tbody>\n");
    for (number, connection) in connections.iter().enumerate() {
        let class = if connection.state == "connected" { "good" } else { "bad" };
        let error = connection.blocked_because.as_deref().or(connection.last_error.as_deref()).unwrap_or("");
        writeln!(
            page,
            "<tr><td class=\"number\">{}</td><td><span class=\"pill {class}\">{}</span></td><td>{}</td>\
             <td class=\"number\">{}</td><td class=\"why\">{}</td></tr>",
            number + 1,
            Escaped(connection.state),
            Escaped(how_long(Duration::from_secs_f64(connection.for_seconds))),
            connection.reconnects,
            Escaped(error),
        )?;
    }
    page.push_str("</tbody></table></div></section>\n");
    Ok(())
}

fn workers(page: &mut String, view: &View) -> fmt::Result {
    page.push_str("<section id=\"workers\"><h2>Workers</h2>\n");
    if view.workers.is_empty() {
        page.push_str("<p class=\"none\">This relay runs outside of a group: every stream is its own.</p></section>\n");
        return Ok(());
    }
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    let share = 100.0 / view.workers.len() as f64;
    writeln!(page, "<p>{} live, each with {share:.0} % of the streams.</p><ul class=\"workers\">", view.workers.len())?;
    for worker in &view.workers {
        let is_me = view.worker.as_ref() == Some(worker);
        let me = if is_me { " <small>(this one)</small>" } else { "" };
        writeln!(page, "<li>{}{me}</li>", Escaped(worker))?;
    }
    page.push_str("</ul></section>\n");
    Ok(())
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

/// Text as HTML, in content and in quoted attributes. What can't be seen is escaped, so that nothing looks like another.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in one_line(&self.0.to_string()).chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                char => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
