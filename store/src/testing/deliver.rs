//! What a relay and a broker would deliver, without either.

use std::{collections::BTreeMap, fmt::Debug, thread};

use fastrand::Rng;
use futures_util::TryStreamExt as _;

use super::recorded::published;
use crate::{EventStore, ScanOptions, message::Received, stream::StreamId};

/// How often a stream's deliveries begin again from an earlier event.
const REPEATS: u8 = 2;

/// Delivers every event of the table that is not private to `handler`, once: in the order in which they were recorded, and each stream
/// in its own order. What `handler` gets is what a consumer gets behind a relay and a broker.
///
/// It only reads, so each call delivers the whole history: a consumer drops what it has seen, or has not seen anything yet.
///
/// # Panics
/// If `handler` returns an error (the message names the event), or the table can't be read.
pub async fn deliver<E: Debug>(store: &EventStore, handler: impl AsyncFnMut(Received) -> Result<(), E>) {
    let streams = streams(store).await;
    let mut order = Vec::new();
    for (stream, events) in streams.iter().enumerate() {
        let mut at_ms = i64::MIN;
        for (number, event) in events.iter().enumerate() {
            // Clocks differ, and the stream's order counts.
            at_ms = at_ms.max(event.recorded_at_ms);
            order.push((at_ms, stream, number));
        }
    }
    order.sort_unstable();
    let order = order.into_iter().map(|(_, stream, number)| &streams[stream][number]);
    hand_over(order, "in order", handler).await;
}

/// Delivers the same events in the worst ways that the relay permits, chosen by `seed`: streams are interleaved at random, a stream
/// begins again from an earlier event, and late duplicates come at any time. Only the first delivery of each event is in its
/// stream's order. Each stream has duplicates.
///
/// The same seed gives the same deliveries of the same events:
///
/// ```
/// # use streambox::{ExpectedVersion, NewEvent, StreamId, message::Received, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), streambox::Error> {
/// #[derive(Default)]
/// struct Orders { placed: u64, last_seen: std::collections::HashMap<StreamId, u64> }
///
/// impl Orders {
///     async fn handle(&mut self, event: Received) -> Result<(), streambox::Error> {
///         let last_seen = self.last_seen.entry(event.stream_id).or_default();
///         if event.version > *last_seen {
///             *last_seen = event.version;
///             self.placed += u64::from(event.event_type == "OrderPlaced");
///         }
///         Ok(())
///     }
/// }
///
/// # let store = testing::event_store().await;
/// # for id in ["order-1", "order-2"] {
/// #     let placed = NewEvent::json("OrderPlaced", &())?;
/// #     store.append(&StreamId::new(id)?, ExpectedVersion::NoStream, [placed]).await?;
/// # }
/// for seed in 0..10 {
///     let mut orders = Orders::default();
///     testing::deliver_shuffled(&store, seed, async |event| orders.handle(event).await).await;
///     assert_eq!(orders.placed, 2, "seed {seed}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// If `handler` returns an error (the message names the seed and the event; they are printed if it panics), or the table can't be
/// read.
pub async fn deliver_shuffled<E: Debug>(
    store: &EventStore,
    seed: u64,
    handler: impl AsyncFnMut(Received) -> Result<(), E>,
) {
    let streams = streams(store).await;
    let lengths: Vec<_> = streams.iter().map(Vec::len).collect();
    let order = shuffled(&lengths, seed).into_iter().map(|(stream, number)| &streams[stream][number]);
    hand_over(order, &format!("seed {seed}"), handler).await;
}

/// What is published, stream by stream, by their ids.
async fn streams(store: &EventStore) -> Vec<Vec<Received>> {
    let scan = store.scan_events(&ScanOptions::new()).expect("the default options are valid");
    let events: Vec<_> = scan.try_collect().await.unwrap_or_else(|error| panic!("the table can't be read: {error}"));
    let mut streams = BTreeMap::<StreamId, Vec<_>>::new();
    for event in events.into_iter().filter(|event| !event.is_private) {
        let stream = streams.entry(event.stream_id.clone()).or_default();
        let previous = stream.last().map(|before: &Received| before.version);
        stream.push(published(event, previous));
    }
    streams.into_values().collect()
}

