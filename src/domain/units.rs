//! Durations and sizes as people write them: `30s`, `1m30s`, `64MiB`.

use std::time::Duration;

/// Why a text is not a duration or a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a {what}; write {example}")]
pub struct UnitError {
    /// The text.
    pub text: String,
    /// What it should have been.
    pub what: &'static str,
    /// How to write it.
    pub example: &'static str,
}

/// Reads a duration: numbers with a unit, `ms`, `s`, `m`, `h` or `d`, one after the other (`1m30s`).
///
/// # Errors
/// When the text is empty, a unit is missing or unknown, or the sum does not fit.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    parse_duration(text.trim()).ok_or_else(|| UnitError {
        text: text.to_owned(),
        what: "duration",
        example: "a number and a unit, for example 500ms, 30s, 5m, 2h or 1d",
    })
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let milliseconds = match unit.trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum = sum.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

/// Reads a size in bytes: a number with `B`, `KiB`, `MiB`, `GiB` (powers of 1,024), `kB`, `MB`, `GB` (powers
/// of 1,000) or nothing.
///
/// # Errors
/// When the number or the unit is missing or unknown, or the size does not fit.
pub fn bytes(text: &str) -> Result<u64, UnitError> {
    parse_bytes(text.trim()).ok_or_else(|| UnitError {
        text: text.to_owned(),
        what: "size",
        example: "a number and a unit, for example 512KiB, 64MiB or 1GiB",
    })
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A size as one writes it: in the largest unit that makes it a whole number.
pub fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1m", 60_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in
            ["", "5", "m", "5 minutes", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, size) in [("64MiB", 64 << 20), ("5 MB", 5_000_000), ("1GiB", 1 << 30), ("7", 7), ("0B", 0)]
        {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for bad in ["", "MiB", "64mb", "1e3", "-1", "18446744073709551615GiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        for text in ["0B", "1000B", "1536KiB", "256MiB", "3GiB"] {
            assert_eq!(size(bytes(text).expect("a size")), text);
        }
    }
}
