//! What an export to a file leaves beside it: where to go on.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use streambox::{ScanToken, StreamId};

use crate::{cli::Selection, failure::Failure};

/// What is exported, and in which form: the same when it is gone on with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Selected {
    category: Option<String>,
    stream: Option<String>,
    pub(super) gzip: bool,
}

impl Selected {
    pub(super) fn new(selection: &Selection, gzip: bool) -> Result<Self, Failure> {
        if let Some(stream) = &selection.stream {
            StreamId::new(stream)?;
        }
        Ok(Self { category: selection.scan.category.clone(), stream: selection.stream.clone(), gzip })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cursor {
    Scan(ScanToken),
    /// Of one stream: the last version that is in the file.
    Version(u64),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) selected: Selected,
    pub(super) cursor: Cursor,
    pub(super) events: u64,
    pub(super) streams: u64,
    /// The file as far as it goes: what is behind was not settled.
    pub(super) bytes: u64,
}

impl Checkpoint {
    pub(super) fn path(file: &Path) -> PathBuf {
        let mut name = file.as_os_str().to_owned();
        name.push(".resume");
        name.into()
    }

    pub(super) fn read(file: &Path, selected: &Selected) -> Result<Self, Failure> {
        let path = Self::path(file);
        let refuse =
            |why: String| Failure::new(format!("{}: {why}; without --resume, an export begins anew", path.display()));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refuse("there is no interrupted export to go on with".to_owned()));
            }
            Err(error) => return Err(refuse(error.to_string())),
        };
        let checkpoint: Self = serde_json::from_str(&text)
            .map_err(|error| refuse(format!("it is not what an interrupted export leaves: {error}")))?;
        if checkpoint.selected != *selected {
            return Err(refuse("the export that it is of had another --category, --stream or --gzip".to_owned()));
        }
        Ok(checkpoint)
    }

    /// Whole or not at all: another file, then renamed.
    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        let path = Self::path(file);
        let new = path.with_extension("resume.new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(&new, &path)
    }
}
