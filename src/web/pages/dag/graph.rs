//! A DAG's steps by their needs, drawn from left to right: each in a column after everything it needs.
//!
//! The layout follows Sugiyama, Tagawa and Toda (1981): layers by longest path, waypoints where an edge
//! passes a layer, and sweeps that order each layer by the mean place of its neighbours. The kind of a step
//! is its shape, not only its colour.

use askama::Template;

use crate::locale::{Text, filters, say, words};
use crate::view::states::{glyph, state_class};
use domain::dag::{Dag, Step, StepKind, Until};
use domain::ids::StepName;
use domain::run::Run;

/// Height of a node, in pixels.
const HEIGHT: f64 = 46.0;
/// Between two nodes of a layer.
const BELOW: f64 = 16.0;
/// Between two layers.
const BESIDE: f64 = 54.0;
/// Room around the drawing, for outlines.
const AROUND: f64 = 4.0;
/// Letters of a name that are drawn.
const NAME: usize = 22;
/// Sweeps over the layers.
const SWEEPS: usize = 8;

/// Where a node stands: its layer, and its place in that layer; the middle of each layer is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Layer, from 0.
    pub layer: usize,
    /// Place among the nodes of the layer.
    pub slot: f64,
}

/// A layout: the places of the nodes, and the waypoints of each edge, both ends included.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// By node.
    pub nodes: Vec<Place>,
    /// From a needed node to the one that needs it.
    pub edges: Vec<(usize, usize, Vec<Place>)>,
    /// Number of layers.
    pub layers: usize,
    /// Nodes and waypoints of the fullest layer.
    pub fullest: usize,
}

/// The layer of each node: after all that it needs, and the last ones after all others.
fn layers_of(needs: &[Vec<usize>], last: &[bool]) -> Vec<usize> {
    let mut layer = vec![0; needs.len()];
    for node in 0..needs.len() {
        layer[node] = needs[node].iter().map(|n| layer[*n] + 1).max().unwrap_or(0);
    }
    let end = (0..needs.len()).filter(|n| !last[*n]).map(|n| layer[n] + 1).max().unwrap_or(0);
    for node in 0..needs.len() {
        if last[node] {
            layer[node] = needs[node].iter().map(|n| layer[*n] + 1).max().unwrap_or(0).max(end);
        }
    }
    layer
}

/// Lays out nodes in topological order: `needs` of each are earlier ones; `last` ones stand after all others.
pub fn layout(needs: &[Vec<usize>], last: &[bool]) -> Layout {
    let mut layer = layers_of(needs, last);
    // Waypoints stand in the layers that an edge passes, as nodes after the real ones.
    let mut chains = Vec::new();
    let mut neighbours: Vec<(Vec<usize>, Vec<usize>)> = vec![(Vec::new(), Vec::new()); needs.len()];
    for node in 0..needs.len() {
        for &need in &needs[node] {
            let mut chain = vec![need];
            for passed in layer[need] + 1..layer[node] {
                layer.push(passed);
                neighbours.push((Vec::new(), Vec::new()));
                chain.push(layer.len() - 1);
            }
            chain.push(node);
            for pair in chain.windows(2) {
                neighbours[pair[0]].1.push(pair[1]);
                neighbours[pair[1]].0.push(pair[0]);
            }
            chains.push(chain);
        }
    }
    let layers = layer.iter().max().map_or(0, |l| l + 1);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); layers];
    for (node, l) in layer.iter().enumerate() {
        rows[*l].push(node);
    }
    let mut slot = vec![0.0; layer.len()];
    let place = |row: &[usize], slot: &mut Vec<f64>| {
        for (at, node) in row.iter().enumerate() {
            slot[*node] = at as f64 - (row.len() as f64 - 1.0) / 2.0;
        }
    };
    rows.iter().for_each(|row| place(row, &mut slot));
    for sweep in 0..SWEEPS {
        let forward = sweep % 2 == 0;
        let order: Vec<usize> = if forward { (0..layers).collect() } else { (0..layers).rev().collect() };
        for l in order {
            let mean = |node: &usize| {
                let near = if forward { &neighbours[*node].0 } else { &neighbours[*node].1 };
                // What has no neighbour there stays where it is.
                if near.is_empty() {
                    slot[*node]
                } else {
                    near.iter().map(|n| slot[*n]).sum::<f64>() / near.len() as f64
                }
            };
            let mut keyed: Vec<(f64, usize)> = rows[l].iter().map(|node| (mean(node), *node)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows[l] = keyed.into_iter().map(|(_, node)| node).collect();
            place(&rows[l], &mut slot);
        }
    }
    let at = |node: usize| Place { layer: layer[node], slot: slot[node] };
    Layout {
        nodes: (0..needs.len()).map(at).collect(),
        edges: chains
            .iter()
            .map(|chain| (chain[0], chain[chain.len() - 1], chain.iter().map(|node| at(*node)).collect()))
            .collect(),
        layers,
        fullest: rows.iter().map(Vec::len).max().unwrap_or(0),
    }
}

