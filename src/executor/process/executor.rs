//! The executor: starts shims, finds those of earlier daemons, passes on stops and kills.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, Shim, is_locked, kill_leftovers, lost_text, take_lock};
use super::identity::signal_of;
use super::shim::SELF;
use clock::Clock;
use domain::dag::{ExecutorKind, StopSignal};
use domain::ids::AttemptId;
use domain::run::Exit;
use crate::folder::{self, Durability, StopOrder};
use crate::{AttemptSpec, Executor, Found, Reports, StartError};

/// Runs attempts as local processes. Dropping it stops watching; the attempts run on and can be found again.
pub struct Process {
    clock: Clock,
    runs: PathBuf,
    environment: Vec<(String, String)>,
    binary: PathBuf,
    living: Arc<Mutex<HashMap<AttemptId, Arc<Attempt>>>>,
    /// Ends what was spawned for this executor.
    closed: CancellationToken,
}

/// What a folder was when a start came to it.
enum Prepared {
    /// New: a shim was started.
    Fresh(Box<Child>),
    /// An earlier start was there: it lives or has ended.
    Known,
}

impl Process {
    /// An executor whose attempts live below `runs_dir` (absolute). `environment` is added to that of every attempt.
    pub fn new(clock: Clock, runs_dir: PathBuf, environment: Vec<(String, String)>) -> Self {
        Self::with_binary(clock, runs_dir, environment, SELF.into())
    }

    /// The same with another binary than the running one as shim and for built-in programs.
    pub fn with_binary(clock: Clock, runs_dir: PathBuf, environment: Vec<(String, String)>, binary: PathBuf) -> Self {
        Self { clock, runs: runs_dir, environment, binary, living: Arc::default(), closed: CancellationToken::new() }
    }

    fn living(&self) -> MutexGuard<'_, HashMap<AttemptId, Arc<Attempt>>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an attempt, unless it is being watched: then that one is given back as the error.
    fn register(&self, id: &AttemptId, folder: PathBuf, reports: &Reports) -> Result<Arc<Attempt>, Arc<Attempt>> {
        let mut living = self.living();
        if let Some(attempt) = living.get(id).filter(|attempt| !attempt.has_ended()) {
            return Err(attempt.clone());
        }
        let attempt = Arc::new(Attempt::new(id.clone(), folder, reports.clone()));
        living.insert(id.clone(), attempt.clone());
        Ok(attempt)
    }

    fn watch(&self, attempt: Arc<Attempt>, shim: Shim) {
        let (living, closed) = (self.living.clone(), self.closed.clone());
        tokio::spawn(async move {
            if closed.run_until_cancelled(attempt.watch(shim)).await.is_some() {
                let mut living = living.lock().unwrap_or_else(PoisonError::into_inner);
                // A start after the end has put another watch in its place.
                if living.get(attempt.id()).is_some_and(|current| Arc::ptr_eq(current, &attempt)) {
                    living.remove(attempt.id());
                }
            }
        });
    }

    /// The attempt if it lives. One that nobody asked to adopt (an orphan that is only to be stopped) is watched from now on.
    fn find_living(&self, id: &AttemptId) -> Option<Arc<Attempt>> {
        if let Some(attempt) = self.living().get(id) {
            return Some(attempt.clone());
        }
        let folder = self.runs.join(id.path());
        if !is_locked(&folder) {
            return None;
        }
        let (nobody, _) = mpsc::unbounded_channel();
        match self.register(id, folder, &nobody) {
            Ok(attempt) => {
                self.watch(attempt.clone(), Shim::Other);
                Some(attempt)
            }
            Err(attempt) => Some(attempt),
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        tokio::spawn(async move { closed.run_until_cancelled(work).await });
    }
}

/// Prepares the folder and starts the shim, unless there was a start before.
fn prepare(spec: &AttemptSpec, binary: &Path, environment: &[(String, String)]) -> Result<Prepared, StartError> {
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
        let attempt = match self.register(&spec.id, spec.folder.clone(), &reports) {
            Ok(attempt) => attempt,
            Err(living) => {
                living.redirect(reports);
                return Ok(());
            }
        };
        let (binary, environment) = (self.binary.clone(), self.environment.clone());
        let id = spec.id.clone();
        let prepared = tokio::task::spawn_blocking(move || prepare(&spec, &binary, &environment)).await;
        let prepared = prepared.unwrap_or_else(|error| {
            Err(StartError {
                attempt: id.to_string(),
                reason: format!("its start was cut short: {error}"),
                remedy: String::new(),
                infrastructure: true,
            })
        });
        match prepared {
            Ok(Prepared::Fresh(child)) => self.watch(attempt, Shim::Own(child)),
            Ok(Prepared::Known) => self.watch(attempt, Shim::Other),
            Err(error) => {
                self.living().remove(&id);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn stop(&self, attempt: &AttemptId, signal: StopSignal, kill_after: Duration) {
        let Some(attempt) = self.find_living(attempt) else { return };
        let clock = self.clock.clone();
        let order = StopOrder::now(&clock, kill_after);
        self.spawn(async move {
            order.leave(attempt.folder().to_owned()).await;
            attempt.signal(signal_of(signal)).await;
            tokio::select! {
                () = attempt.ended() => {}
                () = clock.sleep(kill_after) => attempt.signal(Signal::KILL).await,
            }
        });
    }

    async fn kill(&self, attempt: &AttemptId) {
        let Some(attempt) = self.find_living(attempt) else { return };
        self.spawn(async move { attempt.signal(Signal::KILL).await });
    }

    async fn find(&self) -> Vec<Found> {
        let runs = self.runs.clone();
        tokio::task::spawn_blocking(move || scan(&runs)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot look for earlier attempts");
            Vec::new()
        })
    }

    async fn adopt(&self, attempt: &AttemptId, reports: Reports) {
        match self.register(attempt, self.runs.join(attempt.path()), &reports) {
            Ok(attempt) => self.watch(attempt, Shim::Other),
            Err(living) => living.redirect(reports),
        }
    }

    async fn forget(&self, attempt: &AttemptId) {
        let folder = self.runs.join(attempt.path());
        if !folder.is_dir() {
            return;
        }
        if let Err(error) = fs::write(folder.join(folder::DONE), b"") {
            tracing::warn!(%attempt, %error, "cannot mark an attempt as done; it will be found again");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.closed.cancel();
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
