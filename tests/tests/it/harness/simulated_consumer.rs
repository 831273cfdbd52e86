//! The decisions of consumers, simulated by seeds, and consumers broken on purpose, which the simulator has to find.

use streambox_tests::sim::consumer::{self, Mutant, Promise};

/// Seeds that every run of the tests checks.
const SEEDS: u64 = 10_000;

/// More seeds than any mutant needs until it is found.
const MUTANT_SEEDS: u64 = 2_000;

#[test]
fn c1_c2_c3_c4_ten_thousand_seeds_break_no_promise_and_reach_every_situation() {
    let coverage = consumer::check_all(0..SEEDS, None).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{coverage:?}");
    for (situation, times) in coverage.situations() {
        assert!(times > 50, "{situation} came up {times} times only: the simulation has lost it");
    }
}

/// A mutant is found, by one of the promises that it breaks.
fn assert_found(mutant: Mutant, promises: &[Promise]) {
    let mut violations = (0..MUTANT_SEEDS).filter_map(|seed| Some((seed, consumer::breaks(seed, Some(mutant))?)));
    let found = violations.find(|(_, violation)| promises.contains(&violation.promise));
    let (seed, violation) = found.unwrap_or_else(|| panic!("{mutant:?} was not found in {MUTANT_SEEDS} seeds"));
    println!("{mutant:?}: seed {seed}, {:?}: {}", violation.promise, violation.what);
}

#[test]
fn c1_an_ack_before_the_effect_is_found() {
    assert_found(Mutant::AckFirst, &[Promise::Once]);
}

#[test]
fn c1_an_effect_without_the_condition_on_the_position_is_found() {
    assert_found(Mutant::NoCondition, &[Promise::Once, Promise::Order]);
}

#[test]
fn c1_a_position_that_is_written_apart_from_the_effect_is_found() {
    assert_found(Mutant::PositionApart, &[Promise::Once, Promise::Order]);
}

#[test]
fn c1_a_message_of_a_parked_stream_that_is_acknowledged_without_a_note_is_found() {
    assert_found(Mutant::NoteNothing, &[Promise::Once]);
}

#[test]
fn c1_a_mark_that_was_not_written_is_found() {
    assert_found(Mutant::TrustPark, &[Promise::Once]);
}

#[test]
fn c1_a_mark_that_is_removed_too_early_is_found() {
    assert_found(Mutant::UnparkBlindly, &[Promise::Once]);
}

#[test]
fn c1_an_assumed_position_that_is_trusted_is_found() {
    assert_found(Mutant::TrustAssumed, &[Promise::Once]);
}

#[test]
fn c1_an_error_that_is_taken_for_a_success_is_found() {
    assert_found(Mutant::TrustErrors, &[Promise::Once]);
}

#[test]
fn c2_a_gap_that_is_passed_over_is_found() {
    assert_found(Mutant::SkipGaps, &[Promise::Order]);
}

#[test]
fn c3_another_history_that_is_not_checked_is_found() {
    assert_found(Mutant::SkipCheck, &[Promise::Loss, Promise::Once]);
}

#[test]
fn c4_a_stream_that_is_tried_again_on_the_spot_is_found() {
    assert_found(Mutant::RetryInPlace, &[Promise::Isolation]);
}

#[test]
fn c1_a_requeue_that_the_core_does_not_know_of_is_found() {
    assert_found(Mutant::RequeueUnsaid, &[Promise::Bounded, Promise::Drains]);
}

#[test]
fn c1_c2_c4_a_requeue_and_a_retry_that_is_not_claimed_break_no_promise() {
    for mutant in [Mutant::Requeue, Mutant::NoClaim] {
        consumer::check_all(0..MUTANT_SEEDS, Some(mutant)).unwrap_or_else(|failure| panic!("{mutant:?}: {failure}"));
    }
}

#[test]
fn a_failure_prints_its_seed_and_a_trace_that_can_be_read() {
    let failure = consumer::check_all(0..MUTANT_SEEDS, Some(Mutant::AckFirst)).unwrap_err();
    let again = consumer::check(failure.seed, Some(Mutant::AckFirst)).unwrap_err();
    let text = failure.to_string();
    assert_eq!(text, again.to_string());
    assert!(text.contains(&format!("seed {} ", failure.seed)) && text.contains("neither applied nor noted"), "{text}");
    let smallest = failure.smallest;
    assert!(smallest.appends.len() == 1 && smallest.consumers.len() == 1 && smallest.faults.is_empty(), "{text}");
    assert!(failure.trace.len() < 15, "{text}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..50 {
        assert_eq!(consumer::check(seed, None).unwrap(), consumer::check(seed, None).unwrap());
    }
}
