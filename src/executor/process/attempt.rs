//! One attempt as the daemon sees it: from its start, or from where an earlier daemon left it, to its end.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::process::Child;
use tokio::sync::watch;

use super::identity::{Identity, Pids, boot, kill_marked, mark};
use super::shim::STARTED;
use domain::ids::AttemptId;
use domain::run::Exit;
use crate::folder;
use crate::follow::{Follower, READY_LOOK};
use crate::{News, Report, Reports};

/// Real time between looks for a `pid` file. Only needed when a daemon died within the milliseconds in which a program starts.
const PID_LOOK: Duration = Duration::from_millis(2);
/// Real time a killed program of a dead shim gets to vanish.
const VANISH: Duration = Duration::from_secs(5);

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its program was not seen yet.
    Starting,
    /// Its program was started.
    Running(Identity),
    /// Its last report is out.
    Ended,
}

/// Who watches the shim.
pub(super) enum Shim {
    /// It is a child of this process, which must take its status.
    Own(Box<Child>),
    /// It was started by an earlier daemon, or has ended.
    Other,
}

/// An attempt that is being watched.
pub(super) struct Attempt {
    id: AttemptId,
    folder: PathBuf,
    phase: watch::Sender<Phase>,
    reports: Mutex<Reports>,
}

impl Attempt {
    pub(super) fn new(id: AttemptId, folder: PathBuf, reports: Reports) -> Self {
        Self { id, folder, phase: watch::Sender::new(Phase::Starting), reports: Mutex::new(reports) }
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.phase.borrow() == Phase::Ended
    }

    pub(super) fn id(&self) -> &AttemptId {
        &self.id
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sends later reports elsewhere, beginning with its start if that has been seen.
    pub(super) fn redirect(&self, reports: Reports) {
        *self.reports.lock().unwrap_or_else(PoisonError::into_inner) = reports;
        if matches!(*self.phase.borrow(), Phase::Running(_)) {
            self.report(News::Started);
        }
    }

    fn report(&self, news: News) {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.send(Report { attempt: self.id.clone(), news }).is_err() {
            tracing::debug!(attempt = %self.id, "nobody listens to an attempt's reports");
        }
    }

    /// Signals the program's group, as soon as there is one.
    pub(super) async fn signal(&self, signal: Signal) {
        let mut phase = self.phase.subscribe();
        // The sender lives in self, so the wait cannot fail.
        if let Ok(phase) = phase.wait_for(|phase| *phase != Phase::Starting).await
            && let Phase::Running(program) = *phase
        {
            program.signal_group(signal);
        }
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) {
        // The sender lives in self, so the wait cannot fail.
        self.phase.subscribe().wait_for(|phase| *phase == Phase::Ended).await.map(drop).unwrap_or_default();
    }

    /// Watches to the end and reports on the way.
    pub(super) async fn watch(&self, shim: Shim) {
        let mut follower = Follower::new(self.folder.clone());
        let report = |status| self.report(News::Status(status));
        let shim_end = match shim {
            Shim::Own(mut child) => {
                self.hear_start(&mut child).await;
                tokio::select! {
                    end = child.wait() => end.map_or_else(|error| error.to_string(), |end| end.to_string()),
                    () = follower.follow(report) => unreachable_end(),
                }
            }
            Shim::Other => {
                tokio::select! {
                    () = self.other_end() => String::new(),
                    () = follower.follow(report) => unreachable_end(),
                }
            }
        };
        follower.look(report);
        let (exit, result) = self.outcome(&shim_end).await;
        self.phase.send_replace(Phase::Ended);
        self.report(News::Exited { exit, result });
    }

    /// Reads the shim's word that the program was started; at the end of the pipe, there was none or the shim has ended.
    async fn hear_start(&self, shim: &mut Child) {
        let mut word = [0; STARTED.len()];
        if let Some(mut pipe) = shim.stdout.take()
            && let Err(error) = pipe.read_exact(&mut word).await
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            tracing::warn!(attempt = %self.id, %error, "cannot hear from a shim");
        }
        match read_pids(&self.folder) {
            Some(Pids { child: Some(program), .. }) => self.started(program),
            _ => tracing::debug!(attempt = %self.id, "the program was not started"),
        }
    }

