//! `streambox-consumer generations`: they are listed, switched to, and deleted.

use serde_json::{Value, json};
use streambox_consumer::{Deleting, Generation, Inbox};
use streambox_programs::{Failure, Format, count, print, print_done};

pub(crate) async fn list(inbox: &Inbox, format: Format) -> Result<(), Failure> {
    let generations = inbox.generations().await?;
    let lines = match format {
        Format::Json => {
            let generations = generations.iter().map(value).collect::<Vec<_>>();
            let (table, consumer) = (inbox.table(), inbox.consumer());
            vec![json!({ "table": table, "consumer": consumer, "generations": generations }).to_string()]
        }
        Format::Text => generations.iter().map(line).collect(),
    };
    print(&lines).map(|_| ())
}

pub(crate) async fn switch(inbox: &Inbox, generation: u32, format: Format) -> Result<(), Failure> {
    let before = inbox.switch_generation(generation).await?;
    let done = format!("readers of {} use generation {generation}; before, it was {before}", inbox.consumer());
    print_done(format, &json!({ "generation": generation, "before": before }), &done)
}

pub(crate) async fn delete(inbox: &Inbox, generation: u32, format: Format) -> Result<(), Failure> {
    match inbox.delete_generation(generation).await? {
        Deleting::Done { positions } => {
            let deleted = count(positions, "position", "positions");
            let done = format!("generation {generation} of {}: {deleted} deleted", inbox.consumer());
            print_done(format, &json!({ "generation": generation, "positions": positions }), &done)
        }
        Deleting::IsCurrent => Err(Failure::new(format!(
            "generation {generation} of {} is the current one, which readers use: switch to another one first",
            inbox.consumer()
        ))),
    }
}

fn line(generation: &Generation) -> String {
    let rebuild = generation.rebuild.as_ref().map(|rebuild| {
        let end = if rebuild.is_complete { ", to the end" } else { "" };
        format!(": rebuilt from {}{end}", count(rebuild.events, "event", "events"))
    });
    let is_current = if generation.is_current { ", the current one" } else { "" };
    format!("generation {}{is_current}{}", generation.number, rebuild.unwrap_or_default())
}

fn value(generation: &Generation) -> Value {
    let rebuild = generation.rebuild.as_ref().map(
        |rebuild| json!({ "events": rebuild.events, "streams": rebuild.streams, "is_complete": rebuild.is_complete }),
    );
    json!({ "generation": generation.number, "is_current": generation.is_current, "rebuild": rebuild })
}
