//! Runs: lists, one with its steps, and what can be done with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::answers::{Broken, Missing, NoAnswer, Refused};
use super::lists::{ASK, Asked, listed};
use super::parameters::{self, Key};
use super::{Done, Started, done, schemas};
use crate::http::body::{Body, Nothing, body};
use crate::http::command::Control;
use crate::http::lookup::{dag_of, held};
use crate::http::parts;
use crate::http::problem::Kind;
use crate::http::query::{path, query};
use crate::http::reply::{Acted, Refusal, Reply};
use daemon::handle::Command;
use daemon::history::Brief;
use daemon::snapshot::RunView;
use daemon::{Handle, Snapshot};
use domain::advice::advice;
use domain::ids::{DagName, RunId, StepName};
use domain::run::{Cause, RunState};
use domain::said;

/// A run in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunLine<'a> {
    #[schema(value_type = schemas::RunName)]
    id: &'a RunId,
    #[schema(value_type = schemas::Name)]
    dag: &'a str,
    #[schema(value_type = schemas::RunState)]
    state: RunState,
    #[schema(value_type = schemas::RunCause)]
    cause: Cause,
    /// The local date it is about.
    session_date: Date,
    open_at: Timestamp,
    /// Null: it ends with its tasks.
    #[schema(required)]
    close_at: Option<Timestamp>,
    created_at: Timestamp,
    #[schema(required)]
    finished_at: Option<Timestamp>,
}

impl<'a> RunLine<'a> {
    pub(crate) fn of(run: &'a Brief) -> Self {
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
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Runs {
    /// Only those of this DAG.
    dag: Option<String>,
    /// Only runs in this state.
    #[param(value_type = Option<schemas::RunState>, inline)]
    state: Option<RunState>,
    /// Entries of a part.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<usize>,
    /// The `next` of the part before.
    after: Option<String>,
}

/// Which runs of a DAG are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DagRuns {
    /// Only runs in this state.
    #[param(value_type = Option<schemas::RunState>, inline)]
    state: Option<RunState>,
    /// Entries of a part.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<usize>,
    /// The `next` of the part before.
    after: Option<String>,
}

/// A part of the runs.
#[derive(Debug, Serialize, ToSchema)]
struct RunList<'a> {
    runs: Vec<RunLine<'a>>,
    /// The `after` of the next part; null at the end.
    #[schema(required)]
    next: Option<String>,
    total: usize,
    /// IANA zone to show times in.
    timezone: &'a str,
}

/// A part of the runs of a DAG, with the states of their steps.
#[derive(Debug, Serialize, ToSchema)]
struct RunGrid<'a> {
    #[schema(value_type = Vec<schemas::RunBrief>)]
    runs: Vec<&'a Brief>,
    /// The `after` of the next part; null at the end.
    #[schema(required)]
    next: Option<String>,
    total: usize,
    /// IANA zone to show times in.
    timezone: &'a str,
}

/// Some runs of a list, the cursor after which the next begin, and how many there are.
struct Part {
    runs: Vec<Arc<Brief>>,
    next: Option<String>,
    total: usize,
}

/// A part of the runs: open ones first, then newest first.
fn part_of(snapshot: &Snapshot, asked: &Runs) -> Result<Part, Refusal> {
    let dag = asked.dag.as_deref().filter(|d| !d.is_empty());
    let runs: Vec<Arc<Brief>> = snapshot
        .briefs(dag)
        .into_iter()
        .filter(|r| asked.state.is_none_or(|state| r.state == state))
        .collect();
    let (shown, next) =
        parts::part_of(&runs, &listed(asked.limit, asked.after.as_deref()), |r| r.id.to_string())?;
    Ok(Part { runs: shown.to_vec(), next, total: runs.len() })
}

const PART_OF_RUNS: &str = "`runs`, the `next` cursor (null at the end), their `total` and the `timezone` to \
    show times in.";

/// Runs: open ones first, then ended ones, newest first.
#[utoipa::path(
    get,
    path = "/runs",
    tag = "runs",
    params(Runs),
    responses((status = 200, description = PART_OF_RUNS, body = RunList), Missing),
)]
pub(crate) async fn runs(State(handle): State<Handle>, asked: Asked<Runs>) -> Reply {
    let snapshot = handle.snapshot();
    let Part { runs, next, total } = part_of(&snapshot, &query(asked, ASK)?)?;
    let runs = runs.iter().map(|run| RunLine::of(run)).collect();
    Ok(Json(json!(RunList { runs, next, total, timezone: &snapshot.timezone })))
}

/// Runs of a DAG with the states of their steps: open ones first, then newest first.
#[utoipa::path(
    get,
    path = "/dags/{name}/runs",
    tag = "runs",
    params(parameters::Dag, DagRuns),
    responses((status = 200, description = PART_OF_RUNS, body = RunGrid), Missing),
)]
pub(crate) async fn dag_runs(
    State(handle): State<Handle>,
    name: Result<Path<String>, PathRejection>,
    asked: Asked<DagRuns>,
) -> Reply {
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    let snapshot = handle.snapshot();
    let DagRuns { state, limit, after } = query(asked, ASK)?;
    // Runs may outlive the file of their DAG.
    if snapshot.briefs(Some(name.as_str())).is_empty() {
        dag_of(&snapshot, &name)?;
    }
    let Part { runs, next, total } =
        part_of(&snapshot, &Runs { dag: Some(name.to_string()), state, limit, after })?;
    let runs = runs.iter().map(|run| &**run).collect();
    Ok(Json(json!(RunGrid { runs, next, total, timezone: &snapshot.timezone })))
}

