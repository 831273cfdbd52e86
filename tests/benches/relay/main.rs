//! The relay, measured: against the plainest relay that keeps the same promises, against a bare loop that makes the same
//! requests without any of the logic, from append to consumer, and its memory.
//!
//! - *log*: an event log, each event an append of its own, is drained twice from equal tables: by a loop that publishes an
//!   entry, waits for the confirm, deletes the entry, and takes the next; and by `streambox-relay drain`.
//! - *shapes*: many streams with one entry each, and few streams with many, to a quorum queue, beside the bare loop.
//! - *latency*: from append to consumer, at the default poll intervals, and by a relay inside of the service.
//! - *hot*: one stream, with brokers that are further and further away.
//! - *group*: one, two and four relays on one backlog.
//! - *memory*: the peak resident set of `streambox-relay run` over growing backlogs, its first message, its rate, and the read units of
//!   a pass over the index. A million entries (`--only memory --backlogs 1000000`) take ten minutes and 2 GB.
//!
//! Several rounds on one stack, one after the other; the median counts. `make bench FILE=path.ndjson.gz`

mod bare;
mod group;
mod hot;
mod latency;
mod log;
mod memory;
mod shapes;
mod stage;

use std::{error::Error, path::PathBuf};

use clap::{Parser, ValueEnum};

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    Log,
    Shapes,
    Latency,
    Hot,
    Group,
    Memory,
}

#[derive(Parser)]
#[command(about = "Measure the relay: speed, latency, memory")]
struct Arguments {
    /// NDJSON, plain or gzipped; the format of `streambox import`. Without one, *log* is left out
    file: Option<PathBuf>,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "log,shapes,latency,hot,group,memory")]
    only: Vec<Measure>,
    /// How often each loop drains the same
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Streams and entries in each of them, for *shapes*
    #[arg(long, value_delimiter = ',', default_value = "20000x1,200x100")]
    shapes: Vec<shapes::Shape>,
    /// Seconds of appends, for *latency*
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Pending entries, for *memory*
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    backlogs: Vec<u64>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let is_wanted = |measure| arguments.only.contains(&measure);
    if is_wanted(Measure::Log)
        && let Some(file) = &arguments.file
    {
        log::measure(file, arguments.rounds).await?;
    }
    if is_wanted(Measure::Shapes) {
        for shape in &arguments.shapes {
            shapes::measure(*shape, arguments.rounds).await?;
        }
    }
    if is_wanted(Measure::Latency) {
        latency::measure(arguments.rounds, arguments.seconds).await?;
    }
    if is_wanted(Measure::Hot) {
        hot::measure(arguments.rounds).await?;
    }
    if is_wanted(Measure::Group) {
        group::measure(arguments.rounds).await?;
    }
    if is_wanted(Measure::Memory) {
        for entries in &arguments.backlogs {
            memory::measure(*entries).await?;
        }
    }
    Ok(())
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
