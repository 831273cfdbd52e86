//! The store against a model of it that fits on a page: random sequences of appends, conflicts, repeats, lost answers, races
//! and reads, by several processes to several streams.
//!
//! After every step the store's answer is the model's, every event that was ever seen is still there, unchanged, and the table
//! holds exactly the items that the model says: each event once, at versions 1 to n, and one pending entry for each append
//! that is still to be published.
//!
//! A failure prints the seed and the shortest sequence that still fails. `PROPTEST_RNG_SEED` repeats a run, `PROPTEST_CASES`
//! sets how many sequences are played.

mod aggregate;
mod history;
mod round_trip;
mod steps;
mod table;
mod world;

use std::fmt::{self, Debug};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngSeed, TestError, TestRunner},
};
use streambox_tests::mode::Mode;

/// Sequences on the embedded engine, which plays one in a tenth of a second.
const CASES: u32 = 64;
/// Of this many, one is played elsewhere: DynamoDB Local takes ten times as long for a transaction.
const CASES_TO_ONE_ELSEWHERE: u32 = 6;
/// So long may the search for the shortest sequence take.
const MAX_SHRINK_MS: u32 = 120_000;

#[test]
fn g1_g2_g3_g4_g8_whatever_happens_the_store_is_as_the_model_says() {
    play_random(CASES, &steps::sequence(), world::play);
}

#[test]
fn g9_whatever_becomes_of_snapshots_and_caches_an_aggregate_is_what_its_events_say() {
    play_random(CASES, &aggregate::sequence(), aggregate::play);
}

/// Plays sequences until one fails, and then shorter ones.
fn play_random<S: Strategy, F>(cases: u32, sequences: &S, play: impl Fn(S::Value) -> F)
where
    F: Future<Output = world::Result>,
{
    let mut config = Config { failure_persistence: None, max_shrink_time: MAX_SHRINK_MS, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = if Mode::is_embedded() { cases } else { cases.div_ceil(CASES_TO_ONE_ELSEWHERE) };
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(fastrand::u64(..));
    }
    let RngSeed::Fixed(seed) = config.rng_seed else { unreachable!("it has been set") };
    println!("PROPTEST_RNG_SEED={seed}");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let played = TestRunner::new(config).run(sequences, |steps| runtime.block_on(play(steps)));
    match played {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => panic!("{reason}\nPROPTEST_RNG_SEED={seed}\n{steps:?}"),
        Err(error) => panic!("{error}\nPROPTEST_RNG_SEED={seed}"),
    }
}

/// Steps, printed each on a line of its own.
#[derive(Clone)]
struct Sequence<T>(Vec<T>);

impl<T: Debug> Debug for Sequence<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "\n    {step:?}"))
    }
}
