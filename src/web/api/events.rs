//! What happens, as server-sent events that can be resumed.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::stream::unfold;

use crate::http::reply::ApiRefusal;
use crate::live;
use crate::server::App;

/// Streams what happens, for programs.
pub(crate) async fn events(State(app): State<App>, headers: HeaderMap) -> Result<Response, ApiRefusal> {
    let place = live::place(&app)?;
    let feed = app.feed.clone();
    let reader = live::Reader::new(app, &feed, live::last_id(&headers).as_deref(), place);
    Ok(live::answer(unfold(reader, live::Reader::next)))
}
