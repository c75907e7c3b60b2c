//! The API for programs, under `/api/v1`. Errors are `{"error", "remedy"}`.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::actions::give;
use super::auth::{Caller, Who};
use super::pages::{held, path};
use super::reply::{ApiRefusal, Refusal};
use super::server::App;
use crate::daemon::handle::Command;
use crate::domain::advice::advice;
use crate::domain::ids::{DagName, RunId, StepName};

/// The OpenAPI document.
pub(super) const OPENAPI: &str = include_str!("assets/openapi.json");

pub(super) type Body = Result<Bytes, BytesRejection>;
pub(super) type Reply = Result<Json<Value>, ApiRefusal>;

/// A JSON body; an empty one counts as `{}`.
pub(super) fn body<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let bytes = body.map_err(|error| Refusal::new(error.status(), error.body_text().to_lowercase(), "send at most 64 KiB"))?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| {
        Refusal::bad(
            format!("the body is not what was asked for: {error}"),
            "GET /api/v1/openapi.json says what each request takes",
        )
    })
}

/// By what door somebody without a name comes, for the audit.
pub(super) fn by(headers: &HeaderMap) -> &'static str {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
    if agent.is_some_and(|a| a.starts_with("openbell-cli/")) { "cli" } else { "api" }
}

async fn done(app: &App, headers: &HeaderMap, command: Command) -> Reply {
    Ok(Json(json!({ "message": give(app, by(headers), command).await? })))
}

/// The OpenAPI document.
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// Whoever asks.
pub(super) async fn whoami() -> Json<Value> {
    let caller = Caller::current();
    let kind = match caller.who {
        Who::User { .. } => "user",
        Who::Token { .. } => "token",
        Who::Local => "local",
        Who::Anyone | Who::Stranger => "anyone",
    };
    Json(json!({ "kind": kind, "name": caller.name(), "role": caller.role }))
}

/// Everything.
pub(super) async fn snapshot(State(app): State<App>) -> Response {
    Json(&*app.handle.snapshot()).into_response()
}

/// DAGs and files that do not work.
pub(super) async fn dags(State(app): State<App>) -> Json<Value> {
    let snapshot = app.handle.snapshot();
    Json(json!({ "dags": snapshot.dags, "problems": snapshot.problems }))
}

/// A run with its steps.
pub(super) async fn run(State(app): State<App>, id: Result<Path<String>, PathRejection>) -> Reply {
    let id: RunId = path(id)?.parse().map_err(Refusal::from)?;
    let view = held(&app, &id).await?;
    let advice: BTreeMap<_, _> =
        view.run.steps.iter().filter_map(|(name, run)| Some((name, advice(view.run.dag.step(name)?, run)?))).collect();
    Ok(Json(json!({ "run": view.run, "statuses": view.statuses, "advice": advice })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trigger {
    dag: DagName,
    #[serde(default)]
    params: BTreeMap<String, String>,
    until: Option<Timestamp>,
    date: Option<jiff::civil::Date>,
}

/// Starts a run by hand.
pub(super) async fn trigger(State(app): State<App>, headers: HeaderMap, sent: Body) -> Reply {
    let Trigger { dag, params, until, date } = body(sent)?;
    let run = give(&app, by(&headers), Command::Trigger { dag, params, until, date }).await?;
    Ok(Json(json!({ "run": run, "message": run })))
}

/// Cancels a run.
pub(super) async fn cancel(
    State(app): State<App>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Reply {
    let Nothing {} = body(sent)?;
    let id = path(id)?.parse().map_err(Refusal::from)?;
    done(&app, &headers, Command::Cancel(id)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clear {
    steps: Vec<StepName>,
}

/// Clears steps.
pub(super) async fn clear(
    State(app): State<App>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Reply {
    let id = path(id)?.parse().map_err(Refusal::from)?;
    let Clear { steps } = body(sent)?;
    if steps.is_empty() {
        return Err(Refusal::bad("no step is named", "name at least one under \"steps\"").into());
    }
    done(&app, &headers, Command::Clear(id, steps)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    step: StepName,
    success: bool,
}

/// Marks a step succeeded or failed.
pub(super) async fn mark(
    State(app): State<App>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Reply {
    let id = path(id)?.parse().map_err(Refusal::from)?;
    let Mark { step, success } = body(sent)?;
    done(&app, &headers, Command::Mark(id, step, success)).await
}

/// Blocks scheduled starts of a DAG.
pub(super) async fn pause(
    State(app): State<App>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Reply {
    let Nothing {} = body(sent)?;
    let name = path(name)?.parse().map_err(Refusal::from)?;
    done(&app, &headers, Command::Pause(name, true)).await
}

/// Allows them again.
pub(super) async fn resume(
    State(app): State<App>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Reply {
    let Nothing {} = body(sent)?;
    let name = path(name)?.parse().map_err(Refusal::from)?;
    done(&app, &headers, Command::Pause(name, false)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestMail {
    dag: Option<DagName>,
}

/// Queues a mail to those whom DAGs name for alerts.
pub(super) async fn test_mail(State(app): State<App>, headers: HeaderMap, sent: Body) -> Reply {
    let TestMail { dag } = body(sent)?;
    done(&app, &headers, Command::TestMail(dag)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Down {
    #[serde(default)]
    drain: bool,
}

/// Ends the daemon.
pub(super) async fn down(State(app): State<App>, headers: HeaderMap, sent: Body) -> Reply {
    let Down { drain } = body(sent)?;
    done(&app, &headers, Command::Down { drain }).await
}
