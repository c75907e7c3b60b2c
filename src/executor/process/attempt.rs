//! One attempt as the daemon sees it: from its start, or from where an earlier daemon left it, to its end.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::process::Child;

use super::identity::{Identity, Pids, boot, kill_marked, mark};
use super::shim::STARTED;
use crate::News;
use crate::attempts::{Attempt, Phase};
use crate::folder;
use crate::follow::{self, Follower};
use domain::run::Exit;

/// Real time between reads of a `pid` file. Only needed when a daemon died within the milliseconds in which a
/// program starts.
const PID_LOOK: Duration = Duration::from_millis(2);
/// Real time a killed program of a dead shim gets to vanish.
const VANISH: Duration = Duration::from_secs(5);

/// The program that an attempt is, once it was started.
pub(super) type Program = OnceLock<Identity>;

/// Who watches the shim.
pub(super) enum Shim {
    /// It is a child of this process, which must take its status.
    Own(Box<Child>),
    /// It was started by an earlier daemon, or has ended.
    Other,
}

impl Attempt<Program> {
    /// Signals the program's group, as soon as there is one.
    pub(super) async fn signal(&self, signal: Signal) {
        if self.until(|phase| phase != Phase::Starting).await == Phase::Running
            && let Some(program) = self.detail.get()
        {
            program.signal_group(signal);
        }
    }

    /// Watches to the end and reports on the way: how it ended, and what it returned.
    pub(super) async fn watch(&self, mut shim: Shim) -> (Exit, Option<Value>) {
        let mut follower = Follower::default();
        let read = || folder::read_status(&self.folder);
        let tell = |status| self.report(News::Status(status));
        if let Shim::Own(child) = &mut shim {
            self.hear_start(child).await;
        }
        let end = async {
            match &mut shim {
                Shim::Own(child) => {
                    child.wait().await.map_or_else(|error| error.to_string(), |end| end.to_string())
                }
                Shim::Other => {
                    self.other_end().await;
                    String::new()
                }
            }
        };
        let shim_end = tokio::select! {
            end = end => end,
            never = follower.follow(read, tell) => match never {},
        };
        follower.check(read(), tell);
        self.outcome(&shim_end).await
    }

    /// Reads the shim's word that the program was started; at the end of the pipe, there was none or the shim
    /// has ended.
    async fn hear_start(&self, shim: &mut Child) {
        let mut word = [0; STARTED.len()];
        if let Some(mut pipe) = shim.stdout.take()
            && let Err(error) = pipe.read_exact(&mut word).await
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            tracing::warn!(attempt = %self.id, %error, "cannot hear from a shim");
        }
        match read_pids(&self.folder) {
            Some(Pids { child: Some(program), .. }) => self.runs(program),
            _ => tracing::debug!(attempt = %self.id, "the program was not started"),
        }
    }

    fn runs(&self, program: Identity) {
        self.detail.get_or_init(|| program);
        self.started();
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
            self.runs(program);
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
                Err(error) => {
                    tracing::warn!(attempt = %self.id, %error, "cannot watch a shim by its descriptor")
                }
            },
            Err(error) => tracing::warn!(attempt = %self.id, %error, "cannot watch a shim by its descriptor"),
        }
        // Out of descriptors, most likely. Looking now and then is slower, but the end is not missed.
        while pids.shim.is_alive() {
            tokio::time::sleep(follow::READY).await;
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

pub(super) fn lost_text(shim_end: &str) -> String {
    match shim_end {
        "" => "its shim vanished without recording an exit (killed, or the machine went down)".into(),
        end => format!(
            "its shim ended without recording an exit ({end}); see {} in its folder",
            folder::SHIM_LOG
        ),
    }
}

/// The processes of the attempt in `folder`, if they are of this boot of the machine.
pub(super) fn read_pids(folder: &Path) -> Option<Pids> {
    folder::read_or_warn::<Pids>(&folder.join(folder::PID)).filter(|pids| pids.boot == boot())
}

/// To try whether a lock is held is to hold it for a moment; of this process, one at a time tries or takes.
static TRYING: Mutex<()> = Mutex::new(());

/// Whether a shim lives in `folder`.
pub(super) fn is_locked(folder: &Path) -> bool {
    let _one = TRYING.lock();
    let Ok(lock) = File::open(folder.join(folder::LOCK)) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Takes the lock of `folder` for a shim to inherit; `None` if a shim lives there.
pub(super) fn take_lock(folder: &Path) -> io::Result<Option<Stdio>> {
    let _one = TRYING.lock();
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join(folder::LOCK))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock.into())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
