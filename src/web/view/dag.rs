//! A DAG: what it is, its steps by needs, its runs, its next windows, and what can be done.

use askama::Template;

use super::calendar::calendar;
use super::format::Zone;
use super::graph::graph;
use super::grid::grid;
use super::problems::{ProblemRow, rows};
use super::{Fragment, Pair};
use crate::daemon::Snapshot;
use crate::daemon::snapshot::DagView;
use crate::domain::schedule::Schedule;

/// The head of the page.
#[derive(Debug, Template)]
#[template(path = "dag_head.html")]
struct Head {
    name: String,
    description: String,
    paused: bool,
    facts: Vec<Pair>,
    problems: Vec<ProblemRow>,
}

/// What can be done.
#[derive(Debug, Template)]
#[template(path = "dag_actions.html")]
struct Actions {
    name: String,
    paused: bool,
    params: Vec<Pair>,
    zone: String,
    csrf: String,
}

/// A time of day and the weekdays of a plain cron expression (`50 8 * * MON-FRI`); `None` for one that says more.
fn daily(cron: &str) -> Option<(String, String)> {
    let [minute, hour, "*", "*", days] = cron.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    let (minute, hour): (u8, u8) = (minute.parse().ok()?, hour.parse().ok()?);
    let days = match days {
        "*" => "every day".to_owned(),
        "MON-FRI" | "1-5" => "Monday to Friday".to_owned(),
        other => format!("on {other}"),
    };
    Some((format!("{hour:02}:{minute:02}"), days))
}

/// A schedule in words: `Monday to Friday, 08:50 to 16:00 Asia/Seoul, on trading days of krx`.
fn words(schedule: &Schedule) -> String {
    let (open, close) = (schedule.open.to_string(), schedule.close.as_ref().map(ToString::to_string));
    let told = match (daily(&open), close.as_deref().map(daily)) {
        (Some((at, days)), None) => format!("{days}, {at}"),
        (Some((from, days)), Some(Some((to, same)))) if days == same => format!("{days}, {from} to {to}"),
        _ => match close {
            Some(close) => format!("from {open} to {close}"),
            None => open,
        },
    };
    let calendar = schedule.calendar.as_ref().map_or(String::new(), |c| format!(", on trading days of {c}"));
    format!("{told} {}{calendar}", schedule.timezone)
}

fn head(snapshot: &Snapshot, dag: &DagView) -> Head {
    let plan = dag.dag.as_ref().and_then(|d| d.schedule.as_ref());
    let schedule = plan.map(words).or_else(|| dag.schedule.clone()).unwrap_or_else(|| "none; it runs by hand only".to_owned());
    let mut facts = vec![Pair::new("schedule", schedule)];
    if !dag.owner.is_empty() {
        facts.push(Pair::new("owner", &dag.owner));
    }
    facts.push(Pair::new("file", &dag.file));
    if let Some(dag) = &dag.dag {
        facts.push(Pair::new("steps", dag.steps().len().to_string()));
        let kinds = dag.alerts.on.iter().map(|k| k.as_str().replace('_', " ")).collect::<Vec<_>>().join(", ");
        let told = match (dag.alerts.email.is_empty(), kinds.is_empty()) {
            (false, false) => format!("{} to {}", kinds, dag.alerts.email.join(", ")),
            _ => "nobody; alerts: in its file says who and of what".to_owned(),
        };
        facts.push(Pair::new("mails", told));
    }
    Head {
        name: dag.name.clone(),
        description: dag.description.clone(),
        paused: dag.paused,
        facts,
        problems: rows(snapshot.problems.iter().filter(|p| p.file == dag.file)),
    }
}

/// The page, with the runs after the newest `skip`.
pub fn page(snapshot: &Snapshot, dag: &DagView, skip: usize, csrf: &str) -> Vec<Fragment> {
    let runs = snapshot.briefs(Some(&dag.name));
    let newest = snapshot.runs.iter().find(|v| v.run.id.dag() == dag.name).map(|v| &v.run);
    let plan = dag.dag.as_deref();
    let zone = Zone::new(plan.and_then(|d| d.schedule.as_ref()).map_or(&snapshot.timezone, |s| &s.timezone));
    let params = plan.map(|d| d.params.iter().map(|(k, v)| Pair::new(k, v)).collect()).unwrap_or_default();
    let actions =
        Actions { name: dag.name.clone(), paused: dag.paused, params, zone: zone.label(snapshot.now), csrf: csrf.to_owned() };
    let mut fragments = vec![Fragment::new("dag-head", &head(snapshot, dag)), Fragment::new("dag-actions", &actions)];
    fragments.push(Fragment::new("grid", &grid(&dag.name, plan, &runs, skip, &zone)));
    if let Some(plan) = plan {
        fragments.push(Fragment::new("graph", &graph(plan, newest)));
    }
    fragments.push(Fragment::new("calendar", &calendar(dag, &runs, snapshot.now, &snapshot.timezone)));
    fragments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::fixture;

    #[test]
    fn a_plain_schedule_is_told_in_words_and_another_as_it_is_written() {
        let snapshot = fixture::snapshot();
        let plan = snapshot.dag("kis-trading-day").and_then(|d| d.dag.clone()).expect("a DAG");
        let mut schedule = plan.schedule.clone().expect("a schedule");
        assert_eq!(words(&schedule), "Monday to Friday, 08:50 to 16:00 Asia/Seoul, on trading days of krx");
        schedule.open = crate::domain::schedule::Edge::Cron("*/5 8 * * MON-FRI".parse().expect("a cron expression"));
        assert_eq!(words(&schedule), "from */5 8 * * MON-FRI to 0 16 * * MON-FRI Asia/Seoul, on trading days of krx");
        (schedule.close, schedule.calendar) = (None, None);
        assert_eq!(words(&schedule), "*/5 8 * * MON-FRI Asia/Seoul");
        assert_eq!(daily("5 7 * * *"), Some(("07:05".into(), "every day".into())));
        assert_eq!(daily("5 7 1 * *"), None);
    }
}
