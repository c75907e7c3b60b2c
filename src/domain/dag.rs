//! A DAG and its steps as the engine sees them: complete, checked, with every default filled in.
//!
//! `dagfile` builds these from YAML; [`Dag::new`] refuses what no run could carry out, so the floors above
//! never meet a cycle or a dangling need. A run keeps its own frozen copy: editing the file never changes a
//! running day.

pub mod container;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::alert::AlertKind;
pub use container::{Container, Pull};

use super::ids::{DagName, StepName};
use super::retry::Backoff;
use super::schedule::Schedule;

/// A checked DAG. Steps are in topological order (needs first, file order among equals).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dag {
    /// Unique name.
    pub name: DagName,
    /// One line for people.
    pub description: String,
    /// Who to ask.
    pub owner: String,
    /// When it runs; `None` means by hand only.
    pub schedule: Option<Schedule>,
    /// Who hears of what.
    pub alerts: AlertPolicy,
    /// Run parameters and their defaults.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Steps, needs first.
    steps: Vec<Step>,
}

/// Why steps do not make a DAG.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DagError {
    /// A need names no step of this DAG.
    #[error("step \"{step}\" needs \"{needs}\", which is not a step of this DAG")]
    UnknownNeed {
        /// The step with the need.
        step: StepName,
        /// What it names.
        needs: StepName,
    },
    /// Steps wait for each other.
    #[error("steps wait for each other: {}", path.iter().map(StepName::as_str).collect::<Vec<_>>().join(" → "))]
    Cycle {
        /// The cycle; the first step is repeated at the end.
        path: Vec<StepName>,
    },
    /// Two steps share a name.
    #[error("two steps are called \"{0}\"")]
    Duplicate(StepName),
}

impl Dag {
    /// Orders the steps and checks that they form a DAG.
    ///
    /// # Errors
    /// The first fault found: a duplicate name, a need of an unknown step, or a cycle (named step by step).
    pub fn new(
        name: DagName,
        description: String,
        owner: String,
        schedule: Option<Schedule>,
        alerts: AlertPolicy,
        steps: Vec<Step>,
    ) -> Result<Self, DagError> {
        let steps = order(steps)?;
        Ok(Self { name, description, owner, schedule, alerts, params: BTreeMap::new(), steps })
    }

    /// All steps, needs before those that need them.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step of this name.
    pub fn step(&self, name: &StepName) -> Option<&Step> {
        self.steps.iter().find(|s| &s.name == name)
    }

    /// Steps that need `name` directly.
    pub fn dependents<'a>(&'a self, name: &'a StepName) -> impl Iterator<Item = &'a Step> + 'a {
        self.steps.iter().filter(move |s| s.needs.iter().any(|n| &n.step == name))
    }
}

fn order(steps: Vec<Step>) -> Result<Vec<Step>, DagError> {
    let mut names = BTreeSet::new();
    for step in &steps {
        if !names.insert(step.name.clone()) {
            return Err(DagError::Duplicate(step.name.clone()));
        }
    }
    for step in &steps {
        if let Some(need) = step.needs.iter().find(|n| !names.contains(&n.step)) {
            return Err(DagError::UnknownNeed { step: step.name.clone(), needs: need.step.clone() });
        }
    }
    let mut waiting = steps;
    let mut done = BTreeSet::new();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let Some(at) = waiting.iter().position(|s| s.needs.iter().all(|n| done.contains(&n.step))) else {
            return Err(DagError::Cycle { path: find_cycle(&waiting, &done) });
        };
        let step = waiting.remove(at);
        done.insert(step.name.clone());
        ordered.push(step);
    }
    Ok(ordered)
}

/// Walks needs among the steps that could not be ordered until one repeats.
fn find_cycle(waiting: &[Step], done: &BTreeSet<StepName>) -> Vec<StepName> {
    let mut path: Vec<StepName> = vec![waiting[0].name.clone()];
    loop {
        let last = path.last().expect("path starts with one step");
        let step = waiting.iter().find(|s| &s.name == last).expect("needs of waiting steps were checked");
        let next =
            step.needs.iter().find(|n| !done.contains(&n.step)).expect("a waiting step has an unmet need");
        if let Some(start) = path.iter().position(|s| s == &next.step) {
            let mut cycle = path.split_off(start);
            cycle.push(next.step.clone());
            return cycle;
        }
        path.push(next.step.clone());
    }
}

/// What a step is for; see DESIGN's four kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Runs to completion once.
    Task,
    /// Lives from open to close.
    Service,
    /// Repeats inside the window and feeds alert rules.
    Check,
    /// Runs at close, whatever happened.
    Teardown,
}

impl StepKind {
    /// The word used in files, tables and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Service => "service",
            Self::Check => "check",
            Self::Teardown => "teardown",
        }
    }
}

/// What a step runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// A built-in step program, for example `sink/index`.
    Uses(String),
    /// A command line, run without a shell; with an image, inside a container.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Container image.
        image: Option<String>,
    },
}

/// Where a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutorKind {
    /// Inside the daemon.
    Embedded,
    /// A local child process in a group of its own.
    Process,
    /// A container on a Docker Engine.
    Docker,
    /// A service or job on a Docker Swarm.
    Swarm,
}

impl ExecutorKind {
    /// The word used in files, tables and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Swarm => "swarm",
        }
    }
}

