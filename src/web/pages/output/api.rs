//! What an attempt printed, for programs: as text, or line by line and in parts.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::lines::{self, SHOWN, Wish};
use super::text::{self, Ids};
use crate::api::answers::{Broken, Missing};
use crate::api::{parameters, schemas};
use crate::http::query::query;
use crate::http::reply::{ApiRefusal, Refusal, Reply};
use crate::live::Subscriber;
use daemon::Handle;
use domain::ids::{RunId, StepName};
use domain::said;

/// What an attempt printed.
#[utoipa::path(
    get,
    path = "/runs/{id}/steps/{step}/output",
    tag = "runs",
    params(parameters::Run, parameters::Step, text::Asked),
    responses(
        (
            status = 200,
            description = "Plain text.",
            body = String,
            headers(("Content-Disposition" = String, description = "With `download`.")),
        ),
        Missing, Broken,
    ),
)]
pub(crate) async fn output(
    State(handle): State<Handle>,
    subscriber: Subscriber,
    ids: Ids,
    asked: text::Wish,
) -> Result<Response, ApiRefusal> {
    Ok(text::output(handle, subscriber, ids, asked).await?)
}

/// Lines of a part unless more or fewer are asked for.
const PART: u64 = 100;

/// Which lines are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// Number of the attempt; the newest without it.
    #[param(minimum = 1, maximum = 4294967295u32)]
    attempt: Option<u32>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// Number of the line before the first: the `next` of the part before.
    #[param(minimum = 0, maximum = 18446744073709551615u64)]
    after: Option<u64>,
}

/// A part of what an attempt printed.
#[derive(Debug, Serialize, ToSchema)]
struct Lines {
    #[schema(value_type = schemas::RunName)]
    run: RunId,
    #[schema(value_type = schemas::Name)]
    step: StepName,
    #[schema(minimum = 1)]
    attempt: u32,
    lines: Vec<Line>,
    /// The `after` of the next part, a line's number; null at the end.
    #[schema(required)]
    next: Option<u64>,
    /// Lines so far.
    total: u64,
    /// Bytes so far.
    bytes: u64,
}

/// A line of an output.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OutputLine)]
struct Line {
    #[schema(minimum = 1)]
    number: u64,
    text: String,
    /// Bytes of the line that are left out.
    cut: u64,
}

/// What an attempt printed, line by line: without colours and other control characters.
#[utoipa::path(
    get,
    path = "/runs/{id}/steps/{step}/lines",
    tag = "runs",
    params(parameters::Run, parameters::Step, Asked),
    responses(
        (status = 200, description = "`lines` with their numbers, `next`, and `total` so far.", body = Lines),
        Missing, Broken,
    ),
)]
pub(crate) async fn lines(
    State(handle): State<Handle>,
    ids: Ids,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Reply {
    let (run, step) = text::named(ids)?;
    let asked = query(asked, said!("ask for attempt=N, limit=N, after=LINE"))?;
    let limit = asked.limit.unwrap_or(PART);
    if !(1..=SHOWN).contains(&limit) {
        return Err(Refusal::bad(
            said!("limit is {}", limit.to_string()),
            said!("ask for 1 to {} lines", SHOWN.to_string()),
        )
        .into());
    }
    let attempt = match asked.attempt {
        Some(attempt) => attempt,
        None => text::newest(&handle, &run, &step).await?,
    };
    let after = asked.after.unwrap_or(0);
    let file = handle.output_file(&run, &step, attempt);
    let read =
        tokio::task::spawn_blocking(move || lines::read(&file, &Wish::From(after.saturating_add(1)))).await;
    let read = read.map_err(|error| {
        tracing::error!(%error, "reading an output failed");
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            said!("the output could not be read"),
            said!("the daemon's log says why"),
        )
    })?;
    let mut found = read.map_err(|error| {
        let ended = text::how_it_ended(&handle, &run, &step, attempt);
        text::unreadable(&error, &run, &step, attempt, ended)
    })?;
    // Beyond the end, the last line would be given once more.
    found.lines.retain(|line| line.number > after && line.number - after <= limit);
    let next = found.lines.last().map(|line| line.number).filter(|last| *last < found.total);
    let shown =
        found.lines.into_iter().map(|line| Line { number: line.number, text: line.text, cut: line.cut });
    let (lines, total, bytes) = (shown.collect(), found.total, found.bytes);
    Ok(Json(json!(Lines { run, step, attempt, lines, next, total, bytes })))
}
