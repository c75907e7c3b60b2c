//! A run: its header, and a table of its steps with attempts, times, exits, reasons and what can be done.

use askama::Template;

use super::gantt::gantt;
use crate::locale::{Reader, Text, ToText, filters, say, words};
use crate::view::format::{Zone, count, span, speed};
use crate::view::states::{run_class, state_class};
use crate::view::{Fragment, Pair, dates};
use daemon::Snapshot;
use daemon::snapshot::RunView;
use domain::advice::advice;
use domain::dag::{Dag, Step};
use domain::run::{Cause, Exit, StepRun};

/// The head of a page about a run.
#[derive(Debug, Template)]
#[template(path = "pages/run/header.html")]
pub struct Header {
    /// Run id; empty when there is no run.
    pub id: String,
    /// DAG name.
    pub dag: String,
    /// What the DAG says it does.
    pub description: String,
    /// `Friday 20 November 2026`
    pub date: Text,
    /// State in words.
    pub state: Text,
    /// Style class of the state.
    pub class: &'static str,
    /// `08:50–16:00 KST`
    pub window: Text,
    /// Time of day now.
    pub now: String,
    /// Zone of that time.
    pub zone: String,
    /// How much faster than real time the clock runs, or that it is held; `None` at real speed.
    pub speed: Option<Text>,
    /// More facts.
    pub facts: Vec<Pair>,
}

fn speed_badge(snapshot: &Snapshot) -> Option<Text> {
    if snapshot.speed == 0.0 {
        return Some(say!("virtual clock, held"));
    }
    ((snapshot.speed - 1.0).abs() > 1e-9).then(|| say!("virtual clock × {}", speed(snapshot.speed)))
}

/// The header of a run, or of a day without one.
pub fn header(snapshot: &Snapshot, view: Option<&RunView>) -> Header {
    let zone = Zone::new(&snapshot.timezone);
    let base = Header {
        id: String::new(),
        dag: "openbell".to_owned(),
        description: String::new(),
        date: zone.long_date(snapshot.now),
        state: say!("idle"),
        class: "quiet",
        window: Text::default(),
        now: zone.time(snapshot.now),
        zone: zone.label(snapshot.now),
        speed: speed_badge(snapshot),
        facts: Vec::new(),
    };
    let Some(view) = view else { return base };
    let run = &view.run;
    let mut facts = Vec::new();
    match run.cause {
        Cause::Scheduled => {}
        Cause::Manual => facts.push(Pair::new(say!("started"), say!("by hand"))),
        Cause::Backfill => facts.push(Pair::new(say!("started"), say!("by a backfill"))),
    }
    if run.late_by_seconds() > 0 {
        facts.push(Pair::new(say!("joined late by"), span(run.late_by_seconds())));
    }
    if let Some(by) = &run.cancelled_by {
        facts.push(Pair::new(say!("cancelled by"), by));
    }
    if let Some(at) = run.finished_at {
        facts.push(Pair::new(say!("ended"), zone.full(at)));
    }
    facts.extend(run.params.iter().map(|(key, value)| Pair::new(key, value)));
    let open = zone.minute(run.window.open_at);
    let window = match run.window.close_at {
        Some(close) => Text::plain(format!("{open}–{} {}", zone.minute(close), zone.label(close))),
        None => say!("from {} {}", open, zone.label(run.window.open_at)),
    };
    Header {
        id: run.id.to_string(),
        dag: run.dag.name.to_string(),
        description: run.dag.description.clone(),
        date: dates::long(run.session_date),
        state: words::run_state(run.state),
        class: run_class(run.state),
        window,
        facts,
        ..base
    }
}

/// What can be done to a run, as forms.
#[derive(Debug, Template)]
#[template(path = "pages/run/actions.html")]
pub struct Actions {
    /// Run id.
    pub id: String,
    /// It can still be cancelled.
    pub open: bool,
    /// Hidden field of every form.
    pub csrf: String,
}

