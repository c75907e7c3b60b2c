//! Ways through a DAG's needs.

use std::collections::BTreeSet;

use domain::dag::{Dag, Step};
use domain::ids::StepName;

/// Steps that need one of `names`, directly or through others, without `names` themselves.
pub(super) fn below(dag: &Dag, names: &[StepName]) -> BTreeSet<StepName> {
    let mut found: BTreeSet<StepName> = BTreeSet::new();
    // Steps are in topological order, so one pass meets needs before those that need them.
    for step in dag.steps() {
        if step.needs.iter().any(|need| names.contains(&need.step) || found.contains(&need.step)) {
            found.insert(step.name.clone());
        }
    }
    found.retain(|name| !names.contains(name));
    found
}

/// Steps that `step` needs, directly or through others.
pub(super) fn above<'d>(dag: &'d Dag, step: &Step) -> Vec<&'d Step> {
    let mut wanted: BTreeSet<&StepName> = step.needs.iter().map(|n| &n.step).collect();
    let mut found = Vec::new();
    for candidate in dag.steps().iter().rev() {
        if wanted.contains(&candidate.name) {
            wanted.extend(candidate.needs.iter().map(|n| &n.step));
            found.push(candidate);
        }
    }
    found
}
