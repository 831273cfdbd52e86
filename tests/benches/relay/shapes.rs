//! Backlogs of two shapes to a quorum queue: the program beside a bare loop.

use std::str::FromStr;

use crate::{Failure, bare, median, stage::Stage};

/// Streams, and entries in each of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    streams: u64,
    entries: u64,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('x').and_then(|(streams, entries)| {
            Some(Self { streams: streams.parse().ok()?, entries: entries.parse().ok()? })
        });
        parts
            .filter(|shape| shape.streams > 0 && shape.entries > 0)
            .ok_or_else(|| "STREAMSxENTRIES, 200x100".to_owned())
    }
}

pub(crate) async fn measure(shape: Shape, rounds: usize) -> Result<(), Failure> {
    let Shape { streams, entries } = shape;
    let events = streams * entries;
    println!("{streams} streams with {entries} pending each, to a quorum queue; events/s until the last confirm");
    println!("{:>7}{:>14}{:>14}{:>10}", "round", "bare loop", "drain", "ratio");
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let stage = Stage::set_with_quorum_queue().await?;
        stage.fill(streams, entries).await?;
        let bare = bare::drain(&stage, events).await?;
        stage.strike(events).await?;

        let stage = Stage::set_with_quorum_queue().await?;
        stage.fill(streams, entries).await?;
        let drain = stage.drain().await?;
        stage.strike(events).await?;

        println!("{round:>7}{bare:>14.0}{drain:>14.0}{:>10.2}", drain / bare);
        ratios.push(drain / bare);
    }
    println!("{:>35}{:>10.2}", "median", median(&mut ratios));
    Ok(())
}
