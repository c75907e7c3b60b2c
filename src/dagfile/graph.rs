//! What steps wait for: unknown steps, impossible points, cycles.

use std::collections::BTreeMap;

use super::diagnostics::Diagnostics;
use super::read::word;
use super::suggest;
use super::tree::{Node, Span, Value};
use domain::dag::{Restart, StepKind, Until};

/// A step as far as needs are concerned.
pub(super) struct Vertex<'a> {
    pub name: &'a str,
    pub kind: StepKind,
    /// When it is a service: whether it starts again whenever it ends.
    pub restart: Restart,
    pub needs: Vec<NeedRef<'a>>,
}

/// A need as written.
pub(super) struct NeedRef<'a> {
    pub step: &'a str,
    pub until: Option<Until>,
    pub span: Span,
}

/// The needs of a step: names, or tables of step and point.
pub(super) fn needs(step: &Node) -> Vec<NeedRef<'_>> {
    let Some(Value::List(items)) = step.get("needs").map(|n| &n.value) else { return Vec::new() };
    let of = |item| match Node::text(item) {
        Some(name) => Some(NeedRef { step: name, until: None, span: item.span }),
        None => {
            let name = item.get("step")?;
            Some(NeedRef { step: name.text()?, until: word(item.get("until")), span: name.span })
        }
    };
    items.iter().filter_map(of).collect()
}

/// The point a need waits for when the file does not say.
pub(super) fn default_until(of: StepKind, needed: StepKind) -> Until {
    match (of, needed) {
        // A teardown runs whatever happened; it only comes after.
        (StepKind::Teardown, _) | (_, StepKind::Teardown) => Until::Done,
        (_, StepKind::Service) => Until::Ready,
        (_, StepKind::Check) => Until::Started,
        (_, StepKind::Task) => Until::Succeeded,
    }
}

/// Checks all needs.
pub(super) fn check(vertices: &[Vertex<'_>], diagnostics: &mut Diagnostics<'_>) {
    let by_name: BTreeMap<&str, &Vertex<'_>> = vertices.iter().map(|v| (v.name, v)).collect();
    for vertex in vertices {
        for (at, need) in vertex.needs.iter().enumerate() {
            if vertex.needs[..at].iter().any(|n| n.step == need.step) {
                diagnostics.error(
                    need.span,
                    format!("step \"{}\" needs \"{}\" twice", vertex.name, need.step),
                    "remove one",
                );
            }
            match by_name.get(need.step) {
                None => {
                    let others = vertices.iter().map(|v| v.name).filter(|name| *name != vertex.name);
                    let help = suggest::help(need.step, others, "steps");
                    let message = format!(
                        "step \"{}\" needs \"{}\", which is not a step of this DAG",
                        vertex.name, need.step
                    );
                    diagnostics.error(need.span, message, help);
                }
                Some(needed) => point(vertex, needed, need, diagnostics),
            }
        }
    }
    cycles(vertices, &by_name, diagnostics);
}

/// Checks that the point waited for can come.
fn point(vertex: &Vertex<'_>, needed: &Vertex<'_>, need: &NeedRef<'_>, diagnostics: &mut Diagnostics<'_>) {
    let (name, until) = (needed.name, need.until);
    if needed.kind == StepKind::Teardown && vertex.kind != StepKind::Teardown {
        let message = format!(
            "step \"{}\" would wait for \"{name}\", a teardown, which runs only at close",
            vertex.name
        );
        diagnostics.error(need.span, message, "remove the need, or make this step a teardown too");
    } else if until == Some(Until::Ready) && needed.kind != StepKind::Service {
        let message =
            format!("\"{name}\" is a {} and never gets ready; only services do", needed.kind.as_str());
        diagnostics.error(need.span, message, "write until: started, succeeded or done");
    } else if until == Some(Until::Succeeded)
        && needed.kind == StepKind::Service
        && needed.restart == Restart::Always
    {
        let message =
            format!("\"{name}\" is a service that always starts again; it never succeeds inside its window");
        diagnostics.error(
            need.span,
            message,
            "write until: ready, or give it restart: { policy: on_failure }",
        );
    } else if matches!(until, Some(Until::Succeeded | Until::Done))
        && needed.kind == StepKind::Check
        && vertex.kind != StepKind::Teardown
    {
        let message = format!(
            "\"{name}\" is a check that repeats until close; step \"{}\" would never start",
            vertex.name
        );
        diagnostics.error(need.span, message, "write until: started");
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    OnPath,
    Done,
}

/// Reports each cycle once, at the need that closes it.
fn cycles<'a>(
    vertices: &[Vertex<'a>],
    by_name: &BTreeMap<&'a str, &Vertex<'a>>,
    diagnostics: &mut Diagnostics<'_>,
) {
    let mut marks: BTreeMap<&str, Mark> = BTreeMap::new();
    for start in vertices {
        if marks.contains_key(start.name) {
            continue;
        }
        // Own stack: a file may chain thousands of steps.
        let mut path: Vec<(&Vertex<'a>, usize)> = vec![(start, 0)];
        marks.insert(start.name, Mark::OnPath);
        while let Some((vertex, at)) = path.pop() {
            let Some(need) = vertex.needs.get(at) else {
                marks.insert(vertex.name, Mark::Done);
                continue;
            };
            path.push((vertex, at + 1));
            let Some(next) = by_name.get(need.step) else { continue };
            match marks.get(next.name) {
                None => {
                    marks.insert(next.name, Mark::OnPath);
                    path.push((next, 0));
                }
                Some(Mark::Done) => {}
                Some(Mark::OnPath) => {
                    let names: Vec<&str> = path
                        .iter()
                        .map(|(v, _)| v.name)
                        .skip_while(|n| *n != next.name)
                        .chain([next.name])
                        .collect();
                    let message = match names.len() {
                        2 => format!("step \"{}\" needs itself", next.name),
                        _ => format!("steps wait for each other: {}", names.join(" → ")),
                    };
                    diagnostics.error(need.span, message, "remove one of these needs");
                }
            }
        }
    }
}
