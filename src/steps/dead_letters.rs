//! Dead letters: what could not be processed, kept with Kafka Connect's headers; made here, and read back:
//! followed as they come, described without their bytes, and grouped by cause.
//!
//! Key and value stay untouched. A dead letter may be written twice (the reply of the first append was lost);
//! readers fold by [`identity`].

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::log_search;
use backends::log::{Log, Partition, Record, Stored, Topic};
use backends::{BackendError, ErrorKind, Result};

/// Why a record cannot be processed, ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where it failed.
    pub stage: Stage,
    /// Short stable word for grouping (`undecodable`, `rejected`).
    pub cause: String,
    /// What is wrong, in words.
    pub message: String,
}

impl Refusal {
    /// Builds a refusal.
    pub fn new(stage: Stage, cause: impl Into<String>, message: impl Into<String>) -> Self {
        Self { stage, cause: cause.into(), message: message.into() }
    }
}

/// Where a record failed, in Kafka Connect's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its value could not be read.
    ValueConverter,
    /// The store refused it.
    TaskPut,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::ValueConverter => "VALUE_CONVERTER",
            Self::TaskPut => "TASK_PUT",
        }
    }
}

/// Prefix of Kafka Connect's error headers.
pub const PREFIX: &str = "__connect.errors.";

/// Header of a record that was replayed: the dead letter it came from, `{topic}/{partition}/{offset}`.
pub const REPLAY: &str = "openbell.replay";

/// The dead-letter topic of a topic.
pub fn topic_of(topic: &str) -> String {
    format!("{topic}.dlq")
}

/// Who refuses: `{dag}/{step}`, the program, and which of its parallel parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refuser {
    /// `{dag}/{step}`.
    pub connector: String,
    /// The step program (`sink/index`).
    pub program: String,
}

/// The dead letter of a record.
pub fn dead_letter(refuser: &Refuser, record: Stored, refusal: &Refusal, now: Timestamp) -> Record {
    let mut headers = record.record.headers;
    let mut add = |name: &str, value: String| headers.push((format!("{PREFIX}{name}"), value.into_bytes()));
    add("topic", record.partition.topic.clone());
    add("partition", record.partition.number.to_string());
    add("offset", record.offset.to_string());
    add("connector.name", refuser.connector.clone());
    add("task.id", record.partition.number.to_string());
    add("stage", refusal.stage.as_str().to_owned());
    add("class.name", refuser.program.clone());
    add("exception.class.name", refusal.cause.clone());
    add("exception.message", refusal.message.clone());
    Record { key: record.record.key, value: record.record.value, headers, timestamp: now }
}

/// The text of one of a dead letter's error headers (`exception.class.name`).
pub fn error_header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.header(&format!("{PREFIX}{name}")).and_then(|v| std::str::from_utf8(v).ok())
}

/// Cause of a dead letter; `unknown` when nobody said.
pub fn cause(record: &Record) -> &str {
    error_header(record, "exception.class.name").unwrap_or("unknown")
}

/// What makes two dead letters the same one: who refused, and the position of the record it refused.
pub fn identity(record: &Stored) -> String {
    let header = |name| error_header(&record.record, name).unwrap_or("");
    let position = match record.record.header("openbell.spool").map(String::from_utf8_lossy) {
        // A collector's dead letter has no position on the log; the spool sequence is its own.
        Some(spool) if header("topic").is_empty() || header("offset").is_empty() => spool.into_owned(),
        Some(spool) => format!("{}/{}/{}/{spool}", header("topic"), header("partition"), header("offset")),
        None => format!("{}/{}/{}", header("topic"), header("partition"), header("offset")),
    };
    if position == "//" {
        return format!("offset {}", record.offset);
    }
    format!("{} {position}", header("connector.name"))
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record on the dead-letter topic.
    pub record: Stored,
    /// It was sent again before.
    pub replayed: bool,
}

impl DeadLetter {
    /// Its position, as a replayed record says where it came from.
    pub(super) fn position(&self) -> String {
        position(&self.record)
    }

    /// It, without its bytes.
    pub fn summary(&self) -> Summary {
        Summary { replayed: self.replayed, ..Summary::of(&self.record) }
    }
}

/// Where a record is: `{topic}/{partition}/{offset}`.
pub(super) fn position(record: &Stored) -> String {
    format!("{}/{}", record.partition, record.offset)
}

/// A dead letter without its bytes, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
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

