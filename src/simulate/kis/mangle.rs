//! Frames that are wrong, each in one way.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;

use crate::script::{Mangled, malformed_kind};
use domain::retry::mix;

/// How a frame is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mangling {
    /// A record of 45 fields.
    WrongWidth,
    /// Bytes that are not UTF-8, in a *binary* WebSocket message: a client that decodes text itself sees them
    /// and keeps its session.
    InvalidUtf8,
    /// The same bytes in a *text* message: by RFC 6455 a client must fail the connection (1007).
    InvalidUtf8Text,
    /// Two records announced, and the frame ends in the middle of the second.
    Truncated,
    /// A price that is not a number.
    NotANumber,
    /// A message type that does not exist.
    UnknownTr,
    /// 300 kB of fields in one record.
    Oversize,
}

impl Mangling {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::WrongWidth,
        Self::InvalidUtf8,
        Self::InvalidUtf8Text,
        Self::Truncated,
        Self::NotANumber,
        Self::UnknownTr,
        Self::Oversize,
    ];

    /// The kinds that reach a decoder through any WebSocket client and are refused by it, one dead letter a
    /// frame.
    pub const REFUSED_BY_DECODERS: [Self; 5] =
        [Self::WrongWidth, Self::InvalidUtf8, Self::Truncated, Self::NotANumber, Self::UnknownTr];

    /// Builds a frame of this kind whose bytes depend on `unique` in more than one field.
    pub(super) fn frame(self, unique: u64, date: Date) -> Mangled {
        let record = record(unique, date);
        let frame = |tr_id: &str, count: usize, fields: &[String]| {
            format!("0|{tr_id}|{count:03}|{}", fields.join("^")).into_bytes()
        };
        let bytes = match self {
            Self::WrongWidth => frame("H0STCNT0", 1, &record[..45]),
            Self::InvalidUtf8 | Self::InvalidUtf8Text => {
                let mut bytes = frame("H0STCNT0", 1, &record);
                // A first byte of two without its second, in the place of the market class.
                bytes.pop();
                bytes.extend_from_slice(&[0xC3, 0x28]);
                bytes
            }
            Self::Truncated => {
                // 71 fields cannot be two records, whatever the width.
                let two: Vec<String> =
                    record.iter().cloned().chain(self::record(mix(unique), date)).take(71).collect();
                frame("H0STCNT0", 2, &two)
            }
            Self::NotANumber => {
                let mut record = record;
                record[2] = "N/A".to_owned();
                frame("H0STCNT0", 1, &record)
            }
            Self::UnknownTr => frame("H0STXXX9", 1, &record),
            Self::Oversize => {
                let many: Vec<String> = record.iter().cycle().take(60_000).cloned().collect();
                frame("H0STCNT0", 1, &many)
            }
        };
        Mangled { bytes, text: self != Self::InvalidUtf8 }
    }
}

/// A record that would be right, but for a symbol that nobody trades.
fn record(unique: u64, date: Date) -> Vec<String> {
    let volume = 1_000_000_000 + unique % 8_000_000_000;
    let value = u128::from(volume) * 71_900;
    let text = format!(
        "999999^110000^71900^5^-100^-0.14^71900.00^72100^72400^71700^71900^71800^1^{volume}^{value}^5105^6937^1832^84.90^1366314^1159996\
         ^1^0.39^20.28^090020^5^-200^090820^5^-500^092619^2^200^{}^20^N^65945^216924^1118750^{}^0.05^2424142^125.92^0^^72100^2",
        date.strftime("%Y%m%d"),
        unique % 10_000_000,
    );
    text.split('^').map(str::to_owned).collect()
}

impl fmt::Display for Mangling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongWidth => "wrong-width",
            Self::InvalidUtf8 => "invalid-utf8",
            Self::InvalidUtf8Text => "invalid-utf8-text",
            Self::Truncated => "truncated",
            Self::NotANumber => "not-a-number",
            Self::UnknownTr => "unknown-tr",
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
    use super::*;
    use jiff::civil::date;

    fn frame(kind: Mangling) -> Vec<u8> {
        kind.frame(42, date(2026, 11, 20)).bytes
    }

    fn fields(bytes: &[u8]) -> usize {
        String::from_utf8_lossy(bytes).rsplit('|').next().map_or(0, |payload| payload.split('^').count())
    }

    #[test]
    fn each_kind_is_wrong_in_its_own_way_only() {
        assert_eq!(record(7, date(2026, 11, 20)).len(), 47);
        assert_eq!(fields(&frame(Mangling::WrongWidth)), 45);
        assert_eq!(fields(&frame(Mangling::Truncated)), 71);
        for kind in [Mangling::InvalidUtf8, Mangling::NotANumber, Mangling::UnknownTr] {
            assert_eq!(fields(&frame(kind)), 47, "{kind}");
        }
        for kind in Mangling::ALL {
            let utf8 = std::str::from_utf8(&frame(kind)).is_ok();
            assert_eq!(utf8, !matches!(kind, Mangling::InvalidUtf8 | Mangling::InvalidUtf8Text), "{kind}");
        }
        assert!(frame(Mangling::Oversize).len() > 250_000);
    }
}
