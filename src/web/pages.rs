//! The pages and their two assets.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::reply::{Page, PageRefusal, Refusal};
use super::server::App;
use super::view;
use crate::daemon::Snapshot;
use crate::daemon::snapshot::RunView;
use crate::domain::ids::RunId;

/// The stylesheet.
pub(super) const CSS: &str = include_str!("assets/openbell.css");
const JS: &str = include_str!("assets/openbell.js");
const AGAIN: &str = include_str!("assets/again.js");
const SVG: &str = include_str!("assets/openbell.svg");

/// Today.
pub(super) async fn today(State(app): State<App>) -> Response {
    let snapshot = app.handle.snapshot();
    Page::new("today", "Today", Some("/events?page=today".into()), view::today::page(&snapshot)).into_response()
}

/// DAGs.
pub(super) async fn dags(State(app): State<App>) -> Response {
    let fragments = view::dags::page(&app.handle.snapshot(), &app.csrf);
    Page::new("dags", "DAGs", Some("/events?page=dags".into()), fragments).into_response()
}

/// A run.
pub(super) async fn run(State(app): State<App>, id: Result<Path<String>, PathRejection>) -> Result<Response, PageRefusal> {
    let id: RunId = path(id)?.parse().map_err(Refusal::from)?;
    let snapshot = app.handle.snapshot();
    let view = find(&snapshot, &id)?;
    // '+' of a manual run's key would read as a space in a query.
    let events = format!("/events?page=run&run={}", id.as_str().replace('+', "%2B"));
    Ok(Page::new("run", id.as_str(), Some(events), view::run::page(&snapshot, view, &app.csrf)).into_response())
}

/// Path parameters as they were sent.
pub(super) fn path<T>(taken: Result<Path<T>, PathRejection>) -> Result<T, Refusal> {
    taken.map(|Path(value)| value).map_err(|error| Refusal::bad(error.body_text().to_lowercase(), ""))
}

/// A run of a snapshot.
pub(super) fn find<'a>(snapshot: &'a Snapshot, id: &RunId) -> Result<&'a RunView, Refusal> {
    let found = snapshot.runs.iter().find(|v| v.run.id == *id);
    found.ok_or_else(|| {
        Refusal::missing(
            format!("there is no run {id} among the newest {}", Snapshot::KEPT_RUNS),
            "the DAGs page lists the runs there are",
        )
    })
}

/// The site's own style and script.
pub(super) async fn asset(file: Result<Path<String>, PathRejection>) -> Result<Response, PageRefusal> {
    let file = path(file)?;
    let (kind, text) = match file.as_str() {
        "openbell.css" => ("text/css; charset=utf-8", CSS),
        "openbell.js" => ("text/javascript; charset=utf-8", JS),
        "again.js" => ("text/javascript; charset=utf-8", AGAIN),
        "openbell.svg" => ("image/svg+xml", SVG),
        _ => return Err(Refusal::missing(format!("there is no asset {file}"), "").into()),
    };
    // Asked for again after every upgrade of the binary.
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response())
}

/// The icon where browsers look for it by themselves, for answers that are no page.
pub(super) async fn icon() -> Response {
    (axum::http::StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, "/assets/openbell.svg")]).into_response()
}
