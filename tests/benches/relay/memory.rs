//! The relay's peak resident set over a backlog.

use std::{process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::sleep;

use crate::{Failure, stage::Stage};

const ENTRIES_PER_STREAM: u64 = 10;

/// How often the queue is asked how much has come.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn measure(entries: u64) -> Result<(), Failure> {
    let stage = Stage::set().await?;
    stage.fill(entries / ENTRIES_PER_STREAM, ENTRIES_PER_STREAM).await?;
    // The relay is looked at while it runs, hence `run` and not `drain`.
    let mut relay = stage.relay("run").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?;
    while stage.queue.messages().await? < entries {
        if let Some(status) = relay.try_wait()? {
            return Err(format!("the relay has ended: {status}").into());
        }
        sleep(LOOK_INTERVAL).await;
    }
    let id = relay.id().ok_or("the relay has ended")?;
    let peak_kib = peak_rss_kib(id)?;
    kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
    if !relay.wait().await?.success() {
        return Err("the relay does not stop in order".into());
    }
    println!("{entries:>7} pending entries: the relay's peak resident set is {:.1} MiB", f64::from(peak_kib) / 1024.0);
    stage.strike(entries).await
}

/// The most memory that a process has had resident so far (`VmHWM` of proc(5)).
fn peak_rss_kib(id: u32) -> Result<u32, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
