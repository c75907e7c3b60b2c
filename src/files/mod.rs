//! Durable file operations: what is written here survives a power cut once the call has returned.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a lock is tried for, in real time, before it counts as somebody else's.
///
/// A child process holds copies of all our open files from the moment it is forked until it has become its
/// program. A lock that was let go of in that moment is still held by the copy, for as long as a busy machine
/// keeps the child waiting.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often.
const LOOK: Duration = Duration::from_millis(5);

/// Makes names created in, or removed from, a folder durable.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Creates a folder with its parents; each new name is durable on return.
///
/// # Errors
/// What the file system says.
pub fn create_folders(folder: &Path) -> io::Result<()> {
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
///
/// # Errors
/// What the file system says; the file may be there in part.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces a file: after a crash it holds the old bytes or the new ones. One caller per path at a time.
///
/// # Errors
/// What the file system says; the old bytes are in place then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".tmp");
    let fresh = PathBuf::from(fresh);
    let written = write_synced(&fresh, bytes).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = written {
        // A leftover takes room on what may be a full disk. It is not worth an error of its own: the next
        // call overwrites it.
        drop(fs::remove_file(&fresh));
        return Err(error);
    }
    sync_folder(path.parent().unwrap_or_else(|| Path::new(".")))
}

/// [Replaces](replace) a file that only its owner may read and write.
///
/// # Errors
/// What the file system says; the old bytes are in place then.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".tmp");
    let fresh = PathBuf::from(fresh);
    // One that a crash left, or somebody put there, may be open to others.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    if let Err(error) = write() {
        // As above: the next call removes it.
        drop(fs::remove_file(&fresh));
        return Err(error);
    }
    sync_folder(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new(".")))
}

/// [Replaces](replace) a file whose folder may not be there yet.
///
/// # Errors
/// What the file system says; the old bytes are in place then.
pub fn replace_in_new_folder(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create_folders(path.parent().unwrap_or_else(|| Path::new(".")))?;
    replace(path, bytes)
}

/// Takes the lock that a folder's one owner holds; `None` if somebody else, in this process or another, has
/// it and keeps it for a second. The lock goes with the returned file, also when the process is killed.
///
/// # Errors
/// When the file cannot be created or locked.
pub fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    let held = patiently(|| match file.try_lock() {
        Ok(()) => Some(Ok(())),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => Some(Err(error)),
    });
    held.transpose().map(|held| held.map(|()| file))
}

/// Tries for something that a forked child may hold for a moment; `None` if it is held for longer than that.
pub fn patiently<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(taken) = attempt() {
            return Some(taken);
        }
        if Instant::now() >= until {
            return None;
        }
        thread::sleep(LOOK);
    }
}

/// Opens a sled database, whose own lock a forked child may hold for a moment. `open` catches panics, as sled
/// panics on some damage.
pub fn sled_patiently(
    open: impl Fn() -> thread::Result<sled::Result<sled::Db>>,
) -> thread::Result<sled::Result<sled::Db>> {
    let unlocked = patiently(|| match open() {
        Ok(Err(sled::Error::Io(error))) if is_sled_lock(&error) => None,
        other => Some(other),
    });
    unlocked.unwrap_or_else(open)
}

/// Whether sled says that somebody else has the database open.
pub fn is_sled_lock(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_let_go_of_soon_is_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lock");
        let held = lock(&path).expect("locks").expect("free");
        assert!(lock(&path).expect("looks").is_none(), "held for longer than anybody waits");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| lock(&path).expect("looks"));
            drop(held);
            assert!(waiting.join().expect("no panic").is_some());
        });
    }
}
