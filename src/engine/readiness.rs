//! Deadlines of living attempts: a service must be ready in time, everything else done. A service that says
//! it has to wait for something outside of it is given that time, within a limit: to start it again would
//! only start the wait again.

use std::time::Duration;

use jiff::Timestamp;

use super::machine::{KILL_MARGIN, Transition, later};
use domain::dag::{AlertKind, Step, StepKind};
use domain::event::Action;
use domain::run::{StepRun, StepState, StopCause};

/// However often a service says that it has to wait: an attempt that is not ready this long after its start
/// is given up.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// People are reminded of a service that is never ready in time.
const TOLD_AGAIN: Duration = Duration::from_secs(3600);

/// Whether a service should have been ready by now and was not heard to be.
pub(super) fn is_overdue(step: &Step, run: &StepRun, now: Timestamp) -> bool {
    let awaited =
        step.kind == StepKind::Service && matches!(run.state, StepState::Starting | StepState::Running);
    awaited && run.deadline.is_some_and(|deadline| now >= deadline)
}

/// What is said of an attempt that ran out of time.
pub(super) fn took_too_long(step: &Step) -> String {
    format!("timed out after {:?}", step.timeout.unwrap_or_default())
}

impl Transition<'_> {
    /// A service reported ready.
    pub(super) fn ready(&mut self, step: &Step) {
        let state = self.look(step).state;
        if step.kind != StepKind::Service
            || !matches!(state, StepState::Starting | StepState::Running | StepState::Degraded)
        {
            return;
        }
        let at = self.at;
        self.enter(step, StepState::Ready, None);
        let run = self.of(step);
        run.started_at.get_or_insert(at);
        run.ready_at.get_or_insert(at);
        run.ready_since.get_or_insert(at);
        run.deadline = None;
    }

    /// A service that is not ready says that it cannot be before `until`. It has its usual time from then on;
    /// never less than it had, and never more than [`LONGEST_WAIT`] in all, unless its file allows more.
    pub(super) fn waiting(&mut self, step: &Step, until: Timestamp, reason: &str) {
        if step.kind != StepKind::Service {
            return;
        }
        // It speaks, so it runs.
        self.started(step);
        let run = self.of(step);
        let Some(started) = run.attempt_started_at.filter(|_| run.state == StepState::Running) else {
            return;
        };
        run.deadline =
            run.deadline.max(Some(later(until, step.ready_within).min(later(started, LONGEST_WAIT))));
        run.not_before = Some(until);
        run.reason = Some(reason.to_owned());
    }

    /// Nobody listened for a while. A service whose deadline passed meanwhile may long be ready; it is heard
    /// first.
    pub(super) fn resumed(&mut self) {
        for step in self.dag.steps() {
            if is_overdue(step, self.look(step), self.at) {
                let deadline = self.after(step.ready_within);
                self.of(step).deadline = Some(deadline);
            }
        }
    }

    /// Attempts that took too long.
    pub(super) fn deadlines(&mut self) {
        for step in self.dag.steps() {
            let run = self.look(step);
            if !run.state.is_alive() || run.deadline.is_none_or(|deadline| self.at < deadline) {
                continue;
            }
            if run.state == StepState::Stopping {
                // The executor should have killed it by now; a restart may have lost its timer.
                let attempt = self.attempt_id(step);
                let again = self.after(KILL_MARGIN);
                self.of(step).deadline = Some(again);
                self.tell_undead(step);
                self.actions.push(Action::Kill { attempt });
                self.dirty = true;
            } else if step.kind == StepKind::Service {
                let why = self.why_not_ready(step);
                self.tell_late(step, &why);
                // No time to drain: it is started again at once and goes on from there, and a feed cannot
                // wait for a store.
                self.stop(step, StopCause::NotReady, step.stop.grace, why);
            } else {
                let why = took_too_long(step);
                // Once for all its tries; the last try is told with its end, and a check tells its failed
                // rounds by itself.
                if step.kind != StepKind::Check && self.look(step).retries_used == 0 && self.may_retry(step) {
                    let summary = format!("{} {} {why}; it is tried again", step.kind.as_str(), step.name);
                    self.alert(AlertKind::DeadlineMissed, Some(step), summary);
                }
                self.stop(step, StopCause::TimedOut, step.stop.grace, why);
            }
        }
    }

    /// What was too slow should be dead by now. While nobody can say that it is, its end tells nothing to
    /// anybody.
    fn tell_undead(&mut self, step: &Step) {
        let run = self.look(step);
        if run.stop_cause == Some(StopCause::TimedOut) && !run.killed {
            self.of(step).killed = true;
            let (kind, why) = (step.kind.as_str(), took_too_long(step));
            let summary = format!("{kind} {} {why} and has not ended, although it was killed", step.name);
            self.alert(AlertKind::DeadlineMissed, Some(step), summary);
        }
    }

    /// A service that is late again and again is told once, and then once an hour, until it was stable for a
    /// while.
    fn tell_late(&mut self, step: &Step, why: &str) {
        let at = self.at;
        if self.look(step).late_told_at.is_none_or(|told| at >= later(told, TOLD_AGAIN)) {
            self.of(step).late_told_at = Some(at);
            self.alert(
                AlertKind::DeadlineMissed,
                Some(step),
                format!("service {} was {why} and is restarted", step.name),
            );
        }
    }

    fn why_not_ready(&self, step: &Step) -> String {
        let run = self.look(step);
        match (run.not_before, run.attempt_started_at, &run.reason) {
            (Some(_), Some(started), Some(reason)) => {
                let seconds = self.at.duration_since(started).as_secs();
                format!("not ready {seconds} s after its start ({reason})")
            }
            _ => format!("not ready within {:?}", step.ready_within),
        }
    }
}

#[cfg(test)]
mod tests;
