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

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{AttemptSpec, Status};
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
}
