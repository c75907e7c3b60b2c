//! Dead letters, sent again.
//!
//! A replay is idempotent: every record it sends carries the position of its dead letter in a header, so that a second replay finds it on
//! the topic, and the sinks fold by event id whatever happens. The group [`GROUP`] shows how far all letters have been replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::collected;
use super::dead_letters::{DeadLetter, PREFIX, REPLAY, Refusal, Stage, cause, error_header, position, read_all, topic_of};
use super::envelope::Envelope;
use super::spooled::to_json;
use backends::log::{Committed, Log, Polled, Record, Stored};
use backends::raw::Document;
use backends::{BackendError, Backends, ErrorKind, Result};
use domain::trade::Trade;
use feed::{FEEDS, Feed, Refused};

/// Consumer group whose commits say which dead letters have been replayed.
pub const GROUP: &str = "dlq-replay";

/// Header of a record that was edited by hand before it was sent again.
pub const EDITED: &str = "openbell.edited";

/// Which dead letters are sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All of the topic.
    All,
    /// Those of a cause.
    Cause(String),
    /// One, by its position on the dead-letter topic; with other bytes, if it was edited. The letter itself stays as it is.
    One {
        /// Partition.
        partition: u32,
        /// Offset.
        offset: u64,
        /// What to send instead of the original's value.
        edited: Option<Vec<u8>>,
    },
}

impl Which {
    fn wants(&self, letter: &Stored) -> bool {
        match self {
            Self::All => true,
            Self::Cause(only) => only == cause(&letter.record),
            Self::One { partition, offset, .. } => letter.partition.number == *partition && letter.offset == *offset,
        }
    }

    fn edited(&self) -> Option<&[u8]> {
        match self {
            Self::One { edited, .. } => edited.as_deref(),
            _ => None,
        }
    }
}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// Why the last of these cannot be read, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Sends dead letters to the topic they came from: a sink's record as it was, a collector's frame as the trades it holds.
///
/// # Errors
/// `NotFound` for one letter that is not there; what a store fails with: what was sent before stays sent, and the next replay goes on from there.
pub async fn replay(backends: &Backends, topic: &str, collection: &str, which: &Which, now: Timestamp) -> Result<Replayed> {
    let log = backends.log.as_ref();
    let letters = read_all(log, topic).await?;
    let mut result = Replayed::default();
    let mut done = BTreeSet::new();
    for letter in &letters {
        let wanted = which.wants(&letter.record);
        if letter.replayed {
            done.insert(letter.position());
            result.before += u64::from(wanted);
        }
        result.letters += u64::from(wanted);
        if letter.replayed || !wanted {
            continue;
        }
        match replayed(&letter.record, which.edited(), now) {
            Ok((records, documents)) => {
                result.sent += 1;
                result.records += records.len() as u64;
                // The raw store first: were it last, a crash in between would leave it without them for ever.
                if !documents.is_empty() {
                    backends.raw.insert(collection, documents).await?;
                }
                log.append(topic, records).await?;
                done.insert(letter.position());
            }
            Err(refusal) => {
                *result.refused.entry(refusal.cause).or_insert(0) += 1;
                result.message = Some(refusal.message);
            }
        }
    }
    if let (Which::One { partition, offset, .. }, 0) = (which, result.letters) {
        let place = format!("log topic {} partition {partition}", topic_of(topic));
        return Err(BackendError::new(ErrorKind::NotFound, place, format!("there is no dead letter at offset {offset}"))
            .remedy("the list of dead letters names the offsets there are; a repeat of a letter is known by its first offset"));
    }
    commit(log, topic, &letters, &done).await?;
    Ok(result)
}

