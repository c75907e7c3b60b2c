//! Backfill of a DAG, for programs. A call creates some runs and lists the rest: whoever calls again goes on where it stopped.

use std::collections::BTreeMap;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::json;

use crate::http::body::{Body, body, whole};
use crate::http::command::{by, give_once};
use crate::http::idempotency;
use crate::http::lookup::dag_of;
use crate::http::query::path;
use crate::http::reply::{Acted, Refusal};
use crate::server::App;
use daemon::handle::{BackfillSession, BackfillState, Command};
use domain::ids::DagName;
use domain::message::Message;
use domain::said;

/// Which sessions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    from: Date,
    to: Date,
    #[serde(default)]
    params: BTreeMap<String, String>,
    /// One without it.
    #[serde(default, deserialize_with = "whole")]
    at_most: Option<usize>,
}

/// Creates runs of sessions that passed without one.
pub(crate) async fn backfill(
    State(app): State<App>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    sent: Body,
) -> Acted {
    let (Wanted { from, to, params, at_most }, sent) = body(&headers, sent)?;
    let dag: DagName = path(name)?.parse().map_err(Refusal::from)?;
    dag_of(&app.handle.snapshot(), &dag)?;
    let command = Command::Backfill { dag: dag.clone(), first: from, last: to, params, at_most: at_most.unwrap_or(1) };
    let (what, subject) = command.in_words();
    let once = idempotency::once(&headers, &app.by(by(&headers)), what, &subject, &sent)?;
    let (answer, again) = give_once(&app, by(&headers), command, once).await?;
    let sessions: Vec<BackfillSession> = serde_json::from_str(&answer).map_err(|error| {
        Refusal::new(
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            said!("the daemon's answer cannot be read: {}", error.to_string()),
            Message::none(),
        )
    })?;
    let count = |state| sessions.iter().filter(|s| s.state == state).count();
    let message =
        format!("{} runs created, {} sessions still without one", count(BackfillState::Created), count(BackfillState::Due));
    Ok(idempotency::answer(json!({ "dag": dag, "sessions": sessions, "message": message }), again))
}
