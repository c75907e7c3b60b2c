//! Keys and values as they are on the disk.
//!
//! Keys sort as one reads them: a letter for the kind, then names, then numbers in big-endian. A value is a
//! version byte and JSON, so that an old value can be told from a new one.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::records::{Answered, Audit, OutboxMail, Paused, StoreError};
use domain::alert::AlertStates;
use domain::event::Stamped;
use domain::ids::{DagName, RunId};
use domain::run::Run;

/// The format this version writes.
pub(super) const VERSION: u8 = 1;

/// The key of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Key {
    /// Number of batches written so far; present in every journal that was ever written to.
    Batches,
    Alerts,
    Event {
        run: RunId,
        seq: u64,
    },
    Audit {
        at: Timestamp,
        number: u64,
    },
    Mail {
        created_at: Timestamp,
        key: String,
    },
    Pause(DagName),
    Finished(RunId),
    Unfinished(RunId),
    HighWater(DagName),
    /// The answer to a request with a key.
    Answer(String),
}

/// Prefixes of the kinds.
pub(super) const EVENT: u8 = b'e';
pub(super) const ANSWER: u8 = b'i';
pub(super) const AUDIT: u8 = b'l';
pub(super) const MAIL: u8 = b'm';
pub(super) const PAUSE: u8 = b'p';
pub(super) const FINISHED: u8 = b'r';
pub(super) const UNFINISHED: u8 = b'u';
pub(super) const HIGH_WATER: u8 = b'w';

impl Key {
    pub(super) fn encode(&self) -> Vec<u8> {
        let named = |kind: u8, name: &str| [&[kind], name.as_bytes()].concat();
        match self {
            Self::Batches => b"#".to_vec(),
            Self::Alerts => b"a".to_vec(),
            Self::Event { run, seq } => [&events_of(run)[..], &seq.to_be_bytes()].concat(),
            Self::Audit { at, number } => [&[AUDIT], &time(*at)[..], &number.to_be_bytes()].concat(),
            Self::Mail { created_at, key } => [&[MAIL], &time(*created_at)[..], key.as_bytes()].concat(),
            Self::Pause(dag) => named(PAUSE, dag.as_str()),
            Self::Finished(run) => named(FINISHED, run.as_str()),
            Self::Unfinished(run) => named(UNFINISHED, run.as_str()),
            Self::HighWater(dag) => named(HIGH_WATER, dag.as_str()),
            Self::Answer(key) => named(ANSWER, key),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        Some(match kind {
            b'#' if rest.is_empty() => Self::Batches,
            b'a' if rest.is_empty() => Self::Alerts,
            EVENT => {
                let (run, seq) = rest.split_at_checked(rest.len().checked_sub(9)?)?;
                let (zero, seq) = seq.split_first()?;
                if *zero != 0 {
                    return None;
                }
                Self::Event { run: text(run)?.parse().ok()?, seq: u64::from_be_bytes(seq.try_into().ok()?) }
            }
            AUDIT => {
                let (at, number) = rest.split_at_checked(16)?;
                Self::Audit { at: read_time(at)?, number: u64::from_be_bytes(number.try_into().ok()?) }
            }
            MAIL => {
                let (at, key) = rest.split_at_checked(16)?;
                Self::Mail { created_at: read_time(at)?, key: text(key)? }
            }
            PAUSE => Self::Pause(text(rest)?.parse().ok()?),
            FINISHED => Self::Finished(text(rest)?.parse().ok()?),
            UNFINISHED => Self::Unfinished(text(rest)?.parse().ok()?),
            HIGH_WATER => Self::HighWater(text(rest)?.parse().ok()?),
            ANSWER => Self::Answer(text(rest)?),
            _ => return None,
        })
    }
}

/// How people call the entry of this key.
pub(super) fn describe(key: &[u8]) -> String {
    match Key::decode(key) {
        Some(Key::Event { run, seq }) => format!("event {seq} of run {run}"),
        Some(Key::Finished(run)) => format!("the final snapshot of run {run}"),
        Some(Key::Unfinished(run)) => format!("the mark of run {run}"),
        Some(Key::Mail { key, .. }) => format!("mail {key} in the outbox"),
        Some(Key::Audit { at, .. }) => format!("the audit entry of {at}"),
        Some(Key::Pause(dag)) => format!("the pause of {dag}"),
        Some(Key::HighWater(dag)) => format!("the planning mark of {dag}"),
        Some(Key::Answer(_)) => "the answer to a request with a key".into(),
        Some(Key::Alerts) => "the alert states".into(),
        Some(Key::Batches) => "the batch counter".into(),
        None => format!("an entry with the unknown key {:?}", String::from_utf8_lossy(key)),
    }
}

/// Prefix of all events of a run. The zero byte keeps `a@1` from being a prefix of `a@11`.
pub(super) fn events_of(run: &RunId) -> Vec<u8> {
    [&[EVENT], run.as_str().as_bytes(), &[0]].concat()
}

/// Nanoseconds since the epoch, moved so that times before it sort before it.
fn time(at: Timestamp) -> [u8; 16] {
    (at.as_nanosecond() ^ i128::MIN).to_be_bytes()
}

fn read_time(bytes: &[u8]) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from_be_bytes(bytes.try_into().ok()?) ^ i128::MIN).ok()
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, value)
        .map_err(|e| StoreError::Write { why: format!("a value is not JSON: {e}") })?;
    Ok(bytes)
}

