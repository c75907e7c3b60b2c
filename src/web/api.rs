//! The API for programs, under `/api/v1`. Errors are problems ([`problem`](super::problem)); what acts may be sent again ([`once`](super::once)).

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::actions::give_once;
use super::auth::{Caller, Who};
use super::once;
use super::pages::{dag_of, held, path};
use super::problem::Kind;
use super::reader::Reader;
use super::reply::{ApiRefusal, Refusal};
use super::server::App;
use daemon::handle::Command;
use domain::advice::advice;
use domain::ids::{DagName, RunId, StepName};

/// The OpenAPI document.
pub(super) const OPENAPI: &str = include_str!("assets/openapi.json");

pub(super) type Body = Result<Bytes, BytesRejection>;
pub(super) type Reply = Result<Json<Value>, ApiRefusal>;
/// The answer to what acts.
pub(super) type Acted = Result<Response, ApiRefusal>;

/// A JSON body, with its bytes; an empty one counts as `{}`.
pub(super) fn body<T: DeserializeOwned>(headers: &HeaderMap, sent: Body) -> Result<(T, Bytes), Refusal> {
    let bytes = sent.map_err(|error| Refusal::new(error.status(), error.body_text().to_lowercase(), "send at most 64 KiB"))?;
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default());
    if let Some(kind) = kind.filter(|kind| !bytes.is_empty() && !is_json(kind)) {
        let error = format!("the body is \"{kind}\"");
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error, "send it as Content-Type: application/json"));
    }
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    let refuse = |why: &dyn std::fmt::Display| {
        let error = format!("the body is not what was asked for: {why}");
        Refusal::bad(error, "GET /api/v1/openapi.json says what each request takes").kind(Kind::BadBody)
    };
    // A list of the fields' values would be taken for an object, too.
    if text.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
        return Err(refuse(&"a list, where an object is wanted"));
    }
    let value = serde_json::from_slice(text).map_err(|error| refuse(&error))?;
    Ok((value, bytes))
}

/// Whether a content type is JSON's.
pub(super) fn is_json(kind: &str) -> bool {
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// By what door somebody without a name comes, for the audit.
pub(super) fn by(headers: &HeaderMap) -> &'static str {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
    if agent.is_some_and(|a| a.starts_with("openbell-cli/")) { "cli" } else { "api" }
}

/// Gives a command; with a key, once.
async fn done(app: &App, headers: &HeaderMap, command: Command, sent: &Bytes) -> Acted {
    let door = by(headers);
    let (what, subject) = command.in_words();
    let once = once::once(headers, &app.by(door), what, &subject, sent)?;
    let run = matches!(command, Command::Trigger { .. });
    let (message, again) = give_once(app, door, command, once).await?;
    let answer = if run { json!({ "run": message, "message": message }) } else { json!({ "message": message }) };
    Ok(once::answer(answer, again))
}

/// The OpenAPI document.
pub(super) async fn openapi() -> Response {
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

/// A body that says nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

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
pub(super) async fn trigger(State(app): State<App>, headers: HeaderMap, sent: Body) -> Acted {
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
pub(super) async fn cancel(
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
pub(super) async fn clear(
    State(app): State<App>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    let (Clear { steps }, sent) = body(&headers, sent)?;
    if steps.is_empty() {
        return Err(Refusal::bad("no step is named", "name at least one under \"steps\"").kind(Kind::BadBody).into());
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
pub(super) async fn mark(
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
pub(super) async fn pause(
    State(app): State<App>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    pause_or_resume(app, headers, name, sent, true).await
}

/// Allows them again.
pub(super) async fn resume(
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
pub(super) async fn test_mail(State(app): State<App>, headers: HeaderMap, sent: Body) -> Acted {
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
pub(super) async fn down(State(app): State<App>, headers: HeaderMap, sent: Body) -> Acted {
    let (Down { drain }, sent) = body(&headers, sent)?;
    done(&app, &headers, Command::Down { drain }, &sent).await
}
