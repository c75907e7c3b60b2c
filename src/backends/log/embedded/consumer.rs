//! A member of a consumer group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::group::{Group, MemberId, Turn};
use super::partition::PartitionStore;
use super::{BATCH_BYTES, Inner};
use crate::log::{Committed, Consumer, Partition, Polled, Record, Stored};
use crate::{BackendError, ErrorKind, Result, blocking};

/// Most records of one poll.
const BATCH_RECORDS: usize = 1000;

/// What a fetch wants of a partition, and what it got.
type Wanted = (Partition, Arc<PartitionStore>, u64);
type Got = (Partition, Result<Vec<(u64, Record)>>);

/// See the module. Dropping an unfinished poll loses nothing: positions move only when a poll returns.
pub(super) struct EmbeddedConsumer {
    log: Arc<Inner>,
    group: String,
    topics: Vec<String>,
    name: Option<String>,
    id: MemberId,
    positions: BTreeMap<Partition, Position>,
    /// Told as revoked; given up by the next poll.
    going: Vec<Partition>,
    /// Where the last fetch began, so that no partition starves another.
    last_first: Option<Partition>,
}

struct Position {
    store: Arc<PartitionStore>,
    next: u64,
    paused: bool,
}

/// Keeps a member from being put out while one of its calls runs, also when the call is dropped.
struct Call<'a> {
    log: &'a Inner,
    group: &'a str,
    id: MemberId,
}

impl<'a> Call<'a> {
    fn begin(log: &'a Inner, group: &'a str, id: MemberId) -> Self {
        if let Some(group) = log.groups().get_mut(group) {
            group.begin(id);
        }
        Self { log, group, id }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.log.groups().get_mut(self.group) {
            group.end(self.id, Instant::now());
        }
    }
}

impl EmbeddedConsumer {
    pub(super) fn join(log: Arc<Inner>, group: &str, topics: &[String], name: Option<&str>) -> Self {
        let id = log.member_id();
        let joined = Self {
            log,
            group: group.to_owned(),
            topics: topics.to_vec(),
            name: name.map(str::to_owned),
            id,
            positions: BTreeMap::new(),
            going: Vec::new(),
            last_first: None,
        };
        joined.enter();
        joined
    }

    fn enter(&self) {
        let mut groups = self.log.groups();
        let group = groups.entry(self.group.clone()).or_insert_with(|| Group::new(BTreeMap::new()));
        group.join(self.id, &self.topics, self.name.as_deref(), Instant::now());
        drop(groups);
        self.log.wake();
    }

    fn exit(&self) {
        if let Some(group) = self.log.groups().get_mut(&self.group) {
            group.leave(self.id);
        }
        self.log.wake();
    }

    /// Takes this member's turn; what it brings is entered in the positions at once.
    fn turn(&mut self) -> Result<(Option<Polled>, Option<Instant>)> {
        for partition in self.going.drain(..) {
            self.positions.remove(&partition);
        }
        let counts = self.log.partition_counts();
        let mut groups = self.log.groups();
        let Some(group) = groups.get_mut(&self.group) else { return Ok((None, None)) };
        let (turn, changed) = group.turn(self.id, &counts, Instant::now(), self.log.session_timeout);
        let committed = match &turn {
            Turn::Assigned(partitions) => {
                partitions.iter().map(|p| group.committed.get(p).cloned()).collect()
            }
            _ => Vec::new(),
        };
        if turn == Turn::PutOut {
            // In one go: whoever takes the name from now on replaces the new member.
            group.leave(self.id);
            self.id = self.log.member_id();
            group.join(self.id, &self.topics, self.name.as_deref(), Instant::now());
        }
        drop(groups);
        if changed || turn == Turn::PutOut {
            self.log.wake();
        }
        Ok(match turn {
            Turn::Replaced => {
                self.positions.clear();
                return Err(replaced(&self.place()));
            }
            Turn::PutOut => {
                let lost: Vec<_> = std::mem::take(&mut self.positions).into_keys().collect();
                // With nothing to tell, the new member's first turn comes at once: joining woke this poll
                // too.
                ((!lost.is_empty()).then_some(Polled::Revoked(lost)), Some(Instant::now()))
            }
            Turn::Revoked(partitions) => {
                self.going = partitions.clone();
                (Some(Polled::Revoked(partitions)), None)
            }
            Turn::Assigned(partitions) => {
                let starts = self.assigned(partitions, committed);
                ((!starts.is_empty()).then_some(Polled::Assigned(starts)), Some(Instant::now()))
            }
            Turn::Read { look_again } => (None, look_again),
        })
    }

    fn assigned(
        &mut self,
        partitions: Vec<Partition>,
        committed: Vec<Option<(String, u64)>>,
    ) -> Vec<Committed> {
        let mut starts = Vec::new();
        for (partition, committed) in partitions.into_iter().zip(committed) {
            let topic = self.log.topic(&partition.topic);
            let found = topic
                .and_then(|topic| Some((topic.partitions.get(partition.number as usize)?.clone(), topic)));
            let Some((store, topic)) = found else {
                // Deleted in this moment.
                if let Some(group) = self.log.groups().get_mut(&self.group) {
                    group.release(self.id, &partition);
                }
                continue;
            };
            let range = store.range();
            let next = committed
                .filter(|(incarnation, _)| *incarnation == topic.incarnation)
                .map_or(range.start, |(_, next)| next);
            let next = next.clamp(range.start, range.end);
            self.positions.insert(partition.clone(), Position { store, next, paused: false });
            starts.push(Committed { partition, next });
        }
        starts
    }

