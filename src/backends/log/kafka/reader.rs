//! Reading without a group. Blocking.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::Cluster;
use super::detached::Detached;
use super::errors::LastError;
use super::records;
use super::settings::PATIENCE;
use crate::log::{Partition, Range, Stored};
use crate::{BackendError, ErrorKind, Result};

/// A read's records end once their payloads exceed this many bytes.
pub(super) const BATCH_BYTES: usize = 4 << 20;
/// Clients kept for the next reads.
const KEPT: usize = 4;

/// Clients that read, each one partition at a time.
pub(super) struct Readers {
    cluster: Arc<Cluster>,
    idle: Mutex<Vec<Detached<BaseConsumer<LastError>>>>,
}

impl Readers {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, idle: Mutex::default() }
    }

    /// See [`Log::read`](crate::log::Log::read).
    pub(super) fn read(&self, partition: &Partition, offset: u64, max: usize) -> Result<Vec<Stored>> {
        self.cluster.check(partition)?;
        let ranges = self
            .cluster
            .ranges(std::slice::from_ref(partition))
            .inspect_err(|_| self.cluster.forget(&partition.topic))?;
        let range = ranges.first().copied().unwrap_or(Range { start: 0, end: 0 });
        check(&self.cluster.partition_place(partition), range, offset)?;
        if offset == range.end || max == 0 {
            return Ok(Vec::new());
        }
        let reader = self.reader()?;
        let records = self.read_with(&reader, partition, offset, max, range)?;
        // Only a reader that did its work is used again.
        let mut idle = self.idle.lock();
        if idle.len() < KEPT {
            idle.push(reader);
        }
        Ok(records)
    }

    fn reader(&self) -> Result<Detached<BaseConsumer<LastError>>> {
        if let Some(reader) = self.idle.lock().pop() {
            return Ok(reader);
        }
        let made =
            BaseConsumer::from_config_and_context(&self.cluster.settings.reading()?, LastError::default());
        made.map(Detached::new).map_err(|e| LastError::default().explain(&self.cluster.settings.place, &e))
    }

    fn read_with(
        &self,
        reader: &BaseConsumer<LastError>,
        partition: &Partition,
        offset: u64,
        max: usize,
        range: Range,
    ) -> Result<Vec<Stored>> {
        let place = self.cluster.partition_place(partition);
        let fail = |e: KafkaError| reader.context().explain(&place, &e);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&partition.topic, partition.number as i32, Offset::Offset(offset as i64))
            .map_err(fail)?;
        reader.assign(&list).map_err(fail)?;
        let deadline = Instant::now() + PATIENCE;
        let (mut records, mut bytes, mut next) = (Vec::new(), 0, offset);
        while records.len() < max && bytes < BATCH_BYTES && next < range.end {
            // Once there is something, a slow rest is left for the next read.
            let wait = if records.is_empty() {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::from_millis(100)
            };
            match reader.poll(wait) {
                Some(Ok(message)) => {
                    let stored = records::stored(&self.cluster.settings.place, &message)?;
                    if stored.partition == *partition && stored.offset >= next {
                        next = stored.offset + 1;
                        bytes += records::weight(&stored.record);
                        records.push(stored);
                    }
                }
                // Offsets up to the end that hold no record: marks of transactions.
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(super::errors::passing) => {}
                Some(Err(error)) => return Err(fail(error)),
                None if !records.is_empty() => break,
                None => {}
            }
            if records.is_empty() && Instant::now() >= deadline {
                return Err(fail(KafkaError::MessageConsumption(
                    rdkafka::error::RDKafkaErrorCode::OperationTimedOut,
                )));
            }
        }
        reader.context().forget();
        reader.unassign().map_err(fail)?;
        Ok(records)
    }
}

/// Refuses offsets that the partition does not have.
pub(super) fn check(place: &str, range: Range, offset: u64) -> Result<()> {
    if (range.start..=range.end).contains(&offset) {
        return Ok(());
    }
    let Range { start, end } = range;
    Err(BackendError::new(
        ErrorKind::Rejected,
        place,
        format!("offset {offset} is outside of {start}..={end}"),
    ))
}
