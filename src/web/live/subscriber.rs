//! Whoever holds a connection open: they have a place, and read on until they may no longer.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::StatusCode;
use axum::http::request::Parts;
use tokio_util::sync::CancellationToken;

use super::places::{Full, Place, Places};
use crate::auth::Access;
use crate::http::caller::Caller;
use crate::http::reply::Refusal;
use domain::said;

/// Whoever holds a connection open.
#[derive(Clone)]
pub(crate) struct Subscriber {
    caller: Caller,
    access: Option<Arc<Access>>,
    places: Places,
    /// Ends what stays open, with the site.
    pub(crate) stop: CancellationToken,
}

impl<S> FromRequestParts<S> for Subscriber
where
    S: Sync,
    Option<Arc<Access>>: FromRef<S>,
    Places: FromRef<S>,
    CancellationToken: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self {
            caller: Caller::of(&parts.extensions),
            access: Option::from_ref(state),
            places: Places::from_ref(state),
            stop: CancellationToken::from_ref(state),
        })
    }
}

impl Subscriber {
    /// Whether they may still read; a long answer looks at it now and then.
    pub(crate) fn may_go_on(&self) -> bool {
        self.access.as_ref().is_none_or(|access| access.still(&self.caller))
    }

    /// A place for a connection that stays open.
    pub(crate) fn place(&self) -> Result<Place, Refusal> {
        let (status, error, remedy) = match self.places.take(self.caller.name()) {
            Ok(place) => return Ok(place),
            Err(Full::All(most)) => (
                StatusCode::SERVICE_UNAVAILABLE,
                said!("{} live pages are open, and there is no room for another", most.to_string()),
                said!("close some; the page itself can be reloaded by hand"),
            ),
            Err(Full::Each(most)) => (
                StatusCode::TOO_MANY_REQUESTS,
                said!(
                    "{} live pages of this user or token are open, and there is room for no more of them",
                    most.to_string()
                ),
                said!("close some; the page itself can be reloaded by hand"),
            ),
        };
        Err(Refusal::new(status, error, remedy))
    }
}
