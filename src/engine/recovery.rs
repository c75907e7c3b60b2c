//! After a restart: the folded journal against what is alive.
//!
//! | found | journal | decision |
//! |---|---|---|
//! | running | wanted | adopt |
//! | running | being stopped | adopt, ask again with the time that is left |
//! | running | unknown, ended or an older attempt | stop |
//! | ended | believed running | feed its exit as if seen live |
//! | ended | anything else | forget |
//! | nothing | start decided, not confirmed | start the same attempt again |
//! | nothing | believed running | lost: the machine decides, no retry is spent |
//!
//! The caller carries out the decisions in order, passes on what living attempts say, and then lets every run
//! see a tick, which makes up for a close or a deadline that passed meanwhile. A service that should have
//! been ready by now gets its time once more: it may have been ready for long, with nobody to hear it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::opening::last_instant;
use super::readiness::is_overdue;
use crate::machine::later;
use domain::dag::{Step, StepKind, StopSignal};
use domain::event::RunEvent;
use domain::ids::{AttemptId, RunId};
use domain::run::{Exit, Run, StepRun, StepState, StopCause};

/// An attempt that an executor found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundAttempt {
    /// Which.
    pub attempt: AttemptId,
    /// `None`: it runs; else how it ended and what it returned.
    pub ended: Option<(Exit, Option<serde_json::Value>)>,
}

/// What is to be done about one attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Watch it; its end comes as a report.
    Adopt(AttemptId),
    /// Apply, journal and act on this event like any other.
    Feed {
        /// The run.
        run: RunId,
        /// The event.
        event: RunEvent,
    },
    /// Start this attempt once more: its start was decided and never confirmed. Idempotent.
    Start {
        /// The attempt.
        attempt: AttemptId,
        /// When it ends itself.
        deadline: Option<Timestamp>,
    },
    /// Ask it to stop and kill it after `kill_after`.
    Stop {
        /// The attempt.
        attempt: AttemptId,
        /// How to ask.
        signal: StopSignal,
        /// Time left.
        kill_after: Duration,
        /// No run wants it: people should hear of it.
        orphan: bool,
    },
    /// It ended and nobody waits for it.
    Forget(AttemptId),
}

/// An orphan of a step nobody knows any more gets this long to stop.
const ORPHAN_GRACE: Duration = Duration::from_secs(30);

/// Decides for all runs at once. `runs` are those not over; attempts of any other run are orphans.
pub fn recover(runs: &[Run], found: &[FoundAttempt], now: Timestamp) -> Vec<Decision> {
    let seen: BTreeMap<&AttemptId, &FoundAttempt> = found.iter().map(|s| (&s.attempt, s)).collect();
    let mut decisions = Vec::new();
    let mut owned = BTreeSet::new();
    for run in runs.iter().filter(|run| !run.state.is_terminal()) {
        let overdue =
            |step: &Step| run.steps.get(&step.name).is_some_and(|state| is_overdue(step, state, now));
        if run.dag.steps().iter().any(overdue) {
            // Before anything else: every event makes the machine look at all deadlines of the run.
            decisions.push(Decision::Feed { run: run.id.clone(), event: RunEvent::Resumed });
        }
        for step in run.dag.steps() {
            let Some(state) = run.steps.get(&step.name).filter(|s| s.state.is_alive()) else { continue };
            let attempt = AttemptId { run: run.id.clone(), step: step.name.clone(), attempt: state.attempt };
            match seen.get(&attempt) {
                Some(FoundAttempt { ended: Some((exit, result)), .. }) => {
                    decisions.push(exited(&attempt, exit.clone(), result.clone()));
                    decisions.push(Decision::Forget(attempt.clone()));
                }
                Some(_) => alive(&mut decisions, &attempt, step, state, now),
                None => decisions.push(absent(run, &attempt, step, state, now)),
            }
            owned.insert(attempt);
        }
    }
    for orphan in found.iter().filter(|seen| !owned.contains(&seen.attempt)) {
        decisions.push(match orphan.ended {
            Some(_) => Decision::Forget(orphan.attempt.clone()),
            None => {
                let run = runs.iter().find(|run| run.id == orphan.attempt.run);
                let step = run.and_then(|run| run.dag.step(&orphan.attempt.step));
                Decision::Stop {
                    attempt: orphan.attempt.clone(),
                    signal: step.map_or(StopSignal::Term, |s| s.stop.signal),
                    kill_after: step.map_or(ORPHAN_GRACE, |s| s.stop.grace),
                    orphan: true,
                }
            }
        });
    }
    decisions
}

fn exited(attempt: &AttemptId, exit: Exit, result: Option<serde_json::Value>) -> Decision {
    let event = RunEvent::Exited { step: attempt.step.clone(), attempt: attempt.attempt, exit, result };
    Decision::Feed { run: attempt.run.clone(), event }
}

fn alive(decisions: &mut Vec<Decision>, attempt: &AttemptId, step: &Step, state: &StepRun, now: Timestamp) {
    decisions.push(Decision::Adopt(attempt.clone()));
    if state.state == StepState::Starting {
        let event = RunEvent::Started { step: attempt.step.clone(), attempt: attempt.attempt };
        decisions.push(Decision::Feed { run: attempt.run.clone(), event });
    }
    if state.state == StepState::Stopping {
        let total = match (state.stop_cause, step.kind) {
            (Some(StopCause::TimedOut | StopCause::NotReady | StopCause::Cleared), _)
            | (_, StepKind::Task | StepKind::Check) => step.stop.grace,
            _ => step.stop_time(),
        };
        let kill_at = later(state.stop_requested_at.unwrap_or(now), total);
        let kill_after = Duration::try_from(kill_at.duration_since(now)).unwrap_or(Duration::ZERO);
        decisions.push(Decision::Stop {
            attempt: attempt.clone(),
            signal: step.stop.signal,
            kill_after,
            orphan: false,
        });
    }
}

fn absent(run: &Run, attempt: &AttemptId, step: &Step, state: &StepRun, now: Timestamp) -> Decision {
    if state.state != StepState::Starting {
        return exited(attempt, Exit::Lost("nothing was left of it when the daemon came back".into()), None);
    }
    let too_late = step.kind != StepKind::Teardown && !run.window.contains(now)
        || step.kind != StepKind::Service && state.deadline.is_some_and(|d| now >= d);
    if too_late {
        return exited(attempt, Exit::Lost("the daemon stopped before it could start it".into()), None);
    }
    let started = state.attempt_started_at.unwrap_or(now);
    Decision::Start {
        attempt: attempt.clone(),
        deadline: last_instant(&run.dag, run.window, run.state, step, started),
    }
}

#[cfg(test)]
mod tests;
