//! What a spool holds.

use jiff::{SignedDuration, Timestamp};

use crate::{BackendError, ErrorKind, Result};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A trade record's wire text, `{tr_id}|{field^field^…}`.
    Record,
    /// A frame that could not be decoded, as received. The body is `{cause}\n{message}\n{frame bytes}`.
    Malformed,
    /// The feed's session came up (body: JSON facts).
    SessionUp,
    /// The feed's session went down (body: JSON facts).
    SessionDown,
}

/// An entry to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// What it is.
    pub kind: Kind,
    /// When the socket task received it.
    pub received_at: Timestamp,
    /// Its bytes, at most 16 MiB.
    pub body: Vec<u8>,
}

/// An entry as read back; `seq` starts at 1 and rises by one, except after damage (see the module).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position in the spool.
    pub seq: u64,
    /// What it is.
    pub kind: Kind,
    /// When the socket task received it.
    pub received_at: Timestamp,
    /// Its bytes.
    pub body: Vec<u8>,
}

impl NewEntry {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.kind {
            Kind::Record => 1,
            Kind::Malformed => 2,
            Kind::SessionUp => 3,
            Kind::SessionDown => 4,
        });
        out.extend_from_slice(&self.received_at.as_second().to_le_bytes());
        out.extend_from_slice(&self.received_at.subsec_nanosecond().to_le_bytes());
        out.extend_from_slice(&self.body);
    }
}

pub(super) fn decode(place: &str, seq: u64, payload: &[u8]) -> Result<Entry> {
    parse(seq, payload).ok_or_else(|| {
        BackendError::new(ErrorKind::Corrupt, place, format!("entry {seq} is whole, but of a format this version does not know"))
            .remedy("read it with the version of openbell that wrote it")
    })
}

fn parse(seq: u64, payload: &[u8]) -> Option<Entry> {
    let (head, body) = payload.split_at_checked(13)?;
    let kind = match head[0] {
        1 => Kind::Record,
        2 => Kind::Malformed,
        3 => Kind::SessionUp,
        4 => Kind::SessionDown,
        _ => return None,
    };
    let seconds = i64::from_le_bytes(head[1..9].try_into().ok()?);
    let nanos = i32::from_le_bytes(head[9..13].try_into().ok()?);
    let received_at = Timestamp::from_duration(SignedDuration::new(seconds, nanos)).ok()?;
    Some(Entry { seq, kind, received_at, body: body.to_vec() })
}
