//! `openbell step`: one attempt at a built-in program, as a process of its own.
//!
//! Its folder holds `spec.json`; it writes `status.json` while it runs and `result.json` at the end, and
//! prints its output. What is around it comes by environment, so that the spec stays the same wherever the
//! step runs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Failure};
use clock::Clock;
use config::Config;
use executor::container::replica_folder;
use executor::container::swarm::watchdog::{self, TaskEnd};
use executor::folder::{RESULT, read_spec, write_result, write_status};
use executor::{AttemptSpec, Status};
use steps::launch::StepRuntime;
use steps::{Reporter, Secret};

/// StepRuntime of a step process.
pub mod environment {
    /// The daemon's data folder, absolute.
    pub const DATA: &str = "OPENBELL_DATA";
    /// The DAG folder, absolute.
    pub const DAGS: &str = "OPENBELL_DAGS";
    /// The daemon's configuration as JSON; secrets in it are references.
    pub const CONFIG: &str = "OPENBELL_STEP_CONFIG";
    /// Virtual clock file; without it the machine's clock serves.
    pub const CLOCK: &str = "OPENBELL_CLOCK";
    /// Stand-ins for secret references as a JSON object; demos only, real secrets come by `env:` and `file:`.
    pub const STAND_INS: &str = "OPENBELL_STAND_INS";
}

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The attempt's folder, with spec.json in it
    #[arg(long)]
    folder: PathBuf,
}

/// Carries out the command.
pub fn main(arguments: Arguments) -> super::exit::Result {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::unusable(format!("cannot start the async runtime: {e}")))?;
    runtime.block_on(run(&arguments.folder))
}

async fn run(folder: &Path) -> super::exit::Result {
    let replica = replica()?;
    let spec =
        AttemptSpec { folder: folder.to_owned(), replica, ..read_spec(folder).map_err(Failure::unusable)? };
    let step_runtime = step_runtime()?;
    let clock = step_runtime.clock.clone();
    let own = replica_folder(folder, replica);
    let reporter =
        Arc::new(FileReporter { folder: own.clone(), clock: clock.clone(), replica, last: Mutex::new(None) });
    if replica > 0 {
        // The status of a copy that was here before is not this one's.
        reporter.status(Status::default());
    }
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let task = std::env::var(watchdog::TASK).ok();
    if let Some(task) = &task {
        let stop = stop.clone();
        watchdog::start(folder, task.clone(), clock, move || stop.cancel())
            .map_err(|e| Failure::unusable(format!("cannot watch over the step: {e}")))?;
    }
    let outcome = step_runtime.run(spec, stop, reporter.clone()).await;
    let (value, exit) = match outcome {
        Ok(value) => (value, Exit::Fine),
        Err(error) => {
            reporter.line(&format!("failed: {error}"));
            (error.result(), Exit::Fault)
        }
    };
    write_result(&own, &value)
        .map_err(|e| Failure::unusable(format!("{}: {e}", own.join(RESULT).display())))?;
    if let Some(task) = task {
        // Only missed if the task's node is lost just now; it then counts as lost.
        if let Err(error) = watchdog::write_end(folder, &task, &TaskEnd::Code(exit.code().into())) {
            reporter.line(&format!("cannot say how it ended: {error}"));
        }
    }
    Ok(exit)
}

/// Which of several copies this is; 0: the only one.
fn replica() -> Result<u32, Failure> {
    let Ok(text) = std::env::var(watchdog::REPLICA) else { return Ok(0) };
    text.parse().map_err(|_| Failure::usage(format!("{}: \"{text}\" is not a number", watchdog::REPLICA)))
}

fn step_runtime() -> Result<StepRuntime, Failure> {
    let variable = |name: &str| {
        std::env::var(name).map_err(|_| {
            Failure::usage(format!("{name} is not set; the daemon starts step processes with it"))
        })
    };
    let data = PathBuf::from(variable(environment::DATA)?);
    let config: Config = serde_json::from_str(&variable(environment::CONFIG)?)
        .map_err(|e| Failure::usage(format!("{}: {e}", environment::CONFIG)))?;
    let clock = match std::env::var_os(environment::CLOCK) {
        Some(file) => Clock::follow(Path::new(&file))
            .map_err(|e| Failure::unusable(format!("{}: {e}", Path::new(&file).display())))?,
        None => Clock::system(),
    };
    let stand_ins: std::collections::BTreeMap<String, String> = match std::env::var(environment::STAND_INS) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|e| Failure::usage(format!("{}: {e}", environment::STAND_INS)))?,
        Err(_) => Default::default(),
    };
    Ok(StepRuntime {
        clock,
        backends: backends::open_beside_the_daemon(&config, &data.join("openbell.sock"), &data)
            .map_err(Failure::unusable)?,
        feeds: config.feeds,
        dags: PathBuf::from(variable(environment::DAGS)?),
        data,
        stand_ins: stand_ins.into_iter().map(|(k, v)| (k, Secret::new(v))).collect(),
    })
}

/// The first SIGTERM or SIGINT asks the program to end in order; a second one is left to the executor's
/// SIGKILL.
fn stop_on_signals(stop: CancellationToken) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit()] {
        let mut stream =
            signal(kind).map_err(|e| Failure::unusable(format!("cannot listen for signals: {e}")))?;
        let stop = stop.clone();
        tokio::spawn(async move {
            stream.recv().await;
            stop.cancel();
        });
    }
    Ok(())
}

struct FileReporter {
    folder: PathBuf,
    clock: Clock,
    replica: u32,
    last: Mutex<Option<Status>>,
}

impl Reporter for FileReporter {
    fn status(&self, status: Status) {
        let mut last = self.last.lock();
        if last.as_ref() == Some(&status) {
            return;
        }
        if let Err(error) = write_status(&self.folder, &status) {
            // The page shows an old status then; the step's work goes on.
            self.line(&format!("status.json cannot be written: {error}"));
        }
        *last = Some(status);
    }

    fn line(&self, line: &str) {
        let mut out = std::io::stdout().lock();
        // Nobody reads any more: the work matters more than its output.
        let copy = if self.replica > 0 { format!("[{}] ", self.replica) } else { String::new() };
        writeln!(out, "{} {copy}{line}", self.clock.now()).and_then(|()| out.flush()).unwrap_or_default();
    }
}
