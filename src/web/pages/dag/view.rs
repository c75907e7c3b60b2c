//! A DAG: what it is, its steps by needs, its runs, its next windows, and what can be done.

use askama::Template;

use super::calendar::calendar;
use super::graph::graph;
use super::grid::grid;
use crate::locale::{Reader, Text, filters, say, words};
use crate::view::format::Zone;
use crate::view::problems::{ProblemRow, rows};
use crate::view::{Fragment, Pair};
use daemon::Snapshot;
use daemon::snapshot::DagView;
use domain::schedule::Schedule;

/// The head of the page.
#[derive(Debug, Template)]
#[template(path = "pages/dag/dag_head.html")]
struct Head {
    name: String,
    description: String,
    paused: bool,
    facts: Vec<Pair>,
    problems: Vec<ProblemRow>,
}

/// What can be done.
#[derive(Debug, Template)]
#[template(path = "pages/dag/dag_actions.html")]
struct Actions {
    name: String,
    paused: bool,
    params: Vec<Pair>,
    zone: String,
    csrf: String,
}

/// A time of day and the weekdays of a plain cron expression (`50 8 * * MON-FRI`); `None` for one that says
/// more.
fn daily(cron: &str) -> Option<(String, Text)> {
    let [minute, hour, "*", "*", days] = cron.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    let (minute, hour): (u8, u8) = (minute.parse().ok()?, hour.parse().ok()?);
    let days = match days {
        "*" => say!("every day"),
        "MON-FRI" | "1-5" => say!("Monday to Friday"),
        other => say!("on {}", other),
    };
    Some((format!("{hour:02}:{minute:02}"), days))
}

/// A schedule in words: `Monday to Friday, 08:50 to 16:00 Asia/Seoul, on trading days of krx`.
fn in_words(schedule: &Schedule) -> Text {
    let (open, close) = (schedule.open.to_string(), schedule.close.as_ref().map(ToString::to_string));
    let told = match (daily(&open), close.as_deref().map(daily)) {
        (Some((at, days)), None) => say!("{}, {}", days, at),
        (Some((from, days)), Some(Some((to, same)))) if days == same => say!("{}, {} to {}", days, from, to),
        _ => match close {
            Some(close) => say!("from {} to {}", open, close),
            None => Text::plain(open),
        },
    };
    let told = Text::joined(" ", vec![told, Text::plain(schedule.timezone.clone())]);
    let calendar =
        schedule.calendar.as_ref().map_or_else(Text::default, |c| say!("on trading days of {}", c));
    Text::joined(", ", vec![told, calendar])
}

fn head(snapshot: &Snapshot, dag: &DagView) -> Head {
    let plan = dag.dag.as_ref().and_then(|d| d.schedule.as_ref());
    let schedule = plan.map(in_words).or_else(|| dag.schedule.clone().map(Text::plain));
    let schedule = schedule.unwrap_or_else(|| say!("none; it runs by hand only"));
    let mut facts = vec![Pair::new(say!("schedule"), schedule)];
    if !dag.owner.is_empty() {
        facts.push(Pair::new(say!("owner"), &dag.owner));
    }
    facts.push(Pair::new(say!("file"), &dag.file));
    if let Some(dag) = &dag.dag {
        facts.push(Pair::new(say!("steps"), dag.steps().len().to_string()));
        let kinds = Text::joined(", ", dag.alerts.on.iter().map(|k| words::alert_kind(*k)).collect());
        let told = match (dag.alerts.email.is_empty(), kinds.is_empty()) {
            (false, false) => say!("{} to {}##mails", kinds, dag.alerts.email.join(", ")),
            _ => say!("nobody; alerts: in its file says who and of what"),
        };
        facts.push(Pair::new(say!("mails"), told));
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
pub fn page(snapshot: &Snapshot, dag: &DagView, skip: usize, csrf: &str, reader: &Reader) -> Vec<Fragment> {
    let runs = snapshot.briefs(Some(&dag.name));
    let newest = snapshot.runs.iter().find(|v| v.run.id.dag() == dag.name).map(|v| &v.run);
    let plan = dag.dag.as_deref();
    let zone = Zone::new(plan.and_then(|d| d.schedule.as_ref()).map_or(&snapshot.timezone, |s| &s.timezone));
    let params = plan.map(|d| d.params.iter().map(|(k, v)| Pair::new(k, v)).collect()).unwrap_or_default();
    let actions = Actions {
        name: dag.name.clone(),
        paused: dag.paused,
        params,
        zone: zone.label(snapshot.now),
        csrf: csrf.to_owned(),
    };
    let mut fragments = vec![
        Fragment::new("dag-head", &head(snapshot, dag), reader),
        Fragment::new("dag-actions", &actions, reader),
    ];
    fragments.push(Fragment::new("grid", &grid(&dag.name, plan, &runs, skip, &zone), reader));
    if let Some(plan) = plan {
        fragments.push(Fragment::new("graph", &graph(plan, newest), reader));
    }
    fragments.push(Fragment::new(
        "calendar",
        &calendar(dag, &runs, snapshot.now, &snapshot.timezone),
        reader,
    ));
    fragments
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing;

    #[test]
    fn a_plain_schedule_is_told_in_words_and_another_as_it_is_written() {
        let snapshot = testing::snapshot();
        let plan = snapshot.dag("kis-trading-day").and_then(|d| d.dag.clone()).expect("a DAG");
        let mut schedule = plan.schedule.clone().expect("a schedule");
        assert_eq!(
            in_words(&schedule),
            "Monday to Friday, 08:50 to 16:00 Asia/Seoul, on trading days of krx"
        );
        schedule.open = domain::schedule::Edge::Cron("*/5 8 * * MON-FRI".parse().expect("a cron expression"));
        assert_eq!(
            in_words(&schedule),
            "from */5 8 * * MON-FRI to 0 16 * * MON-FRI Asia/Seoul, on trading days of krx"
        );
        (schedule.close, schedule.calendar) = (None, None);
        assert_eq!(in_words(&schedule), "*/5 8 * * MON-FRI Asia/Seoul");
        assert_eq!(daily("5 7 * * *"), Some(("07:05".into(), say!("every day"))));
        assert_eq!(daily("5 7 1 * *"), None);
    }
}
