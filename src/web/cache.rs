//! One read for all who look at the same time, kept for a moment, with the trouble there was.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Mutex as Turn, Semaphore, watch};
use tokio::time::Instant;

use backends::{BackendError, ErrorKind, Result};
use domain::message::Refused;
use domain::said;

/// Spans of real time.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// How long what was read is shown without reading again.
    fresh: Duration,
    /// How long a page waits for a store.
    patience: Duration,
    /// How long it waits for one that is known not to answer.
    little_patience: Duration,
    /// When a read is given up.
    give_up: Duration,
}

const TIMES: Times = Times {
    fresh: Duration::from_millis(1_500),
    patience: Duration::from_secs(3),
    little_patience: Duration::from_millis(300),
    give_up: Duration::from_secs(30),
};
/// What nobody asked for this long is forgotten.
const FORGET: Duration = Duration::from_secs(120);

/// Reads of a store that go on at a time.
pub(crate) const READS: usize = 4;
/// Things of one kind that are remembered between looks.
pub(crate) const REMEMBERED: usize = 16;

/// What is known now.
#[derive(Debug, Clone)]
pub struct Reading<T> {
    /// What was read last, with the clock's time of the reading; `None` if nothing ever was.
    pub value: Option<(Timestamp, Arc<T>)>,
    /// Why it may be old.
    pub trouble: Option<Trouble>,
}

/// A store that does not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Since when, by the daemon's clock.
    pub since: Timestamp,
    /// What it said, or that it says nothing; with what to do.
    pub said: Refused,
    /// What was asked for does not exist.
    pub missing: bool,
}

impl Trouble {
    fn of(since: Timestamp, error: &BackendError) -> Self {
        let said = Refused::foreign(format!("{}: {}", error.place, error.message), &*error.remedy);
        Self { since, said, missing: error.kind == ErrorKind::NotFound }
    }
}

struct Entry<T> {
    value: Option<(Timestamp, Arc<T>)>,
    read: Option<Instant>,
    trouble: Option<Trouble>,
    asked: Instant,
    /// Closes when the read that goes on is over.
    flight: Option<watch::Receiver<()>>,
}

impl<T> Entry<T> {
    fn reading(&self) -> Reading<T> {
        Reading { value: self.value.clone(), trouble: self.trouble.clone() }
    }
}

/// Readings of one kind, by what they are of.
pub struct Kept<K, T> {
    /// The store, as people know it: `the log`.
    store: &'static str,
    most: usize,
    /// Reads of the store that go on at a time; others wait.
    room: Arc<Semaphore>,
    times: Times,
    entries: Arc<Mutex<BTreeMap<K, Entry<T>>>>,
}

impl<K: Ord + Clone + Send + 'static, T: Send + Sync + 'static> Kept<K, T> {
    /// Keeps at most `most` readings. What reads the same store has the same `room`, so that one that hangs
    /// takes none from others.
    pub fn new(store: &'static str, most: usize, room: &Arc<Semaphore>) -> Self {
        Self { store, most, room: Arc::clone(room), times: TIMES, entries: Arc::default() }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<K, Entry<T>>> {
        self.entries.lock()
    }

    /// Makes the next look read anew.
    pub fn spoil(&self) {
        for entry in self.entries().values_mut() {
            entry.read = None;
        }
    }

    /// What is kept, if it is fresh, else what `work` reads. The read goes on when nobody waits any more, and
    /// those who come later get it.
    pub async fn get<F>(&self, clock: impl Fn() -> Timestamp + Send + 'static, key: &K, work: F) -> Reading<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (mut flight, patience, began) = {
            let mut entries = self.entries();
            self.forget(&mut entries, key);
            let asked = Instant::now();
            let entry = entries.entry(key.clone()).or_insert_with(|| Entry {
                value: None,
                read: None,
                trouble: None,
                asked,
                flight: None,
            });
            entry.asked = asked;
            if entry.flight.is_none() && entry.read.is_some_and(|at| asked - at < self.times.fresh) {
                return entry.reading();
            }
            let began = clock();
            let flight = entry.flight.clone().unwrap_or_else(|| {
                let (over, flight) = watch::channel(());
                self.start(clock, key.clone(), work, over);
                entry.flight = Some(flight.clone());
                flight
            });
            (
                flight,
                if entry.trouble.is_some() { self.times.little_patience } else { self.times.patience },
                began,
            )
        };
        // The sender only ever goes away, which is the end of the read.
        let late = tokio::time::timeout(patience, flight.changed()).await.is_err();
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(key) else {
            let said = Refused::new(said!("too much is being looked at"), said!("reload the page"));
            return Reading { value: None, trouble: Some(Trouble { since: began, said, missing: false }) };
        };
        if late && entry.flight.is_some() && entry.trouble.is_none() {
            let patience = self.times.patience.as_secs().to_string();
            let said = Refused::bare(said!("{} did not answer within {} s", self.store, patience));
            entry.trouble = Some(Trouble { since: began, said, missing: false });
        }
        entry.reading()
    }

