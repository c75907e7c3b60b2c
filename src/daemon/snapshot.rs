//! What the page, the API and the terminal view show: a copy of the truth, published after every change and at least
//! a few times a second while something runs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::dag::AlertKind;
use crate::domain::ids::{RunId, StepName};
use crate::domain::run::Run;
use crate::domain::schedule::Window;
use crate::executor::Status;

/// The daemon at one moment. All instants are UTC; [`Snapshot::timezone`] says how to show them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Snapshot {
    /// The daemon's clock when the snapshot was taken.
    pub now: Timestamp,
    /// How much faster than real time that clock runs (1 outside demos).
    pub speed: f64,
    /// IANA zone for showing times: that of the first scheduled DAG, else UTC.
    pub timezone: String,
    /// When the daemon came up.
    pub up_since: Timestamp,
    /// Process id of the daemon.
    pub pid: u32,
    /// DAGs, by name.
    pub dags: Vec<DagView>,
    /// DAG files that do not work, with what to do.
    pub problems: Vec<Problem>,
    /// Runs that have not ended, then ended ones, newest first; at most [`Snapshot::KEPT_RUNS`].
    pub runs: Vec<RunView>,
    /// Alerts, newest first; at most [`Snapshot::KEPT_ALERTS`].
    pub alerts: Vec<AlertView>,
    /// The stores' own figures.
    pub gauges: Gauges,
    /// Trouble of the daemon itself (journal restored, mail cannot be sent, disk full), one line each.
    pub notices: Vec<String>,
}

impl Snapshot {
    /// Most runs in a snapshot.
    pub const KEPT_RUNS: usize = 50;
    /// Most alerts in a snapshot.
    pub const KEPT_ALERTS: usize = 100;

    /// The run the Today page is about: the newest open one, else the newest ended one.
    pub fn today(&self) -> Option<&RunView> {
        self.runs.first()
    }
}

/// A DAG.
#[derive(Debug, Clone, Serialize)]
pub struct DagView {
    /// Name.
    pub name: String,
    /// One line.
    pub description: String,
    /// Who to ask.
    pub owner: String,
    /// The file it comes from.
    pub file: String,
    /// Schedule in words: `50 8 * * MON-FRI → 0 16 * * MON-FRI Asia/Seoul, calendar krx`.
    pub schedule: Option<String>,
    /// Nobody starts it by schedule.
    pub paused: bool,
    /// Next windows, soonest first.
    pub next: Vec<Window>,
}

/// A DAG file that does not work.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// Rendered diagnostics: `file:line:column: error: …` with snippet and help.
    pub text: String,
    /// An earlier version of the file still runs.
    pub previous_kept: bool,
}

/// A run, with what its living steps say.
#[derive(Debug, Clone, Serialize)]
pub struct RunView {
    /// The run.
    pub run: Run,
    /// Status of living services.
    pub statuses: BTreeMap<StepName, Status>,
}

/// An alert that was raised.
#[derive(Debug, Clone, Serialize)]
pub struct AlertView {
    /// When.
    pub at: Timestamp,
    /// Kind.
    pub kind: AlertKind,
    /// Which rule raised it: the check step's name for `stalled` and `recovered`, else the kind.
    pub rule: String,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: Option<StepName>,
    /// One line.
    pub summary: String,
    /// Mail state: `sent`, `queued`, `not asked for`.
    pub mail: &'static str,
}

/// Figures read from the stores a few times a second.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Gauges {
    /// Topics: records held (end − start, summed), by topic.
    pub topics: BTreeMap<String, u64>,
    /// Consumer groups: records behind the log's end.
    pub group_lag: BTreeMap<String, u64>,
    /// Dead letters held, by dead-letter topic.
    pub dead_letters: BTreeMap<String, u64>,
    /// Stores that did not answer: what they said.
    pub unreachable: BTreeMap<String, String>,
    /// Records per clock second appended to each topic over the last clock minute.
    pub rates: BTreeMap<String, f64>,
}
