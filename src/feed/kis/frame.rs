//! Data frames: `flag|tr_id|count|payload`, the payload being `count` records of equal width joined by `^`.

use std::ops::Range;

use super::control::{self, Control};
use super::layout::{Content, Field, Layout};
use crate::Refused;

/// What came over the socket.
#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    /// Records in plain text.
    Data(Frame<'a>),
    /// Records under AES; [`Sealed::open`] gives the text.
    Sealed(Sealed<'a>),
    /// A reply to a subscription, or a PINGPONG.
    Control(Control),
}

/// A plain data frame whose records have been found; fields are not judged yet.
#[derive(Debug, PartialEq)]
pub struct Frame<'a> {
    layout: &'static Layout,
    shape: &'static [Field],
    payload: &'a str,
    /// Where each field starts, and one past the end: `start[n + 1] - 1` is the end of field `n`.
    starts: Vec<u32>,
}

/// An encrypted data frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// The message type as sent.
    pub tr_id: &'a str,
    /// How many records the frame claims to hold.
    pub count: usize,
    /// Base64 of the ciphertext.
    pub payload: &'a str,
}

/// One record of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Record<'f> {
    frame: &'f Frame<'f>,
    first: usize,
}

/// Reads one WebSocket message, text or binary.
///
/// # Errors
/// `empty`, `bad_utf8`, `truncated`, `bad_flag`, `bad_count`, `unknown_tr_id`, `wrong_width`, `too_long` for
/// data frames; see [`control::parse`] for control messages. Messages never repeat more of the input than
/// names and numbers.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Refused> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let message = format!("byte {} is not UTF-8", e.valid_up_to());
            return Err(Refused { cause: "bad_utf8", message });
        }
    };
    match bytes.first() {
        None => Err(Refused { cause: "empty", message: "the frame is empty".into() }),
        Some(b'{') => control::parse(text).map(Message::Control),
        Some(_) => data(text),
    }
}

fn data(text: &str) -> Result<Message<'_>, Refused> {
    let mut parts = text.splitn(4, '|');
    let (Some(flag), Some(tr_id), Some(count), Some(payload)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        let found = text.split('|').count();
        return Err(Refused {
            cause: "truncated",
            message: format!("a data frame has four parts (flag|tr_id|count|payload), this one has {found}"),
        });
    };
    let sealed = match flag {
        "0" => false,
        "1" => true,
        other => {
            return Err(Refused {
                cause: "bad_flag",
                message: format!("the flag is \"{}\", expected 0 or 1", short(other)),
            });
        }
    };
    let count = match count.parse::<u16>() {
        Ok(n) if (1..=999).contains(&n) && count.bytes().all(|b| b.is_ascii_digit()) => usize::from(n),
        _ => {
            let message = format!("the record count is \"{}\", expected three digits from 001", short(count));
            return Err(Refused { cause: "bad_count", message });
        }
    };
    if sealed {
        return Ok(Message::Sealed(Sealed { tr_id, count, payload }));
    }
    Frame::new(tr_id, count, payload).map(Message::Data)
}

/// Enough of an unexpected text to recognise it.
pub(super) fn short(text: &str) -> String {
    let mut shown: String =
        text.chars().take(24).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(24).is_some() {
        shown.push('…');
    }
    shown
}

impl<'a> Frame<'a> {
    /// Finds the records of a plain payload. The width is derived (fields / count) and must be one that the
    /// type is known to have: KIS adds fields at days' notice, and a frame read at the wrong width is silent
    /// nonsense.
    ///
    /// # Errors
    /// `unknown_tr_id`, `wrong_width`, `too_long`.
    pub fn new(tr_id: &str, count: usize, payload: &'a str) -> Result<Self, Refused> {
        let Some(layout) = Layout::of(tr_id) else {
            return Err(Refused {
                cause: "unknown_tr_id",
                message: format!("message type \"{}\" is not known", short(tr_id)),
            });
        };
        let starts = field_starts(payload)?;
        let fields = starts.len() - 1;
        let shape = if fields.is_multiple_of(count) { layout.shape(fields / count) } else { None };
        let Some(shape) = shape else {
            let message = format!(
                "{fields} fields in {count} record(s) of {tr_id}, expected {} fields a record",
                layout.widths()
            );
            return Err(Refused { cause: "wrong_width", message });
        };
        Ok(Self { layout, shape, payload, starts })
    }

