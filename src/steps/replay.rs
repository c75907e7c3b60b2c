//! Dead letters, read back: listed, grouped by cause, and sent again.
//!
//! A replay is idempotent: every record it sends carries the place of its dead letter in a header, so that a second replay finds it on
//! the topic, and the sinks fold by event id whatever happens. The group [`GROUP`] shows how far all letters have been replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::dead_letter::{PREFIX, REPLAY, cause, error_header, identity, topic_of};
use super::envelope::Envelope;
use super::log_search;
use crate::backends::log::{Committed, Log, Partition, Polled, Record, Stored};
use crate::backends::raw::Document;
use crate::backends::{BackendError, Backends, ErrorKind, Result};
use crate::feed::kis;

/// Consumer group whose commits say which dead letters have been replayed.
pub const GROUP: &str = "dlq-replay";

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The record on the dead-letter topic.
    pub record: Stored,
    /// It was sent again before.
    pub replayed: bool,
}

impl Letter {
    fn place(&self) -> String {
        place(&self.record)
    }
}

fn place(record: &Stored) -> String {
    format!("{}/{}", record.partition, record.offset)
}

/// Dead letters of one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The stable word.
    pub cause: String,
    /// Who refused, `{dag}/{step}`.
    pub connector: String,
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

/// All dead letters of a topic, each once, in the order of their offsets.
///
/// # Errors
/// `NotFound` when the topic has no dead-letter topic, and what the log fails with.
pub async fn letters(log: &dyn Log, topic: &str) -> Result<Vec<Letter>> {
    let name = topic_of(topic);
    let known = log.topic(&name).await?.ok_or_else(|| {
        BackendError::new(ErrorKind::NotFound, format!("log topic {name}"), "there is no such dead-letter topic")
            .remedy("name the topic the records were on with --topic, for example --topic kis.trades")
    })?;
    let mut seen = BTreeSet::new();
    let mut letters = Vec::new();
    for (number, range) in known.partitions.iter().enumerate() {
        let partition = Partition { topic: name.clone(), number: number as u32 };
        log_search::for_each(log, &partition, range.start..range.end, |record| {
            if seen.insert(identity(&record)) {
                letters.push(Letter { record, replayed: false });
            }
        })
        .await?;
    }
    let replayed = replayed(log, topic, &letters).await?;
    for letter in &mut letters {
        letter.replayed = replayed.contains(&letter.place());
    }
    Ok(letters)
}

/// Places of dead letters that records on the topic say they came from.
async fn replayed(log: &dyn Log, topic: &str, letters: &[Letter]) -> Result<BTreeSet<String>> {
    let mut places = BTreeSet::new();
    let (Some(first), Some(known)) = (letters.iter().map(|l| l.record.record.timestamp).min(), log.topic(topic).await?) else {
        return Ok(places);
    };
    for (number, range) in known.partitions.iter().enumerate() {
        let partition = Partition { topic: topic.to_owned(), number: number as u32 };
        // A replay comes after its letter; one millisecond earlier, so that records of the same moment are looked at.
        let before = first.checked_sub(Duration::from_millis(1)).unwrap_or(first);
        let start = log_search::first_after(log, &partition, range.start..range.end, before).await?;
        log_search::for_each(log, &partition, start..range.end, |record| {
            if let Some(from) = record.record.header(REPLAY).and_then(|v| std::str::from_utf8(v).ok()) {
                places.insert(from.to_owned());
            }
        })
        .await?;
    }
    Ok(places)
}

/// Groups dead letters by cause and refuser, the largest group first.
pub fn groups<'a>(letters: impl IntoIterator<Item = &'a Letter>) -> Vec<Group> {
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    for letter in letters {
        let record = &letter.record.record;
        let connector = error_header(record, "connector.name").unwrap_or("unknown").to_owned();
        let group = groups.entry((cause(record).to_owned(), connector.clone())).or_insert_with(|| Group {
            cause: cause(record).to_owned(),
            connector,
            count: 0,
            replayed: 0,
            first: record.timestamp,
            last: record.timestamp,
            message: String::new(),
        });
        group.count += 1;
        group.replayed += u64::from(letter.replayed);
        group.first = group.first.min(record.timestamp);
        if record.timestamp >= group.last {
            group.last = record.timestamp;
            group.message = error_header(record, "exception.message").unwrap_or("").to_owned();
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.cause.cmp(&b.cause)));
    groups
}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Replayed {
    /// Dead letters looked at.
    pub letters: u64,
    /// Dead letters sent again before.
    pub before: u64,
    /// Dead letters sent again now.
    pub sent: u64,
    /// Records they became.
    pub records: u64,
    /// Dead letters whose bytes still cannot be read, by the codec's cause.
    pub refused: BTreeMap<String, u64>,
}

