//! A trading day to draw: `kis-trading-day` at 13:11 with a stall open, and the same day after its close.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::handle::{Handle, Note, Request};
use crate::snapshot::{AlertView, DagView, Fault, Gauges, Problem, RunView, Snapshot};
use crate::trends::{Measure, Trends};
use crate::upcoming::PlannedDay;
use domain::calendar::Calendar;
use domain::dag::fixtures::step;
use domain::dag::{AlertKind, AlertPolicy, Dag, Program, Step, StepKind, Until};
use domain::finding::Finding;
use domain::run::{AttemptRecord, Cause, Ending, Exit, Run, RunState, StepRun, StepState, StopCause};
use domain::schedule::{Catchup, Edge, LateStart, Schedule, Window};
use executor::Status;
use state::memory::Memory;
use state::{Answered, Audit, Put, Store};

/// `13:11:02` on the fixture's day, in Seoul.
pub fn at(time: &str) -> Timestamp {
    on("2026-11-20", time)
}

fn on(date: &str, time: &str) -> Timestamp {
    format!("{date}T{time}+09:00").parse().expect("a timestamp")
}

fn window(date: &str) -> Window {
    Window { open_at: on(date, "08:50:00"), close_at: Some(on(date, "16:00:00")) }
}

fn uses(name: &str, kind: StepKind, program: &str, needs: &[(&str, Until)]) -> Step {
    let mut step = step(name, kind, needs);
    step.program = Program::Uses(program.into());
    step
}

fn dag() -> Dag {
    let ready = [("collector", Until::Ready)];
    let steps = vec![
        uses("topics", StepKind::Task, "topics", &[]),
        uses("collector", StepKind::Service, "collect/kis", &[("topics", Until::Succeeded)]),
        uses("sink-index", StepKind::Service, "sink/index", &ready),
        uses("sink-objects", StepKind::Service, "sink/objects", &ready),
        uses("vwap", StepKind::Service, "vwap", &ready),
        uses("freshness", StepKind::Check, "freshness", &[]),
        uses("reconcile", StepKind::Teardown, "reconcile", &[]),
    ];
    let name = "kis-trading-day".parse().expect("a name");
    let what = "KRX trades from KIS into MongoDB, Kafka, Elasticsearch and S3";
    Dag::new(name, what.into(), "market-data".into(), None, AlertPolicy::default(), steps).expect("a DAG")
}

/// The DAG as its file has it: with a schedule, parameters and people to mail.
fn scheduled() -> Dag {
    let cron = |text: &str| Edge::Cron(text.parse().expect("a cron expression"));
    let mut dag = dag();
    dag.schedule = Some(Schedule {
        timezone: "Asia/Seoul".into(),
        calendar: Some("krx".into()),
        open: cron("50 8 * * MON-FRI"),
        close: Some(cron("0 16 * * MON-FRI")),
        late_start: LateStart::Join,
        catchup: Catchup::None,
    });
    dag.params = BTreeMap::from([("venue".to_owned(), "krx".to_owned())]);
    dag.alerts.email = vec!["oncall@example.com".into()];
    dag.alerts.on = [AlertKind::Stalled, AlertKind::Recovered].into();
    dag
}

/// November 2026 to January 2027 by the shipped calendar.
fn days() -> Vec<PlannedDay> {
    let krx = Calendar::parse("krx", include_str!("../../dags/calendars/krx.csv")).expect("a calendar");
    let date = |text: &str| text.parse().expect("a date");
    let schedule = scheduled().schedule.expect("a schedule");
    crate::upcoming::days(&schedule, Some(&krx), date("2026-11-01"), date("2027-01-31"))
}

fn ended_attempt(attempt: u32, from: &str, to: &str, exit: Exit) -> AttemptRecord {
    AttemptRecord { attempt, started_at: at(from), ended_at: at(to), exit, ending: Ending::Itself }
}

fn service(started: &str, ready: &str) -> StepRun {
    let mut run = StepRun::new(at(ready));
    (run.state, run.attempt) = (StepState::Ready, 1);
    (run.started_at, run.ready_at) = (Some(at(started)), Some(at(ready)));
    (run.attempt_started_at, run.ready_since) = (run.started_at, run.ready_at);
    run
}

fn at_hop(hop: &str, newest: &str, age: u32, finding: &Finding) -> Value {
    json!({
        "hop": hop, "newest": at(newest).to_string(), "age_seconds": age, "lag_seconds": 0, "stale": hop == "feed",
        "detail": finding.to_string(), "finding": finding,
    })
}

