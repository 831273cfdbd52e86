//! streambox beside the raw SDK and comparable crates, on the embedded engine.
//!
//! Every side stores the same events and loads them as values of the same type, by the interface that its documentation
//! shows. Each case and round has a fresh engine for each side, optimised, a process of its own; the client has one thread. The
//! sides take turns operation by operation, and each time another one begins, so that whatever else the machine does meets
//! all of them. Requests and capacity units come from a pass of their own that is not measured.
//!
//! What the sides do is not the same: the last lines that are printed say what each of them leaves out.
//!
//! `make bench-peers`

mod dynamo_es;
mod engine;
mod event_store_adapter;
mod raw;
mod side;
mod streambox_side;
mod wire;

use std::time::Instant;

use clap::Parser;
use futures_util::future::join_all;

use crate::{
    engine::Engine,
    side::{KINDS, Kind, Side},
    wire::{Costs, Wire},
};

/// Appends of each stream in one operation of a case that appends, so that one that lasts long does not decide alone.
const APPENDS_IN_A_ROW: u64 = 5;

#[derive(Parser)]
#[command(about = "Measure streambox beside the raw SDK and comparable crates")]
struct Arguments {
    /// Cases whose name contains this
    #[arg(default_value = "")]
    filter: String,
    /// Rounds, each on fresh engines
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Percent of each case's usual number of operations in a round
    #[arg(long, default_value_t = 100)]
    operations_percent: usize,
    /// Be the engine: print the URL and serve until standard input ends
    #[arg(long, hide = true)]
    engine: bool,
}

/// What is measured.
#[derive(Clone, Copy)]
enum Work {
    /// Single events to this many streams at the same time.
    Append { streams: u64 },
    /// A whole stream of this many events, each of which was appended alone.
    Load { events: u64 },
}

struct Case {
    name: &'static str,
    work: Work,
    /// How many operations of each side a round has.
    operations: usize,
}

const CASES: [Case; 5] = [
    Case { name: "append, 1 at once", work: Work::Append { streams: 1 }, operations: 200 },
    Case { name: "append, 16 at once", work: Work::Append { streams: 16 }, operations: 20 },
    Case { name: "load 10 events", work: Work::Load { events: 10 }, operations: 300 },
    Case { name: "load 1,000 events", work: Work::Load { events: 1_000 }, operations: 40 },
    Case { name: "load 5,000 events", work: Work::Load { events: 5_000 }, operations: 10 },
];

fn main() {
    let arguments = Arguments::parse();
    let mut runtime = if arguments.engine {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = runtime.enable_all().build().expect("the system has threads");
    if arguments.engine {
        runtime.block_on(engine::serve());
    } else {
        runtime.block_on(measure(&arguments));
    }
}

async fn measure(arguments: &Arguments) {
    println!("medians of {} rounds; ratios: streambox's speed by the other's, in the same round", arguments.rounds);
    for case in CASES.iter().filter(|case| case.name.contains(&arguments.filter)) {
        let kinds: Vec<_> = KINDS.into_iter().filter(|kind| kind.takes_part(case.work)).collect();
        let mut costs = Vec::new();
        for kind in &kinds {
            costs.push(cost(*kind, case.work).await);
        }
        let operations = (case.operations * arguments.operations_percent).div_ceil(100);
        let mut rounds = Vec::new();
        for _ in 0..arguments.rounds {
            rounds.push(round(&kinds, case.work, operations).await);
        }
        print(case, &kinds, &costs, &rounds);
    }
    println!();
    for kind in KINDS {
        println!("{}: {}", kind.name(), kind.leaves_out());
    }
}

/// One side in one round, ready to be measured.
struct Stage {
    side: Box<dyn Side>,
    appenders: Vec<Box<dyn side::Appender>>,
    /// Ends with the value.
    _engine: Engine,
}

impl Stage {
    async fn set(kind: Kind, work: Work, wire: Option<&Wire>) -> Self {
        let engine = Engine::start().await;
        let side = kind.set_up(&engine.client(wire)).await;
        let mut appenders = Vec::new();
        match work {
            Work::Append { streams } => {
                for stream in 0..streams {
                    appenders.push(side.appender(stream));
                }
            }
            Work::Load { events } => {
                let mut appender = side.appender(0);
                for _ in 0..events {
                    appender.append().await;
                }
            }
        }
        Self { side, appenders, _engine: engine }
    }

    /// One operation. Returns how many events were appended or loaded.
    async fn operate(&mut self) -> u64 {
        if self.appenders.is_empty() {
            return self.side.load(0).await;
        }
        join_all(self.appenders.iter_mut().map(async |appender| {
            for _ in 0..APPENDS_IN_A_ROW {
                appender.append().await;
            }
        }))
        .await;
        APPENDS_IN_A_ROW * self.appenders.len() as u64
    }
}

/// Operations a second of each side, an append or a load.
async fn round(kinds: &[Kind], work: Work, operations: usize) -> Vec<f64> {
    let mut stages = Vec::new();
    for kind in kinds {
        stages.push(Stage::set(*kind, work, None).await);
    }
    let mut seconds = vec![Vec::new(); stages.len()];
    // A tenth comes before, unmeasured: connections, caches and the engines warm up.
    let warm_up = operations.div_ceil(10);
    for operation in 0..warm_up + operations {
        for turn in 0..stages.len() {
            let which = (operation + turn) % stages.len();
            let started = Instant::now();
            stages[which].operate().await;
            if operation >= warm_up {
                seconds[which].push(started.elapsed().as_secs_f64());
            }
        }
    }
    let count = match work {
        Work::Append { streams } => APPENDS_IN_A_ROW * streams,
        Work::Load { .. } => 1,
    };
    #[expect(clippy::cast_precision_loss, reason = "at most some hundred")]
    seconds.into_iter().map(|seconds| count as f64 / median(seconds)).collect()
}

/// What one append or load costs, and how many events it brings.
async fn cost(kind: Kind, work: Work) -> (Costs, u64) {
    let wire = Wire::new();
    let mut stage = Stage::set(kind, work, Some(&wire)).await;
    if stage.appenders.is_empty() {
        wire.take();
        let events = stage.operate().await;
        return (wire.take(), events);
    }
    // The second of a stream: the first has nothing before it.
    stage.appenders[0].append().await;
    wire.take();
    stage.appenders[0].append().await;
    (wire.take(), 1)
}

fn print(case: &Case, kinds: &[Kind], costs: &[(Costs, u64)], rounds: &[Vec<f64>]) {
    let unit = if matches!(case.work, Work::Append { .. }) { "appends/s" } else { "loads/s" };
    println!(
        "\n{:<32}{:>10}{:>7}{:>21}{:>10}{:>8}{:>8}",
        case.name, unit, "ratio", "least … most", "requests", "units", "events"
    );
    let ours = kinds.iter().position(|kind| *kind == Kind::Streambox).expect("streambox takes part in each case");
    for (which, (kind, (costs, events))) in kinds.iter().zip(costs).enumerate() {
        let rate = median(rounds.iter().map(|rates| rates[which]).collect());
        let ratios: Vec<_> = rounds.iter().map(|rates| rates[ours] / rates[which]).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (ratio, spread) = (median(ratios), format!("{least:.2} … {most:.2}"));
        let Costs { requests, units } = costs;
        println!("  {:<30}{rate:>10.1}{ratio:>7.2}{spread:>21}{requests:>10}{units:>8}{events:>8}", kind.name());
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
