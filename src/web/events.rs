//! Live pages: the parts of a page that changed, as server-sent events.
//!
//! Each event is `{"fragments": {id: html}}`. At most five go out a second of real time, however often the daemon
//! publishes; in between, only the newest snapshot counts. A `beat` goes out when nothing changed for a while, so that a page can tell
//! silence from a lost connection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::pages::{dag_of, find};
use super::reply::{PageRefusal, Refusal};
use super::server::App;
use super::view::alerts::Wanted;
use super::view::{self, Fragment, Html};
use crate::daemon::Snapshot;
use crate::domain::ids::{DagName, RunId};

/// Least real time between two events.
const BETWEEN: Duration = Duration::from_millis(200);
/// Longest real silence.
const BEAT: Duration = Duration::from_secs(5);

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

#[derive(Debug, Clone)]
enum Watched {
    Today,
    Dags,
    Run(RunId),
    Dag(DagName),
    Alerts(Wanted),
    Audit,
}

impl Watched {
    /// The page's parts; `None` once it is about nothing any more.
    fn draw(&self, snapshot: &Snapshot, csrf: &str) -> Option<Vec<Fragment>> {
        Some(match self {
            Self::Today => view::today::page(snapshot),
            Self::Dags => view::dags::page(snapshot, csrf),
            Self::Dag(name) => view::dag::page(snapshot, dag_of(snapshot, name).ok()?, 0, csrf),
            Self::Alerts(wanted) => view::alerts::page(snapshot, wanted, csrf),
            Self::Audit => view::audit::page(snapshot, 0),
            Self::Run(id) => view::run::page(snapshot, find(snapshot, id).ok()?, csrf),
        })
    }
}

struct Live {
    app: App,
    watched: Watched,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    sent: HashMap<&'static str, Html>,
    next: Instant,
    _room: OwnedSemaphorePermit,
}

impl Live {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let first = self.sent.is_empty();
        let stop = self.app.stop.clone();
        let event = tokio::select! {
            () = stop.cancelled() => return None,
            event = self.event(first) => event?,
        };
        self.next = Instant::now() + BETWEEN;
        Some((Ok(event), self))
    }

    /// The next event; `None` when there will be none any more.
    async fn event(&mut self, first: bool) -> Option<Event> {
        let silence = Instant::now() + BEAT;
        if first {
            return self.changes()?;
        }
        loop {
            match tokio::time::timeout_at(silence, self.snapshots.changed()).await {
                // The daemon is gone; the page says so and asks again.
                Ok(Err(_)) => return None,
                Err(_) if !self.app.may_go_on() => return None,
                // An event without data is none: browsers drop it.
                Err(_) => return Some(Event::default().event("beat").data("-")),
                Ok(Ok(())) => {}
            }
            tokio::time::sleep_until(self.next).await;
            if let Some(event) = self.changes()? {
                return Some(event);
            }
        }
    }

    /// What differs from what was sent, if anything does; `None` once the page is about nothing any more.
    fn changes(&mut self) -> Option<Option<Event>> {
        if !self.app.may_go_on() {
            return None;
        }
        let snapshot = self.snapshots.borrow_and_update().clone();
        let mut changed = serde_json::Map::new();
        for Fragment { id, html } in self.watched.draw(&snapshot, &self.app.csrf)? {
            if self.sent.get(id) != Some(&html) {
                changed.insert(id.to_owned(), html.as_str().into());
                self.sent.insert(id, html);
            }
        }
        // A JSON text holds no raw line end, which is what an event's data must not hold.
        let any = !changed.is_empty();
        let data = serde_json::json!({ "fragments": changed }).to_string();
        Some(any.then(|| Event::default().event("fragments").data(data)))
    }
}

/// There is no room for another live page.
pub(super) fn full() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too many live pages are open",
        "close some; the page itself can be reloaded by hand",
    )
}

/// Streams the changes of a page.
pub(super) async fn events(
    State(app): State<App>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, PageRefusal> {
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
    let room = app.live.clone().try_acquire_owned().map_err(|_| full())?;
    let snapshots = app.handle.subscribe();
    let live = Live { app, watched, snapshots, sent: HashMap::new(), next: Instant::now(), _room: room };
    Ok(Sse::new(unfold(live, Live::next)))
}
