//! Where the items to verify come from.

use crate::{
    error::Error,
    read,
    scan::{Progress, ScanOptions, ScanRows, ScannedPage, Segment},
    stream::StreamId,
    table::Table,
};

#[derive(Debug)]
pub(super) enum Items {
    Segment(Segment),
    Partition { table: Table, stream: StreamId, progress: Progress },
}

impl Items {
    pub(super) fn of_segment(table: &Table, options: &ScanOptions, number: u16) -> Self {
        Self::Segment(Segment::new(table.clone(), options.clone(), number, ScanRows::Items))
    }

    pub(super) fn of_stream(table: &Table, stream: &StreamId) -> Self {
        Self::Partition { table: table.clone(), stream: stream.clone(), progress: Progress::Start }
    }

    pub(super) fn progress(&self) -> Progress {
        match self {
            Self::Segment(segment) => segment.progress.clone(),
            Self::Partition { progress, .. } => progress.clone(),
        }
    }

    pub(super) async fn next_page(&mut self) -> Result<ScannedPage, Error> {
        match self {
            Self::Segment(segment) => segment.next_page().await,
            Self::Partition { table, stream, progress } => {
                let from = match progress {
                    Progress::After { entity, .. } => Some(entity.as_str()),
                    Progress::Start | Progress::End => None,
                };
                let (items, key, read_units) = read::partition_page(table, stream, from).await?;
                *progress = key.as_ref().map_or(Progress::End, Progress::behind_key);
                Ok(ScannedPage { items, read_units })
            }
        }
    }
}
