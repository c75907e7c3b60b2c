//! What is said of an attempt that ended badly.

use std::time::Duration;

use crate::machine::tests::{Play, at};
use domain::dag::fixtures::step;
use domain::dag::{AlertKind, Step, StepKind};
use domain::event::{Action, RunEvent};
use domain::run::{Exit, StepState};

fn slow(retries: u32) -> Step {
    let mut slow = step("slow", StepKind::Task, &[]);
    slow.timeout = Some(Duration::from_secs(60));
    slow.stop.grace = Duration::from_secs(5);
    slow.retries = retries;
    slow
}

fn told(play: &Play) -> Vec<(AlertKind, String)> {
    let alert = |a: &Action| {
        if let Action::Alert { kind, summary, .. } = a { Some((*kind, summary.clone())) } else { None }
    };
    play.actions
        .iter()
        .filter_map(alert)
        .filter(|(kind, _)| !matches!(kind, AlertKind::RunFailed | AlertKind::RunFinished))
        .collect()
}

#[test]
fn one_that_ignored_the_signal_is_told_so_once() {
    let mut play = Play::new(vec![slow(0)], None);
    play.started("slow").tick("08:51");
    assert_eq!((play.step("slow").state, told(&play)), (StepState::Stopping, vec![]));
    play.tick("08:51:05").exit("slow", Exit::Signal(9));
    let why = "timed out after 60s, ignored SIGTERM for 5s, and was killed";
    assert_eq!((play.step("slow").reason.as_deref(), play.step("slow").killed), (Some(why), true));
    let summary = format!("task slow: {why}");
    assert_eq!(told(&play), [(AlertKind::StepFailed, summary.clone()), (AlertKind::DeadlineMissed, summary)]);
}

#[test]
fn one_that_heeded_it_was_not_killed() {
    let mut play = Play::new(vec![slow(0)], None);
    play.started("slow").tick("08:51").tick("08:51:02").exit("slow", Exit::Signal(15));
    let why = "timed out after 60s (ended by signal 15)";
    assert_eq!((play.step("slow").reason.as_deref(), play.step("slow").killed), (Some(why), false));
    // Something else killed it before its grace was over.
    let mut play = Play::new(vec![slow(0)], None);
    play.started("slow").tick("08:51").tick("08:51:02").exit("slow", Exit::Signal(9));
    assert_eq!(play.step("slow").reason.as_deref(), Some("timed out after 60s (killed (signal 9))"));
}

#[test]
fn tries_that_take_too_long_are_told_at_the_first_and_at_the_last() {
    let mut play = Play::new(vec![slow(1)], None);
    play.started("slow").tick("08:51");
    assert_eq!(
        told(&play),
        [(AlertKind::DeadlineMissed, "task slow timed out after 60s; it is tried again".to_owned())]
    );
    play.exit("slow", Exit::Signal(15));
    play.clear_actions();
    let next = play.step("slow").next_at.expect("it is tried again");
    play.tick_at(next).started("slow");
    let late = play.step("slow").deadline.expect("a deadline");
    play.tick_at(late).exit("slow", Exit::Signal(15));
    assert_eq!(
        told(&play).iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        [AlertKind::StepFailed, AlertKind::DeadlineMissed]
    );
}

#[test]
fn one_whose_end_nobody_knows_is_told_while_it_lasts() {
    let mut play = Play::new(vec![slow(0)], None);
    play.started("slow").tick("08:51").tick("08:51:15").tick("08:51:25");
    let summary = "task slow timed out after 60s and has not ended, although it was killed".to_owned();
    assert_eq!(told(&play), [(AlertKind::DeadlineMissed, summary)], "once");
    assert!(play.step("slow").deadline > Some(at("08:51:25")), "and it is killed again");
}

#[test]
fn a_code_that_looks_like_a_signal_is_the_programs_own() {
    let mut play = Play::new(vec![step("own", StepKind::Task, &[])], None);
    play.started("own").exit("own", Exit::Code(137));
    assert_eq!(play.step("own").reason.as_deref(), Some("exit code 137 (openbell sent it no signal)"));
    let mut play = Play::new(vec![step("own", StepKind::Task, &[])], None);
    play.started("own").exit("own", Exit::Code(3));
    assert_eq!(play.step("own").reason.as_deref(), Some("exit code 3"));
}

#[test]
fn what_was_noticed_of_an_attempt_stays_with_it() {
    let mut play = Play::new(vec![slow(1)], None);
    play.started("slow");
    let text = "printed more than is kept".to_owned();
    let step = "slow".parse().expect("a name");
    let noticed = RunEvent::Noticed {
        step,
        attempt: 1,
        noticed_at: at("08:50:07"),
        kind: AlertKind::OutputCut,
        text: text.clone(),
    };
    play.event(&noticed, "08:50:08").event(&noticed, "08:50:09").exit("slow", Exit::Code(3));
    assert_eq!(told(&play), [(AlertKind::OutputCut, format!("slow: {text}"))]);
    assert_eq!(play.step("slow").notice.as_ref(), Some(&text));
    let next = play.step("slow").next_at.expect("it is tried again");
    play.tick_at(next);
    assert_eq!(play.step("slow").notice, None, "it was the attempt before that printed so much");
}
