//! The attempts of a run on the day's axis: when each began, was ready and ended, and how.

use askama::Template;
use jiff::Timestamp;

use crate::locale::{Text, filters, say, words};
use crate::view::axis::{Axis, Percent, Scale};
use crate::view::format::{Zone, span};
use crate::view::states::state_class;
use daemon::Snapshot;
use daemon::snapshot::RunView;
use domain::dag::{Step, StepKind};
use domain::run::{AttemptRecord, Exit, StepRun, StepState};

/// A bar narrower than this has no room for its number.
const NUMBERED: f64 = 2.5;

/// The drawing.
#[derive(Debug, Template)]
#[template(path = "pages/run/gantt.html")]
pub(crate) struct Gantt {
    /// The run.
    pub(crate) run: String,
    /// The axis.
    pub(crate) axis: Axis,
    /// One row a step.
    pub(crate) rows: Vec<Row>,
    /// The run has attempts older than those that are kept.
    pub(crate) older: bool,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: String,
    /// Its kind in words.
    pub(crate) kind: Text,
    /// Its state in words.
    pub(crate) state: Text,
    /// Style class of its state.
    pub(crate) class: &'static str,
    /// Attempts of a task, service or teardown.
    pub(crate) bars: Vec<Bar>,
    /// Rounds of a check.
    pub(crate) rounds: Vec<Mark>,
    /// Where attempts were ready.
    pub(crate) ready: Vec<Mark>,
    /// When it is tried again.
    pub(crate) next: Option<Mark>,
    /// How many attempts there were, in words.
    pub(crate) note: Text,
}

/// An attempt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    /// Left end.
    pub(crate) x: Percent,
    /// Width.
    pub(crate) width: Percent,
    /// Middle, for its number.
    pub(crate) middle: Percent,
    /// Number, if there is room for it.
    pub(crate) number: String,
    /// The attempt it leads to.
    pub(crate) attempt: u32,
    /// Style class.
    pub(crate) class: &'static str,
    /// In words.
    pub(crate) title: Text,
}

/// A moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mark {
    /// Where.
    pub(crate) x: Percent,
    /// Style class.
    pub(crate) class: &'static str,
    /// The attempt it leads to.
    pub(crate) attempt: u32,
    /// In words.
    pub(crate) title: Text,
}

/// Draws a run.
pub(crate) fn gantt(snapshot: &Snapshot, view: &RunView) -> Gantt {
    let zone = Zone::new(&snapshot.timezone);
    let run = &view.run;
    let now = if run.state.is_terminal() { run.finished_at.unwrap_or(snapshot.now) } else { snapshot.now };
    let scale = Scale::of(view, now);
    let steps = run.dag.steps().iter().filter_map(|step| Some((step, run.steps.get(&step.name)?)));
    let rows: Vec<Row> = steps.map(|(step, run)| row(step, run, now, &scale, &zone)).collect();
    Gantt {
        run: run.id.to_string(),
        axis: Axis::of(view, &scale, now, &zone),
        rows,
        older: run.steps.values().any(|s| s.history.first().is_some_and(|a| a.attempt > 1)),
    }
}

/// An attempt's style class: by how it ended, and by whether it was meant to.
fn class_of(record: &AttemptRecord, run: &StepRun, last: bool) -> &'static str {
    match &record.exit {
        exit if exit.is_success() => "done",
        Exit::Lost(_) => "lost",
        // Asked to stop, it ended by the signal that asked: that is what it was for.
        Exit::Signal(_)
            if last && matches!(run.state, StepState::Stopped | StepState::Succeeded) && !run.killed =>
        {
            "done"
        }
        _ => "bad",
    }
}

