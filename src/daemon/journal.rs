//! The daemon's side of the state store: what is written together, and what is read at start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::alerts::{Book, Letterhead};
use super::handle::Command;
use super::history::History;
use super::idempotency::{Answers, Earlier, Idempotency};
use backends::mail::Message;
use domain::alert::AlertStates;
use domain::event::Stamped;
use domain::ids::{DagName, RunId};
use domain::message::Refused;
use domain::run::Run;
use engine::machine;
use state::sled::Sled;
use state::{Audit, Opened, OutboxMail, Outcome, Paused, Put, Store, StoreError};

/// The journal cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error(
    "journal: {0}; nothing is started or stopped until it works again: fix the cause and start openbell again"
)]
pub struct JournalError(#[from] StoreError);

/// Ended runs read at start, for the page.
const ENDED_READ: usize = 50;
/// Of these, how many have their alerts told again on the page.
const ALERTS_OF: usize = 10;
/// Audit entries held for the page; the journal and its export hold all that are kept.
const AUDITS: usize = 2_000;

/// The journal, with the small things in memory.
pub struct Journal {
    store: Arc<dyn Store>,
    pauses: BTreeMap<DagName, Paused>,
    planned: BTreeMap<DagName, Timestamp>,
    /// Ids of all runs it ever held and still holds.
    known: BTreeSet<RunId>,
    /// Ended runs in brief.
    history: Arc<History>,
    /// Who did what, newest first.
    audits: Arc<Vec<Audit>>,
    /// Answers to requests with a key.
    answers: Answers,
}

/// What was in it.
pub struct Loaded {
    /// The journal.
    pub journal: Journal,
    /// Open runs, and the newest ended ones.
    pub runs: BTreeMap<RunId, Run>,
    /// Alerts.
    pub book: Book,
    /// What people should hear of: a damaged journal, a run that cannot be read.
    pub notices: Vec<String>,
}

/// What one event writes, in one piece.
pub struct Write<'a> {
    /// The event.
    pub event: Option<(&'a RunId, Stamped)>,
    /// The run, if it ended with it.
    pub ended: Option<&'a Run>,
    /// Alert rule states, if they changed.
    pub alerts: Option<&'a AlertStates>,
    /// Mails it causes.
    pub mails: &'a [Message],
}

impl Journal {
    /// Opens `state/` in the data folder; a damaged one is moved aside and restored from `state-export/`.
    ///
    /// # Errors
    /// When it cannot be opened at all.
    pub async fn open(data: &Path, head: &Letterhead) -> Result<Loaded, JournalError> {
        let (store, opened) = Sled::open(&data.join("state"), &data.join("state-export")).await?;
        let mut notices = Vec::new();
        if let Opened::Restored(restored) = opened {
            tracing::error!("{restored}");
            notices.push(restored.to_string());
        }
        Self::load(Arc::new(store), head, notices).await
    }

    /// Reads what a store holds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn load(
        store: Arc<dyn Store>,
        head: &Letterhead,
        mut notices: Vec<String>,
    ) -> Result<Loaded, JournalError> {
        let mut runs = BTreeMap::new();
        let mut book = Book::new(store.alerts().await?);
        let ended = store.finished(None, usize::MAX).await?;
        let known: BTreeSet<RunId> = ended.iter().map(|r| r.id.clone()).collect();
        let history = Arc::new(History::of(ended.iter()));
        for run in ended.iter().take(ALERTS_OF).rev() {
            book.retell(head, &store.events(&run.id).await?.events);
        }
        for run in ended.into_iter().take(ENDED_READ) {
            runs.insert(run.id.clone(), run);
        }
        for journaled in store.unfinished().await? {
            match machine::replay(&journaled.events) {
                Ok(Some(run)) => {
                    book.retell(head, &journaled.events);
                    runs.insert(run.id.clone(), run);
                }
                Ok(None) => {}
                Err((at, refused)) => {
                    let notice = format!(
                        "the journal of run {} cannot be folded at event {}: {refused}; the run is left alone",
                        journaled.run,
                        at + 1
                    );
                    tracing::error!("{notice}");
                    notices.push(notice);
                }
            }
        }
        let known = known.into_iter().chain(runs.keys().cloned()).collect();
        let (pauses, planned) = (store.pauses().await?, store.high_water().await?);
        let audits = Arc::new(store.audit(AUDITS).await?);
        let answers = Answers::of(store.answers().await?);
        Ok(Loaded {
            journal: Self { store, pauses, planned, known, history, audits, answers },
            runs,
            book,
            notices,
        })
    }

    /// The store, for the outbox.
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Writes in one flushed piece.
    ///
    /// # Errors
    /// When it could not be made durable: nothing of it has happened then.
    pub async fn write(&mut self, write: Write<'_>) -> Result<(), JournalError> {
        let mut extra = self.answers.take();
        if let Some(run) = write.ended {
            extra.push(Put::Finished(Box::new(run.clone())));
        }
        if let Some(alerts) = write.alerts {
            extra.push(Put::Alerts(alerts.clone()));
        }
        for message in write.mails {
            extra.push(Put::Mail(OutboxMail {
                key: message.key.clone(),
                created_at: message.at,
                attempts: 0,
                next_at: message.at,
                last_error: None,
                message: serde_json::to_value(message).unwrap_or_default(),
            }));
        }
        let event = write.event.map(|(id, stamped)| {
            self.known.insert(id.clone());
            (id.clone(), stamped)
        });
        self.store.append_all(event.into_iter().collect(), extra).await?;
        if let Some(run) = write.ended {
            Arc::make_mut(&mut self.history).put(run);
        }
        Ok(())
    }

    /// Whether a run of this id exists or existed.
    pub fn knows(&self, id: &RunId) -> bool {
        self.known.contains(id)
    }

    /// Every ended run that is kept, in brief.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Who did what, newest first.
    pub fn audits(&self) -> &Arc<Vec<Audit>> {
        &self.audits
    }

    /// The end of a run that is not held in memory any more.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn finished_run(&self, id: &RunId) -> Result<Option<Run>, JournalError> {
        Ok(self.store.finished_run(id).await?)
    }

    /// Paused DAGs.
    pub fn pauses(&self) -> &BTreeMap<DagName, Paused> {
        &self.pauses
    }

    /// Pauses a DAG, or ends its pause.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn set_paused(
        &mut self,
        dag: &DagName,
        by: Option<&str>,
        at: Timestamp,
    ) -> Result<(), JournalError> {
        match by {
            Some(by) => {
                let paused = Paused { by: by.to_owned(), at };
                self.store.put(vec![Put::Pause(dag.clone(), paused.clone())]).await?;
                self.pauses.insert(dag.clone(), paused);
            }
            None => {
                self.store.put(vec![Put::Unpause(dag.clone())]).await?;
                self.pauses.remove(dag);
            }
        }
        Ok(())
    }

    /// Up to when a DAG's sessions are decided.
    pub fn planned_until(&self, dag: &DagName) -> Option<Timestamp> {
        self.planned.get(dag).copied()
    }

    /// Notes up to when a DAG's sessions are decided.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn set_planned_until(&mut self, dag: &DagName, until: Timestamp) -> Result<(), JournalError> {
        self.store.put(vec![Put::HighWater(dag.clone(), until)]).await?;
        self.planned.insert(dag.clone(), until);
        Ok(())
    }

    /// What is known of a request with a key.
    pub fn earlier(&self, idempotency: &Idempotency, now: Timestamp) -> Option<Earlier> {
        self.answers.earlier(idempotency, now)
    }

    /// Keeps the answer to a request with a key. It is written with whatever is written next: what the answer
    /// tells, or its audit.
    pub fn keep(&mut self, idempotency: &Idempotency, answer: &str, at: Timestamp) {
        self.answers.keep(idempotency, answer, at);
    }

    /// Notes who gave which command and what came of it.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn audit(
        &mut self,
        by: &str,
        command: &Command,
        answer: &Result<String, Refused>,
        at: Timestamp,
    ) -> Result<(), JournalError> {
        let (what, subject) = command.in_words();
        let (outcome, detail) = match answer {
            Ok(run) if matches!(command, Command::Trigger { .. }) => (Outcome::Done, format!("done: {run}")),
            Ok(_) => (Outcome::Done, "done".to_owned()),
            Err(refused) => (Outcome::Refused, format!("refused: {refused}")),
        };
        self.note(Audit { at, who: by.to_owned(), what: what.to_owned(), subject, outcome, detail }).await
    }

    /// Notes what somebody did.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn note(&mut self, entry: Audit) -> Result<(), JournalError> {
        let mut puts = self.answers.take();
        puts.push(Put::Audit(entry.clone()));
        self.store.put(puts).await?;
        let audits = Arc::make_mut(&mut self.audits);
        audits.insert(0, entry);
        audits.truncate(AUDITS);
        Ok(())
    }

    /// Writes the plain-text export from which a damaged journal is restored.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn export(&self, data: &Path, at: Timestamp) -> Result<(), JournalError> {
        self.store.export(&data.join("state-export"), at).await?;
        Ok(())
    }

    /// Removes runs that ended longer ago than `keep`; gives them, so that their output can go too.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn prune(&mut self, now: Timestamp, keep: Duration) -> Result<Vec<RunId>, JournalError> {
        let before = now.checked_sub(keep).unwrap_or(Timestamp::MIN);
        let pruned = self.store.prune(before).await?;
        if !pruned.runs.is_empty() {
            Arc::make_mut(&mut self.history).forget(&pruned.runs);
        }
        if pruned.audit_entries > 0 {
            Arc::make_mut(&mut self.audits).retain(|entry| entry.at >= before);
        }
        // Their ids stay known for this life: a session that had a run does not get another.
        Ok(pruned.runs)
    }
}
