//! Where a member reads, and what it commits.

use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::{Client, Membership, Position, partitions_of};
use crate::log::kafka::errors;
use crate::log::kafka::groups::{belongs, note, noted};
use crate::log::kafka::reader;
use crate::log::kafka::settings::PATIENCE;
use crate::log::{Committed, Partition, Polled};
use crate::{BackendError, ErrorKind, Result};

/// Between tries of a commit that a hand-over among others holds up.
const TRY_AGAIN: Duration = Duration::from_millis(20);

impl Membership {
    /// Partitions came: finds out from where to read, and writes it into the list.
    pub(super) fn gained(&self, client: &Client, list: &mut TopicPartitionList) {
        if list.count() == 0 {
            return;
        }
        match self.starts(client, list) {
            Ok(starts) => {
                let mut state = self.state();
                let mut told = Vec::new();
                for (partition, id, next) in starts {
                    let found = list.set_partition_offset(
                        &partition.topic,
                        partition.number as i32,
                        Offset::Offset(next as i64),
                    );
                    if let Err(error) = found {
                        tracing::warn!(%error, %partition, "kafka takes no offset for it");
                    }
                    state.owned.insert(partition.clone(), Position { next, id });
                    told.push(Committed { partition, next });
                }
                state.told.push_back(Polled::Assigned(told));
            }
            // Reading from anywhere else would skip or repeat records.
            Err(error) => self.state().broken = Some(error),
        }
    }

    /// Per partition of the list its topic's id and where to start.
    fn starts(&self, client: &Client, list: &TopicPartitionList) -> Result<Vec<(Partition, String, u64)>> {
        let partitions = partitions_of(list);
        let mut topics: Vec<_> = partitions.iter().map(|p| p.topic.clone()).collect();
        topics.sort();
        topics.dedup();
        let ids = self.cluster.ids(Some(&topics))?;
        let found = client
            .committed_offsets(list.clone(), PATIENCE)
            .map_err(|e| self.last_error.explain(&self.place, &e))?;
        let committed = noted(&found);
        let ranges = self.cluster.ranges(&partitions)?;
        let start = |(partition, range): (Partition, crate::log::Range)| {
            let id = ids.get(&partition.topic).cloned().unwrap_or_default();
            let valid = committed.iter().find(|(c, note)| c.partition == partition && belongs(note, &id));
            let next = valid.map_or(range.start, |(c, _)| c.next);
            let usable = next.clamp(range.start, range.end);
            if usable != next {
                let group = &self.0.group;
                tracing::warn!(%partition, group, next, usable, "a committed offset is not in the partition any more");
            }
            (partition, id, usable)
        };
        Ok(partitions.into_iter().zip(ranges).map(start).collect())
    }

    fn fenced(&self, partition: &Partition) -> BackendError {
        BackendError::new(
            ErrorKind::Fenced,
            &self.place,
            format!("partition {partition} is not this member's any more"),
        )
        .remedy("what was read of it is read again by its new owner")
    }

    /// The next offset of an own partition.
    fn position(&self, partition: &Partition) -> Result<u64> {
        self.state().owned.get(partition).map(|p| p.next).ok_or_else(|| self.fenced(partition))
    }

    /// Refuses an offset beyond the end. What was handed out needs no look.
    fn check(&self, partition: &Partition, offset: u64, known: u64) -> Result<()> {
        if offset <= known {
            return Ok(());
        }
        match self.cluster.ranges(std::slice::from_ref(partition)) {
            Ok(ranges) => ranges
                .iter()
                .try_for_each(|r| reader::check(&self.cluster.partition_place(partition), *r, offset)),
            // Deleted.
            Err(error) if error.kind == ErrorKind::NotFound => Err(self.fenced(partition)),
            Err(error) => Err(error),
        }
    }

    pub(super) fn commit(&self, client: &Client, offsets: &[Committed]) -> Result<()> {
        if let Some(replaced) = self.replaced(client) {
            return Err(replaced);
        }
        let fail = |e: KafkaError| self.last_error.explain(&self.place, &e);
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for Committed { partition, next } in offsets {
            let known = self.position(partition)?;
            self.check(partition, *next, known)?;
            let mut element = list.add_partition(&partition.topic, partition.number as i32);
            element.set_offset(Offset::Offset(*next as i64)).map_err(fail)?;
            let id = self.state().owned.get(partition).map(|p| note(&p.id)).unwrap_or_default();
            element.set_metadata(id);
        }
        let lost = || self.replaced(client).unwrap_or_else(|| self.fenced(&offsets[0].partition));
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A member that was put out commits for nobody; the library itself would try in the name of an
            // empty group.
            if client.assignment_lost() {
                return Err(lost());
            }
            let error = match client.commit(&list, CommitMode::Sync) {
                Ok(()) if client.assignment_lost() => return Err(lost()),
                Ok(()) => {
                    self.last_error.forget();
                    return Ok(());
                }
                Err(error) => error,
            };
            match error.rdkafka_error_code() {
                // The others' partitions are being handed over. Ours stay ours: nobody gets a partition
                // before its owner has consented, so the same commit is right once the library knows the new
                // generation.
                Some(Code::RebalanceInProgress | Code::IllegalGeneration) if Instant::now() < deadline => {
                    std::thread::sleep(TRY_AGAIN);
                }
                Some(Code::RebalanceInProgress | Code::IllegalGeneration) => {
                    return Err(BackendError::new(
                        ErrorKind::Unavailable,
                        &self.place,
                        "a hand-over of partitions takes too long",
                    ));
                }
                Some(Code::UnknownTopicOrPartition | Code::UnknownTopicId) => return Err(lost()),
                Some(code) if errors::kind(code) == ErrorKind::Fenced => return Err(lost()),
                _ => return Err(self.replaced(client).unwrap_or_else(|| fail(error))),
            }
        }
    }

    pub(super) fn seek(&self, client: &Client, partition: &Partition, offset: u64) -> Result<()> {
        let position = self.position(partition)?;
        if offset == position {
            return Ok(());
        }
        self.check(partition, offset, position)?;
        let fail = |e: &KafkaError| self.last_error.explain(&self.cluster.partition_place(partition), e);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut list = TopicPartitionList::with_capacity(1);
            list.add_partition_offset(
                &partition.topic,
                partition.number as i32,
                Offset::Offset(offset as i64),
            )
            .map_err(|e| fail(&e))?;
            let sought = client.seek_partitions(list, PATIENCE).map_err(|e| fail(&e))?;
            let outcome = sought.elements().first().map_or(Ok(()), |e| e.error());
            match outcome {
                Ok(()) => break,
                // Reading of a new partition has not begun yet.
                Err(error)
                    if matches!(error.rdkafka_error_code(), Some(Code::State | Code::PreviousInProgress))
                        && Instant::now() < deadline =>
                {
                    std::thread::sleep(TRY_AGAIN);
                }
                Err(error) => return Err(fail(&error)),
            }
        }
        if let Some(position) = self.state().owned.get_mut(partition) {
            position.next = offset;
        }
        Ok(())
    }

    pub(super) fn pause(&self, client: &Client, partition: &Partition, paused: bool) -> Result<()> {
        self.position(partition)?;
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&partition.topic, partition.number as i32);
        let done = if paused { client.pause(&list) } else { client.resume(&list) };
        done.map_err(|e| self.last_error.explain(&self.cluster.partition_place(partition), &e))
    }
}
