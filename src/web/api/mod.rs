//! The API for programs, under `/api/v1`. Errors are problems ([`problem`](crate::http::problem)); what acts may be sent again ([`once`](crate::http::idempotency)).

pub(crate) mod backfill;
pub(crate) mod control;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod health;

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::{Caller, Who};
use crate::http::body::{Body, Nothing, body};
use crate::http::command::{by, give_once};
use crate::http::idempotency;
use crate::http::lookup::{dag_of, held};
use crate::http::problem::Kind;
use crate::http::query::path;
use crate::http::reply::{Acted, Refusal, Reply};
use crate::locale::Reader;
use crate::server::App;
use daemon::handle::Command;
use domain::advice::advice;
use domain::ids::{DagName, RunId, StepName};
use domain::said;

/// The OpenAPI document.
pub(crate) const OPENAPI: &str = include_str!("../assets/openapi.json");

/// Gives a command; with a key, once.
async fn done(app: &App, headers: &HeaderMap, command: Command, sent: &Bytes) -> Acted {
    let door = by(headers);
    let (what, subject) = command.in_words();
    let once = idempotency::once(headers, &app.by(door), what, &subject, sent)?;
    let run = matches!(command, Command::Trigger { .. });
    let (message, again) = give_once(app, door, command, once).await?;
    let answer = if run { json!({ "run": message, "message": message }) } else { json!({ "message": message }) };
    Ok(idempotency::answer(answer, again))
}

/// The OpenAPI document.
pub(crate) async fn openapi() -> Response {
    let base = Reader::current().base;
    // Where a client finds what the document lists.
    let document = if base.is_root() {
        Cow::Borrowed(OPENAPI)
    } else {
        Cow::Owned(OPENAPI.replacen("\"url\": \"/api/v1\"", &format!("\"url\": \"{base}/api/v1\""), 1))
    };
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

/// Whoever asks.
pub(crate) async fn whoami() -> Json<Value> {
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
pub(crate) async fn snapshot(State(app): State<App>) -> Response {
    Json(&*app.handle.snapshot()).into_response()
}

/// DAGs and files that do not work.
pub(crate) async fn dags(State(app): State<App>) -> Json<Value> {
    let snapshot = app.handle.snapshot();
    Json(json!({ "dags": snapshot.dags, "problems": snapshot.problems }))
}

/// A run with its steps.
pub(crate) async fn run(State(app): State<App>, id: Result<Path<String>, PathRejection>) -> Reply {
    let id: RunId = path(id)?.parse().map_err(Refusal::from)?;
    let view = held(&app, &id).await?;
    let advice: BTreeMap<_, _> = view
        .run
        .steps
        .iter()
        .filter_map(|(name, run)| Some((name, advice(view.run.dag.step(name)?, run)?.to_string())))
        .collect();
    Ok(Json(json!({ "run": view.run, "statuses": view.statuses, "advice": advice })))
}

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
pub(crate) async fn trigger(State(app): State<App>, headers: HeaderMap, sent: Body) -> Acted {
    let (Trigger { dag, params, until, date }, sent) = body(&headers, sent)?;
    done(&app, &headers, Command::Trigger { dag, params, until, date }, &sent).await
}

/// The run of a path that is acted on.
async fn there(app: &App, id: Result<Path<String>, PathRejection>) -> Result<RunId, Refusal> {
    let id: RunId = path(id)?.parse()?;
    held(app, &id).await?;
    Ok(id)
}

/// Cancels a run.
pub(crate) async fn cancel(
    State(app): State<App>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    let (Nothing {}, sent) = body(&headers, sent)?;
    let id = there(&app, id).await?;
    done(&app, &headers, Command::Cancel(id), &sent).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clear {
    steps: Vec<StepName>,
}

/// Clears steps.
pub(crate) async fn clear(
    State(app): State<App>,
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
    let id = there(&app, id).await?;
    done(&app, &headers, Command::Clear(id, steps), &sent).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    step: StepName,
    success: bool,
}

/// Marks a step succeeded or failed.
pub(crate) async fn mark(
    State(app): State<App>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    let (Mark { step, success }, sent) = body(&headers, sent)?;
    let id = there(&app, id).await?;
    done(&app, &headers, Command::Mark(id, step, success), &sent).await
}

async fn pause_or_resume(
    app: App,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    sent: Body,
    pause: bool,
) -> Acted {
    let (Nothing {}, sent) = body(&headers, sent)?;
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    dag_of(&app.handle.snapshot(), &name)?;
    done(&app, &headers, Command::Pause(name, pause), &sent).await
}

/// Blocks scheduled starts of a DAG.
pub(crate) async fn pause(
    State(app): State<App>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    pause_or_resume(app, headers, name, sent, true).await
}

/// Allows them again.
pub(crate) async fn resume(
    State(app): State<App>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    pause_or_resume(app, headers, name, sent, false).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestMail {
    dag: Option<DagName>,
}

/// Queues a mail to those whom DAGs name for alerts.
pub(crate) async fn test_mail(State(app): State<App>, headers: HeaderMap, sent: Body) -> Acted {
    let (TestMail { dag }, sent) = body(&headers, sent)?;
    done(&app, &headers, Command::TestMail(dag), &sent).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Down {
    #[serde(default)]
    drain: bool,
}

/// Ends the daemon.
pub(crate) async fn down(State(app): State<App>, headers: HeaderMap, sent: Body) -> Acted {
    let (Down { drain }, sent) = body(&headers, sent)?;
    done(&app, &headers, Command::Down { drain }, &sent).await
}
