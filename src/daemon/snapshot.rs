//! What the page, the API and the terminal view show: a copy of the daemon's state, published after every
//! change and at least a few times a second while something runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::folder;
use super::history::{Brief, History};
use super::trends::Trends;
use super::upcoming::PlannedDay;
use dagfile::Diagnostic;
pub use dagfile::Severity;
use domain::dag::{AlertKind, Dag};
use domain::finding::{self, Finding};
use domain::ids::{RunId, StepName};
use domain::run::Run;
use domain::schedule::Window;
use executor::Status;
use state::{Audit, OutboxMail};

/// The daemon at one moment. All instants are UTC; [`Snapshot::timezone`] says how to show them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Snapshot {
    /// The daemon's clock when the snapshot was taken.
    pub now: Timestamp,
    /// How much faster than real time that clock runs (1 outside demos, 0 while one is held).
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
    /// Mails that were not delivered yet, oldest first.
    pub outbox: Vec<QueuedMail>,
    /// Every ended run that is kept, in brief; asked for page by page.
    #[serde(skip)]
    pub history: Arc<History>,
    /// Who did what, newest first; asked for page by page.
    #[serde(skip)]
    pub audit: Arc<Vec<Audit>>,
    /// Figures of the last hours, for small charts.
    #[serde(skip)]
    pub trends: Arc<Trends>,
    /// Trouble of the daemon itself (journal restored, mail cannot be sent, disk full), one line each.
    pub notices: Vec<String>,
}

impl Snapshot {
    /// Most runs in a snapshot.
    pub const KEPT_RUNS: usize = 50;
    /// Most alerts in a snapshot.
    pub const KEPT_ALERTS: usize = 500;

    /// The run the Today page is about: the newest open one, else the newest ended one.
    pub fn today(&self) -> Option<&RunView> {
        self.runs.first()
    }

    /// Every run that is known, in brief: open ones first, then newest first; of one DAG or of all.
    pub fn briefs(&self, dag: Option<&str>) -> Vec<Arc<Brief>> {
        let wanted = |id: &RunId| dag.is_none_or(|dag| id.dag() == dag);
        // What is held whole is newer than its place in the history: it may have been cleared since it ended.
        let whole: std::collections::BTreeSet<&RunId> = self.runs.iter().map(|v| &v.run.id).collect();
        let held = self.runs.iter().filter(|v| wanted(&v.run.id)).map(|v| Arc::new(Brief::of(&v.run)));
        let ended = self.history.runs().iter().filter(|b| wanted(&b.id) && !whole.contains(&b.id)).cloned();
        let mut all: Vec<_> = held.chain(ended).collect();
        all.sort_by_key(|b| (b.state.is_terminal(), std::cmp::Reverse(b.created_at)));
        all
    }

    /// The DAG of this name.
    pub fn dag(&self, name: &str) -> Option<&DagView> {
        self.dags.iter().find(|d| d.name == name)
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
    /// Schedule in words: `50 8 * * MON-FRI → 0 16 * * MON-FRI Asia/Seoul, calendar NAME`.
    pub schedule: Option<String>,
    /// Nobody starts it by schedule.
    pub paused: bool,
    /// Next windows, soonest first.
    pub next: Vec<Window>,
    /// The DAG itself, as its file says now.
    #[serde(skip)]
    pub dag: Option<Arc<Dag>>,
    /// The days of this month and the next two.
    #[serde(skip)]
    pub days: Arc<Vec<PlannedDay>>,
}

/// A DAG file that does not work.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// All that is wrong with it, for people: each fault as `file:line:column: error: …` with its lines and
    /// help.
    pub text: String,
    /// The same, one by one.
    pub faults: Vec<Fault>,
    /// An earlier version of the file still runs.
    pub previous_kept: bool,
}

impl Problem {
    /// A file with its faults.
    pub fn new(file: String, faults: Vec<Fault>, previous_kept: bool) -> Self {
        let text = faults.iter().map(|fault| fault.render(&file)).collect::<Vec<_>>().join("\n");
        Self { file, text, faults, previous_kept }
    }
}

