//! Where lines go to: standard output or a file, plain or packed.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead as _, BufReader, BufWriter, ErrorKind, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use streambox_programs::Failure;
use xxhash_rust::xxh3::Xxh3Default;

use super::{
    Stop,
    checkpoint::{Checkpoint, Content, begin_anew},
};

const BUFFER_BYTES: usize = 128 * 1024;

pub(super) struct Sink {
    out: BufWriter<Target>,
    /// Packed bytes on their way to `out`.
    packer: Option<GzEncoder<Vec<u8>>>,
}

enum Target {
    Stdout(io::Stdout),
    File(Box<Exported>),
}

/// A file, and what was written to it.
struct Exported {
    path: PathBuf,
    file: File,
    bytes: u64,
    hash: Xxh3Default,
}

impl Sink {
    pub(super) fn stdout(gzip: bool) -> Self {
        Self::new(Target::Stdout(io::stdout()), gzip)
    }

    /// A new file.
    pub(super) fn create(path: &Path, gzip: bool) -> Result<Self, Failure> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(path),
            _ => unwritable(&error, path),
        })?;
        lock(&file, path)?;
        Ok(Self::file(path, file, 0, Xxh3Default::new(), gzip))
    }

    /// A file whose beginning has this content. What is behind it was written after the checkpoint, and is written again.
    pub(super) fn resume(path: &Path, gzip: bool, content: Content) -> Result<Self, Failure> {
        let name = path.display();
        let refuse = |why: &str| Failure::new(format!("{name} {why}; {}", begin_anew(path)));
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let mut file = match opened {
            // The export had not come to create it.
            Err(error) if error.kind() == ErrorKind::NotFound && content.bytes == 0 => return Self::create(path, gzip),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(refuse("is not there any more")),
            opened => opened.map_err(|error| unwritable(&error, path))?,
        };
        lock(&file, path)?;
        let failed = |error: io::Error| Failure::new(format!("{name} can't be read: {error}"));
        let mut hash = Xxh3Default::new();
        let read = io::copy(&mut (&file).take(content.bytes), &mut hash).map_err(failed)?;
        if read < content.bytes {
            return Err(refuse("is shorter than the export had left it"));
        }
        if hash.digest() != content.hash {
            return Err(refuse("is not as the export had left it"));
        }
        if content.bytes == 0 && !begins_as_an_export(&file, gzip).map_err(failed)? {
            return Err(refuse("is not the export's"));
        }
        file.set_len(content.bytes)
            .and_then(|()| file.seek(SeekFrom::Start(content.bytes)))
            .map_err(|error| unwritable(&error, path))?;
        Ok(Self::file(path, file, content.bytes, hash, gzip))
    }

    fn file(path: &Path, file: File, bytes: u64, hash: Xxh3Default, gzip: bool) -> Self {
        Self::new(Target::File(Box::new(Exported { path: path.to_owned(), file, bytes, hash })), gzip)
    }

    fn new(target: Target, gzip: bool) -> Self {
        let packer = gzip.then(|| GzEncoder::new(Vec::new(), Compression::default()));
        Self { out: BufWriter::with_capacity(BUFFER_BYTES, target), packer }
    }

    pub(super) fn write(&mut self, line: &str) -> Result<(), Stop> {
        self.pack(line).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Stop::ReaderHasGone,
            _ => unwritable(&error, self.name()).into(),
        })
    }

    fn pack(&mut self, line: &str) -> io::Result<()> {
        let Some(packer) = &mut self.packer else { return writeln!(self.out, "{line}") };
        writeln!(packer, "{line}")?;
        self.out.write_all(packer.get_ref())?;
        packer.get_mut().clear();
        Ok(())
    }

    /// Brings everything to the disk and returns what the file has; `None` for standard output. Ends a member of a gzip file, so
    /// that what is there can be unpacked, and another one can follow.
    pub(super) fn sync(&mut self) -> Result<Option<Content>, Failure> {
        match self.synced() {
            // The reader of standard output has closed it.
            Err(error) if error.kind() == ErrorKind::BrokenPipe && self.path().is_none() => Ok(None),
            synced => synced.map_err(|error| unwritable(&error, self.name())),
        }
    }

    fn synced(&mut self) -> io::Result<Option<Content>> {
        if let Some(packer) = &mut self.packer {
            packer.try_finish()?;
            self.out.write_all(packer.get_ref())?;
            *packer = GzEncoder::new(Vec::new(), Compression::default());
        }
        self.out.flush()?;
        let Target::File(exported) = self.out.get_ref() else { return Ok(None) };
        exported.file.sync_all()?;
        Ok(Some(Content { bytes: exported.bytes, hash: exported.hash.digest() }))
    }

    fn path(&self) -> Option<&Path> {
        match self.out.get_ref() {
            Target::Stdout(_) => None,
            Target::File(exported) => Some(&exported.path),
        }
    }

    pub(super) fn keep(&self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let Some(path) = self.path() else { return Ok(()) };
        checkpoint.write(path).map_err(|error| unwritable(&error, &Checkpoint::path(path)))
    }

    /// There is nothing left to resume.
    pub(super) fn forget(&self) -> Result<(), Failure> {
        let Some(path) = self.path() else { return Ok(()) };
        Checkpoint::remove(path).map_err(|error| unwritable(&error, &Checkpoint::path(path)))
    }

    /// What messages call it.
    pub(super) fn name(&self) -> &Path {
        self.path().unwrap_or(Path::new("standard output"))
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(exported) => {
                let written = exported.file.write(bytes)?;
                exported.hash.update(&bytes[..written]);
                exported.bytes += written as u64;
                Ok(written)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(exported) => exported.file.flush(),
        }
    }
}

/// Nothing of it has been settled, so nothing but its beginning says whose it is.
fn begins_as_an_export(file: &File, gzip: bool) -> io::Result<bool> {
    let mut file = BufReader::new(file);
    let beginning = file.fill_buf()?;
    let own: &[u8] = if gzip { &[0x1f, 0x8b] } else { b"{\"stream\":" };
    Ok(beginning.is_empty() || beginning.starts_with(own))
}

/// Two exports into one file would each write over the other's lines.
fn lock(file: &File, path: &Path) -> Result<(), Failure> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new(format!("another export is writing {}: wait for its end", path.display())))
        }
        // Not every file system has locks.
        _ => Ok(()),
    }
}

/// A file that is there is never written over.
pub(super) fn exists(path: &Path) -> Failure {
    let (name, checkpoint) = (path.display(), Checkpoint::path(path));
    Failure::new(if checkpoint.exists() {
        format!(
            "{name} is there already and is left as it is: it is an interrupted export, which the same command with --resume \
             resumes. To begin anew, remove {name}, or name another file"
        )
    } else {
        format!("{name} is there already and is left as it is: remove it, or name another file")
    })
}

pub(super) fn unwritable(error: &io::Error, file: &Path) -> Failure {
    Failure::new(format!("{} can't be written: {error}", file.display()))
}
