//! The loop: one task takes executor reports, commands, store figures and time, in turn, and changes the
//! daemon's state. Nobody else changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::action_runner::{Call, Executors, spec};
use super::daemon_state::{DaemonState, Effect};
use super::folder::Folder;
use super::handle::{Note, Request};
use super::journal::JournalError;
use super::snapshot::{Gauges, Problem, QueuedMail, Snapshot};
use super::trends::{self, Trends};
use super::views::{self, Parts};
use clock::Clock;
use domain::dag::{AlertKind, Dag, ExecutorKind, StopSignal};
use domain::event::{Action, Created, RunEvent};
use domain::ids::{AttemptId, DagName, RunId};
use domain::program::Program;
use domain::run::Cause;
use engine::planner;
use executor::{News, Notice, Report};

/// Everything the loop reads from.
pub struct Inputs {
    /// Executor reports.
    pub reports: mpsc::UnboundedReceiver<Report>,
    /// Commands.
    pub commands: mpsc::Receiver<Request>,
    /// What people did beside commands.
    pub notes: mpsc::Receiver<Note>,
    /// Wall-clock ticks.
    pub cron_ticks: mpsc::Receiver<()>,
    /// The DAG folder, read anew.
    pub folder: mpsc::Receiver<Folder>,
    /// Store figures.
    pub gauges: watch::Receiver<Gauges>,
    /// Mails waiting to be sent.
    pub queued: watch::Receiver<Vec<QueuedMail>>,
}

/// The loop's own state.
pub struct Dispatcher {
    pub(super) clock: Clock,
    pub(super) state: DaemonState,
    pub(super) folder: Folder,
    /// DAGs in force, with their files; a file that broke keeps its last good version here.
    pub(super) dags: BTreeMap<DagName, (String, Dag)>,
    pub(super) problems: Vec<Problem>,
    pub(super) only: Option<DagName>,
    pub(super) executors: Executors,
    pub(super) action_runner: mpsc::UnboundedSender<Call>,
    pub(super) runs_dir: PathBuf,
    /// What built-in programs are.
    pub(super) programs: &'static [Program],
    pub(super) data: PathBuf,
    /// When the journal was last exported, and how many runs had ended then.
    pub(super) exported: Option<(Timestamp, usize)>,
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    /// Wakes the outbox after mails were queued.
    pub(super) mail_wake: Arc<tokio::sync::Notify>,
    pub(super) up_since: Timestamp,
    pub(super) notices: Vec<String>,
    pub(super) stop: CancellationToken,
    /// `down --drain`: end when no run is open.
    pub(super) draining: bool,
    pub(super) keep_days: u32,
    pub(super) trends: Arc<Trends>,
    pub(super) views_at: Option<Timestamp>,
    pub(super) views: Vec<super::snapshot::DagView>,
}

/// A DAG with nothing to decide notes how far it was looked at this often; a decision notes it at once.
const PLANNED_SAVED_EVERY: SignedDuration = SignedDuration::from_mins(10);
/// Longest time between two looks, of real time: level-triggered means that looking often enough is all it
/// takes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Real time that embedded steps get when the process ends.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);
/// Shortest real time between two snapshots.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(100);