fn row(step: &Step, run: &StepRun, now: Timestamp, scale: &Scale, zone: &Zone) -> Row {
    let last = run.history.len().wrapping_sub(1);
    let check = step.kind == StepKind::Check;
    let told = |number: u32, from: Timestamp, to: Timestamp, how: Text| {
        let lived = span(to.duration_since(from).as_secs());
        say!("{} attempt {}: {}–{} ({}), {}", step.name, number, zone.time(from), zone.time(to), lived, how)
    };
    let mut bars = Vec::new();
    let mut rounds = Vec::new();
    for (nth, a) in run.history.iter().enumerate() {
        let class = class_of(a, run, nth == last);
        let title = told(a.attempt, a.started_at, a.ended_at, words::exit(&a.exit));
        if check {
            let class = if class == "done" { "round" } else { "round-bad" };
            rounds.push(Mark { x: scale.at(a.started_at), class, attempt: a.attempt, title });
        } else {
            bars.push(bar(scale, a.attempt, (a.started_at, a.ended_at), class, title));
        }
    }
    if run.state.is_alive() {
        let from = run.attempt_started_at.or(run.started_at).unwrap_or(run.since).min(now);
        let class = match run.state {
            StepState::Ready => "ready",
            StepState::Degraded => "degraded",
            StepState::Stopping => "stopping",
            _ => "running",
        };
        let title = told(run.attempt, from, now, words::step_state(run.state));
        bars.push(bar(scale, run.attempt, (from, now), class, title));
    }
    let mut ready: Vec<(Timestamp, u32)> = Vec::new();
    if step.kind == StepKind::Service {
        let first = run.history.first().map_or(run.attempt, |a| a.attempt);
        ready.extend(run.ready_at.map(|at| (at, first)));
        ready.extend(run.ready_since.filter(|at| run.ready_at != Some(*at)).map(|at| (at, run.attempt)));
    }
    let ready = ready.into_iter().map(|(at, attempt)| Mark {
        x: scale.at(at),
        class: "ready",
        attempt,
        title: say!("{} ready {}", step.name, zone.time(at)),
    });
    let next = run.next_at.filter(|at| *at > now && !run.state.is_terminal()).map(|at| Mark {
        x: scale.at(at),
        class: "next",
        attempt: run.attempt,
        title: say!("{} again at {}", step.name, zone.time(at)),
    });
    Row {
        name: step.name.to_string(),
        kind: words::step_kind(step.kind),
        state: words::step_state(run.state),
        class: state_class(run.state),
        bars,
        rounds,
        ready: ready.collect(),
        next,
        note: match (check, run.attempt) {
            (_, 0) => Text::default(),
            (true, 1) => say!("1 round"),
            (true, n) => say!("{} rounds", n),
            (false, 1) => say!("1 attempt"),
            (false, n) => say!("{} attempts", n),
        },
    }
}

fn bar(
    scale: &Scale,
    attempt: u32,
    (from, to): (Timestamp, Timestamp),
    class: &'static str,
    title: Text,
) -> Bar {
    let piece = scale.piece(from, to, class, title);
    let number = if piece.width.0 >= NUMBERED { attempt.to_string() } else { String::new() };
    Bar {
        x: piece.x,
        width: piece.width,
        middle: Percent(piece.x.0 + piece.width.0 / 2.0),
        number,
        attempt,
        class,
        title: piece.title,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locale::Reader;
    use crate::view::Html;
    use daemon::testing;

    #[test]
    fn attempts_are_bars_with_their_ends_and_rounds_are_ticks() {
        let snapshot = testing::snapshot();
        let drawn = gantt(&snapshot, &snapshot.runs[0]);
        let row = |name: &str| drawn.rows.iter().find(|r| r.name == name).expect("a row");
        let collector = row("collector");
        let told: Vec<_> = collector.bars.iter().map(|b| (b.attempt, b.class)).collect();
        assert_eq!(told, [(1, "bad"), (2, "ready")]);
        assert!(
            collector.bars[0].title.contains("08:50:01–10:42:10")
                && collector.bars[0].title.contains("exit code 1")
        );
        assert!(
            collector.bars[0].x.0 + collector.bars[0].width.0 <= collector.bars[1].x.0,
            "no two attempts at once"
        );
        assert_eq!(collector.ready.len(), 2, "ready at first, and again");
        let freshness = row("freshness");
        assert_eq!((freshness.bars.len(), freshness.rounds.len()), (0, 20));
        assert!(freshness.next.as_ref().is_some_and(|n| n.title.contains("13:15:00")) && drawn.older);
        let html = Html::of(&drawn, &Reader::default()).to_string();
        assert!(html.contains("/steps/collector/output?attempt=1"), "{html}");
    }

    #[test]
    fn a_service_that_was_asked_to_stop_did_not_fail() {
        let mut snapshot = testing::ended();
        let step = snapshot.runs[0].run.steps.get_mut(&"vwap".parse().expect("a name")).expect("a step");
        step.history.last_mut().expect("an attempt").exit = Exit::Signal(15);
        let class = |snapshot: &Snapshot| {
            let drawn = gantt(snapshot, &snapshot.runs[0]);
            drawn.rows.iter().find(|r| r.name == "vwap").and_then(|r| r.bars.last().map(|b| b.class))
        };
        assert_eq!(class(&snapshot), Some("done"));
        snapshot.runs[0].run.steps.get_mut(&"vwap".parse().expect("a name")).expect("a step").killed = true;
        assert_eq!(class(&snapshot), Some("bad"));
    }
}
