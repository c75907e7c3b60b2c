//! The journal on the disk: sled, with a fence around it.
//!
//! One thread owns the database, because `flush` blocks and sled may panic; every batch is flushed before the
//! call returns; a counter beside the database tells when it came back with less than was acknowledged (see
//! [`super::opening`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::Store;
use super::journal::{Backing, Change, Entry, Journal};
use super::opening::{self, Opened};
use super::records::{Answered, Audit, Journaled, OutboxMail, Paused, Pruned, Put, StoreError};
use domain::alert::AlertStates;
use domain::event::Stamped;
use domain::ids::{DagName, RunId};
use domain::run::Run;

/// The database and the counter beside it.
pub(super) struct Disk {
    pub(super) db: sled::Db,
    pub(super) counter: File,
}

fn failed(error: sled::Error) -> StoreError {
    StoreError::Write { why: error.to_string() }
}

fn unreadable(error: sled::Error) -> StoreError {
    StoreError::Unreadable { what: "the journal".into(), why: error.to_string() }
}

impl Backing for Disk {
    fn apply(&mut self, changes: Vec<Change>, batches: u64) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(failed)?;
        self.db.flush().map_err(failed)?;
        // Not flushed: after a power cut it may be behind the database, never ahead of it.
        self.counter
            .write_all_at(&opening::encode_counter(batches), 0)
            .map_err(|e| StoreError::Write { why: e.to_string() })
    }
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Entry>, StoreError> {
        self.db
            .scan_prefix(prefix)
            .map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())).map_err(unreadable))
            .collect()
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get(key).map_err(unreadable)?.map(|value| value.to_vec()))
    }
    fn last(&self, prefix: &[u8]) -> Result<Option<Entry>, StoreError> {
        let last = self.db.scan_prefix(prefix).next_back().transpose().map_err(unreadable)?;
        Ok(last.map(|(k, v)| (k.to_vec(), v.to_vec())))
    }
}

type Job = Box<dyn FnOnce(&mut Journal<Disk>) + Send>;

/// The journal on the disk. Dropping it waits until the last write is done.
pub struct Sled {
    jobs: Option<mpsc::UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Sled {
    /// Opens or creates the journal in `dir`. A damaged one is moved aside and the newest export in `exports`
    /// takes its place; the second value says so.
    ///
    /// # Errors
    /// When another process has it, a newer version wrote it, or the folder cannot be used at all.
    pub async fn open(dir: &Path, exports: &Path) -> Result<(Self, Opened), StoreError> {
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let (report, opened) = oneshot::channel();
        let (dir, exports) = (dir.to_owned(), exports.to_owned());
        let path = dir.clone();
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                let result = opening::open(&dir, &exports)
                    .and_then(|(disk, opened)| Ok((Journal::new(disk)?, opened)));
                let mut journal = match result {
                    Ok((journal, opened)) => {
                        if report.send(Ok(opened)).is_err() {
                            return;
                        }
                        journal
                    }
                    Err(error) => {
                        if let Err(unheard) = report.send(Err(error)) {
                            tracing::error!(error = ?unheard, "nobody waits for the journal any more");
                        }
                        return;
                    }
                };
                while let Some(job) = queue.blocking_recv() {
                    // A panic inside sled leaves it in an unknown state: nothing is written after it.
                    if catch_unwind(AssertUnwindSafe(|| job(&mut journal))).is_err() {
                        tracing::error!("the journal panicked and is closed");
                        return;
                    }
                }
            })
            .map_err(|e| StoreError::Unusable { path, why: e.to_string() })?;
        let opened = opened
            .await
            .unwrap_or_else(|_| Err(StoreError::Broken { why: "it panicked while it was opened".into() }))?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread) }, opened))
    }

    async fn with<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Journal<Disk>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |journal| {
            if answer.send(job(journal)).is_err() {
                tracing::debug!("the caller went away before the journal answered");
            }
        });
        let broken = || StoreError::Broken { why: "it panicked; its message is in the daemon's log".into() };
        self.jobs.as_ref().ok_or_else(broken)?.send(job).map_err(|_| broken())?;
        answered.await.map_err(|_| broken())?
    }

    #[cfg(test)]
    pub(super) async fn damage(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.with(move |journal| {
            let disk = journal.backing_mut();
            disk.db.insert(key, value).map_err(failed)?;
            disk.db.flush().map(drop).map_err(failed)
        })
        .await
    }

    #[cfg(test)]
    pub(super) async fn panic_inside(&self) -> Result<(), StoreError> {
        self.with(|_| panic!("on purpose")).await
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
    }
}

#[async_trait]
impl Store for Sled {
    async fn append_all(
        &self,
        events: Vec<(RunId, Stamped)>,
        extra: Vec<Put>,
    ) -> Result<Option<u64>, StoreError> {
        self.with(move |journal| journal.append_all(&events, extra)).await
    }
    async fn unfinished(&self) -> Result<Vec<Journaled>, StoreError> {
        self.with(|journal| journal.unfinished()).await
    }
    async fn events(&self, run: &RunId) -> Result<Journaled, StoreError> {
        let run = run.clone();
        self.with(move |journal| journal.events(&run)).await
    }
    async fn finished(&self, dag: Option<&DagName>, limit: usize) -> Result<Vec<Run>, StoreError> {
        let dag = dag.cloned();
        self.with(move |journal| journal.finished(dag.as_ref(), limit)).await
    }
    async fn finished_run(&self, run: &RunId) -> Result<Option<Run>, StoreError> {
        let run = run.clone();
        self.with(move |journal| journal.finished_run(&run)).await
    }
    async fn alerts(&self) -> Result<AlertStates, StoreError> {
        self.with(|journal| journal.alerts()).await
    }
    async fn outbox(&self) -> Result<Vec<OutboxMail>, StoreError> {
        self.with(|journal| journal.outbox()).await
    }
    async fn pauses(&self) -> Result<BTreeMap<DagName, Paused>, StoreError> {
        self.with(|journal| journal.pauses()).await
    }
    async fn high_water(&self) -> Result<BTreeMap<DagName, Timestamp>, StoreError> {
        self.with(|journal| journal.high_water()).await
    }
    async fn audit(&self, limit: usize) -> Result<Vec<Audit>, StoreError> {
        self.with(move |journal| journal.audit(limit)).await
    }
    async fn answers(&self) -> Result<Vec<Answered>, StoreError> {
        self.with(|journal| journal.answers()).await
    }
    async fn answer(&self, key: &str) -> Result<Option<Answered>, StoreError> {
        let key = key.to_owned();
        self.with(move |journal| journal.answer(&key)).await
    }
    async fn prune(&self, before: Timestamp) -> Result<Pruned, StoreError> {
        self.with(move |journal| journal.prune(before)).await
    }
    async fn export(&self, dir: &Path, at: Timestamp) -> Result<PathBuf, StoreError> {
        // Reading it all is quick. Writing it down is not, and nobody who asks the journal meanwhile should
        // wait for that.
        let entries = self.with(|journal| journal.everything()).await?;
        let dir = dir.to_owned();
        let written = tokio::task::spawn_blocking(move || super::export::write(&dir, at, &entries));
        written.await.unwrap_or_else(|error| {
            Err(StoreError::Write { why: format!("the export ended early: {error}") })
        })
    }
}