impl Dispatcher {
    /// Runs until stopped, then gives up its embedded steps; a journal that cannot be written any more ends
    /// the loop too, because acting without it would lose track of what is journaled.
    ///
    /// # Errors
    /// The journal's error.
    pub async fn run(mut self, mut inputs: Inputs) -> Result<(), JournalError> {
        let mut publish = tokio::time::interval(SNAPSHOT_EVERY);
        publish.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut dirty = true;
        loop {
            let now = self.clock.now();
            self.look(now).await?;
            self.maintain().await;
            if self.draining && self.state.runs.values().all(|r| r.state.is_terminal()) {
                self.stop.cancel();
            }
            let until = self.next_wake(now);
            let alarm = async {
                tokio::select! {
                    () = self.clock.sleep_until(until) => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(report) = inputs.reports.recv() => {
                    self.report(report).await?;
                    // Reports come in bursts (50 parallel steps); take what is there before looking at the
                    // clock again.
                    while let Ok(report) = inputs.reports.try_recv() {
                        self.report(report).await?;
                    }
                    // Seen at once: a demo's clock slows down when a service has to come up again.
                    self.publish(&inputs);
                }
                Some(request) = inputs.commands.recv() => {
                    let answer = self.command(&request.by, request.command, request.idempotency.as_ref()).await?;
                    // Whoever has the answer finds what it tells.
                    self.publish(&inputs);
                    if request.answer.send(answer).is_err() {
                        tracing::debug!("whoever gave the command did not wait for the answer");
                    }
                }
                Some(note) = inputs.notes.recv() => {
                    self.note(note).await?;
                    dirty = true;
                }
                Some(folder) = inputs.folder.recv() => {
                    self.reload(folder);
                    self.pause_disabled().await?;
                    dirty = true;
                }
                Some(()) = inputs.cron_ticks.recv() => {}
                _ = publish.tick(), if dirty => {
                    self.dead_letters(&inputs).await?;
                    self.publish(&inputs);
                    dirty = false;
                }
                () = alarm => dirty = true,
            }
            // A running day always has something new to show: its clock, its figures.
            dirty |= self.state.runs.values().any(|r| !r.state.is_terminal());
        }
        self.publish(&inputs);
        self.leave(&mut inputs).await;
        self.exported = None;
        self.maintain().await;
        Ok(())
    }

    /// Once an hour and after every run's end: the plain-text export, and the removal of what is older than
    /// it is kept.
    async fn maintain(&mut self) {
        let now = self.clock.now();
        let ended = self.state.runs.values().filter(|r| r.state.is_terminal()).count();
        let due = self
            .exported
            .is_none_or(|(at, n)| n != ended || now.duration_since(at) >= SignedDuration::from_hours(1));
        if !due {
            return;
        }
        self.exported = Some((now, ended));
        let keep = Duration::from_secs(u64::from(self.keep_days) * 86_400);
        match self.state.journal_mut().prune(now, keep).await {
            Ok(gone) => {
                for id in gone {
                    self.state.runs.remove(&id);
                    let folder = self.runs_dir.join(id.as_str());
                    if let Err(error) = tokio::fs::remove_dir_all(&folder).await {
                        tracing::warn!(%error, folder = %folder.display(), "the output of a pruned run stays");
                    }
                }
            }
            Err(error) => tracing::error!(%error, "old runs cannot be removed from the journal"),
        }
        if let Err(error) = self.state.journal().export(&self.data, now).await {
            tracing::error!(%error, "the journal's export cannot be written; a damaged journal would be restored from an older one");
        }
    }

    /// Level-triggered: what should be against what is.
    async fn look(&mut self, now: Timestamp) -> Result<(), JournalError> {
        self.plan(now).await?;
        let effects = self.state.tick(now).await?;
        self.act(effects);
        Ok(())
    }

    fn next_wake(&mut self, now: Timestamp) -> Timestamp {
        let planned = {
            let dags = self.planned_dags();
            planner::next_wake(now, &dags)
        };
        let far = now.checked_add(Duration::from_secs(3600)).unwrap_or(now);
        [planned, self.state.next_wake()].into_iter().flatten().min().unwrap_or(far)
    }

    fn planned_dags(&self) -> Vec<planner::PlannedDag<'_>> {
        if self.draining {
            return Vec::new();
        }
        self.dags
            .values()
            .filter(|(_, dag)| self.only.as_ref().is_none_or(|only| only == &dag.name))
            .map(|(_, dag)| planner::PlannedDag {
                dag,
                calendar: dag
                    .schedule
                    .as_ref()
                    .and_then(|s| s.calendar.as_ref())
                    .and_then(|c| self.folder.calendars.get(c)),
                paused: self.is_paused(&dag.name),
                planned_until: self.state.journal().planned_until(&dag.name),
            })
            .collect()
    }

    fn is_paused(&self, dag: &DagName) -> bool {
        self.only.is_none() && self.state.journal().pauses().contains_key(dag)
    }

    async fn plan(&mut self, now: Timestamp) -> Result<(), JournalError> {
        let (decisions, unsaved) = {
            let dags = self.planned_dags();
            let exists = |id: &RunId| self.state.runs.contains_key(id) || self.state.journal().knows(id);
            let unsaved: Vec<DagName> = dags
                .iter()
                .filter(|d| {
                    d.planned_until.is_none_or(|until| now.duration_since(until) > PLANNED_SAVED_EVERY)
                })
                .map(|d| d.dag.name.clone())
                .collect();
            (planner::plan(now, self.up_since, &dags, exists), unsaved)
        };
        let mut decided: BTreeSet<DagName> = unsaved.into_iter().collect();
        for decision in decisions {
            match decision {
                planner::Decision::Start(start) => {
                    decided.insert(start.dag.clone());
                    let Some((_, dag)) = self.dags.get(&start.dag) else { continue };
                    tracing::info!(run.id = %start.id, late_by_s = start.late_by.as_secs(), "run created");
                    let created = Created {
                        id: start.id,
                        dag: dag.clone(),
                        cause: if start.catch_up { Cause::Backfill } else { Cause::Scheduled },
                        session_date: start.session_date,
                        window: start.window,
                        params: BTreeMap::new(),
                    };
                    let effects = self.state.create(created, now).await?;
                    self.act(effects);
                }
                planner::Decision::Missed { session } => {
                    decided.insert(session.dag.clone());
                    self.tell_missed(&session, None, now).await?;
                }
                planner::Decision::Skipped { session, late_by } => {
                    decided.insert(session.dag.clone());
                    self.tell_missed(&session, Some(late_by), now).await?;
                }
                planner::Decision::MissedMany { dag, count, first, last } => {
                    let notice = format!(
                        "{dag}: {count} windows from {first} to {last} had no run; if the data can still be had: openbell run backfill {dag} --from {first} --to {last}"
                    );
                    tracing::warn!("{notice}");
                    self.notices.push(notice);
                    decided.insert(dag);
                }
            }
        }
        for dag in decided {
            self.state.journal_mut().set_planned_until(&dag, now).await?;
        }
        Ok(())
    }