/// The records of a dead letter, and the raw documents of trades that never reached the raw store.
fn replayed(
    letter: &Stored,
    edited: Option<&[u8]>,
    now: Timestamp,
) -> std::result::Result<(Vec<Record>, Vec<Document>), Refusal> {
    let mut marks = vec![(REPLAY.to_owned(), position(letter).into_bytes())];
    let refusal = |cause: &str, message: String| Refusal::new(Stage::ValueConverter, cause, message);
    let Some(bytes) = edited else {
        if Envelope::read(letter).is_ok() {
            let mut record = letter.record.clone();
            record.headers.retain(|(name, _)| !name.starts_with(PREFIX) && name != REPLAY);
            record.headers.append(&mut marks);
            record.timestamp = now;
            return Ok((vec![record], Vec::new()));
        }
        return message(letter, &letter.record.value, &marks, now);
    };
    marks.push((EDITED.to_owned(), b"1".to_vec()));
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return message(letter, bytes, &marks, now);
    }
    // Sent under the key and the id that the edited trade says.
    let trade: Trade =
        serde_json::from_slice(bytes).map_err(|e| refusal("undecodable", format!("the value is not a trade: {e}")))?;
    let received_at = trade.received().map_err(|e| refusal("undecodable", format!("received_at is not a time: {e}")))?;
    let id = trade.id.as_str().to_owned();
    let mut headers = letter.record.headers.clone();
    headers.retain(|(name, _)| !name.starts_with(PREFIX) && ![REPLAY, EDITED, "openbell.id"].contains(&name.as_str()));
    headers.push(("openbell.id".to_owned(), id.clone().into_bytes()));
    headers.append(&mut marks);
    let record = Record { key: Some(trade.symbol.into_bytes()), value: bytes.to_vec(), headers, timestamp: now };
    Ok((vec![record], vec![Document { id, body: bytes.to_vec(), received_at }]))
}

/// The trades of a feed's message, as records that carry `marks`, and as raw documents.
fn message(
    letter: &Stored,
    bytes: &[u8],
    marks: &[(String, Vec<u8>)],
    now: Timestamp,
) -> std::result::Result<(Vec<Record>, Vec<Document>), Refusal> {
    let refusal = |refused: Refused| Refusal::new(Stage::ValueConverter, refused.cause, refused.message);
    let received_at = letter.record.timestamp;
    let (mut records, mut documents) = (Vec::new(), Vec::new());
    for trade in trades(letter, bytes).map_err(refusal)? {
        let value = to_json(&trade).map_err(refusal)?;
        let id = trade.id.as_str().to_owned();
        let mut headers = vec![("openbell.id".to_owned(), id.clone().into_bytes())];
        headers.extend_from_slice(marks);
        records.push(Record { key: Some(trade.symbol.into_bytes()), value: value.clone(), headers, timestamp: now });
        documents.push(Document { id, body: value, received_at });
    }
    Ok((records, documents))
}

/// The trades of a message, as the feed that received it reads it now. A letter that does not say which that was is read by the first feed
/// that can.
fn trades(letter: &Stored, bytes: &[u8]) -> std::result::Result<Vec<Trade>, Refused> {
    let received_at = letter.record.timestamp;
    if let Some(feed) = error_header(&letter.record, "class.name").and_then(collected) {
        return feed.trades(bytes, received_at);
    }
    let read = |feed: &&dyn Feed| feed.trades(bytes, received_at);
    FEEDS.iter().find_map(|feed| read(feed).ok()).map_or_else(|| read(&FEEDS[0]), Ok)
}

