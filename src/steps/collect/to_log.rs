//! Spool → log. The log itself says how far it got: each record carries its spool sequence in a header, so a
//! restarted collector, or one that lost a reply, reads the tail of each partition and sends only what is
//! missing.
//!
//! A topic that was deleted and made anew has lost what the spool still holds, so all of that is sent again,
//! marked with the header [`REFILL`]: a sink that wrote it before can tell, though it has a new offset.

mod tail;
mod topics_file;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::forward::{Target, blocking};
use super::status::{CollectorStatus, Facts};
use crate::dead_letters::{self, topic_of};
use crate::envelope::REFILL;
use crate::spooled::Spooled;
use backends::log::{Log, Partition, Record, Stored, Topic, partition_for};
use backends::spool::{self, Entry, Kind, MalformedBody};
use backends::{BackendError, ErrorKind, Result};
use clock::Clock;
use domain::dag::AlertKind;
use executor::Notice;
use tail::{Found, PartitionTail};
use topics_file::TopicsFile;

/// Records of one look at a partition's tail.
const CHUNK: u64 = 500;

/// A topic as of the last look.
#[derive(Debug, Clone, Default)]
struct KnownTopic {
    incarnation: String,
    /// Entries before this one are sent again; 0: none.
    refill_before: u64,
    /// How many were.
    refilled: u64,
    tails: Vec<PartitionTail>,
}

/// See the module.
pub(super) struct ToLog {
    log: Arc<dyn Log>,
    topic: String,
    dead_letters: String,
    /// `{dag}/{step}`.
    connector: String,
    /// `collect/{feed}`.
    program: String,
    /// The spool's id.
    spool: String,
    /// The spool's folder.
    dir: PathBuf,
    clock: Clock,
    status: Arc<CollectorStatus>,
    noted: Option<TopicsFile>,
    known: HashMap<String, KnownTopic>,
}

/// What a forwarder to the log is made of.
pub(super) struct Source {
    /// `{dag}/{step}`.
    pub(super) connector: String,
    /// `collect/{feed}`.
    pub(super) program: String,
    /// The spool's id.
    pub(super) spool: String,
    /// The spool's folder.
    pub(super) dir: PathBuf,
}

impl ToLog {
    pub(super) fn new(
        log: Arc<dyn Log>,
        topic: &str,
        source: Source,
        clock: Clock,
        status: Arc<CollectorStatus>,
    ) -> Self {
        let Source { connector, program, spool, dir } = source;
        let dead_letters = topic_of(topic);
        let (noted, known) = (None, HashMap::new());
        Self {
            log,
            topic: topic.to_owned(),
            dead_letters,
            connector,
            program,
            spool,
            dir,
            clock,
            status,
            noted,
            known,
        }
    }

    /// A record of ours.
    fn found(&self, record: &Stored) -> Option<Found> {
        let text = std::str::from_utf8(record.record.header("openbell.spool")?).ok()?;
        let seq = text.strip_prefix(self.spool.as_str())?.strip_prefix(':')?.parse().ok()?;
        Some(Found { seq, refilled: record.record.header(REFILL).is_some() })
    }

    async fn topic(&self, topic: &str) -> Result<Topic> {
        self.log.topic(topic).await?.ok_or_else(|| {
            BackendError::new(ErrorKind::NotFound, format!("log topic {topic}"), "the topic does not exist")
                .remedy("create it with a topics step that the collector needs")
        })
    }

