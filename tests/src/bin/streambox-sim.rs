//! Simulates relays, seed by seed: many of them, or one with everything that happens in it.
//!
//! ```sh
//! cargo run --release --all-features --bin streambox-sim -- --seeds 1000000
//! cargo run --all-features --bin streambox-sim -- --first 4711 --seeds 1
//! ```

use std::process::ExitCode;

use clap::Parser;
use streambox_tests::sim;

#[derive(Parser)]
#[command(about = "Simulate relays: a broken promise prints its seed and a short trace, and ends with 1")]
struct Arguments {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many seeds
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let began = std::time::Instant::now();
    match sim::check_all(arguments.first..arguments.first + arguments.seeds, None) {
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
