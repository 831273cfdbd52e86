//! Files that keep how far a program has come.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
};

/// Replaces a file, whole or not at all: after a crash there is the old content or the new one. What it is written to first, the
/// same name with `.new` behind it, is overwritten the next time.
///
/// # Errors
/// The system's. The content is on the disk if there is none.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_directory(path)
}

/// Removes a file, if it is there.
///
/// # Errors
/// The system's. After a crash the file does not come back if there is none.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_directory(path)),
    }
}

/// A new name, or one that was removed, outlasts a crash only when its directory is synced as well.
fn sync_directory(of: &Path) -> io::Result<()> {
    let directory = of.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
