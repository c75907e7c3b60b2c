//! Scenes of a day, told event by event.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::machine::{Refused, apply, next_wake, replay};
use domain::dag::fixtures::{dag, step};
use domain::dag::{AlertKind, Condition, Program, Restart, Step, StepKind, Until};
use domain::event::{Action, Created, RunEvent, Stamped};
use domain::ids::AttemptId;
use domain::run::{Cause, Exit, Run, RunState, StepRun, StepState};
use domain::schedule::Window;

/// A time of the day, KST.
pub(crate) fn at(time: &str) -> Timestamp {
    let seconds = if time.len() == 5 { ":00" } else { "" };
    format!("2026-11-20T{time}{seconds}+09:00").parse().expect("a time")
}

/// A run played by hand.
pub(crate) struct Play {
    pub(crate) run: Run,
    pub(crate) actions: Vec<Action>,
    pub(crate) journal: Vec<Stamped>,
    now: Timestamp,
}

impl Play {
    pub(crate) fn new(steps: Vec<Step>, close: Option<&str>) -> Self {
        Self::with_params(steps, close, &[])
    }

    fn with_params(steps: Vec<Step>, close: Option<&str>, params: &[(&str, &str)]) -> Self {
        let created = Created {
            id: "day@2026-11-20".parse().expect("an id"),
            dag: dag("day", steps),
            cause: Cause::Scheduled,
            session_date: jiff::civil::date(2026, 11, 20),
            window: Window { open_at: at("08:50"), close_at: close.map(at) },
            params: params
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>(),
        };
        let event = RunEvent::Created(Box::new(created));
        let applied = apply(None, &event, at("08:50")).expect("created");
        let journal = vec![Stamped { at: at("08:50"), event }];
        Self { run: applied.run, actions: applied.actions, journal, now: at("08:50") }
    }

    pub(crate) fn event(&mut self, event: &RunEvent, time: &str) -> &mut Self {
        self.now = at(time);
        self.feed(event)
    }

    fn feed(&mut self, event: &RunEvent) -> &mut Self {
        let applied = apply(Some(self.run.clone()), event, self.now).expect("accepted");
        if applied.changed {
            self.journal.push(Stamped { at: self.now, event: event.clone() });
        } else {
            assert_eq!(applied.run, self.run);
        }
        self.run = applied.run;
        self.actions.extend(applied.actions);
        self
    }

    pub(crate) fn tick(&mut self, time: &str) -> &mut Self {
        self.event(&RunEvent::Tick, time)
    }

    pub(crate) fn tick_at(&mut self, time: Timestamp) -> &mut Self {
        self.now = time;
        self.feed(&RunEvent::Tick)
    }

    pub(crate) fn step(&self, name: &str) -> &StepRun {
        &self.run.steps[&name.parse().expect("a name")]
    }

    pub(crate) fn attempt(&self, name: &str, attempt: u32) -> AttemptId {
        AttemptId { run: self.run.id.clone(), step: name.parse().expect("a name"), attempt }
    }

    pub(crate) fn started(&mut self, name: &str) -> &mut Self {
        let attempt = self.step(name).attempt;
        self.feed(&RunEvent::Started { step: name.parse().expect("a name"), attempt })
    }

    pub(crate) fn ready(&mut self, name: &str) -> &mut Self {
        let attempt = self.step(name).attempt;
        self.feed(&RunEvent::Ready { step: name.parse().expect("a name"), attempt })
    }

    pub(crate) fn exit(&mut self, name: &str, exit: Exit) -> &mut Self {
        let attempt = self.step(name).attempt;
        self.feed(&RunEvent::Exited { step: name.parse().expect("a name"), attempt, exit, result: None })
    }

    pub(crate) fn clear_actions(&mut self) {
        self.actions.clear();
    }

    pub(crate) fn starts(&self) -> Vec<String> {
        let name = |a: &Action| {
            if let Action::Start { attempt, .. } = a { Some(attempt.step.to_string()) } else { None }
        };
        self.actions.iter().filter_map(name).collect()
    }

