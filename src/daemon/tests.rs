//! Lives of a daemon over one data folder, with an executor that runs nothing: what is journaled, and what
//! people hear of.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::action_runner::Executors;
use super::alerts::Letterhead;
use super::journal::Journal;
use super::{Handle, Options, start};
use clock::Clock;
use config::Config;
use domain::dag::{AlertKind, ExecutorKind};
use domain::event::RunEvent;
use domain::ids::AttemptId;
use domain::run::{StepRun, StepState};
use executor::fake::{Call, Fake, Script};
use executor::{News, Notice, Status, Wait};

const DAY: &str = r#"
name: day
schedule: { timezone: Asia/Seoul, open: "50 8 * * *", close: "0 16 * * *" }
alerts: { email: [oncall@example.com] }
steps:
  collector:
    kind: service
    uses: collect/kis
    with: { symbols: ["005930"] }
    secrets: { app_key: env:A, app_secret: env:B }
  sink: { kind: service, uses: sink/index }
"#;

fn at(time: &str) -> Timestamp {
    format!("2026-11-20T{time}+09:00").parse().expect("a time")
}

fn letterhead() -> Letterhead {
    Letterhead {
        from: "openbell@localhost".into(),
        public_url: "http://localhost".into(),
        programs: domain::program::testing::PROGRAMS,
    }
}

struct Life {
    folder: tempfile::TempDir,
    clock: Clock,
    script: Script,
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), super::Failed>>,
    beats: u64,
}

