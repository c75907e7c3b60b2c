//! What was read of a store, for those who asked: or why there is nothing, and how old it is.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::reply::Refusal;
use crate::cache::{Reading, Trouble};

/// A reading that has something, or why there is nothing.
pub(crate) fn known<T>(reading: &Reading<T>) -> Result<&T, Refusal> {
    match (&reading.value, &reading.trouble) {
        (Some((_, value)), _) => Ok(value),
        (None, Some(trouble)) => Err(refusal(trouble)),
        (None, None) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "nothing was read yet", "ask again")),
    }
}

fn refusal(trouble: &Trouble) -> Refusal {
    let (error, remedy) = trouble.text.split_once("; ").unwrap_or((&trouble.text, "ask again in a moment"));
    let status = if trouble.missing { StatusCode::NOT_FOUND } else { StatusCode::SERVICE_UNAVAILABLE };
    let error = if trouble.missing { error.to_owned() } else { format!("{error} (since {})", trouble.since) };
    Refusal::new(status, error, remedy)
}

/// What does not exist is a page that says so; what does not answer is said on the page itself.
pub(crate) fn not_missing<T>(reading: &Reading<T>) -> Result<(), Refusal> {
    match &reading.trouble {
        Some(trouble) if trouble.missing && reading.value.is_none() => Err(refusal(trouble)),
        _ => Ok(()),
    }
}

/// When it was read, and why it may be old.
pub(crate) fn stamp<T>(reading: &Reading<T>, mut answer: Value) -> Value {
    answer["read_at"] = json!(reading.value.as_ref().map(|(at, _)| at));
    answer["trouble"] = json!(reading.trouble.as_ref().map(|t| json!({ "since": t.since, "text": t.text })));
    answer
}
