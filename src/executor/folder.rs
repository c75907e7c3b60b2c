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
//! | `stop.json` | executor, before it asks the program to stop | [`StopOrder`] |
//! | `result.json` | the program, before it ends | what it returns |
//! | `exit.json` | shim, when the program ended | [`ExitRecord`] |
//! | `done` | executor, once nobody needs the attempt any more | nothing |
//!
//! Those of containers and services are listed in [`container`](super::container).
//!
//! JSON files are replaced by a rename, so a reader finds the old text or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{AttemptSpec, Status};
use clock::Clock;
use domain::run::Exit;

/// File name of the [`AttemptSpec`].
pub const SPEC: &str = "spec.json";
/// File name of the program's output.
pub const OUTPUT: &str = "output.log";
/// File name of the [`Status`].
pub const STATUS: &str = "status.json";
/// File name of the [`StopOrder`].
pub const STOP: &str = "stop.json";
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
/// File name of the lock that a living keeper holds; its process id is in it.
pub(super) const KEEPER_LOCK: &str = "keeper.lock";
/// File name of a keeper's own trouble.
pub(super) const KEEPER_LOG: &str = "keeper.log";
/// File name of a container's name.
pub(super) const CONTAINER: &str = "container";
/// File name of a service's name.
pub(super) const SERVICE: &str = "service";
/// File name of the reason why an executor killed a container or a service.
pub(super) const KILLED: &str = "killed";
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

/// `stop.json`: a stop says how much time there is, because not every stop grants the same. Whoever finds
/// none has the step's drain time and grace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// When it was asked to stop, on the clock of the day.
    pub asked_at: Timestamp,
    /// When it is killed if it has not ended by then.
    pub kill_at: Timestamp,
}

impl StopOrder {
    /// The order of a stop that is asked for now.
    pub(super) fn now(clock: &Clock, kill_after: Duration) -> Self {
        let asked_at = clock.now();
        Self { asked_at, kill_at: asked_at.checked_add(kill_after).unwrap_or(Timestamp::MAX) }
    }

    /// Leaves the order where the attempt looks for it. The stop itself does not depend on it.
    pub(super) async fn leave(&self, folder: &Path) {
        let (place, order) = (folder.to_owned(), self.clone());
        let written = tokio::task::spawn_blocking(move || write_stop(&place, &order)).await;
        if let Err(error) = written.map_err(io::Error::other).flatten() {
            tracing::warn!(%error, folder = %folder.display(), "an attempt cannot be told how much time it has to stop; it takes its own");
        }
    }
}

/// How the attempt in `folder` ended, and what it returned; `None` if that is not recorded.
pub(super) fn read_end(folder: &Path) -> Option<(Exit, Option<serde_json::Value>)> {
    let record: ExitRecord = read_or_warn(&folder.join(EXIT))?;
    Some((record.exit, read_or_warn(&folder.join(RESULT))))
}

/// The status of the attempt in `folder`, as far as it can be read: half a file of a program that does not
/// rename is whole at the next read.
pub(super) fn read_status(folder: &Path) -> Option<Status> {
    read(&folder.join(STATUS)).ok().flatten()
}

/// Marks an attempt as one that nobody needs any more.
pub(super) fn mark_done(folder: &Path) {
    if let Err(error) = fs::write(folder.join(DONE), b"") {
        tracing::warn!(folder = %folder.display(), %error, "cannot mark an attempt as done; it will be found again");
    }
}

/// The folders of all attempts below `runs`: `{run}/{step}/{attempt}`.
pub(super) fn attempts(runs: &Path) -> Vec<PathBuf> {
    let steps = subfolders(runs).into_iter().flat_map(|run| subfolders(&run));
    steps.flat_map(|step| subfolders(&step)).collect()
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::error!(folder = %folder.display(), %error, "cannot look for earlier attempts");
            return Vec::new();
        }
        Ok(entries) => entries,
    };
    let mut found: Vec<_> =
        entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect();
    found.sort();
    found
}

/// Reads how much time a stop grants; `None` if nobody said so.
pub fn read_stop(folder: &Path) -> Option<StopOrder> {
    read_or_warn(&folder.join(STOP))
}

/// Writes how much time a stop grants.
///
/// # Errors
/// When the file cannot be written.
pub fn write_stop(folder: &Path, order: &StopOrder) -> io::Result<()> {
    write(&folder.join(STOP), order, Durability::Volatile)
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
    read(&path)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no {}", path.display())))
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

    /// Appends one line, in one write: readers see whole lines, and nothing waits in a buffer that a crash
    /// would lose.
    pub fn line(&self, line: &str) {
        let text = format!("{} {line}\n", self.clock.now());
        let mut file = self.file.lock();
        if let Err(error) = file.write_all(text.as_bytes()) {
            tracing::warn!(%error, line, "cannot write a step's output");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wait;

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

    #[test]
    fn a_status_of_an_older_version_still_reads_and_a_wait_comes_back_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(STATUS);
        fs::write(&path, br#"{"ready":false,"degraded":"log: down","facts":{"frames":3}}"#).expect("written");
        let old = read::<Status>(&path).expect("readable").expect("there");
        assert_eq!((old.degraded.as_deref(), old.waits), (Some("log: down"), None));
        let until = "2026-11-20T09:16:02+09:00".parse().expect("a time");
        let status =
            Status { waits: Some(Wait { until, reason: "the slot is taken".into() }), ..Status::default() };
        write_status(dir.path(), &status).expect("written");
        assert_eq!(read(&path).expect("readable"), Some(status));
    }
}
