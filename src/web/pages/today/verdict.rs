//! The one sentence a reader comes for: is everything the exchange sent in every store, and if not, what is
//! wrong since when.

use askama::Template;
use rust_decimal::Decimal;

use crate::locale::{Text, ToText, say};
use crate::view::findings;
use crate::view::format::{Zone, count};
use daemon::Snapshot;
use daemon::snapshot::RunView;
use domain::hop;
use domain::message::quantity;
use domain::run::{RunState, StepState};

/// The sentence, with what stands behind it.
#[derive(Debug, Clone, PartialEq, Template)]
#[template(path = "pages/today/verdict.html")]
pub struct Verdict {
    /// Style class: `good`, `busy`, `warn`, `bad`, `quiet`.
    pub level: &'static str,
    /// The sentence.
    pub title: Text,
    /// Everything that is wrong, worst first.
    pub details: Vec<Text>,
}

/// Judges a snapshot. Pure: the same snapshot gives the same sentence.
pub fn verdict(snapshot: &Snapshot) -> Verdict {
    let zone = Zone::new(&snapshot.timezone);
    let Some(view) = snapshot.today() else { return nothing(snapshot, &zone) };
    let (mut bad, mut warn) = (Vec::new(), Vec::new());
    for (store, said) in &snapshot.gauges.unreachable {
        bad.push(say!("{} does not answer: {}", store, said));
    }
    for (name, step) in &view.run.steps {
        let with_why =
            |text: Text| Text::joined(": ", vec![text, Text::plain(step.reason.clone().unwrap_or_default())]);
        warn.extend(step.notice.as_ref().map(|notice| say!("step {}: {}", name, notice)));
        match step.state {
            StepState::Failed => bad.push(with_why(say!("step {} failed", name))),
            StepState::UpstreamFailed => bad.push(with_why(say!("step {} cannot run", name))),
            StepState::Degraded => warn.push(with_why(say!("step {} is degraded", name))),
            StepState::Running => {
                let wait = step.not_before.filter(|until| *until > snapshot.now);
                warn.extend(
                    wait.map(|until| with_why(say!("step {} waits until {}", name, zone.time(until)))),
                );
            }
            _ => {}
        }
    }
    match view.run.state {
        RunState::Running | RunState::Closing => open(snapshot, view, bad, warn),
        _ => ended(view, bad, warn, &zone),
    }
}

fn waiting(n: u64) -> Text {
    if n == 1 { say!("1 dead letter is waiting") } else { say!("{} dead letters are waiting", count(n)) }
}

fn kept(n: u64) -> Text {
    if n == 1 { say!("1 dead letter is kept") } else { say!("{} dead letters are kept", count(n)) }
}

fn nothing(snapshot: &Snapshot, zone: &Zone) -> Verdict {
    let soonest = snapshot
        .dags
        .iter()
        .filter(|d| !d.paused)
        .filter_map(|d| Some((d.next.first()?, d)))
        .min_by_key(|(w, _)| w.open_at);
    let details = match soonest {
        Some((window, dag)) => vec![say!("Next: {} on {}.", dag.name, zone.day_minute(window.open_at))],
        None if snapshot.dags.is_empty() => vec![say!("There are no DAG files yet.")],
        None => vec![say!("Nothing is scheduled; start a run by hand on the DAGs page.")],
    };
    Verdict { level: "quiet", title: say!("No run yet"), details }
}

fn open(snapshot: &Snapshot, view: &RunView, mut bad: Vec<Text>, mut warn: Vec<Text>) -> Verdict {
    let found = findings::freshness(view);
    let mut stalls: Vec<Text> =
        found.iter().filter(|found| found.stalled).map(|found| found.finding.to_text()).collect();
    stalls.dedup();
    let stalled = !stalls.is_empty();
    bad.splice(0..0, stalls);
    let dead: u64 = snapshot.gauges.dead_letters.values().sum();
    if dead > 0 {
        warn.push(waiting(dead));
    }
    let collectors = view.run.dag.steps().iter().filter(|s| hop::collects(steps::programs(), s));
    let missing = collectors.filter_map(|s| findings::fact_quantity(view, s, "gap_shares"));
    let missing = missing.fold(Decimal::ZERO, Decimal::saturating_add);
    if !missing.is_zero() {
        warn.push(say!(
            "{} shares were traded and never received; reconciliation lists the gaps",
            quantity(&missing)
        ));
    }
    let closing = view.run.state == RunState::Closing;
    let starting = view.run.dag.steps().iter().any(|s| {
        view.run.steps.get(&s.name).is_some_and(|r| {
            r.ready_at.is_none() && matches!(r.state, StepState::Starting | StepState::Running)
        })
    });
    let title = match (bad.is_empty(), warn.is_empty()) {
        (false, _) if stalled => say!("Ingestion is stalled"),
        (false, _) => say!("Something is broken"),
        (true, false) => say!("Data flows, with something to look at"),
        (true, true) if closing => say!("Closing: draining and tearing down"),
        (true, true) if starting => say!("Starting"),
        (true, true) => say!("Data flows and every step does its work"),
    };
    let level = match (bad.is_empty(), warn.is_empty()) {
        (false, _) => "bad",
        (true, false) => "warn",
        (true, true) if closing || starting => "busy",
        (true, true) => "good",
    };
    bad.append(&mut warn);
    Verdict { level, title, details: bad }
}

