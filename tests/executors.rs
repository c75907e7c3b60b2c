<<<<<<< HEAD
//! The contract of executors, held against each of them; and what only processes promise: to outlive the daemon.

use std::collections::BTreeMap;
=======
//! One contract for every executor, and what processes promise beyond it: a restarted daemon finds them again.

use std::collections::BTreeMap;
use std::fs;
>>>>>>> w-engine
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use openbell::clock::Clock;
<<<<<<< HEAD
use openbell::domain::dag::{ExecutorKind, Program, Restart, RestartPolicy, Step, StepKind, StopPolicy, StopSignal, TriggerRule};
=======
use openbell::domain::dag::{Program, Restart, RestartPolicy, SecretRef, Step, StepKind, StopPolicy, StopSignal, TriggerRule};
>>>>>>> w-engine
use openbell::domain::ids::AttemptId;
use openbell::domain::retry::Backoff;
use openbell::domain::run::Exit;
use openbell::domain::schedule::Window;
use openbell::executor::embedded::{Embedded, Launch};
<<<<<<< HEAD
use openbell::executor::process::{Pids, Process};
use openbell::executor::{AttemptSpec, Executor, News, Report, Status};
use serde_json::{Value, json};
use tokio::sync::mpsc;

const LONG: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);

fn start_of_day() -> Timestamp {
    "2026-11-20T08:50:00+09:00".parse().expect("a time")
}

/// One data folder, one clock, and the executors of one daemon after the other.
struct Floor {
    dir: tempfile::TempDir,
    clock: Clock,
}

impl Floor {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), clock: Clock::manual(start_of_day()) }
    }

    fn runs(&self) -> PathBuf {
        self.dir.path().join("runs")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn process(&self) -> Process {
        self.process_with(vec![])
    }

    fn process_with(&self, environment: Vec<(String, String)>) -> Process {
        Process::with_binary(self.clock.clone(), self.runs(), environment, env!("CARGO_BIN_EXE_openbell").into())
    }

    /// An embedded executor whose attempts understand the first word of their command.
    fn embedded(&self) -> Embedded {
        let launch: Launch = Arc::new(|spec, stop, sink| {
            Box::pin(async move {
                let Program::Command { argv, .. } = &spec.step.program else { return Err("not a command".into()) };
                match argv[0].as_str() {
                    "value" => {
                        sink.line("hello");
                        Ok(json!({ "rows": 3 }))
                    }
                    "fail" => Err("no data".into()),
                    "panic" => panic!("broken invariant"),
                    "count" => {
                        sink.line("counted");
                        stop.cancelled().await;
                        Ok(Value::Null)
                    }
                    "stubborn" => std::future::pending().await,
                    other => Err(format!("unknown: {other}")),
                }
            })
        });
        Embedded::new(self.clock.clone(), launch)
    }

    fn spec(&self, argv: &[&str]) -> AttemptSpec {
        let id = AttemptId { run: "day@2026-11-20".parse().expect("an id"), step: "step".parse().expect("a name"), attempt: 1 };
        let step = Step {
            name: id.step.clone(),
            kind: StepKind::Task,
            program: Program::Command { argv: argv.iter().map(|a| (*a).to_owned()).collect(), image: None },
            executor: None,
            needs: vec![],
            trigger_rule: TriggerRule::AllSuccess,
            with: serde_json::Map::new(),
            env: BTreeMap::from([("GREETING".to_owned(), "good morning".to_owned())]),
            secrets: BTreeMap::new(),
            retries: 0,
            backoff: Backoff::default(),
            timeout: None,
            ready_within: LONG,
            restart: RestartPolicy { policy: Restart::Never, backoff: Backoff::default(), max: None },
            stop: StopPolicy { signal: StopSignal::Term, grace: Duration::from_secs(1) },
            drain: None,
            every: None,
            replicas: 1,
            when: None,
        };
        AttemptSpec {
            folder: self.runs().join(id.path()),
            id,
            step,
            session_date: jiff::civil::date(2026, 11, 20),
            timezone: "Asia/Seoul".into(),
            calendar: None,
            window: Window { open_at: start_of_day(), close_at: None },
            deadline: None,
            params: BTreeMap::new(),
        }
    }
}

/// What came of one attempt.
struct Ear(mpsc::UnboundedReceiver<Report>);

impl Ear {
    async fn next(&mut self) -> News {
        let report = tokio::time::timeout(PATIENCE, self.0.recv()).await.expect("a report in time").expect("a report");
        report.news
    }

    async fn started(&mut self) {
        assert_eq!(self.next().await, News::Started);
    }

