//! What happens, as server-sent events that can be resumed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::stream::unfold;

use super::answers::Unavailable;
use crate::http::reply::ApiRefusal;
use crate::live::{self, Feed, Subscriber};

const TOLD: &str = "Events with an `id`, a name and one line of JSON. `start` comes first: what is not known \
    yet, `/snapshot` says. `run`: `run`, `dag`, `session_date`, `state`, `created_at`, `finished_at`. \
    `step`: `run`, `step`, `state`, `attempt`, `reason`. `alert`: as `/alerts` lists them. `dag`: `dag`, \
    `file`, `gone`, and while it is there `paused` and `schedule`. `problem`: `file`, `gone`, and while it \
    is there `text`. `dead_letters`: `topic` and how many are `held`. `beat`, without an id, when nothing \
    was told for five seconds. `reset` instead of what was missed when that is forgotten, or the daemon is \
    another one: read `/snapshot` again.";
const RESUME: &str = "The id of the last event that was seen: the stream goes on after it, with nothing twice and nothing left out.";

/// What happens, as server-sent events, until either side closes. Of what changed more than once within a
/// tenth of a second, the last is told.
#[utoipa::path(
    get,
    path = "/events",
    tag = "daemon",
    params(("Last-Event-ID" = Option<String>, Header, nullable = false, description = RESUME)),
    responses(
        (status = 200, description = TOLD, body = String, content_type = "text/event-stream"),
        Unavailable,
    ),
)]
pub(crate) async fn events(
    State(feed): State<Arc<Feed>>,
    subscriber: Subscriber,
    headers: HeaderMap,
) -> Result<Response, ApiRefusal> {
    let place = subscriber.place()?;
    let reader = live::Reader::new(subscriber, &feed, live::last_id(&headers).as_deref(), place);
    Ok(live::answer(unfold(reader, live::Reader::next)))
}
