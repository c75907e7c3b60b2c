//! Committed offsets as one small file a group, replaced atomically.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::topics::MARK;
use crate::log::Partition;
use crate::{BackendError, ErrorKind, Result};
use files;

/// What a group has done: partition → (incarnation of the topic, next offset).
pub(super) type CommittedOffsets = BTreeMap<Partition, (String, u64)>;

/// See the module.
pub(super) struct Offsets {
    dir: PathBuf,
    place: String,
    writing: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupFile {
    committed: Vec<CommittedEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommittedEntry {
    topic: String,
    partition: u32,
    incarnation: String,
    next: u64,
}

impl Offsets {
    pub(super) fn load(root: &Path, place: &str) -> Result<(Self, BTreeMap<String, CommittedOffsets>)> {
        let dir = root.join(format!("{MARK}groups"));
        let fail = |e: io::Error| BackendError::io(format!("{place} folder {}", dir.display()), &e);
        files::create_folders(&dir).map_err(fail)?;
        let mut groups = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let Some(group) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".json"))
            else {
                continue;
            };
            let file_place = format!("{place} group {group} file {}", path.display());
            let text = fs::read(&path).map_err(|e| BackendError::io(&file_place, &e))?;
            let file: GroupFile = serde_json::from_slice(&text).map_err(|e| {
                BackendError::new(ErrorKind::Corrupt, &file_place, format!("does not hold committed offsets: {e}")).remedy(
                    "move the file away: the group starts at the beginning of its topics then, and the sinks fold the repeats",
                )
            })?;
            let committed = file
                .committed
                .into_iter()
                .map(|l| (Partition { topic: l.topic, number: l.partition }, (l.incarnation, l.next)));
            groups.insert(group.to_owned(), committed.collect());
        }
        Ok((Self { dir, place: place.to_owned(), writing: Mutex::new(()) }, groups))
    }

    /// Whoever holds this is the only one to change committed offsets.
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock()
    }

    /// Writes a group's offsets durably.
    pub(super) fn store(
        &self,
        _writing: &MutexGuard<'_, ()>,
        group: &str,
        committed: &CommittedOffsets,
    ) -> Result<()> {
        let line = |(p, (incarnation, next)): (&Partition, &(String, u64))| CommittedEntry {
            topic: p.topic.clone(),
            partition: p.number,
            incarnation: incarnation.clone(),
            next: *next,
        };
        let file = GroupFile { committed: committed.iter().map(line).collect() };
        let path = self.dir.join(format!("{group}.json"));
        let written =
            serde_json::to_vec(&file).map_err(io::Error::from).and_then(|text| files::replace(&path, &text));
        written.map_err(|e| BackendError::io(format!("{} group {group}", self.place), &e))
    }
}
