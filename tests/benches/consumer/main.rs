//! `streambox-consumer` beside a bare lapin loop with one DynamoDB transaction a message.
//!
//! Both sides consume the same backlog, each from a queue of its own that was full before: quorum, a single active consumer, the same prefetch.
//! Both have as many transactions under way, one at a time within a stream, and the same two items in each: a conditional update of the
//! stream's position, and the effect, a count. Each side has an engine of its own, as fresh in each round.
//!
//! Events a second, from the connect to the last effect that is stored, and the processor time that this process takes for an event. The
//! sides take turns, and who begins alternates; the median counts. What each has stored is checked. `make bench-consumer`

mod backlog;
mod bare;
mod ours;
mod stage;

use std::{
    error::Error,
    str::FromStr,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use nix::time::{ClockId, clock_gettime};

use self::{backlog::Backlog, stage::Stage};

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    Bare,
    Consumer,
}

#[derive(Parser)]
#[command(about = "Measure the consumer beside a bare loop")]
struct Arguments {
    /// Streams, and events in each of them
    #[arg(long, value_delimiter = ',', default_value = "20000x1,200x100,1x2000")]
    shapes: Vec<Shape>,
    /// What a round trip to the database takes longer, in milliseconds
    #[arg(long, value_delimiter = ',', default_value = "0,5")]
    added_ms: Vec<u64>,
    /// How often each side consumes the same
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages that the broker sends ahead of their acknowledgement
    #[arg(long, default_value_t = 200)]
    prefetch: u16,
    /// Transactions at the same time
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// Only one side, for a profiler
    #[arg(long, value_enum)]
    only: Option<Side>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Streams, and events in each of them.
#[derive(Clone, Copy, Debug)]
struct Shape {
    streams: u64,
    events: u64,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('x')
            .and_then(|(streams, events)| Some(Self { streams: streams.parse().ok()?, events: events.parse().ok()? }));
        parts.filter(|shape| shape.streams > 0 && shape.events > 0).ok_or_else(|| "STREAMSxEVENTS, 200x100".to_owned())
    }
}

/// What both sides have alike.
#[derive(Clone, Copy)]
struct Settings {
    prefetch: u16,
    concurrency: usize,
}

/// What one side took for a backlog.
struct Figures {
    events_per_second: f64,
    processor_us: f64,
}

/// Begins with the consuming.
struct Clock {
    started: Instant,
    processor: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { started: Instant::now(), processor: processor_time() }
    }

    #[expect(clippy::cast_precision_loss, reason = "rates for reading")]
    fn stop(self, events: u64) -> Figures {
        let processor = processor_time().saturating_sub(self.processor);
        Figures {
            events_per_second: events as f64 / self.started.elapsed().as_secs_f64(),
            processor_us: processor.as_secs_f64() * 1e6 / events as f64,
        }
    }
}

/// Of this process. Engine and broker are others.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("Linux has this clock").into()
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    for added_ms in &arguments.added_ms {
        for shape in &arguments.shapes {
            measure(*shape, Duration::from_millis(*added_ms), &arguments).await?;
        }
    }
    Ok(())
}

async fn measure(shape: Shape, added: Duration, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { prefetch, concurrency, .. } = *arguments;
    let (Shape { streams, events }, settings) = (shape, Settings { prefetch, concurrency });
    println!(
        "{streams} streams with {events} events each; prefetch {prefetch}, {concurrency} transactions at the same time, a round trip to the \
         database takes {added:?} longer"
    );
    println!("{:>7}{:>24}{:>24}{:>10}", "", "bare loop", "consumer", "");
    println!("{:>7}{:>12}{:>12}{:>12}{:>12}{:>10}", "round", "events/s", "CPU, µs", "events/s", "CPU, µs", "ratio");
    let mut ratios = Vec::new();
    for round in 1..=arguments.rounds {
        let backlog = Backlog::publish(shape).await?;
        let (mut bare, mut ours) = (None, None);
        let sides = if round % 2 == 0 { [Side::Consumer, Side::Bare] } else { [Side::Bare, Side::Consumer] };
        for side in sides.into_iter().filter(|side| arguments.only.is_none_or(|only| only == *side)) {
            let stage = Stage::set(shape, added).await?;
            match side {
                Side::Bare => bare = Some(bare::consume(&stage, &backlog.bare, settings).await?),
                Side::Consumer => ours = Some(ours::consume(&stage, &backlog.ours, settings).await?),
            }
            stage.check().await?;
        }
        backlog.end().await?;
        let shown = |figures: &Option<Figures>| match figures {
            Some(of) => format!("{:>12.0}{:>12.0}", of.events_per_second, of.processor_us),
            None => format!("{:>24}", ""),
        };
        let ratio =
            bare.as_ref().zip(ours.as_ref()).map(|(bare, ours)| ours.events_per_second / bare.events_per_second);
        let ratio_shown = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        println!("{round:>7}{}{}{ratio_shown:>10}", shown(&bare), shown(&ours));
        ratios.extend(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    if let (Some(least), Some(most)) = (ratios.first(), ratios.last()) {
        println!("{:>65} median ({least:.2} … {most:.2})", format!("{:.2}", ratios[ratios.len() / 2]));
    }
    Ok(())
}
