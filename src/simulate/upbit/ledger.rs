//! The exchange's own ledger: every trade, and the messages it is rendered to.

use std::fmt::Write;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde::Serialize;
use serde::ser::SerializeStruct;

use super::markets::PRICE_DECIMALS;
use crate::korea::{KST, korean};
use domain::trade::EventId;

/// Decimals of a volume in a ledger.
pub const VOLUME_DECIMALS: u32 = 8;

/// One trade in the exchange's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerTrade {
    /// When its message leaves the exchange.
    pub at: Timestamp,
    /// When it was made, whole milliseconds: some of them before.
    pub traded: Timestamp,
    /// Market.
    pub code: Arc<str>,
    /// Price, in units of 10^-4 won.
    pub price: i64,
    /// Volume, in units of 10^-8 coins.
    pub volume: i64,
    /// Whether the buyer took the price (`BID`).
    pub buy: bool,
    /// Its number.
    pub sequential_id: u64,
    /// The market's day so far, this trade included; days of the exchange begin at midnight in London.
    pub so_far: DaySoFar,
}

/// What a message says besides its trade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaySoFar {
    /// The last price of the day before.
    pub previous_close: i64,
    /// First, highest and lowest price.
    pub prices: (i64, i64, i64),
    /// Volumes that sellers and buyers took.
    pub volumes: (i128, i128),
    /// Value, in units of 10^-12 won.
    pub value: i128,
    /// Best ask and best bid.
    pub best: (i64, i64),
}

/// A channel of the WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Every trade.
    Trade,
    /// The state of a market.
    Ticker,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Trade, Self::Ticker];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trade => "trade",
            Self::Ticker => "ticker",
        }
    }
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Format {
    /// With short names.
    pub short: bool,
    /// In an array.
    pub list: bool,
}

/// Whether a message is the last trade at a subscription or a trade as it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// At a subscription.
    Snapshot,
    /// As it happens.
    Realtime,
}

impl LedgerTrade {
    /// The day in Korea that it belongs to.
    pub fn session_date(&self) -> Date {
        korean(self.traded).date()
    }

    /// The id that a collector gives this trade.
    pub fn id(&self) -> EventId {
        EventId::new("upbit", self.session_date(), &self.code, self.sequential_id)
    }

    /// Its volume.
    pub fn quantity(&self) -> Decimal {
        Decimal::new(self.volume, VOLUME_DECIMALS)
    }

    /// The message about it. Numbers have trailing zeros and exponents here and there, as the exchange's
    /// have.
    pub fn message(&self, channel: Channel, format: Format, stream: Stream) -> String {
        let mut out = Object::new(format.short);
        match channel {
            Channel::Trade => self.trade(&mut out),
            Channel::Ticker => self.ticker(&mut out),
        }
        let stream = if stream == Stream::Snapshot { "SNAPSHOT" } else { "REALTIME" };
        out.text("stream_type", "st", stream);
        let text = out.end();
        if format.list { format!("[{text}]") } else { text }
    }

    fn trade(&self, out: &mut Object) {
        let change = self.price - self.so_far.previous_close;
        let utc = TimeZone::UTC.to_datetime(self.traded);
        out.text("type", "ty", "trade");
        out.text("code", "cd", &self.code);
        out.raw("timestamp", "tms", self.at.as_millisecond());
        out.text("trade_date", "td", &utc.strftime("%Y-%m-%d").to_string());
        out.text("trade_time", "ttm", &utc.strftime("%H:%M:%S").to_string());
        out.raw("trade_timestamp", "ttms", self.traded.as_millisecond());
        out.raw("trade_price", "tp", price(self.price, self.sequential_id));
        out.raw("trade_volume", "tv", fixed(self.volume.into(), VOLUME_DECIMALS));
        out.text("ask_bid", "ab", if self.buy { "BID" } else { "ASK" });
        out.raw("prev_closing_price", "pcp", price(self.so_far.previous_close, 1));
        out.text("change", "c", direction(change));
        out.raw("change_price", "cp", price(change.abs(), 1));
        out.raw("sequential_id", "sid", self.sequential_id);
        out.raw("best_ask_price", "bap", price(self.so_far.best.0, 0));
        out.raw("best_ask_size", "bas", fixed(i128::from(self.volume) * 3 + 7, VOLUME_DECIMALS));
        out.raw("best_bid_price", "bbp", price(self.so_far.best.1, 0));
        out.raw("best_bid_size", "bbs", fixed(i128::from(self.volume) * 2 + 11, VOLUME_DECIMALS));
    }