    /// The exit; everything before it is skipped.
    async fn exit(&mut self) -> (Exit, Option<Value>) {
=======
use openbell::executor::fake::{Behaviour, Fake};
use openbell::executor::folder::Folder;
use openbell::executor::process::Process;
use openbell::executor::{AttemptSpec, Executor, News, Report, Status};
use serde_json::json;
use tokio::sync::mpsc;

/// Nothing here takes this long on a machine that works.
const LIMIT: Duration = Duration::from_secs(60);

fn step(name: &str, program: Program) -> Step {
    Step {
        name: name.parse().expect("a name"),
        kind: StepKind::Task,
        program,
        executor: None,
        needs: Vec::new(),
        trigger_rule: TriggerRule::default(),
        with: serde_json::Map::new(),
        env: BTreeMap::from([("GREETING".into(), "hello".into())]),
        secrets: BTreeMap::new(),
        retries: 0,
        backoff: Backoff::default(),
        timeout: None,
        ready_within: Duration::from_secs(30),
        restart: RestartPolicy { policy: Restart::Always, backoff: Backoff::default(), max: None },
        stop: StopPolicy { signal: StopSignal::Term, grace: Duration::from_secs(30) },
        drain: None,
        every: None,
        replicas: 1,
        when: None,
    }
}

fn spec(runs: &Path, step: Step) -> AttemptSpec {
    let id = AttemptId { run: "day@2026-11-20".parse().expect("an id"), step: step.name.clone(), attempt: 1 };
    AttemptSpec {
        folder: runs.join(id.path()),
        id,
        step,
        session_date: jiff::civil::date(2026, 11, 20),
        timezone: "Asia/Seoul".into(),
        calendar: None,
        window: Window { open_at: Timestamp::UNIX_EPOCH, close_at: None },
        deadline: None,
        params: BTreeMap::new(),
    }
}

fn command(argv: &[&str]) -> Program {
    Program::Command { argv: argv.iter().map(|a| (*a).to_owned()).collect(), image: None }
}

fn shell(runs: &Path, name: &str, script: &str) -> AttemptSpec {
    spec(runs, step(name, command(&["sh", "-c", script])))
}

/// Says that it is ready, as a shell can.
const READY: &str = r#"echo '{"ready":true,"degraded":null,"facts":{}}' > $OPENBELL_FOLDER/s; mv $OPENBELL_FOLDER/s $OPENBELL_FOLDER/status.json"#;

struct Inbox(mpsc::UnboundedReceiver<Report>);

impl Inbox {
    fn new() -> (mpsc::UnboundedSender<Report>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self(receiver))
    }

    async fn next(&mut self) -> News {
        tokio::time::timeout(LIMIT, self.0.recv()).await.expect("news in time").expect("a sender").news
    }

    async fn until_ready(&mut self) {
        while !matches!(self.next().await, News::Status(Status { ready: true, .. })) {}
    }

    async fn end(&mut self) -> (Exit, Option<serde_json::Value>) {
>>>>>>> w-engine
        loop {
            if let News::Exited { exit, result } = self.next().await {
                return (exit, result);
            }
        }
    }

<<<<<<< HEAD
    fn is_silent(&mut self) -> bool {
        self.0.try_recv().is_err()
    }
}

async fn start(executor: &dyn Executor, spec: &AttemptSpec) -> Ear {
    let (reports, ear) = mpsc::unbounded_channel();
    executor.start(spec.clone(), reports).await.expect("a start");
    Ear(ear)
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn output(spec: &AttemptSpec) -> String {
    read(spec.folder.join("output.log"))
}

fn pids(spec: &AttemptSpec) -> Pids {
    serde_json::from_str(&read(spec.folder.join("pid"))).expect("process ids")
}

/// Whether the process whose id a script wrote into this file has ended.
fn has_ended(pid_file: &Path) -> bool {
    let stat = read(format!("/proc/{}/stat", read(pid_file).trim()));
    stat.is_empty() || stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
}

/// Commands that play the same part on each executor.
struct Parts {
    good: Vec<&'static str>,
    bad: Vec<&'static str>,
    bad_exit: Exit,
    /// Prints "counted" once and ends well when asked to stop.
    polite: Vec<&'static str>,
    /// Does not stop when asked.
    stubborn: Vec<&'static str>,
}

fn cast(kind: ExecutorKind) -> Parts {
    match kind {
        ExecutorKind::Embedded => Parts {
            good: vec!["value"],
            bad: vec!["fail"],
            bad_exit: Exit::Code(1),
            polite: vec!["count"],
            stubborn: vec!["stubborn"],
        },
        _ => Parts {
            good: vec!["echo", "hello"],
            bad: vec!["sh", "-c", "exit 7"],
            bad_exit: Exit::Code(7),
            polite: vec!["sh", "-c", "trap 'exit 0' TERM; echo counted; while :; do sleep 0.01; done"],
            stubborn: vec!["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.01; done"],
        },
    }
}

fn executors(floor: &Floor) -> Vec<Box<dyn Executor>> {
    vec![Box::new(floor.embedded()), Box::new(floor.process())]
}

fn numbered(floor: &Floor, kind: ExecutorKind, attempt: u32, argv: &[&str]) -> AttemptSpec {
    let mut spec = floor.spec(argv);
    spec.id.step = kind.as_str().parse().expect("a name");
    spec.id.attempt = attempt;
    spec.folder = floor.runs().join(spec.id.path());
    spec
}

#[tokio::test]
async fn attempts_start_once_and_end_with_their_code() {
    let floor = Floor::new();
    for executor in executors(&floor) {
        let parts = cast(executor.kind());
        let spec = numbered(&floor, executor.kind(), 1, &parts.good);
        let mut ear = start(&*executor, &spec).await;
        ear.started().await;
        assert_eq!(ear.exit().await.0, Exit::Code(0));
        assert!(ear.is_silent(), "the exit is the last report");
        assert!(output(&spec).contains("hello"), "{:?}: {}", executor.kind(), output(&spec));
        assert_eq!(openbell::executor::folder::read_spec(&spec.folder).expect("a specification"), spec);
        let mut ear = start(&*executor, &numbered(&floor, executor.kind(), 2, &parts.bad)).await;
        assert_eq!(ear.exit().await.0, parts.bad_exit);
    }
}

#[tokio::test]
async fn a_stop_is_obeyed_or_enforced_by_the_clock() {
    let floor = Floor::new();
    for executor in executors(&floor) {
        let parts = cast(executor.kind());
        let polite = numbered(&floor, executor.kind(), 1, &parts.polite);
        let mut ear = start(&*executor, &polite).await;
        ear.started().await;
        wait_until("the polite one runs", || output(&polite).contains("counted")).await;
        executor.stop(&polite.id, StopSignal::Term, LONG).await;
        assert_eq!(ear.exit().await.0, Exit::Code(0));

        let stubborn = numbered(&floor, executor.kind(), 2, &parts.stubborn);
        let mut ear = start(&*executor, &stubborn).await;
        ear.started().await;
        let is_process = executor.kind() == ExecutorKind::Process;
        wait_until("it is deaf", || !is_process || output(&stubborn).contains("deaf")).await;
        executor.stop(&stubborn.id, StopSignal::Term, Duration::from_secs(60)).await;
        // Whenever the wait of the stop begins, the clock moves on until it is over.
        let moving = async {
            loop {
                floor.clock.advance(Duration::from_secs(61));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let (exit, _) = tokio::select! { exit = ear.exit() => exit, () = moving => unreachable!("moves for ever") };
        assert_eq!(exit, Exit::Signal(9));
        // Asking again, about what has ended, is fine.
        executor.stop(&stubborn.id, StopSignal::Term, LONG).await;
        executor.kill(&stubborn.id).await;
        assert!(ear.is_silent());
    }
}

#[tokio::test]
async fn a_second_start_adopts_and_a_kill_is_immediate() {
    let floor = Floor::new();
    for executor in executors(&floor) {
        let spec = numbered(&floor, executor.kind(), 1, &cast(executor.kind()).polite);
        let mut first = start(&*executor, &spec).await;
        first.started().await;
        let mut second = start(&*executor, &spec).await;
        second.started().await;
        wait_until("it runs", || output(&spec).contains("counted")).await;
        executor.kill(&spec.id).await;
        assert_eq!(second.exit().await.0, Exit::Signal(9));
        assert!(first.is_silent(), "reports go to the last one who asked");
        assert_eq!(output(&spec).matches("counted").count(), 1);
    }
}

#[tokio::test]
async fn embedded_errors_and_panics_are_exits() {
    let floor = Floor::new();
    let executor = floor.embedded();
    let fail = numbered(&floor, ExecutorKind::Embedded, 1, &["fail"]);
    assert_eq!(start(&executor, &fail).await.exit().await, (Exit::Code(1), Some(json!({ "error": "no data" }))));
    assert!(output(&fail).contains("error: no data"));
    let panic = numbered(&floor, ExecutorKind::Embedded, 2, &["panic"]);
    assert_eq!(start(&executor, &panic).await.exit().await.0, Exit::Code(101));
    assert!(output(&panic).contains("panicked: broken invariant"));
    let value = numbered(&floor, ExecutorKind::Embedded, 3, &["value"]);
    assert_eq!(start(&executor, &value).await.exit().await, (Exit::Code(0), Some(json!({ "rows": 3 }))));
    assert!(executor.find().await.is_empty());
}

#[tokio::test]
async fn a_process_gets_its_environment_and_returns_output_status_and_result() {
    let floor = Floor::new();
    let executor = floor.process_with(vec![("CITY".into(), "Seoul".into())]);
    let script = r#"echo "$GREETING, $CITY"; echo oops >&2
        echo '{"ready":true,"degraded":null,"facts":{"rows":5}}' > "$OPENBELL_FOLDER/status.json"
        echo '{"rows":5}' > "$OPENBELL_FOLDER/result.json""#;
    let spec = floor.spec(&["sh", "-c", script]);
    let mut ear = start(&executor, &spec).await;
    ear.started().await;
    let facts = json!({ "rows": 5 }).as_object().cloned().expect("an object");
    assert_eq!(ear.next().await, News::Status(Status { ready: true, degraded: None, facts }));
    assert_eq!(ear.next().await, News::Exited { exit: Exit::Code(0), result: Some(json!({ "rows": 5 })) });
    assert_eq!(output(&spec), "good morning, Seoul\noops\n");
}

#[tokio::test]
async fn a_missing_program_is_not_started_and_says_why() {
    let floor = Floor::new();
    let executor = floor.process();
    let mut ear = start(&executor, &floor.spec(&["no-such-program-here"])).await;
    let why = "\"no-such-program-here\" not found; install it or give its full path";
    assert_eq!(ear.next().await, News::Exited { exit: Exit::NotStarted(why.into()), result: None });
}

#[tokio::test]
async fn the_whole_group_ends_with_the_program() {
    let floor = Floor::new();
    let executor = floor.process();
    let grandchild = floor.file("grandchild");
    let script = format!("sleep 3600 & echo $! > {}; wait", grandchild.display());
    let killed = numbered(&floor, ExecutorKind::Process, 1, &["sh", "-c", &script]);
    let mut ear = start(&executor, &killed).await;
    wait_until("the grandchild runs", || read(&grandchild).ends_with('\n')).await;
    executor.kill(&killed.id).await;
    assert_eq!(ear.exit().await.0, Exit::Signal(9));
    wait_until("the grandchild ended", || has_ended(&grandchild)).await;

    // Also one that the program leaves behind when it ends by itself.
    let script = format!("sleep 3600 & echo $! > {}", grandchild.display());
    let mut ear = start(&executor, &numbered(&floor, ExecutorKind::Process, 2, &["sh", "-c", &script])).await;
    assert_eq!(ear.exit().await.0, Exit::Code(0));
    wait_until("the straggler ended", || has_ended(&grandchild)).await;
}

#[tokio::test]
async fn a_running_attempt_is_adopted_with_its_later_code_and_output() {
    let floor = Floor::new();
    let go = floor.file("go");
    let spec = floor.spec(&[
        "sh",
        "-c",
        &format!("echo before; until [ -e {} ]; do sleep 0.01; done; echo after; exit 5", go.display()),
    ]);
    let first = floor.process();
    start(&first, &spec).await.started().await;
    drop(first);

    let second = floor.process();
    let found = second.find().await;
    assert_eq!(found.iter().map(|f| (&f.attempt, &f.ended)).collect::<Vec<_>>(), [(&spec.id, &None)]);
    let (reports, ear) = mpsc::unbounded_channel();
    second.adopt(&spec.id, reports).await;
    std::fs::write(&go, "").expect("written");
    assert_eq!(Ear(ear).exit().await.0, Exit::Code(5));
    assert_eq!(output(&spec), "before\nafter\n");
    second.forget(&spec.id).await;
    assert!(second.find().await.is_empty());
}

#[tokio::test]
async fn a_start_of_a_living_attempt_after_a_restart_adopts_it() {
    let floor = Floor::new();
    let spec = floor.spec(&cast(ExecutorKind::Process).polite);
    let first = floor.process();
    start(&first, &spec).await.started().await;
    drop(first);
    wait_until("it runs", || output(&spec).contains("counted")).await;
    let second = floor.process();
    let mut ear = start(&second, &spec).await;
    ear.started().await;
    second.stop(&spec.id, StopSignal::Term, LONG).await;
    assert_eq!(ear.exit().await.0, Exit::Code(0));
    assert_eq!(output(&spec).matches("counted").count(), 1);
    // And one that has ended is not run again.
    assert_eq!(start(&second, &spec).await.exit().await.0, Exit::Code(0));
    assert_eq!(output(&spec).matches("counted").count(), 1);
=======
    async fn is_closed(&mut self) -> bool {
        tokio::time::timeout(LIMIT, self.0.recv()).await.expect("closed in time").is_none()
    }
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn process(runs: &Path) -> Process {
    Process::new(Clock::system(), runs.to_owned(), Vec::new()).with_program(env!("CARGO_BIN_EXE_openbell").into())
}

fn output(spec: &AttemptSpec) -> String {
    fs::read_to_string(spec.folder.join("output.log")).unwrap_or_default()
}

/// An executor, and how the scenes of the contract are written for it.
struct Rig {
    executor: Arc<dyn Executor>,
    make: Box<dyn Fn(&str) -> AttemptSpec>,
    keeps_output: bool,
}

fn process_rig(runs: PathBuf) -> Rig {
    let executor = Arc::new(process(&runs));
    let make = move |scene: &str| {
        let script = match scene {
            "well" => r#"echo "$GREETING"; echo '{"rows":3}' > $OPENBELL_FOLDER/result.json"#.to_owned(),
            "badly" => "echo broken >&2; exit 3".to_owned(),
            "polite" => format!("trap 'echo bye; exit 0' TERM; {READY}; while :; do sleep 0.02; done"),
            "stubborn" => format!("trap '' TERM; {READY}; while :; do sleep 0.02; done"),
            other => panic!("no scene {other}"),
        };
        shell(&runs, scene, &script)
    };
    Rig { executor, make: Box::new(make), keeps_output: true }
}

fn embedded_rig(runs: PathBuf) -> Rig {
    let launch: Launch = Arc::new(|spec, stop, sink| {
        Box::pin(async move {
            match spec.step.name.as_str() {
                "well" => {
                    sink.line("hello");
                    Ok(json!({ "rows": 3 }))
                }
                "badly" => Err("broken".into()),
                "panics" => panic!("on purpose"),
                scene => {
                    sink.status(Status { ready: true, ..Status::default() });
                    if scene == "stubborn" {
                        std::future::pending::<()>().await;
                    }
                    stop.cancelled().await;
                    sink.line("bye");
                    Ok(serde_json::Value::Null)
                }
            }
        })
    });
    let executor = Arc::new(Embedded::new(Clock::system(), launch));
    let make = move |scene: &str| spec(&runs, step(scene, Program::Uses("scene".into())));
    Rig { executor, make: Box::new(make), keeps_output: true }
}

fn fake_rig(runs: PathBuf) -> Rig {
    let fake = Fake::new(Clock::system());
    fake.script("well", [Behaviour::Exits(Exit::Code(0), Some(json!({ "rows": 3 })))]);
    fake.script("badly", [Behaviour::Exits(Exit::Code(3), None)]);
    fake.script("polite", [Behaviour::ReadyUntilStopped(Exit::Code(0))]);
    fake.script("stubborn", [Behaviour::IgnoresStop]);
    let make = move |scene: &str| spec(&runs, step(scene, Program::Uses("scene".into())));
    Rig { executor: Arc::new(fake), make: Box::new(make), keeps_output: false }
}

async fn contract(rig: Rig) {
    let Rig { executor, make, keeps_output } = rig;

    let (reports, mut inbox) = Inbox::new();
    let well = make("well");
    executor.start(well.clone(), reports).await.expect("started");
    assert_eq!(inbox.next().await, News::Started);
    assert_eq!(inbox.end().await, (Exit::Code(0), Some(json!({ "rows": 3 }))));
    assert!(inbox.is_closed().await, "the end is the last news");
    assert!(!keeps_output || output(&well).contains("hello"));

    let (reports, mut inbox) = Inbox::new();
    let badly = make("badly");
    executor.start(badly.clone(), reports).await.expect("started");
    let (exit, _) = inbox.end().await;
    assert!(matches!(exit, Exit::Code(1 | 3)), "{exit}");
    assert!(!keeps_output || output(&badly).contains("broken"));

    let (reports, mut inbox) = Inbox::new();
    let polite = make("polite");
    executor.start(polite.clone(), reports.clone()).await.expect("started");
    inbox.until_ready().await;
    executor.start(polite.clone(), reports.clone()).await.expect("a second start adopts");
    executor.stop(&polite.id, StopSignal::Term, LIMIT).await;
    assert_eq!(inbox.end().await.0, Exit::Code(0));
    assert!(!keeps_output || output(&polite).matches("bye").count() == 1, "it ran once: {}", output(&polite));
    executor.stop(&polite.id, StopSignal::Term, LIMIT).await;
    executor.kill(&polite.id).await;
    drop(reports);
    assert!(inbox.is_closed().await, "one end only");

    let (reports, mut inbox) = Inbox::new();
    let stubborn = make("stubborn");
    executor.start(stubborn.clone(), reports).await.expect("started");
    inbox.until_ready().await;
    executor.stop(&stubborn.id, StopSignal::Term, Duration::from_millis(100)).await;
    assert_eq!(inbox.end().await.0, Exit::Signal(9));

    for spec in [well, badly, polite, stubborn] {
        executor.forget(&spec.id).await;
    }
    assert!(executor.find().await.is_empty(), "what was forgotten is not found");
}

#[tokio::test]
async fn processes_keep_the_contract() {
    let dir = tempfile::tempdir().expect("a folder");
    contract(process_rig(dir.path().join("runs"))).await;
}

#[tokio::test]
async fn embedded_steps_keep_the_contract() {
    let dir = tempfile::tempdir().expect("a folder");
    contract(embedded_rig(dir.path().join("runs"))).await;
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("a folder");
    contract(fake_rig(dir.path().join("runs"))).await;
}

#[tokio::test]
async fn an_embedded_panic_is_an_exit_with_its_message() {
    let dir = tempfile::tempdir().expect("a folder");
    let rig = embedded_rig(dir.path().join("runs"));
    let (reports, mut inbox) = Inbox::new();
    rig.executor.start((rig.make)("panics"), reports).await.expect("started");
    assert_eq!(inbox.end().await, (Exit::Code(101), Some(json!({ "error": "panicked: on purpose" }))));
}

#[tokio::test]
async fn a_signal_that_is_not_caught_is_the_exit() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = process(dir.path());
    let (reports, mut inbox) = Inbox::new();
    let spec = shell(dir.path(), "a", &format!("{READY}; exec sleep 1000"));
    executor.start(spec.clone(), reports).await.expect("started");
    inbox.until_ready().await;
    executor.stop(&spec.id, StopSignal::Term, LIMIT).await;
    assert_eq!(inbox.end().await.0, Exit::Signal(15));
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = process(dir.path());
    let (reports, mut inbox) = Inbox::new();
    let error = executor.start(spec(dir.path(), step("a", command(&["no-such-program"]))), reports).await.expect_err("refused");
    assert!(!error.infrastructure);
    let named = "program \"no-such-program\" was not found; give its full path, or add its folder to PATH";
    assert_eq!(error.exit(), Exit::NotStarted(named.into()));
    assert!(inbox.is_closed().await, "no report follows");
}

#[tokio::test]
async fn a_missing_secret_is_named_and_no_value_is_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let secret = dir.path().join("secret");
    fs::write(&secret, "s3cret\n").expect("written");
    let executor = process(dir.path());
    let mut spec = shell(dir.path(), "a", "test ${#KEY} = 6");
    spec.step.secrets.insert("KEY".into(), SecretRef::File(secret.display().to_string()));
    let (reports, mut inbox) = Inbox::new();
    executor.start(spec.clone(), reports).await.expect("started");
    assert_eq!(inbox.end().await.0, Exit::Code(0));
    assert!(!fs::read_to_string(spec.folder.join("spec.json")).expect("a spec").contains("s3cret"));

    fs::remove_file(secret).expect("removed");
    spec.folder = dir.path().join("day@2026-11-20/a/2");
    spec.id.attempt = 2;
    let (reports, _inbox) = Inbox::new();
    let error = executor.start(spec, reports).await.expect_err("refused");
    assert!(error.reason.starts_with("secret \"KEY\" (file:"), "{error}");
}

/// Prints, waits for a file called `go`, prints again and exits with 7.
const WAITS: &str = "echo before; while [ ! -e $OPENBELL_FOLDER/go ]; do sleep 0.02; done; echo after; exit 7";

#[tokio::test]
async fn a_new_daemon_adopts_what_runs_with_its_exit_and_output() {
    let dir = tempfile::tempdir().expect("a folder");
    let spec = shell(dir.path(), "a", WAITS);
    let first = process(dir.path());
    let (reports, mut unheard) = Inbox::new();
    first.start(spec.clone(), reports).await.expect("started");
    drop(first);

    let second = process(dir.path());
    let found = second.find().await;
    assert_eq!(found.iter().map(|f| (&f.attempt, f.ended.is_none())).collect::<Vec<_>>(), [(&spec.id, true)]);
    let (reports, mut inbox) = Inbox::new();
    second.adopt(&spec.id, reports.clone()).await;
    second.start(spec.clone(), reports).await.expect("starting what lives adopts it");
    fs::write(spec.folder.join("go"), "").expect("written");
    assert_eq!(inbox.end().await, (Exit::Code(7), None));
    assert_eq!(output(&spec), "before\nafter\n");
    while let Some(report) = unheard.0.recv().await {
        assert!(!matches!(report.news, News::Exited { .. }), "the old daemon is gone");
    }
}

#[tokio::test]
async fn an_end_that_nobody_watched_is_found_with_its_exit_and_does_not_run_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let spec = shell(dir.path(), "a", WAITS);
    let first = process(dir.path());
    first.start(spec.clone(), Inbox::new().0).await.expect("started");
    drop(first);
    fs::write(spec.folder.join("go"), "").expect("written");
    wait_until("the exit is written", || Folder::new(&spec.folder).exit().is_some()).await;

    let second = process(dir.path());
    let found = second.find().await;
    assert_eq!(found[0].ended, Some((Exit::Code(7), None)));
    let (reports, mut inbox) = Inbox::new();
    second.start(spec.clone(), reports).await.expect("it ended already");
    assert_eq!(inbox.end().await.0, Exit::Code(7));
    assert_eq!(output(&spec), "before\nafter\n");
}

#[tokio::test]
async fn two_starts_at_once_run_it_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let spec = shell(dir.path(), "a", WAITS);
    let (first, second) = (process(dir.path()), process(dir.path()));
    let ((one, mut inbox_one), (two, mut inbox_two)) = (Inbox::new(), Inbox::new());
    let (a, b) = tokio::join!(first.start(spec.clone(), one), second.start(spec.clone(), two));
    a.expect("started or adopted");
    b.expect("started or adopted");
    fs::write(spec.folder.join("go"), "").expect("written");
    assert_eq!((inbox_one.end().await.0, inbox_two.end().await.0), (Exit::Code(7), Exit::Code(7)));
    assert_eq!(output(&spec), "before\nafter\n");
}

fn number(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Gone, or dead and not yet collected by whoever inherited it.
fn is_gone(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test]
async fn what_a_step_leaves_in_its_group_is_killed() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = process(dir.path());
    let (reports, mut inbox) = Inbox::new();
    let spec = shell(dir.path(), "a", "sleep 1000 & echo $! > $OPENBELL_FOLDER/straggler");
    executor.start(spec.clone(), reports).await.expect("started");
    assert_eq!(inbox.end().await.0, Exit::Code(0));
    let straggler = number(&spec.folder.join("straggler"));
    assert!(!straggler.is_empty());
    wait_until("the straggler is gone", || is_gone(&straggler)).await;
}

#[tokio::test]
async fn a_step_whose_shim_died_is_killed_and_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = process(dir.path());
    let (reports, mut inbox) = Inbox::new();
    let spec = shell(dir.path(), "a", &format!("echo $$ > $OPENBELL_FOLDER/own; {READY}; exec sleep 1000"));
    executor.start(spec.clone(), reports).await.expect("started");
    inbox.until_ready().await;
    let own = number(&spec.folder.join("own"));
    assert!(!is_gone(&own));
    let pids: serde_json::Value = serde_json::from_slice(&fs::read(spec.folder.join("pid")).expect("a pid file")).expect("JSON");
    let shim = pids["shim"]["pid"].as_i64().expect("a number").to_string();
    assert!(std::process::Command::new("kill").args(["-9", &shim]).status().expect("kill runs").success());
    let (exit, _) = inbox.end().await;
    assert!(matches!(&exit, Exit::Lost(why) if why == "its shim died, so it was killed"), "{exit}");
    wait_until("the program is gone", || is_gone(&own)).await;
}

