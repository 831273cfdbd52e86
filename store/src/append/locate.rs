//! Where each append of a call goes, by what the caller expects.

use super::{
    Part,
    call::{Call, conflict},
    owner::StoredPart,
};
use crate::{
    error::Error,
    read,
    stream::{ExpectedVersion, StreamPosition},
};

pub(super) enum Located<T> {
    At(T),
    /// It was stored before.
    StoredBefore(StoredPart),
}

impl Call<'_> {
    /// The positions behind which the appends go.
    pub(super) async fn locate(&self) -> Result<Located<Vec<StreamPosition>>, Error> {
        let mut positions = Vec::with_capacity(self.parts.len());
        for (part, append) in self.parts.iter().enumerate() {
            match self.locate_part(part, append).await? {
                Located::At(position) => positions.push(position),
                Located::StoredBefore(stored) => return Ok(Located::StoredBefore(stored)),
            }
        }
        Ok(Located::At(positions))
    }

    async fn locate_part(&self, part: usize, append: &Part) -> Result<Located<StreamPosition>, Error> {
        let start = || StreamPosition::start(append.stream.clone());
        let stored_before = async |event| {
            let appended = self.repeated(event).await?;
            Ok(Located::StoredBefore(StoredPart { part, appended }))
        };
        match append.expected {
            ExpectedVersion::At(ref position) => Ok(Located::At(position.clone())),
            ExpectedVersion::NoStream => Ok(Located::At(start())),
            ExpectedVersion::Any | ExpectedVersion::StreamExists => match self.end(&append.stream).await? {
                Some(end) if end.append.id == self.append_id => stored_before(end).await,
                Some(end) => Ok(Located::At(self.behind(end).await?)),
                None if append.expected == ExpectedVersion::StreamExists => Err(conflict(append, start())),
                None => Ok(Located::At(start())),
            },
            ExpectedVersion::Exact(expected) => {
                let end = self.end(&append.stream).await?;
                let current = match end {
                    Some(end) => self.behind(end).await?,
                    None => start(),
                };
                if current.version() == expected {
                    return Ok(Located::At(current));
                }
                // A repeat of an append that has been stored finds the stream behind the version that it expects.
                if current.version() > expected {
                    let next = self.in_time(read::event_at(self.table, &append.stream, expected + 1)).await?;
                    if let Some(next) = next.filter(|next| self.is_ours(next, expected + 1)) {
                        return stored_before(next).await;
                    }
                }
                Err(conflict(append, current))
            }
        }
    }
}
