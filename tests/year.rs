//! One calendar year, planned as the daemon plans it: tick at each edge, start what is due. What opens and closes when is compared
//! with an expectation that shares nothing with the calendar file but the exchange's own announcements.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::civil::{Date, Weekday, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use openbell::daemon::folder;
use openbell::domain::ids::RunId;
use openbell::engine::planner::{Decision, PlannedDag, next_wake, plan};

/// KRX 2026: weekdays without a session.
const CLOSED: [(i8, i8); 17] = [
    (1, 1),   // New Year's Day
    (2, 16),  // Seollal
    (2, 17),  // Seollal
    (2, 18),  // Seollal
    (3, 2),   // Independence Movement Day, substitute
    (5, 1),   // Labor Day
    (5, 5),   // Children's Day
    (5, 25),  // Buddha's Birthday, substitute
    (6, 3),   // local elections
    (7, 17),  // Constitution Day
    (8, 17),  // Liberation Day, substitute
    (9, 24),  // Chuseok
    (9, 25),  // Chuseok
    (10, 5),  // National Foundation Day, substitute
    (10, 9),  // Hangul Day
    (12, 25), // Christmas Day
    (12, 31), // year-end closure
];

/// The trading days of 2026.
fn trading_days() -> Vec<Date> {
    let mut days = Vec::new();
    let mut day = date(2026, 1, 1);
    while day.year() == 2026 {
        let weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
        if !weekend && !CLOSED.contains(&(day.month(), day.day())) {
            days.push(day);
        }
        day = day.tomorrow().expect("a date of 2027 at most");
    }
    days
}

/// Korean local time as an instant: nine hours ahead of UTC, all year.
fn kst(day: Date, hour: i8, minute: i8) -> Timestamp {
    let utc = day.at(hour, minute, 0, 0).to_zoned(TimeZone::UTC).expect("a date of 2026").timestamp();
    utc - SignedDuration::from_hours(9)
}

/// Plays 2026 for the DAG of this name; gives back date, open and close of every run, in order.
fn play(name: &str) -> Vec<(Date, Timestamp, Timestamp)> {
    let folder = folder::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dags"))).expect("the shipped folder");
    let dags = folder.dags();
    let dag = dags[&name.parse().expect("a name")];
    let up_since = kst(date(2025, 12, 31), 23, 0);
    let end = kst(date(2026, 12, 31), 23, 59);
    let mut planned = PlannedDag { dag, calendar: folder.calendar_of(dag), paused: false, planned_until: Some(up_since) };
    let (mut runs, mut ids) = (Vec::new(), BTreeSet::<RunId>::new());
    let mut open: Option<Timestamp> = None;
    let mut now = up_since;
    while let Some(wake) = next_wake(now, &[planned]).filter(|wake| *wake < end) {
        now = wake;
        if open.is_some_and(|close| close <= now) {
            open = None;
        }
        // Twice, because a tick may be doubled.
        for _ in 0..2 {
            for decision in plan(now, up_since, &[planned], |id| ids.contains(id)) {
                let Decision::Start(start) = decision else { panic!("a daemon that is always up misses nothing: {decision:?}") };
                let close = start.window.close_at.expect("a window with an end");
                assert_eq!(
                    (start.window.open_at, open),
                    (now, None),
                    "{} opens at its edge, after the last one closed",
                    start.id
                );
                assert_eq!(start.late_by, SignedDuration::ZERO);
                assert!(ids.insert(start.id.clone()), "{} started twice", start.id);
                runs.push((start.session_date, now, close));
                open = Some(close);
            }
        }
        planned.planned_until = Some(now);
    }
    runs
}

#[test]
fn the_shipped_day_opens_and_closes_on_every_trading_day_of_2026() {
    let expected: Vec<_> = trading_days().into_iter().map(|day| (day, kst(day, 8, 50), kst(day, 16, 0))).collect();
    assert_eq!(expected.len(), 244);
    assert_eq!(play("kis-trading-day"), expected);
}

#[test]
fn the_session_relative_day_follows_late_opens_and_closes() {
    let window = |day: Date| match (day.month(), day.day()) {
        // First trading day of the year: the session is 10:00 to 15:30.
        (1, 2) => (day, kst(day, 9, 50), kst(day, 16, 0)),
        // College entrance exam: the session is 10:00 to 16:30.
        (11, 19) => (day, kst(day, 9, 50), kst(day, 17, 0)),
        _ => (day, kst(day, 8, 50), kst(day, 16, 0)),
    };
    let expected: Vec<_> = trading_days().into_iter().map(window).collect();
    assert_eq!(play("kis-full-session"), expected);
}
