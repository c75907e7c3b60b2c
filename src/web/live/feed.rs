//! What happened lately, for programs that listen and come back.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Once};

use axum::body::Bytes;
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::changes::changes;
use super::channel::life;
use super::places::Place;
use super::stream::{BEAT, BEAT_EVERY};
use super::subscriber::Subscriber;
use daemon::{Handle, Snapshot};

/// Changes that are remembered for those who come back.
const REMEMBERED: usize = 4096;

/// What happened lately, numbered from 1.
#[derive(Debug, Default)]
struct Lately {
    /// Number of the newest.
    newest: u64,
    /// Events as they are sent, oldest first.
    events: VecDeque<Bytes>,
}

impl Lately {
    fn push(&mut self, life: &str, kind: &str, data: &serde_json::Value) {
        self.newest += 1;
        self.events
            .push_back(Bytes::from(format!("id: {life}-{}\nevent: {kind}\ndata: {data}\n\n", self.newest)));
        if self.events.len() > REMEMBERED {
            self.events.pop_front();
        }
    }

    /// What came after a number; `None` when some of it is forgotten.
    fn after(&self, number: u64) -> Option<Vec<Bytes>> {
        let missed = usize::try_from(self.newest.checked_sub(number)?).ok()?;
        let skip = self.events.len().checked_sub(missed)?;
        Some(self.events.iter().skip(skip).cloned().collect())
    }
}

/// What happens, for programs. It begins to listen when somebody does first.
pub(crate) struct Feed {
    handle: Handle,
    stop: CancellationToken,
    life: String,
    begun: Once,
    lately: Mutex<Lately>,
    newest: watch::Sender<u64>,
}

impl Feed {
    /// # Errors
    /// When there is no randomness.
    pub(crate) fn new(handle: Handle, stop: CancellationToken) -> io::Result<Arc<Self>> {
        let (newest, life) = (watch::Sender::new(0), life()?);
        Ok(Arc::new(Self { handle, stop, life, begun: Once::new(), lately: Mutex::default(), newest }))
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock()
    }

    fn listen(self: &Arc<Self>) -> watch::Receiver<u64> {
        self.begun.call_once(|| {
            let (feed, mut snapshots) = (self.clone(), self.handle.subscribe());
            let mut known = snapshots.borrow_and_update().clone();
            tokio::spawn(async move {
                loop {
                    tokio::select! {
                        () = feed.stop.cancelled() => return,
                        changed = snapshots.changed() => if changed.is_err() { return },
                    }
                    let next = snapshots.borrow_and_update().clone();
                    feed.note(&known, &next);
                    known = next;
                }
            });
        });
        self.newest.subscribe()
    }

    fn note(&self, known: &Snapshot, next: &Snapshot) {
        let found = changes(known, next);
        if found.is_empty() {
            return;
        }
        let newest = {
            let mut lately = self.lately();
            found.iter().for_each(|change| lately.push(&self.life, change.kind, &change.data));
            lately.newest
        };
        self.newest.send_replace(newest);
    }

    /// The number that an id names, if it is one of this life.
    fn place(&self, id: &str) -> Option<u64> {
        id.rsplit_once('-').filter(|(life, _)| *life == self.life)?.1.parse().ok()
    }
}

/// A program that listens.
pub(crate) struct Reader {
    subscriber: Subscriber,
    feed: Arc<Feed>,
    newest: watch::Receiver<u64>,
    /// Number of the event that was sent last; `None`: nothing was sent.
    at: Option<u64>,
    /// The id it came back with, until that is looked at.
    back: Option<String>,
    _place: Place,
}

impl Reader {
    /// Listens, from the event on that was seen last.
    pub(crate) fn new(subscriber: Subscriber, feed: &Arc<Feed>, last: Option<&str>, place: Place) -> Self {
        let newest = feed.listen();
        Self {
            subscriber,
            feed: feed.clone(),
            newest,
            at: None,
            back: last.map(str::to_owned),
            _place: place,
        }
    }

    /// The next events; `None` when there will be none any more.
    pub(crate) async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let stop = self.subscriber.stop.clone();
        let events = tokio::select! {
            () = stop.cancelled() => return None,
            events = self.events() => events?,
        };
        Some((Ok(events), self))
    }

    async fn events(&mut self) -> Option<Bytes> {
        let silence = Instant::now() + BEAT_EVERY;
        loop {
            if !self.subscriber.may_go_on() {
                return None;
            }
            self.newest.borrow_and_update();
            if let Some(events) = self.new_ones() {
                return Some(events);
            }
            match tokio::time::timeout_at(silence, self.newest.changed()).await {
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {}
                Err(_) if !self.subscriber.may_go_on() => return None,
                // The feed ends with the daemon.
                Err(_) if self.feed.handle.subscribe().has_changed().is_err() => return None,
                Err(_) => return Some(Bytes::from_static(BEAT)),
            }
        }
    }

    /// What was not sent yet: what came since, else where to begin.
    fn new_ones(&mut self) -> Option<Bytes> {
        let lately = self.feed.lately();
        let back = self.back.take();
        let known = self.at.or_else(|| back.as_deref().and_then(|id| self.feed.place(id)));
        let (newest, missed) = (lately.newest, known.and_then(|number| lately.after(number)));
        drop(lately);
        self.at = Some(newest);
        match missed {
            Some(events) if events.is_empty() => None,
            Some(events) => Some(events.concat().into()),
            None if known.is_none() && back.is_none() => Some(self.begin("start", newest)),
            None => Some(self.begin("reset", newest)),
        }
    }

    /// Where a program begins: what it does not know, the snapshot says.
    fn begin(&self, kind: &str, number: u64) -> Bytes {
        let now = self.feed.handle.snapshot().now;
        let data = json!({ "now": now, "read": "/api/v1/snapshot" });
        format!("id: {}-{number}\nevent: {kind}\ndata: {data}\n\n", self.feed.life).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_known_to_be() {
        let mut lately = Lately::default();
        assert_eq!(lately.after(0), Some(vec![]));
        assert_eq!(lately.after(1), None, "it never was");
        (1..=REMEMBERED + 2).for_each(|n| lately.push("x", "n", &json!(n)));
        let newest = lately.newest;
        assert_eq!(lately.after(newest), Some(vec![]));
        assert_eq!(
            lately.after(newest - 1),
            Some(vec![Bytes::from(format!("id: x-{newest}\nevent: n\ndata: {newest}\n\n"))])
        );
        assert_eq!(lately.after(2).map(|all| all.len()), Some(REMEMBERED));
        assert_eq!(lately.after(1), None, "the second is forgotten");
    }
}
