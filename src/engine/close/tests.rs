//! What a service leaves behind when its time to stop is over.

use std::time::Duration;

use crate::machine::apply;
use crate::machine::tests::{Play, at};
use domain::dag::fixtures::step;
use domain::dag::{Program, StepKind, Until};
use domain::event::{Action, RunEvent};
use domain::run::{Exit, RunState, StepState};

#[test]
fn a_collector_that_could_not_forward_everything_fails_the_run_and_is_not_started_again() {
    let mut collector = step("collector", StepKind::Service, &[]);
    collector.program = Program::Uses("collect/kis".into());
    collector.drain = Some(Duration::from_secs(300));
    let mut sink = step("sink", StepKind::Service, &[("collector", Until::Ready)]);
    sink.program = Program::Uses("sink/index".into());
    let mut play =
        Play::new(vec![collector, sink, step("reconcile", StepKind::Teardown, &[])], Some("16:00"));
    play.started("collector").ready("collector").started("sink").ready("sink").clear_actions();
    play.tick("16:00");
    let Some(Action::Stop { kill_after, .. }) = play.actions.last() else { panic!("{:?}", play.actions) };
    assert_eq!(*kill_after, Duration::from_secs(330), "drain and grace");
    play.tick("16:05");
    assert_eq!(play.stops(), ["collector"], "the sink waits for it");
    let result = Some(serde_json::json!({ "error": "raw: 20 records are not there" }));
    let collector = "collector".parse().expect("a name");
    play.event(&RunEvent::Exited { step: collector, attempt: 1, exit: Exit::Code(1), result }, "16:05:24");
    assert_eq!(
        (play.step("collector").state, play.stops()),
        (StepState::Failed, vec!["collector".into(), "sink".into()])
    );
    let told = "service collector: exit code 1: raw: 20 records are not there, while stopping";
    let is_told = |a: &Action| matches!(a, Action::Alert { summary, .. } if summary == told);
    assert_eq!(play.actions.iter().filter(|a| is_told(a)).count(), 1, "{:?}", play.actions);
    play.exit("sink", Exit::Code(0));
    assert_eq!(play.starts(), ["reconcile"]);
    play.started("reconcile").exit("reconcile", Exit::Code(1));
    assert_eq!(play.run.state, RunState::Failed);
}

#[test]
fn a_stop_that_is_followed_by_a_start_grants_no_drain_and_the_close_makes_up_for_it() {
    let clear = RunEvent::Cleared { steps: vec!["sink".parse().expect("a name")], by: "ann".into() };
    for late in [true, false] {
        let mut sink = step("sink", StepKind::Service, &[]);
        sink.program = Program::Uses("sink/index".into());
        sink.drain = Some(Duration::from_secs(60));
        let mut play = Play::new(vec![sink], Some("16:00"));
        play.started("sink").ready("sink").tick("15:59");
        if late {
            play.exit("sink", Exit::Code(1)).tick("15:59:20").started("sink").tick("15:59:51");
        } else {
            play.event(&clear, "15:59:51");
        }
        let Some(Action::Stop { kill_after, .. }) = play.actions.last() else { panic!("{:?}", play.actions) };
        assert_eq!(*kill_after, Duration::from_secs(30), "its grace alone");
        play.clear_actions();
        play.tick("16:00").tick("16:00:10").exit("sink", Exit::Code(1));
        assert_eq!(
            (play.starts(), play.stops()),
            (vec!["sink".to_owned()], vec!["sink".to_owned()]),
            "late: {late}"
        );
        let Some(Action::Stop { kill_after, .. }) = play.actions.last() else { panic!("{:?}", play.actions) };
        assert_eq!(*kill_after, Duration::from_secs(90), "now it drains");
        play.exit("sink", Exit::Code(0));
        assert_eq!(play.run.state, RunState::Succeeded);
    }
}

#[test]
fn a_run_whose_steps_were_all_ended_by_hand_before_its_open_ends_at_the_open() {
    let mut play = Play::new(vec![step("a", StepKind::Task, &[])], None);
    let created = play.journal[0].event.clone();
    play.run = apply(None, &created, at("08:45")).expect("created").run;
    let mark = RunEvent::Marked { step: "a".parse().expect("a name"), success: false, by: "ann".into() };
    play.event(&mark, "08:46");
    assert_eq!((play.run.state, play.wake()), (RunState::Running, at("08:50")));
    play.tick("08:50");
    assert_eq!(play.run.state, RunState::Failed);
}
