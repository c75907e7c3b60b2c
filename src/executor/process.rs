//! Attempts as local processes, each behind a [`shim`] of its own.
//!
//! The daemon may die and come back: the shim waits for the program's end and writes it down, and the new daemon finds it by
//! the attempt's folder. A shim and its program are told from later processes with the same numbers by their start times.

mod identity;
pub mod shim;
mod watch;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::identity::PidFile;
use self::watch::{End, ended, watch};
use super::folder::{self, Folder};
use super::{AttemptSpec, Executor, Found, News, Report, Reports, StartError};
use crate::clock::Clock;
use crate::domain::dag::{ExecutorKind, StopSignal};
use crate::domain::ids::AttemptId;
use crate::domain::run::Exit;

/// Names the virtual clock's file to the shim; without it the system clock counts.
pub const CLOCK_VARIABLE: &str = "OPENBELL_CLOCK";

/// A shim that has not said within this real time that its program runs is not going to.
const START_LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn signal_of(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
    }
}

/// Runs attempts as local processes.
pub struct Process {
    clock: Clock,
    runs: PathBuf,
    environment: Vec<(String, String)>,
    program: io::Result<PathBuf>,
    live: Live,
    /// Ends the watching (not the attempts) with this object.
    watching: CancellationToken,
    _guard: DropGuard,
}

/// Attempts that are watched, each with a token that ends with it.
type Live = Arc<Mutex<HashMap<AttemptId, (Folder, CancellationToken)>>>;

