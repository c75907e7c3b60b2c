//! The log in this process: durable segment files, consumer groups in memory with committed offsets on disk.
//!
//! ```text
//! {root}/lock                                   held by the one process that has the log open
//! {root}/{topic}/topic.json                     incarnation and partition count
//! {root}/{topic}/{partition}/{offset}.seg       records from that offset on (see `backends::segments`)
//! {root}/{topic}/{partition}/aside/             damaged bytes that an opening took out
//! {root}/~groups/{group}.json                   committed offsets
//! ```
//!
//! An append returns once its records are synced; concurrent appends share a sync. Nothing reads a record
//! before that, so a record that was read is never lost. Offsets rise by one, except that a damaged tail (bad
//! bytes, not a torn write) makes them jump: an offset once given is never given again.

mod consumer;
mod group;
mod offsets;
mod partition;
mod record;
mod topics;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::watch;

use self::consumer::EmbeddedConsumer;
use self::group::Group;
use self::offsets::Offsets;
use self::topics::TopicData;
use super::{Committed, Consumer, Log, Partition, Record, Stored, Topic, partition_for};
use crate::{BackendError, ErrorKind, Result, blocking};
use files;

/// A member that has not polled for this long (real time) loses its partitions to others that want them.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// A read's or poll's records end once their payloads exceed this many bytes.
const BATCH_BYTES: usize = 4 << 20;

/// See the module.
pub struct EmbeddedLog(Arc<Inner>);

struct Inner {
    root: PathBuf,
    place: String,
    topics: RwLock<BTreeMap<String, Arc<TopicData>>>,
    /// Creating and deleting topics, one at a time.
    reshaping: Mutex<()>,
    groups: Mutex<BTreeMap<String, Group>>,
    offsets: Offsets,
    session_timeout: Duration,
    next_member: AtomicU64,
    /// Rises when records became readable, or a group or a topic changed: what pollers wait for.
    changed: watch::Sender<u64>,
    _lock: File,
}

impl EmbeddedLog {
    /// Opens or creates the log below `root`, repairing what a crash left.
    ///
    /// # Errors
    /// `Busy` while another process has it open; `Corrupt` with the file for damage that cannot be repaired
    /// without a person.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, SESSION_TIMEOUT)
    }

    /// Opens it with a session timeout of the caller's choice.
    ///
    /// # Errors
    /// As [`EmbeddedLog::open`].
    pub fn open_with(root: &Path, session_timeout: Duration) -> Result<Self> {
        let place = format!("log {}", root.display());
        let fail = |e| BackendError::io(&place, &e);
        files::create_folders(root).map_err(fail)?;
        let Some(lock) = files::lock(&root.join("lock")).map_err(fail)? else {
            return Err(BackendError::new(ErrorKind::Busy, place, "another process has this log open")
                .remedy("stop the other openbell daemon of this data folder, or give this one its own with --data"));
        };
        let topics = topics::load(root, &place)?;
        let (offsets, committed) = Offsets::load(root, &place)?;
        let groups = committed.into_iter().map(|(name, committed)| (name, Group::new(committed))).collect();
        Ok(Self(Arc::new(Inner {
            root: root.to_owned(),
            place,
            topics: RwLock::new(topics),
            reshaping: Mutex::new(()),
            groups: Mutex::new(groups),
            offsets,
            session_timeout,
            next_member: AtomicU64::new(1),
            changed: watch::channel(0).0,
            _lock: lock,
        })))
    }
}

impl Inner {
    fn topic(&self, name: &str) -> Option<Arc<TopicData>> {
        self.topics.read().get(name).cloned()
    }

