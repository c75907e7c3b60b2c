//! The executor: starts shims, finds those of earlier daemons, passes on stops and kills.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::attempt::{Program, Shim, is_locked, kill_leftovers, lost_text, take_lock};
use super::identity::signal_of;
use super::shim::SELF;
use crate::attempts::{Attempt, Attempts};
use crate::folder::{self, Durability, StopOrder};
use crate::{AttemptSpec, Executor, Found, Reports, StartError};
use clock::Clock;
use domain::dag::{ExecutorKind, StopSignal};
use domain::ids::AttemptId;
use domain::run::Exit;

/// Runs attempts as local processes. Dropping it stops watching; the attempts run on and can be found again.
pub struct Process {
    clock: Clock,
    runs: PathBuf,
    environment: Vec<(String, String)>,
    binary: PathBuf,
    attempts: Attempts<Program>,
}

/// What a folder was when a start came to it.
enum Prepared {
    /// New: a shim was started.
    Fresh(Box<Child>),
    /// An earlier start was there: it lives or has ended.
    Known,
}

impl Process {
    /// An executor whose attempts live below `runs_dir` (absolute). `environment` is added to that of every
    /// attempt.
    pub fn new(clock: Clock, runs_dir: PathBuf, environment: Vec<(String, String)>) -> Self {
        Self::with_binary(clock, runs_dir, environment, SELF.into())
    }

    /// The same with another binary than the running one as shim and for built-in programs.
    pub fn with_binary(
        clock: Clock,
        runs_dir: PathBuf,
        environment: Vec<(String, String)>,
        binary: PathBuf,
    ) -> Self {
        Self { clock, runs: runs_dir, environment, binary, attempts: Attempts::default() }
    }

    fn watch(&self, attempt: Arc<Attempt<Program>>, shim: Shim) {
        let watched = attempt.clone();
        self.attempts.watch(attempt, async move { watched.watch(shim).await });
    }

    /// The attempt if it lives. One that nobody asked to adopt (an orphan that is only to be stopped) is
    /// watched from now on.
    fn find_living(&self, id: &AttemptId) -> Option<Arc<Attempt<Program>>> {
        let folder = self.runs.join(id.path());
        if self.attempts.get(id).is_none() && is_locked(&folder) {
            self.adopt_for(id, None);
        }
        self.attempts.get(id)
    }

    fn adopt_for(&self, id: &AttemptId, reports: Option<Reports>) {
        if let Ok(attempt) = self.attempts.add(id, self.runs.join(id.path()), Program::new(), reports) {
            self.watch(attempt, Shim::Other);
        }
    }
}

/// Prepares the folder and starts the shim, unless there was a start before.
fn prepare(
    spec: &AttemptSpec,
    binary: &Path,
    environment: &[(String, String)],
) -> Result<Prepared, StartError> {
    let folder = &spec.folder;
    let failed = |what: String, error: &io::Error, remedy: &str| StartError {
        attempt: spec.id.to_string(),
        reason: format!("{what}: {error}"),
        remedy: remedy.into(),
        infrastructure: true,
    };
    let written = || -> io::Result<Option<(Stdio, File)>> {
        fs::create_dir_all(folder)?;
        let Some(lock) = take_lock(folder)? else { return Ok(None) };
        if [folder::PID, folder::EXIT].iter().any(|name| folder.join(name).exists()) {
            return Ok(None);
        }
        folder::write(&folder.join(folder::SPEC), spec, Durability::Synced)?;
        let log = File::options().create(true).append(true).open(folder.join(folder::SHIM_LOG))?;
        Ok(Some((lock, log)))
    };
    let prepared = written().map_err(|error| {
        let what = format!("its folder {} cannot be written", folder.display());
        failed(what, &error, "check the disk's free space and the folder's permissions")
    })?;
    let Some((lock, log)) = prepared else { return Ok(Prepared::Known) };
    let mut command = Command::new(binary);
    command.arg0("openbell").arg("shim").arg("--folder").arg(folder);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    // The lock travels as standard input: held without a gap, and let go by the kernel when the shim ends.
    command.stdin(lock).stdout(Stdio::piped()).stderr(log).process_group(0);
    let child = command.spawn().map_err(|error| {
        let what = format!("{} cannot be started", binary.display());
        failed(what, &error, "check the limits on processes and memory (ulimit -a)")
    })?;
    Ok(Prepared::Fresh(Box::new(child)))
}

