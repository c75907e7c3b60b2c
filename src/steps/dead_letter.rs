//! Dead letters: what could not be processed, kept with Kafka Connect's headers.
//!
//! Key and value stay untouched. A dead letter may be written twice (the reply of the first append was lost); readers fold
//! by [`identity`].

use jiff::Timestamp;

use backends::log::{Record, Stored};

/// Why a record cannot be processed, ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where it failed.
    pub stage: Stage,
    /// Short stable word for grouping (`undecodable`, `rejected`).
    pub cause: String,
    /// What is wrong, in words.
    pub message: String,
}

impl Refusal {
    /// Builds a refusal.
    pub fn new(stage: Stage, cause: impl Into<String>, message: impl Into<String>) -> Self {
        Self { stage, cause: cause.into(), message: message.into() }
    }
}

/// Where a record failed, in Kafka Connect's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its value could not be read.
    ValueConverter,
    /// The store refused it.
    TaskPut,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::ValueConverter => "VALUE_CONVERTER",
            Self::TaskPut => "TASK_PUT",
        }
    }
}

/// Prefix of Kafka Connect's error headers.
pub const PREFIX: &str = "__connect.errors.";

/// Header of a record that was replayed: the dead letter it came from, `{topic}/{partition}/{offset}`.
pub const REPLAY: &str = "openbell.replay";

/// The dead-letter topic of a topic.
pub fn topic_of(topic: &str) -> String {
    format!("{topic}.dlq")
}

/// Who refuses: `{dag}/{step}`, the program, and which of its parallel parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refuser {
    /// `{dag}/{step}`.
    pub connector: String,
    /// The step program (`sink/index`).
    pub program: String,
}

/// The dead letter of a record.
pub fn letter(refuser: &Refuser, record: Stored, refusal: &Refusal, now: Timestamp) -> Record {
    let mut headers = record.record.headers;
    let mut add = |name: &str, value: String| headers.push((format!("{PREFIX}{name}"), value.into_bytes()));
    add("topic", record.partition.topic.clone());
    add("partition", record.partition.number.to_string());
    add("offset", record.offset.to_string());
    add("connector.name", refuser.connector.clone());
    add("task.id", record.partition.number.to_string());
    add("stage", refusal.stage.as_str().to_owned());
    add("class.name", refuser.program.clone());
    add("exception.class.name", refusal.cause.clone());
    add("exception.message", refusal.message.clone());
    Record { key: record.record.key, value: record.record.value, headers, timestamp: now }
}

/// The text of one of a dead letter's error headers (`exception.class.name`).
pub fn error_header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.header(&format!("{PREFIX}{name}")).and_then(|v| std::str::from_utf8(v).ok())
}

/// Cause of a dead letter; `unknown` when nobody said.
pub fn cause(record: &Record) -> &str {
    error_header(record, "exception.class.name").unwrap_or("unknown")
}

/// What makes two dead letters the same one: who refused, and the place of the record it refused.
pub fn identity(record: &Stored) -> String {
    let header = |name| error_header(&record.record, name).unwrap_or("");
    let place = match record.record.header("openbell.spool").map(String::from_utf8_lossy) {
        // A collector's dead letter has no place on the log; the spool sequence is its place.
        Some(spool) if header("topic").is_empty() || header("offset").is_empty() => spool.into_owned(),
        Some(spool) => format!("{}/{}/{}/{spool}", header("topic"), header("partition"), header("offset")),
        None => format!("{}/{}/{}", header("topic"), header("partition"), header("offset")),
    };
    if place == "//" {
        return format!("offset {}", record.offset);
    }
    format!("{} {place}", header("connector.name"))
}