/// Commits, per partition of the dead-letter topic, up to the first letter that was not replayed.
async fn commit(log: &dyn Log, topic: &str, letters: &[DeadLetter], done: &BTreeSet<String>) -> Result<()> {
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
                    .filter(|l| l.record.partition == start.partition && !done.contains(&l.position()))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dead_letters::{DeadLetterList, Refuser, by_cause, dead_letter};
    use crate::testing::fakes::Stores;
    use crate::testing::fixtures::{at, poison, record, trade, wire};

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
            let dead = dead_letter(&refuser, stored, &refusal, at("09:10:00"));
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
        let letters = read_all(backends.log.as_ref(), "kis.trades").await.expect("letters");
        let groups: Vec<_> =
            by_cause(letters.iter().map(DeadLetter::summary)).into_iter().map(|g| (g.cause, g.connector, g.count)).collect();
        let group = |cause: &str, connector: &str| (cause.to_owned(), connector.to_owned(), 1);
        assert_eq!(
            groups,
            [group("rejected", "day/sink-index"), group("undecodable", "day/sink-index"), group("wrong_width", "day/collector")]
        );
        let error = read_all(backends.log.as_ref(), "nothing").await.expect_err("no topic");
        assert!(error.to_string().contains("--topic"), "{error}");
    }

    #[tokio::test]
    async fn a_replay_sends_what_can_be_read_once() {
        let (stores, backends) = filled().await;
        let first = replay(&backends, "kis.trades", "kis.trades", &Which::Cause("rejected".into()), at("09:20:00"))
            .await
            .expect("replayed");
        assert_eq!((first.letters, first.sent, first.records), (1, 1, 1));
        let again = stores.records("kis.trades").into_iter().find(|r| r.record.header(REPLAY).is_some()).expect("sent");
        let original = record(&trade("005930", 1));
        assert_eq!((again.record.key, again.record.value), (original.key, original.value), "the original bytes");
        assert!(again.record.headers.iter().all(|(n, _)| !n.starts_with(PREFIX)));
        assert_eq!(stores.committed(GROUP), BTreeMap::from([(0, 2)]), "up to the letter that was not replayed");
        let second = replay(&backends, "kis.trades", "kis.trades", &Which::All, at("09:21:00")).await.expect("replayed");
        assert_eq!((second.letters, second.before, second.sent, second.records), (3, 1, 1, 2));
        assert_eq!(second.refused, BTreeMap::from([("bad_utf8".to_owned(), 1)]));
        assert_eq!(stores.raw_ids("kis.trades"), ["kis:2026-11-20:000660:5", "kis:2026-11-20:000660:6"]);
        let third = replay(&backends, "kis.trades", "kis.trades", &Which::All, at("09:22:00")).await.expect("replayed");
        assert_eq!((third.before, third.sent), (2, 0), "a second time does nothing");
        assert_eq!(stores.records("kis.trades").len(), 5);
    }

    #[tokio::test]
    async fn one_letter_is_sent_as_it_was_or_edited_and_stays_as_it_is() {
        let (stores, backends) = filled().await;
        let one =
            |offset, edited: Option<&str>| Which::One { partition: 0, offset, edited: edited.map(|e| e.as_bytes().to_vec()) };
        let send = async |which: Which| replay(&backends, "kis.trades", "kis.trades", &which, at("09:20:00")).await;
        let before = stores.records("kis.trades.dlq");
        assert_eq!(send(one(77, None)).await.expect_err("not there").kind, ErrorKind::NotFound);
        let torn = send(one(2, Some("{\"id\": 1}"))).await.expect("looked at");
        assert_eq!((torn.sent, torn.refused["undecodable"]), (0, 1));
        assert!(torn.message.expect("words").contains("not a trade"), "people are told why");

        let mended = trade("000660", 9);
        let text = serde_json::to_string(&mended).expect("JSON");
        let done = send(one(2, Some(&text))).await.expect("sent");
        assert_eq!((done.letters, done.sent, done.records), (1, 1, 1));
        let sent = stores.records("kis.trades").into_iter().find(|r| r.record.header(EDITED).is_some()).expect("sent");
        assert_eq!(sent.record.key.as_deref(), Some(b"000660".as_slice()));
        assert_eq!(sent.record.header("openbell.id"), Some(mended.id.as_str().as_bytes()));
        assert_eq!(stores.raw_ids("kis.trades"), [mended.id.as_str()]);
        assert_eq!(stores.records("kis.trades.dlq"), before, "the original stays");
        assert_eq!(send(one(2, None)).await.expect("looked at").before, 1, "once is enough");
    }

    #[tokio::test]
    async fn a_list_reads_only_what_is_new_and_sees_replays() {
        let (_, backends) = filled().await;
        let log = backends.log.as_ref();
        let mut list = DeadLetterList::new("kis.trades");
        list.refresh(log).await.expect("refreshed");
        let seen: Vec<_> = list.newest_first().map(|l| (l.offset, l.cause.clone(), l.replayed)).collect();
        let line = |offset, cause: &str, replayed| (offset, cause.to_owned(), replayed);
        assert_eq!(seen, [line(4, "wrong_width", false), line(2, "undecodable", false), line(0, "rejected", false)]);
        replay(&backends, "kis.trades", "kis.trades", &Which::Cause("rejected".into()), at("09:20:00")).await.expect("replayed");
        list.refresh(log).await.expect("refreshed");
        let seen: Vec<_> = list.newest_first().map(|l| (l.offset, l.replayed)).collect();
        assert_eq!(seen, [(4, false), (2, false), (0, true)]);
        log.delete_topic("kis.trades.dlq").await.expect("deleted");
        assert!(list.refresh(log).await.expect_err("it is gone").to_string().contains("no such dead-letter topic"));
        log.create_topic("kis.trades.dlq", 1).await.expect("created");
        list.refresh(log).await.expect("looked");
        assert_eq!((list.newest_first().count(), list.older()), (0, 0), "a topic made anew is another one");
    }
}
