//! Tests of the planner: cases by hand, then random days of ticks, restarts, crashes and clock steps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use domain::dag::fixtures;
use domain::schedule::Edge;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn scheduled(open: &str, close: Option<&str>, late_start: LateStart, catchup: Catchup) -> Dag {
    let edge = |text: &str| Edge::Cron(text.parse().expect("a cron expression"));
    let mut dag = fixtures::dag("day", Vec::new());
    let (open, close) = (edge(open), close.map(edge));
    dag.schedule =
        Some(Schedule { timezone: "Asia/Seoul".into(), calendar: None, open, close, late_start, catchup });
    dag
}

fn day(late_start: LateStart, catchup: Catchup) -> Dag {
    scheduled("50 8 * * MON-FRI", Some("0 16 * * MON-FRI"), late_start, catchup)
}

/// One look of a daemon that came up at `up_since`, had decided everything until `until`, and has these runs.
fn look(dag: &Dag, until: Option<&str>, up_since: &str, now: &str, runs: &[&str]) -> Vec<Decision> {
    let planned = PlannedDag { dag, calendar: None, paused: false, planned_until: until.map(at) };
    plan(at(now), at(up_since), &[planned], |id| runs.contains(&id.key()))
}

/// Decisions as short text: `+key` started, `^key` caught up, `!key` missed, `-key` skipped.
fn short(decisions: &[Decision]) -> Vec<String> {
    decisions
        .iter()
        .map(|d| match d {
            Decision::Start(s) => format!("{}{}", if s.catch_up { '^' } else { '+' }, s.id.key()),
            Decision::Missed { session } => format!("!{}", session.id.key()),
            Decision::MissedMany { count, first, last, .. } => format!("!{count}:{first}..{last}"),
            Decision::Skipped { session, .. } => format!("-{}", session.id.key()),
        })
        .collect()
}

const MORNING: &str = "2026-11-20T08:00+09";

#[test]
fn starts_at_the_edge_and_only_once() {
    let dag = day(LateStart::Join, Catchup::None);
    assert!(look(&dag, Some(MORNING), MORNING, "2026-11-20T08:49:59+09", &[]).is_empty());
    let decisions = look(&dag, Some(MORNING), MORNING, "2026-11-20T08:50+09", &[]);
    let [Decision::Start(start)] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!(
        (start.id.as_str(), start.late_by, start.catch_up),
        ("day@2026-11-20", SignedDuration::ZERO, false)
    );
    assert_eq!(
        start.window,
        Window { open_at: at("2026-11-20T08:50+09"), close_at: Some(at("2026-11-20T16:00+09")) }
    );
    assert!(look(&dag, Some(MORNING), MORNING, "2026-11-20T08:50+09", &["2026-11-20"]).is_empty());
    assert!(
        look(&dag, Some("2026-11-20T09:00+09"), MORNING, "2026-11-20T09:01+09", &["2026-11-20"]).is_empty()
    );
}

#[test]
fn a_late_daemon_joins_or_skips() {
    let now = "2026-11-20T10:00+09";
    let yesterday = Some("2026-11-19T18:00+09");
    let join = look(&day(LateStart::Join, Catchup::None), yesterday, now, now, &[]);
    let [Decision::Start(start)] = &join[..] else { panic!("{join:?}") };
    assert_eq!(start.late_by, SignedDuration::from_mins(70));
    assert_eq!(short(&look(&day(LateStart::Skip, Catchup::None), yesterday, now, now, &[])), ["-2026-11-20"]);
    assert!(
        look(&day(LateStart::Skip, Catchup::None), Some(now), now, "2026-11-20T10:05+09", &[]).is_empty(),
        "skipped once"
    );
    let on_time =
        look(&day(LateStart::Skip, Catchup::None), Some(MORNING), MORNING, "2026-11-20T08:50:02+09", &[]);
    assert_eq!(short(&on_time), ["+2026-11-20"], "a slow tick is not a late daemon");
}

#[test]
fn windows_that_passed_are_missed_or_caught_up() {
    let (until, now) = (Some("2026-11-17T12:00+09"), "2026-11-20T16:00+09");
    let decide = |catchup| {
        short(&look(&day(LateStart::Join, catchup), until, now, now, &["2026-11-17", "2026-11-19"]))
    };
    assert_eq!(decide(Catchup::None), ["!2026-11-18", "!2026-11-20"]);
    assert_eq!(decide(Catchup::Last), ["!2026-11-18", "^2026-11-20"]);
    assert_eq!(decide(Catchup::All), ["^2026-11-18", "^2026-11-20"]);
    let caught = look(&day(LateStart::Join, Catchup::Last), Some("2026-11-20T08:00+09"), now, now, &[]);
    let [Decision::Start(start)] = &caught[..] else { panic!("{caught:?}") };
    assert_eq!(
        start.window,
        Window { open_at: at(now), close_at: Some(at("2026-11-20T23:10+09")) },
        "as long as scheduled"
    );
    assert_eq!(start.session_date, jiff::civil::date(2026, 11, 20));
}

