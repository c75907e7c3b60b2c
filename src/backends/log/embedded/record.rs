//! A record's bytes in a segment: `flags u8 | seconds i64 | nanoseconds i32 | [key] | header count u32 |
//! (name, value)* | value`, little-endian, with u32 lengths before all but the value, which is the rest. Flag
//! 1: there is a key.

use jiff::{SignedDuration, Timestamp};

use crate::log::Record;
use crate::{BackendError, ErrorKind, Result};

/// Largest record, all parts together.
const MAX_RECORD: usize = 15 << 20;

/// Refuses records that are too large.
pub(super) fn check(place: &str, record: &Record) -> Result<()> {
    let headers: usize = record.headers.iter().map(|(n, v)| n.len() + v.len() + 8).sum();
    let size = record.value.len() + record.key.as_ref().map_or(0, Vec::len) + headers;
    if size > MAX_RECORD {
        let message = format!("a record of {size} bytes is larger than the {MAX_RECORD} that fit");
        return Err(BackendError::new(ErrorKind::Rejected, place, message));
    }
    Ok(())
}

pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    out.push(u8::from(record.key.is_some()));
    out.extend_from_slice(&record.timestamp.as_second().to_le_bytes());
    out.extend_from_slice(&record.timestamp.subsec_nanosecond().to_le_bytes());
    if let Some(key) = &record.key {
        put(out, key);
    }
    out.extend_from_slice(&(record.headers.len() as u32).to_le_bytes());
    for (name, value) in &record.headers {
        put(out, name.as_bytes());
        put(out, value);
    }
    out.extend_from_slice(&record.value);
}

/// `None` for bytes that are no record.
pub(super) fn decode(bytes: &[u8]) -> Option<Record> {
    let mut rest = bytes;
    let flags = take(&mut rest, 1)?[0];
    if flags > 1 {
        return None;
    }
    let seconds = i64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?);
    let nanos = i32::from_le_bytes(take(&mut rest, 4)?.try_into().ok()?);
    let timestamp = Timestamp::from_duration(SignedDuration::new(seconds, nanos)).ok()?;
    let key = if flags == 1 { Some(get(&mut rest)?.to_vec()) } else { None };
    let count = u32::from_le_bytes(take(&mut rest, 4)?.try_into().ok()?);
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = std::str::from_utf8(get(&mut rest)?).ok()?.to_owned();
        headers.push((name, get(&mut rest)?.to_vec()));
    }
    Some(Record { key, value: rest.to_vec(), headers, timestamp })
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn get<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take(rest, 4)?.try_into().ok()?);
    take(rest, length as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_come_back_and_any_bytes_are_safe(
            key: Option<Vec<u8>>, value: Vec<u8>, headers: Vec<(String, Vec<u8>)>, nanos in -1_000_000_000_000_000_000i128..4_000_000_000_000_000_000, noise: Vec<u8>,
        ) {
            let timestamp = Timestamp::from_nanosecond(nanos).expect("in range");
            let record = Record { key, value, headers, timestamp };
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            prop_assert_eq!(decode(&bytes), Some(record));
            decode(&noise);
        }
    }
}
