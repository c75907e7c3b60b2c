//! Exit codes, documented in `openbell --help`.

use std::fmt;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: fine.
    Fine,
    /// 1: the command ran and found a fault (a bad line, a broken DAG file, a day that does not reconcile).
    Fault,
    /// 2: the command line was wrong.
    Usage,
    /// 3: a file, port or server it needs is not usable.
    Unusable,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Fault => 1,
            Self::Usage => 2,
            Self::Unusable => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A command that could not do its work: the message names the input, the place and the remedy.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// For people.
    pub message: String,
}

impl Failure {
    /// A file, port or server is not usable.
    pub fn unusable(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Unusable, message: message.to_string() }
    }
    /// The command line was wrong.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string() }
    }
    /// The command found a fault.
    pub fn fault(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Fault, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Result of a command.
pub type Result = std::result::Result<Exit, Failure>;
