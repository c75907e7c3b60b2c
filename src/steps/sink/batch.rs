//! What a sink of single documents has taken from its partition and not written yet.

use super::lane::{Due, Pushed};
use crate::envelope::Envelope;
use backends::log::Stored;

/// Records in the partition's order, with what was read from them.
pub(super) struct Batch {
    /// A batch of this many records is written at once.
    documents: usize,
    /// So is one of this many bytes.
    bytes: usize,
    /// The records.
    pub(super) records: Vec<(Stored, Envelope)>,
    buffered: usize,
}

impl Batch {
    pub(super) fn new(documents: usize, bytes: usize) -> Self {
        Self { documents, bytes, records: Vec::new(), buffered: 0 }
    }

    /// Takes a record, or says why it can never be written.
    pub(super) fn push(&mut self, record: Stored) -> Pushed {
        match Envelope::read(&record) {
            Ok(envelope) => {
                self.buffered += record.record.value.len();
                self.records.push((record, envelope));
                Pushed::Taken
            }
            Err(refusal) => Pushed::Refused(Box::new(record), refusal),
        }
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

    /// Counts the bytes anew after records were written or put back.
    pub(super) fn weigh(&mut self) {
        self.buffered = self.records.iter().map(|(r, _)| r.record.value.len()).sum();
    }
}
