//! All streams of the table, by a parallel `Scan`.
//!
//! DynamoDB puts an item into a segment by its partition key, so a stream is in one segment, and there its items come in the
//! order of their sort keys. Each segment is read page by page, ahead of the consumer by a bounded number of
//! pages. The segments take turns, stream by stream: the consumer gets one stream after the other, each whole and in order, and
//! all of them in an order that depends only on the ids and the number of segments.
//!
//! A `Scan` is no more isolated from a transaction than a `Query`. What is missing in a stream is read by a consistent
//! `Query`, which waits for it, or says what is missing. A damaged stream is an error of its own, and the scan continues with
//! the next one.
//!
//! - `options.rs`: what is scanned; `token.rs`: how far, as a text from which a scan resumes.
//! - `page.rs`: the one request.
//! - `merge.rs`: the segments' pages, merged; generic over what is made of a page.
//! - `events.rs`, `streams.rs`, and the module `verify`: what is made of it; `scanned.rs`: a row, or a damaged stream.

mod events;
mod merge;
mod options;
mod page;
mod scanned;
mod streams;
mod token;

pub use events::EventScan;
pub(crate) use merge::{Merged, Row, Rows, Source};
pub use options::{DEFAULT_SCAN_SEGMENTS, ScanOptions};
pub use page::SCAN_ATTEMPTS;
pub(crate) use page::{ScanRows, ScannedPage, Segment};
pub use streams::{StreamScan, StreamSummary};
pub(crate) use token::Progress;
pub use token::ScanToken;
