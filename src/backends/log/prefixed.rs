//! A log that shares its cluster: all names of topics and groups begin with a prefix on the server, and
//! nobody here sees it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Committed, Consumer, Log, Partition, Polled, Record, Stored, Topic};
use crate::Result;

/// The topics and groups of a log whose names begin with a prefix, under the rest of their names.
pub struct Prefixed {
    log: Arc<dyn Log>,
    prefix: String,
}

impl Prefixed {
    /// Narrows a log; an empty prefix gives the log itself.
    pub fn narrow(log: Arc<dyn Log>, prefix: &str) -> Arc<dyn Log> {
        if prefix.is_empty() { log } else { Arc::new(Self { log, prefix: prefix.to_owned() }) }
    }
}

/// A name that cannot be stays so, instead of being saved by the prefix.
fn outer(prefix: &str, name: &str) -> String {
    let usable = !["", ".", ".."].contains(&name)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if usable { format!("{prefix}{name}") } else { name.to_owned() }
}

fn outer_partition(prefix: &str, partition: &Partition) -> Partition {
    Partition { topic: outer(prefix, &partition.topic), number: partition.number }
}

fn inner(prefix: &str, name: String) -> String {
    name.strip_prefix(prefix).map_or(name.clone(), str::to_owned)
}

fn inner_partition(prefix: &str, partition: Partition) -> Partition {
    Partition { topic: inner(prefix, partition.topic), number: partition.number }
}

fn inner_stored(prefix: &str, stored: Vec<Stored>) -> Vec<Stored> {
    stored.into_iter().map(|s| Stored { partition: inner_partition(prefix, s.partition), ..s }).collect()
}

fn inner_committed(prefix: &str, committed: Vec<Committed>) -> Vec<Committed> {
    committed
        .into_iter()
        .map(|c| Committed { partition: inner_partition(prefix, c.partition), ..c })
        .collect()
}

#[async_trait]
impl Log for Prefixed {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<bool> {
        self.log.create_topic(&outer(&self.prefix, topic), partitions).await
    }

    async fn delete_topic(&self, topic: &str) -> Result<()> {
        self.log.delete_topic(&outer(&self.prefix, topic)).await
    }

    async fn topic(&self, topic: &str) -> Result<Option<Topic>> {
        let found = self.log.topic(&outer(&self.prefix, topic)).await?;
        Ok(found.map(|t| Topic { name: topic.to_owned(), ..t }))
    }

    async fn topics(&self) -> Result<Vec<Topic>> {
        let own = self.log.topics().await?.into_iter().filter(|t| t.name.starts_with(&self.prefix));
        Ok(own.map(|t| Topic { name: inner(&self.prefix, t.name), ..t }).collect())
    }

    async fn append(&self, topic: &str, records: Vec<Record>) -> Result<Vec<(u32, u64)>> {
        self.log.append(&outer(&self.prefix, topic), records).await
    }

    async fn read(&self, partition: &Partition, offset: u64, max: usize) -> Result<Vec<Stored>> {
        let stored = self.log.read(&outer_partition(&self.prefix, partition), offset, max).await?;
        Ok(inner_stored(&self.prefix, stored))
    }

    async fn join(&self, group: &str, topics: &[String], name: Option<&str>) -> Result<Box<dyn Consumer>> {
        let topics: Vec<String> = topics.iter().map(|t| outer(&self.prefix, t)).collect();
        // A member's name counts within its group, which has the prefix.
        let member = self.log.join(&outer(&self.prefix, group), &topics, name).await?;
        Ok(Box::new(Member { member, prefix: self.prefix.clone() }))
    }

    async fn groups(&self) -> Result<Vec<(String, Vec<Committed>)>> {
        let own = self.log.groups().await?.into_iter().filter(|(name, _)| name.starts_with(&self.prefix));
        Ok(own
            .map(|(name, committed)| (inner(&self.prefix, name), inner_committed(&self.prefix, committed)))
            .collect())
    }
}

struct Member {
    member: Box<dyn Consumer>,
    prefix: String,
}

#[async_trait]
impl Consumer for Member {
    async fn poll(&mut self, wait: Duration) -> Result<Polled> {
        Ok(match self.member.poll(wait).await? {
            Polled::Nothing => Polled::Nothing,
            Polled::Records(stored) => Polled::Records(inner_stored(&self.prefix, stored)),
            Polled::Assigned(committed) => Polled::Assigned(inner_committed(&self.prefix, committed)),
            Polled::Revoked(partitions) => {
                Polled::Revoked(partitions.into_iter().map(|p| inner_partition(&self.prefix, p)).collect())
            }
        })
    }

    async fn commit(&mut self, offsets: &[Committed]) -> Result<()> {
        let offsets: Vec<Committed> = offsets
            .iter()
            .map(|c| Committed { partition: outer_partition(&self.prefix, &c.partition), next: c.next })
            .collect();
        self.member.commit(&offsets).await
    }

    async fn seek(&mut self, partition: &Partition, offset: u64) -> Result<()> {
        self.member.seek(&outer_partition(&self.prefix, partition), offset).await
    }

    async fn pause(&mut self, partition: &Partition, paused: bool) -> Result<()> {
        self.member.pause(&outer_partition(&self.prefix, partition), paused).await
    }

    async fn leave(self: Box<Self>) -> Result<()> {
        self.member.leave().await
    }
}
