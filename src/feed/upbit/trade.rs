//! A record's fields → a [`Trade`].

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use super::message::{Message, Record, parse, shown};
use super::number::{decimal, text, whole};
use super::{Channel, KOREA};
use crate::Refused;
use domain::trade::{EventId, Side, Trade, rfc3339};

/// Decimals of every quantity: as many as the exchange's smallest unit has.
pub(super) const DECIMALS: u32 = 8;

/// Trade times before this are no times of this exchange, which opened in October 2017, nor are those after
/// the year 2100; in milliseconds since 1970.
const TIMES: std::ops::Range<i64> = 1_506_000_000_000..4_133_980_800_000;

/// Judges a record: fields without which there is no trade must be there and valid, all others are kept as
/// they came.
///
/// # Errors
/// `missing_field`, `bad_number`, `bad_time`, `bad_code`, `bad_side`, each with the name of the field.
pub(super) fn trade(record: &Record<'_>, received_at: Timestamp) -> Result<Trade, Refused> {
    let zone = TimeZone::fixed(KOREA);
    let code = code(record)?;
    let number = match record.channel {
        Channel::Trade => field(record, "sequential_id", "a whole number below 2^64", whole)?,
        Channel::Ticker => field(record, "timestamp", "milliseconds since 1970", whole)?,
    };
    let traded = field(record, "trade_timestamp", "milliseconds since 1970", time)?;
    let positive = |text: &str| decimal(text).filter(|number| *number > Decimal::ZERO);
    let price = field(record, "trade_price", "a number above zero", positive)?;
    let mut quantity = field(record, "trade_volume", "a number above zero", positive)?;
    if quantity.scale() < DECIMALS {
        quantity.rescale(DECIMALS);
    }
    let side = match value(record, "ask_bid").as_deref() {
        None => None,
        // The side that took the price: ASK is a sale into a bid.
        Some("ASK") => Some(Side::Sell),
        Some("BID") => Some(Side::Buy),
        Some(other) => {
            let message = format!("field ask_bid is \"{}\", expected ASK or BID", shown(other));
            return Err(Refused { cause: "bad_side", message });
        }
    };
    let session_date = zone.to_datetime(traded).date();
    let feed = record.channel.feed();
    Ok(Trade {
        id: EventId::new(feed, session_date, &code, number),
        feed: feed.to_owned(),
        channel: record.channel.as_str().to_owned(),
        symbol: code,
        session_date,
        trade_time: rfc3339(traded, &zone),
        received_at: rfc3339(received_at, &zone),
        price,
        quantity,
        side,
        accumulated_volume: None,
        accumulated_value: None,
        fields: record.fields.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
    })
}

/// All trades of a message.
///
/// # Errors
/// The first fault in it; also when it is a message about the connection.
pub(super) fn trades(message: &[u8], received_at: Timestamp) -> Result<Vec<Trade>, Refused> {
    match parse(message)? {
        Message::Records(records) => records.into_iter().map(|record| trade(&record?, received_at)).collect(),
        Message::Status(_) | Message::Fault(_) | Message::Subscriptions(_) => Err(Refused {
            cause: "not_a_trade",
            message: "a message about the connection holds no trades".into(),
        }),
    }
}

/// A market as the exchange writes it: quote first, `KRW-BTC`.
pub(super) fn is_code(code: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 20
            && part.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    code.split_once('-').is_some_and(|(quote, base)| part(quote) && part(base))
}

fn code(record: &Record<'_>) -> Result<String, Refused> {
    let code = value(record, "code").ok_or_else(|| missing("code"))?;
    if is_code(&code) {
        return Ok(code);
    }
    Err(Refused {
        cause: "bad_code",
        message: format!("field code is \"{}\", expected a market like KRW-BTC", shown(&code)),
    })
}

fn value(record: &Record<'_>, name: &str) -> Option<String> {
    record.fields.get(name).filter(|value| value.get() != "null").map(|value| text(value))
}

fn missing(name: &str) -> Refused {
    Refused { cause: "missing_field", message: format!("there is no field {name}") }
}

fn field<T>(
    record: &Record<'_>,
    name: &'static str,
    expected: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, Refused> {
    let text = value(record, name).ok_or_else(|| missing(name))?;
    read(&text).ok_or_else(|| Refused {
        cause: if name.ends_with("timestamp") { "bad_time" } else { "bad_number" },
        message: format!("field {name} is \"{}\", expected {expected}", shown(&text)),
    })
}

fn time(text: &str) -> Option<Timestamp> {
    let millis = i64::try_from(whole(text)?).ok().filter(|millis| TIMES.contains(millis))?;
    Timestamp::from_millisecond(millis).ok()
}
