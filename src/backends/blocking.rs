//! File work off the async threads.

use super::{BackendError, ErrorKind, Result};

/// Runs `work` where it may block. It runs to its end even when the caller stops waiting.
pub(crate) async fn run<T: Send + 'static>(
    place: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(failed(place, &e)))
}

/// The error of work that panicked, or that the runtime ended.
pub(crate) fn failed(place: &str, error: &tokio::task::JoinError) -> BackendError {
    let message = if error.is_panic() {
        "a worker panicked, which is a fault of openbell"
    } else {
        "openbell is shutting down"
    };
    BackendError::new(ErrorKind::Unavailable, place, message)
}
