//! A trade as it travels from the spool to every store.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// A trade's identity, fixed at receipt. Replays, reconnects and two collectors side by side fold into one id.
///
/// KIS: `kis:{YYYY-MM-DD}:{symbol}:{ACML_VOL}` (venue feeds `kis-un`, `kis-nx`): accumulated volume rises with each trade.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(String);

impl EventId {
    /// Id of a KIS trade. `feed` is `kis`, `kis-un` or `kis-nx`.
    pub fn kis(feed: &str, date: Date, symbol: &str, accumulated_volume: i64) -> Self {
        Self(format!("{feed}:{date}:{symbol}:{accumulated_volume}"))
    }
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Prefix shared by all ids of a feed on a date.
    pub fn date_prefix(feed: &str, date: Date) -> String {
        format!("{feed}:{date}:")
    }
}

impl From<String> for EventId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a record on the trade topic, of a raw document, of an index document and of an object line: one JSON
/// object with the same fields everywhere, so that stores can be compared field by field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    /// Identity.
    pub id: EventId,
    /// Feed prefix (`kis`).
    pub feed: String,
    /// Message type on the feed (`H0STCNT0`).
    pub tr_id: String,
    /// Instrument (`005930`).
    pub symbol: String,
    /// Exchange's business date.
    pub session_date: Date,
    /// Exchange's trade time (one-second resolution on KIS), RFC 3339 with the exchange's offset.
    pub trade_time: String,
    /// When the collector's socket task received the frame, RFC 3339 with the exchange's offset, nanoseconds.
    pub received_at: String,
    /// Price, KRW.
    pub price: Decimal,
    /// Quantity, shares.
    pub quantity: i64,
    /// Volume of the day up to and including this trade, shares.
    pub accumulated_volume: i64,
    /// Traded value of the day up to and including this trade, KRW.
    pub accumulated_value: i64,
    /// Every field of the wire, upper-case names, text exactly as sent.
    pub fields: BTreeMap<String, String>,
}

impl Trade {
    /// `received_at` as an instant.
    ///
    /// # Errors
    /// When the text is not RFC 3339.
    pub fn received(&self) -> Result<Timestamp, jiff::Error> {
        self.received_at.parse()
    }
    /// `trade_time` as an instant.
    ///
    /// # Errors
    /// When the text is not RFC 3339.
    pub fn traded(&self) -> Result<Timestamp, jiff::Error> {
        self.trade_time.parse()
    }
}

/// Formats an instant in a zone as RFC 3339 with the zone's offset: `2026-11-20T09:00:01.5+09:00`.
pub fn rfc3339(at: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    at.display_with_offset(zone.to_offset(at)).to_string()
}
