//! Which process is meant. A process id alone is used again; with the time its process started it is not.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use domain::dag::StopSignal;

/// One process of this machine since its boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id; also the id of the group it leads.
    pub pid: i32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`, proc_pid_stat(5).
    pub started: u64,
}

/// `pid`: the processes of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pids {
    /// The machine's boot id: after a restart of the machine the numbers mean nothing.
    pub boot: String,
    /// Who waits for the program.
    pub shim: Identity,
    /// The program, leader of its process group.
    pub child: Option<Identity>,
}

/// The id of this boot of the machine; empty if the machine does not tell.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// State letter and start time in the text of `/proc/PID/stat`. The command in its second field is in
/// parentheses and may hold blanks and parentheses itself, so fields are counted from the last one.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn stat(pid: i32) -> io::Result<(char, u64)> {
    let path = format!("/proc/{pid}/stat");
    parse_stat(&fs::read_to_string(&path)?).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, path))
}

impl Identity {
    /// The process that has this id now.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        Ok(Self { pid, started: stat(pid)?.1 })
    }

    /// Whether it runs. A zombie does not: it ended and only waits for its parent.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_ok_and(|(state, started)| started == self.started && !matches!(state, 'Z' | 'X'))
    }

    /// A descriptor that becomes readable when it ends; `None` if it has ended.
    pub(super) fn open(&self) -> Option<OwnedFd> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Checked after opening: the descriptor can no longer come to mean another process.
        self.is_alive().then_some(fd)
    }

    /// Signals the group it leads; fine if all of it has ended. The group may outlive its leader: its number
    /// is then not given to a new process, so only a process of that number with another start time means
    /// that the group is gone.
    pub(super) fn signal_group(&self, signal: Signal) {
        if stat(self.pid).is_ok_and(|(_, started)| started != self.started) {
            return;
        }
        let Some(group) = Pid::from_raw(self.pid) else { return };
        match kill_process_group(group, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                tracing::warn!(group = self.pid, signal = signal.as_raw(), %error, "cannot signal a process group")
            }
        }
    }
}

/// The variable that every process of an attempt inherits, unless it clears its environment.
pub(super) const FOLDER_VARIABLE: &str = "OPENBELL_FOLDER";

/// What marks the processes of the attempt in `folder`: an entry of their environment.
pub(super) fn mark(folder: &Path) -> Vec<u8> {
    [FOLDER_VARIABLE.as_bytes(), b"=", folder.as_os_str().as_bytes()].concat()
}

/// Kills every process that was started with this entry in its environment, and says how many there were. It
/// also finds those that left their group, and the program of a shim that died before it could write down who
/// runs.
pub(super) fn kill_marked(mark: &[u8]) -> usize {
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| kill_if_marked(*pid, mark)).count()
}

fn kill_if_marked(pid: i32, mark: &[u8]) -> bool {
    let Some(Ok(pidfd)) = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return false;
    };
    // Read after opening the descriptor, so that the process read about is the one signalled. A zombie has
    // none, and those of other users cannot be read.
    let is_marked = fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|all| all.split(|byte| *byte == 0).any(|e| e == mark));
    if is_marked && let Err(error) = pidfd_send_signal(pidfd, Signal::KILL) {
        // It ended in this moment; the next look does not find it.
        tracing::debug!(pid, %error, "cannot kill a leftover process");
    }
    is_marked
}

/// The signal of a stop policy.
pub(super) fn signal_of(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_odd_command_names() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1000 10 1844 1";
        assert_eq!(parse_stat(text), Some(('S', 987_654)));
        assert_eq!(parse_stat("42 (short) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let me = Identity::of(std::process::id()).expect("this process");
        assert!(me.is_alive() && me.open().is_some());
        let before = Identity { started: me.started.wrapping_sub(1), ..me };
        assert!(!before.is_alive() && before.open().is_none());
        // Would end this test if it were sent.
        before.signal_group(Signal::KILL);
    }
}