/// Sends dead letters to the topic they came from: a sink's record as it was, a collector's frame as the trades it holds.
/// `only` names a cause; else all are sent.
///
/// # Errors
/// What a store fails with; what was sent before stays sent, and the next replay goes on from there.
pub async fn replay(backends: &Backends, topic: &str, collection: &str, only: Option<&str>, now: Timestamp) -> Result<Replayed> {
    let log = backends.log.as_ref();
    let letters = letters(log, topic).await?;
    let mut result = Replayed::default();
    let mut done = BTreeSet::new();
    for letter in &letters {
        let wanted = only.is_none_or(|only| only == cause(&letter.record.record));
        if letter.replayed {
            done.insert(letter.place());
            result.before += u64::from(wanted);
        }
        result.letters += u64::from(wanted);
        if letter.replayed || !wanted {
            continue;
        }
        match again(&letter.record, now) {
            Ok((records, documents)) => {
                result.sent += 1;
                result.records += records.len() as u64;
                // The raw store first: were it last, a crash in between would leave it without them for ever.
                if !documents.is_empty() {
                    backends.raw.insert(collection, documents).await?;
                }
                log.append(topic, records).await?;
                done.insert(letter.place());
            }
            Err(cause) => *result.refused.entry(cause).or_insert(0) += 1,
        }
    }
    mark(log, topic, &letters, &done).await?;
    Ok(result)
}

/// The records of a dead letter, and the raw documents of trades that never reached the raw store.
fn again(letter: &Stored, now: Timestamp) -> std::result::Result<(Vec<Record>, Vec<Document>), String> {
    let from = (REPLAY.to_owned(), place(letter).into_bytes());
    if Envelope::read(letter).is_ok() {
        let mut record = letter.record.clone();
        record.headers.retain(|(name, _)| !name.starts_with(PREFIX) && name != REPLAY);
        record.headers.push(from);
        record.timestamp = now;
        return Ok((vec![record], Vec::new()));
    }
    let frame = match kis::parse(&letter.record.value).map_err(|e| e.cause.to_owned())? {
        kis::Message::Data(frame) => frame,
        kis::Message::Sealed(_) => return Err("sealed".to_owned()),
        kis::Message::Control(_) => return Err("control".to_owned()),
    };
    let (mut records, mut documents) = (Vec::new(), Vec::new());
    for wire in frame.records() {
        let received_at = letter.record.timestamp;
        let trade = kis::trade(&wire.wire(), received_at).map_err(|e| e.cause.to_owned())?;
        let value = serde_json::to_vec(&trade).map_err(|e| e.to_string())?;
        let id = trade.id.as_str().to_owned();
        records.push(Record {
            key: Some(trade.symbol.into_bytes()),
            value: value.clone(),
            headers: vec![("openbell.id".to_owned(), id.clone().into_bytes()), from.clone()],
            timestamp: now,
        });
        documents.push(Document { id, body: value, received_at });
    }
    Ok((records, documents))
}

/// Commits, per partition of the dead-letter topic, up to the first letter that was not replayed.
async fn mark(log: &dyn Log, topic: &str, letters: &[Letter], done: &BTreeSet<String>) -> Result<()> {
    let name = topic_of(topic);
    let Some(known) = log.topic(&name).await? else { return Ok(()) };
    let mut consumer = log.join(GROUP, std::slice::from_ref(&name), None).await?;
    let mut commits = Vec::new();
    // The partitions of a group come with the first polls; with nobody else in it, all at once.
    for _ in 0..10 {
        if let Polled::Assigned(assigned) = consumer.poll(Duration::from_millis(500)).await? {
            for start in assigned {
                let end = known.partitions.get(start.partition.number as usize).map_or(0, |r| r.end);
                let open = letters
                    .iter()
                    .filter(|l| l.record.partition == start.partition && !done.contains(&l.place()))
                    .map(|l| l.record.offset)
                    .min();
                let next = open.unwrap_or(end);
                if next > start.next {
                    commits.push(Committed { partition: start.partition, next });
                }
            }
            break;
        }
    }
    consumer.commit(&commits).await?;
    consumer.leave().await
}

