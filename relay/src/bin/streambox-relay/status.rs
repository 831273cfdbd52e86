//! `streambox-relay status`: what the table says, for people or as JSON.

use std::{
    fmt::Write as _,
    future::Future,
    io::{IsTerminal as _, Write as _},
    pin::pin,
    time::Duration,
};

use streambox::EventStore;
use streambox_programs::{Failure, now_ms, stop_signal};
use streambox_relay::{
    config::{Format, StatusOptions},
    status::{Scope, Status, StatusReader},
    text::{by_reason, how_long, iso_8601, one_line, shell_word, shortened, skip_command},
};
use tokio::time::sleep;

use crate::output::{print_json, print_line};

/// Most characters of a stream id in a sentence; the command has the whole one.
const MAX_ID_CHARS: usize = 60;

/// Clears the terminal and goes to its corner.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J\u{1b}[3J";

/// Returns whether nothing is wrong of what the options ask to fail for.
pub(crate) async fn run(store: EventStore, options: &StatusOptions) -> Result<bool, Failure> {
    let scope = Scope { max_entries: options.max_entries.into(), skips: options.skips };
    let mut reader = StatusReader::new(store, scope);
    if options.watch {
        return watch(&mut reader, options, stop_signal()?).await;
    }
    if !options.no_wait {
        reader.wait_for_heartbeats().await?;
    }
    let status = reader.read().await?;
    print(&status, options.common.format);
    Ok(is_well(&status, options))
}

async fn watch(
    reader: &mut StatusReader,
    options: &StatusOptions,
    stop: impl Future<Output = ()>,
) -> Result<bool, Failure> {
    let mut stop = pin!(stop);
    loop {
        let status = reader.read().await?;
        if options.common.format == Format::Text && std::io::stdout().is_terminal() {
            let _ = write!(std::io::stdout(), "{CLEAR}");
        }
        print(&status, options.common.format);
        tokio::select! {
            () = sleep(options.watch_interval) => {}
            () = &mut stop => return Ok(true),
        }
    }
}

fn is_well(status: &Status, options: &StatusOptions) -> bool {
    let oldest = status.backlog.oldest_age_seconds;
    let is_old = oldest.zip(options.fail_if_older_than).is_some_and(|(age, limit)| Duration::from_secs(age) > limit);
    let is_halted = options.fail_if_halted && (status.halted_streams > 0 || !status.halted.is_empty());
    !is_old && !is_halted
}

fn print(status: &Status, format: Format) {
    match format {
        Format::Json => print_json(status),
        Format::Text => print_line(text(status).trim_end()),
    }
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        let _ = writeln!(text, "{}", one_line(&line));
    };
    line(format!("table {}, {}", status.table, status.taken_at));
    line(backlog(status));

    line(String::new());
    line(match status.halted_streams {
        0 => "halted streams: none".to_owned(),
        count => format!("halted streams: {count}"),
    });
    for (reason, group) in by_reason(&status.halted, |halted| &halted.reason) {
        line(format!("  {reason}"));
        for halted in group {
            let stream = shortened(&halted.stream, MAX_ID_CHARS);
            let version = if halted.version == 0 { String::new() } else { format!(" at version {}", halted.version) };
            let (since, worker) = (iso_8601(halted.since_ms), halted.worker.as_deref().unwrap_or("an unknown worker"));
            let (age, tried) = (how_long(age(halted.since_ms)), times(halted.attempts));
            line(format!("    {stream}{version}, since {since} ({age}), tried {tried} by {worker}"));
            line(format!("      {}", skip_command(&status.table, &halted.stream, halted.version)));
        }
    }
    let untold = status.halted_streams.saturating_sub(status.halted.len() as u64);
    if untold > 0 {
        line(format!("  and {untold} more, which the workers' logs and status pages name"));
    }
    if status.halted_streams > 0 {
        line(
            "  They are retried automatically: fix the cause. The command gives up on publishing one entry; put your reason in the \
             place of WHY."
                .to_owned(),
        );
    }

    line(String::new());
    line(match (status.workers.is_empty(), status.backlog.entries) {
        (false, _) => "workers:".to_owned(),
        (true, 0) => "workers: none, no relay runs on this table".to_owned(),
        (true, _) => {
            let table = shell_word(&status.table);
            format!("workers: none, nothing is published: start a relay by `streambox-relay run --table {table}`")
        }
    });
    let (all, alive) =
        (status.workers.len(), status.workers.iter().filter(|worker| worker.alive != Some(false)).count());
    if alive == 0 && all > 0 {
        line("  None of them is alive, nothing is published. What are their logs' last lines?".to_owned());
    }
    for worker in &status.workers {
        let state = match worker.alive {
            Some(true) => "alive",
            Some(false) => "dead (no heartbeat)",
            None => "alive or dead (one heartbeat was not waited for)",
        };
        line(format!(
            "  {}: {state}, {:.0} % of the streams, {} open; published {}, deleted {}, since {} on {} (process {}, {})",
            worker.id,
            worker.share * 100.0,
            worker.open_streams,
            worker.published,
            worker.deleted,
            worker.started_at,
            worker.host,
            worker.process_id,
            worker.version,
        ));
        if let Some(error) = &worker.last_error {
            line(format!("    last error: {error}"));
        }
    }

    if !status.skips.is_empty() {
        line(String::new());
        line("latest skips:".to_owned());
    }
    for skip in &status.skips {
        let first = skip.first_version.filter(|first| *first != skip.last_version);
        let first = first.map_or_else(String::new, |first| format!("{first} to "));
        line(format!("  {} version {first}{}: {}", skip.stream, skip.last_version, skip.reason));
        line(format!("    at {} by {}", skip.at, skip.by));
    }
    text
}

fn age(since_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms().saturating_sub(since_ms)).unwrap_or(0))
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn backlog(status: &Status) -> String {
    let backlog = &status.backlog;
    if backlog.entries == 0 {
        return "backlog: nothing is pending".to_owned();
    }
    let at_least = if backlog.at_least { "at least " } else { "" };
    let (entries, streams) = (backlog.entries, backlog.streams);
    let oldest = match (backlog.oldest_age_seconds, &backlog.oldest_stream) {
        (Some(age), Some(stream)) => {
            let age = how_long(Duration::from_secs(age));
            format!(
                "; the oldest {}is {age} old by this machine's clock (stream {stream})",
                if backlog.at_least { "seen " } else { "" }
            )
        }
        _ => String::new(),
    };
    format!("backlog: {at_least}{entries} entries of {at_least}{streams} streams{oldest}")
}
