//! `streambox verify`: what is wrong with the stored events.

use futures_util::TryStreamExt as _;
use indicatif::HumanCount;
use serde_json::json;
use streambox::{EventStore, Finding, StreamId, VerifiedCounts};
use streambox_programs::Failure;

use crate::{
    cli::{Format, Selection},
    output::{TICK, count, print, print_done, spinner, visible},
};

pub(crate) async fn run(store: &EventStore, options: &Selection, format: Format) -> Result<(), Failure> {
    let mut verification = match &options.stream {
        Some(stream) => store.verify_stream(&StreamId::new(stream)?),
        None => store.verify(&options.scan.options())?,
    };
    let progress = spinner();
    let mut findings = 0_u64;
    loop {
        let next = tokio::select! {
            next = verification.try_next() => next?,
            // A verification that finds nothing has nothing else to say.
            () = tokio::time::sleep(TICK) => {
                progress.set_message(verified(verification.counts()));
                continue;
            }
        };
        let Some(finding) = next else { break };
        findings += 1;
        progress.suspend(|| print(&[line(&finding, format)]))?;
    }
    progress.finish_and_clear();
    let counts = verification.counts();
    if let (Some(stream), 0) = (&options.stream, counts.streams) {
        return Err(Failure::new(format!("table {} has no stream {stream}: nothing was verified", store.table())));
    }
    let VerifiedCounts { streams, events, pending, .. } = counts;
    let read_units = verification.read_units();
    let summary = json!({ "streams": streams, "events": events, "pending": pending, "findings": findings, "read_units": read_units });
    let done = format!("{} verified, {findings} findings ({read_units} read units)", verified(counts));
    print_done(format, &summary, &done)?;
    if findings == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("{}: nothing was changed", count(findings, "finding", "findings"))))
}

fn verified(counts: VerifiedCounts) -> String {
    let [events, pending, streams] = [counts.events, counts.pending, counts.streams].map(HumanCount);
    format!("{events} events and {pending} pending entries of {streams} streams")
}

fn line(finding: &Finding, format: Format) -> String {
    match format {
        Format::Text => visible(&finding.to_string()),
        Format::Json => json!({
            "stream": finding.stream_id.as_str(),
            "at": finding.at,
            "kind": finding.fault.kind(),
            "what": finding.fault.to_string(),
        })
        .to_string(),
    }
}
