//! The day from open to close: one bar a step, marks for restarts and rounds, bands where data stalled, a
//! now-line.

use askama::Template;
use jiff::{SignedDuration, Timestamp};

use crate::locale::{Text, filters, say, words};
use crate::view::axis::{Axis, Percent, Scale, Segment};
use crate::view::findings;
use crate::view::format::{Zone, span};
use crate::view::states::state_class;
use daemon::Snapshot;
use daemon::snapshot::RunView;
use domain::dag::{AlertKind, Step, StepKind};
use domain::run::{StepRun, StepState};

/// The drawing.
#[derive(Debug, Template)]
#[template(path = "pages/today/timeline.html")]
pub(crate) struct Timeline {
    /// The axis.
    pub(crate) axis: Axis,
    /// One row a step.
    pub(crate) rows: Vec<Row>,
    /// Times without data.
    pub(crate) stalls: Vec<Segment>,
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
    /// Its state as the page's style class.
    pub(crate) class: &'static str,
    /// Coloured pieces.
    pub(crate) segments: Vec<Segment>,
    /// Restarts and rounds.
    pub(crate) marks: Vec<Mark>,
    /// What a reader should know in a few words.
    pub(crate) note: Text,
}

/// A moment on a bar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mark {
    /// Where.
    pub(crate) x: Percent,
    /// Style class: `restart`, `round`, `round-bad`, `round-late`.
    pub(crate) class: &'static str,
    /// Shown on hover.
    pub(crate) title: Text,
}

/// Draws a run.
pub(crate) fn timeline(snapshot: &Snapshot, view: &RunView) -> Timeline {
    let zone = Zone::new(&snapshot.timezone);
    let now = if view.run.state.is_terminal() {
        view.run.finished_at.unwrap_or(snapshot.now)
    } else {
        snapshot.now
    };
    let scale = Scale::of(view, now);
    let stalls = stalls(snapshot, view, now, &scale, &zone);
    let rows = view
        .run
        .dag
        .steps()
        .iter()
        .filter_map(|step| Some((step, view.run.steps.get(&step.name)?)))
        .map(|(step, run)| row(step, run, now, &scale, &zone, &stalls))
        .collect();
    Timeline { axis: Axis::of(view, &scale, now, &zone), rows, stalls }
}

/// Spans between a `stalled` alert of a rule and its `recovered` one. One that is still open begins when the
/// check says that the data stopped.
fn stalls(snapshot: &Snapshot, view: &RunView, now: Timestamp, scale: &Scale, zone: &Zone) -> Vec<Segment> {
    let mut alerts: Vec<_> = snapshot.alerts.iter().filter(|a| a.run == view.run.id).collect();
    alerts.sort_by_key(|a| a.at);
    let mut open: Vec<(&str, Timestamp)> = Vec::new();
    let mut found = Vec::new();
    let mut close = |from: Timestamp, to: Timestamp, word: Text| {
        let title = say!("stalled {}–{} ({})", zone.minute(from), zone.minute(to), word);
        found.push(scale.piece(from, to, "stall", title));
    };
    for alert in alerts {
        match alert.kind {
            AlertKind::Stalled if !open.iter().any(|(rule, _)| *rule == alert.rule) => {
                open.push((&alert.rule, alert.at))
            }
            AlertKind::Recovered => {
                if let Some(at) = open.iter().position(|(rule, _)| *rule == alert.rule) {
                    let (_, from) = open.remove(at);
                    close(from, alert.at, say!("recovered"));
                }
            }
            _ => {}
        }
    }
    let stopped = findings::freshness(view).into_iter().filter_map(|found| found.since).min();
    for (_, from) in open {
        close(stopped.map_or(from, |at| at.min(from)), now, say!("still open"));
    }
    found
}

fn row(step: &Step, run: &StepRun, now: Timestamp, scale: &Scale, zone: &Zone, stalls: &[Segment]) -> Row {
    let pieces = match step.kind {
        StepKind::Service => service(run, now),
        StepKind::Task | StepKind::Teardown => attempts(run, now),
        StepKind::Check => rounds(run, now),
    };
    let segments = pieces
        .into_iter()
        .map(|(from, to, class)| {
            let title = say!("{} {} {}–{}", step.name, piece(class), zone.time(from), zone.time(to));
            scale.piece(from, to, class, title)
        })
        .collect();
    Row {
        name: step.name.to_string(),
        kind: words::step_kind(step.kind),
        state: words::step_state(run.state),
        class: state_class(run.state),
        segments,
        marks: marks(step, run, scale, zone, stalls),
        note: note(step, run, now, zone),
    }
}

/// A piece's style class in words.
fn piece(class: &'static str) -> Text {
    match class {
        "starting" => say!("starting"),
        "ready" => say!("ready"),
        "degraded" => say!("degraded"),
        "stopping" => say!("stopping"),
        "waiting" => say!("waiting"),
        "running" => say!("running"),
        "done" => say!("done"),
        "bad" => say!("failed"),
        "rounds" => say!("rounds"),
        other => Text::plain(other),
    }
}