    pub(crate) fn stops(&self) -> Vec<String> {
        let name = |a: &Action| {
            if let Action::Stop { attempt, .. } = a { Some(attempt.step.to_string()) } else { None }
        };
        self.actions.iter().filter_map(name).collect()
    }

    fn alerts(&self) -> Vec<AlertKind> {
        let kind = |a: &Action| if let Action::Alert { kind, .. } = a { Some(*kind) } else { None };
        self.actions.iter().filter_map(kind).collect()
    }

    fn state(&self, name: &str) -> StepState {
        self.step(name).state
    }

    pub(crate) fn wake(&self) -> Timestamp {
        next_wake(&self.run).expect("something is due")
    }

    /// Lets time pass to the next wake and ticks there.
    fn wake_up(&mut self) -> &mut Self {
        self.now = self.wake();
        self.feed(&RunEvent::Tick);
        assert!(
            next_wake(&self.run).is_none_or(|wake| wake > self.now),
            "a tick at the wake must consume it"
        );
        self
    }
}

fn service(name: &str, needs: &[(&str, Until)], drain: Option<u64>) -> Step {
    let mut step = step(name, StepKind::Service, needs);
    step.program = Program::Uses("sink/index".into());
    step.drain = drain.map(Duration::from_secs);
    step
}

/// The shipped day in small.
fn day() -> Play {
    let steps = vec![
        step("topics", StepKind::Task, &[]),
        service("collector", &[("topics", Until::Succeeded)], None),
        service("sink", &[("collector", Until::Ready)], Some(60)),
        step("freshness", StepKind::Check, &[("collector", Until::Ready)]),
        step("reconcile", StepKind::Teardown, &[]),
    ];
    Play::new(steps, Some("16:00"))
}

fn open_day() -> Play {
    let mut play = day();
    play.started("topics")
        .exit("topics", Exit::Code(0))
        .started("collector")
        .ready("collector")
        .started("sink")
        .ready("sink");
    play
}

#[test]
fn a_whole_day_opens_in_order_closes_in_order_and_succeeds() {
    let mut play = day();
    assert_eq!(play.starts(), ["topics"]);
    play.started("topics").exit("topics", Exit::Code(0));
    assert_eq!(play.starts(), ["topics", "collector"]);
    play.started("collector");
    assert_eq!(play.state("sink"), StepState::Pending, "running is not ready");
    play.ready("collector");
    assert_eq!(play.starts(), ["topics", "collector", "sink"]);
    play.started("sink").ready("sink").wake_up();
    assert_eq!((play.now, play.state("freshness")), (at("08:55"), StepState::Starting));
    play.started("freshness").exit("freshness", Exit::Code(0));
    assert_eq!(play.wake(), at("09:00"));
    play.clear_actions();

    play.tick("15:59:59");
    assert!(play.stops().is_empty());
    play.started("freshness").exit("freshness", Exit::Code(0)).clear_actions();
    play.tick("16:00");
    assert_eq!(play.stops(), ["collector"], "the sink waits until nothing can reach it");
    play.exit("collector", Exit::Code(0));
    assert_eq!(play.stops(), ["collector", "sink"]);
    let Some(Action::Stop { kill_after, .. }) = play.actions.last() else { panic!("{:?}", play.actions) };
    assert_eq!(*kill_after, Duration::from_secs(90), "drain and grace");
    assert!(play.starts().is_empty());
    play.exit("sink", Exit::Signal(15));
    assert_eq!(play.starts(), ["reconcile"]);
    play.started("reconcile").exit("reconcile", Exit::Code(0));
    assert_eq!(play.run.state, RunState::Succeeded);
    assert_eq!(play.actions.last(), Some(&Action::Finished));
    assert_eq!(play.alerts(), [AlertKind::RunFinished]);
    assert_eq!(replay(&play.journal).expect("replays"), Some(play.run.clone()));
    assert_eq!(next_wake(&play.run), None);
}

