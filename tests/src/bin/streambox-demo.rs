//! The whole path, once: imports an event log into a new table, drains its outbox to a new exchange, receives everything
//! from a queue bound to `#`, and says whether every event has arrived, in order.
//!
//! It finds DynamoDB and RabbitMQ as the programs do, which it runs as processes: `localstack/run` sets that up. With
//! `--relay-runs` a relay is there already, with its table and its exchange; the demo then imports, receives and counts.

use std::{
    error::Error,
    path::PathBuf,
    pin::pin,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde::{Deserialize, de::DeserializeOwned};
use streambox::{Client, client_from_env};
use streambox_tests::{
    PATIENCE,
    broker::{Inbox, named_broker_url},
    engine::pending,
    programs::program,
    tally::Tally,
    unique,
};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

/// As shells have it: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

#[derive(Parser)]
#[command(about = "Import an event log, relay it to RabbitMQ, receive it, and count", version)]
struct Arguments {
    /// NDJSON, plain or gzipped; the format of `streambox import`
    file: PathBuf,

    /// A relay runs already: use its table and exchange, and leave both where they are
    #[arg(long)]
    relay_runs: bool,

    /// The table of the relay that runs
    #[arg(long, env = "STREAMBOX_TABLE", default_value = "streambox")]
    table: String,

    /// The exchange of the relay that runs
    #[arg(long, env = "STREAMBOX_EXCHANGE", default_value = "streambox")]
    exchange: String,
}

/// What `streambox import --format json` prints.
#[derive(Deserialize)]
struct Imported {
    events: u64,
    streams: u64,
    appends: u64,
    seconds: f64,
    write_units: f64,
}

/// What `streambox-relay drain --format json` prints.
#[derive(Deserialize)]
struct Relayed {
    published: u64,
    entries_deleted: u64,
    seconds: f64,
    events_per_second: f64,
}

struct Received {
    tally: Tally,
    elapsed: Duration,
}

type Failure = Box<dyn Error>;

#[tokio::main]
async fn main() -> ExitCode {
    match demo(&Arguments::parse()).await {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("demo: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the demo in a table and an exchange of its own, and removes both, whatever happens; or in those of a running relay.
async fn demo(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let client = client_from_env().await;
    let (table, exchange) = if arguments.relay_runs {
        (arguments.table.clone(), arguments.exchange.clone())
    } else {
        (unique("streambox-demo"), unique("streambox-demo"))
    };
    let mut inbox = Inbox::open(&named_broker_url(), &exchange).await?;
    let outcome = tokio::select! {
        outcome = whole_path(arguments, &client, &table, &mut inbox) => outcome,
        _ = interrupt.recv() => Ok(Outcome::Interrupted),
        _ = terminate.recv() => Ok(Outcome::Interrupted),
    };
    if arguments.relay_runs {
        inbox.close_queue().await?;
    } else {
        // It may not have come as far as creating the table.
        let _ = client.delete_table().table_name(&table).send().await;
        inbox.close().await?;
    }
    Ok(match outcome? {
        Outcome::Whole => ExitCode::SUCCESS,
        Outcome::Broken => ExitCode::FAILURE,
        Outcome::Interrupted => {
            eprintln!("demo: interrupted; what it has made is removed");
            ExitCode::from(INTERRUPTED)
        }
    })
}

enum Outcome {
    Whole,
    Broken,
    Interrupted,
}

async fn whole_path(
    arguments: &Arguments,
    client: &Client,
    table: &str,
    inbox: &mut Inbox,
) -> Result<Outcome, Failure> {
    let file = &arguments.file;
    println!("streambox demo: {}", file.display());
    if !arguments.relay_runs {
        let mut create = Command::new(program("streambox"));
        let create = create.args(["table", "create", "--format", "json", "--table", table]);
        let _: serde_json::Value = printed(create).await?;
    }

    println!("  importing, with `streambox import`");
    let mut import = Command::new(program("streambox"));
    let imported: Imported =
        printed(import.arg("import").arg(file).args(["--format", "json", "--table", table])).await?;

    let (relayed, received) = if arguments.relay_runs {
        println!("  receiving what the relay publishes");
        let received = receive(inbox, imported.events).await?;
        wait_for_nothing_pending(client, table).await;
        (None, received)
    } else {
        println!("  publishing what is pending, with `streambox-relay drain`");
        let mut drain = Command::new(program("streambox-relay"));
        drain
            .args(["drain", "--format", "json", "--log", "warn,lapin=off", "--table", table])
            .args(["--exchange", inbox.exchange()]);
        let (relayed, received) = relay_and_receive(&mut drain, inbox, imported.events).await?;
        (Some(relayed), received)
    };

    let pending = pending(client, table).await;
    print!("{}", summary(&imported, relayed.as_ref(), &received, pending));
    let problems = problems(imported.events, &received.tally, pending);
    if problems.is_empty() {
        println!("\nEvery event has arrived, each stream in order.");
        return Ok(Outcome::Whole);
    }
    println!("\nBROKEN: {}.", problems.join("; "));
    Ok(Outcome::Broken)
}

/// Runs the relay and receives at the same time.
async fn relay_and_receive(
    drain: &mut Command,
    inbox: &mut Inbox,
    events: u64,
) -> Result<(Relayed, Received), Failure> {
    let (bar, started) = (progress(events), Instant::now());
    let mut relayed = pin!(printed::<Relayed>(drain));
    let relayed = loop {
        tokio::select! {
            relayed = &mut relayed => break relayed?,
            Some(_) = inbox.next_within(PATIENCE) => bar.set_position(inbox.tally().distinct()),
        }
    };
    let tally = inbox.receive_rest().await?.clone();
    bar.finish_and_clear();
    Ok((relayed, Received { tally, elapsed: started.elapsed() }))
}

/// Receives what another relay publishes: until every event has come, or nothing does for a long time.
async fn receive(inbox: &mut Inbox, events: u64) -> Result<Received, Failure> {
    let (bar, started) = (progress(events), Instant::now());
    while inbox.tally().distinct() < events && inbox.next_within(PATIENCE).await.is_some() {
        bar.set_position(inbox.tally().distinct());
    }
    let tally = inbox.receive_rest().await?.clone();
    bar.finish_and_clear();
    Ok(Received { tally, elapsed: started.elapsed() })
}

fn progress(events: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} messages  {elapsed}").expect("a valid template");
    ProgressBar::new(events).with_style(style)
}

/// An event is received before its entry is deleted. A table gives no signal, so it is asked again and again, within bounds.
async fn wait_for_nothing_pending(client: &Client, table: &str) {
    let reached = async {
        while pending(client, table).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    // What is still pending is counted and reported.
    let _ = timeout(PATIENCE, reached).await;
}

/// Runs a program and reads what it prints. What it logs, and its progress bar, go where ours go.
async fn printed<T: DeserializeOwned>(command: &mut Command) -> Result<T, Failure> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let output = child.wait_with_output().await?;
    let name = PathBuf::from(command.as_std().get_program());
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    if !output.status.success() {
        return Err(format!("`{name}` has failed ({}); what it says stands above", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn summary(imported: &Imported, relayed: Option<&Relayed>, received: &Received, pending: u64) -> String {
    let tally = &received.tally;
    let appended = format!(
        "of {} streams, in {} appends; {}, {} write units",
        HumanCount(imported.streams),
        HumanCount(imported.appends),
        rate(imported.events, imported.seconds),
        HumanCount(rounded(imported.write_units)),
    );
    let published = relayed.map(|relayed| {
        let entries = HumanCount(relayed.entries_deleted);
        let per_second = HumanCount(rounded(relayed.events_per_second));
        let rate = format!("of {entries} pending entries; {:.1} s, {per_second}/s until the last", relayed.seconds);
        ("events published", relayed.published, rate)
    });
    let lines = [
        ("messages received", tally.received(), rate(tally.received(), received.elapsed.as_secs_f64())),
        ("distinct events", tally.distinct(), String::new()),
        ("duplicates", tally.duplicates(), String::new()),
        ("order violations", tally.order_violations().len() as u64, String::new()),
        ("entries pending", pending, String::new()),
    ];
    let lines = [("events appended", imported.events, appended)].into_iter().chain(published).chain(lines);
    lines.fold("\n".to_owned(), |text, (what, count, rest)| {
        let count = HumanCount(count).to_string();
        text + format!("  {what:<18} {count:>9}  {rest}").trim_end() + "\n"
    })
}

#[expect(clippy::cast_precision_loss, reason = "a rate is for reading")]
fn rate(count: u64, seconds: f64) -> String {
    format!("{seconds:.1} s, {}/s", HumanCount(rounded(count as f64 / seconds.max(0.001))))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a figure for reading")]
fn rounded(figure: f64) -> u64 {
    figure.round() as u64
}

/// What is not as promised. Duplicates are.
fn problems(events: u64, tally: &Tally, pending: u64) -> Vec<String> {
    let mut problems = Vec::new();
    if tally.distinct() != events {
        problems.push(format!("{events} events were appended, {} have arrived", tally.distinct()));
    }
    if let Some((stream, version)) = tally.order_violations().first() {
        problems.push(format!("version {version} of {stream} came before the one before it"));
    }
    if pending > 0 {
        problems.push(format!("{pending} entries are still pending"));
    }
    problems
}
