//! Alerts and their mails.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::answers::{Missing, NoAnswer, Refused};
use super::lists::{ASK, Asked, listed};
use super::parameters::Key;
use super::{Done, done, schemas};
use crate::http::body::{Body, body};
use crate::http::command::Control;
use crate::http::lookup::wanted;
use crate::http::parts;
use crate::http::query::query;
use crate::http::reply::{Acted, Reply};
use daemon::Handle;
use daemon::handle::Command;
use daemon::snapshot::{AlertView, QueuedMail};
use domain::ids::DagName;

/// Which alerts are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Alerts {
    /// Only those of this kind; of all without one.
    #[serde(default)]
    #[param(value_type = Option<schemas::WantedKind>, inline)]
    kind: String,
    /// Only those of this DAG.
    #[serde(default)]
    dag: String,
    /// Entries of a part.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<usize>,
    /// The `next` of the part before.
    after: Option<String>,
}

/// A part of the alerts.
#[derive(Debug, Serialize, ToSchema)]
struct AlertList<'a> {
    #[schema(value_type = Vec<schemas::Alert>)]
    alerts: &'a [&'a AlertView],
    /// The `after` of the next part; null at the end.
    #[schema(required)]
    next: Option<String>,
    total: usize,
    /// IANA zone to show times in.
    timezone: &'a str,
}

/// Alerts that are kept, newest first.
#[utoipa::path(
    get,
    path = "/alerts",
    tag = "alerts",
    params(Alerts),
    responses(
        (
            status = 200,
            description = "`alerts`, the `next` cursor (null at the end), their `total` and the `timezone` \
                to show times in.",
            body = AlertList,
        ),
        Missing,
    ),
)]
pub(crate) async fn alerts(State(handle): State<Handle>, asked: Asked<Alerts>) -> Reply {
    let asked = query(asked, ASK)?;
    let wanted = wanted(&asked.kind, &asked.dag)?;
    let snapshot = handle.snapshot();
    let mut found: Vec<_> = snapshot.alerts.iter().filter(|a| wanted.takes(a)).collect();
    // Those of ended runs are told again after a start, run by run.
    found.sort_by_key(|a| std::cmp::Reverse(a.at));
    let (shown, next) = parts::happened(&found, &listed(asked.limit, asked.after.as_deref()), |a| a.at)?;
    Ok(Json(json!(AlertList { alerts: shown, next, total: found.len(), timezone: &snapshot.timezone })))
}

/// A part of the mails that wait.
#[derive(Debug, Serialize, ToSchema)]
struct MailList<'a> {
    #[schema(value_type = Vec<schemas::Mail>)]
    mails: &'a [QueuedMail],
    /// The `after` of the next part, a key; null at the end.
    #[schema(required)]
    next: Option<String>,
    total: usize,
    /// IANA zone to show times in.
    timezone: &'a str,
}

/// Mails that were not delivered yet, oldest first, with tries, last error and next try.
#[utoipa::path(
    get,
    path = "/outbox",
    tag = "alerts",
    params(parts::Asked),
    responses(
        (status = 200, description = "`mails` and the `timezone` to show times in.", body = MailList),
        Missing,
    ),
)]
pub(crate) async fn outbox(State(handle): State<Handle>, asked: Asked<parts::Asked>) -> Reply {
    let asked = query(asked, ASK)?;
    let snapshot = handle.snapshot();
    let (shown, next) = parts::part_of(&snapshot.outbox, &asked, |mail| mail.key.clone())?;
    Ok(Json(json!(MailList {
        mails: shown,
        next,
        total: snapshot.outbox.len(),
        timezone: &snapshot.timezone
    })))
}

/// Whom a mail is sent to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TestMail {
    #[schema(value_type = Option<schemas::Name>)]
    dag: Option<DagName>,
}

/// Queue a mail to everybody whom DAGs name for alerts, of one DAG or of all.
#[utoipa::path(
    post,
    path = "/alerts/test",
    tag = "alerts",
    params(Key),
    request_body = TestMail,
    responses((status = 200, description = "Done; one line for people.", body = Done), Refused, NoAnswer),
)]
pub(crate) async fn test_mail(control: Control, headers: HeaderMap, sent: Body) -> Acted {
    let (TestMail { dag }, sent) = body(&headers, sent)?;
    done(&control, &headers, Command::TestMail(dag), &sent).await
}
