//! Korean time: UTC+9 all the year, no summer time.

use jiff::civil::{Date, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

/// The offset.
pub const KST: Offset = Offset::constant(9);

/// An instant as Korean local time.
pub fn korean(at: Timestamp) -> Zoned {
    at.to_zoned(TimeZone::fixed(KST))
}

/// The instant of a Korean local time.
pub fn instant(date: Date, time: Time) -> Timestamp {
    // Only dates at jiff's very limits (the years -9999 and 9999) can be out of range.
    KST.to_timestamp(date.to_datetime(time)).unwrap_or(Timestamp::MAX)
}
