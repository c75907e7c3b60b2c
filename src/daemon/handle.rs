//! How everybody else talks to the daemon: snapshots to read, commands to send.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, oneshot, watch};

use super::idempotency::{Earlier, Idempotency, earlier};
use super::snapshot::{RunView, Snapshot};
use domain::ids::{DagName, RunId, StepName};
use domain::message::Refused;
use domain::said;
use state::{Outcome, Store, StoreError};

/// A command somebody gave, with who gave it.
#[derive(Debug)]
pub struct Request {
    /// For the audit: `cli`, `web` or a user's name.
    pub by: String,
    /// What to do.
    pub command: Command,
    /// It may be sent again, and is carried out once.
    pub idempotency: Option<Idempotency>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Answer, Refused>>,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was carried out; one line for people.
    Done(String),
    /// It was carried out before: what was answered then.
    Repeated(String),
    /// Nothing: its key belongs to another request.
    KeyTaken,
}

impl From<&str> for Answer {
    fn from(line: &str) -> Self {
        Self::Done(line.to_owned())
    }
}

/// What somebody did that is no command of the loop, for the audit: a login, a replay.
#[derive(Debug)]
pub struct Note {
    /// Who.
    pub by: String,
    /// What, in a word or two.
    pub what: &'static str,
    /// To what.
    pub subject: String,
    /// What came of it.
    pub outcome: Outcome,
    /// More of that, for people.
    pub detail: String,
    /// The answer to keep with it.
    pub answer: Option<(Idempotency, String)>,
    /// Told when it is written down.
    pub written: Option<oneshot::Sender<()>>,
}

impl Note {
    /// A note of something that was done, and that nobody waits for.
    pub fn new(
        by: impl Into<String>,
        what: &'static str,
        subject: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        let (by, subject, detail) = (by.into(), subject.into(), detail.into());
        Self { by, what, subject, outcome: Outcome::Done, detail, answer: None, written: None }
    }

    /// The same of something that failed.
    #[must_use]
    pub fn failed(self) -> Self {
        Self { outcome: Outcome::Failed, ..self }
    }
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
    /// Create the runs of sessions that passed without one; the answer is a JSON list of
    /// [`BackfillSession`]s.
    Backfill {
        /// The DAG.
        dag: DagName,
        /// First local date.
        first: jiff::civil::Date,
        /// Last local date.
        last: jiff::civil::Date,
        /// Parameters.
        params: BTreeMap<String, String>,
        /// Most runs to create, the earliest first; with 0 the sessions are only listed.
        at_most: usize,
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
            Self::Backfill { dag, first, last, .. } => ("backfill", format!("{dag} {first} to {last}")),
            Self::Cancel(run) => ("cancel", run.to_string()),
            Self::Clear(run, steps) => (
                "clear",
                format!("{run} {}", steps.iter().map(StepName::as_str).collect::<Vec<_>>().join(",")),
            ),
            Self::Mark(run, step, success) => {
                (if *success { "mark succeeded" } else { "mark failed" }, format!("{run}/{step}"))
            }
            Self::Kill(run, step) => ("kill", format!("{run}/{step}")),
            Self::Pause(dag, paused) => (if *paused { "pause" } else { "resume" }, dag.to_string()),
            Self::TestMail(dag) => ("test mail", dag.as_ref().map(DagName::to_string).unwrap_or_default()),
            Self::Down { drain } => (if *drain { "down, draining" } else { "down" }, String::new()),
        }
    }
}

/// A session that a backfill is about.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BackfillSession {
    /// The id of its run, whether that exists or not.
    pub run: RunId,
    /// The local date it is about.
    pub date: jiff::civil::Date,
    /// How it stands.
    pub state: BackfillState,
}

/// How a session stands after a [`Command::Backfill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillState {
    /// Its run was created by this command.
    Created,
    /// It has a run, which is open.
    Running,
    /// It has a run, which has ended.
    Ended,
    /// Its window is open, and it has no run: that is the schedule's business, or that of a run by hand.
    Window,
    /// It has not opened yet.
    Ahead,
    /// It passed without a run, and still has none.
    Due,
}