/// The order of deliveries, as stream and number of the event in it.
fn shuffled(lengths: &[usize], seed: u64) -> Vec<(usize, usize)> {
    struct Lane {
        length: usize,
        next: usize,
        repeats: u8,
    }
    let mut rng = Rng::with_seed(seed);
    let new = |&length| Lane { length, next: 0, repeats: REPEATS };
    let mut lanes: Vec<_> = lengths.iter().map(new).collect();
    let mut order = Vec::new();
    loop {
        let unfinished: Vec<_> = (0..lanes.len()).filter(|&stream| lanes[stream].next < lanes[stream].length).collect();
        let Some(stream) = rng.choice(unfinished) else { return order };
        let lane = &mut lanes[stream];
        order.push((stream, lane.next));
        lane.next += 1;
        // A relay that was killed publishes again what it had not deleted. At the latest when all have come.
        if lane.repeats > 0 && (lane.next == lane.length || rng.u8(..4) == 0) {
            lane.repeats -= 1;
            lane.next = rng.usize(..lane.next);
        }
        // A second relay was behind.
        if rng.u8(..4) == 0 {
            order.push(order[rng.usize(..order.len())]);
        }
    }
}

async fn hand_over<'a, E: Debug>(
    events: impl Iterator<Item = &'a Received>,
    mode: &str,
    mut handler: impl AsyncFnMut(Received) -> Result<(), E>,
) {
    for (number, event) in (1..).zip(events) {
        let what = format!("delivery {number} ({mode}): {} {}, {}", event.stream_id, event.version, event.event_type);
        let said = SaidIfPanicking(&what);
        let outcome = handler(event.clone()).await;
        drop(said);
        if let Err(error) = outcome {
            panic!("{what}: the handler returned {error:?}");
        }
    }
}

/// Prints at which delivery a handler has panicked: what it says itself does not know.
struct SaidIfPanicking<'a>(&'a str);

impl Drop for SaidIfPanicking<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}: the handler panicked", self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What the relay promises, and nothing more.
        #[test]
        fn first_deliveries_are_in_order_and_every_event_comes(
            lengths in proptest::collection::vec(1..20_usize, 0..5),
            seed: u64,
        ) {
            let order = shuffled(&lengths, seed);
            let mut seen = vec![0; lengths.len()];
            for &(stream, number) in &order {
                prop_assert!(number <= seen[stream], "event {number} of stream {stream} comes too early: {order:?}");
                seen[stream] = seen[stream].max(number + 1);
            }
            prop_assert_eq!(&seen, &lengths);
            for (stream, length) in lengths.iter().enumerate() {
                let deliveries = order.iter().filter(|(of, _)| *of == stream).count();
                prop_assert!(deliveries > *length, "stream {stream} has no duplicates: {order:?}");
            }
            prop_assert_eq!(shuffled(&lengths, seed), order);
        }
    }

    #[test]
    fn seeds_give_every_kind_of_disorder() {
        let orders: Vec<_> = (0..20).map(|seed| shuffled(&[5, 5], seed)).collect();
        assert!(orders.iter().collect::<HashSet<_>>().len() > 15);
        let has = |wanted: fn((usize, usize), (usize, usize)) -> bool| {
            orders.iter().any(|order| order.windows(2).any(|pair| wanted(pair[0], pair[1])))
        };
        assert!(has(|one, next| one.0 != next.0 && one.1 > 0), "streams are interleaved");
        assert!(has(|one, next| one == next), "an event comes twice in a row");
        assert!(has(|one, next| one.0 == next.0 && next.1 + 2 < one.1), "a stream begins again from earlier");
        let late =
            |order: &Vec<(usize, usize)>| order.windows(3).any(|w| w[0] == (0, 4) && w[1] == (0, 1) && w[2] != (0, 2));
        assert!(orders.iter().any(late), "a single event comes late");
    }
}
