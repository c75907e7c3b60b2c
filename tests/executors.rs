//! One contract for every executor, and what processes promise beyond it: a restarted daemon finds them again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use openbell::clock::Clock;
use openbell::domain::dag::{Program, Restart, RestartPolicy, SecretRef, Step, StepKind, StopPolicy, StopSignal, TriggerRule};
use openbell::domain::ids::AttemptId;
use openbell::domain::retry::Backoff;
use openbell::domain::run::Exit;
use openbell::domain::schedule::Window;
use openbell::executor::embedded::{Embedded, Launch};
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
        loop {
            if let News::Exited { exit, result } = self.next().await {
                return (exit, result);
            }
        }
    }

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
}

#[tokio::test]
async fn an_orphan_can_be_stopped_without_being_adopted() {
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
}