/// A step, with every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in its DAG.
    pub name: StepName,
    /// What it is for.
    pub kind: StepKind,
    /// What it runs.
    pub program: Program,
    /// Where it runs; `None` leaves it to the daemon's default.
    pub executor: Option<ExecutorKind>,
    /// What it waits for.
    pub needs: Vec<Need>,
    /// How the ends of its needs combine.
    pub trigger_rule: TriggerRule,
    /// Parameters of a built-in program (a JSON object).
    pub with: serde_json::Map<String, serde_json::Value>,
    /// Environment of a command.
    pub env: BTreeMap<String, String>,
    /// Secrets by reference; values are resolved where the step runs and are never journaled.
    pub secrets: BTreeMap<String, SecretRef>,
    /// Retries of a task, check round or teardown that failed.
    pub retries: u32,
    /// Wait before a retry.
    pub backoff: Backoff,
    /// Longest life of one attempt (not for services).
    pub timeout: Option<Duration>,
    /// How long a service may take to report ready.
    pub ready_within: Duration,
    /// What happens when a service ends inside its window.
    pub restart: RestartPolicy,
    /// How it is stopped.
    pub stop: StopPolicy,
    /// How long a service may drain after its sources stopped; `None`: it is stopped at once.
    pub drain: Option<Duration>,
    /// Interval of a check.
    pub every: Option<Duration>,
    /// How many copies run side by side.
    pub replicas: u32,
    /// Skip the step unless this run parameter equals this value.
    pub when: Option<Condition>,
    /// What it says about its container; journals of earlier versions have none.
    #[serde(default, skip_serializing_if = "Container::is_empty")]
    pub container: Container,
}

impl Step {
    /// How long an orderly stop may take before the step is killed: drain time and grace.
    pub fn stop_time(&self) -> Duration {
        self.drain.unwrap_or_default().saturating_add(self.stop.grace)
    }
}

/// One need of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The step waited for.
    pub step: StepName,
    /// The point waited for.
    pub until: Until,
}

/// The point of another step's life that a need waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Its first attempt started.
    Started,
    /// A service reported ready (default for services).
    Ready,
    /// It ended well (default for tasks).
    Succeeded,
    /// It ended, well or not.
    Done,
}

/// How the ends of needs combine; names and meaning are Airflow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerRule {
    /// Every need is met.
    #[default]
    AllSuccess,
    /// Every needed step failed.
    AllFailed,
    /// Every needed step ended.
    AllDone,
    /// At least one need is met.
    OneSuccess,
    /// At least one needed step failed.
    OneFailed,
    /// At least one needed step ended.
    OneDone,
    /// Every needed step ended and none failed.
    NoneFailed,
    /// Every needed step ended, none failed, at least one succeeded.
    NoneFailedMinOneSuccess,
    /// Every needed step ended and none was skipped.
    NoneSkipped,
    /// At once.
    Always,
}

/// A run parameter that must equal a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Parameter name.
    pub param: String,
    /// The value it must have.
    pub equals: String,
}

/// Where a secret's value is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// An environment variable (`env:NAME`).
    Env(String),
    /// A file whose content, without the trailing line end, is the value (`file:/path`).
    File(String),
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}

/// What happens when a service ends inside its window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// When to start it again.
    pub policy: Restart,
    /// Wait before the next start; refilled after [`RestartPolicy::STABLE_AFTER`] of ready life.
    pub backoff: Backoff,
    /// Most restarts in a row before the step has failed; `None` is without limit.
    pub max: Option<u32>,
}

impl RestartPolicy {
    /// A service that stayed ready this long starts its backoff from the beginning.
    pub const STABLE_AFTER: Duration = Duration::from_secs(300);
}

/// When a service that ended inside its window starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always: an exit inside the window is a fault even with code 0.
    Always,
    /// Only after a failure; code 0 is a good end.
    OnFailure,
    /// Never.
    Never,
}

/// How a step is asked to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPolicy {
    /// The signal that asks.
    pub signal: StopSignal,
    /// How long it may take before it is killed, beyond its drain time.
    pub grace: Duration,
}

/// The signal that asks a step to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopSignal {
    /// SIGTERM.
    #[serde(rename = "SIGTERM")]
    Term,
    /// SIGINT.
    #[serde(rename = "SIGINT")]
    Int,
    /// SIGQUIT.
    #[serde(rename = "SIGQUIT")]
    Quit,
}

impl StopSignal {
    /// The name that systems and engines know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
        }
    }

    /// Its number on Linux (`signal(7)`).
    pub fn number(self) -> u8 {
        match self {
            Self::Term => 15,
            Self::Int => 2,
            Self::Quit => 3,
        }
    }
}

/// Who hears of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertPolicy {
    /// E-mail addresses.
    pub email: Vec<String>,
    /// Which alerts are sent.
    pub on: BTreeSet<AlertKind>,
    /// A `dead_letters` alert is raised when a run has more than this many.
    pub dead_letters_over: u64,
}

pub mod fixtures;

#[cfg(test)]
mod tests {
    use super::fixtures::step;
    use super::*;

    fn build(steps: Vec<Step>) -> Result<Dag, DagError> {
        Dag::new(
            "d".parse().expect("valid"),
            String::new(),
            String::new(),
            None,
            AlertPolicy::default(),
            steps,
        )
    }

    #[test]
    fn orders_needs_first_and_keeps_file_order() {
        let dag = build(vec![
            step("c", StepKind::Task, &[("a", Until::Succeeded)]),
            step("b", StepKind::Task, &[]),
            step("a", StepKind::Task, &[]),
        ])
        .expect("a DAG");
        let names: Vec<_> = dag.steps().iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["b", "a", "c"]);
    }

    #[test]
    fn names_the_cycle() {
        let err = build(vec![
            step("x", StepKind::Task, &[("a", Until::Succeeded)]),
            step("a", StepKind::Task, &[("b", Until::Succeeded)]),
            step("b", StepKind::Task, &[("a", Until::Succeeded)]),
        ])
        .expect_err("a cycle");
        assert_eq!(err.to_string(), "steps wait for each other: a → b → a");
    }
}
