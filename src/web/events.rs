//! Live pages and changes, as server-sent events that can be resumed.
//!
//! `/events` sends `{"fragments": {id: html}}`, the parts of a page that changed; `/api/v1/events` tells programs what happened. Each event
//! has an id. Whoever comes back with the last one it saw (`Last-Event-ID`, which browsers send by themselves) gets what it missed.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::stream::unfold;
use serde::Deserialize;

use super::live::{self, Full, Key, Place, Watched};
use super::pages::{dag_of, find};
use super::reply::{ApiRefusal, PageRefusal, Refusal};
use super::server::App;

/// Which page's changes are asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    page: String,
    run: Option<String>,
    /// Name of a DAG.
    #[serde(default)]
    dag: String,
    /// Kind of alerts.
    #[serde(default)]
    kind: String,
}

/// A place for a connection that stays open.
pub(super) fn place(app: &App) -> Result<Place, Refusal> {
    let (status, error, remedy) = match app.take_place() {
        Ok(place) => return Ok(place),
        Err(Full::All(most)) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{most} live pages are open, and there is no room for another"),
            "close some; the page itself can be reloaded by hand",
        ),
        Err(Full::Each(most)) => (
            StatusCode::TOO_MANY_REQUESTS,
            format!("{most} live pages of this user or token are open, and there is room for no more of them"),
            "close some; the page itself can be reloaded by hand",
        ),
    };
    Err(Refusal::new(status, error, remedy))
}

/// Streams the changes of a page.
pub(super) async fn events(
    State(app): State<App>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let choices = "ask for page=today, page=dags, page=dag&dag=NAME, page=run&run=ID, page=alerts or page=audit";
    let Query(asked) = asked.map_err(|error| Refusal::bad(error.body_text().to_lowercase(), choices))?;
    let watched = match (asked.page.as_str(), asked.run) {
        ("today", _) => Watched::Today,
        ("dags", _) => Watched::Dags,
        ("run", Some(id)) => Watched::Run(id.parse().map_err(Refusal::from)?),
        ("dag", _) => Watched::Dag(asked.dag.parse().map_err(Refusal::from)?),
        ("alerts", _) => Watched::Alerts(super::control::wanted(&asked.kind, &asked.dag)?),
        ("audit", _) => Watched::Audit,
        _ => return Err(Refusal::bad("there is no such live page", choices).into()),
    };
    if let Watched::Run(id) = &watched {
        find(&app.handle.snapshot(), id)?;
    }
    if let Watched::Dag(name) = &watched {
        dag_of(&app.handle.snapshot(), name)?;
    }
    let place = place(&app)?;
    let key = Key { watched, acts: !app.csrf.is_empty(), reader: app.reader.clone() };
    let channels = app.channels.clone();
    let viewer = live::Viewer::new(app, &channels, key, live::last_id(&headers).as_deref(), place);
    Ok(live::answer(unfold(viewer, live::Viewer::next)))
}

/// Streams what happens, for programs.
pub(super) async fn api(State(app): State<App>, headers: HeaderMap) -> Result<Response, ApiRefusal> {
    let place = place(&app)?;
    let feed = app.feed.clone();
    let reader = live::Reader::new(app, &feed, live::last_id(&headers).as_deref(), place);
    Ok(live::answer(unfold(reader, live::Reader::next)))
}
