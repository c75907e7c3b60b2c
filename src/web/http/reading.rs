//! What was read of a store, for those who asked: or why there is nothing, and how old it is.

use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::reply::Refusal;
use crate::cache::{Reading, Trouble};
use domain::message::Refused;
use domain::said;

/// A reading that has something, or why there is nothing.
pub(crate) fn known<T>(reading: &Reading<T>) -> Result<&T, Refusal> {
    match (&reading.value, &reading.trouble) {
        (Some((_, value)), _) => Ok(value),
        (None, Some(trouble)) => Err(refusal(trouble)),
        (None, None) => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            said!("nothing was read yet"),
            said!("ask again"),
        )),
    }
}

fn refusal(trouble: &Trouble) -> Refusal {
    let Refused { why, remedy } = trouble.said.clone();
    let remedy = if remedy.is_empty() { said!("ask again in a moment") } else { remedy };
    if trouble.missing {
        return Refusal::missing(why, remedy);
    }
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, said!("{} (since {})", why, trouble.since), remedy)
}

/// What does not exist is a page that says so; what does not answer is said on the page itself.
pub(crate) fn not_missing<T>(reading: &Reading<T>) -> Result<(), Refusal> {
    match &reading.trouble {
        Some(trouble) if trouble.missing && reading.value.is_none() => Err(refusal(trouble)),
        _ => Ok(()),
    }
}

/// When the figures were read, and why they may be old.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stamp {
    /// When it was read.
    #[schema(required)]
    read_at: Option<Timestamp>,
    /// Why it may be old.
    #[schema(required)]
    trouble: Option<Said>,
}

/// A store does not answer as it should.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Trouble)]
struct Said {
    since: Timestamp,
    /// What it said, or that it says nothing.
    text: String,
}

/// When it was read, and why it may be old.
pub(crate) fn stamp<T>(reading: &Reading<T>) -> Stamp {
    let trouble = reading.trouble.as_ref().map(|t| Said { since: t.since, text: t.said.to_string() });
    Stamp { read_at: reading.value.as_ref().map(|(at, _)| *at), trouble }
}
