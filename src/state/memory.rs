//! A journal that lives as long as its process: for tests, and for playing a DAG in the foreground.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use super::Store;
use super::journal::{Backing, Change, Entry, Journal};
use super::records::{Answered, Audit, Journaled, OutboxMail, Paused, Pruned, Put, StoreError};
use domain::alert::AlertStates;
use domain::event::Stamped;
use domain::ids::{DagName, RunId};
use domain::run::Run;

#[derive(Default)]
struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

impl Backing for Map {
    fn apply(&mut self, changes: Vec<Change>, _batches: u64) -> Result<(), StoreError> {
        for (key, value) in changes {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
        Ok(())
    }
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Entry>, StoreError> {
        let from = self.0.range(prefix.to_vec()..);
        Ok(from.take_while(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(key).cloned())
    }
    fn last(&self, prefix: &[u8]) -> Result<Option<Entry>, StoreError> {
        Ok(self.scan(prefix)?.pop())
    }
}

/// The journal in memory. Goes through the same keys and values as the one on the disk.
pub struct Memory(Mutex<Journal<Map>>);

impl Memory {
    /// An empty one.
    pub fn new() -> Self {
        Self(Mutex::new(Journal::new(Map::default()).expect("a map cannot refuse a write")))
    }

    fn journal(&self) -> MutexGuard<'_, Journal<Map>> {
        self.0.lock()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for Memory {
    async fn append_all(
        &self,
        events: Vec<(RunId, Stamped)>,
        extra: Vec<Put>,
    ) -> Result<Option<u64>, StoreError> {
        self.journal().append_all(&events, extra)
    }
    async fn unfinished(&self) -> Result<Vec<Journaled>, StoreError> {
        self.journal().unfinished()
    }
    async fn events(&self, run: &RunId) -> Result<Journaled, StoreError> {
        self.journal().events(run)
    }
    async fn finished(&self, dag: Option<&DagName>, limit: usize) -> Result<Vec<Run>, StoreError> {
        self.journal().finished(dag, limit)
    }
    async fn finished_run(&self, run: &RunId) -> Result<Option<Run>, StoreError> {
        self.journal().finished_run(run)
    }
    async fn alerts(&self) -> Result<AlertStates, StoreError> {
        self.journal().alerts()
    }
    async fn outbox(&self) -> Result<Vec<OutboxMail>, StoreError> {
        self.journal().outbox()
    }
    async fn pauses(&self) -> Result<BTreeMap<DagName, Paused>, StoreError> {
        self.journal().pauses()
    }
    async fn high_water(&self) -> Result<BTreeMap<DagName, Timestamp>, StoreError> {
        self.journal().high_water()
    }
    async fn audit(&self, limit: usize) -> Result<Vec<Audit>, StoreError> {
        self.journal().audit(limit)
    }
    async fn answers(&self) -> Result<Vec<Answered>, StoreError> {
        self.journal().answers()
    }
    async fn answer(&self, key: &str) -> Result<Option<Answered>, StoreError> {
        self.journal().answer(key)
    }
    async fn prune(&self, before: Timestamp) -> Result<Pruned, StoreError> {
        self.journal().prune(before)
    }
    async fn export(&self, dir: &Path, at: Timestamp) -> Result<PathBuf, StoreError> {
        super::export::write(dir, at, &self.journal().everything()?)
    }
}
