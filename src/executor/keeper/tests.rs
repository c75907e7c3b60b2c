//! What a keeper does next.

use jiff::SignedDuration;

use super::*;

const GRACE: Duration = Duration::from_secs(30);

fn deadline() -> Timestamp {
    "2026-11-20T16:00:00+09:00".parse().expect("a time")
}

fn asked(asked_at: Timestamp, grace: Duration) -> AttemptFacts {
    AttemptFacts { asked: Some(StopOrder { asked_at, kill_at: asked_at + grace }), ..AttemptFacts::default() }
}

fn at(seconds: i64, known: &AttemptFacts) -> Next {
    next(deadline() + SignedDuration::from_secs(seconds), deadline(), GRACE, known)
}

#[test]
fn a_deadline_is_waited_for_then_a_grace_and_then_there_is_no_more() {
    let peace = AttemptFacts::default();
    assert_eq!(at(-1, &peace), Next::Wait(deadline()));
    assert_eq!(at(0, &peace), Next::Stop);
    let stopped = asked(deadline(), GRACE);
    assert_eq!(at(29, &stopped), Next::Wait(deadline() + GRACE));
    assert_eq!(at(30, &stopped), Next::Kill);
    assert_eq!(at(31, &AttemptFacts { killed: true, ..stopped }), Next::KillAgain);
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
    assert_eq!(
        at(-3000, &AttemptFacts { killed: true, ..AttemptFacts::default() }),
        Next::KillAgain,
        "somebody told it to"
    );
}

#[test]
fn nothing_is_done_to_what_has_ended_and_a_folder_that_is_gone_is_an_end() {
    let ended = AttemptFacts { ended: true, killed: true, ..asked(deadline(), GRACE) };
    assert_eq!(at(3600, &ended), Next::End);
    assert_eq!(at(-3600, &AttemptFacts { vanished: true, ..AttemptFacts::default() }), Next::Abandon);
}

#[test]
fn a_day_without_its_clock_is_over() {
    let over = |known: &AttemptFacts| next(Timestamp::UNIX_EPOCH, deadline(), GRACE, known);
    assert_eq!(over(&AttemptFacts::default()), Next::Stop);
    assert_eq!(over(&asked(Timestamp::UNIX_EPOCH, GRACE)), Next::Kill);
}