#[tokio::test]
async fn the_deadline_is_kept_although_no_daemon_is_left() {
    let dir = tempfile::tempdir().expect("a folder");
    let start: Timestamp = "2026-11-20T15:00:00+09:00".parse().expect("a time");
    let clock = Clock::virtual_owner(start, 36_000.0, Some(dir.path().join("clock"))).expect("a clock");
    let runs = dir.path().join("runs");
    let executor = Process::new(clock.clone(), runs.clone(), Vec::new()).with_program(env!("CARGO_BIN_EXE_openbell").into());
    let mut spec = shell(&runs, "a", "trap '' TERM; while :; do sleep 0.02; done");
    spec.deadline = Some(start + Duration::from_secs(3600));
    executor.start(spec.clone(), Inbox::new().0).await.expect("started");
    drop(executor);
    let folder = Folder::new(&spec.folder);
    tokio::select! {
        () = clock.keep_published() => {}
        () = wait_until("the deadline is kept", || folder.exit().is_some()) => {}
    }
    let exit = folder.exit().expect("an exit");
    assert_eq!((exit.exit, exit.by_deadline), (Exit::Signal(9), true));
    assert!(exit.finished_at >= start + Duration::from_secs(3630));
>>>>>>> w-engine
}

#[tokio::test]
async fn an_orphan_can_be_stopped_without_being_adopted() {
<<<<<<< HEAD
    let floor = Floor::new();
    let spec = floor.spec(&cast(ExecutorKind::Process).polite);
    let first = floor.process();
    start(&first, &spec).await.started().await;
    wait_until("it runs", || output(&spec).contains("counted")).await;
    drop(first);
    floor.process().stop(&spec.id, StopSignal::Term, LONG).await;
    // Dropping the executor above may have come before its signal; a later one asks again.
    let second = floor.process();
    second.stop(&spec.id, StopSignal::Term, LONG).await;
    wait_until("it ended", || spec.folder.join("exit.json").exists()).await;
}