impl BackfillState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Created, Self::Running, Self::Ended, Self::Window, Self::Ahead, Self::Due];
}

/// A way to talk to the daemon; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Request>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    runs_dir: PathBuf,
    /// Ended runs that snapshots do not hold. Weak: whoever keeps a handle does not keep the journal of a
    /// daemon that has ended.
    store: Option<Weak<dyn Store>>,
    /// What people did beside commands.
    notes: Option<mpsc::Sender<Note>>,
}

impl Handle {
    /// Ties the ends together; the daemon does this once.
    pub fn new(
        commands: mpsc::Sender<Request>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        runs_dir: PathBuf,
    ) -> Self {
        Self { commands, snapshot, runs_dir, store: None, notes: None }
    }

    /// Lets it note what people do beside commands.
    pub fn with_notes(self, notes: mpsc::Sender<Note>) -> Self {
        Self { notes: Some(notes), ..self }
    }

    /// Lets it read ended runs that snapshots do not hold.
    pub fn with_store(self, store: &Arc<dyn Store>) -> Self {
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

    /// Writes the journal as plain text beside it; the new file. One that is made on purpose is kept as long
    /// as those made by time.
    ///
    /// # Errors
    /// When it cannot be written, or the daemon is going down.
    pub async fn export(&self) -> Result<PathBuf, StoreError> {
        let store = self.store.as_ref().and_then(Weak::upgrade);
        let store = store.ok_or_else(|| StoreError::Broken { why: "the daemon is going down".into() })?;
        let data = self.runs_dir.parent().unwrap_or(&self.runs_dir);
        store.export(&data.join("state-export"), self.snapshot().now).await
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
        match self.command_idempotent(by, command, None).await? {
            Answer::Done(line) | Answer::Repeated(line) => Ok(line),
            Answer::KeyTaken => Err(Refused::bare(said!("its key belongs to another request"))),
        }
    }

    /// Gives a command that may have been given before.
    ///
    /// # Errors
    /// Why the daemon did not do it.
    pub async fn command_idempotent(
        &self,
        by: &str,
        command: Command,
        idempotency: Option<Idempotency>,
    ) -> Result<Answer, Refused> {
        let (answer, reply) = oneshot::channel();
        let gone = || Refused::bare(said!("the daemon is going down"));
        self.commands
            .send(Request { by: by.to_owned(), command, idempotency, answer })
            .await
            .map_err(|_| gone())?;
        reply.await.map_err(|_| gone())?
    }

    /// What is known of a request with a key; read from the journal, by the snapshot's clock.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn earlier(&self, idempotency: &Idempotency) -> Result<Option<Earlier>, StoreError> {
        let Some(store) = self.store.as_ref().and_then(Weak::upgrade) else { return Ok(None) };
        let now = self.snapshot().now;
        Ok(store.answer(&idempotency.key).await?.and_then(|answered| earlier(&answered, idempotency, now)))
    }

    /// Notes what somebody did, without waiting. Where more comes than can be written down, some of it is
    /// only in the log.
    pub fn note(&self, note: Note) {
        if let Some(notes) = &self.notes
            && let Err(mpsc::error::TrySendError::Full(note)) = notes.try_send(note)
        {
            tracing::warn!(
                by = note.by,
                what = note.what,
                subject = note.subject,
                "too much happens at once for the audit to tell it"
            );
        }
    }

    /// Notes what somebody did, and the answer they get; back when it is written down.
    pub async fn note_answer(&self, note: Note, answer: Option<(Idempotency, String)>) {
        let (written, told) = oneshot::channel();
        let Some(notes) = &self.notes else { return };
        // A daemon that goes down writes nothing more; whoever asked is told so by its end.
        if notes.send(Note { answer, written: Some(written), ..note }).await.is_ok() {
            drop(told.await);
        }
    }

    /// The file with the output of an attempt; it may not exist yet.
    pub fn output_file(&self, run: &RunId, step: &StepName, attempt: u32) -> PathBuf {
        self.runs_dir.join(run.as_str()).join(step.as_str()).join(attempt.to_string()).join("output.log")
    }
}
