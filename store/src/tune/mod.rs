//! How often should snapshots be taken? Feature `tune`.
//!
//! It depends on how large the state is, how large the events are, and how often a stream is loaded from the table.
//! [`tune`] measures it for an aggregate of yours: it lets a stream grow with events of your making, loads it without a
//! snapshot and with one at several distances, and computes what each interval between snapshots costs. The
//! [`TuneReport`] is a table, a plot, and the interval that it recommends, with the reasons.
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! # use streambox::aggregate::{Aggregate, DomainEvent, TaggedJson};
//! # #[derive(Serialize, Deserialize)]
//! # #[serde(tag = "type", content = "data")]
//! # enum CounterEvent { Counted { amount: u64 } }
//! # impl DomainEvent for CounterEvent {
//! #     type Codec = TaggedJson;
//! # }
//! #
//! # #[derive(Default, Clone, Serialize, Deserialize)]
//! # struct Counter { sum: u64 }
//! # impl Aggregate for Counter {
//! #     type Event = CounterEvent;
//! #     const CATEGORY: &'static str = "counter";
//! #     fn apply(&mut self, CounterEvent::Counted { amount }: &CounterEvent) { self.sum += amount; }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use streambox::{testing, tune::{TuneSettings, tune}};
//!
//! let settings = TuneSettings::new().lengths([50, 200]).intervals([10, 50]).cold_loads_per_event(0.1);
//! let next = |version, _: &Counter| CounterEvent::Counted { amount: version };
//! let report = tune(&testing::event_store().await, &settings, next).await?;
//! println!("{report}");
//! # let path = std::env::temp_dir().join(format!("streambox-tune-{}.svg", std::process::id()));
//! std::fs::write(&path, report.to_svg()?)?;
//! # std::fs::remove_file(path)?;
//! # Ok(())
//! # }
//! ```
//!
//! Read units and write units are DynamoDB's own figures, and the same on every engine that counts as AWS does. Times
//! are those of the engine and the machine that it runs on: on the embedded one they show how loads grow, not what they
//! will take on AWS. To measure that, pass a store on AWS; **with a table of its own, since events are never deleted**.
//!
//! What the example `snapshot_interval` finds for a shopping cart of up to 30 items (events of some 300 bytes, a state of 640
//! bytes, one cold load for each event, on-demand prices of us-east-1), at 10,000 events:
//!
//! | a snapshot every | write units a snapshot | read units a load | $ for a million events |
//! |---|---|---|---|
//! | never | | 766.0 | 95.75 |
//! | 10 events | 2 | 3.0 | 0.50 |
//! | **25 events** | 2 | 3.0 | **0.42** |
//! | 50 events | 2 | 3.6 | 0.48 |
//! | 100 events (the default) | 2 | 5.4 | 0.69 |
//! | 1,000 events | 2 | 39.6 | 4.95 |
//!
//! Shorter intervals than 25 gain nothing here, since a load's first request returns 31 items in any case. Larger states make
//! snapshots dearer, and caches make loads rarer: both ask for longer intervals.
//!
//! The example is a program to start from:
//! `cargo run --release --all-features --example snapshot_interval`.

mod measure;
mod plot;
mod recommend;
mod table;

use std::time::Duration;

pub use measure::tune;
pub use plot::PlotError;
pub use recommend::Recommendation;

/// What is measured, and what it is weighed by.
#[derive(Clone, Debug)]
#[must_use = "hand them to `tune`"]
pub struct TuneSettings {
    pub(crate) lengths: Vec<u64>,
    pub(crate) intervals: Vec<u64>,
    pub(crate) loads: u32,
    pub(crate) cold_loads_per_event: f64,
    pub(crate) longest_load: Option<Duration>,
    pub(crate) prices: Prices,
}

/// Dollars for a million capacity units.
///
/// Exhaustive: you fill it in with the prices of your Region.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// A million write units.
    pub write_units: f64,
    /// A million read units.
    pub read_units: f64,
}

impl Prices {
    /// On-demand in us-east-1.
    pub const ON_DEMAND: Self = Self { write_units: 0.625, read_units: 0.125 };
}

impl Default for TuneSettings {
    fn default() -> Self {
        Self {
            lengths: vec![100, 1_000, 10_000],
            intervals: vec![10, 25, 50, 100, 250, 500, 1_000],
            loads: 5,
            cold_loads_per_event: 1.0,
            longest_load: None,
            prices: Prices::ON_DEMAND,
        }
    }
}

impl TuneSettings {
    /// Streams of 100, 1,000 and 10,000 events, intervals from 10 to 1,000, 5 loads at each point, one cold load for
    /// each event, on-demand prices of us-east-1.
    pub fn new() -> Self {
        Self::default()
    }

    /// The lengths, in events, at which the stream is measured.
    pub fn lengths(mut self, lengths: impl IntoIterator<Item = u64>) -> Self {
        self.lengths = in_order(lengths);
        self
    }

    /// The intervals between snapshots, in events, that are compared.
    pub fn intervals(mut self, intervals: impl IntoIterator<Item = u64>) -> Self {
        self.intervals = in_order(intervals);
        self
    }

    /// How often each load is repeated; the time is the median.
    pub fn loads(mut self, loads: u32) -> Self {
        self.loads = loads.max(1);
        self
    }

    /// How often an aggregate is loaded from the table for each event that it gets, at the end of the stream: 1 if
    /// each command loads it and appends one event, less if a cache answers or a command appends several, more if
    /// it is also loaded to be shown.
    pub fn cold_loads_per_event(mut self, loads: f64) -> Self {
        self.cold_loads_per_event = loads.max(0.0);
        self
    }

    /// The longest that a load may take on average; intervals that exceed it are not recommended, whatever they save.
    pub fn longest_load(mut self, longest: Duration) -> Self {
        self.longest_load = Some(longest);
        self
    }

    /// What capacity units cost.
    pub fn prices(mut self, prices: Prices) -> Self {
        self.prices = prices;
        self
    }
}

fn in_order(numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut numbers: Vec<_> = numbers.into_iter().filter(|&number| number > 0).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// What was measured, and what follows from it. `Display` prints the table and the recommendation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TuneReport {
    /// The aggregate's category.
    pub category: &'static str,
    /// For each length of the stream: without snapshots, then by interval.
    pub rows: Vec<TuneRow>,
    /// The interval that is recommended.
    pub recommendation: Recommendation,
    pub(crate) settings: TuneSettings,
}

/// One length of the stream with one interval between snapshots.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TuneRow {
    /// The stream's length in events.
    pub events: u64,
    /// The events between two snapshots; `None`: never.
    pub interval: Option<u64>,
    /// The bytes of the state as JSON.
    pub state_bytes: usize,
    /// What writing a snapshot costs; 0 without snapshots.
    pub write_units_per_snapshot: f64,
    /// What a load costs on average: as much has come after the last snapshot as is between two of them, sometimes
    /// more, sometimes less.
    pub read_units_per_load: f64,
    /// How long a load takes on average.
    pub load: Duration,
    /// Snapshots and cold loads together: dollars for a million events.
    pub dollars_per_million_events: f64,
}
