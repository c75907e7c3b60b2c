//! DAGs, and files that do not work.

pub(crate) mod view;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::http::page::Frame;
use crate::locale::say;
use daemon::Handle;

/// DAGs.
pub(crate) async fn page(State(handle): State<Handle>, frame: Frame) -> Response {
    let fragments = view::page(&handle.snapshot(), frame.csrf(), &frame.reader);
    frame.page("dags", say!("DAGs"), Some("/events?page=dags".into()), fragments).into_response()
}