/// Several reconciliations of a day may say the same.
fn told_once(told: &mut Vec<Text>, more: impl IntoIterator<Item = Text>) {
    for text in more {
        if !told.contains(&text) {
            told.push(text);
        }
    }
}

fn ended(view: &RunView, mut bad: Vec<Text>, mut warn: Vec<Text>, zone: &Zone) -> Verdict {
    let at = view
        .run
        .finished_at
        .map_or_else(|| "–".to_owned(), |at| format!("{} {}", zone.time(at), zone.label(at)));
    let reports = findings::reconciliations(view);
    if reports.is_empty() {
        let (level, title) = match view.run.state {
            RunState::Succeeded => ("good", say!("The run succeeded at {}", at)),
            RunState::Cancelled => ("warn", say!("The run was cancelled at {}", at)),
            _ => ("bad", say!("The run failed at {}", at)),
        };
        bad.append(&mut warn);
        return Verdict { level, title, details: bad };
    }
    let way = hop::of_run(&view.run, steps::programs());
    for report in &reports {
        told_once(&mut bad, report.because(&way).iter().map(ToText::to_text));
        told_once(&mut warn, (report.dead_letters.total > 0).then(|| kept(report.dead_letters.total)));
        let (missing, gaps) = (report.gap_quantity(), count(report.gaps.len() as u64));
        let gaps = (!missing.is_zero())
            .then(|| say!("{} shares in {} gaps were never received", quantity(&missing), gaps));
        told_once(&mut warn, gaps);
    }
    let good = reports.iter().all(|report| report.ok) && bad.is_empty();
    let title = if good {
        say!("Everything received is in every store, once; the day ended at {}", at)
    } else {
        say!("The day does not reconcile; it ended at {}", at)
    };
    bad.append(&mut warn);
    Verdict { level: if good { "good" } else { "bad" }, title, details: bad }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing;

    #[test]
    fn a_stall_outranks_everything() {
        let verdict = verdict(&testing::snapshot());
        assert!(verdict.level == "bad" && verdict.title == "Ingestion is stalled");
        assert!(verdict.details[0].starts_with("feed: "), "{verdict:?}");
        assert!(verdict.details.iter().any(|d| d.contains("dead letters")));
    }

    #[test]
    fn a_day_that_reconciled_says_so_and_one_that_did_not_too() {
        let mut snapshot = testing::ended();
        assert_eq!(verdict(&snapshot).level, "good");
        let step = snapshot.runs[0]
            .run
            .steps
            .values_mut()
            .find(|s| s.result.as_ref().is_some_and(|r| r.get("ok").is_some()))
            .expect("reconcile");
        let result = step.result.as_mut().expect("a result");
        result["ok"] = false.into();
        result["hops"]["index"]["missing"] = 7.into();
        let judged = verdict(&snapshot);
        assert_eq!(judged.level, "bad");
        assert!(judged.details.iter().any(|d| *d == "index misses 7 records"), "{judged:?}");
    }

    #[test]
    fn a_service_that_waits_is_something_to_look_at() {
        let mut snapshot = testing::snapshot();
        let step =
            snapshot.runs[0].run.steps.get_mut(&"collector".parse().expect("a name")).expect("a collector");
        step.state = StepState::Running;
        step.not_before = Some("2026-11-20T13:12:40+09:00".parse().expect("a time"));
        step.reason = Some("another session uses this app key".into());
        let says = "step collector waits until 13:12:40: another session uses this app key".to_owned();
        assert!(verdict(&snapshot).details.iter().any(|d| *d == says.as_str()));
        snapshot.now = "2026-11-20T13:12:41+09:00".parse().expect("a time");
        assert!(!verdict(&snapshot).details.iter().any(|d| *d == says.as_str()), "the wait is over");
    }

    #[test]
    fn what_a_step_noticed_is_something_to_look_at() {
        let mut snapshot = testing::snapshot();
        let step =
            snapshot.runs[0].run.steps.get_mut(&"collector".parse().expect("a name")).expect("a collector");
        step.notice = Some("printed more than 64 MiB".into());
        assert!(verdict(&snapshot).details.iter().any(|d| *d == "step collector: printed more than 64 MiB"));
    }

    #[test]
    fn no_run_names_the_next_window() {
        let mut snapshot = testing::snapshot();
        snapshot.runs.clear();
        let judged = verdict(&snapshot);
        assert_eq!(judged.level, "quiet");
        assert!(judged.details[0].contains("Mon 23 Nov 08:50"), "{judged:?}");
    }
}
