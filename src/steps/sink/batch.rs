//! What a sink of single documents has taken from its partition and not written yet.

use super::lane::{Due, Left, Pushed};
use crate::envelope::Envelope;
use backends::log::Stored;
use backends::{ErrorKind, Result};

/// Records in the partition's order, with what was read from them.
pub(super) struct Batch {
    /// A batch of this many records is written at once.
    documents: usize,
    /// So is one of this many bytes.
    bytes: usize,
    records: Vec<(Stored, Envelope)>,
    buffered: usize,
    /// Records of the next request: halved while the store refuses whole ones (too large, or one bad record).
    chunk: usize,
}

/// Records that were asked about, and the answer: an error is the refusal of a record that went alone.
pub(super) type Answered<T> = (Vec<(Stored, Envelope)>, Result<T>);

impl Batch {
    pub(super) fn new(documents: usize, bytes: usize) -> Self {
        Self { documents, bytes, records: Vec::new(), buffered: 0, chunk: usize::MAX }
    }

    /// Takes a record, or says why it can never be written.
    pub(super) fn push(&mut self, record: Stored) -> Pushed {
        match Envelope::read(&record) {
            Ok(envelope) => {
                self.again(record, envelope);
                Pushed::Taken
            }
            Err(refusal) => Pushed::Refused(Box::new(record), refusal),
        }
    }

    /// Takes a record that was read before.
    pub(super) fn again(&mut self, record: Stored, envelope: Envelope) {
        self.buffered += record.record.value.len();
        self.records.push((record, envelope));
    }

    pub(super) fn due(&self) -> Due {
        if self.records.is_empty() {
            Due::Idle
        } else if self.records.len() >= self.documents || self.buffered >= self.bytes {
            Due::Now
        } else {
            Due::Quiet
        }
    }

    /// The records of the next request.
    pub(super) fn head(&self) -> &[(Stored, Envelope)] {
        &self.records[..self.chunk.min(self.records.len())]
    }

    /// Takes the records of [`head`](Self::head) out when the store's answer settles them. When it refused
    /// more than one as a whole there is nothing yet: the next request is half as long, to find the record
    /// that is meant.
    ///
    /// # Errors
    /// The store's own that are no refusals; the batch is as it was.
    pub(super) fn answered<T>(&mut self, answer: Result<T>) -> Result<Option<Answered<T>>> {
        let count = self.head().len();
        match answer {
            Err(error) if error.kind != ErrorKind::Rejected => Err(error),
            Err(_) if count > 1 => {
                self.chunk = count / 2;
                Ok(None)
            }
            answer => {
                self.chunk = self.chunk.saturating_mul(2);
                let rest = self.records.split_off(count);
                let settled = std::mem::replace(&mut self.records, rest);
                self.buffered -= settled.iter().map(|(r, _)| r.record.value.len()).sum::<usize>();
                Ok(Some((settled, answer)))
            }
        }
    }

    pub(super) fn left(&self) -> Left {
        if self.records.is_empty() { Left::Nothing } else { Left::More }
    }
}
