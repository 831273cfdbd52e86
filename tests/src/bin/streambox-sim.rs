//! Simulates relays, seed by seed: many of them, or one with everything that happens in it.
//!
//! ```sh
//! cargo run --release --all-features --bin streambox-sim -- --seeds 1000000
//! cargo run --all-features --bin streambox-sim -- --first 4711 --seeds 1
//! cargo run --all-features --bin streambox-sim -- --seeds 1000 --mutant trust-index
//! ```

use std::process::ExitCode;

use clap::Parser;
use streambox_tests::sim::{self, Mutant};

#[derive(Parser)]
#[command(about = "Simulate relays: a broken promise prints its seed and a short trace, and ends with 1")]
struct Arguments {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many seeds
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// A relay that is wrong on purpose: count the seeds that find it
    #[arg(long)]
    mutant: Option<Mutant>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = arguments.first..arguments.first + arguments.seeds;
    if let Some(mutant) = arguments.mutant {
        let found = seeds.filter(|seed| sim::breaks(*seed, Some(mutant)).is_some());
        println!("{mutant:?} is found by {} of {} seeds", found.count(), arguments.seeds);
        return ExitCode::SUCCESS;
    }
    let began = std::time::Instant::now();
    match sim::check_all(seeds, None) {
        Ok(coverage) => {
            println!("{} seeds in {:.1} s: {coverage:?}", arguments.seeds, began.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}