    fn started(&self, program: Identity) {
        self.phase.send_replace(Phase::Running(program));
        self.report(News::Started);
    }

    /// Waits for the end of a shim that is not this process's child.
    async fn other_end(&self) {
        let pids = loop {
            match read_pids(&self.folder) {
                Some(pids) => break pids,
                None if !is_locked(&self.folder) => return,
                None => tokio::time::sleep(PID_LOOK).await,
            }
        };
        if let Some(program) = pids.child {
            self.started(program);
        }
        let Some(pidfd) = pids.shim.open() else { return };
        #[expect(
            deprecated,
            reason = "an OwnedFd stays open and stays the same, which is what its successor wants promised in unsafe code"
        )]
        let watched = AsyncFd::with_interest(pidfd, Interest::READABLE);
        match watched {
            Ok(pidfd) => match pidfd.readable().await {
                Ok(_) => return,
                Err(error) => tracing::warn!(attempt = %self.id, %error, "cannot watch a shim by its descriptor"),
            },
            Err(error) => tracing::warn!(attempt = %self.id, %error, "cannot watch a shim by its descriptor"),
        }
        // Out of descriptors, most likely. Looking now and then is slower, but the end is not missed.
        while pids.shim.is_alive() {
            tokio::time::sleep(READY_LOOK).await;
        }
    }

    async fn outcome(&self, shim_end: &str) -> (Exit, Option<Value>) {
        if let Some(ended) = folder::read_end(&self.folder) {
            return ended;
        }
        // Looked at until nothing is left: the next attempt must not run beside what remains of this one.
        let vanished = async {
            while kill_leftovers(&self.folder) > 0 {
                tokio::time::sleep(PID_LOOK).await;
            }
        };
        if tokio::time::timeout(VANISH, vanished).await.is_err() {
            tracing::error!(attempt = %self.id, "killed processes of a lost attempt do not end");
        }
        (Exit::Lost(lost_text(shim_end)), None)
    }
}

/// Kills what the dead shim of `folder` left running, and says how many processes of it there still were.
pub(super) fn kill_leftovers(folder: &Path) -> usize {
    if let Some(program) = read_pids(folder).and_then(|pids| pids.child) {
        program.signal_group(Signal::KILL);
    }
    kill_marked(&mark(folder))
}

/// The status loop does not end; if it did, an empty text would be as good as any.
fn unreachable_end() -> String {
    String::new()
}

pub(super) fn lost_text(shim_end: &str) -> String {
    match shim_end {
        "" => "its shim vanished without recording an exit (killed, or the machine went down)".into(),
        end => format!("its shim ended without recording an exit ({end}); see {} in its folder", folder::SHIM_LOG),
    }
}

/// The processes of the attempt in `folder`, if they are of this boot of the machine.
pub(super) fn read_pids(folder: &Path) -> Option<Pids> {
    folder::read_or_warn::<Pids>(&folder.join(folder::PID)).filter(|pids| pids.boot == boot())
}

/// To look whether a lock is held is to hold it for a moment; of this process, one at a time looks or takes.
static LOOKING: Mutex<()> = Mutex::new(());

/// Whether a shim lives in `folder`.
pub(super) fn is_locked(folder: &Path) -> bool {
    let _one = LOOKING.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(lock) = File::open(folder.join(folder::LOCK)) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Takes the lock of `folder` for a shim to inherit; `None` if a shim lives there.
pub(super) fn take_lock(folder: &Path) -> io::Result<Option<Stdio>> {
    let _one = LOOKING.lock().unwrap_or_else(PoisonError::into_inner);
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join(folder::LOCK))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock.into())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
