//! A run and its steps as the machine keeps them.
//!
//! A run is the fold of its events (see [`super::event`]): the same events give the same run, live or
//! replayed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::dag::Dag;
use super::ids::{RunId, StepName};
use super::schedule::Window;

/// One run of a DAG.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The DAG as it was when the run was created.
    pub dag: Dag,
    /// Why it exists.
    pub cause: Cause,
    /// The local date it is about.
    pub session_date: Date,
    /// From open to close.
    pub window: Window,
    /// Run parameters.
    pub params: BTreeMap<String, String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: RunState,
    /// Its steps.
    pub steps: BTreeMap<StepName, StepRun>,
    /// Someone asked for its end before its close.
    pub cancelled_by: Option<String>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

impl Run {
    /// How late after its open the run was created, in seconds.
    pub fn late_by_seconds(&self) -> i64 {
        (self.created_at.as_second() - self.window.open_at.as_second()).max(0)
    }
}

/// Why a run exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its schedule.
    Scheduled,
    /// Somebody asked for it.
    Manual,
    /// A backfill asked for its date.
    Backfill,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Scheduled, Self::Manual, Self::Backfill];
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Inside its window.
    Running,
    /// Past its close or cancelled: stopping, draining, tearing down.
    Closing,
    /// Ended: every step did what it was for.
    Succeeded,
    /// Ended: at least one step failed.
    Failed,
    /// Ended because somebody asked.
    Cancelled,
}

impl RunState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Running, Self::Closing, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Whether nothing can happen to the run any more, short of a clear.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
    /// The word used in tables, pages and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Closing => "closing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where a step stands.
///
/// ```text
/// pending → starting → running → ready ⇄ degraded → stopping → stopped      (service)
///         ↘ skipped    running → succeeded | failed                         (task, teardown)
///         ↘ upstream_failed
/// waiting: between attempts (retry, restart) or rounds of a check
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Its needs are not met yet.
    Pending,
    /// Its start was decided; the executor has not confirmed it.
    Starting,
    /// An attempt is alive; a service has not reported ready.
    Running,
    /// A service is ready.
    Ready,
    /// A ready service reports trouble.
    Degraded,
    /// Between attempts or rounds; [`StepRun::next_at`] says until when.
    Waiting,
    /// Asked to stop; still alive.
    Stopping,
    /// Ended well.
    Succeeded,
    /// Ended badly, for good.
    Failed,
    /// A service or check that was asked to stop and did.
    Stopped,
    /// Not wanted in this run.
    Skipped,
    /// A need can never be met.
    UpstreamFailed,
}

impl StepState {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Pending,
        Self::Starting,
        Self::Running,
        Self::Ready,
        Self::Degraded,
        Self::Waiting,
        Self::Stopping,
        Self::Succeeded,
        Self::Failed,
        Self::Stopped,
        Self::Skipped,
        Self::UpstreamFailed,
    ];

    /// Whether the step is over in this run.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Stopped | Self::Skipped | Self::UpstreamFailed)
    }
    /// Whether an attempt is believed to be alive.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Ready | Self::Degraded | Self::Stopping)
    }
    /// The word used in tables, pages and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Skipped => "skipped",
            Self::UpstreamFailed => "upstream_failed",
        }
    }
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRun {
    /// Where it stands.
    pub state: StepState,
    /// Number of the current or last attempt; 0 before the first.
    pub attempt: u32,
    /// Retries (task, check round, teardown) or restarts in a row (service) spent so far.
    pub retries_used: u32,
    /// When the state was entered.
    pub since: Timestamp,
    /// First start of the step in this run.
    pub started_at: Option<Timestamp>,
    /// First time a service was ready in this run.
    pub ready_at: Option<Timestamp>,
    /// When the step was over.
    pub stopped_at: Option<Timestamp>,
    /// When the next attempt or round starts, while waiting.
    pub next_at: Option<Timestamp>,
    /// When the current attempt must be ready, done or dead.
    pub deadline: Option<Timestamp>,
    /// When it was asked to stop.
    pub stop_requested_at: Option<Timestamp>,
    /// Whether it had to be killed.
    pub killed: bool,
    /// One line on why it stands where it stands, for people.
    pub reason: Option<String>,
    /// What the last finished attempt returned (checks: their findings).
    pub result: Option<serde_json::Value>,
    /// Rounds of a check that were due while nobody could start them.
    pub missed_rounds: u32,
    /// Rounds of a check that ended, well or not.
    #[serde(default)]
    pub rounds: u32,
    /// Rounds of a check in a row that failed, retries included.
    #[serde(default)]
    pub failed_rounds: u32,
    /// Number of the check's current or last round: it was due at open + number × interval.
    #[serde(default)]
    pub round: u64,
    /// Attempts in this run that were lost without an exit code; they spend no retry.
    #[serde(default)]
    pub losses: u32,
    /// When the start of the current or last attempt was decided.
    #[serde(default)]
    pub attempt_started_at: Option<Timestamp>,
    /// Since when the current attempt of a service has been ready.
    #[serde(default)]
    pub ready_since: Option<Timestamp>,
    /// Why the current attempt was asked to stop.
    #[serde(default)]
    pub stop_cause: Option<StopCause>,
    /// The close came before it could do its work.
    #[serde(default)]
    pub unfinished: bool,
    /// Its orderly stop was cut short by a loss; a new attempt finishes it when its turn comes.
    #[serde(default)]
    pub resume_stop: bool,
    /// The current attempt of a service said that it cannot be ready before this time; [`StepRun::reason`]
    /// says why.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// When people were told last that the service is not ready in time, in this streak.
    #[serde(default)]
    pub late_told_at: Option<Timestamp>,
    /// When the step noticed what it told last.
    #[serde(default)]
    pub noticed_at: Option<Timestamp>,
    /// What was noticed last of the current or last attempt, for people.
    #[serde(default)]
    pub notice: Option<String>,
    /// Attempts that ended, newest last, at most [`StepRun::KEPT_ATTEMPTS`].
    pub history: Vec<AttemptRecord>,
}

