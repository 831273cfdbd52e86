//! Where lines come from: a file or standard input, plain or gzipped, read ahead on a thread of its own.
//!
//! gzip has its checksum behind the content. So a file is unpacked twice, and no line of a damaged one is handed over; of a pipe,
//! what could be unpacked before the damage is.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, ErrorKind, Read},
    mem,
    path::Path,
};

use flate2::bufread::GzDecoder;
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use crate::line::Line;

/// The maximum size of a line. A payload has at most 400 KB and so have metadata if it is stored compressed; the rest is
/// room for spaces and escapes.
pub(super) const MAX_LINE_BYTES: usize = 2 * 1024 * 1024;

/// Lines are handed over in chunks, each with at most this number of lines and about this number of bytes.
const MAX_CHUNK_LINES: usize = 256;
const MAX_CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks that wait to be taken.
const CHUNKS_AHEAD: usize = 4;

const BUFFER_BYTES: usize = 128 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why there are no more lines before the end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("line {number}: {why}")]
    Line { number: u64, why: String },
    #[error("it can't be read behind line {lines}: {source}")]
    Source { lines: u64, source: io::Error },
    #[error("its gzip content is damaged: {source}")]
    Damaged { source: io::Error },
}

pub(super) type Chunk = Result<Vec<Line>, Unreadable>;

/// Starts reading. The error is one of opening the file.
pub(super) fn read_ahead(file: &Path, progress: &ProgressBar) -> io::Result<mpsc::Receiver<Chunk>> {
    let mut to_check = None;
    let input: Box<dyn Read + Send> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let path = file;
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        progress.set_length(metadata.len());
        to_check = metadata.is_file().then(|| File::open(path)).transpose()?;
        Box::new(file)
    };
    let input = progress.wrap_read(input);
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    // Not a task of the runtime: a read of standard input can't be cancelled, and the program must end without it.
    std::thread::Builder::new().name("import-source".to_owned()).spawn(move || {
        let mut lines = 0;
        if let Some(Err(source)) = to_check.map(check) {
            let _ = sender.blocking_send(Err(Unreadable::Damaged { source }));
            return;
        }
        let end = decoded(input)
            .and_then(|input| send_lines(BufReader::with_capacity(BUFFER_BYTES, input), &sender, &mut lines));
        if let Err(source) = end {
            let _ = sender.blocking_send(Err(Unreadable::Source { lines, source }));
        }
    })?;
    Ok(chunks)
}

/// Whether a file, if it is gzipped, can be unpacked to its end.
fn check(file: File) -> io::Result<()> {
    match head(file)? {
        (GZIP_MAGIC, whole) => io::copy(&mut Members::new(whole), &mut io::sink()).map(|_| ()),
        _ => Ok(()),
    }
}

/// Unpacks what begins as gzip does.
fn decoded(input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    Ok(match head(input)? {
        (GZIP_MAGIC, whole) => Box::new(Members::new(whole)),
        (_, whole) => Box::new(whole),
    })
}

/// The first two bytes (0 if there are none), and all of the input.
fn head<R: Read>(mut input: R) -> io::Result<([u8; 2], impl Read + use<R>)> {
    let mut bytes = Vec::new();
    input.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut bytes)?;
    let head = [bytes.first(), bytes.get(1)].map(|byte| byte.copied().unwrap_or(0));
    Ok((head, Cursor::new(bytes).chain(input)))
}

/// The members of a gzip file, one after the other; none behind the last. Zeros behind a member are passed over, as gzip does: tapes and
/// some archives pad with them.
struct Members<R>(Option<GzDecoder<BufReader<R>>>);

impl<R: Read> Members<R> {
    fn new(input: R) -> Self {
        Self(Some(GzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, input))))
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let bytes = member.read(buffer)?;
            if bytes > 0 || buffer.is_empty() {
                return Ok(bytes);
            }
            let mut rest = self.0.take().expect("it was there").into_inner();
            self.0 = has_more_than_zeros(&mut rest)?.then(|| GzDecoder::new(rest));
        }
        Ok(0)
    }
}

/// Passes over zeros.
fn has_more_than_zeros(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffered = input.fill_buf()?;
        let zeros = buffered.iter().take_while(|byte| **byte == 0).count();
        if zeros == 0 {
            return Ok(!buffered.is_empty());
        }
        input.consume(zeros);
    }
}

