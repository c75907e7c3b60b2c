//! The end of an attempt: what it means for the step, and what comes next.

use super::machine::Transition;
use super::readiness::took_too_long;
use domain::dag::{AlertKind, Program, Restart, RestartPolicy, Step, StepKind, StopSignal};
use domain::retry::{Backoff, hash};
use domain::run::{AttemptRecord, Ending, Exit, RunState, StepRun, StepState, StopCause};

/// A task or teardown that was lost this often in one run has failed: something takes the machine down with
/// it.
const MOST_LOSSES: u32 = 20;
/// An orderly stop that was cut short this often is given up.
const MOST_RESUMED_STOPS: u32 = 5;
/// Characters of a step's error that are told.
const MOST_TOLD: usize = 200;

impl Transition<'_> {
    /// The current attempt of `step` ended.
    pub(super) fn exited(&mut self, step: &Step, exit: &Exit, result: Option<&serde_json::Value>) {
        let at = self.at;
        let run = self.of(step);
        let cause = run.stop_cause.take();
        let record = AttemptRecord {
            attempt: run.attempt,
            started_at: run.attempt_started_at.unwrap_or(at),
            ended_at: at,
            exit: exit.clone(),
            ending: cause.map_or(Ending::Itself, Ending::Asked),
        };
        run.history.push(record);
        let surplus = run.history.len().saturating_sub(StepRun::KEPT_ATTEMPTS);
        run.history.drain(..surplus);
        if result.is_some() {
            run.result = result.cloned();
        }
        let asked_at = run.stop_requested_at;
        match cause {
            Some(StopCause::Cleared) if self.state == RunState::Running => self.reset(step, "cleared".into()),
            Some(StopCause::MarkedSucceeded) => {
                self.enter(step, StepState::Succeeded, Some("marked succeeded".into()));
                if self.state == RunState::Running {
                    self.wait_again_below(step);
                }
            }
            Some(StopCause::MarkedFailed) => {
                self.enter(step, StepState::Failed, Some("marked failed".into()))
            }
            Some(StopCause::TimedOut) => {
                let why = self.timed_out(step, exit, asked_at);
                match step.kind {
                    StepKind::Check => self.check_exited(step, exit, cause, why),
                    _ => self.task_exited(step, exit, cause, why),
                }
            }
            cause => {
                let told = told(exit, result, asked_at.is_some());
                match step.kind {
                    StepKind::Service => self.service_exited(step, exit, cause, asked_at, told),
                    StepKind::Check => self.check_exited(step, exit, cause, told),
                    StepKind::Task | StepKind::Teardown => self.task_exited(step, exit, cause, told),
                }
            }
        }
    }

    /// The words for an attempt that was stopped because it took too long. One that had to be killed did not
    /// heed the signal.
    fn timed_out(&mut self, step: &Step, exit: &Exit, asked_at: Option<jiff::Timestamp>) -> String {
        let why = took_too_long(step);
        let kill_due = asked_at.is_some_and(|asked| self.at >= super::machine::later(asked, step.stop.grace));
        if *exit == Exit::Signal(9) && kill_due {
            self.of(step).killed = true;
            return format!(
                "{why}, ignored {} for {:?}, and was killed",
                step.stop.signal.name(),
                step.stop.grace
            );
        }
        format!("{why} ({exit})")
    }

    /// Whether a step that fails now is tried again. Teardowns belong to the close; everything else has the
    /// window.
    pub(super) fn may_retry(&self, step: &Step) -> bool {
        let may_go_on = step.kind == StepKind::Teardown || self.state == RunState::Running;
        may_go_on && self.look(step).retries_used < step.retries
    }

    fn task_exited(&mut self, step: &Step, exit: &Exit, cause: Option<StopCause>, told: String) {
        let timed_out = cause == Some(StopCause::TimedOut);
        if exit.is_success() && !timed_out {
            self.enter(step, StepState::Succeeded, None);
            return;
        }
        // Teardowns belong to the close; everything else may be tried again inside the window only.
        let may_go_on = step.kind == StepKind::Teardown || self.state == RunState::Running;
        if cause == Some(StopCause::Closed) || cause == Some(StopCause::Cleared) {
            self.cut_short(step, format!("stopped before it was done ({exit})"));
            return;
        }
        let blameless = matches!(exit, Exit::Lost(_)) && !timed_out && self.look(step).losses < MOST_LOSSES;
        if blameless && may_go_on {
            self.again_after_loss(step, exit);
            return;
        }
        if self.may_retry(step) {
            self.of(step).retries_used += 1;
            self.wait_to_retry(step, &step.backoff, self.look(step).retries_used, told);
            return;
        }
        self.fail(step, told.clone());
        if timed_out {
            // For those who want to hear of this kind only; whoever hears of the failure hears nothing more.
            self.alert(
                AlertKind::DeadlineMissed,
                Some(step),
                format!("{} {}: {told}", step.kind.as_str(), step.name),
            );
        }
    }

    fn check_exited(&mut self, step: &Step, exit: &Exit, cause: Option<StopCause>, told: String) {
        if self.state != RunState::Running {
            self.enter(step, StepState::Stopped, Some("the run closes".into()));
            return;
        }
        let timed_out = cause == Some(StopCause::TimedOut);
        if exit.is_success() && !timed_out {
            self.of(step).failed_rounds = 0;
            self.next_round(step, None);
            return;
        }
        if matches!(exit, Exit::Lost(_)) && !timed_out && self.look(step).losses < MOST_LOSSES {
            self.again_after_loss(step, exit);
            return;
        }
        if self.look(step).retries_used < step.retries {
            self.of(step).retries_used += 1;
            self.wait_to_retry(step, &step.backoff, self.look(step).retries_used, told);
            return;
        }
        // One alert per streak: a check that cannot run at all would otherwise write every few minutes.
        if self.look(step).failed_rounds == 0 {
            let kind = if timed_out { AlertKind::DeadlineMissed } else { AlertKind::StepFailed };
            self.alert(kind, Some(step), format!("check {}: {told}; the next round follows", step.name));
        }
        self.of(step).failed_rounds += 1;
        self.next_round(step, Some(format!("last round failed: {told}")));
    }

    fn service_exited(
        &mut self,
        step: &Step,
        exit: &Exit,
        cause: Option<StopCause>,
        asked_at: Option<jiff::Timestamp>,
        told: String,
    ) {
        if self.state == RunState::Closing {
            self.service_closed(step, exit, cause, asked_at, &told);
            return;
        }
        let not_ready = cause == Some(StopCause::NotReady);
        let stable = self
            .look(step)
            .ready_since
            .is_some_and(|since| self.at >= super::machine::later(since, RestartPolicy::STABLE_AFTER));
        if stable {
            self.of(step).late_told_at = None;
        }
        if matches!(exit, Exit::Lost(_)) && !not_ready {
            self.again_after_loss(step, exit);
            return;
        }
        let ended_well = exit.is_success() && !not_ready;
        match step.restart.policy {
            Restart::OnFailure | Restart::Never if ended_well => {
                self.enter(step, StepState::Succeeded, None);
                return;
            }
            Restart::Never => {
                self.fail(
                    step,
                    if not_ready { format!("not ready within {:?}", step.ready_within) } else { told },
                );
                return;
            }
            Restart::Always | Restart::OnFailure => {}
        }
        let run = self.of(step);
        if stable {
            (run.retries_used, run.losses) = (0, 0);
        }
        let why = if not_ready {
            format!("not ready within {:?}", step.ready_within)
        } else {
            format!("ended inside its window ({told})")
        };
        if step.restart.max.is_some_and(|max| run.retries_used >= max) {
            let why = format!("{why}, after {} restarts in a row", run.retries_used);
            self.fail(step, why);
            return;
        }
        run.retries_used += 1;
        let restarts = run.retries_used;
        self.wait_to_retry(step, &step.restart.backoff, restarts, why);
    }

    /// A service ended while the run closes.
    fn service_closed(
        &mut self,
        step: &Step,
        exit: &Exit,
        cause: Option<StopCause>,
        asked_at: Option<jiff::Timestamp>,
        told: &str,
    ) {
        let kill_due = asked_at.map(|asked| super::machine::later(asked, step.stop_time()));
        let our_kill = *exit == Exit::Signal(9) && kill_due.is_some_and(|due| self.at >= due);
        // The close came while it was stopped to be started again, which grants no time to drain.
        let undrained = matches!(cause, Some(StopCause::NotReady | StopCause::Cleared)) && !exit.is_success();
        let cut_short = match exit {
            Exit::Lost(_) | Exit::OutOfMemory => true,
            Exit::Signal(9) => !our_kill || undrained,
            _ => undrained,
        };
        if cut_short && self.is_resumable(step) {
            self.enter(step, StepState::Waiting, Some(format!("{exit} before it had drained")));
            let run = self.of(step);
            run.losses += 1;
            run.resume_stop = true;
            return;
        }
        if our_kill {
            self.of(step).killed = true;
            let summary = format!(
                "service {} had to be killed: it did not stop within {:?}",
                step.name,
                step.stop_time()
            );
            self.alert(AlertKind::DeadlineMissed, Some(step), summary);
            self.enter(step, StepState::Stopped, Some("killed: it did not stop in time".into()));
        } else if is_clean_stop(exit, step.stop.signal)
            || cause == Some(StopCause::NotReady)
            || matches!(exit, Exit::Lost(_))
        {
            self.end_of_service(step, (!exit.is_success()).then(|| exit.to_string()));
        } else {
            // Not started again, unlike one that was lost: it had all the time its file gives it, and says
            // what is left.
            self.fail(step, format!("{told}, while stopping"));
        }
    }

    /// Built-in programs end what they had begun when they are started once more: a collector forwards its
    /// spool, a sink drains to the log's end. A foreign command is not started just to be stopped.
    fn is_resumable(&self, step: &Step) -> bool {
        matches!(step.program, Program::Uses(_))
            && self.look(step).started_at.is_some()
            && self.look(step).losses < MOST_RESUMED_STOPS
    }

    /// The attempt is gone and nobody knows how it ended; the step is not to blame.
    fn again_after_loss(&mut self, step: &Step, exit: &Exit) {
        let backoff = if step.kind == StepKind::Service { &step.restart.backoff } else { &step.backoff };
        let run = self.of(step);
        run.losses = run.losses.saturating_add(1);
        let losses = run.losses;
        self.enter(step, StepState::Waiting, Some(exit.to_string()));
        // The first loss is usually the restart of the daemon itself: go on at once.
        let wait = if losses == 1 {
            std::time::Duration::ZERO
        } else {
            backoff.delay(losses - 1, self.spread(step))
        };
        let next = self.after(wait);
        self.of(step).next_at = Some(next);
    }

    fn wait_to_retry(&mut self, step: &Step, backoff: &Backoff, retry: u32, why: String) {
        let next = self.after(backoff.delay(retry, self.spread(step)));
        self.enter(step, StepState::Waiting, Some(why));
        self.of(step).next_at = Some(next);
    }

    /// The same for a live and a replayed run.
    fn spread(&self, step: &Step) -> u64 {
        hash(&format!("{}/{}#{}", self.id, step.name, self.look(step).attempt))
    }

    /// Failed for good.
    pub(super) fn fail(&mut self, step: &Step, why: String) {
        self.alert(AlertKind::StepFailed, Some(step), format!("{} {}: {why}", step.kind.as_str(), step.name));
        self.enter(step, StepState::Failed, Some(why));
    }
}

/// An end with the step's own words for it, if it left any under `error`: the first line, cut where a mail's
/// subject would be. A code that looks like a signal's is told apart from one, if the step was not `asked` to
/// stop.
fn told(exit: &Exit, result: Option<&serde_json::Value>, asked: bool) -> String {
    let error = result
        .filter(|_| !exit.is_success())
        .and_then(|result| result.get("error")?.as_str()?.lines().next());
    match (error, exit) {
        (Some(error), _) => format!("{exit}: {}", error.chars().take(MOST_TOLD).collect::<String>()),
        (None, exit) if exit.like_signal().is_some() && !asked => {
            format!("{exit} (openbell sent it no signal)")
        }
        _ => exit.to_string(),
    }
}

/// The ways a stopped program may end: by itself with 0, by the signal that asked, or with the shell's code
/// for it.
fn is_clean_stop(exit: &Exit, signal: StopSignal) -> bool {
    let number = match signal {
        StopSignal::Int => 2,
        StopSignal::Quit => 3,
        StopSignal::Term => 15,
    };
    [Exit::Code(0), Exit::Signal(number), Exit::Code(128 + number), Exit::Signal(15), Exit::Code(143)]
        .contains(exit)
}

#[cfg(test)]
mod tests;
