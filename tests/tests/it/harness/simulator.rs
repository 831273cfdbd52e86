//! The decisions of relays, simulated by seeds, and relays broken on purpose, which the simulator has to find.

use streambox_tests::sim::{self, Membership, Mutant, Promise, Scenario};

/// Seeds that every run of the tests checks.
const SEEDS: u64 = 10_000;

/// More seeds than any mutant needs until it is found.
const MUTANT_SEEDS: u64 = 2_000;

#[test]
fn g5_g6_g10_ten_thousand_seeds_break_no_promise_and_reach_every_situation() {
    let coverage = sim::check_all(0..SEEDS, None).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{coverage:?}");
    for (situation, times) in coverage.situations() {
        assert!(times > 50, "{situation} came up {times} times only: the simulation has lost it");
    }
}

/// The first seed that finds a mutant, and the promise that it breaks.
fn found(mutant: Mutant) -> (u64, Promise) {
    let found = (0..MUTANT_SEEDS).find_map(|seed| Some((seed, sim::breaks(seed, Some(mutant))?)));
    let (seed, violation) = found.unwrap_or_else(|| panic!("{mutant:?} was not found in {MUTANT_SEEDS} seeds"));
    println!("{mutant:?}: seed {seed}, {:?}: {}", violation.promise, violation.what);
    (seed, violation.promise)
}

#[test]
fn g5_an_entry_that_is_deleted_before_the_confirm_is_found() {
    assert_eq!(found(Mutant::DeleteBeforeConfirm).1, Promise::NothingLost);
}

#[test]
fn g5_an_entry_that_is_deleted_in_part_is_found() {
    assert_eq!(found(Mutant::DeleteInPart).1, Promise::NothingLost);
}

#[test]
fn g5_a_return_that_is_taken_for_an_ack_is_found() {
    assert_eq!(found(Mutant::ReturnIsAck).1, Promise::NothingLost);
}

#[test]
fn g5_a_broken_connection_that_is_taken_for_success_is_found() {
    assert_eq!(found(Mutant::UnknownIsPublished).1, Promise::NothingLost);
}

#[test]
fn g6_trust_in_the_index_is_found() {
    assert_eq!(found(Mutant::TrustIndex).1, Promise::Order);
}

#[test]
fn g6_two_events_of_a_stream_in_flight_are_found() {
    assert_eq!(found(Mutant::TwoInFlight).1, Promise::Order);
}

#[test]
fn g6_a_half_visible_append_that_is_forgotten_is_found() {
    assert_eq!(found(Mutant::SkipVisibilityCheck).1, Promise::Order);
}

#[test]
fn g6_trust_in_clocks_is_found() {
    assert_eq!(found(Mutant::TrustClocks).1, Promise::Order);
}

#[test]
fn g11_a_message_that_does_not_name_the_public_version_before_it_is_found() {
    assert_eq!(found(Mutant::ForgetPrevious).1, Promise::Chain);
}

#[test]
fn g7_suspects_that_share_a_channel_are_found() {
    assert_eq!(found(Mutant::ShareChannel).1, Promise::Isolation);
}

#[test]
fn g7_suspects_that_share_a_connection_are_found() {
    assert_eq!(found(Mutant::ShareConnection).1, Promise::Isolation);
}

#[test]
fn g7_a_silence_that_is_waited_for_again_and_again_is_found() {
    assert_eq!(found(Mutant::TrustSilence).1, Promise::Isolation);
}

/// The first seed with a replay that finds a mutant.
fn found_in_a_replay(mutant: Mutant) -> Promise {
    let is_replay = |seed: &u64| {
        let workers = Scenario::of(*seed).workers;
        workers.iter().any(|worker| worker.membership == Membership::Replay)
    };
    let violation = (0..MUTANT_SEEDS).filter(is_replay).find_map(|seed| sim::breaks(seed, Some(mutant)));
    violation.unwrap_or_else(|| panic!("{mutant:?} was not found in {MUTANT_SEEDS} seeds")).promise
}

#[test]
fn g5_a_replays_position_that_passes_an_event_before_its_confirm_is_found() {
    assert_eq!(found_in_a_replay(Mutant::KeepAhead), Promise::NothingLost);
    assert_eq!(found_in_a_replay(Mutant::UnknownIsPublished), Promise::NothingLost);
}

#[test]
fn g6_two_events_of_a_stream_in_flight_in_a_replay_are_found() {
    assert_eq!(found_in_a_replay(Mutant::TwoInFlight), Promise::Order);
}

#[test]
fn g10_a_replay_that_publishes_more_than_a_window_again_is_found() {
    assert_eq!(found_in_a_replay(Mutant::KeepNothing), Promise::Window);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..50 {
        assert_eq!(sim::check(seed, None).unwrap(), sim::check(seed, None).unwrap());
    }
}

#[test]
fn a_failure_prints_its_seed_and_a_trace_that_can_be_read() {
    let (seed, _) = found(Mutant::SkipVisibilityCheck);
    let failure = sim::check(seed, Some(Mutant::SkipVisibilityCheck)).unwrap_err();
    let again = sim::check(seed, Some(Mutant::SkipVisibilityCheck)).unwrap_err();
    let text = failure.to_string();
    assert_eq!(text, again.to_string());
    assert!(text.contains(&format!("seed {seed} ")) && text.contains("was delivered before"), "{text}");
    assert!(failure.smallest.appends.len() == 2 && failure.smallest.faults.is_empty(), "{text}");
    assert!(failure.trace.len() < 40, "{text}");
}
