//! Live pages and changes, as server-sent events that can be resumed.
//!
//! `/events` sends `{"fragments": {id: html}}`, the parts of a page that changed; `/api/v1/events` tells
//! programs what happened. Each event has an id. Whoever comes back with the last one it saw
//! (`Last-Event-ID`, which browsers send by themselves) gets what it missed.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::stream::unfold;
use serde::Deserialize;

use super::{alerts, audit, dag, dags, run, today};
use crate::http::caller::Caller;
use crate::http::lookup::{dag_of, find, wanted};
use crate::http::reply::{PageRefusal, Refusal};
use crate::live::{self, Channels, Key, Subscriber, Watched};
use crate::locale::Reader;
use crate::view::Fragment;
use daemon::{Handle, Snapshot};
use domain::message::Message;
use domain::said;

/// Which page's changes are asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    page: String,
    run: Option<String>,
    /// Name of a DAG.
    #[serde(default)]
    dag: String,
    /// Kind of alerts.
    #[serde(default)]
    kind: String,
}

/// Streams the changes of a page.
pub(crate) async fn events(
    State(handle): State<Handle>,
    State(channels): State<Arc<Channels>>,
    subscriber: Subscriber,
    caller: Caller,
    reader: Reader,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    const CHOICES: Message =
        said!("ask for page=today, page=dags, page=dag&dag=NAME, page=run&run=ID, page=alerts or page=audit");
    let Query(asked) = asked.map_err(|error| Refusal::unread(&error.body_text(), CHOICES))?;
    let watched = match (asked.page.as_str(), asked.run) {
        ("today", _) => Watched::Today,
        ("dags", _) => Watched::Dags,
        ("run", Some(id)) => Watched::Run(id.parse().map_err(Refusal::from)?),
        ("dag", _) => Watched::Dag(asked.dag.parse().map_err(Refusal::from)?),
        ("alerts", _) => Watched::Alerts(wanted(&asked.kind, &asked.dag)?),
        ("audit", _) => Watched::Audit,
        _ => return Err(Refusal::bad(said!("there is no such live page"), CHOICES).into()),
    };
    if let Watched::Run(id) = &watched {
        find(&handle.snapshot(), id)?;
    }
    if let Watched::Dag(name) = &watched {
        dag_of(&handle.snapshot(), name)?;
    }
    let place = subscriber.place()?;
    let key = Key { watched, acts: !caller.form_token().is_empty(), reader };
    let viewer = live::Viewer::new(subscriber, &channels, key, live::last_id(&headers).as_deref(), place);
    Ok(live::answer(unfold(viewer, live::Viewer::next)))
}

/// Stands in forms of live parts where the token of a session belongs. The script puts that of its own page
/// there.
const OF_THE_PAGE: &str = "of-the-page";

/// The page's parts; `None` once it is about nothing any more.
pub(crate) fn draw(key: &Key, snapshot: &Snapshot) -> Option<Vec<Fragment>> {
    let (csrf, reader) = (if key.acts { OF_THE_PAGE } else { "" }, &key.reader);
    Some(match &key.watched {
        Watched::Today => today::view::page(snapshot, reader),
        Watched::Dags => dags::view::page(snapshot, csrf, reader),
        Watched::Dag(name) => dag::view::page(snapshot, dag_of(snapshot, name).ok()?, 0, csrf, reader),
        Watched::Alerts(wanted) => alerts::view::page(snapshot, wanted, csrf, reader),
        Watched::Audit => audit::view::page(snapshot, 0, reader),
        Watched::Run(id) => run::view::page(snapshot, find(snapshot, id).ok()?, csrf, reader),
    })
}
