//! One channel for each page that somebody watches, and the task that draws it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use accounts::secret;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::key::{Draw, Key};
use super::state::State;
use daemon::{Handle, Snapshot};

/// Least real time between two drawings of a page.
const BETWEEN: Duration = Duration::from_millis(200);
/// How long a page that nobody watches is remembered, in real time, so that whoever lost the connection gets
/// only what is new.
const LINGER: Duration = Duration::from_secs(60);
/// Most pages that are remembered while nobody watches them.
const REMEMBERED: usize = 64;

/// A page as its viewers see it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The snapshot it was drawn of. Weak: it need not be kept for that.
    of: Weak<Snapshot>,
    /// How it stands; `None` once it is about nothing any more.
    pub(crate) state: Option<Arc<State>>,
}

struct Channel {
    key: Key,
    epoch: Arc<str>,
    handle: Handle,
    draw: Draw,
    seen: watch::Sender<Seen>,
    /// Somebody watches again.
    wanted: Notify,
}

impl Channel {
    /// Draws the page of the newest snapshot, unless it is drawn already. Viewers hear of it when anything
    /// differs.
    fn draw(&self) {
        // The snapshot is taken under the lock, so that no older one is drawn after a newer one.
        self.seen.send_if_modified(|seen| {
            let snapshot = self.handle.snapshot();
            if std::ptr::eq(seen.of.as_ptr(), Arc::as_ptr(&snapshot)) {
                return false;
            }
            seen.of = Arc::downgrade(&snapshot);
            let fragments = (self.draw)(&self.key, &snapshot);
            let next = match (&seen.state, fragments) {
                (_, None) => None,
                (None, Some(fragments)) => Some(State::first(self.epoch.clone(), fragments)),
                (Some(state), Some(fragments)) => match state.next(fragments) {
                    Some(next) => Some(next),
                    None => return false,
                },
            };
            seen.state = next.map(Arc::new);
            true
        });
    }
}

/// Every page that somebody watches.
pub(crate) struct Channels {
    handle: Handle,
    stop: CancellationToken,
    draw: Draw,
    /// Names this life of the site.
    life: String,
    serial: AtomicU64,
    open: Mutex<HashMap<Key, Arc<Channel>>>,
}

impl Channels {
    /// # Errors
    /// When there is no randomness.
    pub(crate) fn new(handle: Handle, stop: CancellationToken, draw: Draw) -> io::Result<Arc<Self>> {
        let life = life()?;
        Ok(Arc::new(Self { handle, stop, draw, life, serial: AtomicU64::new(0), open: Mutex::default() }))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Key, Arc<Channel>>> {
        self.open.lock()
    }

    /// Watches a page: it is drawn when this returns, and again when a snapshot differs.
    pub(crate) fn watch(self: &Arc<Self>, key: Key) -> watch::Receiver<Seen> {
        let (channel, receiver) = match self.open().entry(key) {
            Entry::Occupied(held) => (held.get().clone(), held.get().seen.subscribe()),
            Entry::Vacant(free) => {
                let (seen, receiver) = watch::channel(Seen::default());
                let serial = self.serial.fetch_add(1, Ordering::Relaxed);
                let epoch = format!("{}.{serial}", self.life).into();
                let (handle, draw) = (self.handle.clone(), self.draw);
                let channel =
                    Channel { key: free.key().clone(), epoch, handle, draw, seen, wanted: Notify::new() };
                let channel = free.insert(Arc::new(channel)).clone();
                tokio::spawn(self.clone().keep(channel.clone()));
                (channel, receiver)
            }
        };
        channel.draw();
        channel.wanted.notify_one();
        receiver
    }

    /// Pages held at the moment.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.open().len()
    }

    /// Draws a page whenever there is something new, as long as anybody watches it.
    async fn keep(self: Arc<Self>, channel: Arc<Channel>) {
        let mut snapshots = self.handle.subscribe();
        loop {
            let changed = tokio::select! {
                () = self.stop.cancelled() => break,
                () = channel.seen.closed() => {
                    if self.is_forgotten(&channel).await {
                        return;
                    }
                    continue;
                }
                changed = snapshots.changed() => changed,
            };
            // The daemon is gone; the pages say so and ask again.
            if changed.is_err() {
                break;
            }
            snapshots.borrow_and_update();
            channel.draw();
            tokio::time::sleep_until(Instant::now() + BETWEEN).await;
        }
        self.open().remove(&channel.key);
    }

    /// Waits a while for somebody to come back; whether nobody did, and the page is held no more.
    async fn is_forgotten(&self, channel: &Channel) -> bool {
        let remembered = self.open().values().filter(|c| c.seen.is_closed()).count();
        if remembered <= REMEMBERED {
            let end = Instant::now() + LINGER;
            // A call from before everybody left may still be heard.
            while channel.seen.is_closed() {
                tokio::select! {
                    () = self.stop.cancelled() => break,
                    () = tokio::time::sleep_until(end) => break,
                    () = channel.wanted.notified() => {}
                }
            }
        }
        let mut open = self.open();
        // Whoever watches subscribed under this lock.
        let forgotten = channel.seen.is_closed();
        if forgotten {
            open.remove(&channel.key);
        }
        forgotten
    }
}

/// A name for this life of something, so that ids of an earlier one are not taken for ours.
///
/// # Errors
/// When there is no randomness.
pub(crate) fn life() -> io::Result<String> {
    let mut life = secret::token()?;
    life.truncate(8);
    Ok(life)
}
