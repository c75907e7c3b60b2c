//! Words and a stand-in run for a window that passed while the daemon was down. It is never replayed; people are told.

use std::collections::BTreeMap;

use jiff::Timestamp;

use domain::dag::Dag;
use domain::run::{Cause, Run, RunState};
use engine::planner::SessionOf;

/// One line for people.
pub fn summary(session: &SessionOf, why: &str) -> String {
    let (dag, date) = (&session.dag, session.session_date);
    format!("{date} had no run: {why}; if the data can still be had: openbell run backfill {dag} --from {date} --to {date}")
}

/// A run that never was, so that its alert can be addressed like any other.
pub fn run(dag: &Dag, missed: &SessionOf, now: Timestamp) -> Run {
    Run {
        id: missed.id.clone(),
        dag: dag.clone(),
        cause: Cause::Scheduled,
        session_date: missed.session_date,
        window: missed.window,
        params: BTreeMap::new(),
        created_at: now,
        state: RunState::Failed,
        steps: BTreeMap::new(),
        cancelled_by: None,
        finished_at: Some(now),
    }
}
