//! Tasks and their results as a trace shows them: what is the usual case is left out.

use std::fmt::Debug;

use streambox::message::Received;
use streambox_consumer::core::{Done, Task};

use super::store::event_number;

fn event(received: &Received) -> String {
    let (stream, version, number) = (&received.stream_id, received.version, event_number(received.event_id));
    format!("{stream} v{version} (event {number}, behind v{})", received.previous_version.unwrap_or(0))
}

fn result(result: &Result<impl Debug, String>) -> String {
    match result {
        Ok(answer) => format!("{answer:?}"),
        Err(_) => "no answer".to_owned(),
    }
}

/// What a core wants; none if that is nothing to speak of.
pub(super) fn of_task(task: &Task) -> Option<String> {
    match task {
        Task::FindDue | Task::Acknowledge(_) => None,
        Task::Apply(received, last) => Some(format!("Apply {}, if it is at v{last}", event(received))),
        task => Some(format!("{task:?}")),
    }
}

/// What a core learns; none if that is nothing to speak of.
pub(super) fn of_done(done: &Done) -> Option<String> {
    match done {
        Done::FoundDue(Ok(found)) if found.is_empty() => None,
        Done::Applied(received, applied) => Some(format!("Applied {}: {}", event(received), result(applied))),
        Done::ReadStore(stream, Ok(page)) => {
            let events: Vec<_> = page.events.iter().map(|received| event(received)).collect();
            Some(format!("ReadStore of {stream}: {events:?} through v{}, is end: {}", page.through, page.is_end))
        }
        done => Some(format!("{done:?}")),
    }
}
