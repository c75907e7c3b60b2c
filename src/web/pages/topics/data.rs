//! Topics with their partitions, newest records and groups, and records of a partition.

use std::sync::Arc;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::records::{self, Look, Peek};
use crate::cache::{Kept, Reading};
use backends::Result;
use backends::log::{Log, Partition, Topic};
use daemon::Handle;

/// Reads of newest records at a time.
const AT_ONCE: usize = 4;

/// All topics at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topics {
    /// By name.
    pub topics: Vec<TopicFacts>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// Name and offsets.
    pub topic: Topic,
    /// Time of each partition's newest record.
    pub newest: Vec<Option<Timestamp>>,
    /// Groups that read it, by name: per partition the next offset they will read, if they ever committed
    /// one.
    pub groups: Vec<(String, Vec<Option<u64>>)>,
}

impl TopicFacts {
    /// Records it holds.
    pub fn records(&self) -> u64 {
        self.topic.partitions.iter().map(|r| r.end.saturating_sub(r.start)).sum()
    }

    /// Time of the newest record.
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest.iter().flatten().max().copied()
    }

    /// How far a group's position in a partition is behind the end. A group without one would begin at the
    /// start.
    pub fn lag(&self, partition: usize, next: Option<u64>) -> u64 {
        let range = self.topic.partitions.get(partition);
        range.map_or(0, |r| r.end.saturating_sub(next.unwrap_or(r.start).max(r.start)))
    }

    /// How far a group is behind in all partitions.
    pub fn total_lag(&self, positions: &[Option<u64>]) -> u64 {
        positions.iter().enumerate().map(|(partition, next)| self.lag(partition, *next)).sum()
    }
}

impl Topics {
    /// A topic by name.
    pub fn find(&self, name: &str) -> Option<&TopicFacts> {
        self.topics.iter().find(|t| t.topic.name == name)
    }

    /// Dead letters held of a topic; `None` if it has no place for them.
    pub fn dead_letters(&self, name: &str) -> Option<u64> {
        self.find(&steps::dead_letters::topic_of(name)).map(TopicFacts::records)
    }
}

/// Time of a record.
async fn time_of(log: &dyn Log, topic: &str, number: u32, offset: Option<u64>) -> Result<Option<Timestamp>> {
    let Some(offset) = offset else { return Ok(None) };
    let found = log.read(&Partition { topic: topic.to_owned(), number }, offset, 1).await?;
    Ok(found.first().map(|r| r.record.timestamp))
}

/// Reads them.
async fn read(log: &dyn Log) -> Result<Topics> {
    let known = log.topics().await?;
    let groups = log.groups().await?;
    let mut topics = Vec::new();
    for topic in known {
        let mut newest = Vec::with_capacity(topic.partitions.len());
        let ends: Vec<(u32, Option<u64>)> = (0..)
            .zip(&topic.partitions)
            .map(|(n, r)| (n, (r.end > r.start).then(|| r.end.saturating_sub(1))))
            .collect();
        for some in ends.chunks(AT_ONCE) {
            let reads: Vec<_> =
                some.iter().map(|(number, last)| time_of(log, &topic.name, *number, *last)).collect();
            newest.extend(try_join_all(reads).await?);
        }
        let groups = groups.iter().filter_map(|(group, committed)| {
            let mut positions = vec![None; topic.partitions.len()];
            let mut any = false;
            for at in committed.iter().filter(|c| c.partition.topic == topic.name) {
                if let Some(position) = positions.get_mut(at.partition.number as usize) {
                    (*position, any) = (Some(at.next), true);
                }
            }
            any.then(|| (group.clone(), positions))
        });
        topics.push(TopicFacts { groups: groups.collect(), newest, topic });
    }
    Ok(Topics { topics })
}

/// Topics and records as they were read last.
pub(crate) struct TopicReads {
    log: Arc<dyn Log>,
    handle: Handle,
    topics: Kept<(), Topics>,
    peeks: Kept<Look, Peek>,
}

impl TopicReads {
    /// Reads the log, where there is room, by the daemon's clock.
    pub(crate) fn new(log: Arc<dyn Log>, handle: Handle, room: &Arc<Semaphore>) -> Self {
        Self { log, handle, topics: Kept::new("the log", 1, room), peeks: Kept::new("the log", 8, room) }
    }

    /// All topics.
    pub(crate) async fn topics(&self) -> Reading<Topics> {
        let (log, handle) = (Arc::clone(&self.log), self.handle.clone());
        self.topics.get(move || handle.snapshot().now, &(), async move { read(log.as_ref()).await }).await
    }

    /// Makes the next look read anew.
    pub(crate) fn spoil(&self) {
        self.topics.spoil();
    }

    /// Records of a partition.
    pub(crate) async fn peek(&self, look: Look) -> Reading<Peek> {
        let (log, handle) = (Arc::clone(&self.log), self.handle.clone());
        let work = {
            let look = look.clone();
            async move { records::peek(log.as_ref(), &look).await }
        };
        self.peeks.get(move || handle.snapshot().now, &look, work).await
    }
}