/// Sends all lines in chunks. The error is one of reading; what was read before it has been sent.
fn send_lines(mut input: BufReader<impl Read>, chunks: &mpsc::Sender<Chunk>, lines: &mut u64) -> io::Result<()> {
    let mut chunk = Vec::new();
    let mut chunk_bytes = 0;
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = input.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut text);
        let is_end = !matches!(read, Ok(1..));
        let mut bad = None;
        if !is_end {
            *lines += 1;
            chunk_bytes += text.len();
            match parse(*lines, &text) {
                Ok(line) => chunk.extend(line),
                Err(why) => bad = Some(Unreadable::Line { number: *lines, why }),
            }
        }
        let is_full = chunk.len() >= MAX_CHUNK_LINES || chunk_bytes >= MAX_CHUNK_BYTES;
        // A pipe may stay silent for long: what it has given so far is not held back.
        if is_end || is_full || bad.is_some() || input.buffer().is_empty() {
            chunk_bytes = 0;
            // The receiver stops for reasons of its own.
            let listens = chunks.blocking_send(Ok(mem::take(&mut chunk))).is_ok();
            if let Some(bad) = bad {
                let _ = chunks.blocking_send(Err(bad));
                return Ok(());
            }
            if is_end || !listens {
                return read.map(|_| ());
            }
        }
    }
}

fn parse(number: u64, text: &[u8]) -> Result<Option<Line>, String> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if text.len() > MAX_LINE_BYTES {
        return Err(format!("it is too long: a line has at most {MAX_LINE_BYTES} bytes"));
    }
    Line::parse(number, text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn lines(count: usize) -> String {
        (1..=count).fold(String::new(), |text, number| {
            text + &format!("{{\"stream\":\"order-1\",\"type\":\"A\",\"data\":{number}}}\n")
        })
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    /// The numbers of the lines of a file with this content, and how it ended.
    fn read(content: &[u8]) -> (Vec<u64>, Option<String>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let mut chunks = read_ahead(file.path(), &ProgressBar::hidden()).unwrap();
        let mut numbers = Vec::new();
        while let Some(chunk) = chunks.blocking_recv() {
            match chunk {
                Ok(lines) => numbers.extend(lines.iter().map(|line| line.number)),
                Err(end) => return (numbers, Some(end.to_string())),
            }
        }
        (numbers, None)
    }

    #[test]
    fn plain_and_gzipped_files_are_told_apart_by_their_content() {
        let text = lines(1_000);
        let all: Vec<u64> = (1..=1_000).collect();
        assert_eq!(read(text.as_bytes()), (all.clone(), None));
        assert_eq!(read(&gzip(&text)), (all, None));
        assert_eq!(read(b""), (vec![], None));
        assert_eq!(read(text.trim_end().as_bytes()).0.len(), 1_000, "the last line needs no line break");
        let two_members = [gzip(&lines(2)), gzip(&lines(3))].concat();
        assert_eq!(read(&two_members), ((1..=5).collect(), None));
    }

    #[test]
    fn blank_lines_are_counted_and_skipped() {
        let text = format!("\n{}\r\n\n{}", lines(1), lines(1));
        assert_eq!(read(text.as_bytes()), (vec![2, 5], None));
    }

    #[test]
    fn a_bad_line_comes_behind_all_lines_before_it() {
        let (numbers, end) = read(format!("{}oops\n{}", lines(300), lines(1)).as_bytes());
        assert_eq!(numbers, (1..=300).collect::<Vec<_>>());
        assert!(end.as_deref().is_some_and(|end| end.starts_with("line 301: ")), "{end:?}");
    }

    #[test]
    fn a_line_that_does_not_end_is_not_held_in_memory() {
        let (numbers, end) = read(format!("{}{}", lines(1), "x".repeat(3 * MAX_LINE_BYTES)).as_bytes());
        assert_eq!(numbers, [1]);
        assert!(
            end.as_deref().is_some_and(|end| end.contains("line 2") && end.contains("at most 2097152 bytes")),
            "{end:?}"
        );
    }

    #[test]
    fn zeros_behind_gzip_are_padding() {
        let padded = [gzip(&lines(2)), vec![0; 100_000], gzip(&lines(3)), vec![0; 512]].concat();
        assert_eq!(read(&padded), ((1..=5).collect(), None));
        let (numbers, end) = read(&[gzip(&lines(2)), b"trailing".to_vec()].concat());
        assert!(numbers.is_empty() && end.is_some_and(|end| end.contains("gzip")), "{numbers:?}");
    }

    #[test]
    fn no_line_of_a_file_that_is_cut_off_or_whose_checksum_is_wrong_is_handed_over() {
        let packed = gzip(&lines(10));
        let mut flipped = packed.clone();
        let checksum = packed.len() - 8;
        flipped[checksum] ^= 1;
        for damaged in [&packed[..packed.len() - 9], &packed[..packed.len() - 1], &flipped] {
            let (numbers, end) = read(damaged);
            assert_eq!(numbers, [0; 0]);
            assert!(end.as_deref().is_some_and(|end| end.starts_with("its gzip content is damaged: ")), "{end:?}");
        }
    }
}
