//! The spool changes hands: where the runs of two days overlap, the new collector listens before the old one
//! has let go of the spool.
//!
//! What the new one receives is held in memory until the spool is free. Then it is appended, without what the
//! old one has written: nothing is lost between the two, and no trade stands in the spool twice.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::forward::blocking;
use super::status::CollectorStatus;
use super::{REMEMBERED, StepError};
use backends::spool::{Entry, Kind, NewEntry, Reader, Recovered, TradeBody, Writer};
use backends::{BackendError, ErrorKind};
use clock::Clock;
use executor::Wait;

/// Wait between two tries to open the spool, in real time.
const AGAIN: Duration = Duration::from_millis(100);

/// How long after the spool changed hands this collector may still receive what the other one has written.
const OVERLAP: Duration = Duration::from_secs(600);

/// Bytes that are held at most; beyond that the socket is not read, as with a full disk.
const MOST: usize = 64 << 20;

/// Waits for the spool of another run's collector.
pub(super) struct HandOver {
    pub(super) dir: PathBuf,
    pub(super) clock: Clock,
    pub(super) status: Arc<CollectorStatus>,
    /// Until when, on the clock of the day.
    pub(super) until: Timestamp,
    pub(super) abandon: CancellationToken,
}

/// A spool that is this collector's.
pub(super) struct Handed {
    pub(super) writer: Writer,
    pub(super) recovered: Recovered,
    /// What was received before it was.
    pub(super) held: Vec<NewEntry>,
    /// What the other collector wrote.
    pub(super) written: Written,
}

/// What another collector has written of what this one received too: for a while after the spool changed
/// hands, since the two may have been served at different speeds.
#[derive(Default)]
pub(super) struct Written {
    known: HashSet<Vec<u8>>,
    /// Entries received later than this are nobody else's.
    until: Timestamp,
}

impl HandOver {
    /// Says that the spool is still another one's; nothing is ready before it is handed over.
    pub(super) fn announce(&self) {
        let reason = "another run's collector still writes the spool; what comes meanwhile is held in memory"
            .to_owned();
        self.status.line(&reason);
        self.status.update(|f| f.hand_over = Some(Wait { until: self.until, reason }));
    }

    /// Holds what comes until the spool is free.
    ///
    /// # Errors
    /// When it is not free in time, or cannot be opened.
    pub(super) async fn wait(self, batches: &mut mpsc::Receiver<Vec<NewEntry>>) -> Result<Handed, StepError> {
        let (mut held, mut bytes) = (Vec::new(), 0);
        let (writer, recovered) = loop {
            let dir = self.dir.clone();
            match blocking(move || Writer::open(&dir)).await {
                Err(error) if error.kind == ErrorKind::Busy => {
                    if self.clock.now() >= self.until || self.abandon.is_cancelled() {
                        let what = "another run's collector does not let go of the spool; what it receives is in there";
                        return Err(StepError::Failed(format!(
                            "{what}, the {} entries held here are not: {error}",
                            held.len()
                        )));
                    }
                }
                opened => break opened?,
            }
            let pause = tokio::time::sleep(AGAIN);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    batch = batches.recv(), if bytes < MOST => match batch {
                        Some(batch) => {
                            bytes += batch.iter().map(|entry: &NewEntry| entry.body.len()).sum::<usize>();
                            held.extend(batch);
                        }
                        // The socket has ended; the spool is still waited for.
                        None => { (&mut pause).await; break }
                    },
                    () = &mut pause => break,
                }
            }
        };
        let until = self.clock.now().checked_add(OVERLAP).unwrap_or(Timestamp::MAX);
        let (dir, last_seq) = (self.dir.clone(), recovered.last_seq);
        let known = blocking(move || known(&dir, last_seq)).await?;
        self.status.line(&format!("the spool is taken over, with {} entries that were held", held.len()));
        self.status.update(|f| f.hand_over = None);
        Ok(Handed { writer, recovered, held, written: Written { known, until } })
    }
}

impl Written {
    /// Leaves out what is in the spool already.
    pub(super) fn leave_out(&mut self, group: &mut Vec<NewEntry>) {
        if !self.known.is_empty() {
            group.retain(|entry| !self.known.contains(&mark(entry.kind, &entry.body)));
            if group.last().is_some_and(|entry| entry.received_at > self.until) {
                self.known = HashSet::new();
            }
        }
    }
}

/// What tells an entry from others, whichever collector received it: a trade by its id, anything else by its
/// content.
fn mark(kind: Kind, body: &[u8]) -> Vec<u8> {
    match TradeBody::parse(body).filter(|_| kind == Kind::Trade) {
        Some(trade) => trade.id.as_bytes().to_vec(),
        None => body.to_vec(),
    }
}

fn known(dir: &Path, last_seq: u64) -> Result<HashSet<Vec<u8>>, BackendError> {
    let mut reader = Reader::open(dir, last_seq.saturating_sub(REMEMBERED).max(1))?;
    let mut known = HashSet::new();
    loop {
        let entries = reader.next(1000)?;
        if entries.is_empty() {
            return Ok(known);
        }
        let of_both = |entry: &&Entry| !matches!(entry.kind, Kind::SessionUp | Kind::SessionDown);
        known.extend(entries.iter().filter(of_both).map(|entry| mark(entry.kind, &entry.body)));
    }
}
