//! `dag graph`: a tree for people, DOT for Graphviz, JSON for programs.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Result, print, print_json, show};
use domain::dag::{Dag, Step, StepKind};

pub(super) fn graph(dag: &Dag, dot: bool, json: bool) -> Result {
    if json {
        let edges = dag.steps().iter().flat_map(|s| s.needs.iter().map(move |n| (s, n)));
        return print_json(&json!({
            "dag": dag.name.as_str(),
            "steps": dag.steps().iter().map(|s| json!({"name": s.name, "kind": s.kind})).collect::<Vec<_>>(),
            "needs": edges.map(|(s, n)| json!({"step": s.name, "needs": n.step, "until": n.until})).collect::<Vec<_>>(),
        }));
    }
    print(&if dot { as_dot(dag) } else { tree(dag) })
}

/// Every step once, below the first step it needs; teardowns last, because they run last.
fn tree(dag: &Dag) -> String {
    let mut text = format!("{}\n", dag.name);
    let mut roots: Vec<&Step> = dag.steps().iter().filter(|s| s.needs.is_empty()).collect();
    roots.sort_by_key(|s| s.kind == StepKind::Teardown);
    let mut shown = BTreeSet::new();
    // Own stack, last first: (step, its need here, the branches of its parents, whether it is the last of its
    // siblings).
    let mut stack: Vec<(&Step, Option<&Step>, String, bool)> = Vec::new();
    push(&mut stack, None, roots, "");
    while let Some((step, parent, margin, last)) = stack.pop() {
        let branch = if last { "└─ " } else { "├─ " };
        let again = !shown.insert(&step.name);
        text.push_str(&format!(
            "{margin}{branch}{}\n",
            if again { format!("{} (shown above)", step.name) } else { label(dag, step, parent) }
        ));
        if !again {
            let below = format!("{margin}{}", if last { "   " } else { "│  " });
            push(&mut stack, Some(step), dag.dependents(&step.name).collect(), &below);
        }
    }
    text
}

fn push<'a>(
    stack: &mut Vec<(&'a Step, Option<&'a Step>, String, bool)>,
    parent: Option<&'a Step>,
    children: Vec<&'a Step>,
    margin: &str,
) {
    let count = children.len();
    for (at, child) in children.into_iter().enumerate().rev() {
        stack.push((child, parent, margin.to_owned(), at + 1 == count));
    }
}

fn label(dag: &Dag, step: &Step, parent: Option<&Step>) -> String {
    let mut text = format!("{}  {}  {}", step.name, step.kind.as_str(), show::runs(step));
    if let Some(every) = step.every {
        text.push_str(&format!(" every {}", super::table::duration(every)));
    }
    if step.kind == StepKind::Teardown {
        text.push_str("  (at close)");
    }
    let others: Vec<String> = step
        .needs
        .iter()
        .filter(|n| parent.is_none_or(|p| p.name != n.step))
        .map(|n| show::need(dag, n))
        .collect();
    if !others.is_empty() {
        text.push_str(&format!("  (also needs {})", others.join(", ")));
    }
    text
}

fn as_dot(dag: &Dag) -> String {
    // Names hold no quotes or backslashes; commands may.
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [shape=box];\n", dag.name);
    for step in dag.steps() {
        let shape = match step.kind {
            StepKind::Task => "box",
            StepKind::Service => "box, style=rounded",
            StepKind::Check => "diamond",
            StepKind::Teardown => "box, style=dashed",
        };
        text.push_str(&format!(
            "  \"{}\" [shape={shape}, label=\"{}\\n{}\"];\n",
            step.name,
            step.name,
            escaped(&show::runs(step))
        ));
    }
    for step in dag.steps() {
        for need in &step.needs {
            text.push_str(&format!(
                "  \"{}\" -> \"{}\" [label=\"{}\"];\n",
                need.step,
                step.name,
                show::until(need.until)
            ));
        }
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::dag::fixtures::{dag, step};
    use domain::dag::{StepKind, Until};

    fn diamond() -> Dag {
        dag(
            "d",
            vec![
                step("end", StepKind::Teardown, &[]),
                step("a", StepKind::Task, &[]),
                step("b", StepKind::Service, &[("a", Until::Succeeded)]),
                step("c", StepKind::Check, &[("a", Until::Done)]),
                step("z", StepKind::Task, &[("b", Until::Ready), ("c", Until::Started)]),
            ],
        )
    }

    #[test]
    fn the_tree_shows_every_step_once() {
        let expected = "d\n├─ a  task  true\n│  ├─ b  service  true\n│  │  └─ z  task  true  (also needs c)\n│  └─ c  check  true every 5m\n│     └─ z (shown above)\n└─ end  teardown  true  (at close)\n";
        assert_eq!(tree(&diamond()), expected);
    }

    #[test]
    fn dot_has_every_need() {
        let text = as_dot(&diamond());
        assert_eq!(text.matches("->").count(), 4);
        assert!(text.contains("\"a\" -> \"c\" [label=\"done\"];"), "{text}");
    }
}
