//! Numbers, durations and times as a reader of the page reads them.

use std::ops::Deref;

pub(crate) use domain::format::{part, rate};
pub(crate) use domain::message::thousands as count;
use jiff::Timestamp;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::Value;

use super::dates;
use crate::locale::{Text, say};

/// The zone a page shows its times in. What is the same in all languages it says as
/// [`format::Zone`](domain::format::Zone) does.
#[derive(Debug, Clone)]
pub(crate) struct Zone(domain::format::Zone);

impl Deref for Zone {
    type Target = domain::format::Zone;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Zone {
    /// The zone of this IANA name; UTC if there is no such zone.
    pub(crate) fn new(name: &str) -> Self {
        Self(domain::format::Zone::new(name))
    }

    /// `Fri 20 Nov 13:11`
    pub(crate) fn day_minute(&self, at: Timestamp) -> Text {
        Text::joined(" ", vec![self.day(at), Text::plain(self.minute(at))])
    }

    /// `Fri 20 Nov`
    pub(crate) fn day(&self, at: Timestamp) -> Text {
        dates::day(self.date(at))
    }

    /// `Friday 20 November 2026`
    pub(crate) fn long_date(&self, at: Timestamp) -> Text {
        dates::long(self.date(at))
    }

    /// A JSON value for people: instants as times of day, numbers with thousands marks, the rest as it is.
    pub(crate) fn value(&self, value: &Value) -> Text {
        Text::plain(match value {
            Value::Null => "–".to_owned(),
            Value::Bool(true) => return say!("yes"),
            Value::Bool(false) => return say!("no"),
            Value::Number(n) => match (n.as_u64(), n.as_f64()) {
                (Some(n), _) => count(n),
                (None, Some(x)) if x.fract() != 0.0 => format!("{x:.2}"),
                _ => n.to_string(),
            },
            Value::String(text) => {
                text.parse::<Timestamp>().map_or_else(|_| text.clone(), |at| self.time(at))
            }
            other => other.to_string(),
        })
    }
}

/// `3 min 12 s`; two units at most.
pub(crate) fn span(seconds: i64) -> Text {
    let s = seconds.max(0);
    match s {
        0..60 => say!("{} s", s),
        60..3600 if s % 60 == 0 => say!("{} min", s / 60),
        60..3600 => say!("{} min {} s", s / 60, s % 60),
        3600..86400 if s % 3600 / 60 == 0 => say!("{} h", s / 3600),
        3600..86400 => say!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => say!("{} d {} h", s / 86400, s % 86400 / 3600),
    }
}

/// `64.0 MiB`; bytes below one KiB are counted.
pub(crate) fn bytes(n: u64) -> Text {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = n as f64 / 1024.0;
    if size < 1.0 {
        return say!("{} bytes", n);
    }
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    Text::plain(format!("{size:.1} {unit}"))
}

/// `120` or `1.5`: a speed without needless digits.
pub(crate) fn speed(times: f64) -> String {
    if times.fract().abs() < 1e-9 { format!("{times:.0}") } else { format!("{times:.1}") }
}

/// `280,395.69` or `71,200`: KRW, with decimals only where there are some.
pub(crate) fn krw(amount: f64) -> String {
    if !amount.is_finite() {
        return "–".to_owned();
    }
    let hundredths = (amount.abs() * 100.0).round() as u64;
    let decimals =
        if hundredths.is_multiple_of(100) { String::new() } else { format!(".{:02}", hundredths % 100) };
    format!("{}{}{decimals}", if amount < 0.0 { "−" } else { "" }, count(hundredths / 100))
}

/// A number with its sign, as [`krw`] shows it: `+1,200`, `−50`, `0`.
pub(crate) fn signed(amount: f64) -> String {
    if amount > 0.0 { format!("+{}", krw(amount)) } else { krw(amount) }
}

/// A whole number that should not be below zero.
pub(crate) fn shares(n: i64) -> String {
    count(n.max(0).unsigned_abs())
}

/// A decimal for a drawing or as an amount of money.
pub(crate) fn amount(decimal: Decimal) -> f64 {
    decimal.to_f64().unwrap_or(f64::NAN)
}

/// Shares, or units with the places they have.
pub(crate) fn quantity(decimal: Decimal) -> String {
    match decimal.to_i64().filter(|_| decimal.is_integer()) {
        Some(whole) => shares(whole),
        None => decimal.normalize().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans() {
        let spans: Vec<_> = [-4, 0, 59, 60, 192, 3600, 3660, 90_000].into_iter().map(span).collect();
        assert_eq!(spans, ["0 s", "0 s", "59 s", "1 min", "3 min 12 s", "1 h", "1 h 1 min", "1 d 1 h"]);
        assert_eq!([bytes(1023), bytes(1536), bytes(64 << 20)], ["1023 bytes", "1.5 KiB", "64.0 MiB"]);
        assert_eq!([speed(120.0), speed(1.5)], ["120", "1.5"]);
    }

    #[test]
    fn money_has_thousands_marks_and_a_sign() {
        assert_eq!(
            [krw(71_200.0), krw(280_395.69), krw(-0.5), krw(f64::NAN)],
            ["71,200", "280,395.69", "−0.50", "–"]
        );
        assert_eq!([signed(1_200.0), signed(-50.0), signed(0.0)], ["+1,200", "−50", "0"]);
        assert_eq!((shares(-3), shares(12_345)), ("0".to_owned(), "12,345".to_owned()));
    }

    #[test]
    fn what_a_step_tells_is_shown_in_the_zone() {
        let zone = Zone::new("Asia/Seoul");
        assert_eq!(zone.value(&serde_json::json!("2026-11-20T13:11:02+09:00")), "13:11:02");
        assert_eq!(zone.value(&serde_json::json!(21_408)), "21,408");
    }
}
