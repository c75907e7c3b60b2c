//! The state machine of a run: (run, event, now) → (run′, actions).
//!
//! Level-triggered: every event, a plain tick included, first records its fact; then what *should* be up
//! follows from the state and the time, and the difference is emitted as actions. An edge that nobody saw
//! (daemon down at the close) is therefore made up for at the next event of any kind. The same stamped events
//! always give the same run.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use domain::dag::{AlertKind, Dag, Program, Step, StepKind};
use domain::event::{Action, Created, RunEvent};
use domain::ids::{AttemptId, RunId, StepName};
use domain::message;
use domain::run::{Run, RunState, StepRun, StepState, StopCause};
use domain::said;
use domain::schedule::Window;

/// What an event did.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The run after it.
    pub run: Run,
    /// What the daemon is to do, in this order, once the event is journaled. Alerts are emitted whatever the
    /// DAG's policy says; whoever sends them asks the policy.
    pub actions: Vec<Action>,
    /// Whether anything changed. An event that changed nothing (late, doubled, or a tick with nothing due)
    /// has no actions and needs no journal entry.
    pub changed: bool,
}

/// Why an event was not accepted. Late and doubled reports are not refused: they change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The run exists already.
    Exists(RunId),
    /// There is no run yet to apply the event to.
    NoRun,
    /// The DAG of the run has no such step.
    UnknownStep {
        /// The run.
        run: RunId,
        /// What was asked for.
        step: StepName,
        /// What there is.
        steps: Vec<String>,
    },
    /// The run is over.
    Ended {
        /// The run.
        run: RunId,
        /// How it ended.
        state: &'static str,
    },
    /// The run is stopping.
    Closing(RunId),
    /// A window that has passed cannot be reopened.
    WindowPassed {
        /// The run.
        run: RunId,
        /// When it closed.
        closed_at: Timestamp,
    },
}

impl Refused {
    /// What is said of it: why, and what to do instead.
    pub fn said(&self) -> message::Refused {
        match self {
            Self::Exists(run) => message::Refused::bare(said!("run {} exists already", run)),
            Self::NoRun => {
                message::Refused::bare(said!("the run's journal does not begin with its creation"))
            }
            Self::UnknownStep { run, step, steps } => message::Refused::new(
                said!("run {} has no step \"{}\"", run, step),
                said!("it has {}", steps.join(", ")),
            ),
            Self::Ended { run, state } => message::Refused::new(
                said!("run {} is over ({})", run, state),
                said!("clear a step to reopen it while its window is open"),
            ),
            Self::Closing(run) => {
                message::Refused::new(said!("run {} is closing", run), said!("wait until it has ended"))
            }
            Self::WindowPassed { run, closed_at } => message::Refused::new(
                said!("the window of run {} closed at {}", run, closed_at),
                said!("trigger a manual run or a backfill of its date instead"),
            ),
        }
    }
}

impl std::error::Error for Refused {}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.said().fmt(f)
    }
}

/// Applies one event at `at`, the daemon's wall clock.
///
/// # Errors
/// [`Refused`] when the event asks for something that cannot be; the run is as it was then.
pub fn apply(run: Option<Run>, event: &RunEvent, at: Timestamp) -> Result<Applied, Refused> {
    let (mut run, is_new) = match (run, event) {
        (None, RunEvent::Created(created)) => (create(created, at), true),
        (None, _) => return Err(Refused::NoRun),
        (Some(run), RunEvent::Created(_)) => return Err(Refused::Exists(run.id)),
        (Some(run), _) => (run, false),
    };
    refuse(&run, event, at)?;
    let before = (run.steps.clone(), run.state, run.cancelled_by.clone(), run.finished_at);
    let mut transition = Transition {
        dag: &run.dag,
        id: &run.id,
        window: run.window,
        params: &run.params,
        state: run.state,
        steps: std::mem::take(&mut run.steps),
        cancelled_by: run.cancelled_by.take(),
        finished_at: run.finished_at,
        at,
        actions: Vec::new(),
        dirty: false,
    };
    // What the time alone demands comes before the event, so that an exit just after the close is read as a
    // stop, not as a fault.
    if !is_new {
        transition.close_if_due();
    }
    transition.record(event);
    transition.settle();
    let Transition { state, steps, cancelled_by, finished_at, actions, .. } = transition;
    (run.state, run.steps, run.cancelled_by, run.finished_at) = (state, steps, cancelled_by, finished_at);
    let is_equal = before.0 == run.steps
        && (before.1, &before.2, before.3) == (run.state, &run.cancelled_by, run.finished_at);
    // A clear that reopens a run whose work is done may end it again in the same instant, exactly as it was.
    let changed = is_new || !is_equal || !actions.is_empty();
    Ok(Applied { run, actions, changed })
}

