//! Simulates relays or consumers, seed by seed: many of them, or one with everything that happens in it.
//!
//! ```sh
//! cargo run --release --all-features --bin streambox-sim -- --seeds 1000000
//! cargo run --all-features --bin streambox-sim -- --first 4711 --seeds 1
//! cargo run --all-features --bin streambox-sim -- --seeds 1000 --mutant trust-index
//! cargo run --all-features --bin streambox-sim -- --consumer --seeds 1000 --consumer-mutant skip-gaps
//! ```

use std::{fmt, ops::Range, process::ExitCode, time::Instant};

use clap::Parser;
use streambox_tests::sim::{self, Mutant, consumer};

#[derive(Parser)]
#[command(about = "Simulate relays or consumers: a broken promise prints its seed and a short trace, and ends with 1")]
struct Arguments {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many seeds
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// A relay that is wrong on purpose: count the seeds that find it
    #[arg(long, conflicts_with_all = ["consumer", "consumer_mutant"])]
    mutant: Option<Mutant>,
    /// Simulate consumers
    #[arg(long)]
    consumer: bool,
    /// A consumer that is wrong on purpose: count the seeds that find it
    #[arg(long, requires = "consumer")]
    consumer_mutant: Option<consumer::Mutant>,
}

fn main() -> ExitCode {
    let Arguments { first, seeds, mutant, consumer, consumer_mutant } = Arguments::parse();
    let seeds = first..first + seeds;
    match (mutant, consumer_mutant) {
        (Some(mutant), _) => count(seeds, mutant, |seed| sim::breaks(seed, Some(mutant)).is_some()),
        (_, Some(mutant)) => count(seeds, mutant, |seed| consumer::breaks(seed, Some(mutant)).is_some()),
        _ if consumer => check(seeds, |seeds| consumer::check_all(seeds, None)),
        _ => check(seeds, |seeds| sim::check_all(seeds, None)),
    }
}

/// Counts the seeds that find a mutant.
fn count(seeds: Range<u64>, mutant: impl fmt::Debug, breaks: impl Fn(u64) -> bool) -> ExitCode {
    let all = seeds.end - seeds.start;
    let found = seeds.filter(|seed| breaks(*seed)).count();
    println!("{mutant:?} is found by {found} of {all} seeds");
    ExitCode::SUCCESS
}

fn check<C: fmt::Debug, F: fmt::Display>(
    seeds: Range<u64>,
    check_all: impl Fn(Range<u64>) -> Result<C, F>,
) -> ExitCode {
    let (all, began) = (seeds.end - seeds.start, Instant::now());
    match check_all(seeds) {
        Ok(coverage) => {
            println!("{all} seeds in {:.1} s: {coverage:?}", began.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}