    async fn tell_missed(
        &mut self,
        session: &planner::SessionOf,
        late_by: Option<SignedDuration>,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let Some((_, dag)) = self.dags.get(&session.dag) else { return Ok(()) };
        let run = super::missed::run(dag, session, now);
        let finding = super::missed::finding(session, late_by);
        tracing::warn!(run.id = %session.id, "{finding}");
        self.state.alert(&run, AlertKind::RunMissed, &finding, now).await?;
        self.mail_wake.notify_one();
        Ok(())
    }

    async fn report(&mut self, report: Report) -> Result<(), JournalError> {
        let AttemptId { run, step, attempt } = report.attempt;
        let now = self.clock.now();
        let events = match report.news {
            News::Started => vec![RunEvent::Started { step: step.clone(), attempt }],
            News::Status(status) => self.state.status(&run, &step, attempt, status),
            News::Noticed(Notice { at, kind, text }) => {
                vec![RunEvent::Noticed { step: step.clone(), attempt, noticed_at: at, kind, text }]
            }
            News::Exited { exit, result } => {
                vec![RunEvent::Exited { step: step.clone(), attempt, exit, result }]
            }
        };
        let ended = matches!(events[..], [RunEvent::Exited { .. }]);
        for event in events {
            let effects = self.state.event(&run, event, now).await?;
            self.act(effects);
        }
        if ended && let Some(step) = self.state.runs.get(&run).and_then(|r| r.dag.step(&step)).cloned() {
            let attempt = AttemptId { run, step: step.name.clone(), attempt };
            self.send(Call::Forget(step, attempt));
        }
        Ok(())
    }

    /// Passes actions on to the action runner.
    pub(super) fn act(&mut self, effects: Vec<Effect>) {
        for Effect { run: id, action } in effects {
            let Some(run) = self.state.runs.get(&id) else { continue };
            let step_of = |attempt: &AttemptId| run.dag.step(&attempt.step).cloned();
            let call = match action {
                Action::Start { attempt, deadline } => step_of(&attempt).map(|step| {
                    let spec = spec(run, &step, attempt, deadline, &self.runs_dir, self.programs);
                    Call::Start(Box::new(spec))
                }),
                Action::Stop { attempt, signal, kill_after } => {
                    step_of(&attempt).map(|step| Call::Stop(step, attempt, signal, kill_after))
                }
                Action::Kill { attempt } => step_of(&attempt).map(|step| Call::Kill(step, attempt)),
                Action::Alert { kind, step, summary } => {
                    let step = step.map(|s| s.to_string()).unwrap_or_default();
                    tracing::warn!(run.id = %id, step, kind = kind.as_str(), "{summary}");
                    self.mail_wake.notify_one();
                    None
                }
                Action::Finished => {
                    tracing::info!(run.id = %id, state = run.state.as_str(), "run ended");
                    None
                }
            };
            if let Some(call) = call {
                self.send(call);
            }
        }
        self.mail_wake.notify_one();
    }

    pub(super) fn send(&self, call: Call) {
        if self.action_runner.send(call).is_err() {
            tracing::error!(
                "the action runner is gone; nothing can be started or stopped until openbell is restarted"
            );
        }
    }

