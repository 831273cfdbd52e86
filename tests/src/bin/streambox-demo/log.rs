//! The event log: which events an import of it makes, by the file itself.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use streambox::StreamId;

use crate::Failure;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What the demo has to know of a line.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    private: Option<bool>,
}

/// A file of events, NDJSON, plain or gzipped.
pub(crate) struct Log {
    pub(crate) path: PathBuf,
    streams: BTreeMap<StreamId, Versions>,
}

#[derive(Default)]
struct Versions {
    last: u64,
    /// Those that are not private, in order.
    public: Vec<u64>,
}

impl Log {
    /// Reads a file. The versions of a stream are those of an import into an empty table.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let mut log = Self { path: path.to_owned(), streams: BTreeMap::new() };
        for (index, line) in lines(path)?.enumerate() {
            let line = line.map_err(|error| cannot_be_read(path, &error))?;
            log.take(&line).map_err(|error| format!("{}:{}: {error}", path.display(), index + 1))?;
        }
        Ok(log)
    }

    fn take(&mut self, line: &str) -> Result<(), Failure> {
        let Some((stream, is_private)) = parsed(line)? else { return Ok(()) };
        let versions = self.streams.entry(stream).or_default();
        versions.last += 1;
        if !is_private {
            versions.public.push(versions.last);
        }
        Ok(())
    }

    /// Writes the lines that come before a purge to another file. Every second stream ends before it; of the others the last third comes
    /// behind it, so that some messages are lost that a later one shows, and some that none does.
    pub(crate) fn before_purge(&self, path: &Path) -> Result<Self, Failure> {
        let ends = self.streams.iter().zip([true, false].into_iter().cycle());
        let kept =
            ends.map(|((stream, Versions { last, .. }), ends)| (stream, if ends { *last } else { last - last / 3 }));
        let mut left: HashMap<_, _> = kept.collect();
        let mut part = BufWriter::new(File::create(path)?);
        for line in lines(&self.path)? {
            let line = line?;
            if let Some((stream, _)) = parsed(&line)?
                && let Some(left) = left.get_mut(&stream)
                && *left > 0
            {
                *left -= 1;
                writeln!(part, "{line}")?;
            }
        }
        part.flush()?;
        Self::read(path)
    }

    /// The public versions of each stream that has any.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (&StreamId, &[u64])> {
        let public = self.streams.iter().map(|(stream, versions)| (stream, versions.public.as_slice()));
        public.filter(|(_, public)| !public.is_empty())
    }

    /// The public versions of a stream, if it is one of the log.
    pub(crate) fn of(&self, stream: &StreamId) -> Option<&[u64]> {
        self.streams.get(stream).map(|versions| versions.public.as_slice())
    }

    /// The last public version of each stream that has more of them than a part of this log.
    pub(crate) fn ends_behind(&self, part: &Self) -> impl Iterator<Item = (&StreamId, u64)> {
        self.ends().filter(|(stream, last)| part.of(stream).and_then(<[_]>::last) != Some(last))
    }

    /// The last public version of each stream.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (&StreamId, u64)> {
        self.streams().filter_map(|(stream, public)| public.last().map(|last| (stream, *last)))
    }

    /// How many events are not private: each of them has to take effect.
    pub(crate) fn events(&self) -> u64 {
        self.streams().map(|(_, public)| public.len() as u64).sum()
    }

    /// The categories of its streams.
    pub(crate) fn categories(&self) -> BTreeSet<&str> {
        self.streams.keys().map(StreamId::category).collect()
    }
}

/// The stream of a line, and whether its event is private. None if the line is blank.
fn parsed(line: &str) -> Result<Option<(StreamId, bool)>, Failure> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let Line { stream, private } = serde_json::from_str(line)?;
    Ok(Some((StreamId::new(stream)?, private == Some(true))))
}

fn lines(path: &Path) -> Result<std::io::Lines<Box<dyn BufRead>>, Failure> {
    let failed = |error| cannot_be_read(path, &error);
    let mut input = BufReader::new(File::open(path).map_err(failed)?);
    let is_gzip = input.fill_buf().map_err(failed)?.starts_with(&GZIP_MAGIC);
    let input: Box<dyn BufRead> =
        if is_gzip { Box::new(BufReader::new(MultiGzDecoder::new(input))) } else { Box::new(input) };
    Ok(input.lines())
}

fn cannot_be_read(path: &Path, error: &std::io::Error) -> Failure {
    format!("{} can't be read: {error}", path.display()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Result<Log, Failure> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(text.as_bytes())?;
        Log::read(file.path())
    }

    fn line(stream: &str, more: &str) -> String {
        format!("{{\"stream\":\"{stream}\",\"type\":\"Counted\",\"data\":1{more}}}\n")
    }

    #[test]
    fn private_events_have_versions_and_are_not_expected() {
        let text =
            [line("a-1", ""), line("b-1", ""), "\n".to_owned(), line("a-1", ",\"private\":true"), line("a-1", "")];
        let log = log(&text.concat()).unwrap();
        let (a, b) = (StreamId::new("a-1").unwrap(), StreamId::new("b-1").unwrap());
        assert_eq!((log.of(&a), log.of(&b), log.events()), (Some([1, 3].as_slice()), Some([1].as_slice()), 3));
        assert_eq!(log.ends().collect::<Vec<_>>(), [(&a, 3), (&b, 1)]);
        assert_eq!(log.categories(), BTreeSet::from(["a", "b"]));
    }

    #[test]
    fn before_a_purge_every_second_stream_ends_and_of_the_others_the_rest_comes_behind_it() {
        let directory = tempfile::tempdir().unwrap();
        let whole = directory.path().join("whole");
        let text: String = (0..3).flat_map(|_| ["a-1", "b-1", "c-1"]).map(|stream| line(stream, "")).collect();
        std::fs::write(&whole, text + &line("d-1", "")).unwrap();
        let whole = Log::read(&whole).unwrap();
        let first = whole.before_purge(&directory.path().join("first")).unwrap();
        let ends = |log: &Log| log.ends().map(|(stream, last)| (stream.to_string(), last)).collect::<Vec<_>>();
        let expected = [("a-1", 3), ("b-1", 2), ("c-1", 3), ("d-1", 1)].map(|(stream, last)| (stream.to_owned(), last));
        assert_eq!(ends(&first), expected);
        let behind: Vec<_> = whole.ends_behind(&first).map(|(stream, last)| (stream.as_str(), last)).collect();
        assert_eq!(behind, [("b-1", 3)]);
    }

    #[test]
    fn a_line_that_is_no_event_is_named() {
        let error = log(&(line("a-1", "") + "{}\n")).err().unwrap().to_string();
        assert!(error.contains(":2: missing field `stream`"), "{error}");
    }
}
