//! Dead letters, read back: followed as they come, described without their bytes, and grouped by cause.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::dead_letter::{PREFIX, REPLAY, cause, error_header, identity, topic_of};
use super::log_search;
use backends::log::{Log, Partition, Record, Stored, Topic};
use backends::{BackendError, ErrorKind, Result};

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The record on the dead-letter topic.
    pub record: Stored,
    /// It was sent again before.
    pub replayed: bool,
}

impl Letter {
    /// Where it is, as a replayed record says where it came from.
    pub(super) fn place(&self) -> String {
        place(&self.record)
    }

    /// The letter without its bytes.
    pub fn line(&self) -> Line {
        Line { replayed: self.replayed, ..Line::of(&self.record) }
    }
}

/// Where a record is: `{topic}/{partition}/{offset}`.
pub(super) fn place(record: &Stored) -> String {
    format!("{}/{}", record.partition, record.offset)
}

/// A dead letter without its bytes: a line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Partition of the dead-letter topic.
    pub partition: u32,
    /// Offset there.
    pub offset: u64,
    /// When it was refused.
    pub time: Timestamp,
    /// The stable word.
    pub cause: String,
    /// Who refused, `{dag}/{step}`.
    pub connector: String,
    /// Where it failed: `collect`, or a word of Kafka Connect's.
    pub stage: String,
    /// The words for people.
    pub message: String,
    /// Size of the original's value.
    pub size_bytes: usize,
    /// It was sent again.
    pub replayed: bool,
}

impl Line {
    /// The line of a record of a dead-letter topic.
    pub fn of(stored: &Stored) -> Self {
        let text = |name| error_header(&stored.record, name);
        Self {
            partition: stored.partition.number,
            offset: stored.offset,
            time: stored.record.timestamp,
            cause: cause(&stored.record).to_owned(),
            connector: text("connector.name").unwrap_or("unknown").to_owned(),
            stage: text("stage").unwrap_or("unknown").to_owned(),
            message: text("exception.message").unwrap_or("").to_owned(),
            size_bytes: stored.record.value.len(),
            replayed: false,
        }
    }
}

/// Dead letters of one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The stable word.
    pub cause: String,
    /// Who refused, `{dag}/{step}`.
    pub connector: String,
    /// Where they failed.
    pub stage: String,
    /// How many.
    pub count: u64,
    /// How many of them were sent again.
    pub replayed: u64,
    /// Time of the first.
    pub first: Timestamp,
    /// Time of the last.
    pub last: Timestamp,
    /// The newest one's message.
    pub message: String,
}

/// Groups dead letters by cause, refuser and stage, the largest group first.
pub fn groups<L: Borrow<Line>>(lines: impl IntoIterator<Item = L>) -> Vec<Group> {
    let mut groups: BTreeMap<(String, String, String), Group> = BTreeMap::new();
    for line in lines {
        let line = line.borrow();
        let key = (line.cause.clone(), line.connector.clone(), line.stage.clone());
        let group = groups.entry(key).or_insert_with(|| Group {
            cause: line.cause.clone(),
            connector: line.connector.clone(),
            stage: line.stage.clone(),
            count: 0,
            replayed: 0,
            first: line.time,
            last: line.time,
            message: String::new(),
        });
        group.count += 1;
        group.replayed += u64::from(line.replayed);
        group.first = group.first.min(line.time);
        if line.time >= group.last {
            group.last = line.time;
            group.message = line.message.clone();
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.cause.cmp(&b.cause)));
    groups
}

/// A letter's headers as text, in their order; error headers without their prefix.
pub fn headers(record: &Record) -> Vec<(String, String)> {
    record
        .headers
        .iter()
        .map(|(n, v)| (n.strip_prefix(PREFIX).unwrap_or(n).to_owned(), String::from_utf8_lossy(v).into_owned()))
        .collect()
}

/// All dead letters of a topic, each once, in the order of their offsets.
///
/// # Errors
/// `NotFound` when the topic has no dead-letter topic, and what the log fails with.
pub async fn letters(log: &dyn Log, topic: &str) -> Result<Vec<Letter>> {
    let known = known(log, topic).await?;
    let mut follower = Follower::default();
    let mut letters = Vec::new();
    follower.letters(log, &known, u64::MAX, |record| letters.push(Letter { record, replayed: false })).await?;
    follower.replays(log, topic).await?;
    for letter in &mut letters {
        letter.replayed = follower.places.contains(&letter.place());
    }
    Ok(letters)
}

/// The dead-letter topic of a topic.
async fn known(log: &dyn Log, topic: &str) -> Result<Topic> {
    let name = topic_of(topic);
    log.topic(&name).await?.ok_or_else(|| {
        BackendError::new(ErrorKind::NotFound, format!("log topic {name}"), "there is no such dead-letter topic")
            .remedy(format!("name the topic the records were on with --topic, for example --topic {}", super::default_topic()))
    })
}

