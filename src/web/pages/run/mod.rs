//! A run: its attempts on the day's axis, its steps, and its forms.

mod actions;
mod gantt;
pub(crate) mod view;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};

use crate::http::lookup::{find, held};
use crate::http::page::Frame;
use crate::http::query::path;
use crate::http::reply::{PageRefusal, Refusal};
use daemon::Handle;
use domain::ids::RunId;

pub(crate) use actions::{cancel, clear, mark};

/// A run, also one that is too old for snapshots.
pub(crate) async fn page(
    State(handle): State<Handle>,
    frame: Frame,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, PageRefusal> {
    let id: RunId = path(id)?.parse().map_err(Refusal::from)?;
    let (snapshot, view) = (handle.snapshot(), held(&handle, &id).await?);
    // '+' of a manual run's key would read as a space in a query.
    let events = format!("/events?page=run&run={}", id.as_str().replace('+', "%2B"));
    // An older one changes only when somebody clears it, and is in the snapshot then.
    let events = find(&snapshot, &id).is_ok().then_some(events);
    Ok(frame
        .page("run", id.as_str(), events, view::page(&snapshot, &view, frame.csrf(), &frame.reader))
        .into_response())
}
