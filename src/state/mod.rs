//! Floor 2: the journal, one trait with one file per implementation.
//!
//! A run is the fold of its events, so the journal is the truth: [`Store::append`] returns after the event,
//! and everything that belongs to it (mails, alert states), is on the disk in one piece. `journal` holds what
//! both implementations share, `codec` the keys and versions on the disk, `export` the plain-text copy,
//! `opening` what happens when the folder is damaged.

mod codec;
mod export;
mod journal;
pub mod memory;
mod opening;
mod records;
pub mod sled;

#[cfg(test)]
mod tests;

pub use opening::{Opened, Restored, restore};
pub use records::{Answered, Audit, Journaled, OutboxMail, Outcome, Paused, Pruned, Put, StoreError};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;

use domain::alert::AlertStates;
use domain::event::Stamped;
use domain::ids::{DagName, RunId};
use domain::run::Run;

/// What a daemon remembers over restarts. All writes are durable when the call returns.
#[async_trait]
pub trait Store: Send + Sync {
    /// Appends an event to a run's journal, together with `extra`, as one piece. Gives the event's number in
    /// its run, from 1.
    ///
    /// # Errors
    /// When it could not be made durable; nothing that follows from the event may be done then.
    async fn append(&self, run: &RunId, event: &Stamped, extra: Vec<Put>) -> Result<u64, StoreError> {
        self.append_all(vec![(run.clone(), event.clone())], extra).await.map(|last| last.unwrap_or_default())
    }

    /// Appends several events as one piece, with one wait for the disk. Gives the last event's number in its
    /// run.
    ///
    /// # Errors
    /// As [`Store::append`].
    async fn append_all(
        &self,
        events: Vec<(RunId, Stamped)>,
        extra: Vec<Put>,
    ) -> Result<Option<u64>, StoreError>;

    /// Writes records that belong to no event, as one piece.
    ///
    /// # Errors
    /// When they could not be made durable.
    async fn put(&self, puts: Vec<Put>) -> Result<(), StoreError> {
        self.append_all(Vec::new(), puts).await.map(drop)
    }

    /// The journals of all runs without a final snapshot ([`Put::Finished`]).
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn unfinished(&self) -> Result<Vec<Journaled>, StoreError>;

    /// The journal of one run, finished or not; empty for an unknown run.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn events(&self, run: &RunId) -> Result<Journaled, StoreError>;

    /// Final snapshots of finished runs, newest first, of one DAG or of all.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn finished(&self, dag: Option<&DagName>, limit: usize) -> Result<Vec<Run>, StoreError>;

    /// The final snapshot of one run.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn finished_run(&self, run: &RunId) -> Result<Option<Run>, StoreError>;

    /// Alert states.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn alerts(&self) -> Result<AlertStates, StoreError>;

    /// Mails that were not delivered yet, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn outbox(&self) -> Result<Vec<OutboxMail>, StoreError>;

    /// Paused DAGs.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn pauses(&self) -> Result<BTreeMap<DagName, Paused>, StoreError>;

    /// Up to when each DAG was planned.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn high_water(&self) -> Result<BTreeMap<DagName, Timestamp>, StoreError>;

    /// Who did what, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn audit(&self, limit: usize) -> Result<Vec<Audit>, StoreError>;

    /// Answers to requests with a key.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn answers(&self) -> Result<Vec<Answered>, StoreError>;

    /// The answer to the request with this key.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn answer(&self, key: &str) -> Result<Option<Answered>, StoreError>;

    /// Forgets runs that finished before `before`, and alerts and audit entries older than that.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn prune(&self, before: Timestamp) -> Result<Pruned, StoreError>;

    /// Writes everything as plain text into a new file in `dir` (created if missing), atomically, and keeps
    /// the newest few.
    ///
    /// # Errors
    /// When the file cannot be written.
    async fn export(&self, dir: &Path, at: Timestamp) -> Result<PathBuf, StoreError>;
}
