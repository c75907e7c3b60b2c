//! A DAG's steps against its newest runs: one cell a step and run, with a sign for its state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use askama::Template;

use crate::locale::{Text, filters, say, words};
use crate::view::dates;
use crate::view::format::Zone;
use crate::view::states::{glyph, run_class, run_glyph, state_class};
use daemon::history::Brief;
use domain::dag::Dag;
use domain::run::StepState;

/// Runs shown.
pub const RUNS: usize = 30;

/// The grid.
#[derive(Debug, Template)]
#[template(path = "pages/dag/grid.html")]
pub struct Grid {
    /// Runs, newest first.
    pub runs: Vec<Column>,
    /// Steps.
    pub rows: Vec<Row>,
    /// Older runs that are not shown.
    pub more: usize,
    /// Where they begin.
    pub older: usize,
    /// Where the newer ones begin; `None` on the first part.
    pub newer: Option<usize>,
    /// The DAG.
    pub dag: String,
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Run id.
    pub id: String,
    /// Day of the month, or what else tells it from its neighbours.
    pub day: String,
    /// `Nov`, where the month begins or the grid does; else empty.
    pub month: Text,
    /// A manual run or backfill.
    pub by_hand: bool,
    /// What it is, in words.
    pub title: Text,
    /// State's sign.
    pub glyph: &'static str,
    /// Style class of the state.
    pub class: &'static str,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Name.
    pub name: String,
    /// Kind in words; empty for a step that the file has no more.
    pub kind: Text,
    /// One for each run.
    pub cells: Vec<Cell>,
}

/// What became of a step in a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Run id; empty if the run had no such step.
    pub run: Arc<str>,
    /// State's sign.
    pub glyph: &'static str,
    /// State in words.
    pub state: Text,
    /// Style class of the state.
    pub class: &'static str,
    /// Day, for readers of one cell.
    pub day: Arc<str>,
}

fn column(run: &Brief, before: Option<&Brief>, zone: &Zone) -> Column {
    let date = run.session_date;
    let new_month =
        before.is_none_or(|b| (b.session_date.year(), b.session_date.month()) != (date.year(), date.month()));
    Column {
        id: run.id.to_string(),
        day: date.strftime("%-d").to_string(),
        month: if new_month { dates::short_month(date) } else { Text::default() },
        by_hand: run.cause != domain::run::Cause::Scheduled,
        title: say!("{}: {}, opened {}", run.id, words::run_state(run.state), zone.full(run.window.open_at)),
        glyph: run_glyph(run.state),
        class: run_class(run.state),
    }
}

/// The grid of a DAG's runs, newest first, without the first `skip`; `dag` gives the order of the steps.
pub fn grid(name: &str, dag: Option<&Dag>, runs: &[Arc<Brief>], skip: usize, zone: &Zone) -> Grid {
    // Beyond the end, the last part is shown.
    let skip = skip.min(runs.len().saturating_sub(1) / RUNS * RUNS);
    let shown = &runs[skip..runs.len().min(skip + RUNS)];
    let columns =
        shown.iter().enumerate().map(|(at, run)| column(run, at.checked_sub(1).map(|b| &*shown[b]), zone));
    let mut order: Vec<(&str, Text)> =
        dag.into_iter().flat_map(Dag::steps).map(|s| (s.name.as_str(), words::step_kind(s.kind))).collect();
    let known: BTreeSet<&str> = order.iter().map(|(name, _)| *name).collect();
    let gone: BTreeSet<&str> =
        shown.iter().flat_map(|r| &r.steps).map(|s| s.name.as_str()).filter(|n| !known.contains(n)).collect();
    order.extend(gone.into_iter().map(|name| (name, Text::default())));
    let ids: Vec<Arc<str>> = shown.iter().map(|r| r.id.as_str().into()).collect();
    let days: Vec<Arc<str>> = shown.iter().map(|r| r.id.key().into()).collect();
    let steps: Vec<BTreeMap<&str, StepState>> =
        shown.iter().map(|r| r.steps.iter().map(|s| (s.name.as_str(), s.state)).collect()).collect();
    let none: Arc<str> = "".into();
    let row = |(name, kind): (&str, Text)| Row {
        name: name.to_owned(),
        kind,
        cells: (0..shown.len())
            .map(|at| match steps[at].get(name) {
                Some(state) => Cell {
                    run: ids[at].clone(),
                    glyph: glyph(*state),
                    state: words::step_state(*state),
                    class: state_class(*state),
                    day: days[at].clone(),
                },
                None => Cell {
                    run: none.clone(),
                    glyph: "",
                    state: Text::default(),
                    class: "",
                    day: none.clone(),
                },
            })
            .collect(),
    };
    Grid {
        runs: columns.collect(),
        rows: order.into_iter().map(row).collect(),
        more: runs.len() - skip - shown.len(),
        older: skip + RUNS,
        newer: (skip > 0).then(|| skip.saturating_sub(RUNS)),
        dag: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locale::Reader;
    use crate::view::Html;
    use daemon::testing;

    #[test]
    fn states_have_a_sign_and_a_word_and_steps_that_are_gone_keep_their_row() {
        let snapshot = testing::ended();
        let mut brief = Brief::of(&snapshot.runs[0].run);
        let older = brief.clone();
        brief.steps.retain(|s| s.name.as_str() != "vwap");
        let dag = &snapshot.runs[0].run.dag;
        let grid =
            grid("kis-trading-day", Some(dag), &[brief.into(), older.into()], 0, &Zone::new("Asia/Seoul"));
        let names: Vec<_> = grid.rows.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(
            names,
            ["topics", "collector", "sink-index", "sink-objects", "vwap", "freshness", "reconcile"]
        );
        let vwap = grid.rows.iter().find(|r| r.name == "vwap").expect("a row");
        assert_eq!((vwap.cells[0].glyph, vwap.cells[1].glyph), ("", "■"));
        assert!(grid.runs[0].month == "Nov" && grid.runs[1].month.is_empty());
        let html = Html::of(&grid, &Reader::default()).to_string();
        assert!(html.contains("aria-label=\"collector 2026-11-20 stopped\""), "{html}");
    }

    #[test]
    fn no_two_states_look_alike_without_colour() {
        use StepState as S;
        let all = [
            S::Pending,
            S::Starting,
            S::Running,
            S::Ready,
            S::Degraded,
            S::Waiting,
            S::Stopping,
            S::Succeeded,
            S::Failed,
            S::Stopped,
            S::Skipped,
            S::UpstreamFailed,
        ];
        assert_eq!(all.iter().map(|s| glyph(*s)).collect::<BTreeSet<_>>().len(), all.len());
    }
}