type Piece = (Timestamp, Timestamp, &'static str);

fn end_of(run: &StepRun, now: Timestamp) -> Timestamp {
    run.stopped_at.unwrap_or(now)
}

/// A service: starting, ready, waiting between attempts, stopping.
fn service(run: &StepRun, now: Timestamp) -> Vec<Piece> {
    let Some(start) = run.started_at else { return Vec::new() };
    let end = end_of(run, now);
    let mut pieces = Vec::new();
    let mut cursor = start;
    for (nth, attempt) in run.history.iter().enumerate() {
        let (mut from, to) = (attempt.started_at.max(cursor), attempt.ended_at.max(cursor));
        // Before the oldest kept attempt the step lived on; between two kept ones it waited.
        pieces.push((cursor, from, if nth == 0 { "ready" } else { "waiting" }));
        if let Some(ready) = run.ready_at.filter(|ready| *ready > from && *ready <= to) {
            pieces.push((from, ready, "starting"));
            from = ready;
        }
        let stop = run.stop_requested_at.map_or(to, |stop| stop.clamp(from, to));
        pieces.extend([(from, stop, "ready"), (stop, to, "stopping")]);
        cursor = to;
    }
    match run.state {
        StepState::Waiting | StepState::Pending => pieces.push((cursor, end, "waiting")),
        StepState::Failed | StepState::UpstreamFailed => pieces.push((cursor, end, "bad")),
        // Ended by hand before any attempt of it did.
        StepState::Succeeded | StepState::Stopped | StepState::Skipped if run.history.is_empty() => {
            pieces.push((cursor, end, "ready"))
        }
        StepState::Succeeded | StepState::Stopped | StepState::Skipped => {}
        StepState::Starting
        | StepState::Running
        | StepState::Ready
        | StepState::Degraded
        | StepState::Stopping => {
            let began = run.attempt_started_at.unwrap_or(cursor).clamp(cursor, end);
            let turned = match run.state {
                StepState::Degraded => (run.since.clamp(began, end), "degraded"),
                StepState::Stopping => {
                    (run.stop_requested_at.unwrap_or(run.since).clamp(began, end), "stopping")
                }
                _ => (end, "ready"),
            };
            let ready = run.ready_since.unwrap_or(turned.0).clamp(began, turned.0);
            pieces.extend([
                (cursor, began, "waiting"),
                (began, ready, "starting"),
                (ready, turned.0, "ready"),
                (turned.0, end, turned.1),
            ]);
        }
    }
    pieces.retain(|(from, to, class)| to > from || *class == "bad");
    pieces
}

/// A task or teardown: each attempt by its end, waits between them.
fn attempts(run: &StepRun, now: Timestamp) -> Vec<Piece> {
    // One that could not be started never ran, and is a failure all the same.
    let Some(start) = run.started_at.or(run.history.first().map(|a| a.started_at)) else { return Vec::new() };
    let end = end_of(run, now);
    let mut cursor = start;
    let mut pieces = Vec::new();
    for attempt in &run.history {
        if attempt.started_at > cursor {
            pieces.push((cursor, attempt.started_at, "waiting"));
        }
        pieces.push((
            attempt.started_at,
            attempt.ended_at,
            if attempt.exit.is_success() { "done" } else { "bad" },
        ));
        cursor = attempt.ended_at;
    }
    match run.state {
        StepState::Starting | StepState::Running | StepState::Ready | StepState::Degraded => {
            pieces.push((cursor, end, "running"))
        }
        StepState::Waiting | StepState::Pending => pieces.push((cursor, end, "waiting")),
        StepState::Stopping => pieces.push((cursor, end, "stopping")),
        StepState::Succeeded if run.history.is_empty() => pieces.push((cursor, end, "done")),
        StepState::Failed if run.history.is_empty() => pieces.push((cursor, end, "bad")),
        _ => {}
    }
    pieces
}

/// A check: a faint line from its first round to its last; the rounds are marks.
fn rounds(run: &StepRun, now: Timestamp) -> Vec<Piece> {
    run.started_at.map(|start| (start, end_of(run, now), "rounds")).into_iter().collect()
}

fn marks(step: &Step, run: &StepRun, scale: &Scale, zone: &Zone, stalls: &[Segment]) -> Vec<Mark> {
    let in_stall = |x: Percent| stalls.iter().any(|s| x.0 >= s.x.0 && x.0 <= s.x.0 + s.width.0);
    let last = run.history.len().wrapping_sub(1);
    run.history
        .iter()
        .enumerate()
        .filter_map(|(nth, attempt)| {
            let x = scale.at(attempt.ended_at);
            let title = say!(
                "attempt {} ended {}: {}",
                attempt.attempt,
                zone.time(attempt.ended_at),
                words::exit(&attempt.exit)
            );
            let class = match step.kind {
                StepKind::Check if !attempt.exit.is_success() => "round-bad",
                StepKind::Check if in_stall(x) => "round-late",
                StepKind::Check => "round",
                // The last end of a step that is over is its end, not a restart.
                _ if nth == last && run.state.is_terminal() => return None,
                _ => "restart",
            };
            Some(Mark { x, class, title })
        })
        .collect()
}

fn note(step: &Step, run: &StepRun, now: Timestamp, zone: &Zone) -> Text {
    let until = |at: Timestamp| span(at.duration_since(now).max(SignedDuration::ZERO).as_secs());
    match (run.state, run.next_at) {
        (StepState::Waiting, Some(at)) if step.kind == StepKind::Check => {
            return say!("next round {}", zone.minute(at));
        }
        (StepState::Waiting, Some(at)) => return say!("again in {}", until(at)),
        _ => {}
    }
    if let Some(reason) = &run.reason {
        return Text::plain(reason.clone());
    }
    let restarts = run.attempt.saturating_sub(1);
    match (step.kind, run.state) {
        (StepKind::Service, state) if state.is_alive() && restarts == 1 => say!("restarted once"),
        (StepKind::Service, state) if state.is_alive() && restarts > 1 => {
            say!("restarted {} times", restarts)
        }
        (StepKind::Teardown, StepState::Pending) => say!("runs at close"),
        (_, StepState::Pending) if !step.needs.is_empty() => {
            say!("waits for {}", step.needs.iter().map(|n| n.step.as_str()).collect::<Vec<_>>().join(", "))
        }
        (_, state) if state.is_terminal() => {
            run.stopped_at.map(|at| say!("ended {}", zone.time(at))).unwrap_or_default()
        }
        _ => Text::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing;

    #[test]
    fn the_fixture_day_is_drawn_to_scale() {
        let snapshot = testing::snapshot();
        let drawn = timeline(&snapshot, &snapshot.runs[0]);
        let now = drawn.axis.now.expect("an open run has a now-line");
        // 08:50 to 16:00 is 430 minutes, drawn on 102 % of that; 13:11 is 261 minutes in.
        assert!((now.x.0 - 261.0 / (430.0 * 1.02) * 100.0).abs() < 0.2, "{now:?}");
        assert_eq!(drawn.axis.ticks.first().map(|t| t.label.as_str()), Some("09:00"));
        assert_eq!(drawn.axis.zone, "KST");
        assert_eq!(drawn.stalls.len(), 1);
        let collector = drawn.rows.iter().find(|r| r.name == "collector").expect("a row");
        assert_eq!(collector.marks.len(), 1, "one restart");
        assert!(
            collector.segments.iter().all(|s| s.x.0 + s.width.0 <= now.x.0 + 0.4),
            "nothing is drawn in the future"
        );
        let freshness = drawn.rows.iter().find(|r| r.name == "freshness").expect("a row");
        assert_eq!(freshness.marks.last().map(|m| m.class), Some("round-late"));
        let reconcile = drawn.rows.iter().find(|r| r.name == "reconcile").expect("a row");
        assert!(reconcile.segments.is_empty());
        assert_eq!(reconcile.note, "runs at close");
    }

    #[test]
    fn an_attempt_that_could_not_be_started_is_drawn() {
        use domain::run::{AttemptRecord, Ending, Exit};
        let (start, end) = (testing::at("08:50:00"), testing::at("08:50:01"));
        let mut run = StepRun::new(start);
        (run.state, run.stopped_at) = (StepState::Failed, Some(end));
        run.history.push(AttemptRecord {
            attempt: 1,
            started_at: start,
            ended_at: end,
            exit: Exit::NotStarted("no image".into()),
            ending: Ending::Itself,
        });
        assert_eq!(attempts(&run, testing::at("09:00:00")), [(start, end, "bad")]);
    }

    #[test]
    fn pieces_of_a_service_never_overlap() {
        let snapshot = testing::snapshot();
        for view in [snapshot.runs[0].clone(), testing::ended().runs[0].clone()] {
            for step in view.run.dag.steps().iter().filter(|s| s.kind == StepKind::Service) {
                let pieces = service(&view.run.steps[&step.name], snapshot.now);
                assert!(pieces.windows(2).all(|w| w[0].1 <= w[1].0), "{}: {pieces:?}", step.name);
            }
        }
    }

    #[test]
    fn a_service_that_recovered_from_trouble_was_ready_before_it() {
        let mut run = StepRun::new(testing::at("10:20:00"));
        (run.state, run.attempt) = (StepState::Ready, 1);
        let (start, ready) = (testing::at("08:50:00"), testing::at("08:50:06"));
        (run.started_at, run.attempt_started_at, run.ready_at, run.ready_since) =
            (Some(start), Some(start), Some(ready), Some(ready));
        let now = testing::at("12:16:00");
        assert_eq!(service(&run, now), [(start, ready, "starting"), (ready, now, "ready")]);
        run.state = StepState::Degraded;
        assert_eq!(
            service(&run, now),
            [(start, ready, "starting"), (ready, run.since, "ready"), (run.since, now, "degraded")]
        );
    }
}