/// The rounds of the check from 08:55 to 13:10, the last twenty of them.
fn rounds() -> Vec<AttemptRecord> {
    (32..52)
        .map(|nth| {
            let started_at = at("08:55:00") + Duration::from_secs(300 * nth);
            let attempt = nth as u32 + 1;
            let ended_at = started_at + Duration::from_millis(40);
            AttemptRecord { attempt, started_at, ended_at, exit: Exit::Code(0), ending: Ending::Itself }
        })
        .collect()
}

fn steps() -> BTreeMap<domain::ids::StepName, StepRun> {
    let mut topics = StepRun::new(at("08:50:01"));
    (topics.state, topics.attempt) = (StepState::Succeeded, 1);
    (topics.started_at, topics.stopped_at) = (Some(at("08:50:00")), Some(at("08:50:01")));
    topics.history = vec![ended_attempt(1, "08:50:00", "08:50:01", Exit::Code(0))];

    let mut collector = service("08:50:01", "08:50:04");
    (collector.attempt, collector.retries_used, collector.since) = (2, 1, at("10:42:15"));
    (collector.attempt_started_at, collector.ready_since) = (Some(at("10:42:11")), Some(at("10:42:15")));
    collector.history = vec![ended_attempt(1, "08:50:01", "10:42:10", Exit::Code(1))];
    let mut index = service("08:50:04", "08:50:05");
    (index.attempt, index.since) = (2, at("11:31:09"));
    (index.attempt_started_at, index.ready_since) = (Some(at("11:31:07")), Some(at("11:31:09")));
    index.history = vec![ended_attempt(1, "08:50:04", "11:31:06", Exit::Signal(9))];

    let mut freshness = StepRun::new(at("13:10:00"));
    (freshness.state, freshness.attempt) = (StepState::Waiting, 52);
    (freshness.started_at, freshness.next_at) = (Some(at("08:55:00")), Some(at("13:15:00")));
    freshness.history = rounds();
    let silent = Finding::NoTrade { seconds: 312 };
    let hops = [
        at_hop("feed", "13:04:48", 312, &silent),
        at_hop("log", "13:04:48", 312, &Finding::HasEverything),
        at_hop("raw", "13:04:48", 312, &Finding::HasEverything),
        at_hop("index", "13:04:48", 312, &Finding::HasEverything),
        at_hop("objects", "13:04:02", 358, &Finding::Behind { seconds: 46 }),
    ];
    let (what, last, down) = (Box::new(silent), Some("13:04:48".to_owned()), Some(311));
    let stalled = Finding::Stalled { hop: "feed".into(), what, last, down };
    freshness.result = Some(json!({
        "stalled": true, "hop": "feed", "since": at("13:04:48").to_string(),
        "summary": stalled.to_string(), "finding": stalled, "hops": hops,
    }));
    [
        ("topics", topics),
        ("collector", collector),
        ("sink-index", index),
        ("sink-objects", service("08:50:04", "08:50:06")),
        ("vwap", service("08:50:04", "08:50:06")),
        ("freshness", freshness),
        ("reconcile", StepRun::new(at("08:50:00"))),
    ]
    .into_iter()
    .map(|(name, run)| (name.parse().expect("a name"), run))
    .collect()
}

fn run() -> Run {
    Run {
        id: "kis-trading-day@2026-11-20".parse().expect("an id"),
        dag: dag(),
        cause: Cause::Scheduled,
        session_date: "2026-11-20".parse().expect("a date"),
        window: window("2026-11-20"),
        params: BTreeMap::new(),
        created_at: at("08:50:00"),
        state: RunState::Running,
        steps: steps(),
        cancelled_by: None,
        finished_at: None,
    }
}

fn says(name: &str, facts: Value) -> (domain::ids::StepName, Status) {
    let Value::Object(facts) = facts else { panic!("facts are an object") };
    (name.parse().expect("a name"), Status { ready: true, facts, ..Status::default() })
}

fn alert(time: &str, kind: AlertKind, rule: &str, step: &str, summary: &str) -> AlertView {
    AlertView {
        at: at(time),
        kind,
        rule: rule.into(),
        run: "kis-trading-day@2026-11-20".parse().expect("an id"),
        step: Some(step.parse().expect("a name")),
        finding: Finding::text(summary),
        mail: "sent",
    }
}

/// The figures of the day's first hours, one a minute.
fn trends() -> Trends {
    let mut trends = Trends::default();
    let (mut spooled, mut behind) = (0.0, 0.0);
    for minute in 0..260 {
        let now = at("08:50:00") + Duration::from_secs(60 * minute);
        let arriving = if !(10..=254).contains(&minute) { 0.0 } else { 40.0 + 900.0 / (minute as f64 - 9.0) };
        behind = if (100..112).contains(&minute) { behind + 20.0 } else { 0.0 };
        spooled += arriving;
        let fact = |key: &str| Measure::Fact {
            run: "kis-trading-day@2026-11-20".parse().expect("an id"),
            step: "collector".parse().expect("a name"),
            key: key.into(),
        };
        trends.note(
            now,
            vec![
                (fact("spool_seq"), spooled),
                (fact("log_seq"), spooled - behind),
                (fact("raw_seq"), spooled),
                (Measure::Held("kis.trades".into()), spooled - behind),
                (Measure::Lag("kis-trading-day.sink-index".into()), 0.0),
                (Measure::Lag("kis-trading-day.sink-objects".into()), 24.0),
            ],
        );
    }
    trends
}

