//! What the tasks of a service and the state of their nodes mean for the attempt: pure.

use std::collections::HashMap;

use bollard::models::{ContainerState, ContainerStateStatusEnum, Node, NodeState, Task, TaskState};

/// A task, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TaskView {
    pub(super) id: String,
    /// From 1 on.
    pub(super) slot: i64,
    /// Empty until it has one.
    pub(super) node: String,
    pub(super) phase: Phase,
    /// When it was made; such stamps sort as text, well enough to tell the first of a slot from its
    /// successors.
    pub(super) made: String,
    /// What the swarm says of its trouble.
    pub(super) trouble: Option<String>,
    pub(super) container: Option<String>,
    pub(super) code: Option<i64>,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// It does not run yet.
    #[default]
    Before,
    Running,
    /// It has run, and ended.
    Ended,
    /// It could not be started.
    Rejected,
    /// Its node was away for so long that the swarm gave it up.
    Orphaned,
}

/// A node, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeView {
    pub(super) name: String,
    /// The swarm hears nothing of it; what runs there may run on.
    pub(super) down: bool,
}

impl From<Task> for TaskView {
    fn from(task: Task) -> Self {
        let status = task.status.unwrap_or_default();
        let container = status.container_status.unwrap_or_default();
        let phase = match status.state {
            Some(TaskState::RUNNING) => Phase::Running,
            Some(TaskState::COMPLETE | TaskState::SHUTDOWN | TaskState::FAILED | TaskState::REMOVE) => {
                Phase::Ended
            }
            Some(TaskState::REJECTED) => Phase::Rejected,
            Some(TaskState::ORPHANED) => Phase::Orphaned,
            _ => Phase::Before,
        };
        Self {
            id: task.id.unwrap_or_default(),
            slot: task.slot.unwrap_or_default(),
            node: task.node_id.unwrap_or_default(),
            phase,
            made: task.created_at.map(|at| at.to_string()).unwrap_or_default(),
            trouble: status.err.filter(|text| !text.is_empty()),
            container: container.container_id.filter(|id| !id.is_empty()),
            code: container.exit_code,
        }
    }
}

impl From<Node> for NodeView {
    fn from(node: Node) -> Self {
        let name = node.description.and_then(|d| d.hostname).filter(|name| !name.is_empty());
        let state = node.status.and_then(|s| s.state);
        Self {
            name: name.or(node.id).unwrap_or_default(),
            down: matches!(state, Some(NodeState::DOWN | NodeState::DISCONNECTED)),
        }
    }
}

impl TaskView {
    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended | Phase::Rejected | Phase::Orphaned)
    }

    /// As an engine would say how its container ended, for the rules that containers have.
    pub(super) fn as_container(&self) -> ContainerState {
        // Without a container, or without an end of one, the trouble is why it was not started.
        let started =
            self.container.is_some() && (self.code.unwrap_or_default() != 0 || self.trouble.is_none());
        ContainerState {
            status: Some(ContainerStateStatusEnum::EXITED),
            exit_code: self.code,
            error: self.trouble.clone().filter(|_| !started),
            started_at: started.then(|| self.made.clone()),
            ..ContainerState::default()
        }
    }
}

/// What an attempt is, by its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It does not run yet; perhaps for a reason that people should know.
    Pending(Option<String>),
    /// So many of its copies run, on these nodes.
    Running { copies: usize, nodes: Vec<String> },
    /// It has ended.
    Ended(TaskView),
    /// It was told to end, and the swarm has forgotten how it did.
    Forgotten,
    /// Its node is lost to the swarm.
    NodeLost { task: String, node: String },
}

/// The state of a step of one copy. `evicted`: the service was given nowhere to run, so that whatever was
/// running there ends.
pub(super) fn of_one(tasks: &[TaskView], nodes: &HashMap<String, NodeView>, evicted: bool) -> State {
    // What an eviction or an update makes anew never runs.
    let placed =
        tasks.iter().filter(|t| !t.node.is_empty() || t.is_over()).min_by(|a, b| a.made.cmp(&b.made));
    let Some(task) = placed else {
        if evicted {
            return State::Forgotten;
        }
        return State::Pending(tasks.iter().find_map(|t| t.trouble.clone()));
    };
    if task.is_over() {
        return State::Ended(task.clone());
    }
    match lost(task, nodes) {
        Some(node) => State::NodeLost { task: task.id.clone(), node },
        None if task.phase == Phase::Running => State::Running { copies: 1, nodes: vec![name(task, nodes)] },
        None => State::Pending(task.trouble.clone()),
    }
}

