//! Who did what.

pub(crate) mod view;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::http::query::{Parted, skip};
use crate::http::reply::{Page, PageRefusal};
use crate::locale::say;
use crate::server::App;

/// The audit.
pub(crate) async fn page(State(app): State<App>, part: Parted) -> Result<Response, PageRefusal> {
    let skip = skip(part)?;
    let fragments = view::page(&app.handle.snapshot(), skip, &app.reader);
    Ok(Page::new("audit", say!("Audit"), (skip == 0).then(|| "/events?page=audit".into()), fragments).into_response())
}
