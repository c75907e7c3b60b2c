//! Ended runs in brief: what lists and grids show of many runs, without holding them whole.
//!
//! A brief run of twenty steps takes about a kilobyte, so that the history of years fits into memory and is
//! published with every snapshot by reference.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use domain::ids::{RunId, StepName};
use domain::run::{Cause, Run, RunState, StepState};
use domain::schedule::Window;

/// A run in brief.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Brief {
    /// Its id.
    pub id: RunId,
    /// Why it exists.
    pub cause: Cause,
    /// Where it stands.
    pub state: RunState,
    /// The local date it is about.
    pub session_date: Date,
    /// From open to close.
    pub window: Window,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its steps, by name.
    pub steps: Vec<BriefStep>,
}

/// A step of a run in brief.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BriefStep {
    /// Name.
    pub name: StepName,
    /// Where it stands.
    pub state: StepState,
    /// Number of the current or last attempt; 0 before the first.
    pub attempt: u32,
}

impl Brief {
    /// A run in brief.
    pub fn of(run: &Run) -> Self {
        let step = |(name, step): (&StepName, &domain::run::StepRun)| BriefStep {
            name: name.clone(),
            state: step.state,
            attempt: step.attempt,
        };
        Self {
            id: run.id.clone(),
            cause: run.cause,
            state: run.state,
            session_date: run.session_date,
            window: run.window,
            created_at: run.created_at,
            finished_at: run.finished_at,
            steps: run.steps.iter().map(step).collect(),
        }
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&BriefStep> {
        self.steps.binary_search_by(|s| s.name.as_str().cmp(name)).ok().map(|at| &self.steps[at])
    }
}

/// Ended runs, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    runs: Vec<Arc<Brief>>,
}

impl History {
    /// The history of these ended runs.
    pub fn of<'a>(runs: impl Iterator<Item = &'a Run>) -> Self {
        let mut runs: Vec<_> = runs.map(|run| Arc::new(Brief::of(run))).collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.created_at));
        Self { runs }
    }

    /// Notes a run that ended; one that ended before and was run again is replaced.
    pub fn put(&mut self, run: &Run) {
        self.runs.retain(|known| known.id != run.id);
        let at = self.runs.partition_point(|known| known.created_at > run.created_at);
        self.runs.insert(at, Arc::new(Brief::of(run)));
    }

    /// Forgets runs.
    pub fn forget(&mut self, gone: &[RunId]) {
        let gone: BTreeSet<&RunId> = gone.iter().collect();
        self.runs.retain(|run| !gone.contains(&run.id));
    }

    /// All of them, newest first.
    pub fn runs(&self) -> &[Arc<Brief>] {
        &self.runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::dag::{StepKind, fixtures};
    use domain::run::StepRun;

    fn run(day: &str, state: RunState) -> Run {
        let at: Timestamp = format!("{day}T08:50:00+09:00").parse().expect("a time");
        let dag = fixtures::dag("day", vec![fixtures::step("load", StepKind::Task, &[])]);
        let mut step = StepRun::new(at);
        step.attempt = 2;
        Run {
            id: RunId::new(&dag.name, day),
            dag,
            cause: Cause::Scheduled,
            session_date: day.parse().expect("a date"),
            window: Window { open_at: at, close_at: None },
            params: std::collections::BTreeMap::new(),
            created_at: at,
            state,
            steps: [("load".parse().expect("a name"), step)].into(),
            cancelled_by: None,
            finished_at: Some(at),
        }
    }

    #[test]
    fn a_run_that_ends_again_is_there_once_and_in_its_place() {
        let mut history =
            History::of([run("2026-11-18", RunState::Failed), run("2026-11-19", RunState::Succeeded)].iter());
        history.put(&run("2026-11-20", RunState::Succeeded));
        history.put(&run("2026-11-18", RunState::Succeeded));
        let told: Vec<_> = history.runs().iter().map(|r| (r.id.key(), r.state)).collect();
        let good = RunState::Succeeded;
        assert_eq!(told, [("2026-11-20", good), ("2026-11-19", good), ("2026-11-18", good)]);
        assert_eq!(history.runs()[0].step("load").map(|s| s.attempt), Some(2));
        assert_eq!(history.runs()[0].step("nothing"), None);
        history.forget(&[history.runs()[0].id.clone()]);
        assert_eq!(history.runs().len(), 2);
    }
}
