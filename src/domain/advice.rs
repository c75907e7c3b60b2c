//! What a person can do about a step that ended badly: one wording for pages, tables and mails.

use super::dag::Step;
use super::run::{Exit, StepRun, StepState};

/// How the reason of an attempt that took too long begins.
pub const TIMED_OUT: &str = "timed out after";
/// Exit codes above this are read as signals by most people and programs.
pub const SIGNALS: i32 = 128;

/// What to do about the last end of a step; `None` while there is nothing to be done, or when its reason says what.
pub fn advice(step: &Step, run: &StepRun) -> Option<String> {
    if !matches!(run.state, StepState::Failed | StepState::Waiting) {
        return None;
    }
    let exit = &run.history.last()?.exit;
    if run.reason.as_deref().is_some_and(|reason| reason.contains(TIMED_OUT)) {
        let ends = if run.killed { format!(", and let it end on {}", step.stop.signal.name()) } else { String::new() };
        return Some(format!("see in its output what it waits for; give it more time (timeout:){ends}"));
    }
    let told = match exit {
        Exit::Code(0) | Exit::NotStarted(_) | Exit::Lost(_) => return None,
        Exit::OutOfMemory => "let it hold less at once, or give its container more memory (container: { memory: … } of the step; docker.memory_bytes in the configuration is the limit of those that say nothing)".to_owned(),
        Exit::Signal(9) if !run.killed => {
            "openbell did not kill it, unless its output says that its deadline passed while no daemon was there: somebody else did, or the \
             machine ran out of memory (its kernel log says so)"
                .to_owned()
        }
        Exit::Signal(_) => "openbell did not send it, unless its output says that its deadline passed while no daemon was there: see what else did".to_owned(),
        Exit::Code(code) if *code > SIGNALS => {
            let signal = code - SIGNALS;
            format!(
                "see the end of its output: {code} looks like signal {signal} ({SIGNALS} + {signal}), so what it started may have been killed"
            )
        }
        Exit::Code(_) => "see the end of its output".to_owned(),
    };
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::{StepKind, fixtures};
    use crate::run::AttemptRecord;
    use jiff::Timestamp;

    fn ended(state: StepState, exit: Exit, reason: &str) -> StepRun {
        let mut run = StepRun::new(Timestamp::UNIX_EPOCH);
        (run.state, run.reason, run.killed) = (state, Some(reason.to_owned()), reason.contains("was killed"));
        let at = Timestamp::UNIX_EPOCH;
        run.history.push(AttemptRecord { attempt: 1, started_at: at, ended_at: at, exit });
        run
    }

    #[test]
    fn each_bad_end_has_its_remedy() {
        let step = fixtures::step("load", StepKind::Task, &[]);
        for (exit, reason, words) in [
            (Exit::Signal(9), "timed out after 4s, ignored SIGTERM for 1s, and was killed", vec!["timeout:", "SIGTERM"]),
            (Exit::Code(0), "timed out after 4s (exit code 0)", vec!["timeout:"]),
            (Exit::OutOfMemory, "out of memory", vec!["more memory"]),
            (Exit::Signal(9), "killed (signal 9)", vec!["openbell did not kill it"]),
            (Exit::Code(137), "exit code 137", vec!["128 + 9", "output"]),
            (Exit::Code(3), "exit code 3", vec!["output"]),
        ] {
            let said = advice(&step, &ended(StepState::Failed, exit, reason)).expect(reason);
            assert!(words.iter().all(|word| said.contains(word)), "{reason}: {said}");
        }
    }

    #[test]
    fn there_is_none_where_nothing_is_wrong_or_the_reason_has_it() {
        let step = fixtures::step("load", StepKind::Task, &[]);
        for (state, exit) in [
            (StepState::Succeeded, Exit::Code(0)),
            (StepState::Running, Exit::Code(1)),
            (StepState::Waiting, Exit::Code(0)),
            (StepState::Failed, Exit::NotStarted("no image; build it".into())),
        ] {
            assert_eq!(advice(&step, &ended(state, exit.clone(), "x")), None, "{state:?} {exit}");
        }
        assert_eq!(advice(&step, &StepRun::new(Timestamp::UNIX_EPOCH)), None);
    }
}