#[tokio::test]
async fn an_attempt_that_ended_with_nobody_watching_is_found_with_its_exit() {
    let floor = Floor::new();
    let go = floor.file("go");
    let script =
        format!("until [ -e {} ]; do sleep 0.01; done; echo '[1]' > \"$OPENBELL_FOLDER/result.json\"; exit 3", go.display());
    let spec = floor.spec(&["sh", "-c", &script]);
    let first = floor.process();
    start(&first, &spec).await.started().await;
    let shim = pids(&spec).shim;
    drop(first);
    std::fs::write(&go, "").expect("written");
    wait_until("the shim ended", || !shim.is_alive()).await;
    let found = floor.process().find().await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].ended, Some((Exit::Code(3), Some(json!([1])))));
}

#[tokio::test]
async fn a_killed_shim_is_a_loss_and_takes_its_program_along() {
    let floor = Floor::new();
    let executor = floor.process();
    // One process of it has left the group.
    let (own, stray) = (floor.file("own"), floor.file("stray"));
    let script =
        format!("setsid sh -c 'echo $$ > {}; exec sleep 3600' & echo $$ > {}; exec sleep 3600", stray.display(), own.display());
    let watched = numbered(&floor, ExecutorKind::Process, 1, &["sh", "-c", &script]);
    let mut ear = start(&executor, &watched).await;
    ear.started().await;
    wait_until("both run", || read(&own).ends_with('\n') && read(&stray).ends_with('\n')).await;
    kill(pids(&watched).shim.pid);
    let (exit, _) = ear.exit().await;
    assert!(matches!(&exit, Exit::Lost(why) if why.contains("signal: 9")), "{exit:?}");
    assert!(has_ended(&own) && has_ended(&stray), "the program ended before the loss is reported");

    // The same with nobody watching.
    let alone = numbered(&floor, ExecutorKind::Process, 2, &["sleep", "3600"]);
    start(&executor, &alone).await.started().await;
    let Pids { shim, child, .. } = pids(&alone);
    drop(executor);
    kill(shim.pid);
    wait_until("the shim ended", || !shim.is_alive()).await;
    let found = floor.process().find().await;
    let exit = found.iter().find(|f| f.attempt == alone.id).and_then(|f| f.ended.clone());
    assert!(matches!(exit, Some((Exit::Lost(_), None))), "{exit:?}");
    wait_until("the program ended", || !child.expect("a program").is_alive()).await;
}