/// Folds a journal. Gives the run as the live daemon had it, without carrying out any action.
///
/// # Errors
/// [`Refused`] with the position of the first event that cannot follow those before it.
pub fn replay<'a>(
    events: impl IntoIterator<Item = &'a domain::event::Stamped>,
) -> Result<Option<Run>, (usize, Refused)> {
    let mut run = None;
    for (position, stamped) in events.into_iter().enumerate() {
        run = Some(apply(run, &stamped.event, stamped.at).map_err(|refused| (position, refused))?.run);
    }
    Ok(run)
}

/// When the run needs a tick although nothing reports: the earliest of its close, deadlines, retries and
/// rounds. `None` when it is over, or waits for reports only.
pub fn next_wake(run: &Run) -> Option<Timestamp> {
    if run.state.is_terminal() {
        return None;
    }
    let close = run.window.close_at.filter(|_| run.state == RunState::Running);
    let steps = run.steps.values().filter_map(|step| match step.state {
        StepState::Pending => step.next_at.filter(|_| run.state == RunState::Running),
        StepState::Waiting => step.next_at,
        state if state.is_alive() => step.deadline,
        _ => None,
    });
    // Without a close, and with every step ended by hand before the open: nothing else would wake the run to
    // end there.
    let over = run.state == RunState::Running
        && close.is_none()
        && run.steps.values().all(|step| step.state.is_terminal());
    close.into_iter().chain(over.then_some(run.window.open_at)).chain(steps).min()
}

fn create(created: &Created, at: Timestamp) -> Run {
    let mut steps: BTreeMap<_, _> =
        created.dag.steps().iter().map(|s| (s.name.clone(), StepRun::new(at))).collect();
    if at < created.window.open_at {
        for step in steps.values_mut() {
            step.next_at = Some(created.window.open_at);
        }
    }
    Run {
        id: created.id.clone(),
        dag: created.dag.clone(),
        cause: created.cause,
        session_date: created.session_date,
        window: created.window,
        params: created.params.clone(),
        created_at: at,
        state: RunState::Running,
        steps,
        cancelled_by: None,
        finished_at: None,
    }
}

/// What a person may not ask for. Reports of executors are never refused.
fn refuse(run: &Run, event: &RunEvent, at: Timestamp) -> Result<(), Refused> {
    let known = |step: &StepName| match run.steps.contains_key(step) {
        true => Ok(()),
        false => Err(Refused::UnknownStep {
            run: run.id.clone(),
            step: step.clone(),
            steps: run.dag.steps().iter().map(|s| s.name.to_string()).collect(),
        }),
    };
    match event {
        RunEvent::Cleared { steps, .. } => {
            steps.iter().try_for_each(known)?;
            if run.state == RunState::Closing {
                return Err(Refused::Closing(run.id.clone()));
            }
            match run.window.close_at {
                Some(closed_at) if at >= closed_at => {
                    Err(Refused::WindowPassed { run: run.id.clone(), closed_at })
                }
                _ => Ok(()),
            }
        }
        RunEvent::Marked { .. } | RunEvent::CancelRequested { .. } if run.state.is_terminal() => {
            Err(Refused::Ended { run: run.id.clone(), state: run.state.as_str() })
        }
        RunEvent::Marked { step, .. } => known(step),
        RunEvent::CancelRequested { .. } if run.state == RunState::Closing => {
            Err(Refused::Closing(run.id.clone()))
        }
        RunEvent::Started { step, .. }
        | RunEvent::Ready { step, .. }
        | RunEvent::Degraded { step, .. }
        | RunEvent::Waiting { step, .. }
        | RunEvent::Noticed { step, .. }
        | RunEvent::Exited { step, .. } => known(step),
        RunEvent::Created(_) | RunEvent::Tick | RunEvent::Resumed | RunEvent::CancelRequested { .. } => {
            Ok(())
        }
    }
}

/// One application of an event: the run taken apart, so that its DAG can be read while its steps change.
pub(super) struct Transition<'a> {
    pub(super) dag: &'a Dag,
    pub(super) id: &'a RunId,
    pub(super) window: Window,
    pub(super) params: &'a BTreeMap<String, String>,
    pub(super) state: RunState,
    pub(super) steps: BTreeMap<StepName, StepRun>,
    pub(super) cancelled_by: Option<String>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) at: Timestamp,
    pub(super) actions: Vec<Action>,
    /// Something changed since the last look; look again.
    pub(super) dirty: bool,
}

impl<'a> Transition<'a> {
    /// The run of a step. Steps of the DAG and of the run are the same set from creation on.
    pub(super) fn of(&mut self, step: &Step) -> &mut StepRun {
        self.steps.get_mut(&step.name).expect("a run holds every step of its DAG")
    }

    pub(super) fn look(&self, step: &Step) -> &StepRun {
        self.steps.get(&step.name).expect("a run holds every step of its DAG")
    }