fn lock(live: &Live) -> MutexGuard<'_, HashMap<AttemptId, (Folder, CancellationToken)>> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    /// Attempts live in `runs`, the daemon's folder `runs/{run}/{step}/{attempt}` (absolute); `environment` is added to theirs.
    pub fn new(clock: Clock, runs: PathBuf, environment: Vec<(String, String)>) -> Self {
        let watching = CancellationToken::new();
        let guard = watching.clone().drop_guard();
        // Asked now: after an upgrade in place the running binary has no name any more.
        let program = std::env::current_exe();
        Self { clock, runs, environment, program, live: Live::default(), watching, _guard: guard }
    }

    /// Uses this openbell binary instead of the running one.
    #[must_use]
    pub fn with_program(mut self, program: PathBuf) -> Self {
        self.program = Ok(program);
        self
    }

    fn folder(&self, attempt: &AttemptId) -> Folder {
        let known = lock(&self.live).get(attempt).map(|(folder, _)| folder.clone());
        known.unwrap_or_else(|| Folder::new(self.runs.join(attempt.path())))
    }

    /// Takes the attempt's place among the living; `None` when it is taken.
    fn register(&self, attempt: &AttemptId, folder: &Folder) -> Option<CancellationToken> {
        let mut live = lock(&self.live);
        if live.contains_key(attempt) {
            return None;
        }
        let over = CancellationToken::new();
        live.insert(attempt.clone(), (folder.clone(), over.clone()));
        Some(over)
    }

    fn watch(&self, attempt: AttemptId, folder: Folder, end: End, over: CancellationToken, reports: Reports) {
        let (live, watching) = (Arc::clone(&self.live), self.watching.clone());
        tokio::spawn(async move {
            let watched = watching.run_until_cancelled(watch(attempt.clone(), folder, end, reports)).await;
            lock(&live).remove(&attempt);
            if watched.is_some() {
                over.cancel();
            }
        });
    }

    fn spawn(&self, folder: &Folder) -> io::Result<Child> {
        let program = self.program.as_ref().map_err(|e| io::Error::new(e.kind(), format!("the openbell binary: {e}")))?;
        let mut command = Command::new(program);
        command.arg("shim").arg("--folder").arg(folder.path()).envs(self.environment.iter().map(|(k, v)| (k, v)));
        match self.clock.file() {
            Some(file) => command.env(CLOCK_VARIABLE, file),
            None => command.env_remove(CLOCK_VARIABLE),
        };
        // A group of its own: a Ctrl-C in the daemon's terminal is not meant for the steps. Everything else the daemon has open is
        // closed on exec, as the standard library opens files and sockets.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(folder.output()?).process_group(0).kill_on_drop(false);
        command.spawn().map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", program.display())))
    }

    /// Starts the shim and hears from it.
    async fn launch(&self, spec: &AttemptSpec, folder: &Folder) -> Result<End, StartError> {
        let fail = |reason: String, remedy: &str| StartError {
            attempt: spec.id.to_string(),
            reason,
            remedy: remedy.into(),
            infrastructure: true,
        };
        let remedy = "check the data folder's disk and permissions";
        let write = tokio::task::spawn_blocking({
            let (folder, spec) = (folder.clone(), spec.clone());
            move || folder.create(&spec)
        });
        let written = write.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        written.map_err(|e| fail(format!("{} cannot be written: {e}", folder.path().display()), remedy))?;
        let mut child =
            self.spawn(folder).map_err(|e| fail(e.to_string(), "check the number of processes this user may have"))?;
        let word = match child.stdout.take() {
            Some(stdout) => tokio::time::timeout(START_LIMIT, BufReader::new(stdout).lines().next_line()).await,
            None => Ok(Ok(None)),
        };
        match word {
            Ok(Ok(Some(word))) if word == "started" => Ok(End::Own(child)),
            Ok(Ok(Some(word))) if word == "failed" => {
                let reason = match folder.exit().map(|file| file.exit) {
                    Some(Exit::NotStarted(reason)) => reason,
                    _ => "the shim could not start the program".into(),
                };
                self.reap(child);
                Err(StartError { attempt: spec.id.to_string(), reason, remedy: String::new(), infrastructure: false })
            }
            // It lives or has ended already: an earlier life of the daemon started it.
            Ok(Ok(Some(word))) if word == "busy" || word == "ended" => {
                self.reap(child);
                self.adopted(folder).await.ok_or_else(|| {
                    fail("another shim holds its folder and does not say who it is".into(), "look for its processes and end them")
                })
            }
            said => {
                if let Err(error) = child.start_kill() {
                    tracing::debug!(%error, "the shim was gone already");
                }
                self.reap(child);
                let said = match said {
                    Err(_) => format!("the shim said nothing within {START_LIMIT:?}"),
                    Ok(Ok(None)) => format!("the shim ended at once; {} may say why", folder.file("output.log").display()),
                    Ok(other) => format!("the shim said {other:?}"),
                };
                Err(fail(said, ""))
            }
        }
    }

    /// Waits for a child whose end has no meaning.
    fn reap(&self, mut child: Child) {
        tokio::spawn(async move {
            if let Err(error) = child.wait().await {
                tracing::debug!(%error, "a shim cannot be waited for");
            }
        });
    }

    /// A handle on the shim that runs, or ran, in this folder. It may be about to say who it is.
    async fn adopted(&self, folder: &Folder) -> Option<End> {
        let looked = tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                if folder.exit().is_some() {
                    return End::Already;
                }
                if let Some(pids) = folder.read::<PidFile>("pid")
                    && let end @ End::Adopted(_) = End::adopt(&pids)
                {
                    return end;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        looked.await.ok()
    }
}

fn child_of(folder: &Folder) -> Option<identity::Identity> {
    folder.read::<PidFile>("pid").and_then(|pids| pids.child)
}

