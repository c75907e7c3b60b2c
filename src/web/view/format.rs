//! Numbers, durations and times as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::Value;

use super::dates;
use crate::locale::{Text, say};

/// The zone a page shows its times in.
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone of this IANA name; UTC if there is no such zone.
    pub fn new(name: &str) -> Self {
        Self(TimeZone::get(name).unwrap_or(TimeZone::UTC))
    }

    fn text(&self, at: Timestamp, pattern: &str) -> String {
        at.to_zoned(self.0.clone()).strftime(pattern).to_string()
    }

    /// `13:11:02`
    pub fn time(&self, at: Timestamp) -> String {
        self.text(at, "%H:%M:%S")
    }

    /// `13:11`
    pub fn minute(&self, at: Timestamp) -> String {
        self.text(at, "%H:%M")
    }

    /// `Fri 20 Nov 13:11`
    pub fn day_minute(&self, at: Timestamp) -> Text {
        Text::joined(" ", vec![self.day(at), Text::plain(self.minute(at))])
    }

    /// `2026-11-20 13:11:02 KST`
    pub fn full(&self, at: Timestamp) -> String {
        self.text(at, "%Y-%m-%d %H:%M:%S %Z")
    }

    /// `Fri 20 Nov`
    pub fn day(&self, at: Timestamp) -> Text {
        dates::day(self.date(at))
    }

    /// The local date.
    pub fn date(&self, at: Timestamp) -> jiff::civil::Date {
        self.0.to_datetime(at).date()
    }

    /// `Friday 20 November 2026`
    pub fn long_date(&self, at: Timestamp) -> Text {
        dates::long(self.date(at))
    }

    /// The zone's short name at that time: `KST`.
    pub fn label(&self, at: Timestamp) -> String {
        self.text(at, "%Z")
    }

    /// Seconds east of UTC at that time.
    pub fn offset_seconds(&self, at: Timestamp) -> i64 {
        i64::from(self.0.to_offset(at).seconds())
    }

    /// A JSON value for people: instants as times of day, numbers with thousands marks, the rest as it is.
    pub fn value(&self, value: &Value) -> Text {
        Text::plain(match value {
            Value::Null => "–".to_owned(),
            Value::Bool(true) => return say!("yes"),
            Value::Bool(false) => return say!("no"),
            Value::Number(n) => match (n.as_u64(), n.as_f64()) {
                (Some(n), _) => count(n),
                (None, Some(x)) if x.fract() != 0.0 => format!("{x:.2}"),
                _ => n.to_string(),
            },
            Value::String(text) => text.parse::<Timestamp>().map_or_else(|_| text.clone(), |at| self.time(at)),
            other => other.to_string(),
        })
    }
}

/// `21,408`
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `3 min 12 s`; two units at most.
pub fn span(seconds: i64) -> Text {
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

/// A rate per second: `12.4/s`.
pub fn rate(per_second: f64) -> String {
    if per_second >= 100.0 { format!("{}/s", count(per_second.round() as u64)) } else { format!("{per_second:.1}/s") }
}

/// `64.0 MiB`; bytes below one KiB are counted.
pub fn bytes(n: u64) -> Text {
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
pub fn speed(times: f64) -> String {
    if times.fract().abs() < 1e-9 { format!("{times:.0}") } else { format!("{times:.1}") }
}

/// `280,395.69` or `71,200`: KRW, with decimals only where there are some.
pub fn krw(amount: f64) -> String {
    if !amount.is_finite() {
        return "–".to_owned();
    }
    let hundredths = (amount.abs() * 100.0).round() as u64;
    let decimals = if hundredths.is_multiple_of(100) { String::new() } else { format!(".{:02}", hundredths % 100) };
    format!("{}{}{decimals}", if amount < 0.0 { "−" } else { "" }, count(hundredths / 100))
}

/// A number with its sign, as [`krw`] shows it: `+1,200`, `−50`, `0`.
pub fn signed(amount: f64) -> String {
    if amount > 0.0 { format!("+{}", krw(amount)) } else { krw(amount) }
}

/// A whole number that should not be below zero.
pub fn shares(n: i64) -> String {
    count(n.max(0).unsigned_abs())
}

/// A decimal for a drawing or as an amount of money.
pub fn amount(decimal: Decimal) -> f64 {
    decimal.to_f64().unwrap_or(f64::NAN)
}

/// Shares, or units with the places they have.
pub fn quantity(decimal: Decimal) -> String {
    match decimal.to_i64().filter(|_| decimal.is_integer()) {
        Some(whole) => shares(whole),
        None => decimal.normalize().to_string(),
    }
}

/// Percent-encodes a part of a path, so that a name with odd letters comes back as it is.
pub fn part(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@+".contains(&b);
    // "." and ".." would be taken for folders on the way.
    let dots = !text.is_empty() && text.bytes().all(|b| b == b'.');
    text.bytes().map(|b| if plain(b) && !dots { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans() {
        assert_eq!(
            [count(0), count(999), count(1000), count(21_408), count(1_234_567)],
            ["0", "999", "1,000", "21,408", "1,234,567"]
        );
        let spans: Vec<_> = [-4, 0, 59, 60, 192, 3600, 3660, 90_000].into_iter().map(span).collect();
        assert_eq!(spans, ["0 s", "0 s", "59 s", "1 min", "3 min 12 s", "1 h", "1 h 1 min", "1 d 1 h"]);
        assert_eq!([rate(0.04), rate(12.44), rate(1234.0)], ["0.0/s", "12.4/s", "1,234/s"]);
        assert_eq!([bytes(1023), bytes(1536), bytes(64 << 20)], ["1023 bytes", "1.5 KiB", "64.0 MiB"]);
        assert_eq!([speed(120.0), speed(1.5)], ["120", "1.5"]);
    }

    #[test]
    fn money_has_thousands_marks_and_a_sign() {
        assert_eq!([krw(71_200.0), krw(280_395.69), krw(-0.5), krw(f64::NAN)], ["71,200", "280,395.69", "−0.50", "–"]);
        assert_eq!([signed(1_200.0), signed(-50.0), signed(0.0)], ["+1,200", "−50", "0"]);
        assert_eq!((shares(-3), shares(12_345)), ("0".to_owned(), "12,345".to_owned()));
        assert_eq!([part("a/<b>"), part(".."), part("kis-nx:005930")], ["a%2F%3Cb%3E", "%2E%2E", "kis-nx%3A005930"]);
    }

    #[test]
    fn times_are_in_the_zone_and_named() {
        let at: Timestamp = "2026-11-20T04:11:02Z".parse().expect("an instant");
        let zone = Zone::new("Asia/Seoul");
        assert_eq!(zone.time(at), "13:11:02");
        assert_eq!(zone.full(at), "2026-11-20 13:11:02 KST");
        assert_eq!(zone.value(&serde_json::json!("2026-11-20T13:11:02+09:00")), "13:11:02");
        assert_eq!(Zone::new("Mars/Olympus").label(at), "UTC");
    }
}
