//! What a person can do about a step that ended badly, as a value: pages, tables and mails put it into words.

use serde::{Deserialize, Serialize};

use super::dag::{Step, StopSignal};
use super::message::Message;
use super::run::{Ending, Exit, StepRun, StepState, StopCause};
use super::said;

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Advice {
    /// It took too long.
    MoreTime {
        /// The signal that it did not heed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deaf_to: Option<StopSignal>,
    },
    /// It was not ready in time.
    MoreTimeToBeReady,
    /// It ran out of memory.
    MoreMemory,
    /// Somebody killed it.
    SeeWhoKilledIt,
    /// Somebody sent it a signal.
    SeeWhoStoppedIt,
    /// It ended with a code that looks like a signal's.
    SeeWhatWasKilled {
        /// The signal.
        signal: i32,
    },
    /// Its output says more.
    SeeOutput,
}

/// What to do about the last end of a step; `None` while there is nothing to be done, or when its reason says
/// what.
pub fn advice(step: &Step, run: &StepRun) -> Option<Advice> {
    if !matches!(run.state, StepState::Failed | StepState::Waiting) {
        return None;
    }
    let last = run.history.last()?;
    match last.ending {
        Ending::Asked(StopCause::TimedOut) => {
            Some(Advice::MoreTime { deaf_to: run.killed.then_some(step.stop.signal) })
        }
        Ending::Asked(StopCause::NotReady) => Some(Advice::MoreTimeToBeReady),
        Ending::Asked(StopCause::Cleared | StopCause::MarkedSucceeded | StopCause::MarkedFailed) => None,
        Ending::Itself | Ending::Asked(StopCause::Closed) => of_exit(&last.exit, run.killed),
        // Who sent a signal is not known then.
        Ending::Unknown if matches!(last.exit, Exit::Signal(_)) => Some(Advice::SeeOutput),
        Ending::Unknown => of_exit(&last.exit, run.killed),
    }
}

fn of_exit(exit: &Exit, killed: bool) -> Option<Advice> {
    match exit {
        Exit::Code(0) | Exit::NotStarted(_) | Exit::Lost(_) => None,
        Exit::OutOfMemory => Some(Advice::MoreMemory),
        Exit::Signal(9) if !killed => Some(Advice::SeeWhoKilledIt),
        Exit::Signal(_) => Some(Advice::SeeWhoStoppedIt),
        Exit::Code(_) => {
            Some(exit.like_signal().map_or(Advice::SeeOutput, |signal| Advice::SeeWhatWasKilled { signal }))
        }
    }
}

