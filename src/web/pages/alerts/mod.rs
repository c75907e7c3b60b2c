//! Alerts, their mails, and the outbox.

pub(crate) mod view;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use crate::http::command::Control;
use crate::http::form::{Checked, Done};
use crate::http::lookup::wanted;
use crate::http::page::Frame;
use crate::http::reply::{PageRefusal, Refusal};
use crate::locale::say;
use daemon::Handle;
use daemon::handle::Command;
use domain::ids::DagName;
use domain::said;

/// Alerts and the outbox.
pub(crate) async fn page(
    State(handle): State<Handle>,
    frame: Frame,
    asked: Result<Query<AskedAlerts>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let Query(asked) =
        asked.map_err(|e| Refusal::unread(&e.body_text(), said!("use kind=KIND and dag=NAME")))?;
    let wanted = wanted(&asked.kind, &asked.dag)?;
    // A name in a query's clothes: what is no name belongs to no alert.
    let dag = wanted.dag.parse::<DagName>().map(|d| d.to_string()).unwrap_or_default();
    let live = dag == wanted.dag;
    let kind = wanted.kind.map(|k| k.as_str()).unwrap_or_default();
    let fragments = view::page(&handle.snapshot(), &wanted, frame.csrf(), &frame.reader);
    let events = live.then(|| format!("/events?page=alerts&kind={kind}&dag={dag}"));
    Ok(frame.page("alerts", say!("Alerts"), events, fragments).into_response())
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
pub(crate) async fn test_mail(control: Control, _: Checked) -> Done {
    control.give("web", Command::TestMail(None)).await?;
    Ok(Redirect::to("/alerts"))
}