impl Life {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("dags")).expect("a folder");
        std::fs::write(folder.path().join("dags/day.yaml"), DAY).expect("written");
        let (clock, script) = (Clock::manual(at("08:50:00")), Script::default());
        let stop = CancellationToken::new();
        let (handle, task) = Self::begin(folder.path(), &clock, &script, &stop).await;
        Self { folder, clock, script, handle, stop, task, beats: 0 }
    }

    async fn begin(
        folder: &Path,
        clock: &Clock,
        script: &Script,
        stop: &CancellationToken,
    ) -> (Handle, JoinHandle<Result<(), super::Failed>>) {
        let config = Config::default();
        let options = Options {
            clock: clock.clone(),
            data: folder.to_owned(),
            dags: folder.join("dags"),
            programs: domain::program::testing::PROGRAMS,
            only: None,
            executors: Executors::new(
                vec![Arc::new(Fake::with_script(ExecutorKind::Process, script.clone()))],
                ExecutorKind::Process,
            ),
            backends: backends::open(&config, folder).expect("stores"),
            mail: backends::open_mail(&config, folder).expect("an outbox"),
            letterhead: letterhead(),
            keep_days: 30,
            stop: stop.clone(),
        };
        start(options).await.expect("started")
    }

    /// The daemon goes away; what it started lives on, and is heard again by the next one.
    async fn end(&mut self) {
        self.stop.cancel();
        let ended =
            tokio::time::timeout(Duration::from_secs(120), &mut self.task).await.expect("it ends in time");
        ended.expect("no panic").expect("a clean end");
        self.script.crash();
    }

    async fn again(&mut self) {
        self.stop = CancellationToken::new();
        (self.handle, self.task) =
            Self::begin(self.folder.path(), &self.clock, &self.script, &self.stop).await;
        // What an attempt says before that goes to nobody.
        let adopted = ["collector", "sink"].map(|step| Call::Adopt(self.id(step)));
        let both = self.script.until(|calls| adopted.iter().all(|call| calls.contains(call)));
        tokio::time::timeout(Duration::from_secs(120), both).await.expect("both are adopted");
    }

    fn id(&self, step: &str) -> AttemptId {
        AttemptId {
            run: "day@2026-11-20".parse().expect("an id"),
            step: step.parse().expect("a name"),
            attempt: 1,
        }
    }

    fn says(&self, step: &str, status: Status) {
        self.script.send(&self.id(step), News::Status(status));
    }

    async fn until(&self, what: &str, mut done: impl FnMut(&super::Snapshot) -> bool) {
        let mut snapshots = self.handle.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(120), snapshots.wait_for(|s| done(s))).await;
        assert!(matches!(waited, Ok(Ok(_))), "{what}: not in time");
    }

    async fn until_step(&self, step: &str, what: &str, mut done: impl FnMut(&StepRun) -> bool) {
        let name = step.parse().expect("a name");
        self.until(what, |s| s.runs.first().and_then(|v| v.run.steps.get(&name)).is_some_and(&mut done))
            .await;
    }

    /// Returns once the loop has looked at the clock as it is now: a second report is taken after that look.
    async fn beat(&mut self, step: &str, status: &Status) {
        for _ in 0..2 {
            self.beats += 1;
            let beats = self.beats;
            let mut status = status.clone();
            status.facts.insert("beats".into(), beats.into());
            self.says(step, status);
            let name = step.parse().expect("a name");
            let heard =
                |s: &super::Snapshot| s.runs.first()?.statuses.get(&name)?.facts.get("beats")?.as_u64();
            self.until("the report is heard", |s| heard(s) == Some(beats)).await;
        }
    }

    /// Returns once so many mails have left, in this life or an earlier one.
    async fn until_mails(&self, count: usize) {
        let outbox = self.folder.path().join("outbox");
        let left = || {
            let files = std::fs::read_dir(&outbox).into_iter().flatten().flatten();
            files.filter(|file| file.path().extension().is_some_and(|e| e == "eml")).count()
        };
        let waiting = async {
            while left() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), waiting).await.expect("the mails have left in time");
        assert_eq!(left(), count);
    }

    fn alerts(&self) -> Vec<String> {
        self.handle.snapshot().alerts.iter().map(|a| a.finding.to_string()).collect()
    }

    /// What is journaled, read by the next life.
    async fn journaled(&mut self) -> Vec<RunEvent> {
        self.end().await;
        let loaded = Journal::open(self.folder.path(), &letterhead()).await.expect("a journal");
        let run = self.id("collector").run;
        loaded
            .journal
            .store()
            .events(&run)
            .await
            .expect("events")
            .events
            .into_iter()
            .map(|s| s.event)
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_journaled_once_kept_over_a_restart_and_no_mail() {
    let mut day = Life::new().await;
    day.script.until_started(&day.id("collector")).await;
    day.script.started(&day.id("collector"));
    day.script.until_started(&day.id("sink")).await;
    day.script.started(&day.id("sink"));
    day.script.ready(&day.id("sink"));
    let waits = Some(Wait { until: at("08:51:40"), reason: "another session uses this app key".into() });
    let waiting = Status { waits, degraded: Some("feed: taken".into()), ..Status::default() };
    day.beat("collector", &waiting).await;
    day.until_step("collector", "it waits", |s| s.not_before == Some(at("08:51:40"))).await;
    day.clock.advance(Duration::from_secs(60));
    day.beat("collector", &waiting).await;
    day.end().await;
    day.clock.advance(Duration::from_secs(30));
    day.again().await;
    day.beat("collector", &waiting).await;
    day.until_step("collector", "it waits still", |s| {
        (s.state, s.attempt, s.not_before) == (StepState::Running, 1, Some(at("08:51:40")))
    })
    .await;
    day.script.ready(&day.id("collector"));
    day.until_step("collector", "it is ready", |s| s.state == StepState::Ready).await;
    assert_eq!(day.alerts(), Vec::<String>::new());
    let events = day.journaled().await;
    let waits = events.iter().filter(|e| matches!(e, RunEvent::Waiting { .. })).count();
    assert_eq!(waits, 1, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_got_ready_while_no_daemon_listened_are_neither_restarted_nor_told() {
    let mut day = Life::new().await;
    for step in ["collector", "sink"] {
        day.script.until_started(&day.id(step)).await;
        day.script.started(&day.id(step));
        day.until_step(step, "it runs", |s| s.state == StepState::Running).await;
    }
    day.end().await;
    for step in ["collector", "sink"] {
        day.script.ready(&day.id(step));
    }
    day.clock.advance(Duration::from_secs(600));
    day.again().await;
    for step in ["collector", "sink"] {
        day.until_step(step, "it is ready", |s| (s.state, s.attempt) == (StepState::Ready, 1)).await;
    }
    assert_eq!(day.alerts(), Vec::<String>::new());
    let stops = day.script.calls().iter().filter(|c| matches!(c, Call::Stop { .. })).count();
    assert_eq!(stops, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_told_once_whatever_repeats_it() {
    let mut day = Life::new().await;
    for step in ["collector", "sink"] {
        day.script.until_started(&day.id(step)).await;
        day.script.started(&day.id(step));
    }
    let noticed = |time: &str| {
        let notice = Notice {
            at: at(time),
            kind: AlertKind::TopicRemade,
            text: "topic kis.trades was made anew".into(),
        };
        Status { ready: true, notice: Some(notice), ..Status::default() }
    };
    day.beat("collector", &noticed("08:50:05")).await;
    day.until_step("collector", "it is ready all the same", |s| s.state == StepState::Ready).await;
    day.beat("collector", &noticed("08:50:05")).await;
    day.end().await;
    day.again().await;
    day.beat("collector", &noticed("08:50:05")).await;
    assert_eq!(day.alerts(), ["collector: topic kis.trades was made anew"]);
    day.beat("collector", &noticed("08:50:06")).await;
    assert_eq!(day.alerts().len(), 2, "{:?}", day.alerts());
    let events = day.journaled().await;
    assert_eq!(events.iter().filter(|e| matches!(e, RunEvent::Noticed { .. })).count(), 2, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_audited_and_a_test_mail_leaves() {
    use super::handle::Command;
    let mut day = Life::new().await;
    let dag: domain::ids::DagName = "day".parse().expect("a name");
    let answer = day.handle.command("ann", Command::TestMail(Some(dag.clone()))).await.expect("queued");
    assert!(answer.contains("oncall@example.com"), "{answer}");
    let refused = day.handle.command("bob", Command::Pause("other".parse().expect("a name"), true)).await;
    assert!(refused.is_err());
    day.until_mails(1).await;
    day.until("the audit tells both, and nothing waits", |s| {
        s.audit.len() == 2
            && s.audit[0].who == "bob"
            && s.audit[0].detail.starts_with("refused: there is no DAG other")
            && (s.audit[1].what.as_str(), s.audit[1].subject.as_str()) == ("test mail", "day")
            && s.outbox.is_empty()
    })
    .await;
    day.end().await;
    (day.handle, day.task) =
        Life::begin(day.folder.path(), &day.clock, &day.script, &CancellationToken::new()).await;
    assert_eq!(day.handle.snapshot().audit.len(), 2, "it outlives the daemon");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_key_is_carried_out_once_in_this_life_and_the_next() {
    use super::handle::{Answer, Command};
    use super::idempotency::Idempotency;
    let mut day = Life::new().await;
    let trigger = || Command::Trigger {
        dag: "day".parse().expect("a name"),
        params: Default::default(),
        until: None,
        date: None,
    };
    let once = |key: &str, request: &str| Some(Idempotency { key: key.into(), request: request.into() });
    let first = day.handle.command_idempotent("ann", trigger(), once("ann 1", "a")).await.expect("triggered");
    let Answer::Done(run) = first else { panic!("{first:?}") };
    assert!(
        day.handle.snapshot().runs.iter().any(|v| v.run.id.as_str() == run),
        "whoever has the answer finds the run"
    );
    let again = day.handle.command_idempotent("ann", trigger(), once("ann 1", "a")).await;
    assert_eq!(again, Ok(Answer::Repeated(run.clone())));
    let other = day.handle.command_idempotent("ann", trigger(), once("ann 1", "b")).await;
    assert_eq!(other, Ok(Answer::KeyTaken));
    let mail = || Command::TestMail(None);
    let sent = day.handle.command_idempotent("ann", mail(), once("ann 2", "m")).await.expect("queued");
    let Answer::Done(line) = sent else { panic!("{sent:?}") };
    assert_eq!(
        day.handle.command_idempotent("ann", mail(), once("ann 2", "m")).await,
        Ok(Answer::Repeated(line))
    );
    // What was refused did nothing: its key is free.
    let pause = |name: &str| Command::Pause(name.parse().expect("a name"), true);
    assert!(day.handle.command_idempotent("ann", pause("other"), once("ann 3", "p")).await.is_err());
    assert!(matches!(
        day.handle.command_idempotent("ann", pause("day"), once("ann 3", "q")).await,
        Ok(Answer::Done(_))
    ));
    let note = super::handle::Note::new("ann", "replay", "kis.trades all", "done");
    day.handle.note_answer(note, once("ann 4", "r").zip(Some("{}".to_owned()))).await;
    day.end().await;
    (day.handle, day.task) =
        Life::begin(day.folder.path(), &day.clock, &day.script, &CancellationToken::new()).await;
    assert_eq!(
        day.handle.command_idempotent("ann", trigger(), once("ann 1", "a")).await,
        Ok(Answer::Repeated(run))
    );
    assert_eq!(
        day.handle.command_idempotent("ann", mail(), once("ann 2", "other")).await,
        Ok(Answer::KeyTaken)
    );
    let replay = once("ann 4", "r").expect("a request");
    assert_eq!(day.handle.earlier(&replay).await, Ok(Some(super::idempotency::Earlier::Same("{}".into()))));
    let snapshot = day.handle.snapshot();
    let told: Vec<_> =
        snapshot.audit.iter().rev().map(|e| (e.what.as_str(), e.detail.split(':').next())).collect();
    let done = |what| (what, Some("done"));
    assert_eq!(
        told,
        [done("trigger"), done("test mail"), ("pause", Some("refused")), done("pause"), done("replay")]
    );
    assert_eq!(snapshot.runs.iter().filter(|v| v.run.id.key().contains("manual")).count(), 1);
    day.until_mails(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ended_is_in_the_history_of_this_life_and_the_next() {
    use super::handle::Command;
    let mut day = Life::new().await;
    for step in ["collector", "sink"] {
        day.script.until_started(&day.id(step)).await;
        day.script.started(&day.id(step));
        day.until_step(step, "it runs", |s| s.state == StepState::Running).await;
    }
    let run = day.id("collector").run;
    day.handle.command("ann", Command::Cancel(run.clone())).await.expect("cancelled");
    for step in ["collector", "sink"] {
        let asked = |calls: &[Call]| {
            calls.iter().any(|c| matches!(c, Call::Stop { attempt, .. } if attempt.step.as_str() == step))
        };
        tokio::time::timeout(Duration::from_secs(120), day.script.until(asked))
            .await
            .expect("it is asked to stop");
        day.script.send(&day.id(step), News::Exited { exit: domain::run::Exit::Code(0), result: None });
    }
    day.until("the run is in the history", |s| s.history.runs().iter().any(|b| b.id == run)).await;
    let brief = day.handle.snapshot().briefs(Some("day")).remove(0);
    assert_eq!((brief.state.as_str(), brief.step("sink").map(|s| s.attempt)), ("cancelled", Some(1)));
    day.end().await;
    (day.handle, day.task) =
        Life::begin(day.folder.path(), &day.clock, &day.script, &CancellationToken::new()).await;
    assert_eq!(day.handle.snapshot().history.runs().len(), 1);
    let held = day.handle.run(&run).await.expect("readable").expect("kept");
    assert_eq!(held.run.cancelled_by.as_deref(), Some("ann"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_creates_the_runs_of_passed_sessions_once() {
    use super::handle::{BackfillSession, BackfillState, Command};
    let mut day = Life::new().await;
    day.until("the day's own run is there", |s| !s.runs.is_empty()).await;
    let command = |dag: &str, first: &str, last: &str, at_most| Command::Backfill {
        dag: dag.parse().expect("a name"),
        first: first.parse().expect("a date"),
        last: last.parse().expect("a date"),
        params: [("venue".to_owned(), "NXT".to_owned())].into(),
        at_most,
    };
    let ask = async |day: &Life, at_most| {
        let answer = day
            .handle
            .command("ann", command("day", "2026-11-18", "2026-11-21", at_most))
            .await
            .expect("answered");
        let sessions: Vec<BackfillSession> = serde_json::from_str(&answer).expect("sessions");
        sessions.into_iter().map(|s| (s.run.key().to_owned(), s.state)).collect::<Vec<_>>()
    };
    use BackfillState::{Ahead, Created, Due, Running};
    let states = |states: [BackfillState; 4]| {
        ["2026-11-18", "2026-11-19", "2026-11-20", "2026-11-21"]
            .map(str::to_owned)
            .into_iter()
            .zip(states)
            .collect::<Vec<_>>()
    };
    assert_eq!(ask(&day, 0).await, states([Due, Due, Running, Ahead]));
    assert_eq!(ask(&day, 1).await, states([Created, Due, Running, Ahead]));
    let has = |key: &str| day.handle.snapshot().runs.iter().any(|v| v.run.id.key() == key);
    assert!(has("2026-11-18"), "whoever has the answer finds the run");
    assert_eq!(ask(&day, 5).await, states([Running, Created, Running, Ahead]));
    assert_eq!(ask(&day, 5).await, states([Running, Running, Running, Ahead]), "nothing is created twice");
    day.until("the runs of the two days are there", |s| s.runs.len() == 3).await;
    let snapshot = day.handle.snapshot();
    let view =
        snapshot.runs.iter().find(|v| v.run.id.as_str() == "day@2026-11-18").expect("the session's own run");
    assert_eq!(
        (view.run.cause, view.run.session_date),
        (domain::run::Cause::Backfill, jiff::civil::date(2026, 11, 18))
    );
    assert_eq!(view.run.params["venue"], "NXT");
    assert_eq!((view.run.window.open_at, view.run.window.close_at), (at("08:50:00"), Some(at("16:00:00"))));
    for (asked, why) in [
        (command("none", "2026-11-18", "2026-11-19", 1), "there is no DAG none"),
        (
            command("day", "2026-11-19", "2026-11-18", 1),
            "2026-11-19 comes after 2026-11-18; name the earlier date first",
        ),
        (command("day", "2020-01-01", "2026-11-18", 1), "ask for at most 1,000 at a time"),
    ] {
        let refused = day.handle.command("ann", asked).await.expect_err("refused");
        assert!(refused.to_string().contains(why), "{refused}");
    }
    // Three that acted and three that were refused; the first only asked.
    day.until("the audit tells what was done", |s| s.audit.len() == 6).await;
    assert_eq!(day.handle.snapshot().audit[5].subject, "day 2026-11-18 to 2026-11-21");
    day.end().await;
    (day.handle, day.task) =
        Life::begin(day.folder.path(), &day.clock, &day.script, &CancellationToken::new()).await;
    assert_eq!(
        ask(&day, 5).await,
        states([Running, Running, Running, Ahead]),
        "nor in the next life of the daemon"
    );
}