    /// Looks at what was added to a topic since the last look, `cursor` being the next entry to send. Returns
    /// whether everything the spool holds is to be gone through again.
    async fn look(&mut self, topic: &str, cursor: u64) -> Result<bool> {
        let found = self.topic(topic).await?;
        let known = self.known.remove(topic);
        let noted = self.noted().await?.topics.get(topic).cloned();
        let remade = match (&noted, &known) {
            (Some(noted), _) if noted.incarnation != found.incarnation => true,
            (_, Some(known)) => went_back(known, &found),
            _ => false,
        };
        let mut before = noted.as_ref().map_or(0, |n| n.refill_before);
        let mut again = remade;
        if remade {
            before = before.max(cursor);
            self.status.line(&format!(
                "log: topic {topic} was deleted and made anew; what the spool holds of it is sent again"
            ));
        }
        let mut known = known.filter(|k| !remade && k.incarnation == found.incarnation).unwrap_or_default();
        known.tails = self.tails(topic, &found, std::mem::take(&mut known.tails), before).await?;
        let cut = found.partitions.iter().any(|r| r.start > 0);
        if noted.is_none() && cursor > 1 && !cut && known.tails.iter().all(PartitionTail::is_empty) {
            // Nothing was noted, but the spool was forwarded before, and a topic that was never cut has
            // nothing of it.
            (before, again) = (cursor, true);
        }
        if again {
            let (dir, name) = (self.dir.clone(), self.name());
            // Before the note: were it the other way round, a crash in between would leave the old cursor in
            // force.
            blocking(move || spool::store_cursor(&dir, name, 1)).await?;
        }
        self.note(
            topic,
            topics_file::FilledTopic { incarnation: found.incarnation.clone(), refill_before: before },
        )
        .await?;
        (known.incarnation, known.refill_before) = (found.incarnation, before);
        self.known.insert(topic.to_owned(), known);
        Ok(again)
    }

    /// What each partition holds, going on from what was known.
    async fn tails(
        &self,
        topic: &str,
        found: &Topic,
        known: Vec<PartitionTail>,
        before: u64,
    ) -> Result<Vec<PartitionTail>> {
        let mut known = known.into_iter();
        let mut tails = Vec::with_capacity(found.partitions.len());
        for (number, range) in found.partitions.iter().enumerate() {
            let partition = Partition { topic: topic.to_owned(), number: number as u32 };
            tails.push(match known.next() {
                // A record of ours whose reply was lost can only be after what was seen.
                Some(tail) => self.forward(&partition, tail, range.start, range.end, before).await?,
                None if before > 0 => {
                    self.forward(&partition, PartitionTail::default(), range.start, range.end, before).await?
                }
                None => self.backward(&partition, range.start, range.end).await?,
            });
        }
        Ok(tails)
    }

    /// Goes back from the end until a record of ours is found.
    async fn backward(&self, partition: &Partition, start: u64, end: u64) -> Result<PartitionTail> {
        let mut tail = PartitionTail::up_to(end);
        let mut high = end;
        while high > start && tail.is_empty() {
            let low = high.saturating_sub(CHUNK).max(start);
            self.read(partition, low, high, |found| tail.see(found, 0)).await?;
            high = low;
        }
        Ok(tail)
    }

    /// Goes on to the end.
    async fn forward(
        &self,
        partition: &Partition,
        mut tail: PartitionTail,
        start: u64,
        end: u64,
        before: u64,
    ) -> Result<PartitionTail> {
        self.read(partition, tail.end.max(start), end, |found| tail.see(found, before)).await?;
        tail.end = tail.end.max(end);
        Ok(tail)
    }

    /// Hands the records of ours in `from..to` to `see`.
    async fn read(
        &self,
        partition: &Partition,
        from: u64,
        to: u64,
        mut see: impl FnMut(Found) + Send,
    ) -> Result<()> {
        let mut at = from;
        while at < to {
            let records = self
                .log
                .read(partition, at, usize::try_from((to - at).min(CHUNK)).unwrap_or(usize::MAX))
                .await?;
            let Some(last) = records.last() else { break };
            at = last.offset + 1;
            records.iter().filter_map(|r| self.found(r)).for_each(&mut see);
        }
        Ok(())
    }

