//! What the tests of executors share: a data folder, a clock, attempts, and an ear for reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use openbell::clock::Clock;
use openbell::domain::dag::{
    ExecutorKind, Program, Restart, RestartPolicy, Step, StepKind, StopPolicy, StopSignal, TriggerRule,
};
use openbell::domain::ids::AttemptId;
use openbell::domain::retry::Backoff;
use openbell::domain::run::Exit;
use openbell::domain::schedule::Window;
use openbell::executor::embedded::{Embedded, Launch};
use openbell::executor::process::{Pids, Process};
use openbell::executor::{AttemptSpec, Executor, News, Report};
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub const LONG: Duration = Duration::from_secs(3600);
/// Only how long a failure takes: a hundred containers may start at a time, and a flood of output takes its
/// time to be carried.
pub const PATIENCE: Duration = Duration::from_secs(300);

pub fn start_of_day() -> Timestamp {
    "2026-11-20T08:50:00+09:00".parse().expect("a time")
}

/// One data folder, one clock, and the executors of one daemon after the other.
pub struct Floor {
    pub dir: tempfile::TempDir,
    pub clock: Clock,
}

impl Floor {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), clock: Clock::manual(start_of_day()) }
    }

    pub fn runs(&self) -> PathBuf {
        self.dir.path().join("runs")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn process(&self) -> Process {
        self.process_with(vec![])
    }

    pub fn process_with(&self, environment: Vec<(String, String)>) -> Process {
        Process::with_binary(
            self.clock.clone(),
            self.runs(),
            environment,
            env!("CARGO_BIN_EXE_openbell").into(),
        )
    }

    /// An embedded executor whose attempts understand the first word of their command.
    pub fn embedded(&self) -> Embedded {
        let launch: Launch = Arc::new(|spec, stop, sink| {
            Box::pin(async move {
                let Program::Command { argv, .. } = &spec.step.program else {
                    return Err("not a command".into());
                };
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
                    other => Err(format!("unknown: {other}").into()),
                }
            })
        });
        Embedded::new(self.clock.clone(), launch)
    }

    pub fn spec(&self, argv: &[&str]) -> AttemptSpec {
        let id = AttemptId {
            run: "day@2026-11-20".parse().expect("an id"),
            step: "step".parse().expect("a name"),
            attempt: 1,
        };
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
            container: Default::default(),
        };
        AttemptSpec {
            folder: self.runs().join(id.path()),
            replica: 0,
            hops: Vec::new(),
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

/// A timeline that others can follow and whose owner is gone at once, as that of a dead daemon is. One that
/// is there goes on, at another speed.
pub fn left_running(floor: &Floor, speed: f64) -> Clock {
    let file = floor.file("clock");
    drop(Clock::virtual_owner(start_of_day(), speed, Some(file.clone())).expect("a timeline"));
    Clock::follow(&file).expect("a follower")
}

/// The file with the process id of an attempt's keeper.
pub fn keeper(spec: &AttemptSpec) -> PathBuf {
    spec.folder.join("keeper.lock")
}

/// Whether an attempt has a living keeper that has written down who it is.
pub fn has_keeper(spec: &AttemptSpec) -> bool {
    read(keeper(spec)).ends_with('\n') && !has_ended(&keeper(spec))
}

/// What came of one attempt.
pub struct Ear(pub mpsc::UnboundedReceiver<Report>);

impl Ear {
    pub async fn next(&mut self) -> News {
        let report =
            tokio::time::timeout(PATIENCE, self.0.recv()).await.expect("a report in time").expect("a report");
        report.news
    }

    pub async fn started(&mut self) {
        assert_eq!(self.next().await, News::Started);
    }

    /// The exit; everything before it is skipped.
    pub async fn exit(&mut self) -> (Exit, Option<Value>) {
        loop {
            if let News::Exited { exit, result } = self.next().await {
                return (exit, result);
            }
        }
    }

    pub fn is_silent(&mut self) -> bool {
        self.0.try_recv().is_err()
    }
}

pub async fn start(executor: &dyn Executor, spec: &AttemptSpec) -> Ear {
    let (reports, ear) = mpsc::unbounded_channel();
    executor.start(spec.clone(), reports).await.expect("a start");
    Ear(ear)
}

pub async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

pub fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

pub fn output(spec: &AttemptSpec) -> String {
    read(spec.folder.join("output.log"))
}

pub fn pids(spec: &AttemptSpec) -> Pids {
    serde_json::from_str(&read(spec.folder.join("pid"))).expect("process ids")
}

/// Whether the process whose id a script wrote into this file has ended.
pub fn has_ended(pid_file: &Path) -> bool {
    let stat = read(format!("/proc/{}/stat", read(pid_file).trim()));
    stat.is_empty() || stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

pub fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
}

/// Commands that play the same part on each executor.
pub struct Parts {
    pub good: Vec<&'static str>,
    pub bad: Vec<&'static str>,
    pub bad_exit: Exit,
    /// Prints "counted" once and ends well when asked to stop.
    pub polite: Vec<&'static str>,
    /// Does not stop when asked.
    pub stubborn: Vec<&'static str>,
}

pub fn cast(kind: ExecutorKind) -> Parts {
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

pub fn executors(floor: &Floor) -> Vec<Box<dyn Executor>> {
    let mut all: Vec<Box<dyn Executor>> = vec![Box::new(floor.embedded()), Box::new(floor.process())];
    if super::docker::image("the contract of executors").is_some() {
        all.push(Box::new(super::docker::executor(floor)));
    }
    if super::swarm::manager("the contract of executors").is_some() {
        all.push(Box::new(super::swarm::executor(floor)));
    }
    all
}

pub fn numbered(floor: &Floor, kind: ExecutorKind, attempt: u32, argv: &[&str]) -> AttemptSpec {
    let mut spec = floor.spec(argv);
    spec.id.step = kind.as_str().parse().expect("a name");
    spec.id.attempt = attempt;
    spec.folder = floor.runs().join(spec.id.path());
    if matches!(kind, ExecutorKind::Docker | ExecutorKind::Swarm)
        && let Program::Command { image, .. } = &mut spec.step.program
    {
        *image = super::docker::image("an attempt");
    }
    spec
}

impl Drop for Floor {
    fn drop(&mut self) {
        super::docker::tidy(self);
        super::swarm::tidy(self);
    }
}
