//! Several relays on one backlog.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::sleep;

use crate::{
    Failure, median,
    stage::{Stage, still_runs},
};

const STREAMS: u64 = 20_000;
const RELAYS: [usize; 3] = [1, 2, 4];

/// How often the queue is asked how much has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

#[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
pub(crate) async fn measure(rounds: usize) -> Result<(), Failure> {
    println!(
        "{STREAMS} streams with one pending entry each, to a quorum queue: events/s from the start of the processes on"
    );
    println!("{:>7}{:>14}{:>40}{:>24}", "relays", "median", "all rounds", "published twice");
    for relays in RELAYS {
        let (mut rates, mut duplicates) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let stage = Stage::set_with_quorum_queue().await?;
            stage.fill(STREAMS, 1).await?;
            let began = Instant::now();
            let mut running = Vec::new();
            for _ in 0..relays {
                let mut relay = stage.relay("run");
                // They know each other soon, and show nothing.
                relay.args(["--heartbeat-interval", "200ms", "--http", "off"]);
                running.push(relay.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?);
            }
            // What is published twice is counted twice, so that the table has the last word.
            while stage.queue.messages().await? < STREAMS || stage.pending().await > 0 {
                for relay in &mut running {
                    still_runs(relay)?;
                }
                // A broker tells nobody how much has come.
                sleep(LOOK_INTERVAL).await;
            }
            rates.push(STREAMS as f64 / began.elapsed().as_secs_f64());
            for relay in &mut running {
                let id = relay.id().ok_or("a relay has ended")?;
                kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
            }
            for relay in &mut running {
                relay.wait().await?;
            }
            duplicates.push(stage.strike(STREAMS).await?);
        }
        let all = rates.iter().map(|rate| format!("{rate:.0}")).collect::<Vec<_>>().join(", ");
        println!("{relays:>7}{:>14.0}{all:>40}{:>24}", median(&mut rates), format!("{duplicates:?}"));
    }
    Ok(())
}
