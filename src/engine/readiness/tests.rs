//! Services that are not ready yet: how long they may take, and what people hear of it.

use std::time::Duration;

use crate::machine::tests::{Play, at};
use crate::machine::{apply, next_wake, replay};
use domain::dag::fixtures::step;
use domain::dag::{AlertKind, Program, Step, StepKind};
use domain::event::{Action, RunEvent};
use domain::run::{Exit, StepState};

fn service(name: &str) -> Step {
    let mut step = step(name, StepKind::Service, &[]);
    step.program = Program::Uses("collect/kis".into());
    step
}

fn waiting(attempt: u32, until: &str) -> RunEvent {
    let reason = "another session uses this app key".into();
    RunEvent::Waiting { step: "collector".parse().expect("a name"), attempt, until: at(until), reason }
}

/// The times at which people are told that something was not in time.
fn told(play: &Play) -> usize {
    play.actions.iter().filter(|a| matches!(a, Action::Alert { .. })).count()
}

#[test]
fn a_service_that_has_to_wait_is_given_its_time_and_nobody_is_told() {
    let mut play = Play::new(vec![service("collector")], Some("16:00"));
    play.started("collector").event(&waiting(1, "08:52:05"), "08:50:05");
    let collector = play.step("collector");
    assert_eq!((collector.state, collector.not_before), (StepState::Running, Some(at("08:52:05"))));
    assert_eq!(next_wake(&play.run), Some(at("08:52:35")), "its usual 30 s from then on");
    play.tick("08:50:30").tick("08:52:30");
    assert_eq!((play.stops(), told(&play)), (vec![], 0));
    play.ready("collector");
    let collector = play.step("collector");
    assert_eq!((collector.state, collector.not_before, &collector.reason), (StepState::Ready, None, &None));
    assert_eq!(replay(&play.journal).expect("replays"), Some(play.run.clone()));
}

#[test]
fn the_same_wait_is_journaled_once_and_a_new_one_again() {
    let mut play = Play::new(vec![service("collector")], Some("16:00"));
    play.started("collector").event(&waiting(1, "08:51:30"), "08:50:05");
    let length = play.journal.len();
    play.event(&waiting(1, "08:51:30"), "08:50:06").event(&waiting(1, "08:51:30"), "08:51:00");
    assert_eq!(play.journal.len(), length);
    play.event(&waiting(1, "08:53:00"), "08:51:31");
    assert_eq!((play.journal.len(), next_wake(&play.run)), (length + 1, Some(at("08:53:30"))));
    play.event(&waiting(2, "08:59:00"), "08:51:32");
    assert_eq!(play.journal.len(), length + 1, "of an attempt that is not there");
}

#[test]
fn no_service_can_wait_for_ever() {
    let mut play = Play::new(vec![service("collector")], Some("16:00"));
    play.started("collector");
    for minute in 50..59 {
        play.event(&waiting(1, &format!("08:{}:00", minute + 1)), &format!("08:{minute}:30"));
    }
    play.event(&waiting(1, "15:00"), "08:59:30");
    assert_eq!(next_wake(&play.run), Some(at("09:00")), "ten minutes after its start");
    play.tick("09:00");
    assert_eq!((play.stops(), told(&play)), (vec!["collector".to_owned()], 1));
    let told = |a: &Action| matches!(a, Action::Alert { summary, .. } if summary.contains("600 s after its start (another session"));
    assert!(play.actions.iter().any(told), "{:?}", play.actions);
    play.exit("collector", Exit::Signal(15));
    assert_eq!((play.step("collector").state, play.step("collector").not_before), (StepState::Waiting, None));
}

#[test]
fn a_wait_never_shortens_the_time_there_was() {
    let mut patient = service("collector");
    patient.ready_within = Duration::from_secs(1_800);
    let mut play = Play::new(vec![patient], Some("16:00"));
    play.started("collector").event(&waiting(1, "08:50:10"), "08:50:05");
    assert_eq!(next_wake(&play.run), Some(at("09:20")), "its file allows more than the limit");
    let mut play = Play::new(vec![service("collector")], Some("16:00"));
    play.started("collector").event(&waiting(1, "08:49:00"), "08:50:05");
    assert_eq!(next_wake(&play.run), Some(at("08:50:30")));
}