#[test]
fn a_new_dag_has_no_past_but_joins_the_present() {
    let dag = day(LateStart::Join, Catchup::All);
    assert_eq!(short(&look(&dag, None, MORNING, "2026-11-20T12:00+09", &[])), ["+2026-11-20"]);
    assert!(look(&dag, None, MORNING, "2026-11-20T17:00+09", &[]).is_empty());
}

#[test]
fn a_pause_blocks_starts_and_its_end_joins() {
    let dag = day(LateStart::Join, Catchup::None);
    let mut planned =
        PlannedDag { dag: &dag, calendar: None, paused: true, planned_until: Some(at(MORNING)) };
    let noon = at("2026-11-20T12:00+09");
    assert!(plan(noon, at(MORNING), &[planned], |_| false).is_empty());
    planned = PlannedDag { paused: false, planned_until: Some(noon), ..planned };
    assert_eq!(short(&plan(noon, at(MORNING), &[planned], |_| false)), ["+2026-11-20"]);
}

#[test]
fn plain_cron_starts_each_instant_and_does_not_replay() {
    let dag = scheduled("*/30 * * * *", None, LateStart::Join, Catchup::None);
    let (until, up) = (Some("2026-11-20T09:10+09"), "2026-11-20T09:00+09");
    assert_eq!(short(&look(&dag, until, up, "2026-11-20T09:30+09", &[])), ["+2026-11-20T0930"]);
    let restarted = "2026-11-20T10:31+09";
    assert_eq!(
        short(&look(&dag, until, restarted, restarted, &[])),
        ["!2026-11-20T0930", "!2026-11-20T1000", "!2026-11-20T1030"]
    );
    let slept = look(&dag, until, up, "2026-11-20T10:31+09", &[]);
    assert_eq!(short(&slept), ["!2026-11-20T0930", "!2026-11-20T1000", "+2026-11-20T1030"]);
}

#[test]
fn a_long_absence_is_reported_together() {
    let dag = scheduled("* * * * *", None, LateStart::Join, Catchup::All);
    let now = "2026-11-20T10:00+09";
    let decisions = look(&dag, Some("2026-11-18T10:00+09"), now, now, &[]);
    assert_eq!(short(&decisions[..2]), ["!1879:2026-11-18..2026-11-19", "^2026-11-19T1720"]);
    assert_eq!(decisions.len(), 1 + Catchup::CAP + 1, "and the one that is due right now");
}

