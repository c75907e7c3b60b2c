<<<<<<< HEAD
//! An attempt's folder: who writes which file, and how.
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `spec.json` | executor, before the start | [`AttemptSpec`] |
//! | `lock` | nobody; locked by a living shim | nothing |
//! | `pid` | shim, once the program runs | [`Pids`](super::process::Pids) |
//! | `output.log` | the program | its output |
//! | `shim.log` | shim | trouble of the shim itself |
//! | `status.json` | the program, whenever it likes | [`Status`] |
//! | `result.json` | the program, before it ends | what it returns |
//! | `exit.json` | shim, when the program ended | [`ExitRecord`] |
//! | `done` | executor, once nobody needs the attempt any more | nothing |
//!
//! JSON files are replaced by a rename, so a reader finds the old text or the new one.
=======
//! The folder of an attempt: who writes which file, and how.
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `spec.json` | the executor | [`AttemptSpec`] |
//! | `output.log` | the program | what it prints |
//! | `status.json` | the program | its newest [`Status`] |
//! | `result.json` | the program | what it returns |
//! | `pid` | the shim | who runs it |
//! | `exit.json` | the shim | how it ended |
//! | `done` | the executor | nothing: the daemon has journaled the end |
>>>>>>> w-engine

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
<<<<<<< HEAD
use std::sync::Mutex;
=======
use std::sync::atomic::{AtomicU64, Ordering};
>>>>>>> w-engine

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{AttemptSpec, Status};
<<<<<<< HEAD
use crate::clock::Clock;
use crate::domain::run::Exit;

/// File name of the [`AttemptSpec`].
pub const SPEC: &str = "spec.json";
/// File name of the program's output.
pub const OUTPUT: &str = "output.log";
/// File name of the [`Status`].
pub const STATUS: &str = "status.json";
/// File name of what the program returns.
pub const RESULT: &str = "result.json";
/// File name of the [`ExitRecord`].
pub const EXIT: &str = "exit.json";
/// File name of the process ids.
pub(super) const PID: &str = "pid";
/// File name of the lock that a living shim holds.
pub(super) const LOCK: &str = "lock";
/// File name of the shim's own trouble.
pub(super) const SHIM_LOG: &str = "shim.log";
/// File name of the mark of an attempt that nobody needs any more.
pub(super) const DONE: &str = "done";

/// `exit.json`: how an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// How.
    pub exit: Exit,
    /// When, on the clock of the day.
    pub finished_at: Timestamp,
}

/// Whether a file must still be there after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Its bytes are on the disk before its name is.
    Synced,
    /// Only good while the machine runs (process ids, a copy for people).
    Volatile,
}

/// Replaces a JSON file. One writer per path at a time.
pub(super) fn write(path: &Path, value: &impl Serialize, durability: Durability) -> io::Result<()> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".tmp");
    let fresh = PathBuf::from(fresh);
    let mut file = File::create(&fresh)?;
    file.write_all(&text)?;
    if durability == Durability::Synced {
        file.sync_data()?;
    }
    fs::rename(&fresh, path)
}

/// Reads a JSON file; `None` if there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).map(Some).map_err(invalid)
}

/// Reads a JSON file that a program wrote; a broken one is logged and taken as absent.
pub(super) fn read_or_warn<T: DeserializeOwned>(path: &Path) -> Option<T> {
    read(path).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read what an attempt left");
        None
    })
}

/// Reads an attempt's specification.
///
/// # Errors
/// When the folder holds none, or a broken one; the message names the file.
pub fn read_spec(folder: &Path) -> io::Result<AttemptSpec> {
    let path = folder.join(SPEC);
    read(&path)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no {}", path.display())))
}

/// Replaces a step's status.
///
/// # Errors
/// When the file cannot be written.
pub fn write_status(folder: &Path, status: &Status) -> io::Result<()> {
    write(&folder.join(STATUS), status, Durability::Volatile)
}

/// Writes what a step returns; must be there before the program ends.
///
/// # Errors
/// When the file cannot be written.
pub fn write_result(folder: &Path, result: &serde_json::Value) -> io::Result<()> {
    write(&folder.join(RESULT), result, Durability::Synced)
}

/// Appends lines with their time to `output.log`.
pub struct Output {
    clock: Clock,
    file: Mutex<File>,
}

