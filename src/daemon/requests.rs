//! Commands, carried out by the loop.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;

use super::action_runner::Call;
use super::commands;
use super::dispatcher::Dispatcher;
use super::handle::{Answer, BackfillSession, BackfillState, Command, Note};
use super::idempotency::{Earlier, Idempotency};
use super::journal::JournalError;
use domain::dag::Dag;
use domain::event::{Created, RunEvent};
use domain::ids::{AttemptId, DagName, RunId};
use domain::message::Refused;
use domain::run::Cause;
use domain::said;
use domain::schedule::Catchup;
use engine::planner;
use state::Audit;

impl Dispatcher {
    /// Carries out a command, unless it was before; the inner error is for whoever gave it.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub(super) async fn command(
        &mut self,
        by: &str,
        command: Command,
        idempotency: Option<&Idempotency>,
    ) -> Result<Result<Answer, Refused>, JournalError> {
        match idempotency.and_then(|idempotency| self.state.journal().earlier(idempotency, self.clock.now()))
        {
            Some(Earlier::Same(answer)) => Ok(Ok(Answer::Repeated(answer))),
            Some(Earlier::Other) => Ok(Ok(Answer::KeyTaken)),
            None => Ok(self.carry_out(by, command, idempotency).await?.map(Answer::Done)),
        }
    }

    /// Writes down what somebody did beside commands, with the answer they get.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub(super) async fn note(&mut self, note: Note) -> Result<(), JournalError> {
        let now = self.clock.now();
        if let Some((idempotency, answer)) = &note.answer {
            self.state.journal_mut().keep(idempotency, answer, now);
        }
        let entry = Audit {
            at: now,
            who: note.by,
            what: note.what.to_owned(),
            subject: note.subject,
            outcome: note.outcome,
            detail: note.detail,
        };
        self.state.journal_mut().note(entry).await?;
        if let Some(written) = note.written {
            // Nobody may wait for it any more; it is written all the same.
            written.send(()).unwrap_or_default();
        }
        Ok(())
    }

    /// Keeps the answer to a request with a key, to be written in one piece with what it tells.
    fn keep(&mut self, idempotency: Option<&Idempotency>, answer: &str, now: Timestamp) {
        if let Some(idempotency) = idempotency {
            self.state.journal_mut().keep(idempotency, answer, now);
        }
    }

    async fn carry_out(
        &mut self,
        by: &str,
        command: Command,
        idempotency: Option<&Idempotency>,
    ) -> Result<Result<String, Refused>, JournalError> {
        let now = self.clock.now();
        if let Command::Clear(id, _) | Command::Mark(id, ..) = &command
            && !self.state.runs.contains_key(id)
            && let Some(run) = self.state.journal().finished_run(id).await?
        {
            // Memory holds the newest ended runs only; an older one can be run again all the same.
            self.state.runs.insert(id.clone(), run);
        }
        let runs = &self.state.runs;
        let answer = match &command {
            Command::Cancel(id) | Command::Clear(id, _) | Command::Mark(id, _, _) => {
                self.change_run(id, &command, by, idempotency, now).await?
            }
            Command::Kill(id, step) => commands::living(runs, id, step).map(|attempt| {
                if let Some(found) = runs.get(id).and_then(|r| r.dag.step(step)).cloned() {
                    self.send(Call::Kill(found, AttemptId { run: id.clone(), step: step.clone(), attempt }));
                }
                format!("step {step} killed")
            }),
            Command::Trigger { dag, params, until, date } => {
                self.trigger(dag, (params.clone(), *until, *date), idempotency, now).await?
            }
            Command::Backfill { dag, first, last, params, at_most } => {
                self.backfill(dag, (*first, *last), params, *at_most, now).await?
            }
            Command::Pause(dag, paused) => {
                if self.dags.contains_key(dag) {
                    self.state.journal_mut().set_paused(dag, paused.then_some(by), now).await?;
                    self.views_at = None;
                    Ok(format!(
                        "{dag} is {}",
                        if *paused { "paused; open runs go on" } else { "scheduled again" }
                    ))
                } else {
                    Err(self.no_dag(dag))
                }
            }
            Command::TestMail(dag) => self.test_mail(dag.as_ref(), by, idempotency, now).await?,
            Command::Down { drain: false } => {
                self.stop.cancel();
                Ok("going down; process steps live on".into())
            }
            Command::Down { drain: true } => Ok(self.drain(by, now).await?),
        };
        if matches!(command, Command::Backfill { at_most: 0, .. }) {
            // It only asked.
            return Ok(answer);
        }
        // Most answers were kept above, with what they tell; the others are with the audit.
        if let Ok(answer) = &answer {
            self.keep(idempotency, answer, now);
        }
        self.state.journal_mut().audit(by, &command, &answer, now).await?;
        Ok(answer)
    }

    /// Cancels, clears or marks.
    async fn change_run(
        &mut self,
        id: &RunId,
        command: &Command,
        by: &str,
        idempotency: Option<&Idempotency>,
        now: Timestamp,
    ) -> Result<Result<String, Refused>, JournalError> {
        let event = match commands::event(&self.state.runs, id, command, by, now) {
            Ok(event) => event,
            Err(refused) => return Ok(Err(refused)),
        };
        let answer = format!("run {id}: done");
        self.keep(idempotency, &answer, now);
        let effects = self.state.event(id, event, now).await?;
        self.act(effects);
        Ok(Ok(answer))
    }

    /// Cancels every open run; the loop ends once they have ended.
    async fn drain(&mut self, by: &str, now: Timestamp) -> Result<String, JournalError> {
        self.draining = true;
        let open: Vec<RunId> =
            self.state.runs.values().filter(|r| !r.state.is_terminal()).map(|r| r.id.clone()).collect();
        for id in &open {
            let effects = self.state.event(id, RunEvent::CancelRequested { by: by.to_owned() }, now).await?;
            self.act(effects);
        }
        Ok(format!("draining {} open runs, then going down", open.len()))
    }

    async fn trigger(
        &mut self,
        name: &DagName,
        (params, until, date): (BTreeMap<String, String>, Option<Timestamp>, Option<Date>),
        idempotency: Option<&Idempotency>,
        now: Timestamp,
    ) -> Result<Result<String, Refused>, JournalError> {
        let Some((_, dag)) = self.dags.get(name) else { return Ok(Err(self.no_dag(name))) };
        let calendar = dag
            .schedule
            .as_ref()
            .and_then(|s| s.calendar.as_ref())
            .and_then(|c| self.folder.calendars.get(c));
        let taken = |id: &RunId| self.state.runs.contains_key(id) || self.state.journal().knows(id);
        match commands::manual(dag, calendar, params, until, taken, now) {
            Ok(mut created) => {
                created.session_date = date.unwrap_or(created.session_date);
                let id = created.id.clone();
                self.keep(idempotency, id.as_str(), now);
                let effects = self.state.create(created, now).await?;
                self.act(effects);
                Ok(Ok(id.to_string()))
            }
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Creates the first runs of sessions that passed without one. Each is its session's own run, so that
    /// asking again creates nothing twice.
    async fn backfill(
        &mut self,
        name: &DagName,
        (first, last): (Date, Date),
        params: &BTreeMap<String, String>,
        at_most: usize,
        now: Timestamp,
    ) -> Result<Result<String, Refused>, JournalError> {
        let Some((_, dag)) = self.dags.get(name) else { return Ok(Err(self.no_dag(name))) };
        let dag = dag.clone();
        let found = match self.sessions(&dag, first, last, now) {
            Ok(found) => found,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut sessions = Vec::new();
        let mut created = 0;
        for planner::Backfill { id, session_date, status } in found {
            let state = match status {
                planner::BackfillStatus::Due(start) if created < at_most => {
                    tracing::info!(run.id = %id, "run created by a backfill");
                    let (window, params) = (start.window, params.clone());
                    let run = Created {
                        id: id.clone(),
                        dag: dag.clone(),
                        cause: Cause::Backfill,
                        session_date,
                        window,
                        params,
                    };
                    let effects = self.state.create(run, now).await?;
                    self.act(effects);
                    created += 1;
                    BackfillState::Created
                }
                planner::BackfillStatus::Due(_) => BackfillState::Due,
                planner::BackfillStatus::Open => BackfillState::Window,
                planner::BackfillStatus::Ahead => BackfillState::Ahead,
                planner::BackfillStatus::Exists
                    if self.state.runs.get(&id).is_some_and(|run| !run.state.is_terminal()) =>
                {
                    BackfillState::Running
                }
                planner::BackfillStatus::Exists => BackfillState::Ended,
            };
            sessions.push(BackfillSession { run: id, date: session_date, state });
        }
        Ok(serde_json::to_string(&sessions)
            .map_err(|error| Refused::bare(said!("the answer cannot be written: {}", error.to_string()))))
    }

    /// The sessions of a DAG on the dates of a backfill.
    fn sessions(
        &self,
        dag: &Dag,
        first: Date,
        last: Date,
        now: Timestamp,
    ) -> Result<Vec<planner::Backfill>, Refused> {
        let name = &dag.name;
        let most = Catchup::CAP;
        let Some(schedule) = &dag.schedule else {
            return Err(Refused::new(
                said!("{} has no schedule, so there are no sessions to backfill", name),
                said!("run it for a day with `openbell run trigger {} --date DAY`", name),
            ));
        };
        let days = last.duration_since(first).as_hours() / 24 + 1;
        if days < 1 {
            return Err(Refused::new(
                said!("{} comes after {}", first, last),
                said!("name the earlier date first"),
            ));
        }
        if days > most as i64 {
            return Err(Refused::new(
                said!("{} to {} are {} days", first, last, days),
                said!("ask for at most {} at a time", most),
            ));
        }
        let calendar = schedule.calendar.as_ref().and_then(|c| self.folder.calendars.get(c));
        if let (Some(wanted), None) = (&schedule.calendar, calendar) {
            return Err(Refused::new(
                said!("the calendar \"{}\" of {} is not there", wanted, name),
                said!("see `openbell dag lint`"),
            ));
        }
        let planned = planner::PlannedDag { dag, calendar, paused: false, planned_until: None };
        let exists = |id: &RunId| self.state.runs.contains_key(id) || self.state.journal().knows(id);
        let found = planner::backfill(now, planned, first, last, exists);
        if found.len() > most {
            return Err(Refused::new(
                said!("{} to {} have more than {} sessions", first, last, most),
                said!("ask for fewer days at a time"),
            ));
        }
        Ok(found)
    }

    /// Queues a mail to everybody whom DAGs name for alerts.
    async fn test_mail(
        &mut self,
        dag: Option<&DagName>,
        by: &str,
        idempotency: Option<&Idempotency>,
        now: Timestamp,
    ) -> Result<Result<String, Refused>, JournalError> {
        if let Some(name) = dag.filter(|name| !self.dags.contains_key(*name)) {
            return Ok(Err(self.no_dag(name)));
        }
        let named = self.dags.values().filter(|(_, d)| dag.is_none_or(|name| d.name == *name));
        let to: BTreeSet<String> = named.flat_map(|(_, d)| d.alerts.email.iter().cloned()).collect();
        if to.is_empty() {
            let why = match dag {
                Some(name) => said!("{} does not name anybody to mail", name),
                None => said!("no DAG names anybody to mail"),
            };
            return Ok(Err(Refused::new(
                why,
                said!("write alerts: {} in a DAG file", "{ email: [you@example.com] }"),
            )));
        }
        let to: Vec<String> = to.into_iter().collect();
        let answer = format!("a test mail to {} is queued; the outbox shows whether it left", to.join(", "));
        self.keep(idempotency, &answer, now);
        let mail = super::alert_mail::test_mail(to, self.state.letterhead(), by, now);
        self.state.mail(mail).await?;
        self.mail_wake.notify_one();
        Ok(Ok(answer))
    }

    fn no_dag(&self, name: &DagName) -> Refused {
        let names: Vec<_> = self.dags.keys().map(DagName::as_str).collect();
        let remedy =
            if names.is_empty() { said!("there are none") } else { said!("there are {}", names.join(", ")) };
        Refused::new(said!("there is no DAG {}", name), remedy)
    }
}