impl Advice {
    /// What is said of it.
    pub fn message(self) -> Message {
        match self {
            Self::MoreTime { deaf_to: None } => {
                said!("see in its output what it waits for; give it more time (timeout:)")
            }
            Self::MoreTime { deaf_to: Some(signal) } => {
                said!(
                    "see in its output what it waits for; give it more time (timeout:), and let it end on {}",
                    signal.name()
                )
            }
            Self::MoreTimeToBeReady => {
                said!("see in its output what it waits for; give it more time ({})", "ready: { within: … }")
            }
            Self::MoreMemory => said!(
                "let it hold less at once, or give its container more memory ({} of the step; {} in the configuration is the limit of those that say nothing)",
                "container: { memory: … }",
                "docker.memory_bytes"
            ),
            Self::SeeWhoKilledIt => said!(
                "openbell did not kill it, unless its output says that its deadline passed while no daemon was there: somebody else did, or the machine ran out of memory (its kernel log says so)"
            ),
            Self::SeeWhoStoppedIt => said!(
                "openbell did not send it, unless its output says that its deadline passed while no daemon was there: see what else did"
            ),
            Self::SeeWhatWasKilled { signal } => said!(
                "see the end of its output: {0} looks like signal {1} ({2} + {1}), so what it started may have been killed",
                Exit::code_of_signal(signal).to_string(),
                signal.to_string(),
                Exit::code_of_signal(0).to_string()
            ),
            Self::SeeOutput => said!("see the end of its output"),
        }
    }
}

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.message().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::{StepKind, fixtures};
    use crate::run::AttemptRecord;
    use jiff::Timestamp;

    fn ended(state: StepState, exit: Exit, ending: Ending, killed: bool) -> StepRun {
        let mut run = StepRun::new(Timestamp::UNIX_EPOCH);
        (run.state, run.killed) = (state, killed);
        let at = Timestamp::UNIX_EPOCH;
        run.history.push(AttemptRecord { attempt: 1, started_at: at, ended_at: at, exit, ending });
        run
    }

    #[test]
    fn each_bad_end_has_its_remedy() {
        let step = fixtures::step("load", StepKind::Task, &[]);
        let asked = Ending::Asked;
        for (exit, ending, killed, found, words) in [
            (
                Exit::Signal(9),
                asked(StopCause::TimedOut),
                true,
                Advice::MoreTime { deaf_to: Some(StopSignal::Term) },
                "see in its output what it waits for; give it more time (timeout:), and let it end on SIGTERM",
            ),
            (
                Exit::Code(0),
                asked(StopCause::TimedOut),
                false,
                Advice::MoreTime { deaf_to: None },
                "see in its output what it waits for; give it more time (timeout:)",
            ),
            (
                Exit::Signal(15),
                asked(StopCause::NotReady),
                false,
                Advice::MoreTimeToBeReady,
                "see in its output what it waits for; give it more time (ready: { within: … })",
            ),
            (
                Exit::OutOfMemory,
                Ending::Itself,
                false,
                Advice::MoreMemory,
                "let it hold less at once, or give its container more memory (container: { memory: … } of the step; docker.memory_bytes in the \
                 configuration is the limit of those that say nothing)",
            ),
            (
                Exit::Signal(9),
                Ending::Itself,
                false,
                Advice::SeeWhoKilledIt,
                "openbell did not kill it, unless its output says that its deadline passed while no daemon was there: somebody else did, or the \
                 machine ran out of memory (its kernel log says so)",
            ),
            (
                Exit::Signal(11),
                asked(StopCause::Closed),
                false,
                Advice::SeeWhoStoppedIt,
                "openbell did not send it, unless its output says that its deadline passed while no daemon was there: see what else did",
            ),
            (
                Exit::Code(137),
                Ending::Itself,
                false,
                Advice::SeeWhatWasKilled { signal: 9 },
                "see the end of its output: 137 looks like signal 9 (128 + 9), so what it started may have been killed",
            ),
            (Exit::Code(3), Ending::Itself, false, Advice::SeeOutput, "see the end of its output"),
            (Exit::Signal(15), Ending::Unknown, false, Advice::SeeOutput, "see the end of its output"),
            (Exit::OutOfMemory, Ending::Unknown, false, Advice::MoreMemory, &Advice::MoreMemory.to_string()),
        ] {
            let given = advice(&step, &ended(StepState::Failed, exit.clone(), ending, killed));
            assert_eq!(
                given.map(|given| (given, given.to_string())),
                Some((found, words.to_owned())),
                "{exit} {ending:?}"
            );
        }
    }

    #[test]
    fn there_is_none_where_nothing_is_wrong_or_the_reason_has_it() {
        let step = fixtures::step("load", StepKind::Task, &[]);
        for (state, exit, ending) in [
            (StepState::Succeeded, Exit::Code(0), Ending::Itself),
            (StepState::Running, Exit::Code(1), Ending::Itself),
            (StepState::Waiting, Exit::Code(0), Ending::Itself),
            (StepState::Failed, Exit::NotStarted("no image; build it".into()), Ending::Itself),
            (StepState::Failed, Exit::Signal(15), Ending::Asked(StopCause::MarkedFailed)),
            (StepState::Stopped, Exit::Signal(15), Ending::Asked(StopCause::TimedOut)),
        ] {
            assert_eq!(advice(&step, &ended(state, exit.clone(), ending, false)), None, "{state:?} {exit}");
        }
        assert_eq!(advice(&step, &StepRun::new(Timestamp::UNIX_EPOCH)), None);
    }
}