#[tokio::test]
async fn the_shim_holds_the_deadline_with_nobody_watching() {
    let floor = Floor::new();
    let file = floor.file("clock");
    // The owner of the timeline is gone at once, as a dead daemon is.
    drop(Clock::virtual_owner(start_of_day(), 600.0, Some(file.clone())).expect("a timeline"));
    let executor = floor.process_with(vec![("OPENBELL_CLOCK".into(), file.display().to_string())]);
    let mut spec = floor.spec(&cast(ExecutorKind::Process).stubborn);
    spec.deadline = Some(start_of_day() + Duration::from_secs(300));
    start(&executor, &spec).await.started().await;
    drop(executor);
    wait_until("the deadline is held", || spec.folder.join("exit.json").exists()).await;
    let found = floor.process().find().await;
    wait_until("the shim ended", || !pids(&spec).shim.is_alive()).await;
    let found = if found[0].ended.is_some() { found } else { floor.process().find().await };
    assert_eq!(found[0].ended, Some((Exit::Signal(9), None)));
    assert!(output(&spec).contains("has passed: sent SIGTERM"), "{}", output(&spec));
}

#[tokio::test]
async fn a_shim_survives_the_signals_that_end_others() {
    let floor = Floor::new();
    let executor = floor.process();
    let spec = floor.spec(&cast(ExecutorKind::Process).polite);
    let mut ear = start(&executor, &spec).await;
    ear.started().await;
    wait_until("it runs", || output(&spec).contains("counted")).await;
    let shim = rustix::process::Pid::from_raw(pids(&spec).shim.pid).expect("a pid");
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT, rustix::process::Signal::HUP] {
        rustix::process::kill_process(shim, signal).expect("sent");
    }
    executor.stop(&spec.id, StopSignal::Term, LONG).await;
    assert_eq!(ear.exit().await.0, Exit::Code(0));
}

