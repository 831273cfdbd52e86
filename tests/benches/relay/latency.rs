//! From append to consumer, at the default poll interval, and what an idle relay costs a month.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use streambox::{EventStore, ExpectedVersion};
use streambox_tests::engine::{event, stream as stream_id};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{Failure, stage::Stage};

const APPENDS_PER_SECOND: u32 = 100;
/// Streams that the appends go to, one after the other.
const STREAMS: u32 = 1_000;
/// Appends that only warm up.
const WARM_UP: u32 = 100;
/// `--poll-interval`.
const POLL_INTERVAL_MS: f64 = 500.0;
/// A look at an empty index costs half a unit; dollars for a million units on demand, us-east-1.
const LOOK_UNITS: f64 = 0.5;
const DOLLARS_PER_MILLION_READ_UNITS: f64 = 0.125;
const MS_PER_MONTH: f64 = 30.0 * 24.0 * 3600.0 * 1000.0;

pub(crate) async fn measure(seconds: u32) -> Result<(), Failure> {
    let stage = Stage::set().await?;
    let mut relay = stage.relay("run").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?;
    let appends = WARM_UP + seconds * APPENDS_PER_SECOND;
    let (store, queue) = (stage.store, stage.queue);
    let mut inbox = queue.consume();
    let (begun, mut times) = mpsc::unbounded_channel();
    let writer = tokio::spawn(append(store, appends, begun));
    let mut began_at = vec![None; appends as usize];
    let mut latencies_ms = Vec::new();
    for _ in 0..appends {
        let message = inbox.next().await;
        let now = Instant::now();
        // Its body says which append it was, and that one's time was sent before it.
        while let Ok((number, at)) = times.try_recv() {
            let place: &mut Option<Instant> = &mut began_at[number as usize];
            *place = Some(at);
        }
        let body: serde_json::Value = serde_json::from_slice(&message.body)?;
        let number = u32::try_from(body["number"].as_u64().ok_or("the event has a number")?)?;
        let start = began_at[number as usize].ok_or("an event came before its append began")?;
        if number >= WARM_UP {
            latencies_ms.push((now - start).as_secs_f64() * 1000.0);
        }
    }
    writer.await??;
    kill(Pid::from_raw(i32::try_from(relay.id().ok_or("the relay has ended")?)?), Signal::SIGTERM)?;
    relay.wait().await?;
    inbox.close().await?;
    latencies_ms.sort_by(f64::total_cmp);
    let at = |share: usize| latencies_ms[(latencies_ms.len() - 1) * share / 100];
    let looks = MS_PER_MONTH / POLL_INTERVAL_MS;
    let dollars = looks * LOOK_UNITS / 1e6 * DOLLARS_PER_MILLION_READ_UNITS;
    println!(
        "{APPENDS_PER_SECOND} appends/s, a look every {POLL_INTERVAL_MS} ms: from append to consumer {:.0} ms (median), {:.0} ms \
         (99th percentile), {:.0} ms (longest); idle, the looks cost ${dollars:.2} a month",
        at(50),
        at(99),
        at(100),
    );
    Ok(())
}

/// Appends at an even pace. A late tick is made up for.
async fn append(store: EventStore, appends: u32, begun: mpsc::UnboundedSender<(u32, Instant)>) -> Result<(), Failure> {
    let mut pace = interval(Duration::from_secs(1) / APPENDS_PER_SECOND);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..appends {
        pace.tick().await;
        begun.send((number, Instant::now()))?;
        let id = stream_id(&format!("order-{}", number % STREAMS));
        store.append(&id, ExpectedVersion::Any, [event(number.into())]).await?;
    }
    Ok(())
}
