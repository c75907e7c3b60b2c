//! DAGs, and files that do not work.

pub(crate) mod view;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::http::reply::Page;
use crate::locale::say;
use crate::server::App;

/// DAGs.
pub(crate) async fn page(State(app): State<App>) -> Response {
    let fragments = view::page(&app.handle.snapshot(), &app.csrf, &app.reader);
    Page::new("dags", say!("DAGs"), Some("/events?page=dags".into()), fragments).into_response()
}
