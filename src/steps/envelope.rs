//! The little of a trade record that a sink needs to know: its identity and where it belongs.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;

use super::dead_letters::{Refusal, Stage};
use backends::log::Stored;

/// Header of a record that was sent again, to a topic that was deleted and made anew; the value is the id of
/// the spool it came from. Its timestamp is the time of that sending.
pub const REFILL: &str = "openbell.refill";

/// Header with the collecting step's spool and the number in it that a record has: `{spool}:{number}`.
pub const SPOOL: &str = "openbell.spool";

/// Identity and place of a record whose value is a [`domain::trade::Trade`]. Reading it checks that the whole
/// value is one JSON object, without building the wire fields.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Envelope {
    /// Event id.
    pub id: String,
    /// Exchange's business date.
    pub session_date: Date,
    /// When the collector received it.
    pub received_at: Timestamp,
}

impl Envelope {
    /// Reads the envelope of a record.
    ///
    /// # Errors
    /// The cause `undecodable` and what is wrong with the value.
    pub fn read(record: &Stored) -> Result<Self, Refusal> {
        let envelope: Self = serde_json::from_slice(&record.record.value).map_err(|e| {
            Refusal::new(Stage::ValueConverter, "undecodable", format!("the value is not a trade: {e}"))
        })?;
        if envelope.id.is_empty() {
            return Err(Refusal::new(
                Stage::ValueConverter,
                "undecodable",
                "the value is not a trade: its id is empty",
            ));
        }
        Ok(envelope)
    }
}

/// The event id of a record: its header, or what the value says.
pub fn event_id(record: &Stored) -> Option<String> {
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    match record.record.header("openbell.id").map(std::str::from_utf8) {
        Some(Ok(id)) if !id.is_empty() => Some(id.to_owned()),
        _ => serde_json::from_slice::<Id>(&record.record.value).ok().map(|v| v.id),
    }
}

/// The record's JSON object with `topic_partition` and `topic_offset` added; everything else byte for byte as
/// on the log. The value must be a JSON object with at least one member ([`Envelope::read`] has checked it).
pub fn with_place(record: &Stored) -> Vec<u8> {
    let value = &record.record.value;
    let end = value.iter().rposition(|b| *b == b'}').unwrap_or(value.len());
    let mut line = Vec::with_capacity(value.len() + 48);
    line.extend_from_slice(&value[..end]);
    line.extend_from_slice(
        format!(",\"topic_partition\":{},\"topic_offset\":{}}}", record.partition.number, record.offset)
            .as_bytes(),
    );
    line
}
