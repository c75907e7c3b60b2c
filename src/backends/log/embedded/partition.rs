//! One partition's records on disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::record;
use crate::log::{Range, Record};
use crate::segments::{self, Hints, Options, RealDisk, Take, folder};
use crate::{BackendError, ErrorKind, Result};

/// A file grows to about this many bytes before the next one is begun.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Readers kept open for whoever reads on where they stopped.
const IDLE_READERS: usize = 4;

/// See the module. All methods block.
pub(super) struct PartitionStore {
    dir: PathBuf,
    place: String,
    start: u64,
    writer: Mutex<segments::Writer>,
    /// Held while syncing, so that appends that come meanwhile share the next sync.
    syncing: Mutex<()>,
    /// Everything below is durable and readable.
    end: AtomicU64,
    hints: Hints,
    idle: Mutex<Vec<segments::Reader>>,
}

impl PartitionStore {
    pub(super) fn open(dir: &Path, place: String) -> Result<Self> {
        let options = Options { max_segment: SEGMENT_BYTES, first: 0, reuse_torn: true };
        let (writer, opened) = segments::Writer::open(dir, place.clone(), options, Box::new(RealDisk))?;
        let start = folder::list(dir, &place)?.first().map_or(0, |s| s.first);
        // After a damaged tail the next offset jumps, but the end stays behind the last record until that one
        // comes, so that readers who wait for the end are not kept waiting for offsets that nobody will get.
        let end = opened.last.map_or(start, |last| last + 1);
        Ok(Self {
            dir: dir.to_owned(),
            place,
            start,
            writer: Mutex::new(writer),
            syncing: Mutex::new(()),
            end: AtomicU64::new(end),
            hints: Arc::new(Mutex::new(BTreeMap::new())),
            idle: Mutex::new(Vec::new()),
        })
    }

    pub(super) fn range(&self) -> Range {
        Range { start: self.start, end: self.end.load(Ordering::Acquire) }
    }

    /// Appends records that follow one another, durably, and returns the first one's offset.
    pub(super) fn append(&self, records: &[Record]) -> Result<u64> {
        let first = self.writer().append(records.len(), |i, out| record::encode(&records[i], out))?;
        let wanted = first + records.len() as u64;
        let _one = self.syncing.lock();
        if self.end.load(Ordering::Acquire) < wanted {
            let (file, appended) = {
                let writer = self.writer();
                (writer.file(), writer.next())
            };
            file.sync_data().map_err(|e| self.writer().sync_failed(&e))?;
            self.end.store(appended, Ordering::Release);
        }
        Ok(first)
    }

    fn writer(&self) -> MutexGuard<'_, segments::Writer> {
        self.writer.lock()
    }

    /// Up to `max` records from `offset` on, fewer when they are large.
    pub(super) fn read(&self, offset: u64, max: usize, max_bytes: usize) -> Result<Vec<(u64, Record)>> {
        self.check(offset)?;
        let until = self.range().end;
        if offset >= until || max == 0 {
            return Ok(Vec::new());
        }
        let mut reader = self.reader_at(offset);
        let take = Take { frames: max, bytes: max_bytes, until: Some(until) };
        let records = reader.take(take, |offset, payload| {
            let record = record::decode(payload).ok_or_else(|| {
                BackendError::new(
                    ErrorKind::Corrupt,
                    &self.place,
                    format!("record {offset} is whole, but of a format this version does not know"),
                )
                .remedy("read it with the version of openbell that wrote it")
            })?;
            Ok((offset, record))
        })?;
        let mut idle = self.idle.lock();
        if idle.len() == IDLE_READERS {
            idle.remove(0);
        }
        idle.push(reader);
        Ok(records)
    }

    /// Refuses offsets outside of the partition.
    pub(super) fn check(&self, offset: u64) -> Result<()> {
        let Range { start, end } = self.range();
        if (start..=end).contains(&offset) {
            return Ok(());
        }
        Err(BackendError::new(
            ErrorKind::Rejected,
            &self.place,
            format!("offset {offset} is outside of {start}..={end}"),
        )
        .remedy(
            "read from the start or the end; the topic may have been created anew since the offset was noted",
        ))
    }

    fn reader_at(&self, offset: u64) -> segments::Reader {
        let mut idle = self.idle.lock();
        match idle.iter().position(|r| r.position() == offset) {
            Some(at) => idle.remove(at),
            None => {
                segments::Reader::new(&self.dir, self.place.clone(), offset, Some(Arc::clone(&self.hints)))
            }
        }
    }
}
