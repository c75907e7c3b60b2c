//! The API of the control pages: a DAG, its runs and its calendar, lists of runs, alerts, the outbox and the audit.
//!
//! Lists are given in parts: `limit` says how long a part is, `after` is the `next` of the part before. A cursor names the last entry
//! that was given, so that entries that come meanwhile neither repeat nor hide others. What has no name (an alert, an entry of the audit) is
//! named by its instant and its place among those of the same instant, the oldest first: newer ones do not move it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::lookup::{dag_of, wanted};
use crate::http::parts;
use crate::http::query::{path, query};
use crate::http::reply::{Refusal, Reply};
use crate::server::App;
use daemon::Snapshot;
use daemon::history::Brief;
use domain::ids::{DagName, RunId};
use domain::message::Message;
use domain::run::{Cause, RunState};
use domain::said;

type Asked<T> = Result<Query<T>, QueryRejection>;

const ASK: Message = said!("GET /api/v1/openapi.json says what can be asked for");

/// Entries of a part unless more or fewer are asked for.
const PART: usize = 50;
/// Most entries of a part.
const LONGEST_PART: usize = 500;

fn part(limit: Option<usize>) -> Result<usize, Refusal> {
    match limit {
        None => Ok(PART),
        Some(n @ 1..=LONGEST_PART) => Ok(n),
        Some(n) => Err(Refusal::bad(
            said!("limit={} is not possible", n.to_string()),
            said!("ask for 1 to {}", LONGEST_PART.to_string()),
        )),
    }
}

/// A part of a list of what happened, newest first, and the cursor after which the next begins.
fn happened<'a, T>(
    all: &'a [T],
    at: impl Fn(&T) -> Timestamp,
    limit: Option<usize>,
    after: Option<&str>,
) -> Result<(&'a [T], Option<String>), Refusal> {
    let limit = part(limit)?;
    let from = match after.filter(|after| !after.is_empty()) {
        None => 0,
        Some(after) => {
            let read = |text: &str| {
                let (instant, place) = text.rsplit_once('~')?;
                Some((instant.parse::<Timestamp>().ok()?, place.parse::<usize>().ok()?))
            };
            let (instant, place) = read(after).ok_or_else(|| {
                Refusal::missing(
                    said!("after=\"{}\" is none of these", after),
                    said!("give the \"next\" of the part before, or begin anew"),
                )
            })?;
            // Those of the instant end here; the entry itself may be gone, what is older still follows.
            let end = all.partition_point(|entry| at(entry) >= instant);
            let begin = all.partition_point(|entry| at(entry) > instant);
            end.saturating_sub(place).max(begin)
        }
    };
    let shown = &all[from..all.len().min(from.saturating_add(limit))];
    let to = from + shown.len();
    let next = (to < all.len()).then(|| shown.last().map(&at)).flatten().map(|instant| {
        let end = all.partition_point(|entry| at(entry) >= instant);
        format!("{instant}~{}", end - to)
    });
    Ok((shown, next))
}

/// A run in a list.
#[derive(Debug, Serialize)]
struct RunLine<'a> {
    id: &'a RunId,
    dag: &'a str,
    state: RunState,
    cause: Cause,
    session_date: Date,
    open_at: Timestamp,
    close_at: Option<Timestamp>,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
}

impl<'a> RunLine<'a> {
    fn of(run: &'a Brief) -> Self {
        Self {
            id: &run.id,
            dag: run.id.dag(),
            state: run.state,
            cause: run.cause,
            session_date: run.session_date,
            open_at: run.window.open_at,
            close_at: run.window.close_at,
            created_at: run.created_at,
            finished_at: run.finished_at,
        }
    }
}

/// Which runs are asked for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Runs {
    dag: Option<String>,
    state: Option<RunState>,
    limit: Option<usize>,
    after: Option<String>,
}

