//! Where lines go to: standard output or a file, plain or packed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

use super::{End, checkpoint::Checkpoint};
use crate::failure::Failure;

const BUFFER_BYTES: usize = 128 * 1024;

type Out = BufWriter<Box<dyn Write + Send>>;

pub(super) struct Sink {
    packer: Packer,
    /// None: standard output.
    file: Option<(PathBuf, File)>,
}

enum Packer {
    Plain(Out),
    Gzip(GzEncoder<Out>),
}

impl Sink {
    /// A new file, or one that is gone on with behind so many bytes.
    pub(super) fn open(path: Option<&Path>, gzip: bool, from: Option<u64>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self { packer: Packer::new(Box::new(io::stdout()), gzip), file: None });
        };
        let opened = match from {
            None => File::create_new(path),
            Some(bytes) => reopen(path, bytes),
        };
        let name = path.display();
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::AlreadyExists => Failure::new(format!(
                "{name} is there already and is left as it is: remove it, name another file, or go on with --resume"
            )),
            _ => Failure::new(format!("{name} can't be written: {error}")),
        };
        let file = opened.map_err(failed)?;
        let out = Box::new(file.try_clone().map_err(failed)?);
        Ok(Self { packer: Packer::new(out, gzip), file: Some((path.to_owned(), file)) })
    }

    pub(super) fn write(&mut self, line: &str) -> Result<(), (io::Error, String)> {
        let written = self.packer.write(line);
        written.map_err(|error| (error, self.name()))
    }

    /// Brings everything to the disk and returns how long the file is; `None` for standard output.
    pub(super) fn settle(&mut self) -> Result<Option<u64>, Failure> {
        let settled = self.packer.settle().and_then(|()| match &self.file {
            None => Ok(None),
            Some((_, file)) => file.sync_data().and_then(|()| file.metadata()).map(|file| Some(file.len())),
        });
        match settled {
            // Whoever reads standard output has had enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe && self.file.is_none() => Ok(None),
            settled => settled.map_err(|error| failure(&error, &self.name())),
        }
    }

    pub(super) fn keep(&self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let Some((path, _)) = &self.file else { return Ok(()) };
        checkpoint.write(path).map_err(|error| failure(&error, &Checkpoint::path(path).display().to_string()))
    }

    /// The export is complete: there is nothing to go on with.
    pub(super) fn forget(&self) -> Result<(), Failure> {
        let Some((path, _)) = &self.file else { return Ok(()) };
        let path = Checkpoint::path(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failure(&error, &path.display().to_string())),
            _ => Ok(()),
        }
    }

    fn name(&self) -> String {
        self.file.as_ref().map_or("standard output".to_owned(), |(path, _)| path.display().to_string())
    }
}

fn reopen(path: &Path, bytes: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    if file.metadata()?.len() < bytes {
        return Err(io::Error::other("it is shorter than it was; without --resume, an export begins anew"));
    }
    file.set_len(bytes)?;
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

fn failure(error: &io::Error, name: &str) -> Failure {
    Failure::new(format!("{name} can't be written: {error}"))
}

pub(super) fn end((error, name): (io::Error, String)) -> End {
    if error.kind() == ErrorKind::BrokenPipe { End::ReaderHasGone } else { End::Output(failure(&error, &name)) }
}

impl Packer {
    fn new(out: Box<dyn Write + Send>, gzip: bool) -> Self {
        let out = BufWriter::with_capacity(BUFFER_BYTES, out);
        if gzip { Self::Gzip(GzEncoder::new(out, Compression::default())) } else { Self::Plain(out) }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Plain(out) => writeln!(out, "{line}"),
            Self::Gzip(out) => writeln!(out, "{line}"),
        }
    }

    /// Ends a member of the gzip file, so that what is there can be unpacked, and another one can follow.
    fn settle(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(encoder) => {
                encoder.try_finish()?;
                let out = std::mem::replace(encoder.get_mut(), BufWriter::new(Box::new(io::sink())));
                *encoder = GzEncoder::new(out, Compression::default());
                encoder.get_mut().flush()
            }
        }
    }
}
