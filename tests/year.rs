//! One calendar year, planned and run as the daemon does it: tick at each edge, start what is due, feed the
//! machine what steps report, carry out its actions. What opens and closes when is compared with an
//! expectation that shares nothing with the calendar file but the exchange's own announcements.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::civil::{Date, Weekday, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use openbell::daemon::folder;
use openbell::domain::dag::{AlertKind, StepKind};
use openbell::domain::event::{Action, Created, RunEvent};
use openbell::domain::ids::{AttemptId, RunId};
use openbell::domain::run::{Cause, Exit, Run, RunState};
use openbell::engine::machine;
use openbell::engine::planner::{Decision, PlannedDag, Start, next_wake, plan};

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

/// How long a program takes to end once it has been asked to.
const STOPPING: SignedDuration = SignedDuration::from_secs(2);

/// A run, played by steps that do at once what they are for and end two seconds after they were asked to.
struct Played {
    run: Run,
    /// What will be reported when.
    coming: BTreeMap<(Timestamp, usize), RunEvent>,
    /// Times at which anything was started, and services asked to stop.
    starts: Vec<(Timestamp, AttemptId)>,
    stops: Vec<(Timestamp, AttemptId)>,
    alerts: Vec<AlertKind>,
    reports: usize,
}

impl Played {
    fn start(start: &Start, dag: &openbell::domain::dag::Dag, now: Timestamp) -> Self {
        let created = Created {
            id: start.id.clone(),
            dag: dag.clone(),
            cause: Cause::Scheduled,
            session_date: start.session_date,
            window: start.window,
            params: BTreeMap::new(),
        };
        let applied = machine::apply(None, &RunEvent::Created(Box::new(created)), now).expect("created");
        let mut played = Self {
            run: applied.run,
            coming: BTreeMap::new(),
            starts: Vec::new(),
            stops: Vec::new(),
            alerts: Vec::new(),
            reports: 0,
        };
        played.carry_out(applied.actions, now);
        played
    }

    fn wake(&self) -> Option<Timestamp> {
        let report = self.coming.keys().next().map(|(at, _)| *at);
        machine::next_wake(&self.run).into_iter().chain(report).min()
    }

    /// Everything that is due at this time.
    fn tick(&mut self, now: Timestamp) {
        self.feed(RunEvent::Tick, now);
        while let Some(((at, number), event)) = self.coming.pop_first() {
            if at > now {
                self.coming.insert((at, number), event);
                return;
            }
            self.feed(event, now);
        }
    }

    fn feed(&mut self, event: RunEvent, now: Timestamp) {
        let applied = machine::apply(Some(self.run.clone()), &event, now).expect("a report is never refused");
        self.run = applied.run;
        self.carry_out(applied.actions, now);
    }

    fn report(&mut self, at: Timestamp, event: RunEvent) {
        self.reports += 1;
        self.coming.insert((at, self.reports), event);
    }

    fn carry_out(&mut self, actions: Vec<Action>, now: Timestamp) {
        for action in actions {
            match action {
                Action::Start { attempt, .. } => {
                    let (step, number) = (attempt.step.clone(), attempt.attempt);
                    let kind = self.run.dag.step(&step).expect("a step of the DAG").kind;
                    self.starts.push((now, attempt));
                    self.report(now, RunEvent::Started { step: step.clone(), attempt: number });
                    let end = match kind {
                        StepKind::Service => RunEvent::Ready { step, attempt: number },
                        _ => RunEvent::Exited { step, attempt: number, exit: Exit::Code(0), result: None },
                    };
                    self.report(now, end);
                }
                Action::Stop { attempt, .. } => {
                    let (step, number) = (attempt.step.clone(), attempt.attempt);
                    self.stops.push((now, attempt));
                    self.report(
                        now + STOPPING,
                        RunEvent::Exited { step, attempt: number, exit: Exit::Code(0), result: None },
                    );
                }
                Action::Kill { attempt } => panic!("{attempt} had ended in time"),
                Action::Alert { kind, .. } => self.alerts.push(kind),
                Action::Finished => {}
            }
        }
    }

