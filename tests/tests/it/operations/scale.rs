//! What `docs/scale.md` reckons: from the cost contract, and from what it says that it assumes.

use std::{fs, path::Path};

use streambox_tests::metering::Metering;

/// Events a second, each appended alone.
const RATES: [f64; 3] = [1_000.0, 10_000.0, 100_000.0];

/// A deleted entry, in the table and in the index.
const DELETE_UNITS: f64 = 2.0;
/// Of an append and its deletion, what the index takes.
const INDEX_UNITS: f64 = 2.0;
/// Dollars for a million units on demand.
const WRITE_PRICE: f64 = 0.625;
const READ_PRICE: f64 = 0.125;
/// An event of 300 bytes with 110 of the library's, and 100 that DynamoDB adds to each item that it stores.
const STORED_BYTES: f64 = 510.0;
/// What a partition takes in a second, and how many a new table has.
const PARTITION_WRITE_UNITS: f64 = 1_000.0;
const FIRST_PARTITIONS: f64 = 4.0;
/// Keys of the index that a read unit pays for.
const KEYS_PER_UNIT: f64 = 80.0;
/// What a look takes at least from each partition or segment.
const LEAST_UNITS: f64 = 0.5;
const BUSY_INTERVAL: f64 = 0.025;
/// The most relays that all look again after that time.
const RELAYS_AT_FULL_PACE: f64 = 8.0;
const PUBLISHERS: f64 = 2.0;

/// Assumed: messages a second of a queue, and seconds from an append to the deletion of its entry besides the look.
const QUEUE_RATE: f64 = 20_000.0;
const HANDLING: f64 = 0.1;

/// What one relay can do.
#[derive(Clone, Copy)]
struct Relay {
    /// Events a second.
    events: f64,
    /// Keys a second that it reads from the index.
    keys: f64,
}

/// Assumed.
const RELAY: Relay = Relay { events: 4_000.0, keys: 200_000.0 };

/// The looks of a group.
struct Looks {
    /// Seconds from an append to the deletion of its entry.
    lifetime: f64,
    /// Entries that are pending at any time.
    pending: f64,
    /// Read units a second.
    units: f64,
}

impl Looks {
    /// Each relay reads the whole index.
    fn of(relay: Relay, rate: f64) -> Self {
        // An entry waits for a pass, which is as long as there are entries.
        let lifetime = HANDLING / (1.0 - rate / relay.keys);
        let pending = rate * lifetime;
        let a_second = 1.0 / (relay.busy_interval(rate) + pending / relay.keys);
        let look = index_partitions(rate) * LEAST_UNITS + pending / KEYS_PER_UNIT;
        Self { lifetime, pending, units: relay.how_many(rate) * a_second * look }
    }

    fn share_of_price(&self, rate: f64) -> f64 {
        self.units * READ_PRICE / (event_price() * rate)
    }
}

impl Relay {
    fn how_many(self, rate: f64) -> f64 {
        (rate / self.events).ceil()
    }

    /// Seconds from the end of a look to the next one.
    fn busy_interval(self, rate: f64) -> f64 {
        BUSY_INTERVAL * (self.how_many(rate) / RELAYS_AT_FULL_PACE).max(1.0)
    }
}

fn write_units() -> f64 {
    Metering::Aws.append(1) + DELETE_UNITS
}

/// Dollars for a million events, but for the looks.
fn event_price() -> f64 {
    write_units() * WRITE_PRICE + READ_PRICE
}

fn index_partitions(rate: f64) -> f64 {
    (INDEX_UNITS * rate / PARTITION_WRITE_UNITS).max(FIRST_PARTITIONS)
}

/// A number with its thousands apart.
fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn row(name: &str, value: impl Fn(f64) -> String) -> String {
    format!("| {name} | {} |", RATES.map(value).join(" | "))
}

/// What share of an event's price its looks are.
fn looks(assumption: &str, relay: Relay) -> String {
    row(assumption, |rate| percent(Looks::of(relay, rate).share_of_price(rate)))
}

#[test]
fn what_scale_reckons_follows_from_the_cost_contract() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/scale.md");
    let page = fs::read_to_string(path).unwrap();
    let table_units = write_units() - INDEX_UNITS;
    let hour = |rate: f64| (event_price() * rate + Looks::of(RELAY, rate).units * READ_PRICE) * 3_600.0 / 1e6;
    let (slow, quick_index) = (Relay { events: 2_500.0, ..RELAY }, Relay { keys: 400_000.0, ..RELAY });
    for row in [
        row("write units a second, table", |rate| whole(table_units * rate)),
        row("write units a second, index", |rate| whole(INDEX_UNITS * rate)),
        row("read units a second, streams' entries", whole),
        row("read units a second, looks", |rate| whole(Looks::of(RELAY, rate).units)),
        row("dollars an hour, on demand", |rate| whole(hour(rate))),
        row("GB stored a day", |rate| whole(STORED_BYTES * rate * 86_400.0 / 1e9)),
        row("partitions, table", |rate| whole((table_units * rate / PARTITION_WRITE_UNITS).max(FIRST_PARTITIONS))),
        row("partitions, index", |rate| whole(index_partitions(rate))),
        row("entries pending at any time", |rate| whole(Looks::of(RELAY, rate).pending)),
        row("relays", |rate| whole(RELAY.how_many(rate))),
        row("connections to RabbitMQ", |rate| whole(RELAY.how_many(rate) * PUBLISHERS)),
        row("queues at least", |rate| whole((rate / QUEUE_RATE).ceil())),
        looks("as assumed", RELAY),
        looks("a relay publishes 2,500 events a second", slow),
        looks("the index is read twice as quickly", quick_index),
        looks("both", Relay { keys: quick_index.keys, ..slow }),
        looks("a relay publishes 1,000 events a second", Relay { events: 1_000.0, ..RELAY }),
        row("an entry's time in the index, ms", |rate| whole(Looks::of(RELAY, rate).lifetime * 1e3)),
    ] {
        assert!(page.contains(&row), "docs/scale.md lacks:\n{row}");
    }
}
