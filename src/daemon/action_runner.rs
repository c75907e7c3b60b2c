//! Carries out the actions of the machine, in order, away from the loop: starting a process may take longer
//! than deciding to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use domain::dag::{ExecutorKind, Program, Step, StopSignal};
use domain::freshness::Life;
use domain::hop::{self, Hop};
use domain::ids::AttemptId;
use domain::program::{self, Role};
use domain::run::{Exit, Run};
use executor::{AttemptSpec, Executor, News, Report, Reports};

/// The executors a daemon has, and which one a step gets.
#[derive(Clone)]
pub struct Executors {
    all: BTreeMap<&'static str, Arc<dyn Executor>>,
    default: ExecutorKind,
}

impl Executors {
    /// `default` serves steps that name none.
    pub fn new(all: Vec<Arc<dyn Executor>>, default: ExecutorKind) -> Self {
        Self { all: all.into_iter().map(|e| (e.kind().as_str(), e)).collect(), default }
    }

    /// The kind that runs this step: its own choice, else the default; a command cannot run inside the
    /// daemon.
    pub fn kind_of(&self, step: &Step) -> ExecutorKind {
        let wanted = step.executor.unwrap_or(self.default);
        match (&step.program, wanted) {
            (Program::Command { .. }, ExecutorKind::Embedded) => ExecutorKind::Process,
            _ => wanted,
        }
    }

    fn of(&self, step: &Step) -> Option<&Arc<dyn Executor>> {
        self.all.get(self.kind_of(step).as_str())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Executor>> {
        self.all.values()
    }
}

/// A call of an executor.
pub enum Call {
    /// Start an attempt.
    Start(Box<AttemptSpec>),
    /// Watch an attempt that lived on.
    Adopt(Step, AttemptId),
    /// Ask it to stop.
    Stop(Step, AttemptId, StopSignal, Duration),
    /// Kill it.
    Kill(Step, AttemptId),
    /// Its end is journaled.
    Forget(Step, AttemptId),
}

/// Makes calls in order until the sender is gone.
pub async fn run(executors: Executors, mut calls: mpsc::UnboundedReceiver<Call>, reports: Reports) {
    while let Some(call) = calls.recv().await {
        match call {
            Call::Start(spec) => start(&executors, *spec, &reports).await,
            Call::Adopt(step, attempt) => {
                if let Some(executor) = executors.of(&step) {
                    executor.adopt(&attempt, reports.clone()).await;
                }
            }
            Call::Stop(step, attempt, signal, kill_after) => {
                if let Some(executor) = executors.of(&step) {
                    executor.stop(&attempt, signal, kill_after).await;
                }
            }
            Call::Kill(step, attempt) => {
                if let Some(executor) = executors.of(&step) {
                    executor.kill(&attempt).await;
                }
            }
            Call::Forget(step, attempt) => {
                if let Some(executor) = executors.of(&step) {
                    executor.forget(&attempt).await;
                }
            }
        }
    }
}

async fn start(executors: &Executors, spec: AttemptSpec, reports: &Reports) {
    let attempt = spec.id.clone();
    let outcome = match executors.of(&spec.step) {
        Some(executor) => executor.start(spec, reports.clone()).await.map_err(|error| {
            let why = error.to_string();
            if error.infrastructure { Exit::Lost(why) } else { Exit::NotStarted(why) }
        }),
        None => Err(Exit::NotStarted(format!(
            "this daemon has no {} executor",
            executors.kind_of(&spec.step).as_str()
        ))),
    };
    let news = match outcome {
        Ok(()) => return,
        Err(exit) => News::Exited { exit, result: None },
    };
    if reports.send(Report { attempt, news }).is_err() {
        tracing::debug!("the daemon went down while a step failed to start");
    }
}

/// The spec of a run's attempt.
pub fn spec(
    run: &Run,
    step: &Step,
    attempt: AttemptId,
    deadline: Option<jiff::Timestamp>,
    runs_dir: &std::path::Path,
    programs: &[program::Program],
) -> AttemptSpec {
    let schedule = run.dag.schedule.as_ref();
    let folder: PathBuf = runs_dir.join(attempt.path());
    AttemptSpec {
        id: attempt,
        step: step.clone(),
        session_date: run.session_date,
        timezone: schedule.map_or_else(|| "UTC".to_owned(), |s| s.timezone.clone()),
        calendar: schedule.and_then(|s| s.calendar.clone()),
        window: run.window,
        deadline,
        params: run.params.clone(),
        folder,
        replica: 0,
        hops: hops(run, step, programs),
    }
}

/// The hops of the run, for a step that looks at them.
fn hops(run: &Run, step: &Step, programs: &[program::Program]) -> Vec<(Hop, Life)> {
    match program::of(programs, step).map(|program| program.role) {
        Some(Role::Check | Role::Reconcile) => {
            let with_life = |hop: Hop| {
                let life = Life::of(run, &hop.step);
                (hop, life)
            };
            hop::of_run(run, programs).into_iter().map(with_life).collect()
        }
        _ => Vec::new(),
    }
}
