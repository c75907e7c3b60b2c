//! Exchange calendars as data.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, Time};

/// A trading calendar.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    /// Its name (`krx`).
    pub name: String,
    /// IANA zone of its times.
    pub timezone: String,
    /// Session of a plain weekday.
    pub regular: (Time, Time),
    /// Days that differ.
    pub days: BTreeMap<Date, Day>,
}

/// A day that differs from a plain weekday.
#[derive(Debug, Clone, PartialEq)]
pub enum Day {
    /// No session.
    Closed {
        /// Why.
        name: String,
    },
    /// Other hours.
    Hours {
        /// Why.
        name: String,
        /// Opening time.
        open: Time,
        /// Closing time.
        close: Time,
    },
}

/// A trading session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its local date.
    pub date: Date,
    /// Regular open.
    pub open: Timestamp,
    /// Regular close.
    pub close: Timestamp,
}
