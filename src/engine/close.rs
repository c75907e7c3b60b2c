//! Past the close: everything that is up is stopped in the order the data flows, teardowns run, the run ends.
//!
//! ```text
//! pending, waiting → ended without an attempt      tasks, checks → stopped at once
//! services → stopped once every service they need has stopped      then teardowns      then the end
//! ```

use std::collections::BTreeSet;

use super::graph::above;
use super::machine::Transition;
use super::needs::is_open;
use domain::dag::{AlertKind, Restart, Step, StepKind, Until};
use domain::event::Action;
use domain::ids::StepName;
use domain::run::{RunState, StepState, StopCause};

impl Transition<'_> {
    /// The window is over.
    pub(super) fn close_if_due(&mut self) {
        if self.state == RunState::Running && self.window.close_at.is_some_and(|close| self.at >= close) {
            self.state = RunState::Closing;
            self.dirty = true;
        }
    }

    /// A run without a window closes when its work is done: its tasks, or, where there are none, its services
    /// and checks.
    pub(super) fn close_if_done(&mut self) {
        if self.window.close_at.is_some() || self.at < self.window.open_at {
            return;
        }
        let of_kind = |kinds: &'static [StepKind]| {
            self.dag.steps().iter().filter(|s| kinds.contains(&s.kind)).collect::<Vec<_>>()
        };
        let mut work = of_kind(&[StepKind::Task]);
        if work.is_empty() {
            work = of_kind(&[StepKind::Service, StepKind::Check]);
        }
        let stuck = self.waiting_for_the_close();
        if work.iter().all(|step| self.look(step).state.is_terminal() || stuck.contains(&step.name)) {
            self.state = RunState::Closing;
            self.dirty = true;
        }
    }

    /// Steps that could start only after the end of a service which itself ends only at the close: without a
    /// window the run would wait for itself.
    fn waiting_for_the_close(&self) -> BTreeSet<StepName> {
        let mut stuck = BTreeSet::new();
        for step in self.dag.steps().iter().filter(|s| self.look(s).state == StepState::Pending) {
            let mut open = step
                .needs
                .iter()
                .filter_map(|need| Some((need, self.dag.step(&need.step)?)))
                .filter(|(need, needed)| is_open(need.until, needed.kind, self.look(needed)))
                .peekable();
            let has_open = open.peek().is_some();
            let all_endless = open.all(|(need, needed)| {
                let ends_at_close = needed.kind == StepKind::Service
                    && needed.restart.policy == Restart::Always
                    && matches!(need.until, Until::Succeeded | Until::Done);
                ends_at_close || stuck.contains(&needed.name)
            });
            if has_open && all_endless {
                stuck.insert(step.name.clone());
            }
        }
        stuck
    }

    /// Everything the close still has to do and can do now.
    pub(super) fn close_steps(&mut self) {
        for step in self.dag.steps() {
            match (step.kind, self.look(step).state) {
                (StepKind::Teardown, _) | (_, StepState::Stopping) => {}
                (StepKind::Service, StepState::Waiting) if self.look(step).resume_stop => {
                    self.resume_stop(step)
                }
                (_, StepState::Pending) => self.never_started(step),
                (StepKind::Service, StepState::Waiting) => {
                    self.end_of_service(step, Some("between restarts at the close".into()))
                }
                (StepKind::Check, StepState::Waiting) => self.enter(step, StepState::Stopped, None),
                (StepKind::Task, StepState::Waiting) => {
                    let last = self.look(step).reason.clone().unwrap_or_default();
                    self.fail(step, format!("{last}; the close came before the retry"));
                }
                (kind, state)
                    if state.is_alive() && (kind != StepKind::Service || self.is_its_turn(step)) =>
                {
                    let kill_after =
                        if kind == StepKind::Service { step.stop_time() } else { step.stop.grace };
                    self.stop(step, StopCause::Closed, kill_after, self.why_closed());
                }
                _ => {}
            }
        }
        let all_down = |kind_is_teardown: bool| {
            self.dag
                .steps()
                .iter()
                .filter(|s| (s.kind == StepKind::Teardown) == kind_is_teardown)
                .all(|s| self.look(s).state.is_terminal())
        };
        if !all_down(false) {
            return;
        }
        if !all_down(true) {
            self.tear_down();
        } else {
            self.finish();
        }
    }

    fn why_closed(&self) -> String {
        match (&self.cancelled_by, self.window.close_at) {
            (Some(by), _) => format!("cancelled by {by}"),
            (None, Some(_)) => "the window closed".into(),
            (None, None) => "the run's work is done".into(),
        }
    }

    /// Data flows from what is needed to what needs it; a service stops when nothing can reach it any more.
    fn is_its_turn(&self, step: &Step) -> bool {
        above(self.dag, step)
            .iter()
            .filter(|s| s.kind == StepKind::Service)
            .all(|s| self.look(s).state.is_terminal())
    }

    fn never_started(&mut self, step: &Step) {
        let wanted = self.not_wanted(step);
        let unfinished = wanted.is_none() && step.kind != StepKind::Check;
        let reason = wanted.unwrap_or_else(|| format!("{} before it could start", self.why_closed()));
        self.enter(step, StepState::Skipped, Some(reason));
        self.of(step).unfinished = unfinished;
    }

    /// A task that the close stopped.
    pub(super) fn cut_short(&mut self, step: &Step, reason: String) {
        if self.cancelled_by.is_none() {
            self.alert(
                AlertKind::DeadlineMissed,
                Some(step),
                format!("{} {} {reason}", step.kind.as_str(), step.name),
            );
        }
        self.enter(step, StepState::Stopped, Some(reason));
        self.of(step).unfinished = true;
    }

    /// A service is down at the close, without a fault in how it stopped. One that never was ready, although
    /// it had the time, has failed all the same.
    pub(super) fn end_of_service(&mut self, step: &Step, reason: Option<String>) {
        let run = self.look(step);
        let had_time = run.state == StepState::Waiting
            || run
                .started_at
                .is_some_and(|started| self.at >= super::machine::later(started, step.ready_within));
        let by_window = self.cancelled_by.is_none() && self.window.close_at.is_some();
        if run.ready_at.is_none() && had_time && by_window {
            self.fail(step, "it never was ready in its window".into());
        } else {
            self.enter(step, StepState::Stopped, reason);
        }
    }

    /// Starts a service again only to let it finish its stop, when its turn has come.
    fn resume_stop(&mut self, step: &Step) {
        if !self.is_its_turn(step) {
            return;
        }
        self.of(step).resume_stop = false;
        self.start(step);
        self.stop(step, StopCause::Closed, step.stop_time(), "finishing its interrupted stop".into());
    }

    /// Teardowns run whatever happened; needs among them only order them.
    fn tear_down(&mut self) {
        for step in self.dag.steps().iter().filter(|s| s.kind == StepKind::Teardown) {
            match self.look(step).state {
                StepState::Pending => {
                    let after = above(self.dag, step);
                    if !after.iter().all(|s| self.look(s).state.is_terminal()) {
                        continue;
                    }
                    match self.not_wanted(step) {
                        Some(reason) => self.enter(step, StepState::Skipped, Some(reason)),
                        None => self.start(step),
                    }
                }
                StepState::Waiting if self.look(step).next_at.is_none_or(|next| self.at >= next) => {
                    self.start(step)
                }
                _ => {}
            }
        }
    }

    fn finish(&mut self) {
        let spoiled: Vec<String> = self
            .dag
            .steps()
            .iter()
            .filter(|step| {
                let run = self.look(step);
                let failed = matches!(run.state, StepState::Failed | StepState::UpstreamFailed);
                run.unfinished || failed && step.kind != StepKind::Check
            })
            .map(|step| {
                format!(
                    "{} {}",
                    step.name,
                    if self.look(step).unfinished { "unfinished" } else { self.look(step).state.as_str() }
                )
            })
            .collect();
        self.state = match (&self.cancelled_by, spoiled.is_empty()) {
            (Some(_), _) => RunState::Cancelled,
            (None, true) => RunState::Succeeded,
            (None, false) => RunState::Failed,
        };
        self.finished_at = Some(self.at);
        self.dirty = true;
        if self.state == RunState::Failed {
            self.alert(AlertKind::RunFailed, None, format!("run {} failed: {}", self.id, spoiled.join(", ")));
        }
        self.alert(AlertKind::RunFinished, None, format!("run {} {}", self.id, self.state.as_str()));
        self.actions.push(Action::Finished);
    }
}

#[cfg(test)]
mod tests;
