//! What the collector noted of its topics, beside the spool: which incarnation it fills, and a refill that is
//! under way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use backends::{BackendError, ErrorKind, Result};

const VERSION: u32 = 1;

/// A topic, as noted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FilledTopic {
    /// The log's name of the incarnation that was filled last.
    pub(super) incarnation: String,
    /// It is being refilled with the entries before this one; 0: it is not.
    pub(super) refill_before: u64,
}

/// The file `log.topics` of a spool's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopicsFile {
    version: u32,
    /// By name.
    pub(super) topics: BTreeMap<String, FilledTopic>,
}

impl Default for TopicsFile {
    fn default() -> Self {
        Self { version: VERSION, topics: BTreeMap::new() }
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("log.topics")
}

impl TopicsFile {
    /// Reads what was noted; nothing, where nothing was. Blocking.
    ///
    /// # Errors
    /// `Corrupt` for a file that is none of ours, and what the file system fails with.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        let path = path(dir);
        let place = || format!("file {}", path.display());
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(BackendError::io(place(), &error)),
        };
        let corrupt = |why: String| {
            BackendError::new(ErrorKind::Corrupt, place(), why).remedy(
                "move the file away: what the topics hold is then told by their last records alone, as if they had never been made anew",
            )
        };
        let file: Self =
            serde_json::from_slice(&bytes).map_err(|e| corrupt(format!("is not a note of topics: {e}")))?;
        if file.version != VERSION {
            return Err(corrupt(format!("has version {}, and this program knows {VERSION}", file.version)));
        }
        Ok(file)
    }

    /// Writes it, whole or not at all. Blocking.
    ///
    /// # Errors
    /// What the file system fails with.
    pub(super) fn store(&self, dir: &Path) -> Result<()> {
        let path = path(dir);
        let place = || format!("file {}", path.display());
        let text = serde_json::to_vec(self)
            .map_err(|e| BackendError::new(ErrorKind::Corrupt, place(), e.to_string()))?;
        files::replace_in_new_folder(&path, &text).map_err(|e| BackendError::io(place(), &e))
    }
}

#[cfg(test)]
mod tests;
