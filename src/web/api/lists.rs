//! Lists that are long: how much of one is asked for.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;

use crate::http::parts;
use domain::message::Message;
use domain::said;

pub(crate) type Asked<T> = Result<Query<T>, QueryRejection>;

pub(crate) const ASK: Message = said!("GET /api/v1/openapi.json says what can be asked for");

/// Entries of a part unless more or fewer are asked for.
const PART: usize = 50;

/// Which part is asked for of what is long.
pub(crate) fn listed(limit: Option<usize>, after: Option<&str>) -> parts::Asked {
    parts::Asked { limit: limit.or(Some(PART)), after: after.map(str::to_owned) }
}
