//! Who did what.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::answers::Missing;
use super::lists::{ASK, Asked, listed};
use super::schemas;
use crate::http::parts;
use crate::http::query::query;
use crate::http::reply::Reply;
use daemon::Handle;
use state::Audit;

/// Which audit entries are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Audits {
    /// Entries of a part.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<usize>,
    /// The `next` of the part before.
    after: Option<String>,
    /// Only entries older than this.
    before: Option<Timestamp>,
}

/// A part of the audit.
#[derive(Debug, Serialize, ToSchema)]
struct AuditList<'a> {
    #[schema(value_type = Vec<schemas::AuditEntry>)]
    entries: &'a [&'a Audit],
    /// The `after` of the next part; null at the end.
    #[schema(required)]
    next: Option<String>,
    total: usize,
    /// IANA zone to show times in.
    timezone: &'a str,
}

const TOLD: &str = "`entries`, the `next` cursor (null at the end), their `total` and the `timezone` to show \
    times in. Commands, logins, logouts, changed passwords, failed logins and tokens (beyond ten in ten \
    minutes they are counted together), replays.";

/// Who did what, when, and what came of it, newest first.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "alerts",
    params(Audits),
    responses((status = 200, description = TOLD, body = AuditList), Missing),
)]
pub(crate) async fn audit(State(handle): State<Handle>, asked: Asked<Audits>) -> Reply {
    let asked = query(asked, ASK)?;
    let snapshot = handle.snapshot();
    let mut found: Vec<_> =
        snapshot.audit.iter().filter(|e| asked.before.is_none_or(|before| e.at < before)).collect();
    // A clock that was set back wrote newer entries with older times.
    found.sort_by_key(|e| std::cmp::Reverse(e.at));
    let (shown, next) = parts::happened(&found, &listed(asked.limit, asked.after.as_deref()), |e| e.at)?;
    Ok(Json(json!(AuditList { entries: shown, next, total: found.len(), timezone: &snapshot.timezone })))
}