fn problem() -> Problem {
    Problem::new(
        "dags/broken.yaml".into(),
        vec![Fault {
            at: Some((7, 5)),
            severity: dagfile::Severity::Error,
            message: "unknown key \"shedule\"".into(),
            excerpt: Some("   |\n 7 |     shedule: daily\n   |     ^^^^^^^".into()),
            help: Some("did you mean \"schedule\"?".into()),
        }],
        true,
    )
}

fn gauges() -> Gauges {
    Gauges {
        topics: BTreeMap::from([("kis.trades".into(), 14_212), ("kis.anomalies".into(), 4)]),
        group_lag: BTreeMap::from([
            ("kis-trading-day.sink-index".into(), 0),
            ("kis-trading-day.sink-objects".into(), 24),
        ]),
        dead_letters: BTreeMap::from([("kis.trades.dlq".into(), 9)]),
        unreachable: BTreeMap::new(),
        rates: BTreeMap::from([("kis.trades".into(), 0.0)]),
    }
}

fn alerts() -> Vec<AlertView> {
    vec![
        alert(
            "13:10:00",
            AlertKind::Stalled,
            "freshness",
            "freshness",
            "feed: nothing for 5m 12s (last at 13:04:48); the feed's session has been down for 5m 11s",
        ),
        alert(
            "11:31:06",
            AlertKind::DeadLetters,
            "dead_letters",
            "sink-index",
            "9 dead letters on kis.trades.dlq, allowed are 0",
        ),
    ]
}

/// The day at 13:11:02, in a demo at 120 times real speed.
pub fn snapshot() -> Snapshot {
    let view = RunView {
        run: run(),
        statuses: BTreeMap::from([
            says(
                "collector",
                json!({
                    "frames": 3871, "records": 4412, "malformed": 9, "duplicates": 6, "last_frame_at": at("13:04:48").to_string(),
                    "last_trades": { "000660": at("13:04:40").to_string(), "005930": at("13:04:48").to_string(), "035720": at("11:20:00").to_string(), "373220": null },
                    "spool_seq": 14_212, "log_seq": 14_212, "raw_seq": 14_212, "reconnects": 1, "gaps": 2, "gap_shares": 71,
                }),
            ),
            says("sink-index", json!({ "written": 14_212, "lag": 0, "dead_letters": 9 })),
            says("sink-objects", json!({ "written": 14_188, "lag": 24, "dead_letters": 0 })),
            says("vwap", json!({ "written": 21_320, "lag": 0, "late": 3 })),
        ]),
    };
    let other = DagView {
        name: "kis-full-session".into(),
        description: "The same from ten minutes before the open to half an hour after the close".into(),
        owner: "market-data".into(),
        file: "dags/kis-full-session.yaml".into(),
        schedule: None,
        paused: true,
        next: Vec::new(),
        dag: None,
        days: Arc::default(),
    };
    let day = DagView {
        name: "kis-trading-day".into(),
        description: dag().description,
        owner: "market-data".into(),
        file: "dags/kis-trading-day.yaml".into(),
        schedule: Some("50 8 * * MON-FRI → 0 16 * * MON-FRI Asia/Seoul, calendar krx".into()),
        paused: false,
        next: ["2026-11-23", "2026-11-24", "2026-11-25"].map(window).into(),
        dag: Some(Arc::new(scheduled())),
        days: Arc::new(days()),
    };
    Snapshot {
        now: at("13:11:02"),
        speed: 120.0,
        timezone: "Asia/Seoul".into(),
        up_since: at("08:49:00"),
        pid: 4242,
        dags: vec![other, day],
        problems: vec![problem()],
        runs: vec![view],
        alerts: alerts(),
        gauges: gauges(),
        outbox: Vec::new(),
        history: Arc::default(),
        audit: Arc::default(),
        trends: Arc::new(trends()),
        notices: Vec::new(),
    }
}

