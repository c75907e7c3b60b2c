//! What a keeper does next, and who is given one.

use std::collections::BTreeMap;

use super::*;
use domain::dag::{StepKind, fixtures};
use domain::ids::AttemptId;
use domain::schedule::Window;

const GRACE: Duration = Duration::from_secs(30);

fn deadline() -> Timestamp {
    "2026-11-20T16:00:00+09:00".parse().expect("a time")
}

fn asked(asked_at: Timestamp, grace: Duration) -> Seen {
    Seen { asked: Some(StopOrder { asked_at, kill_at: asked_at + grace }), ..Seen::default() }
}

fn at(seconds: i64, seen: &Seen) -> Next {
    next(deadline() + SignedDuration::from_secs(seconds), deadline(), GRACE, seen)
}

#[test]
fn a_deadline_is_waited_for_then_a_grace_and_then_there_is_no_more() {
    let peace = Seen::default();
    assert_eq!(at(-1, &peace), Next::Wait(deadline()));
    assert_eq!(at(0, &peace), Next::Stop);
    let stopped = asked(deadline(), GRACE);
    assert_eq!(at(29, &stopped), Next::Wait(deadline() + GRACE));
    assert_eq!(at(30, &stopped), Next::Kill);
    assert_eq!(at(31, &Seen { killed: true, ..stopped }), Next::KillAgain);
}

#[test]
fn what_a_daemon_asked_for_before_it_died_is_held_too() {
    let closing = asked(deadline() - SignedDuration::from_secs(600), GRACE);
    assert_eq!(at(-571, &closing), Next::Wait(deadline() - SignedDuration::from_secs(570)));
    assert_eq!(at(-570, &closing), Next::Kill);
    let patient = asked(deadline() - SignedDuration::from_secs(600), Duration::from_secs(7200));
    assert_eq!(at(0, &patient), Next::Wait(deadline() + GRACE), "no more than the deadline grants");
    // A daemon that came late, after everybody was away, grants its grace anew.
    let late = asked(deadline() + SignedDuration::from_secs(3600), GRACE);
    assert_eq!(at(3601, &late), Next::Wait(deadline() + SignedDuration::from_secs(3630)));
    assert_eq!(at(-3000, &Seen { killed: true, ..Seen::default() }), Next::KillAgain, "somebody told it to");
}

#[test]
fn nothing_is_done_to_what_has_ended_and_a_folder_that_is_gone_is_an_end() {
    let ended = Seen { ended: true, killed: true, ..asked(deadline(), GRACE) };
    assert_eq!(at(3600, &ended), Next::End);
    assert_eq!(at(-3600, &Seen { vanished: true, ..Seen::default() }), Next::Abandon);
}

#[test]
fn a_day_without_its_clock_is_over() {
    let over = |seen: &Seen| next(Timestamp::UNIX_EPOCH, deadline(), GRACE, seen);
    assert_eq!(over(&Seen::default()), Next::Stop);
    assert_eq!(over(&asked(Timestamp::UNIX_EPOCH, GRACE)), Next::Kill);
}

#[test]
fn looks_are_rare_and_follow_the_speed_of_the_clock() {
    assert_eq!(look_in(SignedDuration::from_secs(3600), 1.0), LOOKS[0]);
    assert_eq!(look_in(SignedDuration::from_secs(60), 600.0), Duration::from_millis(100));
    assert_eq!(look_in(SignedDuration::ZERO, 1.0), LOOKS[1]);
}

fn spec(program: Program, deadline: Option<Timestamp>) -> AttemptSpec {
    let step = fixtures::step("load", StepKind::Task, &[]);
    AttemptSpec {
        id: AttemptId { run: "day@2026-11-20".parse().expect("a run"), step: step.name.clone(), attempt: 1 },
        step: domain::dag::Step { program, ..step },
        session_date: "2026-11-20".parse().expect("a date"),
        timezone: "Asia/Seoul".into(),
        calendar: None,
        window: Window { open_at: self::deadline(), close_at: None },
        deadline,
        params: BTreeMap::new(),
        folder: PathBuf::new(),
        replica: 0,
    }
}

#[test]
fn commands_with_a_deadline_are_given_a_keeper_and_nobody_else() {
    let command = || Program::Command { argv: vec!["true".into()], image: Some("x:1".into()) };
    let keepers = Keepers { binary: "/nonexistent".into(), host: "unix:///nonexistent".into(), clock: Clock::system() };
    let start = |program, deadline, ended: bool| {
        let dir = tempfile::tempdir().expect("a folder");
        folder::write(&dir.path().join(folder::SPEC), &spec(program, deadline), folder::Durability::Volatile).expect("written");
        if ended {
            std::fs::write(dir.path().join(folder::EXIT), "{}").expect("written");
        }
        let started = keepers.start(dir.path());
        (started.is_err(), dir.path().join(KEEPER_LOCK).exists())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    assert_eq!(start(command(), Some(deadline()), false), (true, true), "this one is tried; there is no such binary");
    assert_eq!(start(command(), None, false), (false, false));
    assert_eq!(start(Program::Uses("sink/index".into()), Some(deadline()), false), (false, false), "it ends itself");
    assert_eq!(start(command(), Some(deadline()), true), (false, false), "it has ended");
}
