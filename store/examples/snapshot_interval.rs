//! How often should snapshots of a shopping cart be taken? Measures, prints a table, and draws a plot.
//!
//! ```sh
//! cargo run --release --all-features --example snapshot_interval -- [PLOT.svg [COLD_LOADS_PER_EVENT [LENGTH...]]]
//! ```
//!
//! To answer the question for an aggregate of yours, put it in the cart's place. It runs on an engine inside the
//! process; for the times of a real table, make the store from `client_from_env()` and a table of its own.

use std::{collections::BTreeMap, error::Error, fs};

use serde::{Deserialize, Serialize};
use streambox::{
    aggregate::{Aggregate, DomainEvent, TaggedJson},
    testing,
    tune::{TuneSettings, tune},
};

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum CartEvent {
    ItemAdded { article: String, price_cents: u64, note: String },
    ItemRemoved { article: String },
}

impl DomainEvent for CartEvent {
    type Codec = TaggedJson;
}

/// Items come and go: the state stays small, however long the history is.
#[derive(Default, Clone, Serialize, Deserialize)]
struct Cart {
    items: BTreeMap<String, u64>,
}

impl Aggregate for Cart {
    type Event = CartEvent;
    const CATEGORY: &'static str = "cart";

    fn apply(&mut self, event: &CartEvent) {
        match event {
            CartEvent::ItemAdded { article, price_cents, .. } => {
                self.items.insert(article.clone(), *price_cents);
            }
            CartEvent::ItemRemoved { article } => {
                self.items.remove(article);
            }
        }
    }
}

/// Fills the cart with up to thirty items, and then replaces them one by one.
fn next(version: u64, cart: &Cart) -> CartEvent {
    match cart.items.first_key_value() {
        Some((article, _)) if cart.items.len() >= 30 => CartEvent::ItemRemoved { article: article.clone() },
        _ => CartEvent::ItemAdded {
            article: format!("article-{version:06}"),
            price_cents: 100 + version % 9_900,
            note: "gift wrapping, card: all the best from all of us".to_owned(),
        },
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let plot = arguments.next().unwrap_or_else(|| "snapshot-interval.svg".to_owned());
    let cold_loads_per_event = arguments.next().as_deref().unwrap_or("1").parse()?;
    let lengths = arguments.map(|length| length.parse()).collect::<Result<Vec<u64>, _>>()?;

    let mut settings = TuneSettings::new().cold_loads_per_event(cold_loads_per_event);
    if !lengths.is_empty() {
        settings = settings.lengths(lengths);
    }
    let report = tune(&testing::event_store().await, &settings, next).await?;

    println!("{report}");
    fs::write(&plot, report.to_svg()?)?;
    println!("Plot: {plot}");
    Ok(())
}
