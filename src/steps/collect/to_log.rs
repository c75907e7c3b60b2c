//! Spool → log. The log itself says how far it got: each record carries its spool sequence in a header, so a restarted collector, or
//! one that lost a reply, reads the tail of each partition and sends only what is missing.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::board::Facts;
use super::forward::Target;
use super::parameters::PROGRAM;
use crate::backends::log::{Log, Partition, Record, Stored, partition_for};
use crate::backends::spool::{Entry, Kind};
use crate::backends::{BackendError, ErrorKind, Result};
use crate::feed::kis;
use crate::steps::dead_letter;

/// Records of one look at a partition's tail.
const CHUNK: u64 = 500;

/// What a partition holds of this spool.
#[derive(Debug, Clone, Copy, Default)]
struct Tail {
    /// Everything before this offset was looked at, or holds nothing newer.
    end: u64,
    /// Highest spool sequence seen.
    highest: u64,
}

/// A topic as of the last look.
#[derive(Debug, Clone, Default)]
struct Known {
    incarnation: String,
    tails: Vec<Tail>,
}

/// See the module.
pub(super) struct ToLog {
    log: Arc<dyn Log>,
    topic: String,
    dead_letters: String,
    /// `{dag}/{step}`.
    connector: String,
    /// The spool's id.
    spool: String,
    known: HashMap<String, Known>,
}

impl ToLog {
    pub(super) fn new(log: Arc<dyn Log>, topic: &str, connector: String, spool: String) -> Self {
        let dead_letters = dead_letter::topic_of(topic);
        Self { log, topic: topic.to_owned(), dead_letters, connector, spool, known: HashMap::new() }
    }

    /// The spool sequence of a record of ours.
    fn sequence(&self, record: &Stored) -> Option<u64> {
        let text = std::str::from_utf8(record.record.header("openbell.spool")?).ok()?;
        text.strip_prefix(self.spool.as_str())?.strip_prefix(':')?.parse().ok()
    }

    fn highest(&self, records: &[Stored]) -> Option<u64> {
        records.iter().filter_map(|r| self.sequence(r)).max()
    }

    /// Looks at what was added to a topic since the last look. Returns whether its first records are still there.
    async fn look(&mut self, topic: &str) -> Result<bool> {
        let Some(found) = self.log.topic(topic).await? else {
            return Err(BackendError::new(ErrorKind::NotFound, format!("log topic {topic}"), "the topic does not exist")
                .remedy("create it with a topics step that the collector needs"));
        };
        let known = self.known.remove(topic).filter(|k| k.incarnation == found.incarnation).unwrap_or_default();
        let mut tails = Vec::with_capacity(found.partitions.len());
        for (number, range) in found.partitions.iter().enumerate() {
            let partition = Partition { topic: topic.to_owned(), number: number as u32 };
            tails.push(match known.tails.get(number) {
                Some(tail) => self.forward(&partition, *tail, range.start, range.end).await?,
                None => self.backward(&partition, range.start, range.end).await?,
            });
        }
        self.known.insert(topic.to_owned(), Known { incarnation: found.incarnation, tails });
        Ok(found.partitions.iter().all(|r| r.start == 0))
    }

    /// Goes back from the end until a record of ours is found.
    async fn backward(&self, partition: &Partition, start: u64, end: u64) -> Result<Tail> {
        let mut high = end;
        while high > start {
            let low = high.saturating_sub(CHUNK).max(start);
            if let Some(highest) = self.read(partition, low, high).await? {
                return Ok(Tail { end, highest });
            }
            high = low;
        }
        Ok(Tail { end, highest: 0 })
    }

    /// Goes on from the last look: a record of ours whose reply was lost can only be there.
    async fn forward(&self, partition: &Partition, tail: Tail, start: u64, end: u64) -> Result<Tail> {
        let newest = self.read(partition, tail.end.max(start), end).await?;
        Ok(Tail { end: end.max(tail.end), highest: tail.highest.max(newest.unwrap_or(0)) })
    }

    /// The highest sequence of ours in `from..to`.
    async fn read(&self, partition: &Partition, from: u64, to: u64) -> Result<Option<u64>> {
        let (mut at, mut highest) = (from, None);
        while at < to {
            let records = self.log.read(partition, at, usize::try_from((to - at).min(CHUNK)).unwrap_or(usize::MAX)).await?;
            let Some(last) = records.last() else { break };
            at = last.offset + 1;
            highest = highest.max(self.highest(&records));
        }
        Ok(highest)
    }

    /// Whether the log lacks this entry.
    fn lacks(&self, topic: &str, key: Option<&[u8]>, seq: u64) -> bool {
        let Some(known) = self.known.get(topic) else { return true };
        let partition = partition_for(key, known.tails.len() as u32);
        known.tails.get(partition as usize).is_none_or(|tail| seq > tail.highest)
    }