#[test]
fn wakes_at_the_next_edge() {
    let dag = day(LateStart::Join, Catchup::None);
    let hourly = scheduled("0 * * * *", None, LateStart::Join, Catchup::None);
    let planned = |dag, paused| PlannedDag { dag, calendar: None, paused, planned_until: None };
    let wake = |now: &str, dags: &[PlannedDag<'_>]| next_wake(at(now), dags);
    assert_eq!(wake("2026-11-20T08:49+09", &[planned(&dag, false)]), Some(at("2026-11-20T08:50+09")));
    assert_eq!(wake("2026-11-20T08:50+09", &[planned(&dag, false)]), Some(at("2026-11-20T16:00+09")));
    assert_eq!(
        wake("2026-11-20T16:00+09", &[planned(&dag, false)]),
        Some(at("2026-11-23T08:50+09")),
        "over the weekend"
    );
    assert_eq!(
        wake("2026-11-20T10:10+09", &[planned(&dag, false), planned(&hourly, false)]),
        Some(at("2026-11-20T11:00+09"))
    );
    assert_eq!(
        wake("2026-11-20T10:10+09", &[planned(&dag, true)]),
        Some(at("2026-11-20T16:00+09")),
        "a pause keeps the close"
    );
    assert_eq!(wake("2026-11-20T17:00+09", &[planned(&dag, true)]), None);
}

#[test]
fn a_backfill_finds_what_passed_without_a_run() {
    let dag = day(LateStart::Join, Catchup::None);
    let planned = PlannedDag { dag: &dag, calendar: None, paused: false, planned_until: None };
    let date = |d| jiff::civil::date(2026, 11, d);
    let now = at("2026-11-20T12:00+09");
    let found = backfill(now, planned, date(13), date(24), |id| id.key() == "2026-11-17");
    let word = |status: &BackfillStatus| match status {
        BackfillStatus::Exists => "exists",
        BackfillStatus::Open => "open",
        BackfillStatus::Ahead => "ahead",
        BackfillStatus::Due(_) => "due",
    };
    let told: Vec<_> = found.iter().map(|b| (b.id.key(), word(&b.status))).collect();
    let due = |key| (key, "due");
    assert_eq!(
        told,
        [
            due("2026-11-13"),
            due("2026-11-16"),
            ("2026-11-17", "exists"),
            due("2026-11-18"),
            due("2026-11-19"),
            ("2026-11-20", "open"),
            ("2026-11-23", "ahead"),
            ("2026-11-24", "ahead"),
        ]
    );
    let BackfillStatus::Due(start) = &found[0].status else { panic!("{found:?}") };
    assert_eq!((start.session_date, start.catch_up, start.window.open_at), (date(13), true, now));
    assert_eq!(start.window.close_at, None, "until its tasks are done");
    let mut lasting =
        fixtures::dag("day", vec![fixtures::step("collector", domain::dag::StepKind::Service, &[])]);
    lasting.schedule = dag.schedule.clone();
    let found = backfill(now, PlannedDag { dag: &lasting, ..planned }, date(13), date(13), |_| false);
    let BackfillStatus::Due(start) = &found[0].status else { panic!("{found:?}") };
    assert_eq!(start.window.close_at, Some(at("2026-11-20T19:10+09")), "as long as its window, from now on");
}

/// What happens between two looks.
#[derive(Debug, Clone)]
struct Step {
    /// Minutes by which the clock moves.
    minutes: i64,
    /// The daemon is new.
    restart: bool,
    /// How many of the decisions are carried out before the daemon dies; `None`: all, and the look is
    /// recorded.
    dies_after: Option<usize>,
}

fn steps(backwards: bool) -> impl Strategy<Value = Vec<Step>> {
    let minutes =
        if backwards { prop_oneof![8 => 0..2000i64, 2 => -3000..0i64].boxed() } else { (0..3000i64).boxed() };
    let step = (minutes, proptest::bool::weighted(0.2), proptest::option::weighted(0.2, 0..3usize))
        .prop_map(|(minutes, restart, dies_after)| Step { minutes, restart, dies_after });
    proptest::collection::vec(step, 1..60)
}

fn schedules() -> impl Strategy<Value = Dag> {
    let edges = prop_oneof![
        Just(("50 8 * * MON-FRI", Some("0 16 * * MON-FRI"))),
        Just(("0 0 * * *", Some("59 23 * * *"))),
        Just(("0 */6 * * *", None)),
        Just(("15 3,4 * * MON", None)),
    ];
    let late = prop_oneof![Just(LateStart::Join), Just(LateStart::Skip)];
    let catchup = prop_oneof![Just(Catchup::None), Just(Catchup::Last), Just(Catchup::All)];
    (edges, late, catchup).prop_map(|((open, close), late, catchup)| scheduled(open, close, late, catchup))
}

/// Plays the steps; gives back how often each session was started, everything that was decided, and the first
/// and last look.
struct Played {
    starts: BTreeMap<String, usize>,
    decided: BTreeSet<String>,
    latest: Timestamp,
}

fn play(dag: &Dag, steps: &[Step]) -> Played {
    let mut now = at(MORNING);
    let (mut up_since, mut until) = (now, Some(now));
    let mut played = Played { starts: BTreeMap::new(), decided: BTreeSet::new(), latest: now };
    for step in steps {
        now += SignedDuration::from_mins(step.minutes);
        if step.restart {
            up_since = now;
        }
        let planned = PlannedDag { dag, calendar: None, paused: false, planned_until: until };
        let decisions = plan(now, up_since, &[planned], |id| played.starts.contains_key(id.key()));
        let carried_out = step.dies_after.unwrap_or(usize::MAX);
        for decision in decisions.iter().take(carried_out) {
            let key = match decision {
                Decision::Start(start) => {
                    assert!(start.window.contains(now), "started outside its life: {start:?} at {now}");
                    *played.starts.entry(start.id.key().to_owned()).or_default() += 1;
                    start.id.key()
                }
                Decision::Missed { session } => {
                    assert!(session.window.open_at <= now);
                    session.id.key()
                }
                Decision::Skipped { session, .. } => session.id.key(),
                Decision::MissedMany { .. } => panic!("too few sessions for that"),
            };
            played.decided.insert(key.to_owned());
        }
        if step.dies_after.is_some() {
            up_since = now;
        } else {
            until = Some(now);
            played.latest = played.latest.max(now);
        }
    }
    played
}

proptest! {
    #[test]
    fn nothing_twice_and_nothing_lost(dag in schedules(), steps in steps(false)) {
        let played = play(&dag, &steps);
        prop_assert!(played.starts.values().all(|n| *n == 1), "{:?}", played.starts);
        let schedule = dag.schedule.as_ref().expect("scheduled");
        for session in schedule.sessions_between(at(MORNING), played.latest, None) {
            prop_assert!(played.decided.contains(&session.key), "{} was lost", session.key);
        }
    }

    #[test]
    fn a_clock_that_goes_backwards_starts_nothing_twice(dag in schedules(), steps in steps(true)) {
        let played = play(&dag, &steps);
        prop_assert!(played.starts.values().all(|n| *n == 1), "{:?}", played.starts);
    }

    #[test]
    fn the_next_wake_is_never_after_the_next_session(dag in schedules(), minutes in 0..100_000i64) {
        let now = at(MORNING) + SignedDuration::from_mins(minutes);
        let planned = PlannedDag { dag: &dag, calendar: None, paused: false, planned_until: Some(now) };
        let wake = next_wake(now, &[planned]).expect("these schedules never end");
        prop_assert!(wake > now);
        prop_assert!(plan(wake - SignedDuration::from_secs(1), now, &[planned], |_| true).is_empty());
        let schedule = dag.schedule.as_ref().expect("scheduled");
        prop_assert_eq!(schedule.sessions_between(now, wake - SignedDuration::from_secs(1), None).count(), 0);
    }
}
