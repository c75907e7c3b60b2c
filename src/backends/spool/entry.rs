//! What a spool holds.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use crate::{BackendError, ErrorKind, Result};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A trade's wire text as older versions kept it; only a feed can read it.
    Record,
    /// A message that could not be read, as received: a [`MalformedBody`].
    Malformed,
    /// The feed's session came up (body: JSON facts).
    SessionUp,
    /// The feed's session went down (body: JSON facts).
    SessionDown,
    /// A trade, judged at receipt: a [`TradeBody`].
    Trade,
    /// What the exchange says was traded: a `domain::trade::Total` as JSON.
    Total,
}

/// The body of a [`Kind::Trade`]: `{id}\n{symbol}\n{JSON}`. Whoever hands it on needs not read the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TradeBody<'a> {
    /// Event id.
    pub id: &'a str,
    /// Instrument.
    pub symbol: &'a str,
    /// The `domain::trade::Trade` as JSON, as every store holds it.
    pub json: &'a [u8],
}

impl<'a> TradeBody<'a> {
    /// Its bytes. Id and symbol hold no line break.
    pub fn encode(&self) -> Vec<u8> {
        [self.id.as_bytes(), self.symbol.as_bytes(), self.json].join(&b'\n')
    }

    /// Reads it; `None` for other bytes.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut parts = body.splitn(3, |b| *b == b'\n');
        let mut text = || std::str::from_utf8(parts.next()?).ok().filter(|text| !text.is_empty());
        let (id, symbol) = (text()?, text()?);
        Some(Self { id, symbol, json: parts.next()? })
    }
}

/// The body of a [`Kind::Malformed`]: `{cause}\n{message}\n{bytes}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedBody<'a> {
    /// The stable word.
    pub cause: Cow<'a, str>,
    /// What is wrong, in one line.
    pub message: Cow<'a, str>,
    /// The message as received.
    pub bytes: &'a [u8],
}

impl<'a> MalformedBody<'a> {
    /// Its bytes; line breaks in the words become spaces.
    pub fn encode(&self) -> Vec<u8> {
        let line = |text: &str| text.replace('\n', " ").into_bytes();
        [line(&self.cause).as_slice(), line(&self.message).as_slice(), self.bytes].join(&b'\n')
    }

    /// Reads it; what is not there is empty.
    pub fn parse(body: &'a [u8]) -> Self {
        let mut parts = body.splitn(3, |b| *b == b'\n');
        let mut line = || parts.next().map(String::from_utf8_lossy).unwrap_or_default();
        Self { cause: line(), message: line(), bytes: parts.next().unwrap_or_default() }
    }
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
            Kind::Trade => 5,
            Kind::Total => 6,
        });
        out.extend_from_slice(&self.received_at.as_second().to_le_bytes());
        out.extend_from_slice(&self.received_at.subsec_nanosecond().to_le_bytes());
        out.extend_from_slice(&self.body);
    }
}

pub(super) fn decode(place: &str, seq: u64, payload: &[u8]) -> Result<Entry> {
    parse(seq, payload).ok_or_else(|| {
        BackendError::new(
            ErrorKind::Corrupt,
            place,
            format!("entry {seq} is whole, but of a format this version does not know"),
        )
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
        5 => Kind::Trade,
        6 => Kind::Total,
        _ => return None,
    };
    let seconds = i64::from_le_bytes(head[1..9].try_into().ok()?);
    let nanos = i32::from_le_bytes(head[9..13].try_into().ok()?);
    let received_at = Timestamp::from_duration(SignedDuration::new(seconds, nanos)).ok()?;
    Some(Entry { seq, kind, received_at, body: body.to_vec() })
}
