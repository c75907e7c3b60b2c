//! What the daemon knows, and the one way it changes: an event goes through the machine, is journaled and
//! flushed together with the mails it causes, and only then becomes true. What is left to do comes back as
//! effects.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::alerts::{Book, Letterhead};
use super::journal::{Journal, JournalError, Write};
use backends::mail::Message;
use domain::event::{Action, Created, RunEvent, Stamped};
use domain::finding::Finding;
use domain::ids::{RunId, StepName};
use domain::run::{Run, StepState};
use engine::machine;
use executor::Status;

/// What follows from an event, for the action runner.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// The run it belongs to.
    pub run: RunId,
    /// What to do.
    pub action: Action,
}

/// Open and recent runs, what living steps say, and alerts, with the journal they are written to.
pub struct DaemonState {
    journal: Journal,
    head: Letterhead,
    /// Open runs and recently ended ones.
    pub runs: BTreeMap<RunId, Run>,
    /// What living steps say; not journaled, they say it again.
    pub statuses: BTreeMap<(RunId, StepName), Status>,
    /// Alerts.
    pub book: Book,
}

impl DaemonState {
    /// Starts from what the journal holds.
    pub fn new(journal: Journal, head: Letterhead, runs: BTreeMap<RunId, Run>, book: Book) -> Self {
        Self { journal, head, runs, statuses: BTreeMap::new(), book }
    }

    /// The journal, for reading.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// How mails are addressed.
    pub fn letterhead(&self) -> &Letterhead {
        &self.head
    }

    /// Queues a mail that no event causes.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn mail(&mut self, mail: Message) -> Result<(), JournalError> {
        self.journal.write(Write { event: None, ended: None, alerts: None, mails: &[mail] }).await
    }

    /// The journal, for what is no event of a run (pauses, audit).
    pub fn journal_mut(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// Creates a run.
    ///
    /// # Errors
    /// When the journal cannot be written: nothing has happened then.
    pub async fn create(&mut self, created: Created, at: Timestamp) -> Result<Vec<Effect>, JournalError> {
        let id = created.id.clone();
        self.event(&id, RunEvent::Created(Box::new(created)), at).await
    }

    /// Puts one event through the machine. An event that changes nothing (late, doubled, fenced off) leaves
    /// no trace.
    ///
    /// # Errors
    /// When the journal cannot be written: nothing has happened then, and the same event may come again.
    pub async fn event(
        &mut self,
        id: &RunId,
        event: RunEvent,
        at: Timestamp,
    ) -> Result<Vec<Effect>, JournalError> {
        let before = self.runs.get(id).cloned();
        let applied = match machine::apply(before, &event, at) {
            Ok(applied) if applied.changed => applied,
            Ok(_) => return Ok(Vec::new()),
            Err(refused) => {
                tracing::debug!(run.id = %id, %refused, "event refused");
                return Ok(Vec::new());
            }
        };
        let mut book = self.book.clone();
        let mails = book.event(&self.head, &applied.run, &event, &applied.actions, at);
        let write = Write {
            event: Some((id, Stamped { at, event })),
            ended: applied.run.state.is_terminal().then_some(&applied.run),
            alerts: (book.states != self.book.states).then_some(&book.states),
            mails: &mails,
        };
        self.journal.write(write).await?;
        self.book = book;
        self.runs.insert(id.clone(), applied.run);
        if let Some(run) = self.runs.get(id) {
            // A step that is not alive has nothing to say.
            self.statuses
                .retain(|(r, s), _| r != id || run.steps.get(s).is_some_and(|step| step.state.is_alive()));
        }
        Ok(applied.actions.into_iter().map(|action| Effect { run: id.clone(), action }).collect())
    }

    /// Lets time pass for every open run.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn tick(&mut self, at: Timestamp) -> Result<Vec<Effect>, JournalError> {
        let due: Vec<RunId> = self
            .runs
            .values()
            .filter(|run| !run.state.is_terminal() && machine::next_wake(run).is_some_and(|wake| wake <= at))
            .map(|run| run.id.clone())
            .collect();
        let mut effects = Vec::new();
        for id in due {
            effects.extend(self.event(&id, RunEvent::Tick, at).await?);
        }
        Ok(effects)
    }

    /// The next instant at which an open run has something to do.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.runs.values().filter_map(machine::next_wake).min()
    }

    /// Takes a step's status and gives the events it means, if any.
    pub fn status(&mut self, id: &RunId, step: &StepName, attempt: u32, status: Status) -> Vec<RunEvent> {
        let Some(now) = self.runs.get(id).and_then(|run| run.steps.get(step)) else { return Vec::new() };
        if now.attempt != attempt || !now.state.is_alive() {
            return Vec::new();
        }
        let notice =
            status.notice.as_ref().filter(|notice| now.noticed_at.is_none_or(|last| last < notice.at)).map(
                |notice| {
                    let (noticed_at, kind, text) = (notice.at, notice.kind, notice.text.clone());
                    RunEvent::Noticed { step: step.clone(), attempt, noticed_at, kind, text }
                },
            );
        let event = match (&status.degraded, status.ready, now.state) {
            (_, false, StepState::Starting | StepState::Running) => status
                .waits
                .as_ref()
                .filter(|wait| {
                    now.not_before != Some(wait.until) || now.reason.as_ref() != Some(&wait.reason)
                })
                .map(|wait| RunEvent::Waiting {
                    step: step.clone(),
                    attempt,
                    until: wait.until,
                    reason: wait.reason.clone(),
                }),
            (None, true, StepState::Starting | StepState::Running | StepState::Degraded) => {
                Some(RunEvent::Ready { step: step.clone(), attempt })
            }
            (Some(reason), _, StepState::Ready) => {
                Some(RunEvent::Degraded { step: step.clone(), attempt, reason: reason.clone() })
            }
            (None, false, StepState::Ready) => Some(RunEvent::Degraded {
                step: step.clone(),
                attempt,
                reason: "it is not ready any more".into(),
            }),
            (Some(_), true, StepState::Starting | StepState::Running) => {
                Some(RunEvent::Ready { step: step.clone(), attempt })
            }
            _ => None,
        };
        self.statuses.insert((id.clone(), step.clone()), status);
        notice.into_iter().chain(event).collect()
    }

    /// Takes the number of dead letters held.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn dead_letters(&mut self, held: u64, at: Timestamp) -> Result<(), JournalError> {
        let mut book = self.book.clone();
        let mut mails = Vec::new();
        for run in self.runs.values().filter(|r| !r.state.is_terminal()) {
            mails.extend(book.dead_letters(&self.head, run, held, at));
        }
        if book.states != self.book.states {
            self.journal
                .write(Write { event: None, ended: None, alerts: Some(&book.states), mails: &mails })
                .await?;
        }
        self.book = book;
        Ok(())
    }

    /// Raises an alert that no event of the run raises by itself (a missed window).
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn alert(
        &mut self,
        run: &Run,
        kind: domain::dag::AlertKind,
        finding: &Finding,
        at: Timestamp,
    ) -> Result<(), JournalError> {
        let mut book = self.book.clone();
        let mails: Vec<_> = book.raise(&self.head, run, kind, None, finding, None, at).into_iter().collect();
        self.journal.write(Write { event: None, ended: None, alerts: None, mails: &mails }).await?;
        self.book = book;
        Ok(())
    }
}
