//! The checkpoint of an export, a file beside the export's file: how to resume it, and to which export it belongs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use streambox::{EventStore, ScanToken, StreamId};
use streambox_programs::{Failure, remove_file, replace_file};
use xxhash_rust::xxh3::Xxh3Default;

use super::damage::Damage;
use crate::cli::ExportOptions;

/// The format of the checkpoints that this version writes and reads.
const FORMAT: u32 = 1;

/// What is exported, and in which form. An export resumes only as what it began as.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Selected {
    /// The table's identity; it is another one if the table was restored or created again.
    table: String,
    /// The options that decide about the file's content.
    options: String,
}

impl Selected {
    pub(super) async fn new(store: &EventStore, options: &ExportOptions, gzip: bool) -> Result<Self, Failure> {
        let (stream, scan) = (&options.selection.stream, &options.selection.scan);
        if let Some(stream) = stream {
            StreamId::new(stream)?;
        }
        let has_file = options.output.is_some();
        let options = [
            scan.category.as_ref().map(|category| format!("--category {category}")),
            stream.as_ref().map(|stream| format!("--stream {stream}")),
            // The order of the streams depends on it.
            stream.is_none().then(|| format!("--segments {}", scan.segments)),
            options.leave_out_damaged.then(|| "--leave-out-damaged".to_owned()),
            Some(if gzip { "gzip" } else { "no gzip" }.to_owned()),
        ];
        Ok(Self {
            // Standard output has no checkpoint.
            table: if has_file { store.table_identity().await? } else { String::new() },
            options: options.into_iter().flatten().collect::<Vec<_>>().join(", "),
        })
    }

    /// What keeps an export from being resumed as `this`.
    fn difference(&self, this: &Self) -> Option<String> {
        if self.table != this.table {
            return Some(format!(
                "it belongs to an export of table {}, and this is table {}: name that table to resume it",
                self.table, this.table
            ));
        }
        let (began, resumes) = (&self.options, &this.options);
        (began != resumes)
            .then(|| format!("the export began with {began}, not with {resumes}: resume it with the same options"))
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cursor {
    #[default]
    Start,
    Scan(ScanToken),
    /// Of one stream: the last version that is in the file.
    Version(u64),
}

/// How far an export has come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) cursor: Cursor,
    pub(super) events: u64,
    pub(super) streams: u64,
    /// The stream of the last event in the file.
    pub(super) stream: Option<String>,
    pub(super) damaged: Vec<Damage>,
    /// Whether `damaged` are all damaged streams, found before the first line was written.
    pub(super) is_surveyed: bool,
}

/// What is in a file up to a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) bytes: u64,
    /// XXH3, 64 bits: whether it is the same file, not whether somebody has forged it.
    pub(super) hash: u64,
}

impl Content {
    pub(super) fn nothing() -> Self {
        Self { bytes: 0, hash: Xxh3Default::new().digest() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    format: u32,
    selected: Selected,
    pub(super) progress: Progress,
    pub(super) content: Content,
}

impl Checkpoint {
    pub(super) fn new(selected: Selected, progress: Progress, content: Content) -> Self {
        Self { format: FORMAT, selected, progress, content }
    }

    pub(super) fn path(file: &Path) -> PathBuf {
        let mut name = file.as_os_str().to_owned();
        name.push(".resume");
        name.into()
    }

    pub(super) fn read(file: &Path, selected: &Selected) -> Result<Self, Failure> {
        let path = Self::path(file);
        let refuse = |why: String| Failure::new(format!("{}: {why}", path.display()));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(nothing_to_resume(file, &path)),
            Err(error) => return Err(refuse(format!("can't be read: {error}"))),
        };
        let checkpoint: Self =
            serde_json::from_str(&text).ok().filter(|checkpoint: &Self| checkpoint.format == FORMAT).ok_or_else(
                || refuse(format!("it is not the checkpoint of an interrupted export; {}", begin_anew(file))),
            )?;
        match checkpoint.selected.difference(selected) {
            Some(why) => Err(refuse(format!("{why}; or {}", begin_anew(file)))),
            None => Ok(checkpoint),
        }
    }

    /// Whole or not at all, and on the disk when this returns.
    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        replace_file(&Self::path(file), &serde_json::to_vec(self)?)
    }

    pub(super) fn remove(file: &Path) -> io::Result<()> {
        remove_file(&Self::path(file))
    }
}

fn nothing_to_resume(file: &Path, path: &Path) -> Failure {
    let (name, path) = (file.display(), path.display());
    Failure::new(if file.exists() {
        format!(
            "{name} is not an interrupted export: there is no {path} beside it. A complete export needs no --resume; to export \
             again, remove {name} or name another file, and leave out --resume"
        )
    } else {
        format!("there is no interrupted export to resume, neither {name} nor {path} exists: leave out --resume")
    })
}

/// What always helps.
pub(super) fn begin_anew(file: &Path) -> String {
    let (name, path) = (file.display(), Checkpoint::path(file));
    let path = path.display();
    format!("to start again, remove {name} and {path}, or name another file, and leave out --resume")
}
