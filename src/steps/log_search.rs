//! Finding records on the log by time, and reading stretches of it without a group.

use std::ops::Range;

use jiff::Timestamp;

use backends::Result;
use backends::log::{Log, Partition, Stored};

/// Records of one read.
pub const CHUNK: usize = 1_000;

/// The first offset in `range` whose record is later than `after`, found by halving: producer times rise
/// within a partition. `range.end` when there is none.
///
/// # Errors
/// What the log fails with.
pub async fn first_after(
    log: &dyn Log,
    partition: &Partition,
    range: Range<u64>,
    after: Timestamp,
) -> Result<u64> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        match log.read(partition, middle, 1).await?.first() {
            Some(record) if record.record.timestamp <= after => low = record.offset + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Reads `range` of a partition and hands each record to `visit`.
///
/// # Errors
/// What the log fails with.
pub async fn for_each(
    log: &dyn Log,
    partition: &Partition,
    range: Range<u64>,
    mut visit: impl FnMut(Stored) + Send,
) -> Result<()> {
    let mut next = range.start;
    while next < range.end {
        let want = usize::try_from(range.end - next).unwrap_or(CHUNK).min(CHUNK);
        let records = log.read(partition, next, want).await?;
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        for record in records {
            if record.offset < range.end {
                visit(record);
            }
        }
    }
    Ok(())
}

/// Ids of the records before `next`, oldest first, at most `window` of them: what a sink remembers when it
/// starts again.
///
/// # Errors
/// What the log fails with.
pub async fn ids_before(
    log: &dyn Log,
    partition: &Partition,
    start: u64,
    next: u64,
    window: usize,
    mut visit: impl FnMut(&str) + Send,
) -> Result<()> {
    let from = next.saturating_sub(window as u64).max(start);
    for_each(log, partition, from..next, |record| {
        if let Some(id) = super::envelope::event_id(&record) {
            visit(&id);
        }
    })
    .await
}
