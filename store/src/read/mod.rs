//! Load: all events of a stream in order, strongly consistent, page by page.
//!
//! A `Query` is not isolated from a transaction: it may see an append item by item while that is being committed. So each
//! page is checked for gaps, and the end for half an append. A missing version is re-read, then reported as an error that names it. Reading continues by version and not by DynamoDB's page key, which makes "read again" the same as "read on".
//!
//! - `query.rs`: the one request that they all send; `answer.rs` reads its answer.
//! - `check.rs`: what of a page can be handed out (pure).
//! - `page_size.rs`: how many items a page is asked for.
//! - `gap.rs`: how long a missing event is waited for.
//! - `forward.rs`, `backward.rs`: page by page in one direction; `stream.rs` makes a `futures::Stream` of either.
//! - `point.rs`: the end of a stream, one event.

mod answer;
mod backward;
mod check;
mod forward;
mod gap;
mod options;
mod page_size;
mod point;
mod query;
mod stream;

pub use forward::EventReader;
pub use gap::GAP_READ_ATTEMPTS;
pub use options::{Direction, ReadOptions};
pub(crate) use page_size::PageSize;
pub(crate) use point::{behind_append, end, event_at, exists, last_event, marker};
pub(crate) use query::{partition_page, visible_events};
pub use stream::EventStream;

use crate::{event::RecordedEvent, stream::StreamPosition};

/// A stream as it is: all its events, and the position behind them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct History {
    /// The events, from version 1 on.
    pub events: Vec<RecordedEvent>,
    /// Where the stream is; an append `At` it needs no further read.
    pub position: StreamPosition,
    /// The capacity units that the load consumed.
    pub read_units: f64,
}
