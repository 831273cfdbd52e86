//! From append to consumer: by the program, whose looks adapt, and by a relay inside of the service, which is woken.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use streambox::{EventStore, ExpectedVersion};
use streambox_relay::Relay;
use streambox_tests::{
    broker::{Inbox, named_broker_url},
    engine::{event, stream as stream_id},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{Failure, stage::Stage};

const APPENDS_PER_SECOND: u32 = 100;
/// Streams that the appends go to, one after the other.
const STREAMS: u32 = 1_000;
/// Appends that only warm up.
const WARM_UP: u32 = 100;
/// Appends that come alone, and the silence before each: the looks are as far apart as at idle after two seconds.
const ALONE: u32 = 12;
const SILENCE: Duration = Duration::from_secs(5);

/// Milliseconds from the beginning of an append to its message at a consumer.
struct Latencies(Vec<f64>);

impl Latencies {
    fn print(mut self, what: &str) {
        self.0.sort_by(f64::total_cmp);
        let at = |share: usize| self.0[(self.0.len() - 1) * share / 100];
        println!("{what:>52}{:>10.1}{:>16.1}{:>10.1}", at(50), at(99), at(100));
    }
}

pub(crate) async fn measure(rounds: usize, seconds: u32) -> Result<(), Failure> {
    println!("{APPENDS_PER_SECOND} appends/s for {seconds} s, {STREAMS} streams: ms from append to consumer");
    println!("{:>52}{:>10}{:>16}{:>10}", "", "median", "99th percentile", "longest");
    for _ in 0..rounds {
        let stage = Stage::set().await?;
        let mut relay = stage.relay("run").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?;
        let (store, mut inbox) = (stage.store, stage.queue.consume());
        under_load(&store, &mut inbox, seconds).await?.print("streambox-relay run");
        alone(&store, &mut inbox).await?.print(&format!("{ALONE} appends, each after {SILENCE:?} of silence"));
        kill(Pid::from_raw(i32::try_from(relay.id().ok_or("the relay has ended")?)?), Signal::SIGTERM)?;
        relay.wait().await?;
        inbox.close().await?;

        let stage = Stage::set().await?;
        let relay = Relay::builder(stage.store.clone(), named_broker_url()).exchange(stage.queue.exchange()).spawn()?;
        let store = EventStore::builder(stage.client(), stage.store.table()).on_append(relay.waker()).build();
        let mut inbox = stage.queue.consume();
        under_load(&store, &mut inbox, seconds).await?.print("inside of the service, woken by its appends");
        alone(&store, &mut inbox).await?.print(&format!("{ALONE} appends, each after {SILENCE:?} of silence"));
        relay.stop().await?;
        inbox.close().await?;
    }
    Ok(())
}

async fn alone(store: &EventStore, inbox: &mut Inbox) -> Result<Latencies, Failure> {
    let mut latencies = Vec::new();
    for number in 0..ALONE {
        // At another moment between two looks each time.
        sleep(SILENCE + Duration::from_millis(u64::from(number) * 41)).await;
        let began = Instant::now();
        store.append(&stream_id(&format!("alone-{number}")), ExpectedVersion::NoStream, [event(number.into())]).await?;
        inbox.next().await;
        latencies.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(Latencies(latencies))
}

async fn under_load(store: &EventStore, inbox: &mut Inbox, seconds: u32) -> Result<Latencies, Failure> {
    let appends = WARM_UP + seconds * APPENDS_PER_SECOND;
    let (begun, mut times) = mpsc::unbounded_channel();
    let writer = tokio::spawn(append(store.clone(), appends, begun));
    let mut began_at = vec![None; appends as usize];
    let mut latencies = Vec::new();
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
            latencies.push((now - start).as_secs_f64() * 1000.0);
        }
    }
    writer.await??;
    Ok(Latencies(latencies))
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
