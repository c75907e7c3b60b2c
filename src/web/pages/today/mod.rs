//! Today: the day that runs, or the last one that did.

mod hops;
mod lights;
mod timeline;
mod trend;
mod verdict;
pub(crate) mod view;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::http::reply::Page;
use crate::locale::say;
use crate::server::App;

/// Today.
pub(crate) async fn page(State(app): State<App>) -> Response {
    let snapshot = app.handle.snapshot();
    Page::new("today", say!("Today"), Some("/events?page=today".into()), view::page(&snapshot, &app.reader)).into_response()
}