    fn ticker(&self, out: &mut Object) {
        let day = &self.so_far;
        let change = self.price - day.previous_close;
        let utc = TimeZone::UTC.to_datetime(self.traded);
        let rate = Decimal::new(change, 0) / Decimal::new(day.previous_close.max(1), 0);
        out.text("type", "ty", "ticker");
        out.text("code", "cd", &self.code);
        for (name, short, value) in [
            ("opening_price", "op", day.prices.0),
            ("high_price", "hp", day.prices.1),
            ("low_price", "lp", day.prices.2),
            ("trade_price", "tp", self.price),
            ("prev_closing_price", "pcp", day.previous_close),
        ] {
            out.raw(name, short, price(value, self.sequential_id));
        }
        out.text("change", "c", direction(change));
        out.raw("change_price", "cp", price(change.abs(), 0));
        out.raw("signed_change_price", "scp", price(change, 0));
        out.raw("change_rate", "cr", rate.abs().round_dp(10));
        out.raw("signed_change_rate", "scr", rate.round_dp(10));
        out.raw("trade_volume", "tv", fixed(self.volume.into(), VOLUME_DECIMALS));
        out.raw("acc_trade_volume", "atv", fixed(day.volumes.0 + day.volumes.1, VOLUME_DECIMALS));
        out.raw("acc_trade_price", "atp", fixed(day.value, PRICE_DECIMALS + VOLUME_DECIMALS));
        out.text("trade_date", "tdt", &utc.strftime("%Y%m%d").to_string());
        out.text("trade_time", "ttm", &utc.strftime("%H%M%S").to_string());
        out.raw("trade_timestamp", "ttms", self.traded.as_millisecond());
        out.text("ask_bid", "ab", if self.buy { "BID" } else { "ASK" });
        out.raw("acc_ask_volume", "aav", fixed(day.volumes.0, VOLUME_DECIMALS));
        out.raw("acc_bid_volume", "abv", fixed(day.volumes.1, VOLUME_DECIMALS));
        out.text("market_state", "ms", "ACTIVE");
        out.raw("is_trading_suspended", "its", false);
        out.raw("delisting_date", "dd", "null");
        out.text("market_warning", "mw", "NONE");
        out.raw("timestamp", "tms", self.at.as_millisecond());
    }
}

impl Serialize for LedgerTrade {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("LedgerTrade", 8)?;
        out.serialize_field("id", self.id().as_str())?;
        out.serialize_field("at", &self.at.display_with_offset(KST).to_string())?;
        out.serialize_field("traded", &self.traded.display_with_offset(KST).to_string())?;
        out.serialize_field("symbol", &*self.code)?;
        out.serialize_field("price", &fixed(self.price.into(), PRICE_DECIMALS))?;
        out.serialize_field("quantity", &fixed(self.volume.into(), VOLUME_DECIMALS))?;
        out.serialize_field("side", if self.buy { "buy" } else { "sell" })?;
        out.serialize_field("sequential_id", &self.sequential_id)?;
        out.end()
    }
}

/// The number after a trade time that tells trades of a millisecond apart: a day's ids go up, those of a
/// millisecond in any order.
pub(super) fn sequential_id(traded: Timestamp, number: u64) -> u64 {
    traded.as_millisecond().unsigned_abs() * 10_000 + number
}

/// How long after a trade its message leaves.
pub(super) fn delay(number: u64) -> SignedDuration {
    SignedDuration::from_millis(15 + (number % 60) as i64)
}

/// An integer of units as a decimal number.
pub(super) fn fixed(units: i128, decimals: u32) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", units.unsigned_abs(), width = decimals as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals as usize);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// A price as the exchange writes it: one in three with eight decimals, one in three with an exponent where
/// it is large.
fn price(units: i64, style: u64) -> String {
    let plain = fixed(units.into(), PRICE_DECIMALS);
    match style % 3 {
        1 => {
            let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
            format!("{whole}.{fraction:0<8}")
        }
        2 if units.abs() >= 100_000_000_000 && !plain.contains('.') => {
            let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_str()), |digits| ("-", digits));
            let (first, rest) = digits.split_at(1);
            let rest = rest.trim_end_matches('0');
            let rest = if rest.is_empty() { "0" } else { rest };
            format!("{sign}{first}.{rest}E{}", digits.len() - 1)
        }
        _ => plain,
    }
}

fn direction(change: i64) -> &'static str {
    match change {
        1.. => "RISE",
        0 => "EVEN",
        _ => "FALL",
    }
}

/// A JSON object in the order in which it is written, with numbers exactly as they are given.
struct Object {
    text: String,
    short: bool,
}

impl Object {
    fn new(short: bool) -> Self {
        Self { text: String::from("{"), short }
    }

    fn raw(&mut self, name: &str, short: &str, value: impl std::fmt::Display) {
        let comma = if self.text.len() == 1 { "" } else { "," };
        // Writing to a text cannot fail.
        write!(self.text, "{comma}\"{}\":{value}", if self.short { short } else { name }).unwrap_or_default();
    }

    /// Only words that need no escaping.
    fn text(&mut self, name: &str, short: &str, value: &str) {
        self.raw(name, short, format_args!("\"{value}\""));
    }

    fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_the_exchange_s_ways() {
        assert_eq!(
            (fixed(5, 8), fixed(-150, 2), fixed(0, 8)),
            ("0.00000005".into(), "-1.5".into(), "0".into())
        );
        assert_eq!(price(1_066_910_000_000, 0), "106691000");
        assert_eq!(price(1_066_910_000_000, 1), "106691000.00000000");
        assert_eq!(price(1_066_910_000_000, 2), "1.06691E8");
        assert_eq!(price(1_000_000_000_000, 2), "1.0E8");
        assert_eq!(
            (price(142, 0), price(142, 1), price(142, 2)),
            ("0.0142".into(), "0.01420000".into(), "0.0142".into())
        );
    }
}