/// The state of a step of several copies, which the swarm restarts by itself.
pub(super) fn of_several(tasks: &[TaskView], nodes: &HashMap<String, NodeView>, evicted: bool) -> State {
    let mut newest: HashMap<i64, &TaskView> = HashMap::new();
    for task in tasks.iter().filter(|t| !evicted || !t.node.is_empty() || t.is_over()) {
        let of_slot = newest.entry(task.slot).or_insert(task);
        if task.made > of_slot.made {
            *of_slot = task;
        }
    }
    if newest.is_empty() {
        return if evicted { State::Forgotten } else { State::Pending(None) };
    }
    let ends: Vec<&TaskView> =
        newest.values().copied().filter(|t| t.is_over() || (evicted && lost(t, nodes).is_some())).collect();
    if ends.len() == newest.len() {
        // The worst end speaks for all.
        let worst = ends.into_iter().max_by_key(|t| (t.code.unwrap_or_default() != 0, t.slot));
        return worst.map_or(State::Forgotten, |task| State::Ended(task.clone()));
    }
    let mut running: Vec<&TaskView> =
        newest.values().copied().filter(|t| t.phase == Phase::Running && lost(t, nodes).is_none()).collect();
    if running.is_empty() {
        return State::Pending(newest.values().find_map(|t| t.trouble.clone()));
    }
    running.sort_by_key(|t| t.slot);
    State::Running { copies: running.len(), nodes: running.into_iter().map(|t| name(t, nodes)).collect() }
}

/// The name of a task's node, if that is lost to the swarm.
fn lost(task: &TaskView, nodes: &HashMap<String, NodeView>) -> Option<String> {
    match nodes.get(&task.node) {
        _ if task.node.is_empty() => None,
        Some(node) if !node.down => None,
        _ => Some(name(task, nodes)),
    }
}

fn name(task: &TaskView, nodes: &HashMap<String, NodeView>) -> String {
    nodes.get(&task.node).map_or_else(|| task.node.clone(), |node| node.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> HashMap<String, NodeView> {
        let node = |name: &str, down| (name.to_owned(), NodeView { name: format!("engine-{name}"), down });
        HashMap::from([node("a", false), node("b", true)])
    }

    fn task(slot: i64, made: &str, node: &str, phase: Phase) -> TaskView {
        TaskView {
            id: format!("{slot}/{made}"),
            slot,
            node: node.into(),
            phase,
            made: made.into(),
            ..TaskView::default()
        }
    }

    #[test]
    fn one_copy_is_what_its_placed_task_is() {
        let one = |tasks: &[TaskView], evicted| of_one(tasks, &nodes(), evicted);
        let full = TaskView { trouble: Some("no suitable node".into()), ..task(1, "1", "", Phase::Before) };
        assert_eq!(one(&[full], false), State::Pending(Some("no suitable node".into())));
        assert_eq!(one(&[], false), State::Pending(None), "not there yet");
        let running = task(1, "1", "a", Phase::Running);
        assert_eq!(
            one(std::slice::from_ref(&running), false),
            State::Running { copies: 1, nodes: vec!["engine-a".into()] }
        );
        let successor = task(1, "2", "", Phase::Before);
        assert!(
            matches!(one(&[successor.clone(), running], true), State::Running { .. }),
            "it is being stopped"
        );
        let ended = TaskView { code: Some(7), ..task(1, "1", "a", Phase::Ended) };
        assert_eq!(one(&[successor.clone(), ended.clone()], true), State::Ended(ended));
        assert_eq!(one(&[successor], true), State::Forgotten);
    }

    #[test]
    fn a_task_whose_node_is_lost_may_run_on() {
        let lost = |name: &str| State::NodeLost { task: "1/1".into(), node: name.into() };
        for phase in [Phase::Running, Phase::Before] {
            assert_eq!(of_one(&[task(1, "1", "b", phase)], &nodes(), false), lost("engine-b"));
        }
        assert_eq!(
            of_one(&[task(1, "1", "gone", Phase::Running)], &nodes(), false),
            lost("gone"),
            "a node that left"
        );
        assert!(
            matches!(of_one(&[task(1, "1", "b", Phase::Ended)], &nodes(), false), State::Ended(_)),
            "it said so before"
        );
    }

    #[test]
    fn several_copies_run_while_one_of_them_does() {
        let several = |tasks: &[TaskView], evicted| of_several(tasks, &nodes(), evicted);
        let (first, second) = (task(1, "1", "a", Phase::Running), task(2, "1", "b", Phase::Running));
        let on_a = |copies| State::Running { copies, nodes: vec!["engine-a".into(); copies] };
        assert_eq!(several(&[first.clone(), second.clone()], false), on_a(1));
        let moved = task(2, "2", "a", Phase::Running);
        assert_eq!(several(&[first.clone(), second.clone(), moved], false), on_a(2));
        let (bad, fine) =
            (TaskView { code: Some(1), ..task(1, "1", "a", Phase::Ended) }, task(2, "1", "a", Phase::Ended));
        assert_eq!(several(&[bad.clone(), fine], false), State::Ended(bad.clone()));
        assert_eq!(
            several(&[bad.clone(), second], true),
            State::Ended(bad),
            "the swarm hears no more of the other"
        );
    }

    #[test]
    fn an_end_is_told_as_a_container_would() {
        let ended = |code, trouble: Option<&str>, container: Option<&str>| {
            let view = TaskView {
                code,
                trouble: trouble.map(str::to_owned),
                container: container.map(str::to_owned),
                ..task(1, "1", "a", Phase::Ended)
            };
            view.as_container()
        };
        assert_eq!(ended(Some(3), Some("task: non-zero exit (3)"), Some("c")).error, None);
        let missing = ended(None, Some("No such image: x"), None);
        assert_eq!((missing.error.as_deref(), missing.started_at), (Some("No such image: x"), None));
    }
}
