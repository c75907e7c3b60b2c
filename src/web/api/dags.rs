//! DAGs: what they are, their calendar, pause and backfill.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::answers::{Broken, Missing, NoAnswer, Refused};
use super::parameters::{self, Key};
use super::runs::RunLine;
use super::{Done, done, schemas};
use crate::http::body::{Body, Nothing, body, whole};
use crate::http::command::{Control, by};
use crate::http::idempotency;
use crate::http::lookup::dag_of;
use crate::http::query::path;
use crate::http::reply::{Acted, Refusal, Reply};
use daemon::Handle;
use daemon::handle::{BackfillSession, BackfillState, Command};
use daemon::snapshot::{DagView, Problem};
use daemon::upcoming::PlannedDay;
use domain::dag::Dag;
use domain::ids::DagName;
use domain::message::Message;
use domain::said;
use domain::schedule::Window;

/// DAGs, and DAG files that do not work.
#[derive(Debug, Serialize, ToSchema)]
struct DagList<'a> {
    #[schema(value_type = Vec<schemas::Dag>)]
    dags: &'a [DagView],
    #[schema(value_type = Vec<schemas::FileProblem>)]
    problems: &'a [Problem],
}

/// DAGs, and DAG files that do not work.
#[utoipa::path(
    get,
    path = "/dags",
    tag = "dags",
    responses((status = 200, description = "`dags` and `problems`.", body = DagList)),
)]
pub(crate) async fn dags(State(handle): State<Handle>) -> Json<Value> {
    let snapshot = handle.snapshot();
    Json(json!(DagList { dags: &snapshot.dags, problems: &snapshot.problems }))
}

/// A DAG, what its file says, and how it went.
#[derive(Debug, Serialize, ToSchema)]
struct DagDetail<'a> {
    #[schema(value_type = schemas::Dag)]
    dag: &'a DagView,
    /// The DAG as its file says now: steps, needs, parameters. Secrets are references.
    #[schema(required, value_type = Option<Object>)]
    plan: Option<&'a Dag>,
    /// Faults of its file.
    #[schema(value_type = Vec<schemas::FileProblem>)]
    problems: Vec<&'a Problem>,
    /// How many runs of it there are.
    runs: usize,
    /// Its newest run.
    #[schema(required)]
    newest: Option<RunLine<'a>>,
}

/// A DAG: its steps, parameters and schedule, faults of its file, and its newest run.
#[utoipa::path(
    get,
    path = "/dags/{name}",
    tag = "dags",
    params(parameters::Dag),
    responses(
        (
            status = 200,
            description = "`dag`, `plan` (the DAG as its file says now), `problems`, the number of `runs`, \
                and the `newest`.",
            body = DagDetail,
        ),
        Missing,
    ),
)]
pub(crate) async fn dag(State(handle): State<Handle>, name: Result<Path<String>, PathRejection>) -> Reply {
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    let snapshot = handle.snapshot();
    let dag = dag_of(&snapshot, &name)?;
    let problems: Vec<_> = snapshot.problems.iter().filter(|p| p.file == dag.file).collect();
    let runs = snapshot.briefs(Some(name.as_str()));
    let newest = runs.first().map(|r| RunLine::of(r));
    Ok(Json(json!(DagDetail { dag, plan: dag.dag.as_deref(), problems, runs: runs.len(), newest })))
}

/// The days of a DAG's schedule.
#[derive(Debug, Serialize, ToSchema)]
struct Calendar<'a> {
    /// IANA zone of the schedule.
    #[schema(required)]
    timezone: Option<&'a str>,
    /// Name of the trading calendar.
    #[schema(required)]
    calendar: Option<&'a str>,
    /// Next windows, soonest first.
    #[schema(value_type = Vec<schemas::Window>)]
    next: &'a [Window],
    #[schema(value_type = Vec<schemas::Day>)]
    days: &'a [PlannedDay],
}

