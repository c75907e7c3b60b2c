//! Alerts, their mails, and the outbox.

pub(crate) mod view;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use crate::http::command::give;
use crate::http::form::{Done, Fields, checked};
use crate::http::lookup::wanted;
use crate::http::reply::{Page, PageRefusal, Refusal};
use crate::locale::say;
use crate::server::App;
use daemon::handle::Command;
use domain::ids::DagName;
use domain::said;

/// Alerts and the outbox.
pub(crate) async fn page(
    State(app): State<App>,
    asked: Result<Query<AskedAlerts>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let Query(asked) = asked.map_err(|e| Refusal::unread(&e.body_text(), said!("use kind=KIND and dag=NAME")))?;
    let wanted = wanted(&asked.kind, &asked.dag)?;
    // A name in a query's clothes: what is no name belongs to no alert.
    let dag = wanted.dag.parse::<DagName>().map(|d| d.to_string()).unwrap_or_default();
    let live = dag == wanted.dag;
    let kind = wanted.kind.map(|k| k.as_str()).unwrap_or_default();
    let fragments = view::page(&app.handle.snapshot(), &wanted, &app.csrf, &app.reader);
    let events = live.then(|| format!("/events?page=alerts&kind={kind}&dag={dag}"));
    Ok(Page::new("alerts", say!("Alerts"), events, fragments).into_response())
}

/// Which alerts a page is asked for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct AskedAlerts {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    dag: String,
}

/// Queues a test mail.
pub(crate) async fn test_mail(State(app): State<App>, fields: Fields) -> Done {
    checked(&app, fields)?;
    give(&app, "web", Command::TestMail(None)).await?;
    Ok(Redirect::to("/alerts"))
}
