//! The store against a model of it that fits on a page: random sequences of appends, conflicts, repeats, lost answers, races
//! and reads, by several processes to several streams.
//!
//! After every step the store's answer is the model's, every event that was ever seen is still there, unchanged, and the table
//! holds exactly the items that the model says: each event once, at versions 1 to n, and one pending entry for each append
//! that is still to be published.
//!
//! A failure prints the seed and the shortest sequence that still fails. `PROPTEST_RNG_SEED` repeats a run, `PROPTEST_CASES`
//! sets how many sequences are played.

mod history;
mod steps;
mod table;
mod world;

use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use streambox_tests::engine::is_embedded;

use steps::Step;

/// Sequences on the embedded engine, which plays one in a tenth of a second.
const CASES: u32 = 64;
/// Sequences elsewhere: DynamoDB Local takes ten times as long for a transaction.
const CASES_ELSEWHERE: u32 = 10;
/// So long may the search for the shortest sequence take.
const MAX_SHRINK_MS: u32 = 120_000;

#[test]
fn g1_g2_g3_g4_g8_whatever_happens_the_store_is_as_the_model_says() {
    play_random(world::play);
}

/// Plays sequences until one fails, and then shorter ones.
fn play_random<F>(play: impl Fn(Vec<Step>) -> F)
where
    F: Future<Output = world::Result>,
{
    let mut config = Config { failure_persistence: None, max_shrink_time: MAX_SHRINK_MS, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = if is_embedded() { CASES } else { CASES_ELSEWHERE };
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(fastrand::u64(..));
    }
    let RngSeed::Fixed(seed) = config.rng_seed else { unreachable!("it has been set") };
    println!("PROPTEST_RNG_SEED={seed}");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let played = TestRunner::new(config).run(&steps::sequence(), |steps| runtime.block_on(play(steps)));
    match played {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => {
            let steps: Vec<_> = steps.iter().map(|step| format!("    {step:?}\n")).collect();
            panic!("{reason}\nPROPTEST_RNG_SEED={seed}\n{}", steps.concat())
        }
        Err(error) => panic!("{error}\nPROPTEST_RNG_SEED={seed}"),
    }
}
