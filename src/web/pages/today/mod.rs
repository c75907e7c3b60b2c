//! Today: the day that runs, or the last one that did.

mod hops;
mod lights;
mod timeline;
mod trend;
mod verdict;
pub(crate) mod view;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::http::page::Frame;
use crate::locale::say;
use daemon::Handle;

/// Today.
pub(crate) async fn page(State(handle): State<Handle>, frame: Frame) -> Response {
    let snapshot = handle.snapshot();
    frame
        .page("today", say!("Today"), Some("/events?page=today".into()), view::page(&snapshot, &frame.reader))
        .into_response()
}