#[test]
fn starts_carry_a_deadline_behind_the_close() {
    let mut play = open_day();
    play.wake_up();
    let deadlines: BTreeMap<_, _> = play
        .actions
        .iter()
        .filter_map(|a| {
            if let Action::Start { attempt, deadline } = a {
                Some((attempt.step.to_string(), *deadline))
            } else {
                None
            }
        })
        .collect();
    assert_eq!(deadlines["topics"], Some(at("09:00:30")), "timeout and grace");
    assert_eq!(deadlines["collector"], Some(at("16:00:30")));
    assert_eq!(deadlines["sink"], Some(at("16:02")), "after its source, with its drain");
    assert!(deadlines["freshness"] <= Some(at("16:01")));
}

#[test]
fn a_task_is_retried_with_backoff_and_then_fails_what_needs_it() {
    let mut first = step("a", StepKind::Task, &[]);
    first.retries = 1;
    let mut play = Play::new(vec![first, step("b", StepKind::Task, &[("a", Until::Succeeded)])], None);
    play.started("a").exit("a", Exit::Code(1));
    assert_eq!((play.state("a"), play.step("a").retries_used), (StepState::Waiting, 1));
    play.wake_up();
    assert_eq!((play.state("a"), play.step("a").attempt), (StepState::Starting, 2));
    play.started("a").exit("a", Exit::Signal(11));
    assert_eq!((play.state("a"), play.state("b")), (StepState::Failed, StepState::UpstreamFailed));
    assert_eq!(play.run.state, RunState::Failed);
    assert_eq!(play.alerts(), [AlertKind::StepFailed, AlertKind::RunFailed, AlertKind::RunFinished]);
    assert_eq!(play.step("a").history.len(), 2);
}

#[test]
fn losses_spend_no_retry() {
    let mut play = Play::new(vec![step("a", StepKind::Task, &[])], None);
    play.started("a").exit("a", Exit::Lost("gone".into()));
    assert_eq!(
        (play.state("a"), play.step("a").attempt, play.step("a").retries_used),
        (StepState::Starting, 2, 0)
    );
    play.exit("a", Exit::Lost("gone".into()));
    assert_eq!(play.state("a"), StepState::Waiting, "a second loss waits");
    play.wake_up().started("a").exit("a", Exit::Code(0));
    assert_eq!(play.run.state, RunState::Succeeded);
}

#[test]
fn a_timeout_stops_and_counts_as_failure() {
    let mut play = Play::new(vec![step("a", StepKind::Task, &[])], None);
    play.started("a").wake_up();
    assert_eq!((play.now, play.state("a")), (at("09:00"), StepState::Stopping));
    assert_eq!((play.stops(), play.alerts()), (vec!["a".to_owned()], vec![]), "its end will tell");
    play.wake_up();
    assert!(matches!(play.actions.last(), Some(Action::Kill { .. })), "the machine insists");
    assert_eq!(play.alerts(), [AlertKind::DeadlineMissed], "nobody knows its end");
    play.exit("a", Exit::Code(0));
    assert_eq!(play.state("a"), StepState::Failed, "ending well too late is too late");
}

#[test]
fn reports_of_older_attempts_and_doubles_change_nothing() {
    let mut play = open_day();
    play.exit("sink", Exit::Code(0)).wake_up();
    assert_eq!(play.step("sink").attempt, 2);
    let before = play.run.clone();
    let journal = play.journal.len();
    for event in [
        RunEvent::Exited {
            step: "sink".parse().expect("a name"),
            attempt: 1,
            exit: Exit::Code(0),
            result: None,
        },
        RunEvent::Ready { step: "sink".parse().expect("a name"), attempt: 1 },
        RunEvent::Started { step: "sink".parse().expect("a name"), attempt: 3 },
        RunEvent::Exited {
            step: "topics".parse().expect("a name"),
            attempt: 1,
            exit: Exit::Code(1),
            result: None,
        },
        RunEvent::Ready { step: "collector".parse().expect("a name"), attempt: 1 },
    ] {
        play.feed(&event);
    }
    assert_eq!((play.run.clone(), play.journal.len()), (before, journal));
}