/// The drawing.
#[derive(Debug, Template)]
#[template(path = "pages/dag/graph.html")]
pub struct Graph {
    /// Width in pixels.
    pub width: String,
    /// Height in pixels.
    pub height: String,
    /// Steps.
    pub nodes: Vec<Node>,
    /// Needs.
    pub edges: Vec<Edge>,
    /// The run whose states are shown; empty if there is none.
    pub run: String,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its name, cut to what fits.
    pub short: String,
    /// Kind in words.
    pub kind: Text,
    /// Style class of the kind.
    pub shape: &'static str,
    /// State in words; empty without a run.
    pub state: Text,
    /// The state's sign.
    pub glyph: &'static str,
    /// Style class of the state.
    pub class: &'static str,
    /// Where it leads; empty if it leads nowhere.
    pub to: String,
    /// Outline.
    pub path: String,
    /// Left end of its text.
    pub x: String,
    /// Line of its name.
    pub y: String,
    /// Line of its kind and state.
    pub y2: String,
    /// What it waits for, in words.
    pub needs: Text,
}

/// A need.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// The line.
    pub path: String,
    /// In words.
    pub title: Text,
}

/// What a step waits for at another.
fn until(step: &StepName, until: Until) -> Text {
    match until {
        Until::Started => say!("{} has started", step),
        Until::Ready => say!("{} is ready", step),
        Until::Succeeded => say!("{} has succeeded", step),
        Until::Done => say!("{} is over", step),
    }
}

/// Outline of a kind: a task is a box, a service is round, a check is pointed, a teardown has a cut corner.
fn outline(kind: StepKind, x: f64, y: f64, w: f64) -> String {
    let (r, b, h) = (x + w, y + HEIGHT, HEIGHT);
    match kind {
        StepKind::Task => format!("M{x:.0} {y:.0}H{r:.0}V{b:.0}H{x:.0}Z"),
        StepKind::Service => {
            let c = h / 2.0;
            let (from, to) = (x + c, r - c);
            format!(
                "M{from:.0} {y:.0}H{to:.0}A{c:.0} {c:.0} 0 0 1 {to:.0} {b:.0}H{from:.0}A{c:.0} {c:.0} 0 0 1 {from:.0} {y:.0}Z"
            )
        }
        StepKind::Check => {
            let (c, m) = (14.0, y + h / 2.0);
            format!(
                "M{:.0} {y:.0}H{:.0}L{r:.0} {m:.0}L{:.0} {b:.0}H{:.0}L{x:.0} {m:.0}Z",
                x + c,
                r - c,
                r - c,
                x + c
            )
        }
        StepKind::Teardown => format!("M{x:.0} {y:.0}H{:.0}L{r:.0} {:.0}V{b:.0}H{x:.0}Z", r - 14.0, y + 14.0),
    }
}

/// Draws a DAG, with the states of its newest run.
pub fn graph(dag: &Dag, run: Option<&Run>) -> Graph {
    let steps = dag.steps();
    let index = |name| steps.iter().position(|s| s.name == name);
    let needs: Vec<Vec<usize>> =
        steps.iter().map(|s| s.needs.iter().filter_map(|n| index(n.step.clone())).collect()).collect();
    let last: Vec<bool> = steps.iter().map(|s| s.kind == StepKind::Teardown).collect();
    let laid = layout(&needs, &last);
    let longest = steps.iter().map(|s| s.name.as_str().chars().count().min(NAME)).max().unwrap_or(0);
    let width = (longest as f64 * 8.0 + 44.0).max(150.0);
    let middle = AROUND + (laid.fullest.max(1) as f64 * (HEIGHT + BELOW) - BELOW) / 2.0;
    let x = |p: Place| AROUND + p.layer as f64 * (width + BESIDE);
    let y = |p: Place| middle + p.slot * (HEIGHT + BELOW) - HEIGHT / 2.0;
    let nodes = steps.iter().zip(&laid.nodes).map(|(step, p)| node(step, run, x(*p), y(*p), width)).collect();
    let edges = laid.edges.iter().map(|(from, to, places)| {
        let need = steps[*to].needs.iter().find(|n| n.step == steps[*from].name);
        let what = need.map_or_else(Text::default, |n| until(&n.step, n.until));
        Edge { path: line(places, &x, &y, width), title: say!("{} waits until {}", steps[*to].name, what) }
    });
    let layers = laid.layers.max(1) as f64;
    Graph {
        width: format!("{:.0}", layers * (width + BESIDE) - BESIDE + 2.0 * AROUND),
        height: format!("{:.0}", 2.0 * middle),
        nodes,
        edges: edges.collect(),
        run: run.map(|r| r.id.to_string()).unwrap_or_default(),
    }
}