    fn start<F>(
        &self,
        clock: impl Fn() -> Timestamp + Send + 'static,
        key: K,
        work: F,
        over: watch::Sender<()>,
    ) where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (entries, room) = (Arc::clone(&self.entries), Arc::clone(&self.room));
        let (store, give_up) = (self.store, self.times.give_up);
        tokio::spawn(async move {
            let began = clock();
            let reading = async {
                // The room is never closed; without a place the read would only be one more than allowed.
                let _place = room.acquire().await;
                work.await
            };
            let result = tokio::time::timeout(give_up, reading).await.unwrap_or_else(|_| {
                let text = format!("did not answer within {} s", give_up.as_secs());
                Err(BackendError::new(ErrorKind::Unavailable, store, text))
            });
            if let Some(entry) = entries.lock().get_mut(&key) {
                entry.flight = None;
                entry.read = Some(Instant::now());
                match result {
                    Ok(value) => (entry.value, entry.trouble) = (Some((clock(), Arc::new(value))), None),
                    Err(error) => {
                        let since = entry.trouble.as_ref().map_or(began, |t| t.since);
                        entry.trouble = Some(Trouble::of(since, &error));
                        if error.kind == ErrorKind::NotFound {
                            entry.value = None;
                        }
                    }
                }
            }
            drop(over);
        });
    }

    /// Drops what nobody asked for, and what was asked for longest ago when there is too much.
    fn forget(&self, entries: &mut BTreeMap<K, Entry<T>>, but: &K) {
        entries.retain(|key, entry| key == but || entry.flight.is_some() || entry.asked.elapsed() < FORGET);
        while entries.len() >= self.most && !entries.contains_key(but) {
            let oldest = entries
                .iter()
                .filter(|(_, e)| e.flight.is_none())
                .min_by_key(|(_, e)| e.asked)
                .map(|(k, _)| k.clone());
            let Some(oldest) = oldest else { break };
            entries.remove(&oldest);
        }
    }
}

/// What several looks share, by what it is about.
pub(crate) struct Shared<K, T>(Mutex<BTreeMap<K, Arc<Turn<T>>>>);

impl<K: Ord + Clone, T> Shared<K, T> {
    /// What is shared about `key`; made, if nothing is.
    pub(crate) fn of(&self, key: &K, new: impl FnOnce() -> T) -> Arc<Turn<T>> {
        let mut all = self.0.lock();
        if all.len() >= REMEMBERED && !all.contains_key(key) {
            all.clear();
        }
        Arc::clone(all.entry(key.clone()).or_insert_with(|| Arc::new(Turn::new(new()))))
    }
}

impl<K, T> Default for Shared<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Readings that stay fresh for ever, of a store that is given up waiting for at once or never.
    fn kept(patience: Duration) -> Kept<u8, usize> {
        let forever = Duration::from_secs(3_600);
        let times = Times { fresh: forever, patience, little_patience: patience, give_up: forever };
        Kept { times, ..Kept::new("the log", 3, &Arc::new(Semaphore::new(2))) }
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    const LONG: Duration = Duration::from_secs(120);

    #[tokio::test]
    async fn many_who_look_cost_one_read() {
        let kept = kept(LONG);
        let reads = Arc::new(AtomicUsize::new(0));
        let look = || {
            let reads = Arc::clone(&reads);
            kept.get(now, &1, async move {
                tokio::task::yield_now().await;
                Ok(reads.fetch_add(1, Ordering::SeqCst))
            })
        };
        let all = futures_util::future::join_all((0..50).map(|_| look())).await;
        assert!(all.iter().all(|r| r.trouble.is_none() && r.value.as_ref().is_some_and(|(_, v)| **v == 0)));
        look().await;
        assert_eq!(reads.load(Ordering::SeqCst), 1, "still fresh");
        kept.spoil();
        assert_eq!(look().await.value.map(|(_, v)| *v), Some(1));
    }

    #[tokio::test]
    async fn a_store_that_hangs_costs_a_moment_and_is_named_until_it_answers() {
        let mut kept = kept(LONG);
        let first = kept.get(now, &1, async { Ok(7) }).await;
        assert_eq!(first.value.map(|(_, v)| *v), Some(7));
        kept.spoil();
        (kept.times.patience, kept.times.little_patience) = (Duration::ZERO, Duration::ZERO);
        let (release, held) = tokio::sync::oneshot::channel::<usize>();
        let late = kept.get(now, &1, async move { Ok(held.await.unwrap_or(0)) }).await;
        assert_eq!(late.value.map(|(_, v)| *v), Some(7), "what was known before");
        let trouble = late.trouble.expect("it is late");
        assert_eq!(
            (trouble.since, trouble.said.to_string()),
            (now(), "the log did not answer within 0 s".to_owned())
        );
        assert!(
            kept.get(now, &1, async { Ok(9) }).await.trouble.is_some(),
            "no second read beside the first"
        );
        release.send(8).expect("somebody waits");
        (kept.times.patience, kept.times.little_patience) = (LONG, LONG);
        let after = kept.get(now, &1, async { Ok(9) }).await;
        assert_eq!((after.value.map(|(_, v)| *v), after.trouble), (Some(8), None));
    }

    #[tokio::test]
    async fn an_error_keeps_what_was_known_unless_it_is_gone() {
        let kept = kept(LONG);
        kept.get(now, &1, async { Ok(7) }).await;
        for (kind, left) in [(ErrorKind::Unavailable, Some(7)), (ErrorKind::NotFound, None)] {
            kept.spoil();
            let reading = kept.get(now, &1, async move { Err(BackendError::new(kind, "log", "no")) }).await;
            assert_eq!(reading.value.map(|(_, v)| *v), left);
            assert_eq!(
                reading.trouble.map(|t| (t.said.to_string(), t.missing)),
                Some(("log: no".to_owned(), left.is_none()))
            );
        }
        for key in 2..20 {
            kept.get(now, &key, async { Ok(0) }).await;
        }
        assert!(kept.entries().len() <= 3, "only so many are kept");
    }
}