/// A fault of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Line and column, from 1, where it has a place.
    pub at: Option<(usize, usize)>,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The lines of the file, with carets below the place.
    pub excerpt: Option<String>,
    /// What to write instead.
    pub help: Option<String>,
}

impl Fault {
    /// Where it is: `file:line:column`.
    pub fn place(&self, file: &str) -> String {
        self.at.map_or_else(|| file.to_owned(), |(line, column)| format!("{file}:{line}:{column}"))
    }

    /// What stands below its message: the lines of the file, and help.
    pub fn below(&self) -> String {
        let help = self.help.as_ref().map(|help| format!("help: {help}"));
        self.excerpt.iter().chain(&help).map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn render(&self, file: &str) -> String {
        let (head, below) =
            (format!("{}: {}: {}", self.place(file), self.severity, self.message), self.below());
        if below.is_empty() { head } else { format!("{head}\n{below}") }
    }
}

impl From<&Diagnostic> for Fault {
    fn from(found: &Diagnostic) -> Self {
        Self {
            at: Some((found.line, found.column)),
            severity: found.severity,
            message: found.message.clone(),
            excerpt: found.excerpt(),
            help: found.help.clone(),
        }
    }
}

impl From<&folder::Problem> for Fault {
    fn from(found: &folder::Problem) -> Self {
        let at = found.line.map(|line| (line, 1));
        Self { at, severity: Severity::Error, message: found.message.clone(), excerpt: None, help: None }
    }
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
    /// What was found.
    #[serde(flatten, with = "finding::in_words")]
    pub finding: Finding,
    /// Mail state: `sent`, `queued`, `not asked for`.
    pub mail: &'static str,
}

/// A mail that was not delivered yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueuedMail {
    /// Its key, unique and stable.
    pub key: String,
    /// When it was written.
    pub created_at: Timestamp,
    /// Deliveries tried so far.
    pub tries: u32,
    /// When it is tried again at the latest.
    pub next_at: Timestamp,
    /// Why the last delivery failed.
    pub last_error: Option<String>,
    /// To whom.
    pub to: Vec<String>,
    /// Subject.
    pub subject: String,
}

impl QueuedMail {
    /// A queued mail without its text.
    pub fn of(mail: &OutboxMail) -> Self {
        let to = mail.message.get("to").and_then(|to| to.as_array());
        let words = to.into_iter().flatten().filter_map(|a| a.as_str()).map(str::to_owned);
        Self {
            key: mail.key.clone(),
            created_at: mail.created_at,
            tries: mail.attempts,
            next_at: mail.next_at,
            last_error: mail.last_error.clone(),
            to: words.collect(),
            subject: mail.message.get("subject").and_then(|s| s.as_str()).unwrap_or_default().to_owned(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_all_its_faults_as_they_are_said_one_by_one() {
        let found = |line, source: &str, help: Option<&str>| Diagnostic {
            severity: Severity::Error,
            line,
            column: 5,
            width: 3,
            message: "unknown key: \"x\"".into(),
            help: help.map(str::to_owned),
            source: source.into(),
        };
        let found = [
            found(7, "    x: 1", Some("write \"y\"")),
            found(9, "    x: 1", None),
            found(1, "", Some("save it")),
        ];
        let problem = Problem::new("d/a.yaml".into(), found.iter().map(Fault::from).collect(), false);
        assert_eq!(problem.text, found.each_ref().map(|found| found.render("d/a.yaml")).join("\n"));
        assert_eq!(problem.faults[0].place(&problem.file), "d/a.yaml:7:5");
        assert_eq!(problem.faults[2].below(), "help: save it");
        for line in [None, Some(3)] {
            let calendar =
                folder::Problem { path: "d/krx.csv".into(), line, message: "there is no zone row".into() };
            assert_eq!(
                Problem::new("d/krx.csv".into(), vec![(&calendar).into()], false).text,
                calendar.to_string()
            );
        }
    }
}
