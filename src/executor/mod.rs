//! Floor 2: where attempts run: inside the daemon, as processes, as containers of an engine, as services of a
//! swarm. Each kind implements one trait; what it watches it keeps in the same kind of map (`attempts`).
//!
//! Starting is idempotent (the attempt id names the process or container), the end of every attempt is
//! reported with its exit, and after a restart of the daemon what still lives is listed and adopted, with
//! exit code and output.

mod attempts;
pub mod container;
mod deadline;
pub mod embedded;
pub mod fake;
pub mod folder;
mod follow;
pub mod keeper;
pub mod process;
mod secrets;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use domain::dag::{AlertKind, ExecutorKind, Step, StopSignal};
use domain::freshness::Life;
use domain::hop::Hop;
use domain::ids::AttemptId;
use domain::run::Exit;
use domain::schedule::Window;

/// Everything an attempt needs, on disk as `spec.json` in the attempt's folder. Holds references to secrets,
/// never values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptSpec {
    /// Which attempt.
    pub id: AttemptId,
    /// The step, as frozen in the run.
    pub step: Step,
    /// Local date the run is about.
    pub session_date: jiff::civil::Date,
    /// IANA zone of the schedule.
    pub timezone: String,
    /// Calendar name, if the schedule has one.
    pub calendar: Option<String>,
    /// The run's window.
    pub window: Window,
    /// When the attempt ends itself even if nobody is left to stop it.
    pub deadline: Option<Timestamp>,
    /// Run parameters.
    pub params: BTreeMap<String, String>,
    /// The attempt's folder (absolute): `spec.json`, `output.log`, `status.json`, `exit.json`.
    pub folder: PathBuf,
    /// Which of several copies of the step this is, from 1 on; 0: there is only one.
    #[serde(default)]
    pub replica: u32,
    /// For a check or a reconciliation: the hops of the run, and how the steps that fill them have lived
    /// until this attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<(Hop, Life)>,
}

/// What an executor tells the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Whose.
    pub attempt: AttemptId,
    /// What.
    pub news: News,
}

/// News of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// It runs.
    Started,
    /// Its status changed.
    Status(Status),
    /// Something was noticed of it that people should hear of. The same notice may come again.
    Noticed(Notice),
    /// It ended; the last news of an attempt.
    Exited {
        /// How.
        exit: Exit,
        /// What it returned.
        result: Option<serde_json::Value>,
    },
}

/// What a running step says about itself; in a process, `status.json` in the attempt's folder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Status {
    /// It can serve those that need it.
    pub ready: bool,
    /// Trouble, in one line.
    pub degraded: Option<String>,
    /// Numbers and times for the page: a flat JSON object.
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// It cannot be ready before a time, whatever anybody does. A service that is given up meanwhile would
    /// only wait again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Wait>,
    /// The newest thing that it noticed and that people should hear of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
}

/// Something that a step noticed: told once, however often the status says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When; later than that of the notice before.
    pub at: Timestamp,
    /// What kind of thing it is.
    pub kind: AlertKind,
    /// One line for people.
    pub text: String,
}

/// Until when a service has to wait before it can be ready, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Not before this time.
    pub until: Timestamp,
    /// Why, in one line for people.
    pub reason: String,
}

/// An attempt found after a restart of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Which.
    pub attempt: AttemptId,
    /// `None`: it runs; else how it ended, and what it returned.
    pub ended: Option<(Exit, Option<serde_json::Value>)>,
    /// Its last status.
    pub status: Status,
}

/// Where reports go.
pub type Reports = mpsc::UnboundedSender<Report>;

/// Something that runs attempts.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Which kind it is.
    fn kind(&self) -> ExecutorKind;

    /// Starts an attempt, or adopts it if it already lives. Every started attempt ends in exactly one
    /// `Exited` report to `reports`.
    ///
    /// # Errors
    /// When it could not be started; no report follows then.
    async fn start(&self, spec: AttemptSpec, reports: Reports) -> Result<(), StartError>;

    /// Asks an attempt to stop and kills it after `kill_after` of the daemon's clock, which it is told in its
    /// folder first ([`folder::StopOrder`]). Returns at once; the end comes as a report. An unknown attempt
    /// is fine: it ended before.
    async fn stop(&self, attempt: &AttemptId, signal: StopSignal, kill_after: Duration);

    /// Kills an attempt now.
    async fn kill(&self, attempt: &AttemptId);

    /// What earlier lives of this daemon left, running or ended, below the given attempts' folders and
    /// beyond.
    async fn find(&self) -> Vec<Found>;

    /// Watches an attempt that [`Executor::find`] listed as running; its end comes as a report.
    async fn adopt(&self, attempt: &AttemptId, reports: Reports);

    /// Forgets an ended attempt (removes a container, a pid file). Output stays.
    async fn forget(&self, attempt: &AttemptId);
}

/// Why an attempt could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{attempt} cannot be started: {reason}{}", if remedy.is_empty() { String::new() } else { format!("; {remedy}") })]
pub struct StartError {
    /// Which attempt, as text.
    pub attempt: String,
    /// Why.
    pub reason: String,
    /// What a person can do; may be empty.
    pub remedy: String,
    /// The place where it would have run is at fault, not the step: no retry is spent.
    pub infrastructure: bool,
}
