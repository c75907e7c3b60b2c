//! Exchange calendars as data.
//!
//! A calendar is a CSV file of five columns, `date,name,kind,open,close`, that people can read and correct:
//!
//! ```text
//! zone,Asia/Seoul,,,                                  the zone of all times below
//! MON-FRI,Regular session,session,09:00,15:30         a plain weekday
//! 2026-01-01,New Year's Day,closed,,                  a day without a session
//! 2026-01-02,First trading day,late_open,10:00,15:30  a day with other hours (`hours` means the same)
//! ```
//!
//! Saturdays and Sundays are closed unless a row gives them hours. Lines that start with `#` are comments.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;

/// A trading calendar.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    /// Its name, as schedules give it.
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

impl Day {
    /// Why the day differs.
    pub fn name(&self) -> &str {
        match self {
            Self::Closed { name } | Self::Hours { name, .. } => name,
        }
    }
}

/// A trading session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TradingSession {
    /// Its local date.
    pub date: Date,
    /// Regular open.
    pub open: Timestamp,
    /// Regular close.
    pub close: Timestamp,
}

/// A fault of a calendar file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct CalendarError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it and what to write.
    pub why: String,
}

impl Calendar {
    /// Reads a calendar file (see the module for its format).
    ///
    /// # Errors
    /// Every fault of the file.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<CalendarError>> {
        let mut reader =
            CalendarParser { zone: None, regular: None, days: BTreeMap::new(), faults: Vec::new() };
        let mut last = 1;
        for (index, line) in text.lines().enumerate() {
            last = index + 1;
            let line = line.trim_start_matches('\u{feff}').trim();
            if !line.is_empty() && !line.starts_with('#') {
                reader.row(last, line);
            }
        }
        let CalendarParser { zone, regular, days, mut faults } = reader;
        if zone.is_none() {
            faults.push(CalendarError {
                line: last,
                why: "there is no zone row; add for example zone,Asia/Seoul,,,".into(),
            });
        }
        if regular.is_none() {
            let why = "there is no row for plain weekdays; add for example MON-FRI,Regular session,session,09:00,15:30";
            faults.push(CalendarError { line: last, why: why.into() });
        }
        match (zone, regular) {
            (Some(timezone), Some(regular)) if faults.is_empty() => {
                Ok(Self { name: name.to_owned(), timezone, regular, days })
            }
            _ => Err(faults),
        }
    }

    /// The session of a local date; `None` on a closed day.
    pub fn session(&self, date: Date) -> Option<TradingSession> {
        let (open, close) = match self.days.get(&date) {
            Some(Day::Closed { .. }) => return None,
            Some(Day::Hours { open, close, .. }) => (*open, *close),
            None if matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday) => return None,
            None => self.regular,
        };
        let zone = TimeZone::get(&self.timezone).ok()?;
        Some(TradingSession {
            date,
            open: instant(&zone, date.to_datetime(open))?,
            close: instant(&zone, date.to_datetime(close))?,
        })
    }

    /// Why a date differs from a plain weekday, if the file says so.
    pub fn day(&self, date: Date) -> Option<&Day> {
        self.days.get(&date)
    }

    /// First and last date the file knows about: whole years, from that of its first row to that of its last.
    pub fn covered(&self) -> Option<(Date, Date)> {
        let (first, _) = self.days.first_key_value()?;
        let (last, _) = self.days.last_key_value()?;
        Some((first.first_of_year(), last.last_of_year()))
    }

    /// Whether the file knows about this date. Beyond, every weekday counts as a plain one, which is a guess.
    pub fn covers(&self, date: Date) -> bool {
        self.covered().is_some_and(|(first, last)| first <= date && date <= last)
    }
}

/// The instant of a local time. A time that a clock change skips counts as the same time after the change;
/// one that it repeats counts once, the first time.
pub(super) fn instant(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(local).compatible().ok()
}

struct CalendarParser {
    zone: Option<String>,
    regular: Option<(Time, Time)>,
    days: BTreeMap<Date, Day>,
    faults: Vec<CalendarError>,
}

impl CalendarParser {
    fn row(&mut self, line: usize, text: &str) {
        let cells: Vec<&str> = text.split(',').map(str::trim).collect();
        let [date, name, kind, open, close] = cells[..] else {
            let why = format!(
                "there are {} cells, not five; write date,name,kind,open,close, without commas inside a name and with empty cells at the end",
                cells.len()
            );
            return self.fault(line, why);
        };
        match date {
            "date" => {}
            "zone" => self.zone(line, name),
            "MON-FRI" => {
                if kind != "session" {
                    return self
                        .fault(line, format!("the kind of the MON-FRI row is \"{kind}\"; write session"));
                }
                if let Some(hours) = self.hours(line, open, close)
                    && self.regular.replace(hours).is_some()
                {
                    self.fault(line, "this is the second MON-FRI row; remove one".into());
                }
            }
            _ => self.day(line, [date, name, kind, open, close]),
        }
    }

    fn zone(&mut self, line: usize, zone: &str) {
        if let Err(error) = TimeZone::get(zone) {
            self.fault(
                line,
                format!("\"{zone}\" is not a time zone ({error}); write an IANA name such as Asia/Seoul"),
            );
        }
        if self.zone.replace(zone.to_owned()).is_some() {
            self.fault(line, "this is the second zone row; remove one".into());
        }
    }

    fn day(&mut self, line: usize, [date, name, kind, open, close]: [&str; 5]) {
        let Ok(date) = date.parse::<Date>() else {
            return self.fault(line, format!("\"{date}\" is not a date; write YYYY-MM-DD"));
        };
        let name = name.to_owned();
        let day = match kind {
            "closed" if open.is_empty() && close.is_empty() => Day::Closed { name },
            "closed" => {
                return self.fault(line, "a closed day has no hours; leave the last two cells empty".into());
            }
            "late_open" | "hours" => match self.hours(line, open, close) {
                Some((open, close)) => Day::Hours { name, open, close },
                None => return,
            },
            other => {
                return self.fault(
                    line,
                    format!("\"{other}\" is not a kind of day; write closed, late_open or hours"),
                );
            }
        };
        if self.days.insert(date, day).is_some() {
            self.fault(line, format!("{date} has two rows; remove one"));
        }
    }

    fn hours(&mut self, line: usize, open: &str, close: &str) -> Option<(Time, Time)> {
        let mut read = |text: &str| match Time::strptime("%H:%M", text) {
            Ok(time) => Some(time),
            Err(_) => {
                self.faults.push(CalendarError {
                    line,
                    why: format!("\"{text}\" is not a time of day; write HH:MM"),
                });
                None
            }
        };
        let (open, close) = (read(open), read(close));
        let (open, close) = (open?, close?);
        if open >= close {
            self.fault(
                line,
                format!(
                    "the close, {}, is not after the open, {}",
                    close.strftime("%H:%M"),
                    open.strftime("%H:%M")
                ),
            );
            return None;
        }
        Some((open, close))
    }

    fn fault(&mut self, line: usize, why: String) {
        self.faults.push(CalendarError { line, why });
    }
}

#[cfg(test)]
mod tests;
