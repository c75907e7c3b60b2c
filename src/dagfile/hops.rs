//! What a DAG does not have on the way of its data: nobody to look whether it arrives, nothing to look at.

use super::read::Reader;
use super::tree::{Node, Span};
use domain::dag::{Dag, Step};
use domain::hop::{self, Hop};
use domain::ids::StepName;
use domain::program::{self, Role};

impl Reader<'_> {
    /// Warns of what the steps of a DAG lack together.
    pub fn way(&mut self, root: &Node, dag: &Dag) {
        let hops = hop::of(dag, self.known.programs);
        let steps = root.get("steps");
        let at =
            |name: &StepName| steps.and_then(|s| s.entry(name.as_str())).map_or(root.span, |e| e.key_span);
        self.unwatched(dag, &hops, at);
        self.unfed(&hops, self.has(dag, Role::Reconcile), at);
        self.without_sight(dag, &hops, at);
        self.shared_groups(&hops, at);
    }

    fn role(&self, step: &Step) -> Option<Role> {
        program::of(self.known.programs, step).map(|program| program.role)
    }

    fn has(&self, dag: &Dag, role: Role) -> bool {
        dag.steps().iter().any(|step| self.role(step) == Some(role))
    }

    /// Data that nobody checks or reconciles.
    fn unwatched(&mut self, dag: &Dag, hops: &[Hop], at: impl Fn(&StepName) -> Span) {
        let Some(collector) = hops.iter().find(|hop| hop.is_spool()) else { return };
        if !self.has(dag, Role::Reconcile) {
            let message = "no step of this DAG reconciles: nothing says at the close whether every trade received is in every store";
            let help = "add reconcile: { kind: teardown, uses: reconcile }";
            self.diagnostics.warning(at(&collector.step), message, help);
        }
        if !self.has(dag, Role::Check) {
            let message = "no step of this DAG checks that data arrives: nobody is told when it does not";
            let help = "add freshness: { kind: check, uses: freshness, every: 5m }";
            self.diagnostics.warning(at(&collector.step), message, help);
        }
    }

    /// Sinks of topics that no step of the DAG writes.
    fn unfed(&mut self, hops: &[Hop], reconciles: bool, at: impl Fn(&StepName) -> Span) {
        let topics: Vec<&str> =
            hops.iter().filter(|hop| hop.is_spool()).map(|hop| hop.topic.as_str()).collect();
        for sink in hops.iter().filter(|hop| hop.group.is_some() && !topics.contains(&hop.topic.as_str())) {
            if topics.is_empty() && !reconciles {
                continue;
            }
            let message = format!(
                "step \"{}\" reads the topic \"{}\", which no collecting step of this DAG writes: nothing is compared with what it stores",
                sink.step, sink.topic
            );
            let help = match topics.first() {
                Some(topic) => {
                    format!(
                        "write with: {{ topic: {topic} }}, or move it to the DAG that collects \"{}\"",
                        sink.topic
                    )
                }
                None => format!("move it to the DAG that collects \"{}\"", sink.topic),
            };
            self.diagnostics.warning(at(&sink.step), message, help);
        }
    }

    /// Checks and reconciliations that see less than they should.
    fn without_sight(&mut self, dag: &Dag, hops: &[Hop], at: impl Fn(&StepName) -> Span) {
        if hops.iter().any(Hop::is_spool) {
            return;
        }
        for step in dag.steps() {
            let (what, help) = match self.role(step) {
                Some(Role::Check) if hops.is_empty() => {
                    ("has nothing to look at", "add a step that collects, or remove it")
                }
                Some(Role::Check) => {
                    ("does not notice when a feed stops", "move it to the DAG that collects")
                }
                Some(Role::Reconcile) => {
                    ("has nothing to compare the stores with, and fails", "move it to the DAG that collects")
                }
                _ => continue,
            };
            let message = format!("no step of this DAG collects data, so step \"{}\" {what}", step.name);
            self.diagnostics.warning(at(&step.name), message, help);
        }
    }

    /// Sinks of several places that share their work, so that each place gets a part.
    fn shared_groups(&mut self, hops: &[Hop], at: impl Fn(&StepName) -> Span) {
        for (number, sink) in hops.iter().enumerate().filter(|(_, hop)| hop.group.is_some()) {
            let same = |other: &&Hop| other.group == sink.group && other.topic == sink.topic;
            let elsewhere = |other: &&Hop| (other.kind, &other.place) != (sink.kind, &sink.place);
            let Some(other) = hops[..number].iter().filter(same).find(elsewhere) else { continue };
            let message = format!(
                "steps \"{}\" and \"{}\" read \"{}\" as one group, so each of their stores gets a part of it",
                other.step, sink.step, sink.topic
            );
            self.diagnostics.warning(
                at(&sink.step),
                message,
                "give one of them a group of its own, or leave group: away",
            );
        }
    }
}
