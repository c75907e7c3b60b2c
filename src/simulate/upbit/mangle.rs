//! Messages that are wrong, each in one way.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;

use crate::script::{Mangled, malformed_kind};
use domain::retry::mix;

/// How a message is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mangling {
    /// JSON that ends in the middle.
    Truncated,
    /// Values of other types than they should be.
    WrongType,
    /// A trade without its number.
    MissingField,
    /// A volume that is not a number.
    NotANumber,
    /// A message type that does not exist.
    UnknownType,
    /// Bytes that are no text at all.
    Binary,
    /// 300 kB of JSON that is no record.
    Oversize,
}

impl Mangling {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Truncated,
        Self::WrongType,
        Self::MissingField,
        Self::NotANumber,
        Self::UnknownType,
        Self::Binary,
        Self::Oversize,
    ];

    /// The kinds that a collector keeps as dead letters, one a message: all of them.
    pub const KEPT_BY_COLLECTORS: [Self; 7] = Self::ALL;

    /// Builds a message of this kind whose bytes depend on `unique` in more than one place.
    pub(super) fn message(self, unique: u64, date: Date) -> Mangled {
        let record = record(unique, date);
        let bytes = match self {
            Self::Truncated => record[..record.len() - 40].to_owned().into_bytes(),
            Self::WrongType => format!(
                r#"{{"type":"trade","code":[{unique}],"trade_price":{{}},"trade_volume":true,"sequential_id":{}}}"#,
                mix(unique)
            )
            .into_bytes(),
            Self::MissingField => record.replace("\"sequential_id\":", "\"serial\":").into_bytes(),
            Self::NotANumber => record.replace("\"trade_volume\":1.5", "\"trade_volume\":\"N/A\"").into_bytes(),
            Self::UnknownType => record.replace("\"type\":\"trade\"", "\"type\":\"mytrade\"").into_bytes(),
            Self::Binary => {
                let words = (0..40).map(|n| mix(unique ^ n));
                [0xFF, 0xFE].into_iter().chain(words.flat_map(u64::to_le_bytes)).collect()
            }
            Self::Oversize => {
                let noise = format!("{{\"noise\":{unique}}}");
                format!("[{}]", vec![noise.as_str(); 300_000 / noise.len()].join(",")).into_bytes()
            }
        };
        Mangled { bytes, text: false }
    }
}

/// A record that would be right, but for a market that nobody trades.
fn record(unique: u64, date: Date) -> String {
    let millis = date.to_zoned(jiff::tz::TimeZone::UTC).map_or(0, |day| day.timestamp().as_millisecond());
    format!(
        "{{\"type\":\"trade\",\"code\":\"KRW-NOBODY\",\"timestamp\":{millis},\"trade_timestamp\":{millis},\"trade_price\":1000.0,\
         \"trade_volume\":1.5,\"ask_bid\":\"ASK\",\"sequential_id\":{},\"best_ask_size\":{},\"stream_type\":\"REALTIME\"}}",
        millis.unsigned_abs() * 10_000 + unique % 10_000,
        unique % 1_000_000_007,
    )
}

impl fmt::Display for Mangling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "truncated",
            Self::WrongType => "wrong-type",
            Self::MissingField => "missing-field",
            Self::NotANumber => "not-a-number",
            Self::UnknownType => "unknown-type",
            Self::Binary => "binary",
            Self::Oversize => "oversize",
        })
    }
}

impl FromStr for Mangling {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        malformed_kind(&Self::ALL, text)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::civil::date;

    use super::*;
    use feed::Feed;
    use feed::upbit::Upbit;

    #[test]
    fn each_kind_is_wrong_in_its_own_way_only() {
        let day = date(2026, 11, 20);
        let refused =
            |bytes: &[u8]| Upbit.trades(bytes, Timestamp::UNIX_EPOCH).map_err(|refused| refused.cause);
        assert_eq!(refused(record(7, day).as_bytes()).map(|trades| trades.len()), Ok(1));
        for (kind, cause) in [
            (Mangling::Truncated, "truncated"),
            (Mangling::WrongType, "bad_code"),
            (Mangling::MissingField, "missing_field"),
            (Mangling::NotANumber, "bad_number"),
            (Mangling::UnknownType, "unknown_type"),
            (Mangling::Binary, "bad_utf8"),
            (Mangling::Oversize, "unknown_type"),
        ] {
            assert_eq!(refused(&kind.message(42, day).bytes), Err(cause), "{kind}");
        }
        assert!(Mangling::Oversize.message(42, day).bytes.len() > 250_000);
    }
}
