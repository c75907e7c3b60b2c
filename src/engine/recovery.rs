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
//! The caller carries out the decisions in order, passes on what living attempts say, and then lets every run see a tick, which makes
//! up for a close or a deadline that passed meanwhile. A service that should have been ready by now gets its time once more: it
//! may have been ready for long, with nobody to hear it.

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
        let overdue = |step: &Step| run.steps.get(&step.name).is_some_and(|state| is_overdue(step, state, now));
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
            (Some(StopCause::TimedOut | StopCause::NotReady | StopCause::Cleared), _) | (_, StepKind::Task | StepKind::Check) => {
                step.stop.grace
            }
            _ => step.stop_time(),
        };
        let kill_at = later(state.stop_requested_at.unwrap_or(now), total);
        let kill_after = Duration::try_from(kill_at.duration_since(now)).unwrap_or(Duration::ZERO);
        decisions.push(Decision::Stop { attempt: attempt.clone(), signal: step.stop.signal, kill_after, orphan: false });
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
    Decision::Start { attempt: attempt.clone(), deadline: last_instant(&run.dag, run.window, run.state, step, started) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::{Play, at};
    use domain::dag::fixtures::step;
    use domain::dag::{Program, Until};
    use domain::run::RunState;

    fn day() -> Play {
        let mut collector = step("collector", StepKind::Service, &[("topics", Until::Succeeded)]);
        collector.program = Program::Uses("collect/kis".into());
        Play::new(vec![step("topics", StepKind::Task, &[]), collector, step("report", StepKind::Teardown, &[])], Some("16:00"))
    }

    fn seen(play: &Play, name: &str, number: u32, ended: Option<Exit>) -> FoundAttempt {
        FoundAttempt { attempt: play.attempt(name, number), ended: ended.map(|exit| (exit, None)) }
    }

    #[test]
    fn a_living_wanted_attempt_is_adopted() {
        let mut play = day();
        play.started("topics").exit("topics", Exit::Code(0)).started("collector").ready("collector");
        let decisions = recover(&[play.run.clone()], &[seen(&play, "collector", 1, None)], at("10:00"));
        assert_eq!(decisions, [Decision::Adopt(play.attempt("collector", 1))]);
    }

    #[test]
    fn an_attempt_that_ended_meanwhile_is_read_as_if_seen_live() {
        let mut play = day();
        play.started("topics").exit("topics", Exit::Code(0)).started("collector");
        let decisions = recover(&[play.run.clone()], &[seen(&play, "collector", 1, Some(Exit::Code(7)))], at("08:50:10"));
        assert!(matches!(
            &decisions[..],
            [Decision::Feed { event: RunEvent::Exited { exit: Exit::Code(7), .. }, .. }, Decision::Forget(_)]
        ));
    }

    #[test]
    fn an_unconfirmed_start_is_repeated_and_a_vanished_attempt_is_lost() {
        let mut play = day();
        let again = recover(&[play.run.clone()], &[], at("08:51"));
        assert!(matches!(&again[..], [Decision::Start { attempt, .. }] if *attempt == play.attempt("topics", 1)));
        play.started("topics");
        let lost = recover(&[play.run.clone()], &[], at("08:51"));
        let [Decision::Feed { event, .. }] = &lost[..] else { panic!("{lost:?}") };
        play.event(event, "08:51");
        let topics = play.step("topics");
        assert_eq!((topics.attempt, topics.retries_used, topics.state), (2, 0, StepState::Starting));
    }

    #[test]
    fn orphans_are_stopped_and_old_ends_forgotten() {
        let mut play = day();
        play.started("topics").exit("topics", Exit::Code(0)).started("collector");
        let mut stranger = seen(&play, "x", 3, None);
        stranger.attempt.run = "other@2026-11-19".parse().expect("an id");
        let found = [seen(&play, "collector", 1, None), seen(&play, "topics", 1, Some(Exit::Code(0))), stranger];
        let decisions = recover(&[play.run.clone()], &found, at("08:50:10"));
        assert!(matches!(decisions[0], Decision::Adopt(_)));
        assert!(matches!(decisions[1], Decision::Forget(_)));
        assert!(matches!(decisions[2], Decision::Stop { orphan: true, .. }));
    }

    #[test]
    fn a_close_slept_through_is_made_up_for_by_the_next_tick() {
        let mut play = day();
        play.started("topics").exit("topics", Exit::Code(0)).started("collector").ready("collector");
        let decisions = recover(&[play.run.clone()], &[seen(&play, "collector", 1, None)], at("16:05"));
        assert_eq!(decisions.len(), 1);
        play.tick("16:05");
        assert_eq!(play.stops(), ["collector"]);
        assert_eq!(play.run.state, RunState::Closing);
        let decisions = recover(&[play.run.clone()], &[seen(&play, "collector", 1, None)], at("16:05:10"));
        let Some(Decision::Stop { kill_after, orphan: false, .. }) = decisions.get(1) else { panic!("{decisions:?}") };
        assert_eq!(*kill_after, Duration::from_secs(20));
    }

    #[test]
    fn services_that_got_ready_unheard_are_not_taken_for_late() {
        let mut play = Play::new(
            ["one", "two"]
                .map(|name| step(name, StepKind::Service, &[]))
                .map(|mut s| {
                    s.program = Program::Uses("sink/index".into());
                    s
                })
                .into(),
            Some("16:00"),
        );
        // The start of one was confirmed, that of two was not; then nobody listened for ten minutes.
        play.started("one").clear_actions();
        let decisions = recover(&[play.run.clone()], &[seen(&play, "one", 1, None), seen(&play, "two", 1, None)], at("09:00"));
        for decision in &decisions {
            if let Decision::Feed { event, .. } = decision {
                play.event(event, "09:00");
            }
        }
        play.ready("one").ready("two").tick("09:00");
        assert_eq!(play.actions, [], "{decisions:?}");
        assert_eq!((play.step("one").state, play.step("two").state), (StepState::Ready, StepState::Ready));

        // One that is not ready still has its time from now on, and no more.
        let mut play = day();
        play.started("topics").exit("topics", Exit::Code(0)).started("collector").clear_actions();
        let decisions = recover(&[play.run.clone()], &[seen(&play, "collector", 1, None)], at("09:00"));
        let [Decision::Feed { event, .. }, Decision::Adopt(_)] = &decisions[..] else { panic!("{decisions:?}") };
        play.event(event, "09:00").tick("09:00:29");
        assert_eq!(play.actions, []);
        play.tick("09:00:30");
        assert_eq!(play.stops(), ["collector"]);
        assert_eq!(
            recover(&[play.run.clone()], &[seen(&play, "collector", 1, None)], at("09:00:31")).len(),
            2,
            "it is being stopped"
        );
    }

    #[test]
    fn an_interrupted_drain_is_finished_by_a_new_attempt() {
        let mut play = day();
        play.started("topics").exit("topics", Exit::Code(0)).started("collector").ready("collector").tick("16:00");
        let decisions = recover(&[play.run.clone()], &[], at("16:00:05"));
        let [Decision::Feed { event, .. }] = &decisions[..] else { panic!("{decisions:?}") };
        play.clear_actions();
        play.event(event, "16:00:05");
        assert_eq!((play.starts(), play.stops()), (vec!["collector".to_owned()], vec!["collector".to_owned()]));
        play.exit("collector", Exit::Code(0));
        assert_eq!(play.step("collector").state, StepState::Stopped);
    }
}
