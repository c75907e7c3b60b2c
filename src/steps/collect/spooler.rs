//! The spool's thread: appends everything there is, then syncs once, so that many frames share one fsync.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::hand_over::Written;
use super::status::CollectorStatus;
use backends::spool::{NewEntry, Writer};
use backends::{BackendError, ErrorKind};

/// Batches that wait for the thread: beyond that the socket is not read, so a full disk costs no memory.
pub(super) const WAITING: usize = 16;

/// Entries of one sync.
const GROUP: usize = 4096;

/// Wait before an append that failed is repeated, in real time: the disk does not get faster with the clock.
const AGAIN: Duration = Duration::from_millis(200);

/// What the thread works with.
pub(super) struct Spooler {
    pub(super) dir: PathBuf,
    /// `None` while it has to be opened again.
    pub(super) writer: Option<Writer>,
    /// What was received before the spool was free; it comes first.
    pub(super) held: Vec<NewEntry>,
    /// What another collector has written of what this one receives.
    pub(super) written: Written,
    pub(super) batches: mpsc::Receiver<Vec<NewEntry>>,
    pub(super) synced: watch::Sender<u64>,
    pub(super) status: Arc<CollectorStatus>,
    /// Stop trying: the time to stop is over.
    pub(super) abandon: CancellationToken,
}

impl Spooler {
    /// Works until nobody sends any more; returns how many entries could not be written.
    pub(super) fn run(mut self) -> usize {
        let held = std::mem::take(&mut self.held);
        let left = self.write(held);
        if left > 0 {
            return left + self.waiting();
        }
        while let Some(mut group) = self.batches.blocking_recv() {
            while group.len() < GROUP
                && let Ok(more) = self.batches.try_recv()
            {
                group.extend(more);
            }
            let left = self.write(group);
            if left > 0 {
                return left + self.waiting();
            }
        }
        0
    }

    /// Entries that nobody will write any more.
    fn waiting(&mut self) -> usize {
        std::iter::from_fn(|| self.batches.try_recv().ok()).map(|batch| batch.len()).sum()
    }

    /// Writes a group, however long it takes; returns how many entries are left when there is no more time.
    fn write(&mut self, mut group: Vec<NewEntry>) -> usize {
        self.written.leave_out(&mut group);
        while !group.is_empty() {
            match self.attempt(&mut group) {
                Ok(()) => self.status.trouble("spool", None),
                Err(error) => {
                    self.status.trouble("spool", Some(format!("{error}; the feed is not read meanwhile")));
                    if self.abandon.is_cancelled() {
                        return group.len();
                    }
                    std::thread::sleep(AGAIN);
                }
            }
        }
        0
    }

    /// Tries once; takes from the group what is durable.
    fn attempt(&mut self, group: &mut Vec<NewEntry>) -> Result<(), BackendError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(Writer::open(&self.dir)?.0),
        };
        let last = match writer.append(group) {
            Ok(last) => last,
            Err(error) => {
                if error.kind != ErrorKind::Full {
                    self.writer = None;
                }
                return Err(error);
            }
        };
        if let Err(error) = writer.sync() {
            // What was appended is in doubt; opening the spool again finds out how much of it is there.
            self.writer = None;
            let (writer, recovered) = Writer::open(&self.dir)?;
            self.writer = Some(writer);
            let kept = group.len().saturating_sub(
                usize::try_from(last.saturating_sub(recovered.last_seq)).unwrap_or(usize::MAX),
            );
            group.drain(..kept);
            self.publish(recovered.last_seq);
            return Err(error);
        }
        group.clear();
        self.publish(last);
        Ok(())
    }

    fn publish(&self, last: u64) {
        self.synced.send_replace(last);
        self.status.update(|f| f.spool_seq = last);
    }
}

#[cfg(test)]
mod tests;