impl StepRun {
    /// Ended attempts kept in a run; older ones are in the journal only.
    pub const KEPT_ATTEMPTS: usize = 20;

    /// A step nothing happened to yet.
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: StepState::Pending,
            attempt: 0,
            retries_used: 0,
            since: now,
            started_at: None,
            ready_at: None,
            stopped_at: None,
            next_at: None,
            deadline: None,
            stop_requested_at: None,
            killed: false,
            reason: None,
            result: None,
            missed_rounds: 0,
            rounds: 0,
            failed_rounds: 0,
            round: 0,
            losses: 0,
            attempt_started_at: None,
            ready_since: None,
            stop_cause: None,
            unfinished: false,
            resume_stop: false,
            not_before: None,
            late_told_at: None,
            noticed_at: None,
            notice: None,
            history: Vec::new(),
        }
    }
}

/// Why a living attempt was asked to stop; decides what its exit means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// The run closes (window over, cancelled, or nothing left to do).
    Closed,
    /// It ran longer than its timeout.
    TimedOut,
    /// A service did not report ready in time.
    NotReady,
    /// Somebody cleared the step; it starts again.
    Cleared,
    /// Somebody marked the step as succeeded.
    MarkedSucceeded,
    /// Somebody marked the step as failed.
    MarkedFailed,
}

/// Whether an attempt ended by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// An older version did not write it down.
    #[default]
    Unknown,
    /// Nobody had asked it to stop.
    Itself,
    /// It had been asked to stop.
    Asked(StopCause),
}

impl Ending {
    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

/// An attempt that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Its number.
    pub attempt: u32,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    pub exit: Exit,
    /// Whether it ended by itself.
    #[serde(default, skip_serializing_if = "Ending::is_unknown")]
    pub ending: Ending,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// The program ended with this code.
    Code(i32),
    /// A signal ended the program.
    Signal(i32),
    /// The container ran out of memory.
    OutOfMemory,
    /// It could not be started: the reason.
    NotStarted(String),
    /// It vanished without an exit code (machine restarted, engine gone, daemon died with it). Spends no
    /// retry.
    Lost(String),
}

impl Exit {
    /// Whether the program ended by itself with code 0.
    pub fn is_success(&self) -> bool {
        *self == Self::Code(0)
    }

    /// The signal that most people and programs read out of a code.
    pub fn like_signal(&self) -> Option<i32> {
        match self {
            Self::Code(code) => {
                Some(code.saturating_sub(Self::code_of_signal(0))).filter(|signal| *signal > 0)
            }
            _ => None,
        }
    }

    /// The code that a shell gives for a signal.
    pub const fn code_of_signal(signal: i32) -> i32 {
        128 + signal
    }

    /// The end without its reason, for a column of a table.
    pub fn in_brief(&self) -> String {
        match self {
            Self::NotStarted(_) => "could not be started".to_owned(),
            Self::Lost(_) => "lost".to_owned(),
            other => other.to_string(),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(9) => write!(f, "killed (signal 9)"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::OutOfMemory => write!(f, "out of memory"),
            Self::NotStarted(why) => write!(f, "could not be started: {why}"),
            Self::Lost(why) => write!(f, "lost: {why}"),
        }
    }
}
