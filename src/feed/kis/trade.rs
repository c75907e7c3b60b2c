//! A trade record's fields → a [`Trade`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::{Offset, TimeZone};
use rust_decimal::Decimal;

use super::frame::{Frame, Record, short};
use super::layout::{Content, Field, Kind, trade_at};
use crate::Refused;
use domain::trade::{EventId, Trade, rfc3339};

/// Korea has had one offset, all year, since 1988.
pub(super) const KOREA: Offset = jiff::tz::offset(9);

/// What identifies a trade and says how much was traded, without the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Essence<'f> {
    /// Feed prefix: `kis`, `kis-un`, `kis-nx`.
    pub feed: &'static str,
    /// Instrument.
    pub symbol: &'f str,
    /// Exchange's business date.
    pub date: Date,
    /// Exchange's trade time, Korean time, one-second resolution.
    pub time: Time,
    /// Price, KRW.
    pub price: Decimal,
    /// Quantity, shares.
    pub quantity: i64,
    /// Volume of the day up to and including this trade, shares.
    pub accumulated_volume: i64,
    /// Traded value of the day up to and including this trade, KRW.
    pub accumulated_value: i64,
}

impl<'f> Essence<'f> {
    /// Judges every field of a trade record. Fields without which there is no trade must be there and valid;
    /// the others may be empty or `(null)`, as KIS sends them, but not something else than their kind.
    ///
    /// # Errors
    /// `not_a_trade`, `missing_field`, `bad_number`, `bad_date`, `bad_time`, each with number and name of the
    /// field.
    pub fn of(record: &Record<'f>) -> Result<Self, Refused> {
        let Content::Trade { feed } = record.content() else {
            return Err(Refused {
                cause: "not_a_trade",
                message: format!("{} records are not trades", record.tr_id()),
            });
        };
        for (at, field) in record.shape().iter().enumerate() {
            let text = record.field(at);
            if text.is_empty() || text == "(null)" {
                if trade_at::ESSENTIAL.contains(&at) {
                    return Err(fault("missing_field", at, field, "is empty"));
                }
                continue;
            }
            check(at, field, text)?;
        }
        let symbol = record.field(trade_at::SYMBOL);
        if symbol.len() > 9 || !symbol.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(fault(
                "bad_symbol",
                trade_at::SYMBOL,
                &record.shape()[trade_at::SYMBOL],
                "is not an instrument's code",
            ));
        }
        let integer = |at: usize| {
            let text = record.field(at);
            text.parse::<i64>().map_err(|_| {
                fault(
                    "bad_number",
                    at,
                    &record.shape()[at],
                    &format!("is \"{}\", beyond what 64 bits hold", short(text)),
                )
            })
        };
        let price = Decimal::from_str_exact(record.field(trade_at::PRICE)).map_err(|_| {
            fault(
                "bad_number",
                trade_at::PRICE,
                &record.shape()[trade_at::PRICE],
                "has more digits than a price can have",
            )
        })?;
        let date = date(record.field(trade_at::DATE)).ok_or_else(|| {
            fault("bad_date", trade_at::DATE, &record.shape()[trade_at::DATE], "is not a date YYYYMMDD")
        })?;
        let time = time(record.field(trade_at::TIME)).ok_or_else(|| {
            fault("bad_time", trade_at::TIME, &record.shape()[trade_at::TIME], "is not a time HHMMSS")
        })?;
        Ok(Self {
            feed,
            symbol,
            date,
            time,
            price,
            quantity: integer(trade_at::QUANTITY)?,
            accumulated_volume: integer(trade_at::ACCUMULATED_VOLUME)?,
            accumulated_value: integer(trade_at::ACCUMULATED_VALUE)?,
        })
    }

    /// The trade's identity.
    pub fn id(&self) -> EventId {
        EventId::new(self.feed, self.date, self.symbol, self.accumulated_volume)
    }

    /// The trade's time as RFC 3339 with Korea's offset.
    pub fn trade_time(&self) -> String {
        let (d, t) = (self.date, self.time);
        let (year, month, day, hour, minute, second) =
            (d.year(), d.month(), d.day(), t.hour(), t.minute(), t.second());
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+09:00")
    }
}

fn fault(cause: &'static str, at: usize, field: &Field, what: &str) -> Refused {
    Refused { cause, message: format!("field {at} {} {what}", field.name) }
}

/// Whether a text that is there is of its field's kind.
fn check(at: usize, field: &Field, text: &str) -> Result<(), Refused> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (good, cause, expected) = match field.kind {
        Kind::Text => return Ok(()),
        Kind::Integer => (digits(unsigned), "bad_number", "a whole number"),
        Kind::Decimal => {
            let good = match unsigned.split_once('.') {
                None => digits(unsigned),
                Some((whole, fraction)) => digits(whole) && digits(fraction),
            };
            (good, "bad_number", "a number")
        }
        // Only the trade's own date and time are judged as such; times of the day's open, high and low have
        // been seen as 0.
        Kind::Date => (digits(text) && text.len() == 8, "bad_date", "a date YYYYMMDD"),
        Kind::Time => (digits(text) && text.len() <= 6, "bad_time", "a time HHMMSS"),
    };
    if good {
        Ok(())
    } else {
        Err(fault(cause, at, field, &format!("is \"{}\", expected {expected}", short(text))))
    }
}

fn date(text: &str) -> Option<Date> {
    let [y1, y2, y3, y4, m1, m2, d1, d2] = digits::<8>(text)?;
    let year = i16::from(y1) * 1000 + i16::from(y2) * 100 + i16::from(y3) * 10 + i16::from(y4);
    Date::new(year, (m1 * 10 + m2) as i8, (d1 * 10 + d2) as i8).ok()
}

fn time(text: &str) -> Option<Time> {
    let [h1, h2, m1, m2, s1, s2] = digits::<6>(text)?;
    Time::new((h1 * 10 + h2) as i8, (m1 * 10 + m2) as i8, (s1 * 10 + s2) as i8, 0).ok()
}

fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes: [u8; N] = text.as_bytes().try_into().ok()?;
    bytes.iter().all(u8::is_ascii_digit).then(|| bytes.map(|b| b - b'0'))
}

/// Decodes one trade record from its wire text `{tr_id}|{field^field^…}` (the form in which the spool keeps
/// it).
///
/// # Errors
/// What is wrong with it.
pub fn trade(wire: &str, received_at: Timestamp) -> Result<Trade, Refused> {
    let Some((tr_id, payload)) = wire.split_once('|') else {
        return Err(Refused {
            cause: "truncated",
            message: "a record starts with its message type and a '|'".into(),
        });
    };
    let frame = Frame::new(tr_id, 1, payload)?;
    let record = frame.records().next().expect("a frame of one record has one");
    trade_of(&record, received_at)
}

/// The trade of a record.
///
/// # Errors
/// As [`Essence::of`].
pub fn trade_of(record: &Record<'_>, received_at: Timestamp) -> Result<Trade, Refused> {
    let essence = Essence::of(record)?;
    let fields: BTreeMap<String, String> =
        record.fields().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    Ok(Trade {
        id: essence.id(),
        feed: essence.feed.to_owned(),
        channel: record.tr_id().to_owned(),
        symbol: essence.symbol.to_owned(),
        session_date: essence.date,
        trade_time: essence.trade_time(),
        received_at: rfc3339(received_at, &TimeZone::fixed(KOREA)),
        price: essence.price,
        quantity: essence.quantity.into(),
        side: None,
        accumulated_volume: Some(essence.accumulated_volume),
        accumulated_value: Some(essence.accumulated_value),
        fields,
    })
}
