//! What holds for every DAG and every order of events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use crate::graph::above;
use crate::machine::tests::at;
use crate::machine::{Applied, apply, next_wake, replay};
use crate::recovery::{Decision, FoundAttempt, recover};
use domain::dag::fixtures::{dag, step};
use domain::dag::{AlertKind, Dag, Program, Restart, Step, StepKind, TriggerRule, Until};
use domain::event::{Action, Created, RunEvent, Stamped};
use domain::ids::{AttemptId, StepName};
use domain::run::{Cause, Exit, Run, RunState, StepState, StopCause};
use domain::schedule::Window;

const KINDS: [StepKind; 4] = [StepKind::Task, StepKind::Service, StepKind::Check, StepKind::Teardown];
const UNTILS: [Until; 4] = [Until::Started, Until::Ready, Until::Succeeded, Until::Done];
const RULES: [TriggerRule; 10] = [
    TriggerRule::AllSuccess,
    TriggerRule::AllFailed,
    TriggerRule::AllDone,
    TriggerRule::OneSuccess,
    TriggerRule::OneFailed,
    TriggerRule::OneDone,
    TriggerRule::NoneFailed,
    TriggerRule::NoneFailedMinOneSuccess,
    TriggerRule::NoneSkipped,
    TriggerRule::Always,
];

/// Numbers from which a DAG is built: kind, needs as bits, until, rule, retries, restart, drain.
type Draft = (usize, u8, usize, usize, u32, usize, bool);

fn build(drafts: &[Draft]) -> Dag {
    let mut steps: Vec<Step> = Vec::new();
    for (index, (kind, bits, until, rule, retries, restart, drain)) in drafts.iter().enumerate() {
        let kind = KINDS[*kind];
        let needs: Vec<(String, Until)> = steps
            .iter()
            .enumerate()
            .filter(|(i, earlier)| {
                bits >> i & 1 == 1 && (kind == StepKind::Teardown || earlier.kind != StepKind::Teardown)
            })
            .map(|(_, earlier)| (earlier.name.to_string(), UNTILS[*until]))
            .collect();
        let needs: Vec<(&str, Until)> = needs.iter().map(|(n, u)| (n.as_str(), *u)).collect();
        let mut made = step(&format!("s{index}"), kind, &needs);
        // Rules other than the default make sense mostly with needs; use them half of the time.
        made.trigger_rule = RULES.get(*rule).copied().unwrap_or_default();
        made.retries = *retries;
        made.restart.policy = [Restart::Always, Restart::OnFailure, Restart::Never][*restart];
        made.drain = drain.then_some(Duration::from_secs(60));
        made.program = Program::Uses("x".into());
        steps.push(made);
    }
    dag("day", steps)
}

/// Plays a run against an executor that may answer anything, and watches the promises.
struct World {
    run: Run,
    now: Timestamp,
    journal: Vec<Stamped>,
    alive: BTreeSet<AttemptId>,
    asked: BTreeSet<AttemptId>,
    all: Vec<AttemptId>,
    /// When a daemon took the run up last.
    resumed_at: Timestamp,
}

impl World {
    fn new(dag: Dag, close: Option<&str>) -> Self {
        let created = Created {
            id: "day@2026-11-20".parse().expect("an id"),
            dag,
            cause: Cause::Scheduled,
            session_date: jiff::civil::date(2026, 11, 20),
            window: Window { open_at: at("08:50"), close_at: close.map(at) },
            params: BTreeMap::new(),
        };
        let event = RunEvent::Created(Box::new(created));
        let now = at("08:45");
        let applied = apply(None, &event, now).expect("created");
        let mut world = Self {
            run: applied.run.clone(),
            now,
            journal: vec![Stamped { at: now, event: event.clone() }],
            alive: BTreeSet::new(),
            asked: BTreeSet::new(),
            all: Vec::new(),
            resumed_at: now,
        };
        world.check_actions(&applied);
        world
    }

