//! When a DAG runs: the two edges of a window on a local day, or a plain cron.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::calendar::{Calendar, instant};
pub use super::cron::{Cron, CronError};

/// When a DAG runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// IANA zone in which cron and dates are read.
    pub timezone: String,
    /// Trading calendar; without one every day has the session 00:00–24:00.
    pub calendar: Option<String>,
    /// Start of the window (or of the run, where there is no close).
    pub open: Edge,
    /// End of the window; `None`: the run ends when its tasks end.
    pub close: Option<Edge>,
    /// What to do when the daemon comes up inside a window.
    pub late_start: LateStart,
    /// What to do about windows that passed while the daemon was down.
    pub catchup: Catchup,
}

/// One edge of a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// A five-field cron expression in the schedule's zone.
    Cron(Cron),
    /// Relative to the calendar's session of the day, in seconds (negative: before).
    Session {
        /// Which end of the session.
        anchor: Anchor,
        /// Seconds after it.
        offset_seconds: i64,
    },
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron) => cron.fmt(f),
            Self::Session { anchor, offset_seconds } => {
                f.write_str(match anchor {
                    Anchor::Open => "session.open",
                    Anchor::Close => "session.close",
                })?;
                let sign = if *offset_seconds < 0 { '-' } else { '+' };
                match offset_seconds.unsigned_abs() {
                    0 => Ok(()),
                    seconds if seconds % 3600 == 0 => write!(f, " {sign} {}h", seconds / 3600),
                    seconds if seconds % 60 == 0 => write!(f, " {sign} {}m", seconds / 60),
                    seconds => write!(f, " {sign} {seconds}s"),
                }
            }
        }
    }
}

/// An end of an exchange session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// `session.open`
    Open,
    /// `session.close`
    Close,
}

/// What to do when the daemon comes up inside a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateStart {
    /// Start at once and record how late.
    #[default]
    Join,
    /// Leave the day out.
    Skip,
}

/// What to do about windows that passed while the daemon was down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Catchup {
    /// Report them as missed.
    #[default]
    None,
    /// Run the newest.
    Last,
    /// Run all, at most [`Catchup::CAP`].
    All,
}

impl Catchup {
    /// Most windows that `all` replays.
    pub const CAP: usize = 1000;
}

/// The life of one run, resolved to instants when the run is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Start.
    pub open_at: Timestamp,
    /// End; `None` for a run that ends with its tasks.
    pub close_at: Option<Timestamp>,
}

impl Window {
    /// Whether `now` lies in `[open_at, close_at)`.
    pub fn contains(&self, now: Timestamp) -> bool {
        now >= self.open_at && self.close_at.is_none_or(|close| now < close)
    }
}

/// One session as a schedule sees it: what exactly one scheduled run exists for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// The part of a run id after the `@`: `YYYY-MM-DD` where there is a window, else `YYYY-MM-DDTHHMM` in
    /// the schedule's zone.
    pub key: String,
    /// The local date it is about.
    pub date: Date,
    /// From open to close.
    pub window: Window,
}

/// How far ahead a schedule is searched before it counts as one that never opens: 29 February can be eight
/// years away.
const HORIZON_DAYS: i32 = 366 * 9;

impl Schedule {
    /// The schedule's zone.
    ///
    /// # Errors
    /// When the machine's zone database (or the bundled one) does not know it.
    pub fn zone(&self) -> Result<TimeZone, jiff::Error> {
        TimeZone::get(&self.timezone)
    }

    /// The window of a local date: `None` on a closed day, when cron does not fire on that date, or when
    /// there is no close after the open on the same date. A schedule without `close` gives its first instant
    /// of the day.
    pub fn window_on(&self, date: Date, calendar: Option<&Calendar>) -> Option<Window> {
        self.sessions_on(date, calendar).into_iter().next().map(|s| s.window)
    }

