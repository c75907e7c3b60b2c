//! Records as Kafka keeps them.
//!
//! Kafka keeps milliseconds, refuses what lies ahead of its clock, and counts retention from a record's time.
//! Kafka's time is therefore that of the append, and the record's own travels in a header, the last one,
//! which readers of other programs may use and which is taken off when the record is read.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};

use super::settings::MAX_RECORD;
use crate::log::{Partition, Record, Stored};
use crate::{BackendError, ErrorKind, Result};

/// Decimal nanoseconds since 1970.
const TIME: &str = "openbell.time";

/// Refuses records that Kafka cannot keep, before anything is sent.
pub(super) fn check(place: &str, records: &[Record]) -> Result<()> {
    for (index, record) in records.iter().enumerate() {
        let refuse = |message: String| Err(BackendError::new(ErrorKind::Rejected, place, message));
        if let Some((name, _)) = record.headers.iter().find(|(name, _)| name.contains('\0')) {
            return refuse(format!(
                "record {index} of {} has a header with a NUL in its name: {name:?}",
                records.len()
            ));
        }
        let size = weight(record);
        if size > MAX_RECORD {
            let message = format!(
                "record {index} of {} has {size} bytes, more than the {MAX_RECORD} that fit",
                records.len()
            );
            return refuse(message);
        }
    }
    Ok(())
}

/// Bytes of a record, all parts together.
pub(super) fn weight(record: &Record) -> usize {
    let headers: usize = record.headers.iter().map(|(n, v)| n.len() + v.len() + 8).sum();
    record.value.len() + record.key.as_ref().map_or(0, Vec::len) + headers
}

pub(super) fn headers(record: &Record) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(record.headers.len() + 1);
    let headers = record
        .headers
        .iter()
        .fold(headers, |all, (key, value)| all.insert(Header { key, value: Some(value) }));
    let time = record.timestamp.as_nanosecond().to_string();
    headers.insert(Header { key: TIME, value: Some(&time) })
}

/// A message as the record it was.
///
/// # Errors
/// `Corrupt` for a message that only another program can have written.
pub(super) fn stored(place: &str, message: &BorrowedMessage<'_>) -> Result<Stored> {
    let place = || {
        format!(
            "{place} topic {} partition {} offset {}",
            message.topic(),
            message.partition(),
            message.offset()
        )
    };
    let corrupt = |what: &str| BackendError::new(ErrorKind::Corrupt, place(), what);
    // The library panics at a header name that is not UTF-8.
    let mut headers = catch_unwind(AssertUnwindSafe(|| {
        let all = message.headers().map(|headers| {
            headers
                .iter()
                .map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()))
                .collect::<Vec<_>>()
        });
        all.unwrap_or_default()
    }))
    .map_err(|_| {
        corrupt("a header's name is not UTF-8")
            .remedy("another program wrote it; skip it with that program's help")
    })?;
    let exact = headers.last().filter(|(name, _)| name == TIME).and_then(|(_, value)| time(value));
    if exact.is_some() {
        headers.pop();
    }
    let kept = || message.timestamp().to_millis().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let (Ok(number), Ok(offset)) = (u32::try_from(message.partition()), u64::try_from(message.offset()))
    else {
        return Err(corrupt("negative partition or offset"));
    };
    Ok(Stored {
        partition: Partition { topic: message.topic().to_owned(), number },
        offset,
        record: Record {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            headers,
            timestamp: exact.or_else(kept).unwrap_or(Timestamp::UNIX_EPOCH),
        },
    })
}

fn time(value: &[u8]) -> Option<Timestamp> {
    let nanoseconds: i128 = std::str::from_utf8(value).ok()?.parse().ok()?;
    Timestamp::from_nanosecond(nanoseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_do_not_fit_are_named() {
        let record = |value: usize, header: &str| Record {
            key: None,
            value: vec![0; value],
            headers: vec![(header.into(), vec![])],
            timestamp: Timestamp::UNIX_EPOCH,
        };
        check("kafka", &[record(0, "h"), record(MAX_RECORD - 9, "h")]).expect("fits");
        let error = check("kafka", &[record(0, "h"), record(MAX_RECORD, "h")]).expect_err("too large");
        assert!(error.kind == ErrorKind::Rejected && error.message.contains("record 1 of 2"), "{error}");
        let error = check("kafka", &[record(0, "a\0b")]).expect_err("a bad name");
        assert!(error.message.contains("record 0 of 1"), "{error}");
    }

    #[test]
    fn times_are_exact() {
        assert_eq!(time(b"-1"), Timestamp::from_nanosecond(-1).ok());
        assert_eq!(time(b"1795000000123456789"), Timestamp::from_nanosecond(1_795_000_000_123_456_789).ok());
        assert_eq!(
            (time(b"x"), time(b""), time(b"99999999999999999999999999999999999999")),
            (None, None, None)
        );
    }
}
