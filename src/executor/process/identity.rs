//! Telling a process from a later one with the same number.

use std::fs;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

/// A process for good: number, start time, and the boot of the machine it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Process number.
    pub(super) pid: i32,
    /// Clock ticks between boot and its start (field 22 of `/proc/PID/stat`, proc(5)).
    started: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    boot: String,
}

/// What the shim writes into `pid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PidFile {
    /// The shim.
    pub(super) shim: Identity,
    /// The program, leader of its own process group; `None` while it is not started yet.
    pub(super) child: Option<Identity>,
}

impl Identity {
    /// The living process with this number.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let (_, started) = stat(pid)?;
        Some(Self { pid, started, boot: boot() })
    }

    /// Whether it still runs. A zombie does not.
    pub(super) fn is_alive(&self) -> bool {
        self.boot == boot()
            && stat(self.pid).is_some_and(|(state, started)| started == self.started && state != 'Z' && state != 'X')
    }

    /// Whether its number still belongs to it, as a running process or as a zombie.
    fn holds_its_number(&self) -> bool {
        self.boot == boot() && stat(self.pid).is_some_and(|(_, started)| started == self.started)
    }

    /// Signals the process group it leads. Gives whether there was one.
    pub(super) fn signal_group(&self, signal: Signal) -> bool {
        if !self.holds_its_number() {
            return false;
        }
        match Pid::from_raw(self.pid).map(|pid| kill_process_group(pid, signal)) {
            Some(Ok(())) => true,
            Some(Err(rustix::io::Errno::SRCH)) | None => false,
            Some(Err(error)) => {
                tracing::warn!(pid = self.pid, %error, "the process group cannot be signalled");
                false
            }
        }
    }
}

fn boot() -> String {
    static BOOT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    BOOT.get_or_init(|| fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()).clone()
}

/// State letter and start time.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text)
}

/// The command's name may hold spaces and brackets; it ends at the last one.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Field 3 is the state, field 22 the start time.
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_command_names_are_read() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        assert_eq!(parse_stat(text), Some(('S', 98765)));
        assert_eq!(parse_stat("42 (a) S 1"), None);
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let own = Identity::of(i32::try_from(std::process::id()).expect("fits")).expect("this process");
        assert!(own.is_alive());
        assert!(!Identity { started: own.started + 1, ..own.clone() }.is_alive());
        assert!(!Identity { boot: "another".into(), ..own }.is_alive());
    }
}