    /// Whether the log lacks this entry, and whether sending it is a refill.
    fn lacks(&self, topic: &str, key: Option<&[u8]>, seq: u64) -> Option<Sending> {
        let Some(known) = self.known.get(topic) else { return Some(Sending::First) };
        let partition = partition_for(key, known.tails.len() as u32);
        let lacks =
            known.tails.get(partition as usize).is_none_or(|tail| tail.lacks(seq, known.refill_before));
        lacks.then_some(if seq < known.refill_before { Sending::Again } else { Sending::First })
    }

    async fn append(&mut self, topic: &str, records: Vec<(u64, Record)>) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let (seqs, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
        let placed = self.log.append(topic, records).await?;
        let Some(known) = self.known.get_mut(topic) else { return Ok(()) };
        for ((partition, offset), seq) in placed.into_iter().zip(seqs) {
            let Some(tail) = known.tails.get_mut(partition as usize) else { continue };
            if offset < tail.end {
                // Offsets only rise, so this is another topic of the same name.
                return Err(made_anew(topic));
            }
            let refilled = seq < known.refill_before;
            known.refilled += u64::from(refilled);
            tail.see(Found { seq, refilled }, known.refill_before);
            tail.end = offset + 1;
        }
        Ok(())
    }

    /// Ends refills of what lies before `next`.
    async fn complete(&mut self, next: u64) -> Result<()> {
        let done = |k: &KnownTopic| k.refill_before > 0 && next >= k.refill_before;
        let topics: Vec<_> = self.known.iter().filter(|(_, k)| done(k)).map(|(t, _)| t.clone()).collect();
        let mut told = Vec::new();
        for topic in topics {
            let Some(known) = self.known.get_mut(&topic) else { continue };
            known.tails.iter_mut().for_each(PartitionTail::complete);
            known.refill_before = 0;
            let (sent, incarnation) = (std::mem::take(&mut known.refilled), known.incarnation.clone());
            self.status.line(&format!(
                "log: topic {topic} has everything again; {sent} records were sent a second time"
            ));
            if sent > 0 {
                told.push(format!(
                    "topic {topic} was deleted and made anew; {sent} records were sent to it again from the spool"
                ));
            }
            self.note(&topic, topics_file::FilledTopic { incarnation, refill_before: 0 }).await?;
        }
        if !told.is_empty() {
            let text = format!("{}; other programs that read it meet those records twice", told.join("; "));
            let notice = Notice { at: self.clock.now(), kind: AlertKind::TopicRemade, text };
            self.status.update(|facts| facts.notice = Some(notice));
        }
        Ok(())
    }

    /// What was noted of the topics.
    async fn noted(&mut self) -> Result<&mut TopicsFile> {
        if self.noted.is_none() {
            let dir = self.dir.clone();
            self.noted = Some(blocking(move || TopicsFile::load(&dir)).await?);
        }
        Ok(self.noted.get_or_insert_default())
    }

    async fn note(&mut self, name: &str, topic: topics_file::FilledTopic) -> Result<()> {
        let mut noted = self.noted().await?.clone();
        if noted.topics.get(name) == Some(&topic) {
            return Ok(());
        }
        noted.topics.insert(name.to_owned(), topic);
        let (dir, written) = (self.dir.clone(), noted.clone());
        blocking(move || written.store(&dir)).await?;
        self.noted = Some(noted);
        Ok(())
    }

    fn place(&self, seq: u64) -> (String, Vec<u8>) {
        ("openbell.spool".to_owned(), format!("{}:{seq}", self.spool).into_bytes())
    }

    /// A trade's record, if the log lacks it.
    fn trade(&self, entry: &Entry, trade: Spooled<'_>) -> Option<Record> {
        let sending = self.lacks(&self.topic, Some(trade.symbol.as_bytes()), entry.seq)?;
        let id = ("openbell.id".to_owned(), trade.id.into_owned().into_bytes());
        let mut headers = vec![id, self.place(entry.seq)];
        let timestamp = match sending {
            Sending::First => entry.received_at,
            // Times rise within a partition, and newer records may be there already; the value says when it
            // was received.
            Sending::Again => {
                headers.push((REFILL.to_owned(), self.spool.clone().into_bytes()));
                self.clock.now()
            }
        };
        let (key, value) = (trade.symbol.into_owned().into_bytes(), trade.json.into_owned());
        Some(Record { key: Some(key), value, headers, timestamp })
    }

