//! One daemon per data folder, and the note that tells the command line where it listens.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use files;

/// Holds the data folder until it is dropped; the kernel lets go of it when the process dies, however it
/// dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon runs on it.
    #[error(
        "data folder {folder} is in use by another openbell (process {pid}); stop it with `openbell down --data {folder}`, or give this one another --data"
    )]
    Taken {
        /// The folder.
        folder: String,
        /// Its process id, as it noted it.
        pid: String,
    },
    /// It cannot be created or written.
    #[error(
        "data folder {folder} cannot be used: {error}; give this user the right to write it, or choose another with --data"
    )]
    Unusable {
        /// The folder.
        folder: String,
        /// What happened.
        error: io::Error,
    },
}

impl Lock {
    /// Creates the folder if need be and takes it.
    ///
    /// # Errors
    /// When another daemon has it (named by its process id), or it cannot be written.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let unusable = |error| LockError::Unusable { folder: folder.display().to_string(), error };
        std::fs::create_dir_all(folder).map_err(unusable)?;
        let path = folder.join("openbell.lock");
        let Some(mut file) = files::lock(&path).map_err(unusable)? else {
            let pid = std::fs::read_to_string(&path).map_err(unusable)?;
            let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
            return Err(LockError::Taken { folder: folder.display().to_string(), pid });
        };
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

/// Where a running daemon is reached; `daemon.json` in its data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Base address of page and API.
    pub url: String,
    /// Process id.
    pub pid: u32,
}

impl Note {
    /// Where the note of a data folder is.
    pub fn path(folder: &Path) -> PathBuf {
        folder.join("daemon.json")
    }

    /// Where the token of the command line on this machine is: whoever may read it acts as an operator.
    pub fn token_path(folder: &Path) -> PathBuf {
        folder.join("daemon.token")
    }

    /// Writes that token; only the owner of the file may read it.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write_token(folder: &Path, token: &str) -> io::Result<()> {
        files::replace_private(&Self::token_path(folder), format!("{token}\n").as_bytes())
    }

    /// Writes the note.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        files::replace(&Self::path(folder), &serde_json::to_vec_pretty(self)?)
    }

    /// Removes the note and the token; missing ones are fine.
    ///
    /// # Errors
    /// When one is there and cannot be removed.
    pub fn remove(folder: &Path) -> io::Result<()> {
        let remove = |path: PathBuf| match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
        remove(Self::token_path(folder)).and(remove(Self::path(folder)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Lock::take(dir.path()).expect("free");
        let refusal = Lock::take(dir.path()).expect_err("taken").to_string();
        assert!(refusal.contains(&std::process::id().to_string()), "{refusal}");
        drop(first);
        Lock::take(dir.path()).expect("free again");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("written");
        let refusal = Lock::take(&file.join("below")).expect_err("a file is in the way").to_string();
        assert!(refusal.contains("below") && refusal.contains("--data"), "{refusal}");
    }
}