    /// The sessions of a local date, in order: at most one where there is a window, several for a plain cron.
    /// None at all when the schedule names a calendar that is not at hand, because nobody knows then whether
    /// the day is open.
    ///
    /// A local time that a clock change skips or repeats fires once (see [`super::calendar`]).
    pub fn sessions_on(&self, date: Date, calendar: Option<&Calendar>) -> Vec<Occurrence> {
        if self.calendar.is_some() && calendar.is_none() {
            return Vec::new();
        }
        let (Ok(zone), Some(day)) = (self.zone(), self.day(date, calendar)) else { return Vec::new() };
        let Some(close) = &self.close else {
            let mut instants: Vec<Timestamp> = instants(&self.open, date, &zone, day).collect();
            instants.sort_unstable();
            instants.dedup();
            return instants
                .into_iter()
                .map(|open_at| Occurrence {
                    key: minute_key(open_at, &zone),
                    date,
                    window: Window { open_at, close_at: None },
                })
                .collect();
        };
        let Some(open_at) = instants(&self.open, date, &zone, day).next() else { return Vec::new() };
        let Some(close_at) = instants(close, date, &zone, day).find(|close| *close > open_at) else {
            return Vec::new();
        };
        vec![Occurrence { key: date.to_string(), date, window: Window { open_at, close_at: Some(close_at) } }]
    }

    /// The exchange's session of a date, or midnight to midnight without a calendar.
    fn day(&self, date: Date, calendar: Option<&Calendar>) -> Option<(Timestamp, Timestamp)> {
        match calendar {
            Some(calendar) => calendar.session(date).map(|s| (s.open, s.close)),
            None => {
                let zone = self.zone().ok()?;
                Some((
                    instant(&zone, date.at(0, 0, 0, 0))?,
                    instant(&zone, date.tomorrow().ok()?.at(0, 0, 0, 0))?,
                ))
            }
        }
    }

    /// The next `n` sessions that open after `after`, in order. Fewer when the schedule never opens (again)
    /// as far as anybody can see, nine years ahead.
    pub fn next_windows(&self, after: Timestamp, calendar: Option<&Calendar>, n: usize) -> Vec<Occurrence> {
        let Ok(zone) = self.zone() else { return Vec::new() };
        // A session edge may lie on the day before or after its date.
        let first = zone.to_datetime(after).date().saturating_sub(jiff::Span::new().days(2));
        let last = first.saturating_add(jiff::Span::new().days(HORIZON_DAYS));
        let mut found = Vec::new();
        for date in self.dates(first, last) {
            let sessions = self.sessions_on(date, calendar);
            found.extend(sessions.into_iter().filter(|s| s.window.open_at > after));
            // Session-relative opens of neighbouring dates may come in any order in theory; one date more
            // settles it.
            if found.len() > n {
                break;
            }
        }
        found.sort_by_key(|s| s.window.open_at);
        found.truncate(n);
        found
    }

    /// The sessions that open in `(from, to]`, in order.
    pub fn sessions_between<'a>(
        &'a self,
        from: Timestamp,
        to: Timestamp,
        calendar: Option<&'a Calendar>,
    ) -> impl Iterator<Item = Occurrence> + 'a {
        let days = jiff::Span::new().days(2);
        let range = self.zone().ok().filter(|_| from < to).map(|zone| {
            let date = |at| zone.to_datetime(at).date();
            (date(from).saturating_sub(days), date(to).saturating_add(days))
        });
        range
            .into_iter()
            .flat_map(|(first, last)| self.dates(first, last))
            .flat_map(move |date| self.sessions_on(date, calendar))
            .filter(move |s| from < s.window.open_at && s.window.open_at <= to)
    }

    /// The dates in `[first, last]` on which the open edge may fire.
    fn dates(&self, first: Date, last: Date) -> impl Iterator<Item = Date> + '_ {
        let mut next = Some(first);
        std::iter::from_fn(move || {
            let date = match &self.open {
                Edge::Cron(cron) => cron.next_local(next?.at(0, 0, 0, 0))?.date(),
                Edge::Session { .. } => next?,
            };
            next = date.tomorrow().ok();
            (date <= last).then_some(date)
        })
    }
}

/// The instants of an edge on a local date whose session is `day`.
fn instants<'a>(
    edge: &'a Edge,
    date: Date,
    zone: &'a TimeZone,
    day: (Timestamp, Timestamp),
) -> Box<dyn Iterator<Item = Timestamp> + 'a> {
    match edge {
        Edge::Cron(cron) => Box::new(cron.times_on(date).filter_map(|local| instant(zone, local))),
        Edge::Session { anchor, offset_seconds } => {
            let from = match anchor {
                Anchor::Open => day.0,
                Anchor::Close => day.1,
            };
            Box::new(from.checked_add(jiff::SignedDuration::from_secs(*offset_seconds)).ok().into_iter())
        }
    }
}

fn minute_key(at: Timestamp, zone: &TimeZone) -> String {
    zone.to_datetime(at).strftime("%Y-%m-%dT%H%M").to_string()
}

#[cfg(test)]
mod tests;
