//! The days of a DAG's schedule, for its calendar: which are open, which are not, and why.

use jiff::civil::Date;
use serde::Serialize;

use domain::calendar::{Calendar, Day};
use domain::schedule::{Schedule, Window};

/// Windows of a day that are listed; a plain cron may have many more.
const LISTED: usize = 4;

/// A day of a schedule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedDay {
    /// The local date.
    pub date: Date,
    /// What the trading calendar says of it.
    pub special: Special,
    /// Why it differs from a plain weekday; empty if it does not.
    pub why: String,
    /// Windows that open on it, the first few.
    pub windows: Vec<Window>,
    /// Windows that are not listed.
    pub more: usize,
}

/// How a day differs from a plain weekday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Special {
    /// It does not.
    Plain,
    /// The exchange is closed.
    Closed,
    /// The exchange opens later than usual.
    LateOpen,
    /// The exchange has other hours.
    OtherHours,
    /// The calendar's file ends before this day; a weekday is taken for a plain one.
    Unknown,
}

impl Special {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Plain, Self::Closed, Self::LateOpen, Self::OtherHours, Self::Unknown];
}

/// The days in `[first, last]`.
pub fn days(schedule: &Schedule, calendar: Option<&Calendar>, first: Date, last: Date) -> Vec<PlannedDay> {
    first
        .series(jiff::Span::new().days(1))
        .take_while(|date| *date <= last)
        .map(|date| day(schedule, calendar, date))
        .collect()
}

fn day(schedule: &Schedule, calendar: Option<&Calendar>, date: Date) -> PlannedDay {
    let (special, why) = match calendar.and_then(|c| Some((c, c.day(date)?))) {
        Some((_, Day::Closed { name })) => (Special::Closed, name.clone()),
        Some((calendar, Day::Hours { name, open, close })) => {
            let hours = format!("{name}, {}–{}", open.strftime("%H:%M"), close.strftime("%H:%M"));
            (if *open > calendar.regular.0 { Special::LateOpen } else { Special::OtherHours }, hours)
        }
        None if calendar.is_some_and(|c| !c.covers(date)) => (Special::Unknown, String::new()),
        None => (Special::Plain, String::new()),
    };
    let mut windows: Vec<Window> =
        schedule.sessions_on(date, calendar).into_iter().map(|s| s.window).collect();
    let more = windows.len().saturating_sub(LISTED);
    windows.truncate(LISTED);
    PlannedDay { date, special, why, windows, more }
}

#[cfg(test)]
mod tests;
