//! The log: topics of partitions of records with offsets, consumer groups with committed offsets.
//!
//! Meaning is Kafka's. Order holds within a partition; a record's partition follows from its key
//! ([`partition_for`]); an offset once given is never given again in the same topic incarnation.

pub mod embedded;
pub mod kafka;
pub mod prefixed;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Result;

/// A record to append.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Decides the partition; `None` goes to partition 0.
    pub key: Option<Vec<u8>>,
    /// Payload.
    #[serde(with = "crate::bytes")]
    pub value: Vec<u8>,
    /// Ordered headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Producer's time of the record.
    pub timestamp: Timestamp,
}

impl Record {
    /// The last header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_slice())
    }
}

/// A record as read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Where it is.
    pub partition: Partition,
    /// Its offset in the partition.
    pub offset: u64,
    /// The record.
    pub record: Record,
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// Topic name.
    pub topic: String,
    /// Number, from 0.
    pub number: u32,
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// Differs between a topic and its recreation under the same name.
    pub incarnation: String,
    /// Per partition (index = number): first offset kept, and the offset the next record will get.
    pub partitions: Vec<Range>,
}

/// Offsets held by a partition: `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First offset kept.
    pub start: u64,
    /// Offset the next record will get.
    pub end: u64,
}

/// A committed offset of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The partition.
    pub partition: Partition,
    /// The next offset to read.
    pub next: u64,
}

/// What a poll brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Polled {
    /// Nothing within the wait.
    Nothing,
    /// Records, in order within each partition.
    Records(Vec<Stored>),
    /// These partitions are this member's now; reading starts at `next`.
    Assigned(Vec<Committed>),
    /// These partitions are about to be someone else's. The member finishes and commits what it can, then
    /// polls again, which gives them up.
    Revoked(Vec<Partition>),
}

/// A Kafka-like log.
#[async_trait]
pub trait Log: Send + Sync {
    /// Creates a topic; one that exists already is left as it is. Returns whether it was created.
    ///
    /// # Errors
    /// `Rejected` for a bad name or zero partitions, and for an existing topic with another partition count.
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<bool>;

    /// Deletes a topic and its records; a missing topic is fine.
    async fn delete_topic(&self, topic: &str) -> Result<()>;

    /// One topic; `None` if there is none of this name.
    async fn topic(&self, topic: &str) -> Result<Option<Topic>>;

    /// All topics, by name.
    async fn topics(&self) -> Result<Vec<Topic>>;

    /// Appends in order and returns, aligned with `records`, where each went, once all are durable.
    ///
    /// # Errors
    /// `NotFound` for a missing topic. After `Unavailable` some may have been appended: read the tail before
    /// sending again.
    async fn append(&self, topic: &str, records: Vec<Record>) -> Result<Vec<(u32, u64)>>;

    /// Reads up to `max` records from `offset` on, without a group. Empty at the end of the partition.
    ///
    /// # Errors
    /// `Rejected` when the offset is before the start or beyond the end.
    async fn read(&self, partition: &Partition, offset: u64, max: usize) -> Result<Vec<Stored>>;

    /// Joins a consumer group. Partitions are spread over the group's members and move when members come or
    /// go; a group that never committed starts at each partition's start.
    ///
    /// A `name` is for a member that has successors, as a step's attempt has. Whoever joins a group under the
    /// name of a member takes that member's place at once, also of one that died and never left; the earlier
    /// one, if it lives, is told [`Replaced`](crate::ErrorKind::Replaced). Members without a name, and with
    /// different names, know nothing of each other.
    ///
    /// # Errors
    /// `Rejected` without topics, and for a group, topic or name that is not of 1 to 200 letters, digits,
    /// `.`, `_` and `-`.
    async fn join(&self, group: &str, topics: &[String], name: Option<&str>) -> Result<Box<dyn Consumer>>;

    /// Every group's committed offsets.
    async fn groups(&self) -> Result<Vec<(String, Vec<Committed>)>>;
}

/// A member of a consumer group. Dropping it leaves the group. One that was replaced leaves nothing and frees
/// nothing.
#[async_trait]
pub trait Consumer: Send {
    /// Waits up to `wait` of real time for something to do.
    ///
    /// # Errors
    /// `Replaced` once another member has this one's place: for good.
    async fn poll(&mut self, wait: Duration) -> Result<Polled>;

    /// Records that everything before `next` is done.
    ///
    /// # Errors
    /// `Fenced` when a partition is no longer this member's, `Replaced` when another member has this one's
    /// place; nothing of the call is committed then.
    async fn commit(&mut self, offsets: &[Committed]) -> Result<()>;

    /// Goes on reading an assigned partition at `offset`.
    async fn seek(&mut self, partition: &Partition, offset: u64) -> Result<()>;

    /// Stops (true) or resumes (false) reading of an assigned partition: back-pressure.
    async fn pause(&mut self, partition: &Partition, paused: bool) -> Result<()>;

    /// Leaves the group, so that others take over at once.
    async fn leave(self: Box<Self>) -> Result<()>;
}

/// The partition of a key: Kafka's default for records with a key (murmur2, as in the Java client), so that a
/// topic keeps its layout whichever producer writes it.
pub fn partition_for(key: Option<&[u8]>, partitions: u32) -> u32 {
    match key {
        Some(key) if partitions > 0 => (murmur2(key) & 0x7fff_ffff) % partitions,
        _ => 0,
    }
}

/// MurmurHash2, 32 bit, with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    /// Values from Apache Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_matches_kafka() {
        for (text, hash) in
            [("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536)]
        {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }
}
