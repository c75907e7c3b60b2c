use super::*;
use crate::machine::tests::{Play, at};
use domain::dag::fixtures::step;
use domain::dag::{Program, Until};
use domain::run::RunState;

fn day() -> Play {
    let mut collector = step("collector", StepKind::Service, &[("topics", Until::Succeeded)]);
    collector.program = Program::Uses("collect/kis".into());
    Play::new(
        vec![step("topics", StepKind::Task, &[]), collector, step("report", StepKind::Teardown, &[])],
        Some("16:00"),
    )
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
    let decisions =
        recover(&[play.run.clone()], &[seen(&play, "collector", 1, Some(Exit::Code(7)))], at("08:50:10"));
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
    let Some(Decision::Stop { kill_after, orphan: false, .. }) = decisions.get(1) else {
        panic!("{decisions:?}")
    };
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
    let decisions = recover(
        &[play.run.clone()],
        &[seen(&play, "one", 1, None), seen(&play, "two", 1, None)],
        at("09:00"),
    );
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
    play.started("topics")
        .exit("topics", Exit::Code(0))
        .started("collector")
        .ready("collector")
        .tick("16:00");
    let decisions = recover(&[play.run.clone()], &[], at("16:00:05"));
    let [Decision::Feed { event, .. }] = &decisions[..] else { panic!("{decisions:?}") };
    play.clear_actions();
    play.event(event, "16:00:05");
    assert_eq!((play.starts(), play.stops()), (vec!["collector".to_owned()], vec!["collector".to_owned()]));
    play.exit("collector", Exit::Code(0));
    assert_eq!(play.step("collector").state, StepState::Stopped);
}