#[test]
fn a_service_that_ends_inside_its_window_is_restarted_even_with_code_0() {
    let mut play = open_day();
    play.exit("sink", Exit::Code(0));
    assert_eq!(play.state("sink"), StepState::Waiting);
    assert_eq!(play.alerts(), [], "a restart is not yet somebody's problem");
    play.wake_up();
    assert_eq!((play.state("sink"), play.step("sink").attempt), (StepState::Starting, 2));
}

#[test]
fn restart_policies_and_limits_hold() {
    let mut polite = service("polite", &[], None);
    polite.restart.policy = Restart::OnFailure;
    let mut once = service("once", &[], None);
    once.restart.policy = Restart::Never;
    let mut limited = service("limited", &[], None);
    limited.restart.max = Some(1);
    let mut play = Play::new(vec![polite, once, limited], Some("16:00"));
    play.started("polite").exit("polite", Exit::Code(0)).started("once").exit("once", Exit::Code(3));
    assert_eq!((play.state("polite"), play.state("once")), (StepState::Succeeded, StepState::Failed));
    play.started("limited").exit("limited", Exit::Code(1)).wake_up();
    play.started("limited").exit("limited", Exit::Code(1));
    assert_eq!(play.state("limited"), StepState::Failed);
}

#[test]
fn the_restart_backoff_starts_over_after_a_stable_life() {
    let mut play = open_day();
    for _ in 0..3 {
        play.exit("sink", Exit::Code(1)).wake_up().started("sink");
    }
    assert_eq!(play.step("sink").retries_used, 3);
    play.ready("sink").tick("12:00").exit("sink", Exit::Code(1));
    assert_eq!(play.step("sink").retries_used, 1);
}

#[test]
fn a_service_that_is_not_ready_in_time_is_restarted_with_an_alert() {
    let mut play = day();
    play.started("topics").exit("topics", Exit::Code(0)).started("collector").wake_up();
    assert_eq!((play.now, play.state("collector")), (at("08:50:30"), StepState::Stopping));
    assert_eq!(play.alerts(), [AlertKind::DeadlineMissed]);
    play.exit("collector", Exit::Signal(15));
    assert_eq!((play.state("collector"), play.step("collector").retries_used), (StepState::Waiting, 1));
}

#[test]
fn a_service_that_was_never_ready_fails_the_day() {
    let mut play = day();
    play.started("topics")
        .exit("topics", Exit::Code(0))
        .started("collector")
        .tick("16:00")
        .exit("collector", Exit::Code(0));
    assert_eq!(play.state("collector"), StepState::Failed);
    assert_eq!(play.state("sink"), StepState::Skipped);
    play.started("reconcile").exit("reconcile", Exit::Code(0));
    assert_eq!(play.run.state, RunState::Failed);
}

#[test]
fn a_kill_that_was_needed_is_a_warning_and_not_a_failure() {
    let mut play = open_day();
    play.tick("16:00").tick("16:00:30").exit("collector", Exit::Signal(9));
    assert_eq!((play.state("collector"), play.step("collector").killed), (StepState::Stopped, true));
    assert_eq!(play.alerts(), [AlertKind::DeadlineMissed]);
    play.exit("sink", Exit::Code(1));
    assert_eq!(play.state("sink"), StepState::Failed, "a drain that failed is not a clean stop");
}

#[test]
fn an_exit_just_after_the_close_is_a_stop_although_no_tick_came_first() {
    let mut play = open_day();
    play.now = at("16:00:01");
    play.exit("collector", Exit::Code(0));
    assert_eq!((play.state("collector"), play.run.state), (StepState::Stopped, RunState::Closing));
}