/// A part of the runs: open ones first, then newest first.
fn part_of(snapshot: &Snapshot, asked: &Runs, whole: bool) -> Result<Value, Refusal> {
    let limit = part(asked.limit)?;
    let dag = asked.dag.as_deref().filter(|d| !d.is_empty());
    let runs: Vec<Arc<Brief>> =
        snapshot.briefs(dag).into_iter().filter(|r| asked.state.is_none_or(|state| r.state == state)).collect();
    let from = match asked.after.as_deref().filter(|after| !after.is_empty()) {
        None => 0,
        Some(after) => runs.iter().position(|r| r.id.as_str() == after).map(|at| at + 1).ok_or_else(|| {
            Refusal::missing(
                said!("after=\"{}\" is none of these runs", after),
                said!("give the \"next\" of the part before, or begin anew"),
            )
        })?,
    };
    let shown = &runs[from..runs.len().min(from + limit)];
    let next = (from + shown.len() < runs.len()).then(|| shown.last().map(|r| r.id.clone())).flatten();
    let lines = if whole {
        json!(shown.iter().map(|r| &**r).collect::<Vec<&Brief>>())
    } else {
        json!(shown.iter().map(|r| RunLine::of(r)).collect::<Vec<_>>())
    };
    Ok(json!({ "runs": lines, "next": next, "total": runs.len(), "timezone": snapshot.timezone }))
}

/// Runs of all DAGs, or of those asked for.
pub(crate) async fn runs(State(app): State<App>, asked: Asked<Runs>) -> Reply {
    Ok(Json(part_of(&app.handle.snapshot(), &query(asked, ASK)?, false)?))
}

/// A DAG.
pub(crate) async fn dag(State(app): State<App>, name: Result<Path<String>, PathRejection>) -> Reply {
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    let snapshot = app.handle.snapshot();
    let dag = dag_of(&snapshot, &name)?;
    let problems: Vec<_> = snapshot.problems.iter().filter(|p| p.file == dag.file).collect();
    let runs = snapshot.briefs(Some(name.as_str()));
    let newest = runs.first().map(|r| RunLine::of(r));
    // The DAG's own text: steps, needs, parameters; secrets are references.
    Ok(Json(json!({ "dag": dag, "plan": dag.dag.as_deref(), "problems": problems, "runs": runs.len(), "newest": newest })))
}

/// Runs of a DAG, each with the states of its steps.
pub(crate) async fn dag_runs(State(app): State<App>, name: Result<Path<String>, PathRejection>, asked: Asked<Runs>) -> Reply {
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    let snapshot = app.handle.snapshot();
    let asked = Runs { dag: Some(name.to_string()), ..query(asked, ASK)? };
    if !snapshot.briefs(Some(name.as_str())).is_empty() {
        return Ok(Json(part_of(&snapshot, &asked, true)?));
    }
    dag_of(&snapshot, &name)?;
    Ok(Json(part_of(&snapshot, &asked, true)?))
}

/// The days of a DAG's schedule: the running month and the next two.
pub(crate) async fn calendar(State(app): State<App>, name: Result<Path<String>, PathRejection>) -> Reply {
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    let snapshot = app.handle.snapshot();
    let dag = dag_of(&snapshot, &name)?;
    let schedule = dag.dag.as_ref().and_then(|d| d.schedule.as_ref());
    Ok(Json(json!({
        "timezone": schedule.map(|s| &s.timezone),
        "calendar": schedule.and_then(|s| s.calendar.as_ref()),
        "next": dag.next,
        "days": &*dag.days,
    })))
}

/// Which alerts are asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Alerts {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    dag: String,
    limit: Option<usize>,
    after: Option<String>,
}

/// Alerts that are kept, newest first.
pub(crate) async fn alerts(State(app): State<App>, asked: Asked<Alerts>) -> Reply {
    let asked = query(asked, ASK)?;
    let wanted = wanted(&asked.kind, &asked.dag)?;
    let snapshot = app.handle.snapshot();
    let mut found: Vec<_> = snapshot.alerts.iter().filter(|a| wanted.takes(a)).collect();
    // Those of ended runs are told again after a start, run by run.
    found.sort_by_key(|a| std::cmp::Reverse(a.at));
    let (shown, next) = happened(&found, |a| a.at, asked.limit, asked.after.as_deref())?;
    Ok(Json(json!({ "alerts": shown, "next": next, "total": found.len(), "timezone": snapshot.timezone })))
}

