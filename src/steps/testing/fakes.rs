//! Stores in memory that fail on demand, for the tests of the steps: an error before a call, or a call that
//! happened and whose reply was lost.

#![expect(missing_docs, reason = "doubles whose names say what they do")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use backends::index::{Index, Item, ItemResult, Op, Template};
use backends::log::{
    Committed, Consumer, Log, Partition, Polled, Range, Record, Stored, Topic, partition_for,
};
use backends::objects::{Metadata, Objects, Put};
use backends::raw::{Document, Inserted, Raw};
use backends::{BackendError, Backends, ErrorKind, Result};

/// A fault of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The call does not happen.
    Before(ErrorKind),
    /// The call happens, its reply is lost.
    LostReply,
}

/// Faults to come, per operation (`bulk`, `put`, `insert`, `append`, `commit`, `poll`), used up in order.
#[derive(Default)]
struct Faults(Mutex<BTreeMap<&'static str, VecDeque<Fault>>>);

impl Faults {
    fn take(&self, operation: &'static str) -> Option<Fault> {
        self.0.lock().get_mut(operation).and_then(VecDeque::pop_front)
    }
    fn before(&self, operation: &'static str) -> Result<Option<Fault>> {
        match self.take(operation) {
            Some(Fault::Before(kind)) => Err(BackendError::new(kind, operation, "a fault of the test")),
            other => Ok(other),
        }
    }
    fn after<T>(fault: Option<Fault>, value: T) -> Result<T> {
        match fault {
            Some(Fault::LostReply) => {
                Err(BackendError::new(ErrorKind::Unavailable, "fake", "the reply was lost"))
            }
            _ => Ok(value),
        }
    }
}

/// Stores with nothing in them.
pub fn empty() -> Backends {
    Arc::new(Stores::default()).backends()
}

/// Everything in memory.
#[derive(Default)]
pub struct Stores {
    faults: Faults,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    topics: BTreeMap<String, Vec<Vec<Stored>>>,
    /// How often a topic was made.
    made: BTreeMap<String, u32>,
    committed: BTreeMap<(String, Partition), u64>,
    members: BTreeMap<String, Vec<u64>>,
    /// Who joined a group last under a name.
    names: BTreeMap<(String, String), u64>,
    generation: u64,
    /// Who reads a partition of a group; it moves only once its holder has given it up.
    holders: BTreeMap<(String, u32), u64>,
    index: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    verdicts: BTreeMap<String, VecDeque<ItemResult>>,
    raw: BTreeMap<String, BTreeMap<String, Document>>,
    objects: BTreeMap<String, (Vec<u8>, Metadata)>,
}

impl Stores {
    pub fn backends(self: &Arc<Self>) -> Backends {
        Backends {
            log: Arc::new(Fake(Arc::clone(self))),
            raw: Arc::new(Fake(Arc::clone(self))),
            index: Arc::new(Fake(Arc::clone(self))),
            objects: Arc::new(Fake(Arc::clone(self))),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// The next call of an operation has this fault.
    pub fn fail(&self, operation: &'static str, fault: Fault) {
        self.faults.0.lock().entry(operation).or_default().push_back(fault);
    }

    /// Nothing is left of the faults to come.
    pub fn mend(&self, operation: &'static str) {
        self.faults.0.lock().remove(operation);
    }

    /// The next time this document is written, the index answers so instead of storing it.
    pub fn answer(&self, id: &str, verdict: ItemResult) {
        self.inner().verdicts.entry(id.to_owned()).or_default().push_back(verdict);
    }

    pub fn committed(&self, group: &str) -> BTreeMap<u32, u64> {
        self.inner()
            .committed
            .iter()
            .filter(|((g, _), _)| g == group)
            .map(|((_, p), next)| (p.number, *next))
            .collect()
    }

    pub fn records(&self, topic: &str) -> Vec<Stored> {
        self.inner().topics.get(topic).map(|ps| ps.concat()).unwrap_or_default()
    }

    pub fn documents(&self, index: &str) -> BTreeMap<String, Vec<u8>> {
        self.inner().index.get(index).cloned().unwrap_or_default()
    }

    pub fn raw_ids(&self, collection: &str) -> Vec<String> {
        self.inner().raw.get(collection).map(|c| c.keys().cloned().collect()).unwrap_or_default()
    }

    pub fn forget_raw(&self, collection: &str, id: &str) {
        self.inner().raw.get_mut(collection).expect("a collection").remove(id);
    }

    pub fn objects(&self) -> BTreeMap<String, (Vec<u8>, Metadata)> {
        self.inner().objects.clone()
    }

    pub fn put_object(&self, key: &str, body: Vec<u8>, metadata: Metadata) {
        self.inner().objects.insert(key.to_owned(), (body, metadata));
    }

    /// Waits until `done` holds; two minutes are only how long a failure takes.
    pub async fn wait_until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(120), async {
            while !done(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what} did not happen");
    }
}

struct Fake(Arc<Stores>);

#[async_trait]
impl Log for Fake {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<bool> {
        let mut inner = self.0.inner();
        if let Some(known) = inner.topics.get(topic) {
            if known.len() == partitions as usize {
                return Ok(false);
            }
            return Err(BackendError::new(ErrorKind::Rejected, topic, "another partition count"));
        }
        inner.topics.insert(topic.to_owned(), vec![Vec::new(); partitions as usize]);
        *inner.made.entry(topic.to_owned()).or_default() += 1;
        Ok(true)
    }
    async fn delete_topic(&self, topic: &str) -> Result<()> {
        let mut inner = self.0.inner();
        inner.topics.remove(topic);
        inner.committed.retain(|(_, partition), _| partition.topic != topic);
        Ok(())
    }
    async fn topic(&self, topic: &str) -> Result<Option<Topic>> {
        Ok(self.topics().await?.into_iter().find(|t| t.name == topic))
    }
    async fn topics(&self) -> Result<Vec<Topic>> {
        let range = |p: &Vec<Stored>| Range { start: 0, end: p.len() as u64 };
        let inner = self.0.inner();
        let topic = |(name, ps): (&String, &Vec<Vec<Stored>>)| Topic {
            name: name.clone(),
            incarnation: format!("i{}", inner.made.get(name).copied().unwrap_or_default()),
            partitions: ps.iter().map(range).collect(),
        };
        Ok(inner.topics.iter().map(topic).collect())
    }
    async fn append(&self, topic: &str, records: Vec<Record>) -> Result<Vec<(u32, u64)>> {
        let fault = self.0.faults.before("append")?;
        let placed = {
            let mut inner = self.0.inner();
            let partitions = inner
                .topics
                .get_mut(topic)
                .ok_or_else(|| BackendError::new(ErrorKind::NotFound, topic, "no such topic"))?;
            let mut placed = Vec::new();
            for record in records {
                let number = partition_for(record.key.as_deref(), partitions.len() as u32);
                let offset = partitions[number as usize].len() as u64;
                partitions[number as usize].push(Stored {
                    partition: Partition { topic: topic.to_owned(), number },
                    offset,
                    record,
                });
                placed.push((number, offset));
            }
            placed
        };
        self.0.changed.notify_waiters();
        Faults::after(fault, placed)
    }
    async fn read(&self, partition: &Partition, offset: u64, max: usize) -> Result<Vec<Stored>> {
        let inner = self.0.inner();
        let records =
            inner.topics.get(&partition.topic).and_then(|t| t.get(partition.number as usize)).ok_or_else(
                || BackendError::new(ErrorKind::NotFound, partition.to_string(), "no such partition"),
            )?;
        Ok(records.iter().skip(offset as usize).take(max).cloned().collect())
    }
    async fn join(&self, group: &str, topics: &[String], name: Option<&str>) -> Result<Box<dyn Consumer>> {
        let fault = self.0.faults.before("join")?;
        let mut inner = self.0.inner();
        inner.generation += 1;
        let id = inner.generation;
        let name = name.map(|name| (group.to_owned(), name.to_owned()));
        if let Some(before) = name.clone().and_then(|name| inner.names.insert(name, id)) {
            inner.remove(group, before);
        }
        inner.members.entry(group.to_owned()).or_default().push(id);
        drop(inner);
        self.0.changed.notify_waiters();
        let member = Member {
            stores: Arc::clone(&self.0),
            group: group.to_owned(),
            topic: topics[0].clone(),
            name,
            id,
            owned: BTreeMap::new(),
            paused: Vec::new(),
            revoking: Vec::new(),
        };
        Faults::after(fault, Box::new(member) as Box<dyn Consumer>)
    }
    async fn groups(&self) -> Result<Vec<(String, Vec<Committed>)>> {
        let mut groups: BTreeMap<String, Vec<Committed>> = BTreeMap::new();
        for ((group, partition), next) in &self.0.inner().committed {
            groups
                .entry(group.clone())
                .or_default()
                .push(Committed { partition: partition.clone(), next: *next });
        }
        Ok(groups.into_iter().collect())
    }
}

/// A member; partition `n` belongs to member `n mod members`, once nobody else holds it any more.
struct Member {
    stores: Arc<Stores>,
    group: String,
    topic: String,
    name: Option<(String, String)>,
    id: u64,
    owned: BTreeMap<u32, u64>,
    paused: Vec<u32>,
    revoking: Vec<u32>,
}

impl Inner {
    fn remove(&mut self, group: &str, id: u64) {
        if let Some(members) = self.members.get_mut(group) {
            members.retain(|m| *m != id);
        }
        self.holders.retain(|_, holder| *holder != id);
    }
}

impl Member {
    /// Another one has joined under this one's name.
    fn replaced(&self) -> Result<()> {
        let inner = self.stores.inner();
        match &self.name {
            Some(name) if inner.names.get(name) != Some(&self.id) => Err(BackendError::new(
                ErrorKind::Replaced,
                &self.group,
                "another member has this one's place",
            )),
            _ => Ok(()),
        }
    }

    fn wanted(&self) -> Vec<u32> {
        let inner = self.stores.inner();
        let members = inner.members.get(&self.group).cloned().unwrap_or_default();
        let Some(mine) = members.iter().position(|m| *m == self.id) else { return Vec::new() };
        let partitions = inner.topics.get(&self.topic).map_or(0, Vec::len);
        (0..partitions as u32).filter(|n| *n as usize % members.len() == mine).collect()
    }

    fn partition(&self, number: u32) -> Partition {
        Partition { topic: self.topic.clone(), number }
    }

    fn look(&mut self) -> Option<Polled> {
        for number in std::mem::take(&mut self.revoking) {
            self.owned.remove(&number);
            self.stores.inner().holders.remove(&(self.group.clone(), number));
        }
        let wanted = self.wanted();
        let lost: Vec<u32> = self.owned.keys().filter(|n| !wanted.contains(n)).copied().collect();
        if !lost.is_empty() {
            self.revoking.clone_from(&lost);
            return Some(Polled::Revoked(lost.into_iter().map(|n| self.partition(n)).collect()));
        }
        let free = |n: &u32| {
            let mut inner = self.stores.inner();
            let holder = *inner.holders.entry((self.group.clone(), *n)).or_insert(self.id);
            holder == self.id && !self.owned.contains_key(n)
        };
        let new: Vec<u32> = wanted.into_iter().filter(free).collect();
        if !new.is_empty() {
            let committed = self.stores.committed(&self.group);
            let mut assigned = Vec::new();
            for number in new {
                let next = committed.get(&number).copied().unwrap_or(0);
                self.owned.insert(number, next);
                assigned.push(Committed { partition: self.partition(number), next });
            }
            return Some(Polled::Assigned(assigned));
        }
        let mut records = Vec::new();
        let inner = self.stores.inner();
        for (number, next) in &mut self.owned {
            if !self.paused.contains(number) {
                let found =
                    inner.topics.get(&self.topic).and_then(|t| t.get(*number as usize)).into_iter().flatten();
                let batch: Vec<_> = found.skip(*next as usize).take(7).cloned().collect();
                *next += batch.len() as u64;
                records.extend(batch);
            }
        }
        (!records.is_empty()).then_some(Polled::Records(records))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stores.inner.lock().remove(&self.group, self.id);
    }
}

#[async_trait]
impl Consumer for Member {
    async fn poll(&mut self, wait: Duration) -> Result<Polled> {
        let fault = self.stores.faults.before("poll")?;
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            self.replaced()?;
            if let Some(polled) = self.look() {
                return Faults::after(fault, polled);
            }
            let stores = Arc::clone(&self.stores);
            if tokio::time::timeout_at(deadline, stores.changed.notified()).await.is_err() {
                return Ok(Polled::Nothing);
            }
        }
    }
    async fn commit(&mut self, offsets: &[Committed]) -> Result<()> {
        let fault = self.stores.faults.before("commit")?;
        self.replaced()?;
        if let Some(foreign) = offsets.iter().find(|o| !self.owned.contains_key(&o.partition.number)) {
            return Err(BackendError::new(
                ErrorKind::Fenced,
                foreign.partition.to_string(),
                "another member owns it",
            ));
        }
        for offset in offsets {
            let key = (self.group.clone(), offset.partition.clone());
            let before = self.stores.inner().committed.insert(key, offset.next);
            assert!(before.is_none_or(|b| b <= offset.next), "a commit went back: {before:?} {offset:?}");
        }
        Faults::after(fault, ())
    }
    async fn seek(&mut self, partition: &Partition, offset: u64) -> Result<()> {
        self.owned.insert(partition.number, offset);
        Ok(())
    }
    async fn pause(&mut self, partition: &Partition, paused: bool) -> Result<()> {
        self.paused.retain(|n| *n != partition.number);
        if paused {
            self.paused.push(partition.number);
        }
        Ok(())
    }
    async fn leave(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Index for Fake {
    async fn put_template(&self, _template: &Template) -> Result<()> {
        let fault = self.0.faults.before("template")?;
        Faults::after(fault, ())
    }
    async fn bulk(&self, items: Vec<Item>) -> Result<Vec<ItemResult>> {
        tokio::task::yield_now().await;
        let fault = self.0.faults.before("bulk")?;
        let mut inner = self.0.inner();
        let mut results = Vec::new();
        for item in items {
            if let Some(verdict) = inner.verdicts.get_mut(&item.id).and_then(VecDeque::pop_front) {
                results.push(verdict);
                continue;
            }
            let index = inner.index.entry(item.index).or_default();
            if item.op == Op::Create && index.contains_key(&item.id) {
                results.push(ItemResult::Exists);
            } else {
                index.insert(item.id, item.source);
                results.push(ItemResult::Stored);
            }
        }
        Faults::after(fault, results)
    }
    async fn indices(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.0.inner().index.keys().filter(|n| n.starts_with(prefix)).cloned().collect())
    }
    async fn ids(&self, index: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let documents = self.0.documents(index);
        Ok(page(documents.keys(), prefix, after, limit))
    }
    async fn get(&self, index: &str, id: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.documents(index).get(id).cloned())
    }
    async fn latest(&self, prefix: &str, field: &str) -> Result<Option<String>> {
        let fault = self.0.faults.before("latest")?;
        let inner = self.0.inner();
        let documents =
            inner.index.iter().filter(|(n, _)| n.starts_with(prefix)).flat_map(|(_, d)| d.values());
        let value = |d: &Vec<u8>| {
            serde_json::from_slice::<serde_json::Value>(d).ok()?.get(field)?.as_str().map(str::to_owned)
        };
        Faults::after(fault, documents.filter_map(value).max())
    }
}

fn page<'a>(
    keys: impl Iterator<Item = &'a String>,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Vec<String> {
    keys.filter(|k| k.starts_with(prefix) && after.is_none_or(|a| k.as_str() > a))
        .take(limit)
        .cloned()
        .collect()
}

#[async_trait]
impl Raw for Fake {
    async fn insert(&self, collection: &str, documents: Vec<Document>) -> Result<Inserted> {
        tokio::task::yield_now().await;
        let fault = self.0.faults.before("insert")?;
        let mut inner = self.0.inner();
        let stored = inner.raw.entry(collection.to_owned()).or_default();
        let mut inserted = Inserted::default();
        for document in documents {
            if stored.contains_key(&document.id) {
                inserted.existing += 1;
            } else {
                inserted.new += 1;
                stored.insert(document.id.clone(), document);
            }
        }
        Faults::after(fault, inserted)
    }
    async fn ids(
        &self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        Ok(page(self.0.raw_ids(collection).iter(), prefix, after, limit))
    }
    async fn get(&self, collection: &str, id: &str) -> Result<Option<Document>> {
        Ok(self.0.inner().raw.get(collection).and_then(|c| c.get(id)).cloned())
    }
    async fn latest(&self, collection: &str) -> Result<Option<Timestamp>> {
        let fault = self.0.faults.before("latest document")?;
        Faults::after(
            fault,
            self.0.inner().raw.get(collection).and_then(|c| c.values().map(|d| d.received_at).max()),
        )
    }
}

#[async_trait]
impl Objects for Fake {
    async fn put_if_absent(&self, key: &str, body: Vec<u8>, metadata: &Metadata) -> Result<Put> {
        tokio::task::yield_now().await;
        let fault = self.0.faults.before("put")?;
        let mut inner = self.0.inner();
        let put = if inner.objects.contains_key(key) {
            Put::Exists
        } else {
            inner.objects.insert(key.to_owned(), (body, metadata.clone()));
            Put::Created
        };
        Faults::after(fault, put)
    }
    async fn head(&self, key: &str) -> Result<Option<Metadata>> {
        let fault = self.0.faults.before("head")?;
        Faults::after(fault, self.0.inner().objects.get(key).map(|(_, m)| m.clone()))
    }
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.inner().objects.get(key).map(|(b, _)| b.clone()))
    }
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let keys: Vec<String> = self.0.inner().objects.keys().cloned().collect();
        Ok(page(keys.iter(), prefix, after, limit))
    }
}
