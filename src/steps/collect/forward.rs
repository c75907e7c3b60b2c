//! The two forwarders' common loop: reads the spool from a cursor on and delivers to a store, through
//! outages.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::status::{CollectorStatus, Facts};
use backends::spool::{self, Entry, Reader};
use backends::{BackendError, ErrorKind, Result};
use clock::Clock;
use domain::retry::Backoff;

/// Entries of one delivery.
const BATCH: usize = 500;

/// A store that does not answer a call within this, in real time, is unavailable.
const ANSWER: Duration = Duration::from_secs(30);

/// Least wait between two tries, in real time.
const LEAST_WAIT: Duration = Duration::from_millis(20);

/// The cursor file is stored at most this often: what it lags behind is found out on the next start.
const STORE_CURSOR: Duration = Duration::from_millis(250);

/// Between two looks whether what was delivered is still there, in real time.
const VERIFY_EVERY: Duration = Duration::from_secs(2);

/// A store to deliver to.
#[async_trait]
pub(super) trait Target: Send {
    /// The store's part of the collector: name of its cursor file and of its trouble.
    fn name(&self) -> &'static str;

    /// Finds out where to go on, at the start and after every failed delivery. `cursor` is what the cursor
    /// file says; the answer is the first entry to deliver.
    async fn prepare(&mut self, cursor: u64) -> Result<u64>;

    /// Delivers entries, in order. Those that are there already are skipped.
    async fn deliver(&mut self, entries: &[Entry]) -> Result<()>;

    /// Whether what was delivered is still there, as far as can be seen: asked once in a while and at the
    /// end. If not, the store is prepared anew.
    async fn intact(&mut self) -> bool {
        true
    }

    /// Writes how far it has come.
    fn note(facts: &mut Facts, seq: u64)
    where
        Self: Sized;
}

/// What a forwarder works with.
pub(super) struct Forwarder<T> {
    pub(super) target: T,
    pub(super) dir: PathBuf,
    /// Rises with each sync; its end means that nothing more comes.
    pub(super) synced: watch::Receiver<u64>,
    pub(super) status: Arc<CollectorStatus>,
    pub(super) clock: Clock,
    pub(super) abandon: CancellationToken,
}

impl<T: Target> Forwarder<T> {
    /// Forwards until the spool's writer is gone and everything is delivered, or there is no more time.
    /// Returns the next entry to forward.
    pub(super) async fn run(mut self) -> u64 {
        let backoff =
            Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(5), jitter: true };
        let mut next = 1;
        let mut failures = 0u32;
        loop {
            match self.forward(&mut next, &mut failures).await {
                Ok(()) => return next,
                Err(error) => {
                    self.status.trouble(self.target.name(), Some(error.to_string()));
                    failures = failures.saturating_add(1);
                    let spread = next.wrapping_add(u64::from(failures));
                    let wait =
                        backoff.delay(failures, spread).max(LEAST_WAIT.mul_f64(self.clock.speed().max(1.0)));
                    tokio::select! {
                        () = self.clock.sleep(wait) => {}
                        () = self.abandon.cancelled() => return next,
                    }
                }
            }
        }
    }

    /// Forwards until the end (`Ok`) or the first failure.
    async fn forward(&mut self, next: &mut u64, failures: &mut u32) -> Result<()> {
        let name = self.target.name();
        let dir = self.dir.clone();
        let cursor = blocking(move || spool::load_cursor(&dir, name)).await?.unwrap_or(1).max(1);
        *next = answer(name, self.target.prepare(cursor.max(*next))).await?;
        let dir = self.dir.clone();
        let from = *next;
        let mut reader = Some(blocking(move || Reader::open(&dir, from)).await?);
        self.status.update(|f| T::note(f, from - 1));
        let mut stored = (Instant::now(), from);
        let mut verified = Instant::now();
        loop {
            if verified.elapsed() >= VERIFY_EVERY {
                self.verify().await?;
                verified = Instant::now();
            }
            let mut open = reader.take().expect("put back after each read");
            let (back, read) = blocking(move || {
                let read = open.next(BATCH);
                Ok((open, read))
            })
            .await?;
            reader = Some(back);
            let entries = read?;
            let Some(last) = entries.last().map(|e| e.seq) else {
                self.store(&mut stored, *next).await;
                // A sync between the read above and this wait is noticed: the receiver remembers what it saw
                // last.
                tokio::select! {
                    // It fails only once the writer is gone and its last sync was noticed.
                    changed = self.synced.changed() => if changed.is_err() {
                        return self.verify().await;
                    },
                    () = tokio::time::sleep_until(verified + VERIFY_EVERY) => {}
                    () = self.abandon.cancelled() => return Ok(()),
                }
                continue;
            };
            tokio::select! {
                delivered = answer(name, self.target.deliver(&entries)) => delivered?,
                () = self.abandon.cancelled() => return Ok(()),
            }
            *next = last + 1;
            *failures = 0;
            self.status.trouble(name, None);
            self.status.update(|f| T::note(f, last));
            if stored.0.elapsed() >= STORE_CURSOR {
                self.store(&mut stored, *next).await;
            }
        }
    }

    async fn verify(&mut self) -> Result<()> {
        let name = self.target.name();
        // A store that is silent will be found out by the next delivery.
        if tokio::time::timeout(ANSWER, self.target.intact()).await.unwrap_or(true) {
            return Ok(());
        }
        Err(BackendError::new(
            ErrorKind::Unavailable,
            name,
            "what was delivered is gone; what the spool holds of it is sent again",
        ))
    }

    /// Stores the cursor file. It is a hint: where it cannot be written, forwarding goes on.
    async fn store(&self, stored: &mut (Instant, u64), next: u64) {
        if stored.1 != next {
            let (dir, name) = (self.dir.clone(), self.target.name());
            if let Err(error) = blocking(move || spool::store_cursor(&dir, name, next)).await {
                self.status.line(&format!("{name}: the cursor file cannot be written: {error}"));
            }
        }
        *stored = (Instant::now(), next);
    }
}

/// Runs file work where it may block.
pub(super) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R> + Send + 'static,
) -> Result<R> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(BackendError::new(
            ErrorKind::Unavailable,
            "spool",
            format!("the work on its files broke off: {e}"),
        )),
    }
}

/// Waits for a store's answer, but not for ever.
async fn answer<R>(name: &str, call: impl Future<Output = Result<R>>) -> Result<R> {
    tokio::time::timeout(ANSWER, call).await.unwrap_or_else(|_| {
        Err(BackendError::new(ErrorKind::Unavailable, name, format!("no answer for {} s", ANSWER.as_secs()))
            .remedy("see whether it is up"))
    })
}
