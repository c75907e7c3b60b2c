//! What both implementations share: how records become entries, and entries become records.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::codec::{self, Key, decode, encode};
use super::records::{Answered, Audit, Journaled, OutboxMail, Paused, Pruned, Put, StoreError};
use domain::alert::AlertStates;
use domain::event::Stamped;
use domain::ids::{DagName, RunId};
use domain::run::Run;

/// An entry to write, or to remove where there is no value.
pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);
/// A stored entry.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// Sorted bytes to bytes.
pub(super) trait Backing: Send {
    /// Writes all changes or none, durable on return.
    fn apply(&mut self, changes: Vec<Change>, batches: u64) -> Result<(), StoreError>;
    /// All entries whose key starts with `prefix`, in order.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Entry>, StoreError>;
    /// One entry.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// The last entry whose key starts with `prefix`.
    fn last(&self, prefix: &[u8]) -> Result<Option<Entry>, StoreError>;
}

/// The journal over some backing.
pub(super) struct Journal<B> {
    backing: B,
    batches: u64,
    /// Newest event number of the runs written to since the start.
    newest: HashMap<RunId, u64>,
}

impl<B: Backing> Journal<B> {
    pub(super) fn new(backing: B) -> Result<Self, StoreError> {
        let key = Key::Batches.encode();
        let batches = backing.get(&key)?.map(|value| decode(&key, &value)).transpose()?.unwrap_or(0);
        let mut journal = Self { backing, batches, newest: HashMap::new() };
        if journal.batches == 0 {
            // From now on a journal without its counter is a journal that lost something.
            journal.write(Vec::new())?;
        }
        Ok(journal)
    }

    fn write(&mut self, mut changes: Vec<Change>) -> Result<(), StoreError> {
        let batches = self.batches + 1;
        changes.push((Key::Batches.encode(), Some(encode(&batches)?)));
        self.backing.apply(changes, batches)?;
        self.batches = batches;
        Ok(())
    }

    fn newest(&mut self, run: &RunId) -> Result<u64, StoreError> {
        if let Some(newest) = self.newest.get(run) {
            return Ok(*newest);
        }
        let last = self.backing.last(&codec::events_of(run))?;
        Ok(match last.and_then(|(key, _)| Key::decode(&key)) {
            Some(Key::Event { seq, .. }) => seq,
            _ => 0,
        })
    }

    pub(super) fn append_all(
        &mut self,
        events: &[(RunId, Stamped)],
        extra: Vec<Put>,
    ) -> Result<Option<u64>, StoreError> {
        if events.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        let mut changes = Vec::with_capacity(events.len() + extra.len() + 2);
        let mut newest: HashMap<RunId, u64> = HashMap::new();
        let mut last = None;
        for (run, event) in events {
            let seq = match newest.get(run) {
                Some(seq) => *seq,
                None => self.newest(run)?,
            } + 1;
            newest.insert(run.clone(), seq);
            changes.push((Key::Event { run: run.clone(), seq }.encode(), Some(encode(event)?)));
            changes.push((Key::Unfinished(run.clone()).encode(), Some(encode(&())?)));
            changes.push((Key::Finished(run.clone()).encode(), None));
            last = Some(seq);
        }
        for (index, put) in extra.into_iter().enumerate() {
            self.change(put, index as u64, &mut changes)?;
        }
        self.write(changes)?;
        self.newest.extend(newest);
        Ok(last)
    }

    fn change(&self, put: Put, index: u64, changes: &mut Vec<Change>) -> Result<(), StoreError> {
        let mut set = |key: Key, value: Option<Vec<u8>>| changes.push((key.encode(), value));
        match put {
            Put::Finished(run) => {
                set(Key::Finished(run.id.clone()), Some(encode(&run)?));
                set(Key::Unfinished(run.id.clone()), None);
            }
            Put::Alerts(states) => set(Key::Alerts, Some(encode(&states)?)),
            Put::Mail(mail) => {
                let value = encode(&mail)?;
                set(Key::Mail { created_at: mail.created_at, key: mail.key }, Some(value));
            }
            Put::MailDone { key, created_at } => set(Key::Mail { created_at, key }, None),
            Put::Pause(dag, paused) => set(Key::Pause(dag), Some(encode(&paused)?)),
            Put::Unpause(dag) => set(Key::Pause(dag), None),
            Put::HighWater(dag, at) => set(Key::HighWater(dag), Some(encode(&at)?)),
            // The batch number and the place in the batch make entries of the same instant distinct.
            Put::Audit(audit) => {
                let value = encode(&audit)?;
                set(Key::Audit { at: audit.at, number: (self.batches << 16) + index }, Some(value));
            }
            Put::Answered(answered) => {
                let value = encode(&answered)?;
                set(Key::Answer(answered.key), Some(value));
            }
            Put::AnswerGone(key) => set(Key::Answer(key), None),
        }
        Ok(())
    }