/// A letter's headers as text, in their order; error headers without their prefix.
pub fn headers(record: &Record) -> Vec<(String, String)> {
    record
        .headers
        .iter()
        .map(|(n, v)| (n.strip_prefix(PREFIX).unwrap_or(n).to_owned(), String::from_utf8_lossy(v).into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::steps::dead_letter::{Refusal, Refuser, Stage, letter};
    use crate::steps::fixtures::{at, poison, record, trade, wire};
    use crate::steps::sink::fakes::Stores;

    /// A rejected document, a poisoned record, and a frame of two trades that the collector could not read at the time.
    async fn filled() -> (Arc<Stores>, Backends) {
        let stores = Arc::new(Stores::default());
        let backends = stores.backends();
        backends.log.create_topic("kis.trades", 3).await.expect("created");
        backends.log.create_topic("kis.trades.dlq", 1).await.expect("created");
        let refuser = Refuser { connector: "day/sink-index".into(), program: "sink/index".into() };
        let good = record(&trade("005930", 1));
        backends.log.append("kis.trades", vec![good.clone(), poison("005930", 2)]).await.expect("appended");
        for (stored, cause) in stores.records("kis.trades").into_iter().zip(["rejected", "undecodable"]) {
            let refusal = Refusal::new(Stage::TaskPut, cause, "a reason");
            let dead = letter(&refuser, stored, &refusal, at("09:10:00"));
            // The first append's reply was lost, so it is there twice.
            backends.log.append("kis.trades.dlq", vec![dead.clone(), dead]).await.expect("appended");
        }
        let wires =
            [wire(&trade("000660", 5)), wire(&trade("000660", 6))].map(|w| w.split_once('|').expect("a wire").1.to_owned());
        let header = |n: &str, v: &str| (format!("{PREFIX}{n}"), v.as_bytes().to_vec());
        let frame = Record {
            key: None,
            value: format!("0|H0STCNT0|002|{}", wires.join("^")).into_bytes(),
            headers: vec![
                ("openbell.spool".into(), b"s:9".to_vec()),
                header("topic", "kis.trades"),
                header("offset", ""),
                header("connector.name", "day/collector"),
                header("exception.class.name", "wrong_width"),
            ],
            timestamp: at("09:11:00"),
        };
        backends.log.append("kis.trades.dlq", vec![frame]).await.expect("appended");
        (stores, backends)
    }

    #[tokio::test]
    async fn letters_are_grouped_by_cause_and_repeats_folded() {
        let (_, backends) = filled().await;
        let letters = letters(backends.log.as_ref(), "kis.trades").await.expect("letters");
        let groups: Vec<_> = groups(&letters).into_iter().map(|g| (g.cause, g.connector, g.count)).collect();
        let group = |cause: &str, connector: &str| (cause.to_owned(), connector.to_owned(), 1);
        assert_eq!(
            groups,
            [group("rejected", "day/sink-index"), group("undecodable", "day/sink-index"), group("wrong_width", "day/collector")]
        );
        let error = super::letters(backends.log.as_ref(), "nothing").await.expect_err("no topic");
        assert!(error.to_string().contains("--topic"), "{error}");
    }

    #[tokio::test]
    async fn a_replay_sends_what_can_be_read_once() {
        let (stores, backends) = filled().await;
        let first = replay(&backends, "kis.trades", "kis.trades", Some("rejected"), at("09:20:00")).await.expect("replayed");
        assert_eq!((first.letters, first.sent, first.records), (1, 1, 1));
        let again = stores.records("kis.trades").into_iter().find(|r| r.record.header(REPLAY).is_some()).expect("sent");
        let original = record(&trade("005930", 1));
        assert_eq!((again.record.key, again.record.value), (original.key, original.value), "the original bytes");
        assert!(again.record.headers.iter().all(|(n, _)| !n.starts_with(PREFIX)));
        assert_eq!(stores.committed(GROUP), BTreeMap::from([(0, 2)]), "up to the letter that was not replayed");
        let second = replay(&backends, "kis.trades", "kis.trades", None, at("09:21:00")).await.expect("replayed");
        assert_eq!((second.letters, second.before, second.sent, second.records), (3, 1, 1, 2));
        assert_eq!(second.refused, BTreeMap::from([("bad_utf8".to_owned(), 1)]));
        assert_eq!(stores.raw_ids("kis.trades"), ["kis:2026-11-20:000660:5", "kis:2026-11-20:000660:6"]);
        let third = replay(&backends, "kis.trades", "kis.trades", None, at("09:22:00")).await.expect("replayed");
        assert_eq!((third.before, third.sent), (2, 0), "a second time does nothing");
        assert_eq!(stores.records("kis.trades").len(), 5);
    }
}
