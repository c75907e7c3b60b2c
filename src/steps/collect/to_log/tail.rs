//! What a partition holds of a spool: pure.
//!
//! Usually that is everything up to the highest sequence found at its end. A topic that was deleted and made
//! anew is *refilled*: all entries before a certain one are sent again, marked, while some of them may have
//! got there unmarked before it was noticed, and later ones arrive behind them. So a refill keeps the two
//! apart: marked records rise by themselves, unmarked early ones are remembered one by one.

/// A record of the spool as found on the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Its spool sequence.
    pub(super) seq: u64,
    /// It was sent by a refill.
    pub(super) refilled: bool,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PartitionTail {
    /// Everything before this offset was looked at, or holds nothing newer.
    pub(super) end: u64,
    /// Highest sequence of those that no refill sends.
    highest: u64,
    /// Highest sequence that a refill has sent.
    refilled: u64,
    /// Sequences that a refill has to leave out, rising.
    early: Vec<u64>,
}

impl PartitionTail {
    /// Looked at up to `end`, nothing of ours found yet.
    pub(super) fn up_to(end: u64) -> Self {
        Self { end, ..Self::default() }
    }

    /// Takes a record in. Entries before `before` are those of a refill that goes on; 0: there is none.
    pub(super) fn see(&mut self, found: Found, before: u64) {
        if found.seq >= before {
            self.highest = self.highest.max(found.seq);
        } else if found.refilled {
            self.refilled = self.refilled.max(found.seq);
        } else if let Err(at) = self.early.binary_search(&found.seq) {
            self.early.insert(at, found.seq);
        }
    }

    /// Whether it lacks this entry, which belongs here.
    pub(super) fn lacks(&self, seq: u64, before: u64) -> bool {
        if seq >= before {
            seq > self.highest
        } else {
            seq > self.refilled && self.early.binary_search(&seq).is_err()
        }
    }

    /// The refill is done: it holds everything up to the highest sequence of any kind.
    pub(super) fn complete(&mut self) {
        let early = self.early.last().copied().unwrap_or_default();
        self.highest = self.highest.max(self.refilled).max(early);
        (self.refilled, self.early) = (0, Vec::new());
    }

    /// Whether nothing of ours was found.
    pub(super) fn is_empty(&self) -> bool {
        self.highest == 0 && self.refilled == 0 && self.early.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A partition made anew, a refill that is cut off anywhere and begins again, and later records in
        /// between: in the end each entry is there once.
        #[test]
        fn a_refill_that_is_cut_off_sends_each_entry_once(
            entries in 2..60u64,
            noticed in 1..60u64,
            early in 0..6u64,
            cuts in prop::collection::vec(0..30usize, 0..6),
        ) {
            let before = noticed.min(entries);
            let mut partition: Vec<Found> = Vec::new();
            // What was appended to the new topic before anybody noticed.
            for seq in before.saturating_sub(early).max(1)..before {
                partition.push(Found { seq, refilled: false });
            }
            let mut cuts = cuts.into_iter();
            loop {
                // A start: the whole partition is read, then the spool is gone through from its first entry
                // on.
                let mut tail = PartitionTail::up_to(partition.len() as u64);
                partition.iter().for_each(|f| tail.see(*f, before));
                let mut left = cuts.next();
                let mut whole = true;
                for seq in 1..=entries {
                    if !tail.lacks(seq, before) {
                        continue;
                    }
                    if left == Some(0) {
                        whole = false;
                        break;
                    }
                    left = left.map(|n| n - 1);
                    let found = Found { seq, refilled: seq < before };
                    partition.push(found);
                    tail.see(found, before);
                }
                if whole {
                    tail.complete();
                    prop_assert!((1..=entries).all(|seq| !tail.lacks(seq, 0)));
                    prop_assert!(tail.lacks(entries + 1, 0));
                    break;
                }
            }
            let mut seqs: Vec<_> = partition.iter().map(|f| f.seq).collect();
            seqs.sort_unstable();
            prop_assert_eq!(seqs, (1..=entries).collect::<Vec<_>>());
        }
    }
}