/// Signals the program of an attempt. One that is about to be started gets a moment to come up first.
async fn signal(folder: &Folder, signal: Signal, is_starting: bool) -> bool {
    for _ in 0..400 {
        match folder.read::<PidFile>("pid") {
            Some(PidFile { child: Some(child), .. }) => return child.signal_group(signal),
            Some(PidFile { shim, .. }) if shim.is_alive() && folder.exit().is_none() => {}
            None if is_starting && folder.exit().is_none() => {}
            _ => return false,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

#[async_trait]
impl Executor for Process {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Process
    }

    async fn start(&self, spec: AttemptSpec, reports: Reports) -> Result<(), StartError> {
        let folder = Folder::new(spec.folder.clone());
        let Some(over) = self.register(&spec.id, &folder) else { return Ok(()) };
        let end = match folder.read::<PidFile>("pid").map(|pids| End::adopt(&pids)) {
            Some(end @ End::Adopted(_)) => Ok(end),
            _ if folder.exit().is_some() => Ok(End::Already),
            _ => self.launch(&spec, &folder).await,
        };
        match end {
            Ok(end) => {
                let started = Report { attempt: spec.id.clone(), news: News::Started };
                if reports.send(started).is_err() {
                    tracing::debug!(attempt = %spec.id, "nobody listens to this attempt");
                }
                self.watch(spec.id, folder, end, over, reports);
                Ok(())
            }
            Err(error) => {
                lock(&self.live).remove(&spec.id);
                over.cancel();
                Err(error)
            }
        }
    }

    async fn stop(&self, attempt: &AttemptId, asked: StopSignal, kill_after: Duration) {
        let known = lock(&self.live).get(attempt).cloned();
        let folder = self.folder(attempt);
        let clock = self.clock.clone();
        let attempt = attempt.clone();
        tokio::spawn(async move {
            if !signal(&folder, signal_of(asked), known.is_some()).await {
                return;
            }
            let over = async {
                match (&known, folder.read::<PidFile>("pid")) {
                    (Some((_, over)), _) => over.cancelled().await,
                    // Found but not watched: an orphan.
                    (None, Some(pids)) => {
                        if let End::Adopted(fd) = End::adopt(&pids)
                            && let Err(error) = fd.readable().await
                        {
                            tracing::error!(%error, "a process handle cannot be waited for");
                        }
                    }
                    (None, None) => {}
                }
            };
            tokio::select! {
                () = over => {}
                () = clock.sleep(kill_after) => {
                    tracing::warn!(%attempt, ?kill_after, "it did not stop in time and is killed");
                    if let Some(child) = child_of(&folder) {
                        child.signal_group(Signal::KILL);
                    }
                }
            }
        });
    }

    async fn kill(&self, attempt: &AttemptId) {
        let is_known = lock(&self.live).contains_key(attempt);
        signal(&self.folder(attempt), Signal::KILL, is_known).await;
    }

    async fn find(&self) -> Vec<Found> {
        let runs = self.runs.clone();
        let look = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            for (attempt, folder) in folder::all(&runs) {
                if folder.is_done() {
                    continue;
                }
                let ended_at = folder.exit();
                let pids = folder.read::<PidFile>("pid");
                let ended = match (&ended_at, &pids) {
                    (None, None) => continue,
                    (None, Some(pids)) if pids.shim.is_alive() => None,
                    _ => Some(ended(&folder)),
                };
                found.push(Found { attempt, ended, status: folder.status() });
            }
            found
        });
        look.await.unwrap_or_else(|error| {
            tracing::error!(%error, "attempts of the daemon's earlier life cannot be listed");
            Vec::new()
        })
    }

    async fn adopt(&self, attempt: &AttemptId, reports: Reports) {
        let folder = self.folder(attempt);
        let Some(over) = self.register(attempt, &folder) else { return };
        let end = folder.read::<PidFile>("pid").map_or(End::Already, |pids| End::adopt(&pids));
        self.watch(attempt.clone(), folder, end, over, reports);
    }

    async fn forget(&self, attempt: &AttemptId) {
        let folder = self.folder(attempt);
        if folder.path().exists()
            && let Err(error) = folder.set_done()
        {
            tracing::warn!(%attempt, %error, "the mark of this ended attempt cannot be written; it is looked at again after a restart");
        }
    }
}
