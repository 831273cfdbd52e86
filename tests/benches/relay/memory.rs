//! A large backlog: the relay's peak resident set, when the first message comes, the rate, and what a pass over the index costs.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::{ReturnConsumedCapacity, Select};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use streambox::schema::OUTBOX_INDEX;
use streambox_relay::relay::SCAN_LIMIT;
use streambox_tests::memory::peak_kib;
use tokio::time::sleep;

use crate::{
    Failure,
    stage::{Stage, still_runs},
};

const ENTRIES_PER_STREAM: u64 = 10;

/// How often the queue is asked how much has come: before the first message, and then.
const FIRST_LOOK_INTERVAL: Duration = Duration::from_millis(10);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

#[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
pub(crate) async fn measure(entries: u64) -> Result<(), Failure> {
    let stage = Stage::set().await?;
    stage.fill(entries / ENTRIES_PER_STREAM, ENTRIES_PER_STREAM).await?;
    let (requests, units) = pass(&stage).await?;
    // The relay is looked at while it runs, hence `run` and not `drain`.
    let began = Instant::now();
    let mut relay = stage.relay("run").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?;
    while stage.queue.messages().await? == 0 {
        still_runs(&mut relay)?;
        // A broker tells nobody how much has come.
        sleep(FIRST_LOOK_INTERVAL).await;
    }
    let first = began.elapsed();
    while stage.queue.messages().await? < entries {
        still_runs(&mut relay)?;
        sleep(LOOK_INTERVAL).await;
    }
    let rate = entries as f64 / began.elapsed().as_secs_f64();
    let id = relay.id().ok_or("the relay has ended")?;
    let peak_kib = peak_kib(id)?;
    kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
    if !relay.wait().await?.success() {
        return Err("the relay does not stop in order".into());
    }
    println!(
        "{entries:>7} pending entries: the first message {} ms after the start, {rate:.0} events/s, the relay's peak resident set \
         {:.1} MiB; a pass over the index is {requests} requests of {units:.0} read units",
        first.as_millis(),
        f64::from(peak_kib) / 1024.0
    );
    stage.strike(entries).await.map(|_| ())
}

/// The requests and the read units of a pass over the index.
async fn pass(stage: &Stage) -> Result<(u32, f64), Failure> {
    let scan = stage.client().scan().table_name(stage.store.table()).index_name(OUTBOX_INDEX).limit(SCAN_LIMIT.into());
    let scan = scan.select(Select::Count).return_consumed_capacity(ReturnConsumedCapacity::Total);
    let (mut requests, mut units, mut from) = (0, 0.0, None);
    loop {
        let page = scan.clone().set_exclusive_start_key(from).send().await?;
        requests += 1;
        units += page.consumed_capacity.and_then(|capacity| capacity.capacity_units).unwrap_or(0.0);
        from = page.last_evaluated_key.filter(|key| !key.is_empty());
        if from.is_none() {
            return Ok((requests, units));
        }
    }
}
