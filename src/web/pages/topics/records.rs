//! Records as people read them: JSON, text or hex, each cut at a size.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use backends::log::{Log, Partition, Range, Stored, Topic};
use backends::{BackendError, ErrorKind, Result};

/// Most bytes shown of a record's value.
pub const VALUE_BYTES: usize = 64 * 1024;
/// Most bytes shown of a key or a header.
const SMALL_BYTES: usize = 1_024;
/// Most headers shown of a record.
const HEADERS: usize = 64;
/// Most records of one look.
pub const MOST: usize = 100;

/// How bytes are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// They are a JSON text.
    Json,
    /// They are UTF-8.
    Text,
    /// They are neither: two hex digits a byte.
    Hex,
}

/// Bytes, shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Bytes)]
pub struct Shown {
    /// How.
    pub format: Format,
    /// What.
    pub text: String,
    /// How many bytes there are.
    pub size_bytes: usize,
    /// Not all of them are shown.
    pub cut: bool,
}

impl Shown {
    /// Shows at most `most` bytes.
    pub fn of(bytes: &[u8], most: usize) -> Self {
        let cut = bytes.len() > most;
        let shown = &bytes[..bytes.len().min(most)];
        let whole = match std::str::from_utf8(shown) {
            Ok(text) => Some(text),
            // A character that the cut went through.
            Err(e) if cut && e.error_len().is_none() => std::str::from_utf8(&shown[..e.valid_up_to()]).ok(),
            Err(_) => None,
        };
        let (format, text) = match whole {
            Some(text) if !cut && is_json(text) => (Format::Json, text.to_owned()),
            Some(text) => (Format::Text, text.to_owned()),
            None => (Format::Hex, hex::encode(shown)),
        };
        Self { format, text, size_bytes: bytes.len(), cut }
    }

    /// A JSON object or list over several lines; everything else as it is.
    pub fn pretty(&self) -> String {
        let spread = |value: Value| serde_json::to_string_pretty(&value).ok();
        (self.format == Format::Json)
            .then(|| serde_json::from_str::<Value>(&self.text).ok().and_then(spread))
            .flatten()
            .unwrap_or_else(|| self.text.clone())
    }
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Record)]
pub struct Seen {
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: u64,
    /// Its time.
    pub time: Timestamp,
    /// Key.
    #[schema(required)]
    pub key: Option<Shown>,
    /// Headers in their order; the first of very many.
    pub headers: Vec<(String, Shown)>,
    /// Headers there are.
    pub header_count: usize,
    /// Value.
    pub value: Shown,
}

impl Seen {
    /// Shows a record.
    pub fn of(stored: &Stored) -> Self {
        let record = &stored.record;
        let headers = record.headers.iter().take(HEADERS);
        Self {
            partition: stored.partition.number,
            offset: stored.offset,
            time: record.timestamp,
            key: record.key.as_deref().map(|k| Shown::of(k, SMALL_BYTES)),
            headers: headers.map(|(name, value)| (cut_name(name), Shown::of(value, SMALL_BYTES))).collect(),
            header_count: record.headers.len(),
            value: Shown::of(&record.value, VALUE_BYTES),
        }
    }
}

fn cut_name(name: &str) -> String {
    name.chars().take(200).collect()
}

/// Which records are looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Look {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// First offset; without it the newest records.
    pub from: Option<u64>,
    /// How many, 1 to [`MOST`].
    pub limit: usize,
}

/// Some records of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peek {
    /// What the partition holds.
    pub range: Range,
    /// In the order of their offsets.
    pub records: Vec<Seen>,
}

impl Peek {
    /// Offset after the last record shown, if there are more.
    pub fn next(&self) -> Option<u64> {
        self.records.last().map(|r| r.offset + 1).filter(|next| *next < self.range.end)
    }
}

/// Looks at records.
///
/// # Errors
/// `NotFound` for a topic or partition that is not there; what the log fails with.
pub async fn peek(log: &dyn Log, look: &Look) -> Result<Peek> {
    let known = existing(log, &look.topic).await?;
    let Some(range) = known.partitions.get(look.partition as usize).copied() else {
        let message = format!("there is no partition {}", look.partition);
        return Err(BackendError::new(ErrorKind::NotFound, format!("log topic {}", look.topic), message)
            .remedy(format!("it has the partitions 0 to {}", known.partitions.len().saturating_sub(1))));
    };
    let partition = Partition { topic: look.topic.clone(), number: look.partition };
    let newest = range.end.saturating_sub(look.limit as u64);
    let mut next = look.from.unwrap_or(newest).clamp(range.start, range.end);
    let mut records = Vec::new();
    // A read ends early when its records are large.
    while records.len() < look.limit && next < range.end {
        let read = log.read(&partition, next, look.limit - records.len()).await?;
        let Some(last) = read.last() else { break };
        next = last.offset + 1;
        records.extend(read.iter().map(Seen::of));
    }
    Ok(Peek { range, records })
}

/// A topic that must be there.
pub(crate) async fn existing(log: &dyn Log, topic: &str) -> Result<Topic> {
    log.topic(topic).await?.ok_or_else(|| {
        BackendError::new(ErrorKind::NotFound, "log", format!("there is no topic \"{topic}\""))
            .remedy("the topics page lists those there are")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_what_they_are_and_cut() {
        let shown = |bytes: &[u8], most| {
            let shown = Shown::of(bytes, most);
            (shown.format, shown.text, shown.cut)
        };
        assert_eq!(shown(b"{\"a\": 1}", 100), (Format::Json, "{\"a\": 1}".into(), false));
        assert_eq!(
            shown(b"{\"a\": 1}", 4),
            (Format::Text, "{\"a\"".into(), true),
            "a torn JSON text is a text"
        );
        assert_eq!(shown(b"0|H0STCNT0", 100), (Format::Text, "0|H0STCNT0".into(), false));
        assert_eq!(shown("삼성".as_bytes(), 4), (Format::Text, "삼".into(), true), "no half character");
        assert_eq!(shown(b"\xff\x00", 100), (Format::Hex, "ff00".into(), false));
        assert_eq!(Shown::of(b"{\"a\":[1]}", 99).pretty(), "{\n  \"a\": [\n    1\n  ]\n}");
    }
}
