//! The API for programs, under `/api/v1`. Errors are problems ([`problem`](crate::http::problem)); what acts
//! may be sent again ([`once`](crate::http::idempotency)).

pub(crate) mod alerts;
pub(crate) mod answers;
pub(crate) mod audit;
pub(crate) mod dags;
pub(crate) mod document;
pub(crate) mod events;
pub(crate) mod health;
mod lists;
pub(crate) mod parameters;
pub(crate) mod process;
pub(crate) mod runs;
pub(crate) mod schemas;

use axum::body::Bytes;
use axum::http::HeaderMap;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::http::command::{Control, by};
use crate::http::idempotency;
use crate::http::reply::Acted;
use daemon::handle::Command;

/// It was done.
#[derive(Debug, Serialize, ToSchema)]
struct Done {
    /// One line for people.
    message: String,
}

/// A run was started.
#[derive(Debug, Serialize, ToSchema)]
struct Started {
    /// Its id.
    run: String,
    message: String,
}

/// Gives a command; with a key, once.
async fn done(control: &Control, headers: &HeaderMap, command: Command, sent: &Bytes) -> Acted {
    let door = by(headers);
    let (what, subject) = command.in_words();
    let once = idempotency::once(headers, &control.by(door), what, &subject, sent)?;
    let run = matches!(command, Command::Trigger { .. });
    let (message, again) = control.give_once(door, command, once).await?;
    let answer = if run { json!(Started { run: message.clone(), message }) } else { json!(Done { message }) };
    Ok(idempotency::answer(answer, again))
}
