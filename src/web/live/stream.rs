//! A viewer's stream of events, as bytes of `text/event-stream`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::channel::{Channels, Seen};
use super::key::Key;
use super::places::{Full, Place};
use crate::http::reply::Refusal;
use crate::server::App;
use domain::said;

/// Longest real silence.
pub(crate) const BEAT_EVERY: Duration = Duration::from_secs(5);
/// Says that the connection lives. An event without data is none: browsers drop it.
pub(crate) const BEAT: &[u8] = b"event: beat\ndata: -\n\n";

/// The id of the last event that whoever comes back has seen.
pub(crate) fn last_id(headers: &HeaderMap) -> Option<String> {
    headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned)
}

/// An answer of events.
pub(crate) fn answer(events: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-cache"),
        // Proxies that collect an answer before they hand it on would hand on nothing.
        ("x-accel-buffering", "no"),
    ];
    (headers, Body::from_stream(events)).into_response()
}

/// Somebody who watches a page.
pub(crate) struct Viewer {
    app: App,
    seen: watch::Receiver<Seen>,
    /// The version that was sent last.
    at: u64,
    _place: Place,
}

impl Viewer {
    /// Watches a page, from the event on that was seen last.
    pub(crate) fn new(app: App, channels: &Arc<Channels>, key: Key, last: Option<&str>, place: Place) -> Self {
        let seen = channels.watch(key);
        let at = seen.borrow().state.as_ref().zip(last).map_or(0, |(state, id)| state.place(id));
        Self { app, seen, at, _place: place }
    }

    /// The next event; `None` when there will be none any more.
    pub(crate) async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let stop = self.app.stop.clone();
        let event = tokio::select! {
            () = stop.cancelled() => return None,
            event = self.event() => event?,
        };
        Some((Ok(event), self))
    }

    async fn event(&mut self) -> Option<Bytes> {
        let silence = Instant::now() + BEAT_EVERY;
        loop {
            if !self.app.may_go_on() {
                return None;
            }
            // The newest only: what came in between while this connection was busy, nobody has to see.
            let state = self.seen.borrow_and_update().state.clone()?;
            if let Some(event) = state.since(self.at) {
                self.at = state.version();
                return Some(event);
            }
            match tokio::time::timeout_at(silence, self.seen.changed()).await {
                // The daemon is gone; the page says so and asks again.
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {}
                Err(_) => return self.app.may_go_on().then(|| Bytes::from_static(BEAT)),
            }
        }
    }
}

/// A place for a connection that stays open.
pub(crate) fn place(app: &App) -> Result<Place, Refusal> {
    let (status, error, remedy) = match app.take_place() {
        Ok(place) => return Ok(place),
        Err(Full::All(most)) => (
            StatusCode::SERVICE_UNAVAILABLE,
            said!("{} live pages are open, and there is no room for another", most.to_string()),
            said!("close some; the page itself can be reloaded by hand"),
        ),
        Err(Full::Each(most)) => (
            StatusCode::TOO_MANY_REQUESTS,
            said!("{} live pages of this user or token are open, and there is room for no more of them", most.to_string()),
            said!("close some; the page itself can be reloaded by hand"),
        ),
    };
    Err(Refusal::new(status, error, remedy))
}
