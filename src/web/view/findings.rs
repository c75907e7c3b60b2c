//! What the checks and reconciliations of a run found: of all its steps with that role, whatever they are
//! called.

use jiff::Timestamp;
use rust_decimal::Decimal;

use daemon::snapshot::RunView;
use domain::dag::{Step, StepKind};
use domain::program::{self, Program, Role};
use domain::results::{FreshHop, Freshness, HopCount, Reconciliation};
use domain::run::StepRun;
use domain::trade::quantity;

fn steps_of(view: &RunView, wanted: impl Fn(&Step) -> bool) -> impl Iterator<Item = (&Step, &StepRun)> {
    let steps = view.run.dag.steps().iter().filter(move |step| wanted(step));
    steps.filter_map(|step| Some((step, view.run.steps.get(&step.name)?)))
}

fn has_role(step: &Step, role: Role) -> bool {
    program::of(steps::programs(), step).is_some_and(|program| program.role == role)
}

/// The first step of a run that runs a program.
pub(crate) fn step_of<'a>(view: &'a RunView, program: &Program) -> Option<(&'a Step, &'a StepRun)> {
    let runs =
        |step: &Step| program::of(steps::programs(), step).is_some_and(|found| found.name == program.name);
    steps_of(view, runs).next()
}

/// The checks of a run: a program of the user's own may be one as well.
pub(crate) fn checks(view: &RunView) -> impl Iterator<Item = (&Step, &StepRun)> {
    steps_of(view, |step| step.kind == StepKind::Check || has_role(step, Role::Check))
}

/// What the run's checks found last; nothing of those whose first round is to come.
pub(crate) fn freshness(view: &RunView) -> Vec<Freshness> {
    checks(view).filter_map(|(_, run)| Freshness::of(run.result.as_ref()?)).collect()
}

/// What was found at a hop, by what checks call it: the worst of it.
pub(crate) fn hop<'a>(found: &'a [Freshness], name: &str) -> Option<&'a FreshHop> {
    let mut hops = found.iter().filter_map(|found| found.hop(name)).peekable();
    let first = hops.peek().copied();
    hops.find(|hop| hop.stale).or(first)
}

/// The steps of a run that reconcile.
pub(crate) fn reconciles(view: &RunView) -> impl Iterator<Item = (&Step, &StepRun)> {
    steps_of(view, |step| has_role(step, Role::Reconcile))
}

/// The run's reconciliations; none before its close, and none of those that cannot be read.
pub(crate) fn reconciliations(view: &RunView) -> Vec<Reconciliation> {
    reconciles(view).filter_map(|(_, run)| Reconciliation::of(run.result.as_ref()?)).collect()
}

/// What reconciliations counted at a hop: the worst of it.
pub(crate) fn counts<'a>(reports: &'a [Reconciliation], name: &str) -> Option<&'a HopCount> {
    let counts = reports.iter().filter_map(|report| report.hops.get(name));
    counts.max_by_key(|counts| (counts.missing, counts.duplicates))
}

/// A whole number among a living step's facts.
pub(crate) fn fact(view: &RunView, step: &Step, key: &str) -> Option<u64> {
    view.statuses.get(&step.name)?.facts.get(key)?.as_u64()
}

/// A quantity of shares or units among a living step's facts.
pub(crate) fn fact_quantity(view: &RunView, step: &Step, key: &str) -> Option<Decimal> {
    quantity::deserialize(view.statuses.get(&step.name)?.facts.get(key)?).ok()
}

/// An instant among a living step's facts.
pub(crate) fn fact_time(view: &RunView, step: &Step, key: &str) -> Option<Timestamp> {
    view.statuses.get(&step.name)?.facts.get(key)?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use daemon::testing;
    use domain::dag::{Dag, Program as Runs};

    /// The day of the fixtures with a second check and a second reconciliation under names of their own.
    fn with_two_of_each() -> RunView {
        let mut view = testing::ended().runs.remove(0);
        let dag = &view.run.dag;
        let mut steps: Vec<Step> = dag.steps().to_vec();
        for (name, like) in [("watch", "freshness"), ("prove", "reconcile")] {
            let step = steps.iter().find(|step| step.name.as_str() == like).cloned().expect("a step");
            let name: domain::ids::StepName = name.parse().expect("a name");
            view.run.steps.insert(name.clone(), view.run.steps[&step.name].clone());
            steps.push(Step { name, ..step });
        }
        let (none, alerts) = (String::new(), dag.alerts.clone());
        let dag = Dag::new(dag.name.clone(), none.clone(), none, dag.schedule.clone(), alerts, steps);
        view.run.dag = dag.expect("a DAG");
        view
    }

    #[test]
    fn every_step_of_a_role_is_heard_whatever_it_is_called() {
        let mut view = with_two_of_each();
        let names = |found: Vec<(&Step, &StepRun)>| {
            found.iter().map(|(step, _)| step.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(checks(&view).collect()), ["freshness", "watch"]);
        assert_eq!(names(reconciles(&view).collect()), ["reconcile", "prove"]);
        let result = |view: &mut RunView, step: &str, result| {
            view.run.steps.get_mut(&step.parse().expect("a name")).expect("a step").result = Some(result);
        };
        let hop = |name: &str, stale: bool| json!({ "hop": name, "stale": stale });
        result(
            &mut view,
            "freshness",
            json!({ "stalled": false, "hops": [hop("log", false), hop("raw", false)] }),
        );
        result(&mut view, "watch", json!({ "stalled": true, "hops": [hop("log", true)] }));
        let found = freshness(&view);
        let stale = ["log", "raw", "index"].map(|name| super::hop(&found, name).map(|hop| hop.stale));
        assert_eq!(stale, [Some(true), Some(false), None]);
        result(&mut view, "prove", json!({ "ok": false, "hops": { "log": { "unique": 3, "missing": 2 } } }));
        let reports = reconciliations(&view);
        assert_eq!((reports.len(), counts(&reports, "log").map(|counts| counts.missing)), (2, Some(2)));
        assert_eq!(counts(&reports, "raw").map(|counts| counts.missing), Some(0));
    }

    #[test]
    fn a_program_is_found_by_what_it_is() {
        let view = with_two_of_each();
        assert_eq!(
            step_of(&view, &steps::vwap::PROGRAM).map(|(step, _)| step.name.to_string()),
            Some("vwap".into())
        );
        let mut other = view.clone();
        let mut steps = other.run.dag.steps().to_vec();
        steps.retain(|step| step.program != Runs::Uses("vwap".into()));
        let dag = &view.run.dag;
        let (none, alerts) = (String::new(), dag.alerts.clone());
        let dag = Dag::new(dag.name.clone(), none.clone(), none, dag.schedule.clone(), alerts, steps);
        other.run.dag = dag.expect("a DAG");
        assert!(step_of(&other, &steps::vwap::PROGRAM).is_none());
    }
}