/// Mails that wait, oldest first.
pub(crate) async fn outbox(State(app): State<App>, asked: Asked<parts::Asked>) -> Reply {
    let asked = query(asked, ASK)?;
    let snapshot = app.handle.snapshot();
    let (shown, next) = parts::part_of(&snapshot.outbox, &asked, |mail| mail.key.clone())?;
    Ok(Json(json!({ "mails": shown, "next": next, "total": snapshot.outbox.len(), "timezone": snapshot.timezone })))
}

/// Which audit entries are asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Audits {
    limit: Option<usize>,
    after: Option<String>,
    /// Only those before this instant.
    before: Option<Timestamp>,
}

/// Who did what, newest first.
pub(crate) async fn audit(State(app): State<App>, asked: Asked<Audits>) -> Reply {
    let asked = query(asked, ASK)?;
    let snapshot = app.handle.snapshot();
    let mut found: Vec<_> = snapshot.audit.iter().filter(|e| asked.before.is_none_or(|before| e.at < before)).collect();
    // A clock that was set back wrote newer entries with older times.
    found.sort_by_key(|e| std::cmp::Reverse(e.at));
    let (shown, next) = happened(&found, |e| e.at, asked.limit, asked.after.as_deref())?;
    Ok(Json(json!({ "entries": shown, "next": next, "total": found.len(), "timezone": snapshot.timezone })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    /// Reads a list part by part, while `grow` may change it in between.
    fn read(mut list: Vec<(i64, char)>, limit: usize, mut grow: impl FnMut(&mut Vec<(i64, char)>)) -> String {
        let (mut seen, mut after) = (String::new(), None::<String>);
        loop {
            let (shown, next) = happened(&list, |(second, _)| at(*second), Some(limit), after.as_deref()).expect("a part");
            seen.extend(shown.iter().map(|(_, name)| *name));
            let Some(next) = next else { return seen };
            after = Some(next);
            grow(&mut list);
        }
    }

    #[test]
    fn what_happened_is_read_once_each_however_long_the_parts_are_and_whatever_comes_meanwhile() {
        let list = vec![(9, 'a'), (7, 'b'), (7, 'c'), (7, 'd'), (7, 'e'), (3, 'f')];
        for limit in 1..=7 {
            assert_eq!(read(list.clone(), limit, |_| {}), "abcdef", "{limit}");
            assert_eq!(read(list.clone(), limit, |list| list.insert(0, (10, 'x'))), "abcdef", "{limit}");
        }
        // Another one of the same instant, and an end that is cut off because it grew old.
        assert_eq!(read(vec![(7, 'b'), (7, 'c'), (3, 'f')], 1, |list| list.insert(0, (7, 'x'))), "bcf");
        let mut cut = false;
        let shrink = |list: &mut Vec<(i64, char)>| {
            if !std::mem::replace(&mut cut, true) {
                list.truncate(4);
            }
        };
        assert_eq!(read(vec![(9, 'a'), (8, 'b'), (7, 'c'), (6, 'd'), (5, 'e')], 2, shrink), "abcd");
        assert_eq!(read(Vec::new(), 5, |_| {}), "");
    }

    #[test]
    fn cursors_and_limits_that_are_none_are_refused() {
        let list = [(9, 'a'), (7, 'b')];
        let ask = |limit, after: &str| {
            happened(&list, |(s, _)| at(*s), limit, Some(after)).map_err(|r| r.status.as_u16()).map(|(shown, _)| shown.len())
        };
        for bad in ["x", "~", "1970-01-01T00:00:07Z", "1970-01-01T00:00:07Z~", "1970-01-01T00:00:07Z~-1", "~1", "../~1"] {
            assert_eq!(ask(None, bad), Err(404), "{bad}");
        }
        assert_eq!(ask(None, ""), Ok(2));
        assert_eq!(ask(None, "1970-01-01T00:00:08Z~0"), Ok(1), "what is gone still has a place");
        assert_eq!(ask(None, "1970-01-01T00:00:09Z~99999999999"), Ok(2));
        for limit in [0, 501, usize::MAX] {
            assert_eq!(ask(Some(limit), "1970-01-01T00:00:08Z~0"), Err(400), "{limit}");
        }
    }
}