    fn feed(&mut self, event: RunEvent) {
        let Ok(applied) = apply(Some(self.run.clone()), &event, self.now) else { return };
        let cleared = matches!(event, RunEvent::Cleared { .. });
        if !applied.changed {
            assert_eq!(applied.run, self.run, "unchanged means equal");
            assert!(applied.actions.is_empty());
            return;
        }
        if self.run.state.is_terminal() {
            assert!(cleared, "terminal stays terminal: {event:?}");
        }
        let by_hand = cleared || matches!(event, RunEvent::Marked { .. } | RunEvent::Exited { .. });
        for (name, before) in &self.run.steps {
            let after = &applied.run.steps[name];
            assert!(after.attempt >= before.attempt && after.attempt <= before.attempt + 2);
            if before.state.is_terminal() && !by_hand {
                assert_eq!(before.state, after.state, "{name} was over");
            }
        }
        self.journal.push(Stamped { at: self.now, event });
        self.check_actions(&applied);
        self.check_waits(&applied.run);
        self.run = applied.run;
    }

    /// A service that is not ready always has an end of its patience, however often it asks for more.
    fn check_waits(&self, run: &Run) {
        for step in run.dag.steps().iter().filter(|s| s.kind == StepKind::Service) {
            let state = &run.steps[&step.name];
            assert!(
                state.not_before.is_none() || state.state == StepState::Running,
                "{}: {state:?}",
                step.name
            );
            if matches!(state.state, StepState::Starting | StepState::Running) && state.ready_since.is_none()
            {
                let started = state.attempt_started_at.expect("it was started");
                let most = (started + step.ready_within.max(Duration::from_secs(600)))
                    .max(self.resumed_at + step.ready_within);
                let deadline = state.deadline.expect("a deadline");
                assert!(
                    deadline <= most && deadline >= started + step.ready_within,
                    "{}: {state:?}",
                    step.name
                );
            }
        }
    }

    fn check_actions(&mut self, applied: &Applied) {
        let run = &applied.run;
        for (index, action) in applied.actions.iter().enumerate() {
            match action {
                Action::Start { attempt, .. } => {
                    let live = self.alive.iter().find(|a| a.step == attempt.step);
                    assert_eq!(live, None, "two live attempts");
                    assert!(
                        self.now >= run.window.open_at || run.state == RunState::Closing,
                        "nothing starts before the open"
                    );
                    let step = run.dag.step(&attempt.step).expect("a step");
                    if run.window.close_at.is_some_and(|close| self.now >= close)
                        && step.kind != StepKind::Teardown
                    {
                        let next = applied.actions.get(index + 1);
                        assert!(
                            matches!(next, Some(Action::Stop { attempt: a, .. }) if a == attempt),
                            "{step:?} started after the close"
                        );
                    }
                    if step.kind == StepKind::Teardown {
                        let others = run.dag.steps().iter().filter(|s| s.kind != StepKind::Teardown);
                        assert!(
                            others.map(|s| &run.steps[&s.name]).all(|s| s.state.is_terminal()),
                            "teardown beside living steps"
                        );
                    }
                    self.alive.insert(attempt.clone());
                    self.all.push(attempt.clone());
                }
                Action::Stop { attempt, .. } => {
                    self.asked.insert(attempt.clone());
                    let step = run.dag.step(&attempt.step).expect("a step");
                    if step.kind == StepKind::Service
                        && run.steps[&step.name].stop_cause == Some(StopCause::Closed)
                    {
                        for source in above(&run.dag, step).iter().filter(|s| s.kind == StepKind::Service) {
                            assert!(
                                run.steps[&source.name].state.is_terminal(),
                                "{} before its source {}",
                                step.name,
                                source.name
                            );
                        }
                    }
                }
                Action::Finished => assert!(self.alive.iter().all(|a| !run.steps[&a.step].state.is_alive())),
                Action::Kill { .. } | Action::Alert { .. } => {}
            }
        }
        if run.state.is_terminal() {
            assert!(run.steps.values().all(|s| s.state.is_terminal()));
        }
    }

