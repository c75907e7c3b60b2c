//! A viewer's stream of events, as bytes of `text/event-stream`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::channel::{Channels, Seen};
use super::key::Key;
use super::places::Place;
use super::subscriber::Subscriber;

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
    subscriber: Subscriber,
    seen: watch::Receiver<Seen>,
    /// The version that was sent last.
    at: u64,
    _place: Place,
}

impl Viewer {
    /// Watches a page, from the event on that was seen last.
    pub(crate) fn new(
        subscriber: Subscriber,
        channels: &Arc<Channels>,
        key: Key,
        last: Option<&str>,
        place: Place,
    ) -> Self {
        let seen = channels.watch(key);
        let at = seen.borrow().state.as_ref().zip(last).map_or(0, |(state, id)| state.place(id));
        Self { subscriber, seen, at, _place: place }
    }

    /// The next event; `None` when there will be none any more.
    pub(crate) async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let stop = self.subscriber.stop.clone();
        let event = tokio::select! {
            () = stop.cancelled() => return None,
            event = self.event() => event?,
        };
        Some((Ok(event), self))
    }

    async fn event(&mut self) -> Option<Bytes> {
        let silence = Instant::now() + BEAT_EVERY;
        loop {
            if !self.subscriber.may_go_on() {
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
                Err(_) => return self.subscriber.may_go_on().then(|| Bytes::from_static(BEAT)),
            }
        }
    }
}
