//! How everybody else talks to the daemon: snapshots to read, commands to send.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, oneshot, watch};

use super::snapshot::{RunView, Snapshot};
use crate::domain::ids::{DagName, RunId, StepName};
use crate::state::{Store, StoreError};

/// A command somebody gave, with who gave it.
#[derive(Debug)]
pub struct Request {
    /// For the audit: `cli`, `web` or a user's name.
    pub by: String,
    /// What to do.
    pub command: Command,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<String, Refused>>,
}

/// What can be asked of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Start a manual run; its end is the DAG's close of today, or `until`.
    Trigger {
        /// The DAG.
        dag: DagName,
        /// Parameters.
        params: BTreeMap<String, String>,
        /// End of the run, if the DAG has no window today.
        until: Option<jiff::Timestamp>,
        /// Local date the run is about; default today.
        date: Option<jiff::civil::Date>,
    },
    /// End a run now, in order.
    Cancel(RunId),
    /// Run steps again, and what needs them.
    Clear(RunId, Vec<StepName>),
    /// Set a step's end by hand.
    Mark(RunId, StepName, bool),
    /// Kill a step's living attempt with SIGKILL, as a fault would; the machine takes it for one.
    Kill(RunId, StepName),
    /// Stop (true) or resume (false) scheduled starts of a DAG.
    Pause(DagName, bool),
    /// Mail those whom DAGs name for alerts, to see that mail arrives; of one DAG or of all.
    TestMail(Option<DagName>),
    /// End the daemon; with `drain` every run is cancelled first and its teardown done.
    Down {
        /// Drain first.
        drain: bool,
    },
}

impl Command {
    /// What it does, in a word, and to what; for the audit.
    pub fn in_words(&self) -> (&'static str, String) {
        match self {
            Self::Trigger { dag, .. } => ("trigger", dag.to_string()),
            Self::Cancel(run) => ("cancel", run.to_string()),
            Self::Clear(run, steps) => {
                ("clear", format!("{run} {}", steps.iter().map(StepName::as_str).collect::<Vec<_>>().join(",")))
            }
            Self::Mark(run, step, success) => (if *success { "mark succeeded" } else { "mark failed" }, format!("{run}/{step}")),
            Self::Kill(run, step) => ("kill", format!("{run}/{step}")),
            Self::Pause(dag, paused) => (if *paused { "pause" } else { "resume" }, dag.to_string()),
            Self::TestMail(dag) => ("test mail", dag.as_ref().map(DagName::to_string).unwrap_or_default()),
            Self::Down { drain } => (if *drain { "down, draining" } else { "down" }, String::new()),
        }
    }
}

/// A command that was not carried out: why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A way to talk to the daemon; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Request>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    runs_dir: PathBuf,
    /// Ended runs that snapshots do not hold. Weak: whoever keeps a handle does not keep the journal of a daemon that has ended.
    store: Option<Weak<dyn Store>>,
}

impl Handle {
    /// Ties the ends together; the daemon does this once.
    pub(crate) fn new(commands: mpsc::Sender<Request>, snapshot: watch::Receiver<Arc<Snapshot>>, runs_dir: PathBuf) -> Self {
        Self { commands, snapshot, runs_dir, store: None }
    }

    /// Lets it read ended runs that snapshots do not hold.
    pub(crate) fn with_store(self, store: &Arc<dyn Store>) -> Self {
        Self { store: Some(Arc::downgrade(store)), ..self }
    }

    /// A run: the snapshot's, else its end as the journal keeps it; `None` when there is none of this id.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn run(&self, id: &RunId) -> Result<Option<RunView>, StoreError> {
        if let Some(view) = self.snapshot().runs.iter().find(|v| v.run.id == *id) {
            return Ok(Some(view.clone()));
        }
        let Some(store) = self.store.as_ref().and_then(Weak::upgrade) else { return Ok(None) };
        let run = store.finished_run(id).await?;
        Ok(run.map(|run| RunView { run, statuses: BTreeMap::new() }))
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Wakes on every new snapshot.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Gives a command and waits for its answer, one line for people.
    ///
    /// # Errors
    /// Why the daemon did not do it.
    pub async fn command(&self, by: &str, command: Command) -> Result<String, Refused> {
        let (answer, reply) = oneshot::channel();
        let gone = || Refused("the daemon is going down".into());
        self.commands.send(Request { by: by.to_owned(), command, answer }).await.map_err(|_| gone())?;
        reply.await.map_err(|_| gone())?
    }

    /// The file with the output of an attempt; it may not exist yet.
    pub fn output_file(&self, run: &RunId, step: &StepName, attempt: u32) -> PathBuf {
        self.runs_dir.join(run.as_str()).join(step.as_str()).join(attempt.to_string()).join("output.log")
    }
}