/// Reads letters, and the records they were sent again as, each once; a call that is cut off is taken up by the next.
#[derive(Default)]
struct Follower {
    seen: BTreeSet<String>,
    /// Time of the oldest letter: no replay is older.
    first: Option<Timestamp>,
    /// Next offset to read, by partition of the dead-letter topic.
    next: BTreeMap<u32, u64>,
    /// Places of letters that records on the topic say they came from.
    places: BTreeSet<String>,
    /// Incarnation of the topic, and the next offset to read by partition.
    scanned: (String, BTreeMap<u32, u64>),
}

impl Follower {
    /// Hands each new letter to `visit`; of those that were there before the first call, the newest of each partition.
    async fn letters(&mut self, log: &dyn Log, known: &Topic, newest: u64, mut visit: impl FnMut(Stored) + Send) -> Result<()> {
        for (number, range) in (0..).zip(&known.partitions) {
            let partition = Partition { topic: known.name.clone(), number };
            let oldest = range.start.max(range.end.saturating_sub(newest));
            let start = self.next.get(&number).copied().unwrap_or(oldest).max(range.start);
            let Self { seen, first, next, .. } = self;
            log_search::for_each(log, &partition, start..range.end, |record| {
                next.insert(number, record.offset + 1);
                if seen.insert(identity(&record)) {
                    let time = record.record.timestamp;
                    *first = Some(first.map_or(time, |f| f.min(time)));
                    visit(record);
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Looks on the topic for what was sent again.
    async fn replays(&mut self, log: &dyn Log, topic: &str) -> Result<()> {
        let (Some(first), Some(known)) = (self.first, log.topic(topic).await?) else { return Ok(()) };
        if self.scanned.0 != known.incarnation {
            self.scanned = (known.incarnation, BTreeMap::new());
            self.places.clear();
        }
        for (number, range) in (0..).zip(&known.partitions) {
            let partition = Partition { topic: topic.to_owned(), number };
            let start = match self.scanned.1.get(&number) {
                Some(next) => (*next).max(range.start),
                None => {
                    // A replay comes after its letter; one millisecond earlier, so that records of the same moment are looked at.
                    let before = first.checked_sub(Duration::from_millis(1)).unwrap_or(first);
                    log_search::first_after(log, &partition, range.start..range.end, before).await?
                }
            };
            let Self { places, scanned, .. } = self;
            scanned.1.insert(number, start);
            log_search::for_each(log, &partition, start..range.end, |record| {
                scanned.1.insert(number, record.offset + 1);
                if let Some(from) = record.record.header(REPLAY).and_then(|v| std::str::from_utf8(v).ok()) {
                    places.insert(from.to_owned());
                }
            })
            .await?;
        }
        Ok(())
    }
}

/// The newest dead letters of a topic without their bytes, kept between looks, so that a look reads only what is new.
pub struct Ledger {
    topic: String,
    incarnation: String,
    follower: Follower,
    lines: VecDeque<Line>,
    older: u64,
}

impl Ledger {
    /// Most letters told; a topic may hold more.
    pub const KEPT: usize = 20_000;

    /// An empty one, for the letters of `topic`.
    pub fn new(topic: impl Into<String>) -> Self {
        let (topic, lines) = (topic.into(), VecDeque::new());
        Self { topic, incarnation: String::new(), follower: Follower::default(), lines, older: 0 }
    }

    /// Reads what came since the last look. A look that is cut off loses nothing.
    ///
    /// # Errors
    /// As [`letters`].
    pub async fn look(&mut self, log: &dyn Log) -> Result<()> {
        let known = known(log, &self.topic).await?;
        if self.incarnation != known.incarnation || self.lines.len() > 2 * Self::KEPT {
            let topic = std::mem::take(&mut self.topic);
            *self = Self { incarnation: known.incarnation.clone(), ..Self::new(topic) };
            let kept = Self::KEPT as u64;
            self.older = known.partitions.iter().map(|r| r.end.saturating_sub(kept).saturating_sub(r.start)).sum();
        }
        let Self { follower, lines, .. } = self;
        follower.letters(log, &known, Self::KEPT as u64, |record| lines.push_back(Line::of(&record))).await?;
        self.follower.replays(log, &self.topic).await?;
        let name = &known.name;
        for line in self.lines.iter_mut().filter(|l| !l.replayed) {
            line.replayed = self.follower.places.contains(&format!("{name}/{}/{}", line.partition, line.offset));
        }
        Ok(())
    }

    /// What is known, newest first.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().rev()
    }

    /// Letters on the topic that are too old to be told.
    pub fn older(&self) -> u64 {
        self.older
    }
}