/// The table of steps.
#[derive(Debug, Template)]
#[template(path = "pages/run/steps.html")]
pub struct Steps {
    /// Run id.
    pub id: String,
    /// One row a step.
    pub rows: Vec<StepRow>,
    /// Hidden field of every form.
    pub csrf: String,
    /// Zone of the times.
    pub zone: String,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRow {
    /// Name.
    pub name: String,
    /// Kind in words.
    pub kind: Text,
    /// State in words.
    pub state: Text,
    /// Style class of the state.
    pub class: &'static str,
    /// Number of the newest attempt; 0 before the first.
    pub attempt: u32,
    /// Retries or restarts spent.
    pub retries: u32,
    /// Times of day, or a dash.
    pub started: String,
    /// When it was ready.
    pub ready: String,
    /// When it was over.
    pub stopped: String,
    /// How the last attempt ended, without the reason.
    pub exit: Text,
    /// Why it stands where it stands, if that says more than how it ended.
    pub reason: Text,
    /// What was noticed of the attempt.
    pub notice: String,
    /// What to do about a bad end.
    pub advice: Text,
    /// What the living step says about itself.
    pub facts: Vec<Pair>,
    /// What runs again with it when it is cleared: those that need it.
    pub below: String,
    /// Ended attempts, newest first.
    pub history: Vec<Attempt>,
    /// What it returned, as indented JSON.
    pub result: Option<String>,
}

/// An ended attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Number.
    pub number: u32,
    /// `09:00:12–11:32:47`
    pub times: String,
    /// How long it lived.
    pub lived: Text,
    /// How it ended.
    pub exit: Text,
    /// It ended well.
    pub fine: bool,
}

fn step_row(view: &RunView, step: &Step, run: &StepRun, zone: &Zone, now: jiff::Timestamp) -> StepRow {
    let time = |at: Option<jiff::Timestamp>| at.map_or_else(|| "–".to_owned(), |at| zone.time(at));
    let told = run.reason.clone().unwrap_or_default();
    let mut why = vec![Text::plain(told.clone())];
    if let Some(until) = run.not_before.filter(|until| *until > now) {
        why = vec![say!("waits until {}: {}", zone.time(until), told)];
    }
    // What the step says of itself, unless that is its reason.
    let trouble = view.statuses.get(&step.name).and_then(|s| s.degraded.as_ref());
    let trouble = trouble.filter(|t| told.is_empty() || !t.contains(&told));
    why.extend(trouble.map(|t| Text::plain(t.clone())));
    // How the last attempt ended says it of one that is over.
    let ended_so =
        !run.state.is_alive() && run.history.last().is_some_and(|last| last.exit == Exit::Signal(9));
    if run.killed && !ended_so {
        why.push(say!("had to be killed"));
    }
    if run.missed_rounds > 0 {
        why.push(say!("{} rounds missed", count(run.missed_rounds.into())));
    }
    let mut reason = Text::joined("; ", why);
    let exit = run.history.last().map_or_else(|| Text::plain("–"), |a| words::exit_in_brief(&a.exit));
    if reason.to_string() == exit.to_string() {
        reason = Text::default();
    }
    let history = run.history.iter().rev().map(|a| Attempt {
        number: a.attempt,
        times: format!("{}–{}", zone.time(a.started_at), zone.time(a.ended_at)),
        lived: span(a.ended_at.duration_since(a.started_at).as_secs()),
        exit: words::exit(&a.exit),
        fine: a.exit.is_success(),
    });
    let facts = view.statuses.get(&step.name).map(|s| {
        s.facts
            .iter()
            .filter(|(_, v)| !v.is_object())
            .map(|(k, v)| Pair::new(words::fact(k), zone.value(v)))
            .collect()
    });
    StepRow {
        name: step.name.to_string(),
        kind: words::step_kind(step.kind),
        state: words::step_state(run.state),
        class: state_class(run.state),
        attempt: run.attempt,
        retries: run.retries_used,
        started: time(run.started_at),
        ready: time(run.ready_at),
        stopped: time(run.stopped_at),
        exit,
        reason,
        notice: run.notice.clone().unwrap_or_default(),
        advice: advice(step, run).map(|advice| advice.message().to_text()).unwrap_or_default(),
        facts: facts.unwrap_or_default(),
        below: below(&view.run.dag, step),
        history: history.collect(),
        // A JSON value always prints.
        result: run.result.as_ref().map(|r| format!("{r:#}")),
    }
}

/// Steps that need a step, directly or through others, in words.
fn below(dag: &Dag, step: &Step) -> String {
    let mut found = vec![&step.name];
    // Steps are in topological order, so one pass meets needs before those that need them.
    for other in dag.steps() {
        if other.needs.iter().any(|n| found.contains(&&n.step)) {
            found.push(&other.name);
        }
    }
    found[1..].iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ")
}

/// The table of a run's steps.
pub fn steps(snapshot: &Snapshot, view: &RunView, csrf: &str) -> Steps {
    let zone = Zone::new(&snapshot.timezone);
    let row = |step| Some(step_row(view, step, view.run.steps.get(&step.name)?, &zone, snapshot.now));
    let rows = view.run.dag.steps().iter().filter_map(row);
    Steps {
        id: view.run.id.to_string(),
        rows: rows.collect(),
        csrf: csrf.to_owned(),
        zone: zone.label(snapshot.now),
    }
}

