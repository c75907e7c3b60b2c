//! Watching one attempt: its status while it runs, its end without polling.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;

use super::identity::PidFile;
use crate::domain::ids::AttemptId;
use crate::domain::run::Exit;
use crate::executor::folder::Folder;
use crate::executor::{News, Report, Reports, Status};

/// What tells that the shim ended.
pub(super) enum End {
    /// A child of this process.
    Own(Child),
    /// A process that an earlier life of the daemon started.
    Adopted(AsyncFd<OwnedFd>),
    /// It ended before anybody looked.
    Already,
}

impl End {
    /// Opens a handle on a shim that is not our child.
    pub(super) fn adopt(pids: &PidFile) -> Self {
        let fd = Pid::from_raw(pids.shim.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // Looked at after the handle is open: if the number is still the shim's now, the handle is the shim's too.
        match fd {
            #[expect(deprecated, reason = "its replacement is unsafe; an owned descriptor keeps the promise that it asks for")]
            Some(fd) if pids.shim.is_alive() => match AsyncFd::with_interest(fd, Interest::READABLE) {
                Ok(fd) => Self::Adopted(fd),
                Err(error) => {
                    tracing::error!(%error, pid = pids.shim.pid, "the end of this process cannot be watched");
                    Self::Already
                }
            },
            _ => Self::Already,
        }
    }

    async fn wait(&mut self) {
        match self {
            Self::Own(child) => {
                // How the shim itself ended does not matter: it has written the exit, or it has not.
                if let Err(error) = child.wait().await {
                    tracing::error!(%error, "a shim cannot be waited for");
                }
            }
            Self::Adopted(fd) => {
                if let Err(error) = fd.readable().await {
                    tracing::error!(%error, "a process handle cannot be waited for");
                }
            }
            Self::Already => {}
        }
    }
}

/// Reports until the end, which is the last report.
pub(super) async fn watch(attempt: AttemptId, folder: Folder, mut end: End, reports: Reports) {
    let mut seen = Seen::default();
    let send = |news: News| {
        if reports.send(Report { attempt: attempt.clone(), news }).is_err() {
            tracing::debug!(%attempt, "nobody listens to this attempt any more");
        }
    };
    loop {
        if let Some(status) = seen.look(&folder) {
            send(News::Status(status));
        }
        // The limit is in real time: files do not get slower when the clock does.
        let pause = if seen.status.ready { Duration::from_millis(100) } else { Duration::from_millis(20) };
        if tokio::time::timeout(pause, end.wait()).await.is_ok() {
            break;
        }
    }
    if let Some(status) = seen.look(&folder) {
        send(News::Status(status));
    }
    let (exit, result) = ended(&folder);
    send(News::Exited { exit, result });
}

/// How an attempt whose shim is gone ended. A program that outlived its shim is killed: nobody could tell its exit any more.
pub(super) fn ended(folder: &Folder) -> (Exit, Option<serde_json::Value>) {
    if let Some(file) = folder.exit() {
        return (file.exit, folder.result());
    }
    let child = folder.read::<PidFile>("pid").and_then(|pids| pids.child);
    let lived = child.is_some_and(|child| child.signal_group(Signal::KILL));
    let why = if lived { "its shim died, so it was killed" } else { "it and its shim are gone" };
    (Exit::Lost(why.into()), None)
}

/// The newest status seen, and by what it is told from the next.
#[derive(Default)]
struct Seen {
    file: Option<(u64, i64, i64)>,
    status: Status,
}

impl Seen {
    fn look(&mut self, folder: &Folder) -> Option<Status> {
        let metadata = std::fs::metadata(folder.file("status.json")).ok()?;
        let file = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
        if self.file == Some(file) {
            return None;
        }
        self.file = Some(file);
        let status: Status = folder.read("status.json")?;
        if status == self.status {
            return None;
        }
        self.status = status.clone();
        Some(status)
    }
}