    /// DAGs whose file says `enabled: false` start paused, once: whoever resumes one has the last word.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub(super) async fn pause_disabled(&mut self) -> Result<(), JournalError> {
        let now = self.clock.now();
        let disabled: Vec<DagName> = self
            .folder
            .files
            .iter()
            .filter(|f| !f.enabled)
            .filter_map(|f| f.dag.as_ref().ok())
            .map(|d| d.name.clone())
            .collect();
        for name in disabled {
            if self.state.journal().planned_until(&name).is_none()
                && !self.state.journal().pauses().contains_key(&name)
            {
                self.state.journal_mut().set_paused(&name, Some("its file (enabled: false)"), now).await?;
                self.state.journal_mut().set_planned_until(&name, now).await?;
            }
        }
        Ok(())
    }

    /// Takes the folder as it is now. A broken file keeps the version that works.
    pub(super) fn reload(&mut self, folder: Folder) {
        let (dags, problems) = super::reload::merge(&self.dags, &folder);
        for problem in &problems {
            if !self.problems.iter().any(|p| p.file == problem.file && p.text == problem.text) {
                tracing::warn!(
                    file = problem.file,
                    kept = problem.previous_kept,
                    "DAG file does not work:\n{}",
                    problem.text
                );
            }
        }
        (self.dags, self.problems, self.folder) = (dags, problems, folder);
        self.views_at = None;
    }

    async fn dead_letters(&mut self, inputs: &Inputs) -> Result<(), JournalError> {
        let held = inputs.gauges.borrow().dead_letters.values().sum();
        let now = self.clock.now();
        if inputs.gauges.borrow().topics.is_empty() {
            return Ok(());
        }
        self.state.dead_letters(held, now).await
    }

    pub(super) fn publish(&mut self, inputs: &Inputs) {
        let now = self.clock.now();
        if self.views_at.is_none_or(|at| now.duration_since(at).as_secs().abs() >= 60) {
            let dags: Vec<_> = self
                .dags
                .values()
                .filter(|(_, d)| self.only.as_ref().is_none_or(|o| o == &d.name))
                .cloned()
                .collect();
            self.views = views::dags(&dags, &self.folder, self.state.journal().pauses(), now);
            self.views_at = Some(now);
        }
        if self.trends.is_due(now) {
            let figures = trends::figures(&inputs.gauges.borrow(), &self.state.statuses);
            Arc::make_mut(&mut self.trends).note(now, figures);
        }
        // Without a scheduled DAG the newest run's zone is still the one people think in.
        let newest = || self.state.runs.values().max_by_key(|run| run.created_at)?.dag.schedule.as_ref();
        let scheduled = self.dags.values().find_map(|(_, dag)| dag.schedule.as_ref()).or_else(newest);
        let timezone = scheduled.map_or_else(|| "UTC".to_owned(), |schedule| schedule.timezone.clone());
        let parts = Parts {
            clock: &self.clock,
            up_since: self.up_since,
            dags: &self.views,
            problems: &self.problems,
            gauges: &inputs.gauges.borrow(),
            trends: &self.trends,
            notices: &self.notices,
            queued: &inputs.queued.borrow(),
            timezone: &timezone,
        };
        self.snapshots.send_replace(Arc::new(views::snapshot(&self.state, &parts)));
    }

    /// Going down: embedded steps cannot outlive the process, so they are asked to end; their exits are not
    /// journaled, because the next start finds them lost and starts them again without spending a retry.
    /// Processes live on.
    async fn leave(&mut self, inputs: &mut Inputs) {
        let patience = LEAVE_WITHIN.mul_f64(self.clock.speed().max(1.0));
        let mut waiting: Vec<AttemptId> = Vec::new();
        for run in self.state.runs.values().filter(|r| !r.state.is_terminal()) {
            for (name, step) in run.steps.iter().filter(|(_, s)| s.state.is_alive()) {
                let Some(found) = run.dag.step(name) else { continue };
                if self.executors.kind_of(found) == ExecutorKind::Embedded {
                    let attempt =
                        AttemptId { run: run.id.clone(), step: name.clone(), attempt: step.attempt };
                    self.send(Call::Stop(found.clone(), attempt.clone(), found.stop.signal, patience));
                    waiting.push(attempt);
                }
            }
        }
        let all = async {
            while !waiting.is_empty() {
                let Some(report) = inputs.reports.recv().await else { return };
                if matches!(report.news, News::Exited { .. }) {
                    waiting.retain(|a| a != &report.attempt);
                }
            }
        };
        if tokio::time::timeout(LEAVE_WITHIN, all).await.is_err() {
            tracing::warn!(
                "some embedded steps did not end within {LEAVE_WITHIN:?}; they end with the process"
            );
        }
    }

    /// Brings the journal's runs and what is alive together, before the first decision.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn recover(&mut self) -> Result<(), JournalError> {
        super::recover::recover(self).await
    }

    /// Stops an attempt that was found alive. An orphan's step may be unknown, so every executor is asked;
    /// those that do not know the attempt ignore it.
    pub(super) async fn stop_found(&mut self, attempt: AttemptId, signal: StopSignal, kill_after: Duration) {
        for executor in self.executors.iter() {
            executor.stop(&attempt, signal, kill_after).await;
        }
    }

    /// Forgets an attempt that ended and that nobody waits for.
    pub(super) async fn forget_found(&mut self, attempt: &AttemptId) {
        for executor in self.executors.iter() {
            executor.forget(attempt).await;
        }
    }
}