#[async_trait]
impl Executor for Process {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Process
    }

    async fn start(&self, spec: AttemptSpec, reports: Reports) -> Result<(), StartError> {
        let Ok(attempt) = self.attempts.add(&spec.id, spec.folder.clone(), Program::new(), Some(reports))
        else {
            return Ok(());
        };
        let (binary, environment) = (self.binary.clone(), self.environment.clone());
        let prepared = tokio::task::spawn_blocking(move || prepare(&spec, &binary, &environment)).await;
        let prepared = prepared.unwrap_or_else(|error| {
            Err(StartError {
                attempt: attempt.id.to_string(),
                reason: format!("its start was cut short: {error}"),
                remedy: String::new(),
                infrastructure: true,
            })
        });
        match prepared {
            Ok(Prepared::Fresh(child)) => self.watch(attempt, Shim::Own(child)),
            Ok(Prepared::Known) => self.watch(attempt, Shim::Other),
            Err(error) => {
                self.attempts.remove(&attempt);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn stop(&self, attempt: &AttemptId, signal: StopSignal, kill_after: Duration) {
        let Some(attempt) = self.find_living(attempt) else { return };
        let clock = self.clock.clone();
        let order = StopOrder::now(&clock, kill_after);
        self.attempts.spawn(async move {
            order.leave(&attempt.folder).await;
            attempt.signal(signal_of(signal)).await;
            if !attempt.ends_by(&clock, order.kill_at).await {
                attempt.signal(Signal::KILL).await;
            }
        });
    }

    async fn kill(&self, attempt: &AttemptId) {
        let Some(attempt) = self.find_living(attempt) else { return };
        self.attempts.spawn(async move { attempt.signal(Signal::KILL).await });
    }

    async fn find(&self) -> Vec<Found> {
        let runs = self.runs.clone();
        tokio::task::spawn_blocking(move || scan(&runs)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot look for earlier attempts");
            Vec::new()
        })
    }

    async fn adopt(&self, attempt: &AttemptId, reports: Reports) {
        self.adopt_for(attempt, Some(reports));
    }

    async fn forget(&self, attempt: &AttemptId) {
        let folder = self.runs.join(attempt.path());
        if folder.is_dir() {
            folder::mark_done(&folder);
        }
    }
}

/// All attempts below `runs` that were started and not forgotten.
fn scan(runs: &Path) -> Vec<Found> {
    folder::attempts(runs).iter().filter_map(|folder| look(runs, folder)).collect()
}

fn look(runs: &Path, folder: &Path) -> Option<Found> {
    let has = |name| folder.join(name).exists();
    // Embedded attempts have no lock.
    if has(folder::DONE) || !has(folder::LOCK) {
        return None;
    }
    let spec = match folder::read_spec(folder) {
        Ok(spec) => spec,
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "an attempt's folder without a readable specification is left alone");
            return None;
        }
    };
    if runs.join(spec.id.path()) != folder {
        tracing::warn!(folder = %folder.display(), attempt = %spec.id, "an attempt's specification in another's folder is left alone");
        return None;
    }
    let status = folder::read_or_warn(&folder.join(folder::STATUS)).unwrap_or_default();
    let ended = if is_locked(folder) {
        None
    } else if let Some(ended) = folder::read_end(folder) {
        Some(ended)
    } else if has(folder::PID) {
        kill_leftovers(folder);
        Some((Exit::Lost(lost_text("")), None))
    } else {
        // Its shim never came so far as to write down a program; if it had started one, that ends here.
        kill_leftovers(folder);
        return None;
    };
    Some(Found { attempt: spec.id, ended, status })
}
