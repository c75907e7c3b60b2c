//! The pages and their two assets.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use serde::Deserialize;

use super::reader::say;
use super::reply::{Page, PageRefusal, Refusal};
use super::server::App;
use super::view;
use daemon::Snapshot;
use daemon::snapshot::{DagView, RunView};
use domain::ids::{DagName, RunId};

/// The stylesheet.
pub(super) const CSS: &str = include_str!("assets/openbell.css");
const JS: &str = include_str!("assets/openbell.js");
const AGAIN: &str = include_str!("assets/again.js");
const SVG: &str = include_str!("assets/openbell.svg");

/// Today.
pub(super) async fn today(State(app): State<App>) -> Response {
    let snapshot = app.handle.snapshot();
    Page::new("today", say!("Today"), Some("/events?page=today".into()), view::today::page(&snapshot, &app.reader))
        .into_response()
}

/// DAGs.
pub(super) async fn dags(State(app): State<App>) -> Response {
    let fragments = view::dags::page(&app.handle.snapshot(), &app.csrf, &app.reader);
    Page::new("dags", say!("DAGs"), Some("/events?page=dags".into()), fragments).into_response()
}

/// Which part of a list is asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Part {
    /// Newer entries that are left out.
    #[serde(default)]
    skip: usize,
}

type Parted = Result<Query<Part>, QueryRejection>;

fn skip(part: Parted) -> Result<usize, Refusal> {
    part.map(|Query(part)| part.skip).map_err(|e| Refusal::bad(e.body_text().to_lowercase(), "use skip=N"))
}

/// A DAG.
pub(super) async fn dag(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    part: Parted,
) -> Result<Response, PageRefusal> {
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    let skip = skip(part)?;
    let snapshot = app.handle.snapshot();
    let fragments = view::dag::page(&snapshot, dag_of(&snapshot, &name)?, skip, &app.csrf, &app.reader);
    let events = (skip == 0).then(|| format!("/events?page=dag&dag={name}"));
    Ok(Page::new("dag", name.as_str(), events, fragments).into_response())
}

/// A DAG of a snapshot.
pub(super) fn dag_of<'a>(snapshot: &'a Snapshot, name: &DagName) -> Result<&'a DagView, Refusal> {
    snapshot.dag(name.as_str()).ok_or_else(|| {
        Refusal::missing(format!("there is no DAG {name}"), "the DAGs page lists those there are, and files that do not work")
    })
}

/// Alerts and the outbox.
pub(super) async fn alerts(
    State(app): State<App>,
    asked: Result<Query<AskedAlerts>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let Query(asked) = asked.map_err(|e| Refusal::bad(e.body_text().to_lowercase(), "use kind=KIND and dag=NAME"))?;
    let wanted = super::control::wanted(&asked.kind, &asked.dag)?;
    // A name in a query's clothes: what is no name belongs to no alert.
    let dag = wanted.dag.parse::<DagName>().map(|d| d.to_string()).unwrap_or_default();
    let live = dag == wanted.dag;
    let kind = wanted.kind.map(|k| k.as_str()).unwrap_or_default();
    let fragments = view::alerts::page(&app.handle.snapshot(), &wanted, &app.csrf, &app.reader);
    let events = live.then(|| format!("/events?page=alerts&kind={kind}&dag={dag}"));
    Ok(Page::new("alerts", say!("Alerts"), events, fragments).into_response())
}

/// Which alerts a page is asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct AskedAlerts {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    dag: String,
}

/// Who did what.
pub(super) async fn audit(State(app): State<App>, part: Parted) -> Result<Response, PageRefusal> {
    let skip = skip(part)?;
    let fragments = view::audit::page(&app.handle.snapshot(), skip, &app.reader);
    Ok(Page::new("audit", say!("Audit"), (skip == 0).then(|| "/events?page=audit".into()), fragments).into_response())
}

/// A run, also one that is too old for snapshots.
pub(super) async fn run(State(app): State<App>, id: Result<Path<String>, PathRejection>) -> Result<Response, PageRefusal> {
    let id: RunId = path(id)?.parse().map_err(Refusal::from)?;
    let (snapshot, view) = (app.handle.snapshot(), held(&app, &id).await?);
    // '+' of a manual run's key would read as a space in a query.
    let events = format!("/events?page=run&run={}", id.as_str().replace('+', "%2B"));
    // An older one changes only when somebody clears it, and is in the snapshot then.
    let events = find(&snapshot, &id).is_ok().then_some(events);
    Ok(Page::new("run", id.as_str(), events, view::run::page(&snapshot, &view, &app.csrf, &app.reader)).into_response())
}

/// A run as the daemon holds it, or as the journal keeps it.
pub(super) async fn held(app: &App, id: &RunId) -> Result<RunView, Refusal> {
    match app.handle.run(id).await {
        Ok(Some(view)) => Ok(view),
        Ok(None) => Err(Refusal::missing(format!("there is no run {id}"), "the pages of the DAGs list the runs that are kept")),
        Err(error) => {
            tracing::error!(%error, run.id = %id, "a run cannot be read from the journal");
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), "look at the journal's disk"))
        }
    }
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