/// The page of a run.
pub fn page(snapshot: &Snapshot, view: &RunView, csrf: &str, reader: &Reader) -> Vec<Fragment> {
    let id = view.run.id.to_string();
    vec![
        Fragment::new("header", &header(snapshot, Some(view)), reader),
        Fragment::new("timeline", &gantt(snapshot, view), reader),
        Fragment::new("steps", &steps(snapshot, view, csrf), reader),
        Fragment::new(
            "actions",
            &Actions { id, open: !view.run.state.is_terminal(), csrf: csrf.to_owned() },
            reader,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing;

    #[test]
    fn the_header_names_day_window_clock_and_speed() {
        let snapshot = testing::snapshot();
        let header = header(&snapshot, snapshot.today());
        assert_eq!(header.date, "Friday 20 November 2026");
        assert_eq!(header.window, "08:50–16:00 KST");
        assert_eq!((header.now.as_str(), header.zone.as_str()), ("13:11:02", "KST"));
        assert_eq!(header.speed, Some(say!("virtual clock × {}", "120")));
        let badge = |speed| speed_badge(&Snapshot { speed, ..testing::snapshot() });
        assert_eq!([badge(1.0), badge(0.0)], [None, Some(say!("virtual clock, held"))]);
    }

    #[test]
    fn a_row_shows_attempts_exits_and_reasons() {
        let snapshot = testing::snapshot();
        let table = steps(&snapshot, &snapshot.runs[0], "token");
        let collector = table.rows.iter().find(|r| r.name == "collector").expect("a row");
        assert!(collector.attempt == 2 && collector.exit == "exit code 1");
        assert_eq!(collector.history[0].times, "08:50:01–10:42:10");
        assert!(collector.facts.contains(&Pair::new(say!("frames"), "3,871")), "{collector:?}");
    }

    #[test]
    fn a_bad_end_is_said_once_with_what_to_do() {
        use domain::run::{Ending, StepState, StopCause};
        let mut snapshot = testing::snapshot();
        let mut row = |exit: Exit, reason: &str, killed: bool| {
            let run =
                snapshot.runs[0].run.steps.get_mut(&"collector".parse().expect("a name")).expect("a step");
            (run.state, run.reason, run.killed) = (StepState::Failed, Some(reason.to_owned()), killed);
            let last = run.history.last_mut().expect("an attempt");
            last.exit = exit;
            last.ending = if killed { Ending::Asked(StopCause::TimedOut) } else { Ending::Itself };
            run.notice = Some("printed more than 64 MiB".to_owned());
            snapshot.runs[0].statuses.clear();
            steps(&snapshot, &snapshot.runs[0], "token")
                .rows
                .into_iter()
                .find(|r| r.name == "collector")
                .expect("a row")
        };
        let greedy = row(Exit::OutOfMemory, "out of memory", false);
        assert!(greedy.exit == "out of memory" && greedy.reason.is_empty());
        assert!(greedy.advice.contains("more memory") && greedy.notice.contains("64 MiB"), "{greedy:?}");
        let why = "could not be started: image \"x:1\" is not on the engine; build it";
        let missing =
            row(Exit::NotStarted("image \"x:1\" is not on the engine; build it".into()), why, false);
        assert!(missing.exit == "could not be started" && missing.reason == why);
        let deaf = row(Exit::Signal(9), "timed out after 4s, ignored SIGTERM for 1s, and was killed", true);
        assert_eq!(deaf.reason, "timed out after 4s, ignored SIGTERM for 1s, and was killed");
        let html =
            Fragment::new("steps", &steps(&snapshot, &snapshot.runs[0], "token"), &Reader::default()).html;
        for text in ["ignored SIGTERM for 1s", "timeout:", "printed more than 64 MiB"] {
            assert!(html.as_str().contains(text), "{text} in {html}");
        }
    }

    #[test]
    fn a_service_that_waits_says_until_when_and_why_once() {
        let mut snapshot = testing::snapshot();
        let view = &mut snapshot.runs[0];
        let name = "collector".parse().expect("a name");
        let run = view.run.steps.get_mut(&name).expect("a step");
        run.state = domain::run::StepState::Running;
        run.not_before = Some("2026-11-20T13:12:40+09:00".parse().expect("a time"));
        run.reason = Some("another session uses this app key".into());
        view.statuses.get_mut(&name).expect("a status").degraded =
            Some("feed: another session uses this app key; the next try is in 98 s".into());
        let table = steps(&snapshot, &snapshot.runs[0], "token");
        let collector = table.rows.iter().find(|r| r.name == "collector").expect("a row");
        assert_eq!(collector.reason, "waits until 13:12:40: another session uses this app key");
    }
}