    async fn append(&mut self, topic: String, records: Vec<(u64, Record)>) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let (seqs, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
        let placed = self.log.append(&topic, records).await?;
        if let Some(known) = self.known.get_mut(&topic) {
            for ((partition, offset), seq) in placed.into_iter().zip(seqs) {
                if let Some(tail) = known.tails.get_mut(partition as usize) {
                    *tail = Tail { end: tail.end.max(offset + 1), highest: tail.highest.max(seq) };
                }
            }
        }
        Ok(())
    }

    fn place(&self, seq: u64) -> (String, Vec<u8>) {
        ("openbell.spool".to_owned(), format!("{}:{seq}", self.spool).into_bytes())
    }

    /// A trade's record.
    fn trade(&self, entry: &Entry) -> Result<Record, kis::FrameError> {
        let trade = decode(entry)?;
        let id = ("openbell.id".to_owned(), trade.id.as_str().as_bytes().to_vec());
        let value = to_json(&trade)?;
        let headers = vec![id, self.place(entry.seq)];
        Ok(Record { key: Some(trade.symbol.into_bytes()), value, headers, timestamp: entry.received_at })
    }

    /// A dead letter: the bytes as received. It never had a place on a topic, so those headers are empty.
    fn letter(&self, entry: &Entry, cause: &str, message: &str, value: &[u8]) -> Record {
        let header = |name: &str, text: &str| (format!("{}{name}", dead_letter::PREFIX), text.as_bytes().to_vec());
        let headers = vec![
            self.place(entry.seq),
            header("topic", &self.topic),
            header("partition", ""),
            header("offset", ""),
            header("connector.name", &self.connector),
            header("task.id", "0"),
            header("stage", "collect"),
            header("class.name", PROGRAM),
            header("exception.class.name", cause),
            header("exception.message", message),
        ];
        Record { key: None, value: value.to_vec(), headers, timestamp: entry.received_at }
    }
}

/// The trade of a record entry.
pub(super) fn decode(entry: &Entry) -> Result<crate::domain::trade::Trade, kis::FrameError> {
    let wire = std::str::from_utf8(&entry.body).map_err(|e| kis::FrameError {
        cause: "bad_utf8",
        message: format!("byte {} of the spool entry is not UTF-8", e.valid_up_to()),
    })?;
    kis::trade(wire, entry.received_at)
}

/// The JSON object that every store holds.
pub(super) fn to_json(trade: &crate::domain::trade::Trade) -> Result<Vec<u8>, kis::FrameError> {
    serde_json::to_vec(trade)
        .map_err(|e| kis::FrameError { cause: "bad_json", message: format!("the trade cannot be written as JSON: {e}") })
}

/// Parts of a malformed entry: cause, message, and the bytes as received.
fn split(body: &[u8]) -> (String, String, &[u8]) {
    let mut parts = body.splitn(3, |b| *b == b'\n');
    let mut word = || parts.next().map(|p| String::from_utf8_lossy(p).into_owned()).unwrap_or_default();
    let (cause, message) = (word(), word());
    (cause, message, parts.next().unwrap_or_default())
}

#[async_trait]
impl Target for ToLog {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn prepare(&mut self, cursor: u64) -> Result<u64> {
        let (topic, dead_letters) = (self.topic.clone(), self.dead_letters.clone());
        let from_the_start = self.look(&topic).await?;
        if self.log.topic(&dead_letters).await?.is_none() {
            self.log.create_topic(&dead_letters, 1).await?;
        }
        self.look(&dead_letters).await?;
        let holds_ours = self.known.values().flat_map(|k| &k.tails).any(|t| t.highest > 0);
        // A topic that was never cut and has nothing of ours is a new one, whatever the cursor file remembers of the old.
        Ok(if from_the_start && !holds_ours { 1 } else { cursor })
    }

    async fn deliver(&mut self, entries: &[Entry]) -> Result<()> {
        let (mut trades, mut letters) = (Vec::new(), Vec::new());
        for entry in entries {
            let letter = match entry.kind {
                Kind::Record => match self.trade(entry) {
                    Ok(record) => {
                        if self.lacks(&self.topic, record.key.as_deref(), entry.seq) {
                            trades.push((entry.seq, record));
                        }
                        continue;
                    }
                    Err(error) => self.letter(entry, error.cause, &error.message, &entry.body),
                },
                Kind::Malformed => {
                    let (cause, message, bytes) = split(&entry.body);
                    self.letter(entry, &cause, &message, bytes)
                }
                Kind::SessionUp | Kind::SessionDown => continue,
            };
            if self.lacks(&self.dead_letters, None, entry.seq) {
                letters.push((entry.seq, letter));
            }
        }
        self.append(self.topic.clone(), trades).await?;
        self.append(self.dead_letters.clone(), letters).await
    }

    fn note(facts: &mut Facts, seq: u64) {
        facts.log_seq = seq;
    }
}