/// The days of a DAG's schedule, of this month and the next two: windows, closed days and late opens with
/// their reason.
#[utoipa::path(
    get,
    path = "/dags/{name}/calendar",
    tag = "dags",
    params(parameters::Dag),
    responses(
        (
            status = 200,
            description = "`days`, the `next` windows, and the names of `timezone` and `calendar`.",
            body = Calendar,
        ),
        Missing,
    ),
)]
pub(crate) async fn calendar(
    State(handle): State<Handle>,
    name: Result<Path<String>, PathRejection>,
) -> Reply {
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    let snapshot = handle.snapshot();
    let dag = dag_of(&snapshot, &name)?;
    let schedule = dag.dag.as_ref().and_then(|d| d.schedule.as_ref());
    Ok(Json(json!(Calendar {
        timezone: schedule.map(|s| s.timezone.as_str()),
        calendar: schedule.and_then(|s| s.calendar.as_deref()),
        next: &dag.next,
        days: &dag.days,
    })))
}

async fn pause_or_resume(
    control: Control,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    sent: Body,
    pause: bool,
) -> Acted {
    let (Nothing {}, sent) = body(&headers, sent)?;
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    dag_of(&control.handle.snapshot(), &name)?;
    done(&control, &headers, Command::Pause(name, pause), &sent).await
}

/// Block scheduled starts of a DAG; running runs go on.
#[utoipa::path(
    post,
    path = "/dags/{name}/pause",
    tag = "dags",
    params(parameters::Dag, Key),
    request_body = Nothing,
    responses(
        (status = 200, description = "Done; one line for people.", body = Done),
        Missing, Refused, NoAnswer,
    ),
)]
pub(crate) async fn pause(
    control: Control,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    pause_or_resume(control, headers, name, sent, true).await
}

/// Allow scheduled starts of a DAG again.
#[utoipa::path(
    post,
    path = "/dags/{name}/resume",
    tag = "dags",
    params(parameters::Dag, Key),
    request_body = Nothing,
    responses(
        (status = 200, description = "Done; one line for people.", body = Done),
        Missing, Refused, NoAnswer,
    ),
)]
pub(crate) async fn resume(
    control: Control,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    pause_or_resume(control, headers, name, sent, false).await
}

/// Which sessions get runs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Backfill {
    /// First local date.
    from: Date,
    /// Last local date; at most 1,000 days.
    to: Date,
    #[serde(default)]
    params: BTreeMap<String, String>,
    /// Most runs to create; with 0 the sessions are only listed.
    #[serde(default, deserialize_with = "whole")]
    #[schema(minimum = 0, maximum = 18446744073709551615u64, default = 1)]
    at_most: Option<usize>,
}

/// The sessions of some dates, and how each stands now.
#[derive(Debug, Serialize, ToSchema)]
struct Backfilled {
    #[schema(value_type = schemas::Name)]
    dag: DagName,
    #[schema(value_type = Vec<schemas::Session>)]
    sessions: Vec<BackfillSession>,
    /// One line for people.
    message: String,
}

/// Create runs of sessions that passed without one, the earliest first. Each is its session's own run: asking
/// again creates nothing twice, and goes on where the last call stopped.
#[utoipa::path(
    post,
    path = "/dags/{name}/backfill",
    tag = "dags",
    params(parameters::Dag, Key),
    request_body = Backfill,
    responses(
        (status = 200, description = "The sessions of these dates, and how each stands now.", body = Backfilled),
        Missing, Refused, Broken, NoAnswer,
    ),
)]
pub(crate) async fn backfill(
    control: Control,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    let (Backfill { from, to, params, at_most }, sent) = body(&headers, sent)?;
    let dag: DagName = path(name)?.parse().map_err(Refusal::from)?;
    dag_of(&control.handle.snapshot(), &dag)?;
    let command =
        Command::Backfill { dag: dag.clone(), first: from, last: to, params, at_most: at_most.unwrap_or(1) };
    let (what, subject) = command.in_words();
    let once = idempotency::once(&headers, &control.by(by(&headers)), what, &subject, &sent)?;
    let (answer, again) = control.give_once(by(&headers), command, once).await?;
    let sessions: Vec<BackfillSession> = serde_json::from_str(&answer).map_err(|error| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            said!("the daemon's answer cannot be read: {}", error.to_string()),
            Message::none(),
        )
    })?;
    let count = |state| sessions.iter().filter(|s| s.state == state).count();
    let message = format!(
        "{} runs created, {} sessions still without one",
        count(BackfillState::Created),
        count(BackfillState::Due)
    );
    Ok(idempotency::answer(json!(Backfilled { dag, sessions, message }), again))
}
