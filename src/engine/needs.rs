//! Whether a pending step may start: its needs, combined by its trigger rule. Names and meaning of the rules
//! are Airflow's.
//!
//! A need is *met* when its point was reached, *failed* or *skipped* when it ended without reaching it, and
//! *open* otherwise.

use domain::dag::{Need, Step, StepKind, TriggerRule, Until};
use domain::run::{StepRun, StepState};

/// What follows for a pending step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not decided yet.
    Wait,
    /// It may start.
    Start,
    /// It will not run, and nobody is at fault.
    Skip,
    /// It cannot run because another step failed.
    UpstreamFailed,
}

/// How one need stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NeedState {
    Open,
    Met,
    Failed,
    Skipped,
}

/// Decides for `step`; `find` gives a needed step and its run.
pub(super) fn verdict<'a>(step: &Step, find: impl Fn(&Need) -> (&'a Step, &'a StepRun)) -> Verdict {
    let needs: Vec<NeedState> = step
        .needs
        .iter()
        .map(|need| {
            let (needed, run) = find(need);
            need_state(need.until, needed.kind, run)
        })
        .collect();
    combine(step.trigger_rule, &needs)
}

/// Whether the point may still be reached.
pub(super) fn is_open(until: Until, kind: StepKind, run: &StepRun) -> bool {
    need_state(until, kind, run) == NeedState::Open
}

fn need_state(until: Until, kind: StepKind, run: &StepRun) -> NeedState {
    use StepState::{Failed, Skipped, Stopped, Succeeded, UpstreamFailed};
    let ended_well = matches!(run.state, Succeeded | Stopped);
    let reached = match (until, kind) {
        // Teardowns run after everything else has ended: nothing outside the teardowns can wait for one.
        (_, StepKind::Teardown) => {
            return if run.state == Succeeded { NeedState::Met } else { NeedState::Failed };
        }
        (Until::Started, _) => run.started_at.is_some() || ended_well,
        (Until::Ready, StepKind::Service) => {
            matches!(run.state, StepState::Ready | StepState::Degraded) || ended_well
        }
        // A check has no end before the close: one good round stands for success, one ended round for done.
        (Until::Ready | Until::Succeeded, StepKind::Check) => run.rounds > run.failed_rounds || ended_well,
        (Until::Done, StepKind::Check) => run.rounds > 0 || run.state.is_terminal(),
        (Until::Ready | Until::Succeeded, _) => ended_well,
        (Until::Done, _) => run.state.is_terminal(),
    };
    match run.state {
        _ if reached => NeedState::Met,
        Failed | UpstreamFailed => NeedState::Failed,
        Skipped => NeedState::Skipped,
        _ => NeedState::Open,
    }
}

fn combine(rule: TriggerRule, needs: &[NeedState]) -> Verdict {
    let count = |wanted: NeedState| needs.iter().filter(|s| **s == wanted).count();
    let (met, failed, skipped) = (count(NeedState::Met), count(NeedState::Failed), count(NeedState::Skipped));
    let all = needs.len();
    let done = met + failed + skipped == all;
    if all == 0 || rule == TriggerRule::Always {
        return Verdict::Start;
    }
    match rule {
        TriggerRule::AllSuccess if failed > 0 => Verdict::UpstreamFailed,
        TriggerRule::AllSuccess if skipped > 0 => Verdict::Skip,
        TriggerRule::AllFailed if met + skipped > 0 => Verdict::Skip,
        TriggerRule::OneSuccess if met > 0 => Verdict::Start,
        TriggerRule::OneSuccess if done => {
            if failed > 0 {
                Verdict::UpstreamFailed
            } else {
                Verdict::Skip
            }
        }
        TriggerRule::OneFailed if failed > 0 => Verdict::Start,
        TriggerRule::OneFailed if done => Verdict::Skip,
        TriggerRule::OneDone if met + failed > 0 => Verdict::Start,
        TriggerRule::OneDone if done => Verdict::Skip,
        TriggerRule::NoneFailed | TriggerRule::NoneFailedMinOneSuccess if failed > 0 => {
            Verdict::UpstreamFailed
        }
        TriggerRule::NoneFailedMinOneSuccess if done && met == 0 => Verdict::Skip,
        TriggerRule::NoneSkipped if skipped > 0 => Verdict::Skip,
        _ if done => Verdict::Start,
        _ => Verdict::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trigger_rules_follow_airflow() {
        use NeedState::{Failed as F, Met as M, Open as O, Skipped as S};
        use TriggerRule as R;
        use Verdict::{Skip, Start, UpstreamFailed as Up, Wait};
        let table: &[(R, &[NeedState], Verdict)] = &[
            (R::AllSuccess, &[], Start),
            (R::AllSuccess, &[M, M], Start),
            (R::AllSuccess, &[M, O], Wait),
            (R::AllSuccess, &[O, F], Up),
            (R::AllSuccess, &[S, F], Up),
            (R::AllSuccess, &[O, S], Skip),
            (R::AllFailed, &[F, F], Start),
            (R::AllFailed, &[F, O], Wait),
            (R::AllFailed, &[M, O], Skip),
            (R::AllDone, &[M, F, S], Start),
            (R::AllDone, &[M, O], Wait),
            (R::OneSuccess, &[M, O], Start),
            (R::OneSuccess, &[F, O], Wait),
            (R::OneSuccess, &[F, S], Up),
            (R::OneSuccess, &[S, S], Skip),
            (R::OneFailed, &[F, O], Start),
            (R::OneFailed, &[M, S], Skip),
            (R::OneFailed, &[M, O], Wait),
            (R::OneDone, &[F, O], Start),
            (R::OneDone, &[S, O], Wait),
            (R::OneDone, &[S, S], Skip),
            (R::NoneFailed, &[M, S], Start),
            (R::NoneFailed, &[S, S], Start),
            (R::NoneFailed, &[O, F], Up),
            (R::NoneFailedMinOneSuccess, &[M, S], Start),
            (R::NoneFailedMinOneSuccess, &[S, S], Skip),
            (R::NoneFailedMinOneSuccess, &[S, O], Wait),
            (R::NoneSkipped, &[M, F], Start),
            (R::NoneSkipped, &[O, S], Skip),
            (R::Always, &[O, F], Start),
        ];
        for (rule, needs, expected) in table {
            assert_eq!(combine(*rule, needs), *expected, "{rule:?} {needs:?}");
        }
    }

    #[test]
    fn a_restarting_service_is_not_ready() {
        let mut run = StepRun::new(jiff::Timestamp::UNIX_EPOCH);
        run.ready_at = Some(jiff::Timestamp::UNIX_EPOCH);
        run.state = StepState::Waiting;
        assert_eq!(need_state(Until::Ready, StepKind::Service, &run), NeedState::Open);
        run.state = StepState::Degraded;
        assert_eq!(need_state(Until::Ready, StepKind::Service, &run), NeedState::Met);
        run.state = StepState::Failed;
        assert_eq!(need_state(Until::Ready, StepKind::Service, &run), NeedState::Failed);
        assert_eq!(need_state(Until::Done, StepKind::Service, &run), NeedState::Met);
    }
}
