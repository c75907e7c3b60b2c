//! Times, rates, names and bytes as people read them, the same in every language. Counts and lengths of time
//! are in [`message`](crate::message).

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::message::thousands;

/// The zone in which times are shown.
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

    /// `2026-11-20 13:11:02 KST`
    pub fn full(&self, at: Timestamp) -> String {
        self.text(at, "%Y-%m-%d %H:%M:%S %Z")
    }

    /// The local date.
    pub fn date(&self, at: Timestamp) -> Date {
        self.0.to_datetime(at).date()
    }

    /// The zone's short name at that time: `KST`.
    pub fn label(&self, at: Timestamp) -> String {
        self.text(at, "%Z")
    }

    /// Seconds east of UTC at that time.
    pub fn offset_seconds(&self, at: Timestamp) -> i64 {
        i64::from(self.0.to_offset(at).seconds())
    }
}

/// A rate per second: `12.4/s`.
pub fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        format!("{}/s", thousands(per_second.round() as u64))
    } else {
        format!("{per_second:.1}/s")
    }
}

/// Percent-encodes a part of a path, so that a name with odd letters comes back as it is.
pub fn part(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@+".contains(&b);
    // "." and ".." would be taken for folders on the way.
    let dots = !text.is_empty() && text.bytes().all(|b| b == b'.');
    text.bytes()
        .map(|b| if plain(b) && !dots { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// A dump of bytes, a line for sixteen of them: place, hex digits, and what is printable.
pub fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (row, chunk) in bytes.chunks(16).enumerate() {
        let digits: Vec<String> = chunk.iter().map(|b| format!("{b:02x}")).collect();
        let plain = |b: &u8| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' };
        let shown: String = chunk.iter().map(plain).collect();
        text.push_str(&format!("{:08x}  {:<47}  {shown}\n", row * 16, digits.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_zone_and_named() {
        let at: Timestamp = "2026-11-20T04:11:02Z".parse().expect("an instant");
        let zone = Zone::new("Asia/Seoul");
        assert_eq!(zone.time(at), "13:11:02");
        assert_eq!(zone.full(at), "2026-11-20 13:11:02 KST");
        assert_eq!(Zone::new("Mars/Olympus").label(at), "UTC");
    }

    #[test]
    fn rates_names_and_bytes() {
        assert_eq!([rate(0.04), rate(12.44), rate(1234.0)], ["0.0/s", "12.4/s", "1,234/s"]);
        assert_eq!(
            [part("a/<b>"), part(".."), part("kis-nx:005930")],
            ["a%2F%3Cb%3E", "%2E%2E", "kis-nx%3A005930"]
        );
        let line = "00000000  30 7c ff 1b 3c                                   0|..<\n";
        assert_eq!(dump(b"0|\xff\x1b<"), line);
    }
}