    pub(super) fn events(&self, run: &RunId) -> Result<Journaled, StoreError> {
        let mut events = Vec::new();
        for (position, (key, value)) in self.backing.scan(&codec::events_of(run))?.into_iter().enumerate() {
            // What follows a gap cannot be folded; opening the store has already told people about it.
            if Key::decode(&key) != Some(Key::Event { run: run.clone(), seq: position as u64 + 1 }) {
                tracing::error!(%run, after_event = position, "the journal of this run has a gap; it is read up to there");
                break;
            }
            events.push(decode(&key, &value)?);
        }
        Ok(Journaled { run: run.clone(), events })
    }

    pub(super) fn unfinished(&self) -> Result<Vec<Journaled>, StoreError> {
        let marks = self.backing.scan(&[codec::UNFINISHED])?;
        let runs = marks.iter().filter_map(|(key, _)| match Key::decode(key) {
            Some(Key::Unfinished(run)) => Some(run),
            _ => None,
        });
        runs.map(|run| self.events(&run)).collect()
    }

    pub(super) fn finished(&self, dag: Option<&DagName>, limit: usize) -> Result<Vec<Run>, StoreError> {
        let prefix = match dag {
            Some(dag) => [&[codec::FINISHED], dag.as_str().as_bytes(), b"@"].concat(),
            None => vec![codec::FINISHED],
        };
        let mut runs: Vec<Run> = self.all(&prefix)?;
        runs.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        runs.truncate(limit);
        Ok(runs)
    }

    fn all<T: serde::de::DeserializeOwned>(&self, prefix: &[u8]) -> Result<Vec<T>, StoreError> {
        self.backing.scan(prefix)?.iter().map(|(key, value)| decode(key, value)).collect()
    }

    fn one<T: serde::de::DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, StoreError> {
        let key = key.encode();
        self.backing.get(&key)?.map(|value| decode(&key, &value)).transpose()
    }

    pub(super) fn finished_run(&self, run: &RunId) -> Result<Option<Run>, StoreError> {
        self.one(&Key::Finished(run.clone()))
    }

    pub(super) fn alerts(&self) -> Result<AlertStates, StoreError> {
        Ok(self.one(&Key::Alerts)?.unwrap_or_default())
    }

    pub(super) fn outbox(&self) -> Result<Vec<OutboxMail>, StoreError> {
        self.all(&[codec::MAIL])
    }

    fn by_dag<T: serde::de::DeserializeOwned>(&self, kind: u8) -> Result<BTreeMap<DagName, T>, StoreError> {
        let mut found = BTreeMap::new();
        for (key, value) in self.backing.scan(&[kind])? {
            if let Some(Key::Pause(dag) | Key::HighWater(dag)) = Key::decode(&key) {
                found.insert(dag, decode(&key, &value)?);
            }
        }
        Ok(found)
    }

    pub(super) fn pauses(&self) -> Result<BTreeMap<DagName, Paused>, StoreError> {
        self.by_dag(codec::PAUSE)
    }

    pub(super) fn high_water(&self) -> Result<BTreeMap<DagName, Timestamp>, StoreError> {
        self.by_dag(codec::HIGH_WATER)
    }

    pub(super) fn audit(&self, limit: usize) -> Result<Vec<Audit>, StoreError> {
        let mut entries: Vec<Audit> = self.all(&[codec::AUDIT])?;
        entries.reverse();
        entries.truncate(limit);
        Ok(entries)
    }

    pub(super) fn answers(&self) -> Result<Vec<Answered>, StoreError> {
        self.all(&[codec::ANSWER])
    }

    pub(super) fn answer(&self, key: &str) -> Result<Option<Answered>, StoreError> {
        self.one(&Key::Answer(key.to_owned()))
    }

    pub(super) fn prune(&mut self, before: Timestamp) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        let mut changes: Vec<Change> = Vec::new();
        for run in self.all::<Run>(&[codec::FINISHED])? {
            if run.finished_at.is_none_or(|at| at >= before) {
                continue;
            }
            changes.push((Key::Finished(run.id.clone()).encode(), None));
            changes.extend(
                self.backing.scan(&codec::events_of(&run.id))?.into_iter().map(|(key, _)| (key, None)),
            );
            self.newest.remove(&run.id);
            pruned.runs.push(run.id);
        }
        for (key, _) in self.backing.scan(&[codec::AUDIT])? {
            if matches!(Key::decode(&key), Some(Key::Audit { at, .. }) if at < before) {
                changes.push((key, None));
                pruned.audit_entries += 1;
            }
        }
        let mut alerts = self.alerts()?;
        let known = alerts.all().count();
        alerts.prune(before);
        if alerts.all().count() != known {
            changes.push((Key::Alerts.encode(), Some(encode(&alerts)?)));
        }
        if !changes.is_empty() {
            self.write(changes)?;
        }
        Ok(pruned)
    }

    /// All that is in it, for an export.
    pub(super) fn everything(&self) -> Result<Vec<Entry>, StoreError> {
        self.backing.scan(&[])
    }

    #[cfg(test)]
    pub(super) fn backing_mut(&mut self) -> &mut B {
        &mut self.backing
    }
}
