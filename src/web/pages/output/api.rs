//! What an attempt printed, line by line and in parts, for programs.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::lines::{self, SHOWN, Wish};
use super::text as output;
use super::text::Ids;
use crate::http::query::query;
use crate::http::reply::{Refusal, Reply};
use crate::server::App;
use domain::said;

/// Lines of a part unless more or fewer are asked for.
const PART: u64 = 100;

/// Which lines are asked for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    /// Number of the attempt; the newest without it.
    attempt: Option<u32>,
    limit: Option<u64>,
    /// Number of the line before the first; 0 is before all.
    after: Option<u64>,
}

/// Lines by number. Colours and other control characters are left out; of a very long line its begin is shown.
pub(crate) async fn lines(State(app): State<App>, ids: Ids, asked: Result<Query<Asked>, QueryRejection>) -> Reply {
    let (run, step) = output::named(ids)?;
    let asked = query(asked, said!("ask for attempt=N, limit=N, after=LINE"))?;
    let limit = asked.limit.unwrap_or(PART);
    if !(1..=SHOWN).contains(&limit) {
        return Err(
            Refusal::bad(said!("limit is {}", limit.to_string()), said!("ask for 1 to {} lines", SHOWN.to_string())).into()
        );
    }
    let attempt = match asked.attempt {
        Some(attempt) => attempt,
        None => output::newest(&app, &run, &step).await?,
    };
    let after = asked.after.unwrap_or(0);
    let file = app.handle.output_file(&run, &step, attempt);
    let read = tokio::task::spawn_blocking(move || lines::read(&file, &Wish::From(after.saturating_add(1)))).await;
    let read = read.map_err(|error| {
        tracing::error!(%error, "reading an output failed");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, said!("the output could not be read"), said!("the daemon's log says why"))
    })?;
    let mut found = read.map_err(|error| {
        let ended = output::how_it_ended(&app, &run, &step, attempt);
        output::unreadable(&error, &run, &step, attempt, ended)
    })?;
    // Beyond the end, the last line would be given once more.
    found.lines.retain(|line| line.number > after && line.number - after <= limit);
    let next = found.lines.last().map(|line| line.number).filter(|last| *last < found.total);
    let shown: Vec<_> =
        found.lines.iter().map(|line| json!({ "number": line.number, "text": line.text, "cut": line.cut })).collect();
    Ok(Json(json!({
        "run": run,
        "step": step,
        "attempt": attempt,
        "lines": shown,
        "next": next,
        "total": found.total,
        "bytes": found.bytes,
    })))
}
