//! What people do to a run: mark the end of a step, clear steps so that they run again.

use super::graph::below;
use super::machine::Transition;
use domain::dag::{Step, StepKind};
use domain::ids::StepName;
use domain::run::{RunState, StepRun, StepState, StopCause};

impl Transition<'_> {
    /// Somebody set the end of a step.
    pub(super) fn marked(&mut self, step: &Step, success: bool, by: &str) {
        let word = if success { "succeeded" } else { "failed" };
        let reason = format!("marked {word} by {by}");
        if self.look(step).state.is_alive() {
            let cause = if success { StopCause::MarkedSucceeded } else { StopCause::MarkedFailed };
            if self.look(step).state == StepState::Stopping {
                self.of(step).stop_cause = Some(cause);
            } else {
                self.stop(step, cause, step.stop_time(), reason);
            }
            return;
        }
        self.enter(step, if success { StepState::Succeeded } else { StepState::Failed }, Some(reason));
        self.of(step).unfinished = false;
        if success && self.state == RunState::Running {
            self.wait_again_below(step);
        }
    }

    /// Steps that gave up because of `step` get another chance.
    pub(super) fn wait_again_below(&mut self, step: &Step) {
        for name in below(self.dag, std::slice::from_ref(&step.name)) {
            if let Some(dependent) = self.dag.step(&name)
                && self.look(dependent).state == StepState::UpstreamFailed
            {
                self.enter(dependent, StepState::Pending, None);
                self.of(dependent).stopped_at = None;
            }
        }
    }

    /// Somebody wants steps, and what needs them, to run again.
    pub(super) fn cleared(&mut self, names: &[StepName], by: &str) {
        let mut cleared = below(self.dag, names);
        cleared.extend(names.iter().cloned());
        if self.state.is_terminal() {
            // Everything the close had ended is wanted again, and the teardowns have to run after the new
            // end.
            for step in self.dag.steps() {
                let run = self.look(step);
                let ended_by_close = run.unfinished
                    || matches!(step.kind, StepKind::Service | StepKind::Check)
                        && run.state == StepState::Stopped;
                if ended_by_close || step.kind == StepKind::Teardown {
                    cleared.insert(step.name.clone());
                }
            }
            (self.state, self.finished_at, self.cancelled_by) = (RunState::Running, None, None);
        }
        for step in self.dag.steps().iter().filter(|s| cleared.contains(&s.name)) {
            let reason = format!("cleared by {by}");
            match self.look(step).state {
                StepState::Stopping => self.of(step).stop_cause = Some(StopCause::Cleared),
                // No time to drain: it starts again and goes on from there.
                state if state.is_alive() => self.stop(step, StopCause::Cleared, step.stop.grace, reason),
                _ => self.reset(step, reason),
            }
        }
    }

    /// Back to the beginning; attempt numbers and history go on, because they fence.
    pub(super) fn reset(&mut self, step: &Step, reason: String) {
        let at = self.at;
        let not_before = (at < self.window.open_at).then_some(self.window.open_at);
        let run = self.of(step);
        let fresh = StepRun {
            attempt: run.attempt,
            history: std::mem::take(&mut run.history),
            result: run.result.take(),
            missed_rounds: run.missed_rounds,
            rounds: run.rounds,
            next_at: not_before,
            reason: Some(reason),
            ..StepRun::new(at)
        };
        *run = fresh;
        self.dirty = true;
    }
}
