//! The API of the control pages: a DAG, its runs and its calendar, lists of runs, alerts, the outbox and the audit.
//!
//! Lists are given in parts: `limit` says how long a part is, `after` is the `next` of the part before. A cursor names the last entry
//! that was given, so that entries that come meanwhile neither repeat nor hide others.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pages::{dag_of, path};
use super::reply::{ApiRefusal, Refusal};
use super::server::App;
use super::view::alerts::Wanted;
use crate::daemon::Snapshot;
use crate::daemon::history::Brief;
use crate::domain::ids::{DagName, RunId};
use crate::domain::run::{Cause, RunState};

type Reply = Result<Json<Value>, ApiRefusal>;
type Asked<T> = Result<Query<T>, QueryRejection>;

/// Entries of a part unless more or fewer are asked for.
const PART: usize = 50;
/// Most entries of a part.
const LONGEST_PART: usize = 500;

/// The query's words, or why they cannot be read.
fn query<T>(asked: Asked<T>) -> Result<T, Refusal> {
    asked
        .map(|Query(asked)| asked)
        .map_err(|e| Refusal::bad(e.body_text().to_lowercase(), "GET /api/v1/openapi.json says what can be asked for"))
}

fn part(limit: Option<usize>) -> Result<usize, Refusal> {
    match limit {
        None => Ok(PART),
        Some(n @ 1..=LONGEST_PART) => Ok(n),
        Some(n) => Err(Refusal::bad(format!("limit={n} is not possible"), format!("ask for 1 to {LONGEST_PART}"))),
    }
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
pub(super) struct Runs {
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
    let from = match asked.after.as_deref() {
        None => 0,
        Some(after) => runs.iter().position(|r| r.id.as_str() == after).map(|at| at + 1).ok_or_else(|| {
            Refusal::bad(
                format!("after=\"{after}\" is none of these runs"),
                "give the \"next\" of the part before, or begin anew",
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
pub(super) async fn runs(State(app): State<App>, asked: Asked<Runs>) -> Reply {
    Ok(Json(part_of(&app.handle.snapshot(), &query(asked)?, false)?))
}

/// A DAG.
pub(super) async fn dag(State(app): State<App>, name: Result<Path<String>, PathRejection>) -> Reply {
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
pub(super) async fn dag_runs(State(app): State<App>, name: Result<Path<String>, PathRejection>, asked: Asked<Runs>) -> Reply {
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    let snapshot = app.handle.snapshot();
    let asked = Runs { dag: Some(name.to_string()), ..query(asked)? };
    if !snapshot.briefs(Some(name.as_str())).is_empty() {
        return Ok(Json(part_of(&snapshot, &asked, true)?));
    }
    dag_of(&snapshot, &name)?;
    Ok(Json(part_of(&snapshot, &asked, true)?))
}

/// The days of a DAG's schedule: the running month and the next two.
pub(super) async fn calendar(State(app): State<App>, name: Result<Path<String>, PathRejection>) -> Reply {
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
pub(super) struct Alerts {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    dag: String,
    limit: Option<usize>,
}

/// What alerts a query wants.
pub(super) fn wanted(kind: &str, dag: &str) -> Result<Wanted, Refusal> {
    Wanted::of(kind, dag)
        .map_err(|kinds| Refusal::bad(format!("there is no kind of alert \"{kind}\""), format!("there are {kinds}")))
}

/// Alerts that are kept, newest first.
pub(super) async fn alerts(State(app): State<App>, asked: Asked<Alerts>) -> Reply {
    let asked = query(asked)?;
    let (wanted, limit) = (wanted(&asked.kind, &asked.dag)?, asked.limit.map_or(Ok(LONGEST_PART), |n| part(Some(n)))?);
    let snapshot = app.handle.snapshot();
    let found: Vec<_> = snapshot.alerts.iter().filter(|a| wanted.takes(a)).collect();
    Ok(Json(json!({ "alerts": &found[..found.len().min(limit)], "total": found.len(), "timezone": snapshot.timezone })))
}

/// Mails that wait.
pub(super) async fn outbox(State(app): State<App>) -> Json<Value> {
    let snapshot = app.handle.snapshot();
    Json(json!({ "mails": snapshot.outbox, "timezone": snapshot.timezone }))
}

/// Which audit entries are asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Audits {
    limit: Option<usize>,
    /// Only those before this instant: the `next` of the part before.
    before: Option<Timestamp>,
}

/// Who did what, newest first.
pub(super) async fn audit(State(app): State<App>, asked: Asked<Audits>) -> Reply {
    let asked = query(asked)?;
    let limit = part(asked.limit)?;
    let snapshot = app.handle.snapshot();
    let from = asked.before.map_or(0, |before| snapshot.audit.partition_point(|e| e.at >= before));
    let shown = &snapshot.audit[from..snapshot.audit.len().min(from + limit)];
    let next = (from + shown.len() < snapshot.audit.len()).then(|| shown.last().map(|e| e.at)).flatten();
    Ok(Json(json!({ "entries": shown, "next": next, "total": snapshot.audit.len(), "timezone": snapshot.timezone })))
}