    /// Reads what there is, from several partitions, beginning with another one each time.
    async fn fetch(&mut self) -> Result<Vec<Stored>> {
        let ready = |p: &Position| !p.paused && p.next < p.store.range().end;
        let mut wanted: Vec<Wanted> = self
            .positions
            .iter()
            .filter(|(_, p)| ready(p))
            .map(|(k, p)| (k.clone(), Arc::clone(&p.store), p.next))
            .collect();
        let Some(last) = wanted.len().checked_sub(1) else { return Ok(Vec::new()) };
        let first = wanted
            .iter()
            .position(|(p, _, _)| self.last_first.as_ref().is_some_and(|l| p > l))
            .unwrap_or(0)
            .min(last);
        wanted.rotate_left(first);
        self.last_first = Some(wanted[0].0.clone());
        let got = blocking::run(&self.log.place, move || Ok(read(wanted))).await?;
        let mut records = Vec::new();
        let mut failed = None;
        for (partition, outcome) in got {
            match outcome {
                Ok(some) => {
                    if let (Some(position), Some((last, _))) =
                        (self.positions.get_mut(&partition), some.last())
                    {
                        position.next = last + 1;
                    }
                    records.extend(some.into_iter().map(|(offset, record)| Stored {
                        partition: partition.clone(),
                        offset,
                        record,
                    }));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        // A damaged partition must not keep the others from being read.
        match failed {
            Some(error) if records.is_empty() => Err(error),
            _ => Ok(records),
        }
    }

    fn place(&self) -> String {
        format!("{} group {}", self.log.place, self.group)
    }

    fn owned(&mut self, partition: &Partition) -> Result<&mut Position> {
        let place = self.place();
        self.positions.get_mut(partition).ok_or_else(|| fenced(&place, partition))
    }
}

/// Reads partition after partition until there is enough.
fn read(wanted: Vec<Wanted>) -> Vec<Got> {
    let (mut records, mut bytes) = (0, 0);
    let mut got = Vec::new();
    for (partition, store, next) in wanted {
        if records >= BATCH_RECORDS || bytes >= BATCH_BYTES {
            break;
        }
        let some = store.read(next, BATCH_RECORDS - records, BATCH_BYTES - bytes);
        if let Ok(some) = &some {
            records += some.len();
            bytes += some.iter().map(|(_, r)| r.value.len()).sum::<usize>();
        }
        got.push((partition, some));
    }
    got
}

fn fenced(place: &str, partition: &Partition) -> BackendError {
    BackendError::new(
        ErrorKind::Fenced,
        place,
        format!("partition {partition} is not this member's any more"),
    )
    .remedy("what was read of it is read again by its new owner")
}

fn replaced(place: &str) -> BackendError {
    BackendError::new(
        ErrorKind::Replaced,
        place,
        "another member joined under this one's name and has its place",
    )
    .remedy("end this one; the other goes on from the last commit")
}

impl Inner {
    /// Blocking: checks and writes a commit as one.
    fn commit(&self, group: &str, id: MemberId, offsets: &[Committed]) -> Result<()> {
        let place = format!("{} group {group}", self.place);
        let _call = Call::begin(self, group, id);
        let writing = self.offsets.lock();
        let mut fresh = BTreeMap::new();
        for Committed { partition, next } in offsets {
            let Some(topic) = self.topic(&partition.topic) else { return Err(fenced(&place, partition)) };
            topic.partition(&self.place, partition)?.check(*next)?;
            fresh.insert(partition.clone(), (topic.incarnation.clone(), *next));
        }
        let mut committed = {
            let groups = self.groups();
            let Some(state) = groups.get(group) else { return Ok(()) };
            if state.is_replaced(id) {
                return Err(replaced(&place));
            }
            if let Some(partition) = fresh.keys().find(|p| !state.owns(id, p)) {
                return Err(fenced(&place, partition));
            }
            state.committed.clone()
        };
        committed.extend(fresh.iter().map(|(p, c)| (p.clone(), c.clone())));
        self.offsets.store(&writing, group, &committed)?;
        if let Some(state) = self.groups().get_mut(group) {
            state.committed.extend(fresh);
        }
        Ok(())
    }
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn poll(&mut self, wait: Duration) -> Result<Polled> {
        let deadline = Instant::now() + wait;
        let mut changes = self.log.changed.subscribe();
        loop {
            // Marked as seen before looking, so that what comes while looking wakes the wait.
            changes.borrow_and_update();
            let (told, look_again) = self.turn()?;
            if let Some(told) = told {
                return Ok(told);
            }
            let log = Arc::clone(&self.log);
            let group = self.group.clone();
            let _call = Call::begin(&log, &group, self.id);
            let records = self.fetch().await?;
            if !records.is_empty() {
                return Ok(Polled::Records(records));
            }
            let until = look_again.map_or(deadline, |again| again.min(deadline));
            tokio::select! {
                // The sender lives in the log, which this consumer holds, so this cannot fail.
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(until) => if until >= deadline {
                    return Ok(Polled::Nothing);
                }
            }
        }
    }

    async fn commit(&mut self, offsets: &[Committed]) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let (log, group, id, offsets) =
            (Arc::clone(&self.log), self.group.clone(), self.id, offsets.to_vec());
        blocking::run(&self.log.place, move || log.commit(&group, id, &offsets)).await
    }

    async fn seek(&mut self, partition: &Partition, offset: u64) -> Result<()> {
        let position = self.owned(partition)?;
        position.store.check(offset)?;
        position.next = offset;
        Ok(())
    }

    async fn pause(&mut self, partition: &Partition, paused: bool) -> Result<()> {
        self.owned(partition)?.paused = paused;
        Ok(())
    }

    async fn leave(self: Box<Self>) -> Result<()> {
        // Dropping leaves.
        Ok(())
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        self.exit();
    }
}
