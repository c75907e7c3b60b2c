//! Inside the window: what may start, starts.

use std::time::Duration;

use jiff::Timestamp;

use super::graph::above;
use super::machine::{Transition, later};
use super::needs::{Verdict, verdict};
use domain::dag::{Dag, Step, StepKind};
use domain::event::Action;
use domain::run::{RunState, StepState};
use domain::schedule::Window;

impl Transition<'_> {
    /// Everything that is due now and not up yet.
    pub(super) fn open_steps(&mut self) {
        for step in self.dag.steps() {
            match self.look(step).state {
                StepState::Pending if step.kind != StepKind::Teardown => self.open_pending(step),
                StepState::Pending => self.open_teardown_gate(step),
                StepState::Waiting if self.is_due(step) => self.start(step),
                _ => {}
            }
        }
        self.close_if_done();
    }

    fn is_due(&self, step: &Step) -> bool {
        self.look(step).next_at.is_none_or(|next| self.at >= next)
    }

    fn open_pending(&mut self, step: &Step) {
        if !self.is_due(step) {
            return;
        }
        if self.of(step).next_at.take().is_some() {
            self.dirty = true;
        }
        if let Some(reason) = self.not_wanted(step) {
            self.enter(step, StepState::Skipped, Some(reason));
            return;
        }
        let decided = verdict(step, |need| {
            let needed = self.dag.step(&need.step).expect("a DAG's needs name its steps");
            (needed, self.look(needed))
        });
        match decided {
            Verdict::Wait => {}
            Verdict::Start if step.kind == StepKind::Check => self.wait_for_round(step),
            Verdict::Start => self.start(step),
            Verdict::Skip => self.enter(
                step,
                StepState::Skipped,
                Some(format!("skipped by its trigger rule: {}", self.ends_of_needs(step))),
            ),
            Verdict::UpstreamFailed => {
                self.enter(step, StepState::UpstreamFailed, Some(self.ends_of_needs(step)))
            }
        }
    }

    /// A teardown waits for the close; only its "not before" mark of a run created early goes away.
    fn open_teardown_gate(&mut self, step: &Step) {
        if self.is_due(step) && self.of(step).next_at.take().is_some() {
            self.dirty = true;
        }
    }

    /// Why the step is not wanted in this run, if it is not.
    pub(super) fn not_wanted(&self, step: &Step) -> Option<String> {
        let when = step.when.as_ref()?;
        match self.params.get(&when.param) {
            Some(value) if *value == when.equals => None,
            Some(value) => Some(format!("parameter {} is \"{value}\", not \"{}\"", when.param, when.equals)),
            None => Some(format!("parameter {} is not set to \"{}\"", when.param, when.equals)),
        }
    }

    fn ends_of_needs(&self, step: &Step) -> String {
        let ends: Vec<String> = step
            .needs
            .iter()
            .filter_map(|need| Some((&need.step, self.steps.get(&need.step)?)))
            .filter(|(_, run)| run.state.is_terminal())
            .map(|(name, run)| format!("{name} {}", run.state.as_str()))
            .collect();
        ends.join(", ")
    }

    /// Starts the next attempt.
    pub(super) fn start(&mut self, step: &Step) {
        self.enter(step, StepState::Starting, None);
        let at = self.at;
        let deadline = match step.kind {
            StepKind::Service => Some(self.after(step.ready_within)),
            StepKind::Task | StepKind::Check | StepKind::Teardown => {
                step.timeout.map(|timeout| self.after(timeout))
            }
        };
        let run = self.of(step);
        run.attempt += 1;
        run.attempt_started_at = Some(at);
        run.ready_since = None;
        run.stopped_at = None;
        run.killed = false;
        run.notice = None;
        run.deadline = deadline;
        if step.kind == StepKind::Check {
            self.enter_round(step);
        }
        let deadline = last_instant(self.dag, self.window, self.state, step, at);
        let attempt = self.attempt_id(step);
        self.actions.push(Action::Start { attempt, deadline });
    }
}

/// When an attempt started at `at` ends itself, should nobody be left to stop it: a little later than the
/// machine would end it, so that a living daemon decides and a dead one changes nothing about the end.
pub(super) fn last_instant(
    dag: &Dag,
    window: Window,
    state: RunState,
    step: &Step,
    at: Timestamp,
) -> Option<Timestamp> {
    let own = step
        .timeout
        .filter(|_| step.kind != StepKind::Service)
        .map(|t| later(at, t.saturating_add(step.stop.grace)));
    let close = match step.kind {
        StepKind::Service | StepKind::Check => {
            window.close_at.map(|close| later(close, stop_chain(dag, step)))
        }
        StepKind::Task | StepKind::Teardown => None,
    };
    // A stop resumed after the close needs its time from now on.
    let close = close
        .map(|close| if state == RunState::Closing { close.max(later(at, step.stop_time())) } else { close });
    own.into_iter().chain(close).min()
}

/// Longest time from the close until the step is down: services stop one after the other along the data's
/// way.
fn stop_chain(dag: &Dag, step: &Step) -> Duration {
    let before = above(dag, step)
        .into_iter()
        .filter(|s| s.kind == StepKind::Service)
        .map(|s| stop_chain(dag, s))
        .max();
    before.unwrap_or_default().saturating_add(step.stop_time())
}
