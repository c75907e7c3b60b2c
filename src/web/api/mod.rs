//! The API for programs, under `/api/v1`. Errors are problems ([`problem`](crate::http::problem)); what acts may be sent again ([`once`](crate::http::idempotency)).

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
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::command::{by, give_once};
use crate::http::idempotency;
use crate::http::reply::Acted;
use crate::pages::{dead_letters, market, output, topics};
use crate::server::{App, Shared};
use daemon::handle::Command;

/// The API. A route is what stands at its handler: without a description there is no route.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(document::empty())
        .routes(routes!(document::openapi))
        .routes(routes!(process::whoami))
        .routes(routes!(process::snapshot))
        .routes(routes!(process::export))
        .routes(routes!(process::down))
        .routes(routes!(events::events))
        .routes(routes!(dags::dags))
        .routes(routes!(dags::dag))
        .routes(routes!(dags::calendar))
        .routes(routes!(dags::pause))
        .routes(routes!(dags::resume))
        .routes(routes!(dags::backfill))
        .routes(routes!(runs::runs, runs::trigger))
        .routes(routes!(runs::dag_runs))
        .routes(routes!(runs::run))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::clear))
        .routes(routes!(runs::mark))
        .routes(routes!(output::api::output))
        .routes(routes!(output::api::lines))
        .routes(routes!(alerts::alerts))
        .routes(routes!(alerts::test_mail))
        .routes(routes!(alerts::outbox))
        .routes(routes!(audit::audit))
        .routes(routes!(topics::api::topics))
        .routes(routes!(topics::api::topic))
        .routes(routes!(topics::api::records))
        .routes(routes!(dead_letters::api::dead_letters))
        .routes(routes!(dead_letters::api::dead_letters_of))
        .routes(routes!(dead_letters::api::dead_letter))
        .routes(routes!(dead_letters::api::replay))
        .routes(routes!(market::api::symbols))
        .routes(routes!(market::api::symbol))
}

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
async fn done(app: &App, headers: &HeaderMap, command: Command, sent: &Bytes) -> Acted {
    let door = by(headers);
    let (what, subject) = command.in_words();
    let once = idempotency::once(headers, &app.by(door), what, &subject, sent)?;
    let run = matches!(command, Command::Trigger { .. });
    let (message, again) = give_once(app, door, command, once).await?;
    let answer = if run { json!(Started { run: message.clone(), message }) } else { json!(Done { message }) };
    Ok(idempotency::answer(answer, again))
}