#[test]
fn checks_keep_to_the_grid_and_count_what_they_missed() {
    let mut play = open_day();
    play.tick("08:55");
    assert_eq!(play.state("freshness"), StepState::Starting);
    play.started("freshness").tick("09:00");
    assert_eq!(play.step("freshness").attempt, 1, "a running round is not started twice");
    play.tick("09:02").exit("freshness", Exit::Code(0));
    assert_eq!(
        (play.step("freshness").missed_rounds, play.step("freshness").next_at),
        (1, Some(at("09:05")))
    );
    play.tick("10:06");
    assert_eq!((play.step("freshness").missed_rounds, play.state("freshness")), (13, StepState::Starting));
    play.clear_actions();
    play.started("freshness").exit("freshness", Exit::Code(1));
    assert_eq!((play.state("freshness"), play.alerts()), (StepState::Waiting, vec![AlertKind::StepFailed]));
    assert_eq!(play.step("freshness").next_at, Some(at("10:10")));
    play.wake_up().started("freshness").exit("freshness", Exit::Code(1));
    assert_eq!(play.alerts().len(), 1, "one alert per streak");
}

#[test]
fn a_cancel_stops_everything_and_still_tears_down() {
    let mut play = open_day();
    play.event(&RunEvent::CancelRequested { by: "ann".into() }, "10:00");
    assert_eq!(play.stops(), ["collector"]);
    let again = apply(Some(play.run.clone()), &RunEvent::CancelRequested { by: "bob".into() }, at("10:01"));
    assert!(matches!(again, Err(Refused::Closing(_))));
    play.exit("collector", Exit::Code(0))
        .exit("sink", Exit::Code(0))
        .started("reconcile")
        .exit("reconcile", Exit::Code(1));
    assert_eq!(play.run.state, RunState::Cancelled);
}

#[test]
fn teardowns_keep_their_order_and_run_whatever_happened() {
    let steps = vec![
        step("work", StepKind::Task, &[]),
        step("drop", StepKind::Teardown, &[]),
        step("report", StepKind::Teardown, &[("drop", Until::Succeeded)]),
    ];
    let mut play = Play::new(steps, None);
    play.started("work").exit("work", Exit::Code(1));
    assert_eq!(play.starts(), ["work", "drop"]);
    play.started("drop").exit("drop", Exit::Code(1));
    assert_eq!(play.starts(), ["work", "drop", "report"]);
    play.started("report").exit("report", Exit::Code(0));
    assert_eq!(play.run.state, RunState::Failed);
}

#[test]
fn an_alert_tells_what_the_step_said() {
    let mut play = Play::new(vec![step("report", StepKind::Teardown, &[])], None);
    let result = Some(serde_json::json!({ "ok": false, "error": "index misses 7\nand more" }));
    let name = play.attempt("report", 1).step;
    play.event(&RunEvent::Exited { step: name, attempt: 1, exit: Exit::Code(1), result }, "16:00");
    let told = |a: &Action| matches!(a, Action::Alert { summary, .. } if summary == "teardown report: exit code 1: index misses 7");
    assert!(play.actions.iter().any(told), "{:?}", play.actions);
    assert_eq!(play.run.state, RunState::Failed);
    assert!(play.step("report").result.as_ref().is_some_and(|r| r["ok"] == false));
}

#[test]
fn a_condition_skips_without_failing() {
    let mut optional = step("optional", StepKind::Task, &[]);
    optional.when = Some(Condition { param: "full".into(), equals: "yes".into() });
    let steps = vec![optional.clone(), step("after", StepKind::Task, &[("optional", Until::Succeeded)])];
    let play = Play::with_params(steps.clone(), None, &[]);
    assert_eq!((play.state("optional"), play.state("after")), (StepState::Skipped, StepState::Skipped));
    assert_eq!(play.run.state, RunState::Succeeded);
    let play = Play::with_params(steps, None, &[("full", "yes")]);
    assert_eq!(play.state("optional"), StepState::Starting);
}