    fn exit(&mut self, attempt: &AttemptId, exit: Exit) {
        self.alive.remove(attempt);
        self.feed(RunEvent::Exited {
            step: attempt.step.clone(),
            attempt: attempt.attempt,
            exit,
            result: None,
        });
    }

    /// One arbitrary thing happens.
    fn something(&mut self, what: u8, pick: usize) {
        let names: Vec<StepName> = self.run.steps.keys().cloned().collect();
        let name = names[pick % names.len()].clone();
        let attempt = (!self.all.is_empty()).then(|| self.all[pick % self.all.len()].clone());
        let living = self.alive.iter().nth(pick % self.alive.len().max(1)).cloned();
        match (what % 16, attempt, living) {
            (0..=2, Some(a), _) => self.feed(RunEvent::Started { step: a.step, attempt: a.attempt }),
            (3..=4, Some(a), _) => self.feed(RunEvent::Ready { step: a.step, attempt: a.attempt }),
            (5, Some(a), _) if pick.is_multiple_of(2) => {
                let until = self.now + Duration::from_secs(pick as u64 % 1500);
                self.feed(RunEvent::Waiting {
                    step: a.step,
                    attempt: a.attempt,
                    until,
                    reason: "taken".into(),
                });
            }
            (5, Some(a), _) if pick.is_multiple_of(3) => {
                let noticed_at = self.now;
                let kind = AlertKind::TopicRemade;
                self.feed(RunEvent::Noticed {
                    step: a.step,
                    attempt: a.attempt,
                    noticed_at,
                    kind,
                    text: "anew".into(),
                });
            }
            (5, Some(a), _) => {
                self.feed(RunEvent::Degraded { step: a.step, attempt: a.attempt, reason: "slow".into() })
            }
            // A stale or doubled end of an attempt that is already gone.
            (6, Some(a), _) if !self.alive.contains(&a) => self.exit(&a, Exit::Code(0)),
            (6..=7, _, Some(a)) => self.exit(&a, Exit::Code(0)),
            (8, _, Some(a)) => self.exit(&a, Exit::Code(1)),
            (9, _, Some(a)) => self
                .exit(&a, if pick.is_multiple_of(2) { Exit::Lost("gone".into()) } else { Exit::Signal(9) }),
            (10, ..) if pick.is_multiple_of(9) => self.feed(RunEvent::CancelRequested { by: "p".into() }),
            (11, ..) if pick.is_multiple_of(3) => {
                self.feed(RunEvent::Marked { step: name, success: pick.is_multiple_of(2), by: "p".into() })
            }
            (12, ..) if pick.is_multiple_of(3) => {
                self.feed(RunEvent::Cleared { steps: vec![name], by: "p".into() })
            }
            (14, ..) if pick.is_multiple_of(2) => self.crash(pick),
            (13, ..) => {
                self.now += Duration::from_secs(pick as u64 % 2000);
                self.feed(RunEvent::Tick);
            }
            _ => self.wake_up(),
        }
    }

    /// The daemon dies and comes back; meanwhile some attempts ended and some vanished.
    fn crash(&mut self, fates: usize) {
        let fate = |index: usize| fates >> (2 * (index % 16)) & 3;
        let alive: Vec<AttemptId> = self.alive.iter().cloned().collect();
        let seen = |(index, attempt): (usize, &AttemptId)| match fate(index) {
            0 | 1 => Some(FoundAttempt { attempt: attempt.clone(), ended: None }),
            2 => Some(FoundAttempt { attempt: attempt.clone(), ended: Some((Exit::Code(0), None)) }),
            _ => None,
        };
        let found: Vec<FoundAttempt> = alive.iter().enumerate().filter_map(seen).collect();
        self.now += Duration::from_secs(fates as u64 % 100);
        self.resumed_at = self.now;
        // The journal is all that the new daemon has.
        let folded = replay(&self.journal).expect("a journal replays").expect("a run");
        assert_eq!(folded, self.run);
        for decision in recover(&[folded], &found, self.now) {
            match decision {
                Decision::Adopt(attempt) => assert!(self.alive.contains(&attempt)),
                Decision::Feed { event, .. } => {
                    if let RunEvent::Exited { step, attempt, .. } = &event {
                        self.alive.retain(|a| (&a.step, a.attempt) != (step, *attempt));
                    }
                    self.feed(event);
                }
                Decision::Start { attempt, .. } => {
                    assert!(self.alive.contains(&attempt), "a start that was decided before")
                }
                Decision::Stop { attempt, orphan, .. } => {
                    assert!(!orphan, "everything that lives is owned: {attempt}");
                    self.asked.insert(attempt);
                }
                Decision::Forget(attempt) => assert!(!self.alive.contains(&attempt)),
            }
        }
        self.feed(RunEvent::Tick);
    }

