//! The daemon itself: who asks it, all it shows, a copy of its journal, its end.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::answers::{Broken, NoAnswer, Refused};
use super::parameters::Key;
use super::{Done, done, schemas};
use crate::http::body::{Body, Nothing, body};
use crate::http::caller::{Caller, Who};
use crate::http::command::Control;
use crate::http::reply::{Acted, ApiRefusal, Refusal};
use accounts::Role;
use daemon::Handle;
use daemon::handle::Command;
use domain::message::Message;
use domain::said;

/// By what somebody is known. `local`: the command line on the daemon's machine; `anyone`: nobody has to log
/// in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CallerKind)]
#[serde(rename_all = "lowercase")]
enum Known {
    User,
    Token,
    Local,
    Anyone,
}

/// Whoever asks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Caller)]
struct Asker<'a> {
    kind: Known,
    #[schema(required)]
    name: Option<&'a str>,
    #[schema(required, value_type = Option<schemas::Role>)]
    role: Option<Role>,
}

/// Whoever asks.
#[utoipa::path(
    get,
    path = "/whoami",
    tag = "daemon",
    responses((status = 200, description = "By what they are known, and what they may do.", body = Asker)),
)]
pub(crate) async fn whoami(caller: Caller) -> Json<Value> {
    let kind = match caller.who {
        Who::User { .. } => Known::User,
        Who::Token { .. } => Known::Token,
        Who::Local => Known::Local,
        Who::Anyone | Who::Stranger => Known::Anyone,
    };
    Json(json!(Asker { kind, name: caller.name(), role: caller.role }))
}

/// Everything the daemon shows, at one moment.
#[utoipa::path(
    get,
    path = "/snapshot",
    tag = "daemon",
    responses((status = 200, description = "The newest snapshot.", body = schemas::Snapshot)),
)]
pub(crate) async fn snapshot(State(handle): State<Handle>) -> Response {
    Json(&*handle.snapshot()).into_response()
}

/// Where the journal was written.
#[derive(Debug, Serialize, ToSchema)]
struct Exported {
    /// The path, on the daemon's machine.
    file: String,
}

/// Write the journal as plain text into a file of the data folder; `openbell backup` does, while the daemon
/// runs.
#[utoipa::path(
    post,
    path = "/export",
    tag = "daemon",
    request_body = Nothing,
    responses(
        (status = 200, description = "The path of the `file`, on the daemon's machine.", body = Exported),
        Broken,
    ),
)]
pub(crate) async fn export(
    State(handle): State<Handle>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Json<Value>, ApiRefusal> {
    let (Nothing {}, _) = body(&headers, sent)?;
    let file = handle.export().await.map_err(|error| {
        tracing::error!(%error, "the journal cannot be exported");
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Message::foreign(error.to_string()),
            said!("look at the data folder's rights and disk"),
        )
    })?;
    Ok(Json(json!(Exported { file: file.display().to_string() })))
}

/// How the daemon ends.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Down {
    #[serde(default)]
    #[schema(default = false)]
    drain: bool,
}

/// End the daemon. With `drain` every run is cancelled and torn down first; without, running services live on
/// and are adopted by the next daemon.
#[utoipa::path(
    post,
    path = "/down",
    tag = "daemon",
    params(Key),
    request_body = Down,
    responses((status = 200, description = "Done; one line for people.", body = Done), Refused, NoAnswer),
)]
pub(crate) async fn down(control: Control, headers: HeaderMap, sent: Body) -> Acted {
    let (Down { drain }, sent) = body(&headers, sent)?;
    done(&control, &headers, Command::Down { drain }, &sent).await
}
