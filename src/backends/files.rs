//! Durable file operations: what is written here survives a power cut once the call has returned.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Makes names created in, or removed from, a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Creates a folder with its parents; each new name is durable on return.
pub(crate) fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    create_folders(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        other => other?,
    }
    sync_folder(parent)
}

/// Writes a new file and makes its bytes durable (not yet its name: see [`sync_folder`]).
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces a file: after a crash it holds the old bytes or the new ones. One caller per path at a time.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".tmp");
    let fresh = PathBuf::from(fresh);
    let written = write_synced(&fresh, bytes).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = written {
        // A leftover takes room on what may be a full disk. It is not worth an error of its own: the next call overwrites it.
        drop(fs::remove_file(&fresh));
        return Err(error);
    }
    sync_folder(path.parent().unwrap_or_else(|| Path::new(".")))
}

/// Takes the lock that a folder's one owner holds; `None` if somebody else, in this process or another, has it. The lock
/// goes with the returned file, also when the process is killed.
pub(crate) fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
