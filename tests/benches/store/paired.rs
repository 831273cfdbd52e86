//! Two sides in turns, and what the one takes longer.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// A share of the pairs comes before, unmeasured: connections, caches and the engine warm up.
const WARM_UP_SHARE: usize = 10;

/// The medians of one round.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    raw: Times,
    library: Times,
}

#[derive(Clone, Copy)]
struct Times {
    /// From the call to the answer.
    wall: Duration,
    /// Of this process. The engine is another one.
    processor: Duration,
}

/// Runs both sides in turns. Dropping the answer is part of what is measured, on either side.
pub(crate) async fn paired(pairs: usize, mut raw: impl AsyncFnMut(), mut library: impl AsyncFnMut()) -> Round {
    let (mut raws, mut libraries) = (Vec::with_capacity(pairs), Vec::with_capacity(pairs));
    let warm_up = pairs.div_ceil(WARM_UP_SHARE);
    for pair in 0..warm_up + pairs {
        let times = if pair % 2 == 0 {
            let raw = timed(&mut raw).await;
            (raw, timed(&mut library).await)
        } else {
            let library = timed(&mut library).await;
            (timed(&mut raw).await, library)
        };
        if pair >= warm_up {
            raws.push(times.0);
            libraries.push(times.1);
        }
    }
    Round { raw: medians(&raws), library: medians(&libraries) }
}

async fn timed(operation: &mut impl AsyncFnMut()) -> Times {
    let (started, processor) = (Instant::now(), processor_time());
    operation().await;
    Times { wall: started.elapsed(), processor: processor_time().saturating_sub(processor) }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("Linux has this clock").into()
}

fn medians(times: &[Times]) -> Times {
    Times {
        wall: median(times.iter().map(|times| times.wall)),
        processor: median(times.iter().map(|times| times.processor)),
    }
}

fn median<T: PartialOrd>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<_> = values.collect();
    values.sort_by(|one, other| one.partial_cmp(other).expect("times and shares are ordered"));
    values.swap_remove(values.len() / 2)
}

/// The names of the columns.
pub(crate) fn header() -> String {
    format!("{:>12}{:>12}{:>9}{:>21}{:>18}", "raw SDK, ms", "library, ms", "added", "least … most", "added CPU, µs")
}

/// The columns of a case: medians of its rounds.
pub(crate) fn summary(rounds: &[Round]) -> String {
    let of_rounds = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
    let raw = of_rounds(|round| round.raw.wall.as_secs_f64() * 1e3);
    let library = of_rounds(|round| round.library.wall.as_secs_f64() * 1e3);
    let processor =
        of_rounds(|round| (round.library.processor.as_secs_f64() - round.raw.processor.as_secs_f64()) * 1e6);
    let added = |round: &Round| (round.library.wall.as_secs_f64() / round.raw.wall.as_secs_f64() - 1.0) * 100.0;
    let least = rounds.iter().map(added).fold(f64::INFINITY, f64::min);
    let most = rounds.iter().map(added).fold(f64::NEG_INFINITY, f64::max);
    let added = median(rounds.iter().map(added));
    let spread = format!("{least:.1} … {most:.1} %");
    format!("{raw:>12.3}{library:>12.3}{added:>7.1} %{spread:>21}{processor:>18.0}")
}