#[tokio::test]
async fn many_attempts_run_one_after_the_other() {
    let floor = Floor::new();
    let executor = floor.process();
    let begun = std::time::Instant::now();
    for attempt in 1..=50 {
        let mut ear = start(&executor, &numbered(&floor, ExecutorKind::Process, attempt, &["true"])).await;
        ear.started().await;
        assert_eq!(ear.exit().await.0, Exit::Code(0));
    }
    println!("50 chained processes: {:?}", begun.elapsed());
=======
    let dir = tempfile::tempdir().expect("a folder");
    let spec = shell(dir.path(), "a", &format!("trap '' TERM; {READY}; while :; do sleep 0.02; done"));
    let first = process(dir.path());
    let (reports, mut inbox) = Inbox::new();
    first.start(spec.clone(), reports).await.expect("started");
    inbox.until_ready().await;
    drop(first);
    let second = process(dir.path());
    second.stop(&spec.id, StopSignal::Term, Duration::from_millis(50)).await;
    wait_until("the orphan is gone", || Folder::new(&spec.folder).exit().is_some()).await;
    assert_eq!(Folder::new(&spec.folder).exit().map(|file| file.exit), Some(Exit::Signal(9)));
}

#[tokio::test]
async fn steps_inherit_none_of_the_daemons_files_and_sockets() {
    let dir = tempfile::tempdir().expect("a folder");
    let _lock = fs::File::create(dir.path().join("openbell.lock")).expect("a file");
    let _socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let executor = process(dir.path());
    let (reports, mut inbox) = Inbox::new();
    let spec = spec(dir.path(), step("a", command(&["ls", "-l", "/proc/self/fd"])));
    executor.start(spec.clone(), reports).await.expect("started");
    assert_eq!(inbox.end().await.0, Exit::Code(0));
    let listed = output(&spec);
    assert!(listed.contains("output.log"), "{listed}");
    // Whoever started the tests may have left descriptors open; ours are these.
    assert!(!listed.contains("socket:") && !listed.contains("openbell.lock") && !listed.contains("/lock"), "{listed}");
>>>>>>> w-engine
}