    /// What a quiet day looks like, from its DAG and window alone.
    fn check(&self) {
        let (run, dag) = (&self.run, &self.run.dag);
        let (open, close) = (run.window.open_at, run.window.close_at.expect("a window with an end"));
        assert_eq!(
            (run.state, &self.alerts),
            (RunState::Succeeded, &vec![AlertKind::RunFinished]),
            "{}",
            run.id
        );
        for step in dag.steps() {
            let starts: Vec<Timestamp> =
                self.starts.iter().filter(|(_, a)| a.step == step.name).map(|(at, _)| *at).collect();
            let stops: Vec<Timestamp> =
                self.stops.iter().filter(|(_, a)| a.step == step.name).map(|(at, _)| *at).collect();
            match step.kind {
                StepKind::Task => assert_eq!((starts, stops), (vec![open], vec![]), "{}", step.name),
                StepKind::Service => {
                    assert_eq!(starts, [open], "{} of {}", step.name, run.id);
                    // Whoever reads from the collector is asked once the collector is gone, so that it drains
                    // to the end.
                    let asked = if step.name.as_str() == "collector" { close } else { close + STOPPING };
                    assert_eq!(stops, [asked], "{} of {}", step.name, run.id);
                }
                StepKind::Check => {
                    let minutes = close.duration_since(open).as_mins();
                    assert!(
                        starts.iter().all(|at| (open..close).contains(at)),
                        "{} outside of {}",
                        step.name,
                        run.id
                    );
                    let rounds = starts.len() as i64;
                    assert!(
                        rounds == minutes / 5 || rounds == minutes / 5 - 1,
                        "{rounds} rounds in {minutes} minutes"
                    );
                }
                StepKind::Teardown => {
                    assert_eq!((starts, stops), (vec![close + STOPPING * 2], vec![]), "{}", step.name)
                }
            }
        }
    }
}

/// Plays 2026 for the DAG of this name through planner and machine; gives back date, first start and first
/// order to stop of every run, in order.
fn play(name: &str) -> Vec<(Date, Timestamp, Timestamp)> {
    let folder =
        folder::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dags")), openbell::steps::programs())
            .expect("the shipped folder");
    let dags = folder.dags();
    let dag = dags[&name.parse().expect("a name")];
    let up_since = kst(date(2025, 12, 31), 23, 0);
    let end = kst(date(2026, 12, 31), 23, 59);
    let mut planned =
        PlannedDag { dag, calendar: folder.calendar_of(dag), paused: false, planned_until: Some(up_since) };
    let (mut runs, mut ids) = (Vec::new(), BTreeSet::<RunId>::new());
    let mut open: Option<Played> = None;
    let mut now = up_since;
    loop {
        let edges = next_wake(now, &[planned]).into_iter().chain(open.as_ref().and_then(Played::wake));
        let Some(wake) = edges.min().filter(|wake| *wake < end) else { return runs };
        now = wake;
        if let Some(played) = &mut open {
            played.tick(now);
        }
        if let Some(ended) = open.take_if(|played| played.run.state.is_terminal()) {
            ended.check();
            runs.push((ended.run.session_date, ended.starts[0].0, ended.stops[0].0));
        }
        // Twice, because a tick may be doubled.
        for _ in 0..2 {
            for decision in plan(now, up_since, &[planned], |id| ids.contains(id)) {
                let Decision::Start(start) = decision else {
                    panic!("a daemon that is always up misses nothing: {decision:?}")
                };
                assert!(open.is_none(), "{} opens after the last one ended", start.id);
                assert_eq!(start.window.open_at, now, "{} opens at its edge", start.id);
                assert_eq!(start.late_by, SignedDuration::ZERO);
                assert!(ids.insert(start.id.clone()), "{} started twice", start.id);
                open = Some(Played::start(&start, dag, now));
            }
        }
        planned.planned_until = Some(now);
    }
}

#[test]
fn the_shipped_day_opens_and_closes_on_every_trading_day_of_2026() {
    let expected: Vec<_> =
        trading_days().into_iter().map(|day| (day, kst(day, 8, 50), kst(day, 16, 0))).collect();
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