    fn existing(&self, name: &str) -> Result<Arc<TopicData>> {
        self.topic(name).ok_or_else(|| {
            BackendError::new(ErrorKind::NotFound, &self.place, format!("there is no topic \"{name}\""))
                .remedy("create it first: the topics step of a DAG does")
        })
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<String, Group>> {
        self.groups.lock()
    }

    fn wake(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    fn member_id(&self) -> u64 {
        self.next_member.fetch_add(1, Ordering::Relaxed)
    }

    /// Appends to each partition in its own thread, since each waits for its own sync.
    async fn append(self: &Arc<Self>, topic: &str, records: Vec<Record>) -> Result<Vec<(u32, u64)>> {
        let topic = self.existing(topic)?;
        let count = topic.partitions.len() as u32;
        let mut placed: Vec<(u32, u64)> = Vec::with_capacity(records.len());
        let mut shares: BTreeMap<u32, (Vec<usize>, Vec<Record>)> = BTreeMap::new();
        for (i, record) in records.into_iter().enumerate() {
            record::check(&topic.place(&self.place), &record)?;
            let number = partition_for(record.key.as_deref(), count);
            placed.push((number, 0));
            let share = shares.entry(number).or_default();
            share.0.push(i);
            share.1.push(record);
        }
        let mut running = Vec::new();
        for (number, (indices, records)) in shares {
            let store = Arc::clone(&topic.partitions[number as usize]);
            running.push((indices, tokio::task::spawn_blocking(move || store.append(&records))));
        }
        let (mut kept, mut failed) = (0, None);
        for (indices, share) in running {
            match share.await.unwrap_or_else(|e| Err(blocking::failed(&self.place, &e))) {
                Ok(first) => {
                    kept += indices.len();
                    for (n, i) in indices.into_iter().enumerate() {
                        placed[i].1 = first + n as u64;
                    }
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if kept > 0 {
            self.wake();
        }
        match failed {
            None => Ok(placed),
            Some(error) if kept == 0 => Err(error),
            // Repeating the whole call would append the kept ones twice; Unavailable makes the caller look
            // first.
            Some(error) => {
                let message =
                    format!("{kept} of {} records were appended, then: {}", placed.len(), error.message);
                Err(BackendError { kind: ErrorKind::Unavailable, message, ..error })
            }
        }
    }

    fn create_topic(&self, name: &str, partitions: u32) -> Result<bool> {
        let _one = self.reshaping.lock();
        if let Some(topic) = self.topic(name) {
            let has = topic.partitions.len();
            if has == partitions as usize {
                return Ok(false);
            }
            let message = format!("topic \"{name}\" has {has} partitions, not {partitions}");
            return Err(BackendError::new(ErrorKind::Rejected, &self.place, message).remedy(format!(
                "ask for {has}, or use another topic name: keys would change their partition"
            )));
        }
        let topic = topics::create(&self.root, &self.place, name, partitions)?;
        self.topics.write().insert(name.to_owned(), Arc::new(topic));
        self.wake();
        Ok(true)
    }

    fn delete_topic(&self, name: &str) -> Result<()> {
        let _one = self.reshaping.lock();
        let removed = self.topics.write().remove(name);
        let Some(topic) = removed else { return Ok(()) };
        for group in self.groups().values_mut() {
            group.forget_topic(name);
        }
        self.wake();
        topics::delete(&self.root, &self.place, &topic)
    }

    /// A topic's partitions count as far as the group machinery is concerned.
    fn partition_counts(&self) -> BTreeMap<String, u32> {
        let topics = self.topics.read();
        topics.iter().map(|(name, topic)| (name.clone(), topic.partitions.len() as u32)).collect()
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<bool> {
        let (inner, topic) = (Arc::clone(&self.0), topic.to_owned());
        blocking::run(&self.0.place, move || inner.create_topic(&topic, partitions)).await
    }

    async fn delete_topic(&self, topic: &str) -> Result<()> {
        let (inner, topic) = (Arc::clone(&self.0), topic.to_owned());
        blocking::run(&self.0.place, move || inner.delete_topic(&topic)).await
    }

    async fn topic(&self, topic: &str) -> Result<Option<Topic>> {
        Ok(self.0.topic(topic).map(|t| t.describe()))
    }

    async fn topics(&self) -> Result<Vec<Topic>> {
        let topics = self.0.topics.read();
        Ok(topics.values().map(|t| t.describe()).collect())
    }

    async fn append(&self, topic: &str, records: Vec<Record>) -> Result<Vec<(u32, u64)>> {
        self.0.append(topic, records).await
    }

    async fn read(&self, partition: &Partition, offset: u64, max: usize) -> Result<Vec<Stored>> {
        let store = self.0.existing(&partition.topic)?.partition(&self.0.place, partition)?;
        let partition = partition.clone();
        blocking::run(&self.0.place, move || {
            let records = store.read(offset, max, BATCH_BYTES)?;
            Ok(records
                .into_iter()
                .map(|(offset, record)| Stored { partition: partition.clone(), offset, record })
                .collect())
        })
        .await
    }

    async fn join(&self, group: &str, topics: &[String], name: Option<&str>) -> Result<Box<dyn Consumer>> {
        topics::check_name(&self.0.place, "consumer group", group)?;
        if let Some(name) = name {
            topics::check_name(&self.0.place, "member", name)?;
        }
        for topic in topics {
            topics::check_name(&self.0.place, "topic", topic)?;
        }
        if topics.is_empty() {
            return Err(BackendError::new(
                ErrorKind::Rejected,
                &self.0.place,
                format!("group \"{group}\" was joined without topics"),
            ));
        }
        Ok(Box::new(EmbeddedConsumer::join(Arc::clone(&self.0), group, topics, name)))
    }

    async fn groups(&self) -> Result<Vec<(String, Vec<Committed>)>> {
        let groups = self.0.groups();
        let of = |group: &Group| {
            let valid = group.committed.iter().filter(|(p, (incarnation, _))| {
                self.0.topic(&p.topic).is_some_and(|t| t.incarnation == *incarnation)
            });
            valid
                .map(|(partition, (_, next))| Committed { partition: partition.clone(), next: *next })
                .collect()
        };
        Ok(groups.iter().map(|(name, group)| (name.clone(), of(group))).collect())
    }
}
