//! How a container ended, from what the engine says of it.

use std::path::Path;

use bollard::models::ContainerState;

use super::output;
use domain::run::Exit;

/// Exit codes above this stand for signals.
const SIGNALS: i64 = 128;
const SIGKILL: i64 = 9;

/// What the executor knows that the engine does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Known {
    /// It asked the program to stop with this signal.
    pub(crate) asked: Option<i64>,
    /// It killed the program.
    pub(crate) killed: bool,
    /// The engine was away while it ended, and the program left no result.
    pub(crate) unseen: bool,
}

/// Whether a container has come to its end.
pub(crate) fn has_ended(state: &ContainerState) -> bool {
    use bollard::models::ContainerStateStatusEnum::{DEAD, EXITED};
    matches!(state.status, Some(EXITED | DEAD))
}

/// How the container of the attempt in `folder` ended.
pub(crate) fn of(folder: &Path, state: &ContainerState, known: Known) -> Exit {
    not_executed(state, &output::tail(folder)).unwrap_or_else(|| exit_of(state, known))
}

/// What the engine's init printed, if it could not execute the program: containers of commands have it as
/// their first process, and its code is one that a program may have too. `output` is the end of the
/// container's output.
fn not_executed(state: &ContainerState, output: &str) -> Option<Exit> {
    if !matches!(state.exit_code, Some(126 | 127)) {
        return None;
    }
    let (_, said) = output.rsplit_once("[FATAL tini (")?;
    let why = said.lines().next()?.split_once("] ")?.1;
    Some(Exit::NotStarted(format!("{why}; look at command: and at the image")))
}

/// How it ended. A code above 128 is a signal's only if somebody sent that signal: a program may end with any
/// code by itself.
fn exit_of(state: &ContainerState, known: Known) -> Exit {
    let code = state.exit_code.unwrap_or(-1);
    let error = state.error.as_deref().unwrap_or_default();
    if state.oom_killed == Some(true) {
        return Exit::OutOfMemory;
    }
    if !error.is_empty()
        && state.started_at.as_deref().is_none_or(|at| at.is_empty() || at.starts_with("0001-"))
    {
        return Exit::NotStarted(error.to_owned());
    }
    let signal = code - SIGNALS;
    if (known.killed && signal == SIGKILL) || known.asked.is_some_and(|asked| asked == signal) {
        return Exit::Signal(signal as i32);
    }
    if known.unseen && code != 0 {
        return Exit::Lost(format!(
            "it ended with code {code} while the engine was away; the engine's restart ends containers"
        ));
    }
    Exit::Code(i32::try_from(code).unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(code: i64) -> ContainerState {
        ContainerState {
            status: Some(bollard::models::ContainerStateStatusEnum::EXITED),
            exit_code: Some(code),
            started_at: Some("2026-11-20T00:00:00Z".into()),
            ..ContainerState::default()
        }
    }

    #[test]
    fn a_program_that_is_not_there_was_not_started() {
        let said = "[FATAL tini (7)] exec nothing failed: No such file or directory\n";
        let why = "exec nothing failed: No such file or directory; look at command: and at the image";
        assert_eq!(not_executed(&state(127), said), Some(Exit::NotStarted(why.into())));
        assert_eq!(not_executed(&state(127), "sh: nothing: not found\n"), None, "a shell's own code");
        assert_eq!(not_executed(&state(1), said), None);
    }

    #[test]
    fn every_end_is_called_what_it_is() {
        let plain = Known::default();
        assert_eq!(exit_of(&state(0), plain), Exit::Code(0));
        assert_eq!(exit_of(&state(3), plain), Exit::Code(3));
        assert_eq!(exit_of(&state(137), plain), Exit::Code(137), "nobody sent a signal: its own code");
        assert_eq!(exit_of(&state(137), Known { killed: true, ..plain }), Exit::Signal(9));
        assert_eq!(exit_of(&state(143), Known { asked: Some(15), ..plain }), Exit::Signal(15));
        assert_eq!(exit_of(&state(137), Known { asked: Some(15), ..plain }), Exit::Code(137));
        assert_eq!(exit_of(&state(0), Known { killed: true, asked: Some(15), unseen: false }), Exit::Code(0));
        let memory = ContainerState { oom_killed: Some(true), ..state(137) };
        assert_eq!(exit_of(&memory, Known { killed: true, ..plain }), Exit::OutOfMemory);
        let never = ContainerState {
            error: Some("no such file".into()),
            started_at: Some("0001-01-01T00:00:00Z".into()),
            ..state(127)
        };
        assert_eq!(exit_of(&never, plain), Exit::NotStarted("no such file".into()));
        assert!(matches!(exit_of(&state(143), Known { unseen: true, ..plain }), Exit::Lost(_)));
        assert_eq!(exit_of(&state(0), Known { unseen: true, ..plain }), Exit::Code(0));
    }
}