#[test]
fn a_wait_after_ready_or_at_the_close_changes_nothing() {
    let mut play = Play::new(vec![service("collector")], Some("16:00"));
    play.started("collector").ready("collector");
    let late = apply(Some(play.run.clone()), &waiting(1, "08:52:00"), at("08:51")).expect("accepted");
    assert!(!late.changed);
    play.tick("16:00");
    let late = apply(Some(play.run.clone()), &waiting(1, "16:02:00"), at("16:00:01")).expect("accepted");
    assert!(!late.changed);
}

#[test]
fn a_service_killed_and_ready_again_in_time_wakes_nobody() {
    let mut play = Play::new(vec![service("collector")], Some("16:00"));
    play.started("collector").ready("collector").tick("10:00").exit("collector", Exit::Signal(9));
    let start = play.step("collector").next_at.expect("it is started again");
    play.tick_at(start).started("collector").tick_at(start + Duration::from_secs(29)).ready("collector");
    assert_eq!(
        (play.step("collector").state, play.step("collector").attempt, told(&play)),
        (StepState::Ready, 2, 0)
    );
}

#[test]
fn a_service_that_is_late_again_and_again_is_told_once_and_then_hourly() {
    let mut play = Play::new(vec![service("collector")], Some("16:00"));
    let late_until = |play: &mut Play, end: &str| {
        while play.wake() < at(end) {
            let wake = play.wake();
            play.tick_at(wake);
            if play.step("collector").state == StepState::Stopping {
                play.exit("collector", Exit::Signal(15));
            }
        }
    };
    late_until(&mut play, "09:50");
    assert!(play.step("collector").attempt > 10, "{:?}", play.step("collector"));
    assert_eq!(told(&play), 1);
    late_until(&mut play, "10:00");
    assert_eq!(told(&play), 2, "a reminder after an hour");
    // Up for a moment is not yet well again; stable for a while is.
    while play.step("collector").state != StepState::Starting {
        let wake = play.wake();
        play.tick_at(wake);
    }
    play.started("collector").ready("collector").exit("collector", Exit::Signal(9));
    late_until(&mut play, "10:20");
    assert_eq!(told(&play), 2);
    while play.step("collector").state != StepState::Starting {
        let wake = play.wake();
        play.tick_at(wake);
    }
    play.started("collector").ready("collector").tick("12:00").exit("collector", Exit::Signal(9));
    late_until(&mut play, "12:10");
    assert_eq!(told(&play), 3, "a new streak");
}

#[test]
fn a_check_that_runs_out_of_time_is_told_once_a_streak() {
    let mut check = step("freshness", StepKind::Check, &[]);
    check.retries = 1;
    check.timeout = Some(Duration::from_secs(60));
    let mut play = Play::new(vec![check], Some("16:00"));
    let hang = |play: &mut Play| {
        while play.step("freshness").state != StepState::Stopping {
            let wake = play.wake();
            play.tick_at(wake);
        }
        play.exit("freshness", Exit::Signal(15));
    };
    hang(&mut play);
    assert_eq!(told(&play), 0, "it is tried again");
    hang(&mut play);
    assert_eq!(told(&play), 1);
    let kinds = |a: &Action| matches!(a, Action::Alert { kind: AlertKind::DeadlineMissed, .. });
    assert!(play.actions.iter().any(kinds), "{:?}", play.actions);
    (0..4).for_each(|_| hang(&mut play));
    assert_eq!(told(&play), 1, "three rounds in a row");
}

#[test]
fn a_task_that_runs_out_of_time_is_told_at_once_and_when_it_has_failed() {
    let mut task = step("topics", StepKind::Task, &[]);
    task.retries = 3;
    let mut play = Play::new(vec![task], Some("16:00"));
    for _ in 0..3 {
        while play.step("topics").state != StepState::Stopping {
            let wake = play.wake();
            play.tick_at(wake);
        }
        assert_eq!(told(&play), 1);
        play.exit("topics", Exit::Signal(15));
    }
}