impl Output {
    /// Opens the output of an attempt, creating its folder.
    ///
    /// # Errors
    /// When the folder or the file cannot be written.
    pub fn open(folder: &Path, clock: Clock) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let file = OpenOptions::new().create(true).append(true).open(folder.join(OUTPUT))?;
        Ok(Self { clock, file: Mutex::new(file) })
    }

    /// Appends one line, in one write: readers see whole lines, and nothing waits in a buffer that a crash would lose.
    pub fn line(&self, line: &str) {
        let text = format!("{} {line}\n", self.clock.now());
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = file.write_all(text.as_bytes()) {
            tracing::warn!(%error, line, "cannot write a step's output");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_and_broken_ones_are_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let status = Status { ready: true, ..Status::default() };
        write_status(dir.path(), &Status::default()).expect("written");
        write_status(dir.path(), &status).expect("replaced");
        assert_eq!(read(&dir.path().join(STATUS)).expect("readable"), Some(status));
        assert_eq!(read::<Status>(&dir.path().join(RESULT)).expect("absent"), None);
        fs::write(dir.path().join(STATUS), b"{\"ready\":").expect("broken");
        let error = read::<Status>(&dir.path().join(STATUS)).expect_err("broken");
        assert!(error.to_string().contains("status.json"), "{error}");
    }
=======
use crate::domain::ids::AttemptId;
use crate::domain::run::Exit;

/// How an attempt ended, as its shim saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitFile {
    /// How.
    pub exit: Exit,
    /// When, on the attempt's clock.
    pub finished_at: Timestamp,
    /// It was ended because its deadline had passed.
    pub by_deadline: bool,
}

/// The folder of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at this path; nothing is touched.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Creates the folder and writes the spec, durable on return.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create(&self, spec: &AttemptSpec) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        self.replace("spec.json", spec, true)
    }

    /// The spec.
    ///
    /// # Errors
    /// When there is none, or it does not decode.
    pub fn spec(&self) -> io::Result<AttemptSpec> {
        let path = self.file("spec.json");
        let text = fs::read(&path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        serde_json::from_slice(&text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display())))
    }

    /// Replaces the status.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_status(&self, status: &Status) -> io::Result<()> {
        self.replace("status.json", status, false)
    }

    /// The newest status; the default one before the first.
    pub fn status(&self) -> Status {
        self.read("status.json").unwrap_or_default()
    }

    /// Writes what the program returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_result(&self, result: &serde_json::Value) -> io::Result<()> {
        self.replace("result.json", result, true)
    }

    /// What the program returned.
    pub fn result(&self) -> Option<serde_json::Value> {
        self.read("result.json")
    }

    /// Writes how the attempt ended, durable on return.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_exit(&self, exit: &ExitFile) -> io::Result<()> {
        self.replace("exit.json", exit, true)
    }

    /// How the attempt ended.
    pub fn exit(&self) -> Option<ExitFile> {
        self.read("exit.json")
    }

    /// Opens the output for appending.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn output(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.file("output.log"))
    }

    /// Whether the end was taken note of.
    pub fn is_done(&self) -> bool {
        self.file("done").exists()
    }

    /// The end was taken note of.
    ///
    /// # Errors
    /// When the mark cannot be written.
    pub fn set_done(&self) -> io::Result<()> {
        File::create(self.file("done")).map(drop)
    }

    /// Whole or not at all: writes beside and renames.
    pub(super) fn replace<T: Serialize>(&self, name: &str, value: &T, durable: bool) -> io::Result<()> {
        // The shim, the program and the daemon may write side by side.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let fresh = self.file(&format!("{name}.{}-{number}.tmp", std::process::id()));
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&fresh, self.file(name))
    }

    /// `None` when it is not there, or not readable: it is replaced in one piece, so that is somebody else's writing.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let bytes = fs::read(self.file(name)).ok()?;
        serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::warn!(path = %self.file(name).display(), %error, "this file does not decode"))
            .ok()
    }
}

/// All attempts' folders below `runs`: `{run}/{step}/{attempt}`.
pub(super) fn all(runs: &Path) -> Vec<(AttemptId, Folder)> {
    let mut found = Vec::new();
    for (run, path) in subfolders(runs) {
        let Ok(run) = run.parse::<crate::domain::ids::RunId>() else { continue };
        for (step, path) in subfolders(&path) {
            let Ok(step) = step.parse::<crate::domain::ids::StepName>() else { continue };
            for (attempt, path) in subfolders(&path) {
                if let Ok(attempt) = attempt.parse() {
                    found.push((AttemptId { run: run.clone(), step: step.clone(), attempt }, Folder::new(path)));
                }
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn subfolders(path: &Path) -> Vec<(String, PathBuf)> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "attempts in this folder cannot be listed");
            return Vec::new();
        }
    };
    let folders = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
>>>>>>> w-engine
}
