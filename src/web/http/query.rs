//! Parameters of paths and queries, as they were sent or refused.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use serde::Deserialize;

use super::reply::Refusal;
use domain::message::Message;
use domain::said;

/// Path parameters as they were sent.
pub(crate) fn path<T>(taken: Result<Path<T>, PathRejection>) -> Result<T, Refusal> {
    taken.map(|Path(value)| value).map_err(|error| Refusal::unread(&error.body_text(), Message::none()))
}

/// A query as it was sent.
pub(crate) fn query<T>(taken: Result<Query<T>, QueryRejection>, remedy: Message) -> Result<T, Refusal> {
    taken.map(|Query(value)| value).map_err(|error| Refusal::unread(&error.body_text(), remedy))
}

/// Which part of a page's list is asked for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Part {
    /// Newer entries that are left out.
    #[serde(default)]
    skip: usize,
}

pub(crate) type Parted = Result<Query<Part>, QueryRejection>;

pub(crate) fn skip(part: Parted) -> Result<usize, Refusal> {
    part.map(|Query(part)| part.skip).map_err(|e| Refusal::unread(&e.body_text(), said!("use skip=N")))
}