/// What the reconciliation of the day returns.
fn reconciled() -> Value {
    let hop = json!({ "unique": 20_412, "duplicates": 0, "missing": 0 });
    json!({
        "ok": true,
        "hops": { "spool": { "unique": 20_412, "duplicates": 6, "missing": 0 }, "log": hop, "raw": hop, "index": hop, "objects": hop },
        "dead_letters": { "total": 9, "by_cause": { "bad_field": 9 } },
        "gaps": [
            { "symbol": "005930", "from": at("10:42:10").to_string(), "to": at("10:42:16").to_string(), "shares": 59 },
            { "symbol": "000660", "from": null, "to": at("10:42:19").to_string(), "shares": 12 },
        ],
        "gap_shares": 71,
        "vwap": { "checked": 39, "equal": 39, "different": [] },
    })
}

/// The day after its close, reconciled.
pub fn ended() -> Snapshot {
    let mut snapshot = snapshot();
    snapshot.now = at("16:00:14");
    snapshot.problems.clear();
    snapshot.alerts.insert(
        0,
        alert(
            "13:20:00",
            AlertKind::Recovered,
            "freshness",
            "freshness",
            "data arrives at every hop; it had stopped at 13:04:48",
        ),
    );
    snapshot.alerts.insert(
        0,
        alert(
            "16:00:12",
            AlertKind::RunFinished,
            "run_finished",
            "reconcile",
            "20,412 trades in every store, 2 gaps of 71 shares",
        ),
    );
    let view = &mut snapshot.runs[0];
    view.statuses.clear();
    view.run.state = RunState::Succeeded;
    view.run.finished_at = Some(at("16:00:12"));
    for (name, step) in &mut view.run.steps {
        if step.state == StepState::Ready {
            step.state = StepState::Stopped;
            step.stop_requested_at = Some(at("16:00:00"));
            step.stopped_at = Some(at("16:00:06"));
            let started_at = step
                .history
                .last()
                .map_or(step.started_at.expect("it started"), |a| a.ended_at + Duration::from_secs(3));
            let (ended_at, ending) = (at("16:00:06"), Ending::Asked(StopCause::Closed));
            step.history.push(AttemptRecord {
                attempt: step.attempt,
                started_at,
                ended_at,
                exit: Exit::Code(0),
                ending,
            });
        }
        match name.as_str() {
            "freshness" => {
                (step.state, step.stopped_at, step.next_at) = (StepState::Stopped, Some(at("16:00:00")), None)
            }
            "reconcile" => {
                (step.state, step.attempt) = (StepState::Succeeded, 1);
                (step.started_at, step.stopped_at) = (Some(at("16:00:07")), Some(at("16:00:12")));
                step.history = vec![ended_attempt(1, "16:00:07", "16:00:12", Exit::Code(0))];
                step.result = Some(reconciled());
            }
            _ => {}
        }
    }
    snapshot
}

/// A daemon that is not there: the test holds its ends.
pub struct Daemon {
    /// What the site is given.
    pub handle: Handle,
    /// Commands the site sent.
    pub commands: mpsc::Receiver<Request>,
    /// Publishes snapshots.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// Holds the attempts' outputs.
    pub runs: tempfile::TempDir,
}

impl Daemon {
    /// A daemon that shows `snapshot`.
    pub fn showing(snapshot: Snapshot) -> Self {
        let (sender, commands) = mpsc::channel(8);
        let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
        let runs = tempfile::tempdir().expect("a folder");
        let handle = Handle::new(sender, receiver, runs.path().to_owned());
        Self { handle, commands, snapshots, runs }
    }

    /// One whose notes the test reads.
    pub fn noting(snapshot: Snapshot) -> (Self, mpsc::Receiver<Note>) {
        let (sender, notes) = mpsc::channel(64);
        let daemon = Self::showing(snapshot);
        let handle = daemon.handle.clone().with_notes(sender);
        (Self { handle, ..daemon }, notes)
    }

    /// One that writes notes and answers into a journal in memory.
    pub fn keeping(snapshot: Snapshot) -> (Self, Arc<dyn Store>) {
        let now = snapshot.now;
        let (daemon, mut notes) = Self::noting(snapshot);
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let handle = daemon.handle.clone().with_store(&store);
        let kept = store.clone();
        tokio::spawn(async move {
            while let Some(note) = notes.recv().await {
                let answered = note.answer.map(|(idempotency, answer)| {
                    Put::Answered(Answered {
                        key: idempotency.key,
                        request: idempotency.request,
                        answer,
                        at: now,
                    })
                });
                let (what, subject) = (note.what.into(), note.subject);
                let audit = Audit {
                    at: now,
                    who: note.by,
                    what,
                    subject,
                    outcome: note.outcome,
                    detail: note.detail,
                };
                kept.put(answered.into_iter().chain([Put::Audit(audit)]).collect()).await.expect("written");
                note.written.map(|written| written.send(())).unwrap_or(Ok(())).expect("somebody waits");
            }
        });
        (Self { handle, ..daemon }, store)
    }
}