    /// The message type.
    pub fn tr_id(&self) -> &'static str {
        self.layout.tr_id
    }

    /// What the message type is about.
    pub fn content(&self) -> Content {
        self.layout.content
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        (self.starts.len() - 1) / self.shape.len()
    }

    /// Never: a frame holds at least one record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records, in the order sent.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        (0..self.len()).map(|n| Record { frame: self, first: n * self.shape.len() })
    }

    fn span(&self, first: usize, last: usize) -> Range<usize> {
        self.starts[first] as usize..self.starts[last + 1] as usize - 1
    }
}

/// Positions after each `^`, eight bytes at a time: this scan is most of the cost of a frame.
fn field_starts(payload: &str) -> Result<Vec<u32>, Refused> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const CARET: u64 = LOW * b'^' as u64;
    if payload.len() >= u32::MAX as usize {
        return Err(Refused {
            cause: "too_long",
            message: format!("the payload has {} bytes", payload.len()),
        });
    }
    let bytes = payload.as_bytes();
    let mut starts = Vec::with_capacity(bytes.len() / 5 + 8);
    starts.push(0);
    let mut chunks = bytes.chunks_exact(8);
    let mut base = 0u32;
    for chunk in &mut chunks {
        let word = u64::from_le_bytes([
            chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7],
        ]) ^ CARET;
        // High bit of each byte that is zero now, exactly: bytes are below 0x80 after the mask, so no borrow
        // crosses them.
        let mut hits = !(((word & !HIGH) + (LOW * 0x7f)) | word) & HIGH;
        while hits != 0 {
            starts.push(base + hits.trailing_zeros() / 8 + 1);
            hits &= hits - 1;
        }
        base += 8;
    }
    for (n, byte) in (0u32..).zip(chunks.remainder()) {
        if *byte == b'^' {
            starts.push(base + n + 1);
        }
    }
    starts.push(bytes.len() as u32 + 1);
    Ok(starts)
}

impl<'f> Record<'f> {
    /// The message type.
    pub fn tr_id(&self) -> &'static str {
        self.frame.layout.tr_id
    }

    /// What the message type is about.
    pub fn content(&self) -> Content {
        self.frame.layout.content
    }

    /// Names and kinds of the fields, in the order sent.
    pub fn shape(&self) -> &'static [Field] {
        self.frame.shape
    }

    /// The record's text: its fields joined by `^`, exactly as sent.
    pub fn text(&self) -> &'f str {
        &self.frame.payload[self.frame.span(self.first, self.first + self.frame.shape.len() - 1)]
    }

    /// The form in which the spool keeps it: `{tr_id}|{field^field^…}`.
    pub fn wire(&self) -> String {
        let text = self.text();
        let mut wire = String::with_capacity(self.tr_id().len() + 1 + text.len());
        wire.push_str(self.tr_id());
        wire.push('|');
        wire.push_str(text);
        wire
    }

    /// Field number `at`, exactly as sent.
    ///
    /// # Panics
    /// When the record has no field of this number.
    pub fn field(&self, at: usize) -> &'f str {
        assert!(at < self.frame.shape.len(), "a {} record has no field {at}", self.tr_id());
        &self.frame.payload[self.frame.span(self.first + at, self.first + at)]
    }

    /// The field of this name.
    pub fn get(&self, name: &str) -> Option<&'f str> {
        self.frame.shape.iter().position(|f| f.name == name).map(|at| self.field(at))
    }

    /// Names and texts, in the order sent.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &'f str)> {
        let record = *self;
        self.frame.shape.iter().enumerate().map(move |(at, field)| (field.name, record.field(at)))
    }

    /// The instrument's code.
    pub fn symbol(&self) -> &'f str {
        self.field(self.frame.layout.symbol)
    }
}
