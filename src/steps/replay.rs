//! Dead letters, sent again.
//!
//! A replay is idempotent: every record it sends carries the position of its dead letter in a header, so that
//! a second replay finds it on the topic, and the sinks fold by event id whatever happens. The group
//! [`GROUP`] shows how far all letters have been replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::collected;
use super::dead_letters::{
    DeadLetter, PREFIX, REPLAY, Refusal, Stage, cause, error_header, position, read_all, topic_of,
};
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
    /// One, by its position on the dead-letter topic; with other bytes, if it was edited. The letter itself
    /// stays as it is.
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
            Self::One { partition, offset, .. } => {
                letter.partition.number == *partition && letter.offset == *offset
            }
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

/// Sends dead letters to the topic they came from: a sink's record as it was, a collector's frame as the
/// trades it holds.
///
/// # Errors
/// `NotFound` for one letter that is not there; what a store fails with: what was sent before stays sent, and
/// the next replay goes on from there.
pub async fn replay(
    backends: &Backends,
    topic: &str,
    collection: &str,
    which: &Which,
    now: Timestamp,
) -> Result<Replayed> {
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
    let trade: Trade = serde_json::from_slice(bytes)
        .map_err(|e| refusal("undecodable", format!("the value is not a trade: {e}")))?;
    let received_at =
        trade.received().map_err(|e| refusal("undecodable", format!("received_at is not a time: {e}")))?;
    let id = trade.id.as_str().to_owned();
    let mut headers = letter.record.headers.clone();
    headers.retain(|(name, _)| {
        !name.starts_with(PREFIX) && ![REPLAY, EDITED, "openbell.id"].contains(&name.as_str())
    });
    headers.push(("openbell.id".to_owned(), id.clone().into_bytes()));
    headers.append(&mut marks);
    let record =
        Record { key: Some(trade.symbol.into_bytes()), value: bytes.to_vec(), headers, timestamp: now };
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
        records.push(Record {
            key: Some(trade.symbol.into_bytes()),
            value: value.clone(),
            headers,
            timestamp: now,
        });
        documents.push(Document { id, body: value, received_at });
    }
    Ok((records, documents))
}

/// The trades of a message, as the feed that received it reads it now. A letter that does not say which that
/// was is read by the first feed that can.
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
mod tests;
