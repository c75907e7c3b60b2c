//! The reading end, and the removal of what nobody needs to read again.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio::sync::watch;

use super::entry::{self, Entry};
use super::{place, synced};
use crate::Result;
use crate::segments::{self, Take, folder};

/// A batch ends once its bodies exceed this many bytes.
const BATCH_BYTES: usize = 8 << 20;

/// A reading end. Any number, also in other processes, also while the writer works.
pub struct Reader {
    dir: PathBuf,
    segments: segments::Reader,
    place: String,
    /// How far the writer has synced, if it is in this process.
    synced: Option<watch::Receiver<u64>>,
    ask: bool,
}

impl Reader {
    /// Reads from `seq` on (1 is the first entry). A spool that does not exist yet, and a `seq` beyond the
    /// end, have no entries until somebody writes them; entries that were pruned are passed over.
    pub fn open(dir: &Path, seq: u64) -> Result<Self> {
        let place = place(dir);
        let segments = segments::Reader::new(dir, place.clone(), seq.max(1), None);
        Ok(Self { dir: dir.to_owned(), segments, place, synced: None, ask: true })
    }

    /// Reads as in another process than the writer's.
    #[cfg(test)]
    pub(super) fn foreign(self) -> Self {
        Self { ask: false, ..self }
    }

    /// Up to `max` whole entries (fewer if they are large); empty at the end: the caller waits, for
    /// [`super::Writer::watch`] or as it sees fit, and calls again. A torn tail ends the batch. What is
    /// returned is durable.
    ///
    /// # Errors
    /// `Corrupt`, with the file and the byte, for damage that has whole entries behind it. Opening the spool
    /// for writing sets the damage aside, and reading goes on.
    pub fn next(&mut self, max: usize) -> Result<Vec<Entry>> {
        // Closed when the writer is gone; another one may have come.
        if self.synced.as_ref().is_none_or(|s| s.has_changed().is_err()) {
            self.synced = if self.ask { synced::find(&self.dir) } else { None };
        }
        let until = self.synced.as_ref().map(|s| *s.borrow() + 1);
        let take = Take { frames: max, bytes: BATCH_BYTES, until };
        self.segments.take(take, |seq, payload| entry::decode(&self.place, seq, payload))
    }

    /// The sequence number from which [`Reader::next`] goes on.
    pub fn position(&self) -> u64 {
        self.segments.position()
    }
}

/// Removes files that hold nothing but entries numbered below `before_seq` and received before `older_than`.
/// The newest file stays. Returns how many were removed.
pub fn prune(dir: &Path, before_seq: u64, older_than: Timestamp) -> Result<usize> {
    let place = place(dir);
    folder::prune(dir, &place, before_seq, |next| {
        // Entries are in the order of their receipt, so the first one of the next file bounds all before it.
        let first = first_of(dir, &place, next.first)?;
        Ok(first.is_some_and(|entry| entry.received_at <= older_than))
    })
}

fn first_of(dir: &Path, place: &str, first: u64) -> Result<Option<Entry>> {
    let mut reader = segments::Reader::new(dir, place.to_owned(), first, None);
    let take = Take { frames: 1, bytes: 1, until: None };
    Ok(reader.take(take, |seq, payload| entry::decode(place, seq, payload))?.pop())
}
