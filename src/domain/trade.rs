//! A trade as it travels from the spool to every store, whatever feed it came from, and what an exchange says
//! was traded in all.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// A trade's identity, fixed at receipt. Replays, reconnects and two collectors side by side fold into one
/// id.
///
/// `{feed}:{YYYY-MM-DD}:{symbol}:{number}`. The feed is its name, or `{name}-{venue}` where a feed has
/// several venues; the date is the session's; the number is what tells this trade from the others of the
/// symbol's day, as the feed has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(String);

impl EventId {
    /// The id of a trade.
    pub fn new(feed: &str, session_date: Date, symbol: &str, number: impl fmt::Display) -> Self {
        Self(format!("{feed}:{session_date}:{symbol}:{number}"))
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

/// Who took the price that somebody else offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The buyer did.
    Buy,
    /// The seller did.
    Sell,
}

/// The value of a record on the trade topic, of a raw document, of an index document and of an object line:
/// one JSON object with the same fields everywhere, so that stores can be compared field by field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    /// Identity.
    pub id: EventId,
    /// First part of the identity: the feed's name, or `{name}-{venue}`.
    pub feed: String,
    /// What the feed calls the stream of messages it came in (`H0STCNT0`, `trade`). Older versions wrote it
    /// as `tr_id`.
    #[serde(alias = "tr_id")]
    pub channel: String,
    /// Instrument, as the exchange writes it (`005930`, `KRW-BTC`).
    pub symbol: String,
    /// The day it belongs to: the exchange's business date, or, where it never closes, the date of the trade
    /// time in the feed's zone.
    pub session_date: Date,
    /// Exchange's trade time as fine as it is told, RFC 3339 with the exchange's offset.
    pub trade_time: String,
    /// When the collector received the message, RFC 3339 with the exchange's offset, nanoseconds.
    pub received_at: String,
    /// Price, in the market's currency.
    pub price: Decimal,
    /// Quantity, in shares or units. A feed gives all its quantities one scale, so that a store sees one
    /// type.
    #[serde(with = "quantity")]
    pub quantity: Decimal,
    /// Which side took the price, where the feed says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// Volume of the day up to and including this trade, shares, where the feed says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulated_volume: Option<i64>,
    /// Traded value of the day up to and including this trade, in the market's currency, where the feed says
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulated_value: Option<i64>,
    /// Every field of the wire under the exchange's own name, text exactly as sent (numbers as their text).
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

/// What the exchange says was traded of a symbol in some time: the other side of a sum over received trades.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// As in [`Trade::feed`].
    pub feed: String,
    /// Instrument.
    pub symbol: String,
    /// The day it belongs to, as in [`Trade::session_date`].
    pub session_date: Date,
    /// First instant of the time.
    pub from: Timestamp,
    /// First instant after it.
    pub to: Timestamp,
    /// Shares or units traded.
    #[serde(with = "quantity")]
    pub volume: Decimal,
    /// Traded value, in the market's currency, where the exchange says it exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Decimal>,
    /// Number of trades, where the exchange says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trades: Option<u64>,
}

/// A quantity in JSON: a whole one without decimals is a number (shares), any other a text (`"0.00009372"`),
/// so that no reader makes a rounded binary number of it.
pub mod quantity {
    use std::fmt;

    use rust_decimal::Decimal;
    use rust_decimal::prelude::ToPrimitive;
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    /// Writes it.
    ///
    /// # Errors
    /// The serialiser's own.
    pub fn serialize<S: Serializer>(quantity: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
        match quantity.to_i64().filter(|_| quantity.scale() == 0) {
            Some(whole) => serializer.serialize_i64(whole),
            None => serializer.collect_str(quantity),
        }
    }

    /// The JSON value.
    pub fn value(quantity: &Decimal) -> serde_json::Value {
        serialize(quantity, serde_json::value::Serializer).unwrap_or_default()
    }

    /// Reads either form.
    ///
    /// # Errors
    /// A text that is not a decimal, and a number with a fraction, which is rounded before anybody can look
    /// at it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
        deserializer.deserialize_any(Either)
    }

    struct Either;

    impl Visitor<'_> for Either {
        type Value = Decimal;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number, or a decimal as text")
        }

        fn visit_i64<E: Error>(self, whole: i64) -> Result<Decimal, E> {
            Ok(whole.into())
        }

        fn visit_u64<E: Error>(self, whole: u64) -> Result<Decimal, E> {
            Ok(whole.into())
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Decimal, E> {
            Decimal::from_str_exact(text).map_err(|e| E::custom(format!("\"{text}\" is not a quantity: {e}")))
        }
    }
}

/// Formats an instant in a zone as RFC 3339 with the zone's offset: `2026-11-20T09:00:01.5+09:00`.
pub fn rfc3339(at: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    at.display_with_offset(zone.to_offset(at)).to_string()
}

#[cfg(test)]
mod tests;
