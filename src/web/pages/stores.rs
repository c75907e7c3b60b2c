//! The stores, as the pages and the API read them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use tokio::sync::{Mutex as Turn, Semaphore};

use super::market::data::{Chart, Market, Quotes, Sources, Windows};
use super::topics::data as topics;
use super::topics::data::Topics;
use super::topics::records::{self, Look, Peek, Seen};
use crate::cache::{Kept, Reading, Trouble};
use backends::log::Partition;
use backends::{BackendError, Backends, ErrorKind, Result};
use daemon::Handle;
use daemon::handle::Note;
use daemon::idempotency::{Earlier, Idempotency};
use domain::message::Refused;
use domain::said;
use steps::dead_letters::{DeadLetterList, Summary, topic_of};
use steps::replay::{self, Replayed, Which};

/// Reads of a store that go on at a time.
const READS: usize = 4;
/// Things of one kind that are remembered between looks.
const REMEMBERED: usize = 16;
/// Most bytes of a dead letter that are shown as a dump.
const DUMP_BYTES: usize = 16 * 1024;
/// Most bytes of a dead letter that can be edited in a form.
pub const EDIT_BYTES: usize = 16 * 1024;
/// How long a replay is waited for, in real time; it goes on afterwards.
const REPLAY: Duration = Duration::from_secs(60);

/// Dead letters of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letters {
    /// Newest first.
    pub lines: Vec<Summary>,
    /// Older ones, which are not among them.
    pub older: u64,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterFacts {
    /// What is known without its bytes; whether it was sent again is not.
    pub line: Summary,
    /// The record.
    pub seen: Seen,
    /// Its bytes in hex.
    pub dump: String,
    /// More bytes than the dump has.
    pub dump_cut: bool,
    /// Its value as text to edit, with a mark for each byte that is none; `None` when it is too long.
    pub editable: Option<String>,
    /// The text to edit is not exactly the value.
    pub lossy: bool,
}

/// What came of a wish to send dead letters again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// They were sent.
    Now(Replayed),
    /// The same request came before: what was answered then, as JSON.
    Again(String),
    /// The request's key belongs to another one.
    KeyTaken,
}

/// Which dead letters, for the audit.
fn words(which: &Which) -> String {
    match which {
        Which::All => "all".to_owned(),
        Which::Cause(cause) => format!("cause {}", cause.chars().take(100).collect::<String>()),
        Which::One { partition, offset, edited: None } => format!("{partition}/{offset}"),
        Which::One { partition, offset, edited: Some(_) } => format!("{partition}/{offset}, edited"),
    }
}

/// What a replay did, for the audit.
fn told(done: &Replayed) -> String {
    let refused: u64 = done.refused.values().sum();
    let Replayed { letters, sent, records, before, .. } = done;
    format!("{letters} dead letters: {sent} sent again as {records} records, {before} sent before, {refused} not readable")
}

/// What several looks share, by what it is about.
struct Shared<K, T>(Mutex<BTreeMap<K, Arc<Turn<T>>>>);

impl<K: Ord + Clone, T> Shared<K, T> {
    fn of(&self, key: &K, new: impl FnOnce() -> T) -> Arc<Turn<T>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED && !all.contains_key(key) {
            all.clear();
        }
        Arc::clone(all.entry(key.clone()).or_insert_with(|| Arc::new(Turn::new(new()))))
    }
}

impl<K, T> Default for Shared<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

type Day = (Sources, Option<Date>);

/// See the module.
pub struct Stores {
    backends: Backends,
    handle: Handle,
    topics: Kept<(), Topics>,
    peeks: Kept<Look, Peek>,
    ledgers: Shared<String, DeadLetterList>,
    letters: Kept<String, Letters>,
    letter: Kept<(String, u32, u64), LetterFacts>,
    quotes: Shared<Day, Quotes>,
    market: Kept<Day, Market>,
    windows: Shared<(Sources, Date, String), Windows>,
    charts: Kept<(Sources, Date, String), Chart>,
    replaying: Arc<Turn<()>>,
}

impl Stores {
    /// Reads through `backends`, by the clock of the daemon behind `handle`.
    pub fn new(backends: Backends, handle: Handle) -> Self {
        let (log, index) = (Arc::new(Semaphore::new(READS)), Arc::new(Semaphore::new(READS)));
        Self {
            backends,
            handle,
            topics: Kept::new("the log", 1, &log),
            peeks: Kept::new("the log", 8, &log),
            ledgers: Shared::default(),
            letters: Kept::new("the log", REMEMBERED, &log),
            letter: Kept::new("the log", REMEMBERED, &log),
            quotes: Shared::default(),
            market: Kept::new("the index", 8, &index),
            windows: Shared::default(),
            charts: Kept::new("the index", 8, &index),
            replaying: Arc::default(),
        }
    }