/// A smooth line from the right side of the first place, through those between, to the left side of the last.
fn line(places: &[Place], x: &impl Fn(Place) -> f64, y: &impl Fn(Place) -> f64, width: f64) -> String {
    let middle = |p: Place| y(p) + HEIGHT / 2.0;
    let mut path = format!("M{:.0} {:.0}", x(places[0]) + width, middle(places[0]));
    for pair in places.windows(2) {
        let (from, to) = (x(pair[0]) + width, x(pair[1]));
        let half = (from + to) / 2.0;
        path.push_str(&format!(
            "C{half:.0} {:.0} {half:.0} {:.0} {to:.0} {:.0}",
            middle(pair[0]),
            middle(pair[1]),
            middle(pair[1])
        ));
        if pair[1] != places[places.len() - 1] {
            path.push_str(&format!("H{:.0}", to + width));
        }
    }
    path
}

fn node(step: &Step, run: Option<&Run>, x: f64, y: f64, width: f64) -> Node {
    let ran = run.and_then(|r| Some((r, r.steps.get(&step.name)?)));
    let state = ran.map(|(_, s)| s.state);
    let name = step.name.to_string();
    let short = if name.chars().count() > NAME {
        format!("{}…", name.chars().take(NAME - 1).collect::<String>())
    } else {
        name.clone()
    };
    let to = match ran {
        Some((run, s)) if s.attempt > 0 && s.started_at.is_some() => {
            format!("/runs/{}/steps/{name}/output?attempt={}", run.id, s.attempt)
        }
        Some((run, _)) => format!("/runs/{}#step-{name}", run.id),
        None => String::new(),
    };
    let needs = Text::joined(", ", step.needs.iter().map(|n| until(&n.step, n.until)).collect());
    Node {
        short,
        kind: words::step_kind(step.kind),
        shape: step.kind.as_str(),
        state: state.map_or_else(Text::default, words::step_state),
        glyph: state.map_or("", glyph),
        class: state.map_or("quiet", state_class),
        to,
        path: outline(step.kind, x, y, width),
        x: format!("{:.0}", x + 22.0),
        y: format!("{:.0}", y + 20.0),
        y2: format!("{:.0}", y + 36.0),
        needs,
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locale::Reader;
    use crate::view::Html;
    use daemon::testing;

    #[test]
    fn every_need_goes_to_the_right_and_no_two_nodes_share_a_place() {
        // 0 → 1 → {2, 3, 4}; 5 alone; 6 after all of them, with a need of 0 that passes two layers.
        let needs = [vec![], vec![0], vec![1], vec![1], vec![1], vec![], vec![0, 2]];
        let laid = layout(&needs, &[false, false, false, false, false, false, true]);
        assert_eq!(laid.layers, 4);
        for (from, to, places) in &laid.edges {
            assert_eq!((places[0], places[places.len() - 1]), (laid.nodes[*from], laid.nodes[*to]));
            assert!(places.windows(2).all(|p| p[1].layer == p[0].layer + 1), "{places:?}");
        }
        for (a, first) in laid.nodes.iter().enumerate() {
            assert!(laid.nodes[..a].iter().all(|other| other != first), "{a}");
        }
        assert_eq!(layout(&[], &[]).layers, 0);
    }

    #[test]
    fn crossings_that_can_be_avoided_are() {
        // Two chains whose second nodes are named in the other order.
        let laid = layout(&[vec![], vec![], vec![1], vec![0]], &[false; 4]);
        assert!((laid.nodes[0].slot < laid.nodes[1].slot) == (laid.nodes[3].slot < laid.nodes[2].slot));
    }

    #[test]
    fn nodes_lead_to_their_last_attempt_and_say_kind_and_state_in_words() {
        let snapshot = testing::snapshot();
        let run = &snapshot.runs[0].run;
        let html = Html::of(&graph(&run.dag, Some(run)), &Reader::default()).to_string();
        for text in [
            "/runs/kis-trading-day@2026-11-20/steps/collector/output?attempt=2",
            "/runs/kis-trading-day@2026-11-20#step-reconcile",
            "collector waits until topics has succeeded",
            "check, waiting",
        ] {
            assert!(html.contains(text), "{text} in {html}");
        }
        assert!(
            !Html::of(&graph(&run.dag, None), &Reader::default()).to_string().contains("href"),
            "without a run nothing leads anywhere"
        );
    }
}
