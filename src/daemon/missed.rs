//! What is told, and of which stand-in run, of a window that passed while the daemon was down. It is never
//! replayed; people are told.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use domain::dag::Dag;
use domain::finding::Finding;
use domain::run::{Cause, Run, RunState};
use engine::planner::SessionOf;

/// What people are told; `late_by` is how late openbell came up, where it came inside the window.
pub fn finding(session: &SessionOf, late_by: Option<SignedDuration>) -> Finding {
    let late = late_by.map(|late_by| late_by.as_mins());
    Finding::NoRun { date: session.session_date, dag: session.dag.clone(), late }
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
