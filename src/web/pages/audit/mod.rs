//! Who did what.

pub(crate) mod view;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::http::page::Frame;
use crate::http::query::{Parted, skip};
use crate::http::reply::PageRefusal;
use crate::locale::say;
use daemon::Handle;

/// The audit.
pub(crate) async fn page(
    State(handle): State<Handle>,
    frame: Frame,
    part: Parted,
) -> Result<Response, PageRefusal> {
    let skip = skip(part)?;
    let fragments = view::page(&handle.snapshot(), skip, &frame.reader);
    Ok(frame
        .page("audit", say!("Audit"), (skip == 0).then(|| "/events?page=audit".into()), fragments)
        .into_response())
}