    /// A dead letter: the bytes as received. It never had a place on a topic, so those headers are empty.
    fn letter(&self, entry: &Entry, cause: &str, message: &str, value: &[u8]) -> Record {
        let header =
            |name: &str, text: &str| (format!("{}{name}", dead_letters::PREFIX), text.as_bytes().to_vec());
        let headers = vec![
            self.place(entry.seq),
            header("topic", &self.topic),
            header("partition", ""),
            header("offset", ""),
            header("connector.name", &self.connector),
            header("task.id", "0"),
            header("stage", "collect"),
            header("class.name", &self.program),
            header("exception.class.name", cause),
            header("exception.message", message),
        ];
        Record { key: None, value: value.to_vec(), headers, timestamp: entry.received_at }
    }
}

#[async_trait]
impl Target for ToLog {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn prepare(&mut self, cursor: u64) -> Result<u64> {
        let (topic, dead_letters) = (self.topic.clone(), self.dead_letters.clone());
        let again = self.look(&topic, cursor).await?;
        if self.log.topic(&dead_letters).await?.is_none() {
            self.log.create_topic(&dead_letters, 1).await?;
        }
        let again = self.look(&dead_letters, cursor).await? || again;
        Ok(if again { 1 } else { cursor })
    }

    async fn deliver(&mut self, entries: &[Entry]) -> Result<()> {
        let (mut trades, mut letters) = (Vec::new(), Vec::new());
        for entry in entries {
            let mut letter = match (Spooled::of(entry), entry.kind) {
                (Some(Ok(trade)), _) => {
                    trades.extend(self.trade(entry, trade).map(|record| (entry.seq, record)));
                    continue;
                }
                (Some(Err(refused)), _) => self.letter(entry, refused.cause, &refused.message, &entry.body),
                (None, Kind::Malformed) => {
                    let MalformedBody { cause, message, bytes } = MalformedBody::parse(&entry.body);
                    self.letter(entry, &cause, &message, bytes)
                }
                (None, _) => continue,
            };
            if let Some(sending) = self.lacks(&self.dead_letters, None, entry.seq) {
                if sending == Sending::Again {
                    letter.headers.push((REFILL.to_owned(), self.spool.clone().into_bytes()));
                }
                letters.push((entry.seq, letter));
            }
        }
        let (topic, dead_letters) = (self.topic.clone(), self.dead_letters.clone());
        self.append(&topic, trades).await?;
        self.append(&dead_letters, letters).await?;
        match entries.last() {
            Some(last) => self.complete(last.seq + 1).await,
            None => Ok(()),
        }
    }

    async fn intact(&mut self) -> bool {
        for (name, known) in &self.known {
            match self.log.topic(name).await {
                Ok(Some(found)) if found.incarnation == known.incarnation && !went_back(known, &found) => {}
                Ok(_) => return false,
                Err(error) => {
                    tracing::debug!(topic = name, %error, "cannot see whether the topic is still the same")
                }
            }
        }
        true
    }

    fn note(facts: &mut Facts, seq: u64) {
        facts.log_seq = seq;
    }
}

/// How an entry goes to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    First,
    /// It was on the topic that is no more.
    Again,
}

/// A partition ends before what was seen of it: where the log gives topics no ids, that is all that tells a
/// new one.
fn went_back(known: &KnownTopic, found: &Topic) -> bool {
    found.partitions.len() < known.tails.len()
        || known.tails.iter().zip(&found.partitions).any(|(tail, range)| range.end < tail.end)
}

fn made_anew(topic: &str) -> BackendError {
    BackendError::new(ErrorKind::Unavailable, format!("log topic {topic}"), "was deleted and made anew")
        .remedy("nothing is to be done: what the spool holds is sent again")
}
