//! Dead letters as they were read last, and sending them again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex as Turn, Semaphore};

use crate::cache::{Kept, REMEMBERED, Reading, Shared};
use crate::pages::topics::data::TopicReads;
use crate::pages::topics::records::{self, Seen};
use backends::log::{Log, Partition};
use backends::{BackendError, Backends, ErrorKind, Result};
use daemon::Handle;
use daemon::handle::Note;
use daemon::idempotency::{Earlier, Idempotency};
use steps::dead_letters::{DeadLetterList, Summary, topic_of};
use steps::replay::{self, Replayed, Which};

/// Most bytes of a dead letter that are shown as a dump.
const DUMP_BYTES: usize = 16 * 1024;
/// Most bytes of a dead letter that can be edited in a form.
pub(crate) const EDIT_BYTES: usize = 16 * 1024;
/// How long a replay is waited for, in real time; it goes on afterwards.
const REPLAY: Duration = Duration::from_secs(60);

/// Dead letters of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letters {
    /// Newest first.
    pub(crate) lines: Vec<Summary>,
    /// Older ones, which are not among them.
    pub(crate) older: u64,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LetterFacts {
    /// What is known without its bytes; whether it was sent again is not.
    pub(crate) line: Summary,
    /// The record.
    pub(crate) seen: Seen,
    /// Its bytes in hex.
    pub(crate) dump: String,
    /// More bytes than the dump has.
    pub(crate) dump_cut: bool,
    /// Its value as text to edit, with a mark for each byte that is none; `None` when it is too long.
    pub(crate) editable: Option<String>,
    /// The text to edit is not exactly the value.
    pub(crate) lossy: bool,
}

/// What came of a wish to send dead letters again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
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
    format!(
        "{letters} dead letters: {sent} sent again as {records} records, {before} sent before, {refused} not readable"
    )
}

/// Dead letters as they were read last.
pub(crate) struct LetterReads {
    backends: Backends,
    handle: Handle,
    topics: Arc<TopicReads>,
    ledgers: Shared<String, DeadLetterList>,
    letters: Kept<String, Letters>,
    letter: Kept<(String, u32, u64), LetterFacts>,
    replaying: Arc<Turn<()>>,
}

impl LetterReads {
    /// Reads the log, where there is room, by the daemon's clock.
    pub(crate) fn new(
        backends: Backends,
        handle: Handle,
        topics: Arc<TopicReads>,
        room: &Arc<Semaphore>,
    ) -> Self {
        Self {
            backends,
            handle,
            topics,
            ledgers: Shared::default(),
            letters: Kept::new("the log", REMEMBERED, room),
            letter: Kept::new("the log", REMEMBERED, room),
            replaying: Arc::default(),
        }
    }

    /// Dead letters of a topic.
    pub(crate) async fn letters(&self, topic: &str) -> Reading<Letters> {
        let log = Arc::clone(&self.backends.log);
        let key = topic.to_owned();
        let ledger = self.ledgers.of(&key, || DeadLetterList::new(topic));
        let work = async move {
            let mut ledger = ledger.lock().await;
            ledger.refresh(log.as_ref()).await?;
            Ok(Letters { lines: ledger.newest_first().cloned().collect(), older: ledger.older() })
        };
        let handle = self.handle.clone();
        self.letters.get(move || handle.snapshot().now, &key, work).await
    }

    /// One dead letter.
    pub(crate) async fn letter(&self, topic: &str, partition: u32, offset: u64) -> Reading<LetterFacts> {
        let log = Arc::clone(&self.backends.log);
        let name = topic_of(topic);
        let (place, handle) = ((topic.to_owned(), partition, offset), self.handle.clone());
        let work = async move { read(log.as_ref(), &name, partition, offset).await };
        self.letter.get(move || handle.snapshot().now, &place, work).await
    }

    /// Sends dead letters again, unless the same request came before. It goes on when nobody waits any more;
    /// two at a time wait for each other.
    ///
    /// # Errors
    /// What a store fails with, and `Busy` when it takes longer than a minute.
    pub(crate) async fn replay(
        &self,
        by: &str,
        topic: &str,
        which: Which,
        once: Option<Idempotency>,
    ) -> Result<Sent> {
        let (backends, turn, handle) =
            (self.backends.clone(), Arc::clone(&self.replaying), self.handle.clone());
        let (by, topic) = (by.to_owned(), topic.to_owned());
        let work = tokio::spawn(async move {
            let _turn = turn.lock().await;
            replay(&backends, &handle, by, topic, which, once).await
        });
        let result = match tokio::time::timeout(REPLAY, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(BackendError::new(ErrorKind::Unavailable, "replay", error.to_string())),
            Err(_) => Err(BackendError::new(
                ErrorKind::Busy,
                "replay",
                "it takes longer than a minute, and goes on",
            )
            .remedy("the list of dead letters shows which were sent")),
        };
        self.letters.spoil();
        self.topics.spoil();
        result
    }
}

/// Reads one from its topic.
async fn read(log: &dyn Log, name: &str, partition: u32, offset: u64) -> Result<LetterFacts> {
    let known = records::existing(log, name).await?;
    let missing = || {
        let place = format!("log topic {name}");
        BackendError::new(
            ErrorKind::NotFound,
            place,
            format!("there is no dead letter at {partition}/{offset}"),
        )
        .remedy("the dead letters page lists those there are")
    };
    let range = known.partitions.get(partition as usize).ok_or_else(missing)?;
    if !(range.start..range.end).contains(&offset) {
        return Err(missing());
    }
    let found = log.read(&Partition { topic: name.to_owned(), number: partition }, offset, 1).await?;
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
}

/// Sends dead letters again and tells the audit, unless the same request came before.
async fn replay(
    backends: &Backends,
    handle: &Handle,
    by: String,
    topic: String,
    which: Which,
    once: Option<Idempotency>,
) -> Result<Sent> {
    if let Some(once) = &once {
        let known = handle.earlier(once).await;
        match known.map_err(|e| BackendError::new(ErrorKind::Unavailable, "the journal", e.to_string()))? {
            Some(Earlier::Same(answer)) => return Ok(Sent::Again(answer)),
            Some(Earlier::Other) => return Ok(Sent::KeyTaken),
            None => {}
        }
    }
    let now = handle.snapshot().now;
    let result = replay::replay(backends, &topic, &topic, &which, now).await;
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
}