impl Summary {
    /// That of a record of a dead-letter topic.
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
pub struct CauseGroup {
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
pub fn by_cause<L: Borrow<Summary>>(summaries: impl IntoIterator<Item = L>) -> Vec<CauseGroup> {
    let mut groups: BTreeMap<(String, String, String), CauseGroup> = BTreeMap::new();
    for summary in summaries {
        let summary = summary.borrow();
        let key = (summary.cause.clone(), summary.connector.clone(), summary.stage.clone());
        let group = groups.entry(key).or_insert_with(|| CauseGroup {
            cause: summary.cause.clone(),
            connector: summary.connector.clone(),
            stage: summary.stage.clone(),
            count: 0,
            replayed: 0,
            first: summary.time,
            last: summary.time,
            message: String::new(),
        });
        group.count += 1;
        group.replayed += u64::from(summary.replayed);
        group.first = group.first.min(summary.time);
        if summary.time >= group.last {
            group.last = summary.time;
            group.message = summary.message.clone();
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
        .map(|(n, v)| {
            (n.strip_prefix(PREFIX).unwrap_or(n).to_owned(), String::from_utf8_lossy(v).into_owned())
        })
        .collect()
}

/// All dead letters of a topic, each once, in the order of their offsets.
///
/// # Errors
/// `NotFound` when the topic has no dead-letter topic, and what the log fails with.
pub async fn read_all(log: &dyn Log, topic: &str) -> Result<Vec<DeadLetter>> {
    let known = known(log, topic).await?;
    let mut follower = Follower::default();
    let mut letters = Vec::new();
    follower
        .letters(log, &known, u64::MAX, |record| letters.push(DeadLetter { record, replayed: false }))
        .await?;
    follower.replays(log, topic).await?;
    for letter in &mut letters {
        letter.replayed = follower.positions.contains(&letter.position());
    }
    Ok(letters)
}

/// The dead-letter topic of a topic.
async fn known(log: &dyn Log, topic: &str) -> Result<Topic> {
    let name = topic_of(topic);
    log.topic(&name).await?.ok_or_else(|| {
        BackendError::new(
            ErrorKind::NotFound,
            format!("log topic {name}"),
            "there is no such dead-letter topic",
        )
        .remedy(format!(
            "name the topic the records were on with --topic, for example --topic {}",
            super::default_topic()
        ))
    })
}

/// Reads letters, and the records they were sent again as, each once; a call that is cut off is taken up by
/// the next.
#[derive(Default)]
struct Follower {
    seen: BTreeSet<String>,
    /// Time of the oldest letter: no replay is older.
    first: Option<Timestamp>,
    /// Next offset to read, by partition of the dead-letter topic.
    next: BTreeMap<u32, u64>,
    /// Positions of letters that records on the topic say they came from.
    positions: BTreeSet<String>,
    /// Incarnation of the topic, and the next offset to read by partition.
    scanned: (String, BTreeMap<u32, u64>),
}

impl Follower {
    /// Hands each new letter to `visit`; of those that were there before the first call, the newest of each
    /// partition.
    async fn letters(
        &mut self,
        log: &dyn Log,
        known: &Topic,
        newest: u64,
        mut visit: impl FnMut(Stored) + Send,
    ) -> Result<()> {
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
            self.positions.clear();
        }
        for (number, range) in (0..).zip(&known.partitions) {
            let partition = Partition { topic: topic.to_owned(), number };
            let start = match self.scanned.1.get(&number) {
                Some(next) => (*next).max(range.start),
                None => {
                    // A replay comes after its letter; one millisecond earlier, so that records of the same
                    // moment are looked at.
                    let before = first.checked_sub(Duration::from_millis(1)).unwrap_or(first);
                    log_search::first_after(log, &partition, range.start..range.end, before).await?
                }
            };
            let Self { positions, scanned, .. } = self;
            scanned.1.insert(number, start);
            log_search::for_each(log, &partition, start..range.end, |record| {
                scanned.1.insert(number, record.offset + 1);
                if let Some(from) = record.record.header(REPLAY).and_then(|v| std::str::from_utf8(v).ok()) {
                    positions.insert(from.to_owned());
                }
            })
            .await?;
        }
        Ok(())
    }
}

/// The newest dead letters of a topic without their bytes, kept, so that a refresh reads only what is new.
pub struct DeadLetterList {
    topic: String,
    incarnation: String,
    follower: Follower,
    summaries: VecDeque<Summary>,
    older: u64,
}

impl DeadLetterList {
    /// Most letters told; a topic may hold more.
    pub const KEPT: usize = 20_000;

    /// An empty one, for the letters of `topic`.
    pub fn new(topic: impl Into<String>) -> Self {
        let (topic, summaries) = (topic.into(), VecDeque::new());
        Self { topic, incarnation: String::new(), follower: Follower::default(), summaries, older: 0 }
    }

    /// Reads what came since the last refresh. One that is cut off loses nothing.
    ///
    /// # Errors
    /// As [`read_all`].
    pub async fn refresh(&mut self, log: &dyn Log) -> Result<()> {
        let known = known(log, &self.topic).await?;
        if self.incarnation != known.incarnation || self.summaries.len() > 2 * Self::KEPT {
            let topic = std::mem::take(&mut self.topic);
            *self = Self { incarnation: known.incarnation.clone(), ..Self::new(topic) };
            let kept = Self::KEPT as u64;
            self.older =
                known.partitions.iter().map(|r| r.end.saturating_sub(kept).saturating_sub(r.start)).sum();
        }
        let Self { follower, summaries, .. } = self;
        follower
            .letters(log, &known, Self::KEPT as u64, |record| summaries.push_back(Summary::of(&record)))
            .await?;
        self.follower.replays(log, &self.topic).await?;
        let name = &known.name;
        for letter in self.summaries.iter_mut().filter(|l| !l.replayed) {
            letter.replayed =
                self.follower.positions.contains(&format!("{name}/{}/{}", letter.partition, letter.offset));
        }
        Ok(())
    }

    /// What is known, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Summary> {
        self.summaries.iter().rev()
    }

    /// Letters on the topic that are too old to be told.
    pub fn older(&self) -> u64 {
        self.older
    }
}
