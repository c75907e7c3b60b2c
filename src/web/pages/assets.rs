//! The site's own style, script and icon.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::http::query::path;
use crate::http::reply::{PageRefusal, Refusal};
use domain::message::Message;
use domain::said;

/// The stylesheet.
pub(crate) const CSS: &str = include_str!("../assets/openbell.css");
const JS: &str = include_str!("../assets/openbell.js");
const SVG: &str = include_str!("../assets/openbell.svg");

/// The site's own style and script.
pub(crate) async fn asset(file: Result<Path<String>, PathRejection>) -> Result<Response, PageRefusal> {
    let file = path(file)?;
    let (kind, text) = match file.as_str() {
        "openbell.css" => ("text/css; charset=utf-8", CSS),
        "openbell.js" => ("text/javascript; charset=utf-8", JS),
        "openbell.svg" => ("image/svg+xml", SVG),
        _ => return Err(Refusal::missing(said!("there is no asset {}", file), Message::none()).into()),
    };
    // Asked for again after every upgrade of the binary.
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response())
}

/// The icon where browsers look for it by themselves, for answers that are no page.
pub(crate) async fn icon() -> Response {
    (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, "/assets/openbell.svg")]).into_response()
}