pub(super) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(body(key, value)?)
        .map_err(|e| StoreError::Unreadable { what: describe(key), why: e.to_string() })
}

/// The JSON behind the version byte.
pub(super) fn body<'v>(key: &[u8], value: &'v [u8]) -> Result<&'v [u8], StoreError> {
    match value.split_first() {
        Some((&VERSION, body)) => Ok(body),
        Some((&version, _)) if version > VERSION && version < 32 => {
            Err(StoreError::Newer { what: describe(key), version, known: VERSION })
        }
        _ => Err(StoreError::Unreadable { what: describe(key), why: "it has no version".into() }),
    }
}

/// Whether an entry decodes to what its key promises.
pub(super) fn check(key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    match Key::decode(key) {
        None => Err(StoreError::Unreadable { what: describe(key), why: "its key has no known form".into() }),
        Some(Key::Batches) => decode::<u64>(key, value).map(drop),
        Some(Key::Alerts) => decode::<AlertStates>(key, value).map(drop),
        Some(Key::Event { .. }) => decode::<Stamped>(key, value).map(drop),
        Some(Key::Audit { .. }) => decode::<Audit>(key, value).map(drop),
        Some(Key::Mail { .. }) => decode::<OutboxMail>(key, value).map(drop),
        Some(Key::Pause(_)) => decode::<Paused>(key, value).map(drop),
        Some(Key::Finished(_)) => decode::<Run>(key, value).map(drop),
        Some(Key::Unfinished(_)) => decode::<()>(key, value).map(drop),
        Some(Key::HighWater(_)) => decode::<Timestamp>(key, value).map(drop),
        Some(Key::Answer(_)) => decode::<Answered>(key, value).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_sort_as_one_reads_them() {
        let run = |text: &str| text.parse::<RunId>().expect("an id");
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let keys = [
            Key::Batches,
            Key::Alerts,
            Key::Event { run: run("a@1"), seq: 9 },
            Key::Event { run: run("a@1"), seq: 256 },
            Key::Event { run: run("a@11"), seq: 1 },
            Key::Answer("ann a-key".into()),
            Key::Audit { at: at("1969-01-01T00:00:00Z"), number: 2 },
            Key::Audit { at: at("2026-11-20T00:00:00Z"), number: 1 },
            Key::Mail { created_at: at("2026-11-20T00:00:00Z"), key: "x/y".into() },
            Key::Pause("a".parse().expect("a name")),
            Key::Finished(run("a@1")),
            Key::Unfinished(run("a@1")),
            Key::HighWater("a".parse().expect("a name")),
        ];
        let encoded: Vec<_> = keys.iter().map(Key::encode).collect();
        assert!(encoded.is_sorted());
        for (key, bytes) in keys.iter().zip(&encoded) {
            assert_eq!(Key::decode(bytes).as_ref(), Some(key));
            assert!(!describe(bytes).contains("unknown"));
        }
        assert!(!encoded[4].starts_with(&events_of(&run("a@1"))));
    }

    #[test]
    fn damage_and_newer_formats_are_told_apart() {
        let key = Key::Event { run: "a@1".parse().expect("an id"), seq: 7 }.encode();
        let newer = decode::<u64>(&key, b"\x02{}").expect_err("newer");
        assert!(newer.to_string().contains("event 7 of run a@1 was written by a newer openbell"), "{newer}");
        for damaged in [&b""[..], b"{}", b"\x01{", b"\xff\xff"] {
            let error = check(&key, damaged).expect_err("damaged");
            assert!(
                matches!(&error, StoreError::Unreadable { what, .. } if what == "event 7 of run a@1"),
                "{error}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_key_is_read_without_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
            if let Some(key) = Key::decode(&bytes) {
                proptest::prop_assert_eq!(key.encode(), bytes);
            }
        }
    }
}
