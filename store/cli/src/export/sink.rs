//! Where lines go to: standard output or a file, plain or packed.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead as _, BufReader, BufWriter, ErrorKind, Read as _, Seek as _, SeekFrom, Write},
    mem,
    path::{Path, PathBuf},
    sync::Arc,
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
    out: BufWriter<Box<dyn Write>>,
    /// Of a compressed export: compressed bytes on their way to `out`.
    packer: Option<GzEncoder<Vec<u8>>>,
    /// None if it is standard output.
    file: Option<Arc<File>>,
    name: PathBuf,
    bytes: u64,
    hash: Xxh3Default,
}

impl Sink {
    pub(super) fn stdout(gzip: bool) -> Self {
        Self::new(Box::new(io::stdout()), None, Path::new("standard output"), gzip)
    }

    /// A new file.
    pub(super) fn create(path: &Path, gzip: bool) -> Result<Self, Failure> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(path),
            _ => unwritable(&error, path),
        })?;
        lock(&file, path)?;
        Ok(Self::file(file, path, gzip))
    }

    /// A file that begins with this content. Bytes behind it were written after the checkpoint, and are written again.
    pub(super) fn resume(path: &Path, gzip: bool, content: Content) -> Result<Self, Failure> {
        let name = path.display();
        let refuse = |why: &str| Failure::new(format!("{name} {why}; {}", begin_anew(path)));
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            // The export was interrupted before it created the file.
            Err(error) if error.kind() == ErrorKind::NotFound && content.bytes == 0 => return Self::create(path, gzip),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(refuse("no longer exists")),
            opened => opened.map_err(|error| unwritable(&error, path))?,
        };
        lock(&file, path)?;
        let failed = |error: io::Error| Failure::new(format!("{name} can't be read: {error}"));
        let mut hash = Xxh3Default::new();
        let read = io::copy(&mut (&file).take(content.bytes), &mut hash).map_err(failed)?;
        if read < content.bytes {
            return Err(refuse("is shorter than the export left it"));
        }
        if hash.digest() != content.hash {
            return Err(refuse("was changed since the export was interrupted"));
        }
        if content.bytes == 0 && !begins_as_an_export(&file, gzip).map_err(failed)? {
            return Err(refuse("is not the file of the export"));
        }
        file.set_len(content.bytes)
            .and_then(|()| file.seek(SeekFrom::Start(content.bytes)))
            .map_err(|error| unwritable(&error, path))?;
        Ok(Self { bytes: content.bytes, hash, ..Self::file(file, path, gzip) })
    }

    fn file(file: File, path: &Path, gzip: bool) -> Self {
        let file = Arc::new(file);
        Self::new(Box::new(Arc::clone(&file)), Some(file), path, gzip)
    }

    fn new(out: Box<dyn Write>, file: Option<Arc<File>>, name: &Path, gzip: bool) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, out),
            packer: gzip.then(packer),
            file,
            name: name.to_owned(),
            bytes: 0,
            hash: Xxh3Default::new(),
        }
    }

    pub(super) fn write(&mut self, line: &str) -> Result<(), Stop> {
        self.pack(line).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Stop::ReaderHasGone,
            _ => unwritable(&error, &self.name).into(),
        })
    }

    fn pack(&mut self, line: &str) -> io::Result<()> {
        let Some(packer) = &mut self.packer else { return self.put(format!("{line}\n").as_bytes()) };
        writeln!(packer, "{line}")?;
        let compressed = mem::take(packer.get_mut());
        self.put(&compressed)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Brings everything to the disk and returns what the file has; `None` for standard output. Ends a member of a gzip file, so
    /// that what is there can be unpacked, and another one can follow.
    pub(super) fn sync(&mut self) -> Result<Option<Content>, Failure> {
        match self.synced() {
            // The reader of standard output has closed it.
            Err(error) if error.kind() == ErrorKind::BrokenPipe && self.file.is_none() => Ok(None),
            synced => synced.map_err(|error| unwritable(&error, &self.name)),
        }
    }

    fn synced(&mut self) -> io::Result<Option<Content>> {
        if let Some(member) = self.packer.take() {
            self.put(&member.finish()?)?;
            self.packer = Some(packer());
        }
        self.out.flush()?;
        let Some(file) = &self.file else { return Ok(None) };
        file.sync_all()?;
        Ok(Some(Content { bytes: self.bytes, hash: self.hash.digest() }))
    }

    /// What messages call it.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }
}

fn packer() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::default())
}

/// Nothing of it was synced, so only its beginning shows whether it is an export.
fn begins_as_an_export(file: &File, gzip: bool) -> io::Result<bool> {
    let mut file = BufReader::new(file);
    let beginning = file.fill_buf()?;
    let own: &[u8] = if gzip { &[0x1f, 0x8b] } else { b"{\"stream\":" };
    Ok(beginning.is_empty() || beginning.starts_with(own))
}

/// Two exports into one file would overwrite each other's lines.
fn lock(file: &File, path: &Path) -> Result<(), Failure> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new(format!("another export is writing {}: wait for its end", path.display())))
        }
        // Not every file system has locks.
        _ => Ok(()),
    }
}

/// A file that exists is never overwritten.
pub(super) fn exists(path: &Path) -> Failure {
    let (name, checkpoint) = (path.display(), Checkpoint::path(path));
    Failure::new(if checkpoint.exists() {
        format!(
            "{name} exists already and is not overwritten: it is an interrupted export, which the same command with --resume \
             resumes. To start again, remove {name}, or name another file"
        )
    } else {
        format!("{name} exists already and is not overwritten: remove it, or name another file")
    })
}

pub(super) fn unwritable(error: &io::Error, file: &Path) -> Failure {
    Failure::new(format!("{} can't be written: {error}", file.display()))
}
