//! When a DAG runs: the two edges of a window on a local day, or a plain cron.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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

/// An end of an exchange session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// `session.open`
    Open,
    /// `session.close`
    Close,
}

/// A checked five-field cron expression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron(String);

impl Cron {
    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> String {
        cron.0
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;
    fn try_from(text: String) -> Result<Self, CronError> {
        text.parse()
    }
}

/// Why a text is not a cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a cron expression: {why}; write five fields: minute hour day-of-month month day-of-week, for example \"50 8 * * MON-FRI\"")]
pub struct CronError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl FromStr for Cron {
    type Err = CronError;
    fn from_str(text: &str) -> Result<Self, CronError> {
        let fields = text.split_whitespace().count();
        if fields != 5 {
            return Err(CronError { text: text.to_owned(), why: format!("it has {fields} fields") });
        }
        croner::Cron::from_str(text).map_err(|e| CronError { text: text.to_owned(), why: e.to_string().to_lowercase() })?;
        Ok(Self(text.split_whitespace().collect::<Vec<_>>().join(" ")))
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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