#[test]
fn a_run_without_a_window_stops_its_services_when_the_tasks_are_done() {
    let steps = vec![service("db", &[], None), step("job", StepKind::Task, &[("db", Until::Ready)])];
    let mut play = Play::new(steps, None);
    play.started("db").ready("db").started("job").exit("job", Exit::Code(0));
    assert_eq!((play.stops(), play.run.state), (vec!["db".to_owned()], RunState::Closing));
    play.exit("db", Exit::Code(143));
    assert_eq!(play.run.state, RunState::Succeeded);
}

#[test]
fn clearing_reopens_inside_the_window_only() {
    let mut play = Play::new(
        vec![step("a", StepKind::Task, &[]), step("b", StepKind::Task, &[("a", Until::Succeeded)])],
        None,
    );
    play.started("a").exit("a", Exit::Code(0)).started("b").exit("b", Exit::Code(1));
    assert_eq!(play.run.state, RunState::Failed);
    let clear = RunEvent::Cleared { steps: vec!["b".parse().expect("a name")], by: "ann".into() };
    play.event(&clear, "11:00");
    assert_eq!(
        (play.run.state, play.state("b"), play.step("b").attempt),
        (RunState::Running, StepState::Starting, 2)
    );
    play.started("b").exit("b", Exit::Code(0));
    assert_eq!(play.run.state, RunState::Succeeded);
    assert_eq!(replay(&play.journal).expect("replays"), Some(play.run.clone()));

    let mut play = open_day();
    play.event(
        &RunEvent::Cleared { steps: vec!["sink".parse().expect("a name")], by: "ann".into() },
        "11:00",
    );
    assert_eq!(play.state("sink"), StepState::Stopping);
    play.exit("sink", Exit::Code(0));
    assert_eq!((play.state("sink"), play.step("sink").attempt), (StepState::Starting, 2));
    let late = apply(Some(play.run.clone()), &clear_of("sink"), at("16:00"));
    assert!(matches!(late, Err(Refused::WindowPassed { .. })));
}

fn clear_of(name: &str) -> RunEvent {
    RunEvent::Cleared { steps: vec![name.parse().expect("a name")], by: "ann".into() }
}

#[test]
fn marking_by_hand_decides_and_frees_what_waited() {
    let mut play = Play::new(
        vec![step("a", StepKind::Task, &[]), step("b", StepKind::Task, &[("a", Until::Succeeded)])],
        Some("16:00"),
    );
    play.started("a").exit("a", Exit::Code(1));
    assert_eq!(play.state("b"), StepState::UpstreamFailed);
    let mark = |name: &str, success| RunEvent::Marked {
        step: name.parse().expect("a name"),
        success,
        by: "ann".into(),
    };
    play.event(&mark("a", true), "09:00");
    assert_eq!((play.state("a"), play.state("b")), (StepState::Succeeded, StepState::Starting));
    play.started("b").feed(&mark("b", true));
    assert_eq!(play.state("b"), StepState::Stopping, "a living attempt is stopped first");
    play.exit("b", Exit::Signal(15));
    assert_eq!(play.state("b"), StepState::Succeeded);
    let unknown = apply(Some(play.run.clone()), &mark("zz", true), at("09:01")).expect_err("refused");
    assert_eq!(unknown.to_string(), "run day@2026-11-20 has no step \"zz\"; it has a, b");
}

#[test]
fn nothing_starts_before_the_open() {
    let mut play = day();
    let RunEvent::Created(created) = &play.journal[0].event else { panic!("the first event") };
    let early = apply(None, &RunEvent::Created(created.clone()), at("08:40")).expect("created");
    assert!(early.actions.is_empty());
    assert_eq!(next_wake(&early.run), Some(at("08:50")));
    play.run = early.run;
    play.wake_up();
    assert_eq!(play.state("topics"), StepState::Starting);
}