    /// Enters a state.
    pub(super) fn enter(&mut self, step: &Step, state: StepState, reason: Option<String>) {
        let at = self.at;
        let run = self.of(step);
        if run.state != state {
            run.since = at;
        }
        run.state = state;
        run.reason = reason;
        if state.is_terminal() {
            run.stopped_at = Some(at);
        }
        if !state.is_alive() {
            (run.deadline, run.ready_since, run.stop_requested_at, run.stop_cause) = (None, None, None, None);
        }
        if !matches!(state, StepState::Waiting | StepState::Pending) {
            run.next_at = None;
        }
        if state != StepState::Running {
            run.not_before = None;
        }
        self.dirty = true;
    }

    pub(super) fn alert(&mut self, kind: AlertKind, step: Option<&Step>, summary: String) {
        self.actions.push(Action::Alert { kind, step: step.map(|s| s.name.clone()), summary });
    }

    pub(super) fn attempt_id(&self, step: &Step) -> AttemptId {
        AttemptId { run: self.id.clone(), step: step.name.clone(), attempt: self.look(step).attempt }
    }

    pub(super) fn after(&self, wait: Duration) -> Timestamp {
        later(self.at, wait)
    }

    /// Asks a living attempt to stop.
    pub(super) fn stop(&mut self, step: &Step, cause: StopCause, kill_after: Duration, reason: String) {
        self.enter(step, StepState::Stopping, Some(reason));
        let at = self.at;
        let backup = self.after(kill_after + KILL_MARGIN);
        let run = self.of(step);
        run.stop_cause = Some(cause);
        run.stop_requested_at = Some(at);
        run.deadline = Some(backup);
        let attempt = self.attempt_id(step);
        self.actions.push(Action::Stop { attempt, signal: step.stop.signal, kill_after });
    }

    /// Records the fact itself; what follows from it is [`Transition::settle`]'s.
    fn record(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Created(_) | RunEvent::Tick => {}
            RunEvent::Resumed => self.resumed(),
            RunEvent::Started { step, attempt } => {
                if let Some(step) = self.current(step, *attempt) {
                    self.started(step);
                }
            }
            RunEvent::Ready { step, attempt } => {
                if let Some(step) = self.current(step, *attempt) {
                    self.ready(step);
                }
            }
            RunEvent::Waiting { step, attempt, until, reason } => {
                if let Some(step) = self.current(step, *attempt) {
                    self.waiting(step, *until, reason);
                }
            }
            RunEvent::Noticed { step, attempt, noticed_at, kind, text } => {
                if let Some(step) = self.current(step, *attempt)
                    && self.look(step).noticed_at.is_none_or(|last| last < *noticed_at)
                {
                    let run = self.of(step);
                    (run.noticed_at, run.notice) = (Some(*noticed_at), Some(text.clone()));
                    self.alert(*kind, Some(step), format!("{}: {text}", step.name));
                }
            }
            RunEvent::Degraded { step, attempt, reason } => {
                if let Some(step) = self.current(step, *attempt) {
                    match self.look(step).state {
                        StepState::Ready | StepState::Degraded => {
                            self.enter(step, StepState::Degraded, Some(reason.clone()))
                        }
                        StepState::Running => self.of(step).reason = Some(reason.clone()),
                        _ => {}
                    }
                }
            }
            RunEvent::Exited { step, attempt, exit, result } => {
                if let Some(step) = self.current(step, *attempt) {
                    self.exited(step, exit, result.as_ref());
                }
            }
            RunEvent::CancelRequested { by } => {
                if self.state == RunState::Running {
                    self.cancelled_by = Some(by.clone());
                    self.state = RunState::Closing;
                }
            }
            RunEvent::Marked { step, success, by } => {
                if let Some(step) = self.dag.step(step) {
                    self.marked(step, *success, by);
                }
            }
            RunEvent::Cleared { steps, by } => self.cleared(steps, by),
        }
    }

    /// The fence: only reports of the living, current attempt count.
    fn current(&self, step: &StepName, attempt: u32) -> Option<&'a Step> {
        let run = self.steps.get(step)?;
        (run.state.is_alive() && run.attempt == attempt && !self.state.is_terminal())
            .then(|| self.dag.step(step))
            .flatten()
    }

    pub(super) fn started(&mut self, step: &Step) {
        if self.look(step).state != StepState::Starting {
            return;
        }
        let at = self.at;
        self.of(step).started_at.get_or_insert(at);
        self.enter(step, StepState::Running, None);
        // A foreign command has no way to report; it counts as ready once it runs.
        if step.kind == StepKind::Service && matches!(step.program, Program::Command { .. }) {
            self.ready(step);
        }
    }

    /// Looks at the whole run until nothing more follows.
    fn settle(&mut self) {
        loop {
            self.dirty = false;
            if self.state.is_terminal() {
                return;
            }
            self.deadlines();
            self.close_if_due();
            match self.state {
                RunState::Running => self.open_steps(),
                RunState::Closing => self.close_steps(),
                RunState::Succeeded | RunState::Failed | RunState::Cancelled => return,
            }
            if !self.dirty {
                return;
            }
        }
    }
}

/// The machine repeats a kill this long after the executor should have carried it out.
pub(super) const KILL_MARGIN: Duration = Duration::from_secs(10);

pub(super) fn later(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod tests;
