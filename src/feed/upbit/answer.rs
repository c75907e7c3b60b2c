//! Answers of the REST side: candles, markets, and what is left of the budget of calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use serde_json::value::RawValue;

use super::message::shown;
use super::number::{decimal, text};
use super::trade::DECIMALS;
use crate::Answer;

/// What became of a call.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome<T> {
    /// It was answered.
    Good(T),
    /// There is no such market.
    Unknown,
    /// Too many calls: wait this long, if the server says how long.
    TooMany {
        /// The address is blocked for a while (418), or was only too fast (429).
        blocked: bool,
        /// How long.
        wait: Option<Duration>,
    },
    /// Something else: what.
    Failed(String),
}

/// Volume by minute (since 1970) of an answer with candles.
pub(super) fn candles(answer: &Answer) -> Outcome<BTreeMap<i64, Decimal>> {
    read(answer, |row| {
        let at: DateTime = text(row.get("candle_date_time_utc")?).parse().ok()?;
        let at = at.to_zoned(TimeZone::UTC).ok()?.timestamp();
        // Sums arrive as binary fractions: what is beyond the smallest unit is their noise.
        let volume = decimal(&text(row.get("candle_acc_trade_volume")?))?.round_dp(DECIMALS);
        (!volume.is_sign_negative()).then(|| (at.as_second().div_euclid(60), volume))
    })
}

/// The markets there are.
pub(super) fn markets(answer: &Answer) -> Outcome<BTreeSet<String>> {
    read(answer, |row| Some(text(row.get("market")?)))
}

type Row<'a> = BTreeMap<String, &'a RawValue>;

fn read<T, C: FromIterator<T>>(answer: &Answer, row: impl Fn(&Row<'_>) -> Option<T>) -> Outcome<C> {
    match answer.status {
        200 => {}
        404 => return Outcome::Unknown,
        status @ (418 | 429) => {
            return Outcome::TooMany { blocked: status == 418, wait: retry_after(answer) };
        }
        status => return Outcome::Failed(format!("HTTP {status}{}", said(&answer.body))),
    }
    let Ok(rows) = serde_json::from_str::<Vec<Row<'_>>>(&answer.body) else {
        // Some faults come with status 200.
        return Outcome::Failed(format!("the answer cannot be read{}", said(&answer.body)));
    };
    match rows.iter().map(row).collect::<Option<C>>() {
        Some(all) => Outcome::Good(all),
        None => Outcome::Failed("the answer cannot be read: a row lacks what was asked for".into()),
    }
}

/// The name and message of `{"error":{…}}`, if it is one.
fn said(body: &str) -> String {
    let error = serde_json::from_str::<Row<'_>>(body).ok().and_then(|object| {
        let error: Row<'_> = serde_json::from_str(object.get("error")?.get()).ok()?;
        let word = |name: &str| error.get(name).map(|value| text(value)).unwrap_or_default();
        Some(format!(" ({} {})", shown(&word("name")), word("message").chars().take(200).collect::<String>()))
    });
    error.unwrap_or_default()
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds: u64 = answer.header("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Calls left in this second, by `Remaining-Req: group=candles; min=600; sec=9`. Its `min` means nothing any
/// more.
pub(super) fn remaining(answer: &Answer) -> Option<u32> {
    let header = answer.header("remaining-req")?;
    header.split(';').find_map(|part| part.trim().strip_prefix("sec=")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Answer { status, headers, body: body.to_owned() }
    }

    #[test]
    fn candles_are_volumes_by_minute() {
        let body = r#"[{"market":"KRW-BTC","candle_date_time_utc":"2026-11-20T00:01:00","candle_date_time_kst":"2026-11-20T09:01:00",
            "opening_price":1.0,"candle_acc_trade_price":1.5E9,"candle_acc_trade_volume":12.345678900000001,"unit":1},
            {"market":"KRW-BTC","candle_date_time_utc":"2026-11-20T00:00:00","candle_acc_trade_volume":5E-8}]"#;
        let Outcome::Good(candles) = candles(&answer(200, &[], body)) else { panic!("good") };
        let minute: jiff::Timestamp = "2026-11-20T00:00:00Z".parse().expect("a time");
        let minute = minute.as_second() / 60;
        assert_eq!(
            candles,
            BTreeMap::from([(minute, Decimal::new(5, 8)), (minute + 1, Decimal::new(123_456_789, 7))])
        );
    }

    #[test]
    fn refusals_say_how_long_to_wait() {
        let too_many = answer(429, &[("remaining-req", "group=candles; min=600; sec=0")], "{}");
        assert_eq!(candles(&too_many), Outcome::TooMany { blocked: false, wait: None });
        assert_eq!(remaining(&too_many), Some(0));
        let blocked = answer(418, &[("retry-after", " 90 ")], "");
        assert_eq!(
            candles(&blocked),
            Outcome::TooMany { blocked: true, wait: Some(Duration::from_secs(90)) }
        );
        assert_eq!(
            candles(&answer(404, &[], r#"{"error":{"name":404,"message":"Code not found"}}"#)),
            Outcome::Unknown
        );
        let failed = candles(&answer(500, &[], r#"{"error":{"name":"internal","message":"later"}}"#));
        assert_eq!(failed, Outcome::Failed("HTTP 500 (internal later)".into()));
    }

    #[test]
    fn answers_that_cannot_be_read_are_failures() {
        for body in
            ["", "{", "{}", "[1]", r#"[{"market":"KRW-BTC"}]"#, r#"{"error":{"name":"x","message":"y"}}"#]
        {
            assert!(matches!(candles(&answer(200, &[], body)), Outcome::Failed(_)), "{body}");
        }
        assert_eq!(candles(&answer(200, &[], "[]")), Outcome::Good(BTreeMap::new()));
        assert_eq!(
            markets(&answer(200, &[], r#"[{"market":"KRW-BTC"}]"#)),
            Outcome::Good(BTreeSet::from(["KRW-BTC".to_owned()]))
        );
    }
}
