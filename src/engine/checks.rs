//! Rounds of a check: due on the wall clock at open + k × interval (k from 1), never doubled, never replayed.

use std::time::Duration;

use jiff::Timestamp;

use super::machine::{Transition, later};
use domain::dag::Step;
use domain::run::StepState;

/// Interval of a check that gives none; the reader of DAG files fills it in.
const DEFAULT_EVERY: Duration = Duration::from_secs(300);

fn every(step: &Step) -> Duration {
    step.every.unwrap_or(DEFAULT_EVERY).max(Duration::from_millis(1))
}

/// Number of the newest round due at `at`; 0 before the first.
fn newest_due(open_at: Timestamp, every: Duration, at: Timestamp) -> u64 {
    let passed = at.duration_since(open_at).as_nanos();
    u64::try_from(passed.max(0) / i128::try_from(every.as_nanos()).unwrap_or(i128::MAX)).unwrap_or(u64::MAX)
}

fn due_at(open_at: Timestamp, every: Duration, round: u64) -> Timestamp {
    u32::try_from(round)
        .ok()
        .and_then(|n| every.checked_mul(n))
        .map_or(Timestamp::MAX, |passed| later(open_at, passed))
}

impl Transition<'_> {
    /// The needs of the check are met: it waits for the next round on the grid. Rounds before that are not
    /// missed, it could not have said anything.
    pub(super) fn wait_for_round(&mut self, step: &Step) {
        let (open_at, every) = (self.window.open_at, every(step));
        let due = newest_due(open_at, every, self.at);
        let exactly_now = due > 0 && due_at(open_at, every, due) == self.at;
        let round = if exactly_now { due } else { due + 1 };
        self.enter(step, StepState::Waiting, None);
        let run = self.of(step);
        run.round = round;
        run.next_at = Some(due_at(open_at, every, round));
    }

    /// A round starts now. When nobody was there to start it in time, it stands for the newest round due.
    pub(super) fn enter_round(&mut self, step: &Step) {
        let due = newest_due(self.window.open_at, every(step), self.at);
        let run = self.of(step);
        if run.retries_used == 0 && due > run.round {
            run.missed_rounds =
                run.missed_rounds.saturating_add(u32::try_from(due - run.round).unwrap_or(u32::MAX));
            run.round = due;
        }
    }

    /// A round ended: waits for the next one. Rounds that fell due meanwhile are counted, not replayed.
    pub(super) fn next_round(&mut self, step: &Step, reason: Option<String>) {
        let (open_at, every) = (self.window.open_at, every(step));
        let due = newest_due(open_at, every, self.at);
        self.enter(step, StepState::Waiting, reason);
        let run = self.of(step);
        let missed = due.saturating_sub(run.round);
        run.missed_rounds = run.missed_rounds.saturating_add(u32::try_from(missed).unwrap_or(u32::MAX));
        run.round = due.max(run.round) + 1;
        run.retries_used = 0;
        run.rounds = run.rounds.saturating_add(1);
        run.next_at = Some(due_at(open_at, every, run.round));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_anchored_at_the_open() {
        let open: Timestamp = "2026-11-20T08:50:00+09:00".parse().expect("a timestamp");
        let every = Duration::from_secs(300);
        assert_eq!(newest_due(open, every, open), 0);
        assert_eq!(newest_due(open, every, later(open, Duration::from_secs(299))), 0);
        assert_eq!(newest_due(open, every, later(open, Duration::from_secs(300))), 1);
        assert_eq!(due_at(open, every, 3), "2026-11-20T09:05:00+09:00".parse().expect("a timestamp"));
        assert_eq!(due_at(open, every, u64::MAX), Timestamp::MAX);
    }
}