    async fn read<K, T, F>(&self, kept: &Kept<K, T>, key: &K, work: F) -> Reading<T>
    where
        K: Ord + Clone + Send + 'static,
        T: Send + Sync + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let handle = self.handle.clone();
        kept.get(move || handle.snapshot().now, key, work).await
    }

    /// All topics.
    pub async fn topics(&self) -> Reading<Topics> {
        let log = Arc::clone(&self.backends.log);
        self.read(&self.topics, &(), async move { topics::read(log.as_ref()).await }).await
    }

    /// Records of a partition.
    pub async fn peek(&self, look: Look) -> Reading<Peek> {
        let log = Arc::clone(&self.backends.log);
        let work = {
            let look = look.clone();
            async move { records::peek(log.as_ref(), &look).await }
        };
        self.read(&self.peeks, &look, work).await
    }

    /// Dead letters of a topic.
    pub async fn letters(&self, topic: &str) -> Reading<Letters> {
        let log = Arc::clone(&self.backends.log);
        let key = topic.to_owned();
        let ledger = self.ledgers.of(&key, || DeadLetterList::new(topic));
        let work = async move {
            let mut ledger = ledger.lock().await;
            ledger.refresh(log.as_ref()).await?;
            Ok(Letters { lines: ledger.newest_first().cloned().collect(), older: ledger.older() })
        };
        self.read(&self.letters, &key, work).await
    }

    /// One dead letter.
    pub async fn letter(&self, topic: &str, partition: u32, offset: u64) -> Reading<LetterFacts> {
        let log = Arc::clone(&self.backends.log);
        let name = topic_of(topic);
        let work = async move {
            let known = records::existing(log.as_ref(), &name).await?;
            let missing = || {
                let place = format!("log topic {name}");
                BackendError::new(ErrorKind::NotFound, place, format!("there is no dead letter at {partition}/{offset}"))
                    .remedy("the dead letters page lists those there are")
            };
            let range = known.partitions.get(partition as usize).ok_or_else(missing)?;
            if !(range.start..range.end).contains(&offset) {
                return Err(missing());
            }
            let found = log.read(&Partition { topic: name.clone(), number: partition }, offset, 1).await?;
            let stored = found.into_iter().find(|r| r.offset == offset).ok_or_else(missing)?;
            let value = &stored.record.value;
            let text = (value.len() <= EDIT_BYTES).then(|| String::from_utf8_lossy(value).into_owned());
            Ok(LetterFacts {
                line: Summary::of(&stored),
                seen: Seen::of(&stored),
                dump: domain::format::dump(&value[..value.len().min(DUMP_BYTES)]),
                dump_cut: value.len() > DUMP_BYTES,
                lossy: text.as_ref().is_some_and(|t| t.as_bytes() != value.as_slice()),
                editable: text,
            })
        };
        self.read(&self.letter, &(topic.to_owned(), partition, offset), work).await
    }

    /// Sends dead letters again, unless the same request came before. It goes on when nobody waits any more; two at a time wait for each other.
    ///
    /// # Errors
    /// What a store fails with, and `Busy` when it takes longer than a minute.
    pub async fn replay(&self, by: &str, topic: &str, which: Which, once: Option<Idempotency>) -> Result<Sent> {
        let (backends, turn, handle) = (self.backends.clone(), Arc::clone(&self.replaying), self.handle.clone());
        let (by, topic) = (by.to_owned(), topic.to_owned());
        let work = tokio::spawn(async move {
            let _turn = turn.lock().await;
            if let Some(once) = &once {
                let known = handle.earlier(once).await;
                match known.map_err(|e| BackendError::new(ErrorKind::Unavailable, "the journal", e.to_string()))? {
                    Some(Earlier::Same(answer)) => return Ok(Sent::Again(answer)),
                    Some(Earlier::Other) => return Ok(Sent::KeyTaken),
                    None => {}
                }
            }
            let now = handle.snapshot().now;
            let result = replay::replay(&backends, &topic, &topic, &which, now).await;
            match &result {
                Ok(done) => {
                    tracing::info!(
                        by,
                        topic,
                        letters = done.letters,
                        sent = done.sent,
                        records = done.records,
                        "dead letters were sent again"
                    );
                }
                Err(error) => tracing::warn!(by, topic, %error, "dead letters could not be sent again"),
            }
            let (detail, answer) = match &result {
                Ok(done) => (told(done), once.zip(serde_json::to_string(done).ok())),
                Err(error) => (format!("failed: {error}"), None),
            };
            let note = Note::new(by, "replay", format!("{topic} {}", words(&which)), detail);
            handle.note_answer(if result.is_ok() { note } else { note.failed() }, answer).await;
            result.map(Sent::Now)
        });
        let result = match tokio::time::timeout(REPLAY, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(BackendError::new(ErrorKind::Unavailable, "replay", error.to_string())),
            Err(_) => Err(BackendError::new(ErrorKind::Busy, "replay", "it takes longer than a minute, and goes on")
                .remedy("the list of dead letters shows which were sent")),
        };
        self.letters.spoil();
        self.topics.spoil();
        result
    }

    /// A day of the market; without a date the newest.
    pub async fn market(&self, sources: Sources, date: Option<Date>) -> Reading<Market> {
        let backends = self.backends.clone();
        let key = (sources.clone(), date);
        let quotes = self.quotes.of(&key, Quotes::default);
        let work = async move { quotes.lock().await.look(&backends, &sources, date).await };
        self.read(&self.market, &key, work).await
    }

    /// A symbol's day.
    pub async fn chart(&self, sources: Sources, date: Option<Date>, symbol: &str) -> Reading<Chart> {
        let market = self.market(sources.clone(), date).await;
        let gone = |said: Refused| Reading {
            value: None,
            trouble: Some(Trouble { since: self.handle.snapshot().now, said, missing: true }),
        };
        let Some((_, found)) = &market.value else { return Reading { value: None, trouble: market.trouble } };
        let Some(day) = found.date else { return gone(Refused::bare(said!("there are no figures of any day yet"))) };
        let Some(facts) = found.symbols.iter().find(|s| s.name == symbol).cloned() else {
            let why = said!("there is no symbol \"{}\" on {}", symbol, day);
            return gone(Refused::new(why, said!("the market page lists those there are")));
        };
        let key = (sources.clone(), day, symbol.to_owned());
        let windows = self.windows.of(&key, Windows::default);
        let backends = self.backends.clone();
        let work = async move { windows.lock().await.look(&backends, &sources, day, facts).await };
        let reading = self.read(&self.charts, &key, work).await;
        Reading { trouble: reading.trouble.or(market.trouble), ..reading }
    }
}
