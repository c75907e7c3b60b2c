//! Topics as folders.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::partition::PartitionStore;
use crate::log::{Partition, Topic};
use crate::{BackendError, ErrorKind, Result};
use files;

/// Folders being made or removed begin with this, which no topic name does.
pub(super) const MARK: char = '~';

/// A topic that exists.
pub(super) struct TopicData {
    pub(super) name: String,
    pub(super) incarnation: String,
    pub(super) partitions: Vec<Arc<PartitionStore>>,
}

/// `topic.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicFile {
    incarnation: String,
    partitions: u32,
}

impl TopicData {
    pub(super) fn describe(&self) -> Topic {
        let partitions = self.partitions.iter().map(|p| p.range()).collect();
        Topic { name: self.name.clone(), incarnation: self.incarnation.clone(), partitions }
    }

    pub(super) fn place(&self, log: &str) -> String {
        format!("{log} topic {}", self.name)
    }

    pub(super) fn partition(&self, log: &str, partition: &Partition) -> Result<Arc<PartitionStore>> {
        self.partitions.get(partition.number as usize).cloned().ok_or_else(|| {
            let message = format!(
                "there is no partition {}; there are {}, from 0",
                partition.number,
                self.partitions.len()
            );
            BackendError::new(ErrorKind::NotFound, self.place(log), message)
        })
    }
}

/// Kafka's rule for names of topics, which suits groups too.
pub(super) fn check_name(place: &str, what: &str, name: &str) -> Result<()> {
    let usable = !name.is_empty()
        && name.len() <= 200
        && name != "."
        && name != ".."
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if usable {
        return Ok(());
    }
    Err(BackendError::new(ErrorKind::Rejected, place, format!("\"{name}\" is not a {what} name"))
        .remedy("use 1 to 200 letters, digits, '.', '_' and '-'"))
}

/// Opens every topic below `root` and clears away what an interrupted creation or deletion left.
pub(super) fn load(root: &Path, place: &str) -> Result<BTreeMap<String, Arc<TopicData>>> {
    let fail = |e: io::Error| BackendError::io(place, &e);
    let mut topics = BTreeMap::new();
    for entry in fs::read_dir(root).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !entry.file_type().map_err(fail)?.is_dir() {
            continue;
        }
        if let Some(rest) = name.strip_prefix(MARK) {
            if rest.starts_with("new-") || rest.starts_with("gone-") {
                fs::remove_dir_all(entry.path()).map_err(fail)?;
            }
            continue;
        }
        topics.insert(name.clone(), Arc::new(open(root, place, &name)?));
    }
    Ok(topics)
}

fn open(root: &Path, place: &str, name: &str) -> Result<TopicData> {
    let path = root.join(name).join("topic.json");
    let file_place = format!("{place} topic {name} file {}", path.display());
    let text = fs::read(&path).map_err(|e| {
        BackendError::io(&file_place, &e).remedy(format!(
            "restore the file, or move the folder {} out of the log",
            root.join(name).display()
        ))
    })?;
    let file: TopicFile = serde_json::from_slice(&text).map_err(|e| {
        BackendError::new(ErrorKind::Corrupt, &file_place, format!("is not a topic's description: {e}")).remedy(format!(
            "restore it ({{\"incarnation\":\"…\",\"partitions\":N}}), or move the folder {} out of the log",
            root.join(name).display()
        ))
    })?;
    open_partitions(root, place, name, file)
}

fn open_partitions(root: &Path, place: &str, name: &str, file: TopicFile) -> Result<TopicData> {
    let dir = root.join(name);
    let open = |number: u32| {
        PartitionStore::open(
            &dir.join(number.to_string()),
            format!("{place} topic {name} partition {number}"),
        )
    };
    let partitions = (0..file.partitions).map(|n| open(n).map(Arc::new)).collect::<Result<_>>()?;
    Ok(TopicData { name: name.to_owned(), incarnation: file.incarnation, partitions })
}

/// Makes a topic; it exists, after a crash too, either whole or not at all.
pub(super) fn create(root: &Path, place: &str, name: &str, partitions: u32) -> Result<TopicData> {
    check_name(place, "topic", name)?;
    if partitions == 0 || partitions > 1000 {
        let message = format!("topic \"{name}\" cannot have {partitions} partitions");
        return Err(BackendError::new(ErrorKind::Rejected, place, message).remedy("ask for 1 to 1000"));
    }
    let fail = |e: io::Error| BackendError::io(format!("{place} topic {name}"), &e);
    let file = TopicFile { incarnation: format!("{:016x}", fastrand::u64(..)), partitions };
    let text = serde_json::to_vec(&file).map_err(|e| fail(e.into()))?;
    let fresh = root.join(format!("{MARK}new-{name}"));
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(fail)?;
    }
    files::create_folders(&fresh).map_err(fail)?;
    files::replace(&fresh.join("topic.json"), &text).map_err(fail)?;
    fs::rename(&fresh, root.join(name)).and_then(|()| files::sync_folder(root)).map_err(fail)?;
    open_partitions(root, place, name, file)
}

/// Removes a topic's folder; after a crash it is there whole, or gone.
pub(super) fn delete(root: &Path, place: &str, topic: &TopicData) -> Result<()> {
    let fail = |e: io::Error| BackendError::io(topic.place(place), &e);
    let gone = root.join(format!("{MARK}gone-{}-{}", topic.name, topic.incarnation));
    fs::rename(root.join(&topic.name), &gone).and_then(|()| files::sync_folder(root)).map_err(fail)?;
    fs::remove_dir_all(&gone).map_err(fail)
}