/// A run, what its living steps say, and what to do about those that ended badly.
#[derive(Debug, Serialize, ToSchema)]
struct RunDetail<'a> {
    #[serde(flatten)]
    #[schema(value_type = schemas::LiveRun)]
    view: &'a RunView,
    /// By step.
    #[schema(value_type = BTreeMap<String, String>)]
    advice: BTreeMap<&'a StepName, String>,
}

/// A run with its steps, what its living steps say, and what to do about those that ended badly.
#[utoipa::path(
    get,
    path = "/runs/{id}",
    tag = "runs",
    params(parameters::Run),
    responses(
        (status = 200, description = "`run`, `statuses` and `advice`, the last two by step.", body = RunDetail),
        Missing, Broken,
    ),
)]
pub(crate) async fn run(State(handle): State<Handle>, id: Result<Path<String>, PathRejection>) -> Reply {
    let id: RunId = path(id)?.parse().map_err(Refusal::from)?;
    let view = held(&handle, &id).await?;
    let advice: BTreeMap<_, _> = view
        .run
        .steps
        .iter()
        .filter_map(|(name, run)| Some((name, advice(view.run.dag.step(name)?, run)?.to_string())))
        .collect();
    Ok(Json(json!(RunDetail { view: &view, advice })))
}

/// Which run is started.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Trigger {
    #[schema(value_type = schemas::Name)]
    dag: DagName,
    #[serde(default)]
    params: BTreeMap<String, String>,
    until: Option<Timestamp>,
    date: Option<jiff::civil::Date>,
}

/// Start a run by hand. It is about today, or about `date`; it ends at the DAG's close of that day, or at
/// `until`.
#[utoipa::path(
    post,
    path = "/runs",
    tag = "runs",
    params(Key),
    request_body = Trigger,
    responses((status = 200, description = "Done; one line for people.", body = Started), Refused, NoAnswer),
)]
pub(crate) async fn trigger(control: Control, headers: HeaderMap, sent: Body) -> Acted {
    let (Trigger { dag, params, until, date }, sent) = body(&headers, sent)?;
    done(&control, &headers, Command::Trigger { dag, params, until, date }, &sent).await
}

/// The run of a path that is acted on.
async fn there(control: &Control, id: Result<Path<String>, PathRejection>) -> Result<RunId, Refusal> {
    let id: RunId = path(id)?.parse()?;
    held(&control.handle, &id).await?;
    Ok(id)
}

/// End a run now, in order.
#[utoipa::path(
    post,
    path = "/runs/{id}/cancel",
    tag = "runs",
    params(parameters::Run, Key),
    request_body = Nothing,
    responses(
        (status = 200, description = "Done; one line for people.", body = Done),
        Missing, Refused, Broken, NoAnswer,
    ),
)]
pub(crate) async fn cancel(
    control: Control,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    let (Nothing {}, sent) = body(&headers, sent)?;
    let id = there(&control, id).await?;
    done(&control, &headers, Command::Cancel(id), &sent).await
}

/// Which steps are cleared.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Clear {
    #[schema(value_type = Vec<schemas::Name>, min_items = 1)]
    steps: Vec<StepName>,
}

/// Run steps, and what needs them, again.
#[utoipa::path(
    post,
    path = "/runs/{id}/clear",
    tag = "runs",
    params(parameters::Run, Key),
    request_body = Clear,
    responses(
        (status = 200, description = "Done; one line for people.", body = Done),
        Missing, Refused, Broken, NoAnswer,
    ),
)]
pub(crate) async fn clear(
    control: Control,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    let (Clear { steps }, sent) = body(&headers, sent)?;
    if steps.is_empty() {
        return Err(Refusal::bad(said!("no step is named"), said!("name at least one under \"steps\""))
            .kind(Kind::BadBody)
            .into());
    }
    let id = there(&control, id).await?;
    done(&control, &headers, Command::Clear(id, steps), &sent).await
}

/// How a step is to have ended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Mark {
    #[schema(value_type = schemas::Name)]
    step: StepName,
    success: bool,
}

/// Set a step's end by hand.
#[utoipa::path(
    post,
    path = "/runs/{id}/mark",
    tag = "runs",
    params(parameters::Run, Key),
    request_body = Mark,
    responses(
        (status = 200, description = "Done; one line for people.", body = Done),
        Missing, Refused, Broken, NoAnswer,
    ),
)]
pub(crate) async fn mark(
    control: Control,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    let (Mark { step, success }, sent) = body(&headers, sent)?;
    let id = there(&control, id).await?;
    done(&control, &headers, Command::Mark(id, step, success), &sent).await
}