    fn wake_up(&mut self) {
        let Some(wake) = next_wake(&self.run) else { return };
        self.now = self.now.max(wake);
        self.feed(RunEvent::Tick);
        assert!(
            next_wake(&self.run).is_none_or(|next| next > self.now),
            "a tick at {} left a wake in the past",
            self.now
        );
    }

    /// From now on every attempt does what it is for.
    fn answer_until_the_end(&mut self) {
        let endless = self.run.window.close_at.is_none()
            && !self.run.dag.steps().iter().any(|s| s.kind == StepKind::Task);
        if endless {
            self.feed(RunEvent::CancelRequested { by: "p".into() });
        }
        for _ in 0..5000 {
            if self.run.state.is_terminal() {
                return;
            }
            let Some(attempt) =
                self.alive.iter().find(|a| !self.is_settled(a) || self.ends_by_itself(a)).cloned()
            else {
                self.wake_up();
                continue;
            };
            let step = self.run.dag.step(&attempt.step).expect("a step");
            let kind = step.kind;
            self.feed(RunEvent::Started { step: attempt.step.clone(), attempt: attempt.attempt });
            if kind == StepKind::Service
                && !self.asked.contains(&attempt)
                && !(self.is_settled(&attempt) && self.ends_by_itself(&attempt))
            {
                self.feed(RunEvent::Ready { step: attempt.step.clone(), attempt: attempt.attempt });
            } else {
                self.exit(&attempt, Exit::Code(0));
            }
        }
        panic!("the run never ended: {:#?}", self.run.steps);
    }

    /// Without a window, services that may end by themselves do, or what waits for their end waits for ever.
    fn ends_by_itself(&self, attempt: &AttemptId) -> bool {
        let step = self.run.dag.step(&attempt.step).expect("a step");
        step.restart.policy != Restart::Always && self.run.window.close_at.is_none()
    }

    /// A ready service that was not asked to stop has nothing to say.
    fn is_settled(&self, attempt: &AttemptId) -> bool {
        let step = &self.run.steps[&attempt.step];
        !self.asked.contains(attempt) && step.attempt == attempt.attempt && step.ready_since.is_some()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold(
        drafts in prop::collection::vec((0..4usize, any::<u8>(), 0..4usize, 0..20usize, 0..3u32, 0..3usize, any::<bool>()), 1..8),
        windowed in any::<bool>(),
        script in prop::collection::vec((any::<u8>(), any::<usize>()), 0..120),
    ) {
        let mut world = World::new(build(&drafts), windowed.then_some("16:00"));
        for (what, pick) in script {
            world.something(what, pick);
        }
        world.answer_until_the_end();
        prop_assert!(world.run.state.is_terminal());
        prop_assert!(world.alive.is_empty(), "left alive: {:?}", world.alive);
        let replayed = replay(&world.journal).expect("a journal replays");
        prop_assert_eq!(replayed, Some(world.run.clone()));
        let text = serde_json::to_string(&world.run).expect("a run is JSON");
        prop_assert_eq!(serde_json::from_str::<Run>(&text).expect("reads back"), world.run.clone());
        // Late news change nothing.
        for attempt in world.all.clone() {
            world.exit(&attempt, Exit::Code(1));
        }
        prop_assert!(matches!(world.run.state, RunState::Succeeded | RunState::Failed | RunState::Cancelled));
    }
}
