//! The only place where time is read.
//!
//! A [`Clock`] is cheap to clone. The system clock serves real days; a virtual clock plays a day at N times
//! real speed, in one process or, through a small file, in several; a manual clock serves tests. Waits
//! (`sleep`) are in the clock's time; limits on real work (a socket that must answer) use tokio's timers,
//! because work does not get faster when the clock does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Where time comes from.
#[derive(Clone)]
pub struct Clock(Arc<Kind>);

enum Kind {
    System,
    /// Owner of a virtual timeline: advances it and publishes it.
    Virtual(Virtual),
    /// Reads the timeline that an owner in another process publishes.
    Follower(PathBuf),
    Manual {
        now: watch::Sender<Timestamp>,
    },
}

struct Virtual {
    state: Mutex<Reading>,
    file: Option<PathBuf>,
}

/// One reading of a virtual timeline: at `monotonic` it was `virtual_now`, running at `speed`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reading {
    /// Nanoseconds of the machine's monotonic clock, which all processes share.
    monotonic: i128,
    virtual_now: Timestamp,
    speed: f64,
}

/// The timeline never jumps further than this much real time between two looks of its owner: when the machine
/// stalls, the day waits instead of skipping minutes that nobody could have worked in.
const LONGEST_LOOK: Duration = Duration::from_millis(50);

/// A timeline that stands still and whose owner has not published it for this long, a few hundred times what
/// it should take, has lost its owner. It goes on at this speed then, as others do without theirs, so that
/// whoever follows it to a deadline ends.
const ABANDONED: Duration = Duration::from_secs(10);
const ADRIFT: f64 = 60.0;

/// Least speed that waits are reckoned with; what stands still or nearly so is looked at again before any
/// such wait is over.
const SLOWEST: f64 = 1e-3;

fn monotonic_ns() -> i128 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec)
}

fn scaled(real_ns: i128, speed: f64) -> SignedDuration {
    SignedDuration::from_nanos((real_ns as f64 * speed) as i64)
}

impl Reading {
    fn at(&self, monotonic: i128) -> Timestamp {
        let passed = (monotonic - self.monotonic).max(0);
        let gone = if self.speed > 0.0 {
            scaled(passed, self.speed)
        } else {
            scaled((passed - ABANDONED.as_nanos() as i128).max(0), ADRIFT)
        };
        self.virtual_now.checked_add(gone).unwrap_or(Timestamp::MAX)
    }

    /// 45 bytes: two fixed-width numbers, the speed, and a checksum over them, so that a torn read is
    /// noticed.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(44);
        bytes.extend_from_slice(&self.monotonic.to_be_bytes());
        bytes.extend_from_slice(&self.virtual_now.as_nanosecond().to_be_bytes());
        bytes.extend_from_slice(&self.speed.to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_at_checked(40)?;
        if crc != crc32fast::hash(body).to_be_bytes() {
            return None;
        }
        let monotonic = i128::from_be_bytes(body[..16].try_into().ok()?);
        let nanos = i128::from_be_bytes(body[16..32].try_into().ok()?);
        let speed = f64::from_be_bytes(body[32..40].try_into().ok()?);
        Some(Self { monotonic, virtual_now: Timestamp::from_nanosecond(nanos).ok()?, speed })
    }

    fn load(path: &Path) -> io::Result<Self> {
        for _ in 0..100 {
            if let Some(reading) = Self::decode(&fs::read(path)?) {
                return Ok(reading);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} is not a clock file; remove the folder it is in and start the day again",
                path.display()
            ),
        ))
    }
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(Kind::System))
    }

    /// A virtual timeline that starts at `start` and runs at `speed` times real time. With a file, other
    /// processes can [follow](Self::follow) it, and an owner that died is continued where its timeline would
    /// be now.
    ///
    /// # Errors
    /// When the file cannot be written, or holds something else.
    pub fn virtual_owner(start: Timestamp, speed: f64, file: Option<PathBuf>) -> io::Result<Self> {
        Self::virtual_until(start, speed, file, Timestamp::MAX)
    }

    /// The same for a timeline that is held at `hold`: while it has no owner it does not pass that time.
    ///
    /// # Errors
    /// When the file cannot be written, or holds something else.
    pub fn virtual_until(
        start: Timestamp,
        speed: f64,
        file: Option<PathBuf>,
        hold: Timestamp,
    ) -> io::Result<Self> {
        let mut reading = Reading { monotonic: monotonic_ns(), virtual_now: start, speed };
        if let Some(path) = &file
            && path.exists()
        {
            reading = Reading::load(path)?;
            let left_at = reading.virtual_now;
            reading.virtual_now = reading.at(monotonic_ns()).min(hold.max(left_at));
            reading.monotonic = monotonic_ns();
            reading.speed = speed;
        }
        let clock = Self(Arc::new(Kind::Virtual(Virtual { state: Mutex::new(reading), file })));
        clock.publish()?;
        Ok(clock)
    }

    /// Follows the virtual timeline published at `file`.
    ///
    /// # Errors
    /// When there is no readable clock file.
    pub fn follow(file: &Path) -> io::Result<Self> {
        Reading::load(file)?;
        Ok(Self(Arc::new(Kind::Follower(file.to_owned()))))
    }

    /// A clock that stands still until a test moves it.
    pub fn manual(start: Timestamp) -> Self {
        Self(Arc::new(Kind::Manual { now: watch::channel(start).0 }))
    }

    /// The wall clock's reading.
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            // The one place that may: everything else gets its time from here.
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            Kind::System => Timestamp::now(),
            Kind::Virtual(v) => v.look(),
            Kind::Follower(path) => {
                Reading::load(path).map_or(Timestamp::UNIX_EPOCH, |r| r.at(monotonic_ns()))
            }
            Kind::Manual { now } => *now.borrow(),
        }
    }

    /// How much faster than real time the clock runs (1 for the system clock, 0 while it stands still).
    pub fn speed(&self) -> f64 {
        match &*self.0 {
            Kind::System | Kind::Manual { .. } => 1.0,
            Kind::Virtual(v) => v.state.lock().speed,
            Kind::Follower(path) => Reading::load(path).map_or(1.0, |r| r.speed),
        }
    }

    /// Changes the speed of a virtual timeline, which stands still at 0; no other clock has one to change.
    pub fn set_speed(&self, speed: f64) {
        if let Kind::Virtual(v) = &*self.0 {
            v.look();
            v.state.lock().speed = speed;
        }
    }

    /// Moves a manual clock; no other clock can be moved.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual { now } = &*self.0 {
            now.send_modify(|t| *t = t.checked_add(by).unwrap_or(Timestamp::MAX));
        }
    }

    /// The file through which other processes can follow this clock, if it has one.
    pub fn file(&self) -> Option<&Path> {
        match &*self.0 {
            Kind::Virtual(v) => v.file.as_deref(),
            Kind::Follower(path) => Some(path),
            _ => None,
        }
    }

    /// Whether the clock is the machine's own.
    pub fn is_system(&self) -> bool {
        matches!(&*self.0, Kind::System)
    }

    /// Writes the timeline for followers; the owner calls it a few hundred times a second
    /// ([`Clock::keep_published`]).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn publish(&self) -> io::Result<()> {
        let Kind::Virtual(v) = &*self.0 else { return Ok(()) };
        v.look();
        let Some(path) = &v.file else { return Ok(()) };
        let bytes = v.state.lock().encode();
        let fresh = path.with_extension("tmp");
        fs::write(&fresh, bytes)?;
        fs::rename(&fresh, path)
    }

    /// Keeps the timeline published until the future is dropped. Does nothing for other clocks.
    pub async fn keep_published(&self) {
        if !matches!(&*self.0, Kind::Virtual(_)) {
            return std::future::pending().await;
        }
        let mut every = tokio::time::interval(Duration::from_millis(5));
        loop {
            every.tick().await;
            if let Err(error) = self.publish() {
                tracing::warn!(%error, "cannot publish the virtual clock");
            }
        }
    }

    /// Waits for `duration` of this clock's time.
    pub async fn sleep(&self, duration: Duration) {
        let until = self.now().checked_add(duration).unwrap_or(Timestamp::MAX);
        self.sleep_until(until).await;
    }

    /// Waits until this clock reads `until` or later.
    pub async fn sleep_until(&self, until: Timestamp) {
        if let Kind::Manual { now } = &*self.0 {
            let mut changes = now.subscribe();
            // The sender lives in self, so the wait cannot fail.
            changes.wait_for(|t| *t >= until).await.map(drop).unwrap_or_default();
            return;
        }
        loop {
            let left = until.duration_since(self.now());
            if left <= SignedDuration::ZERO {
                return;
            }
            let real = left.unsigned_abs().div_f64(self.speed().max(SLOWEST));
            // Looked at again at least every 100 ms of real time: clocks are set, and speeds change. Long
            // waits of the system clock look once a second.
            let most = if self.is_system() { Duration::from_secs(1) } else { Duration::from_millis(100) };
            tokio::time::sleep(real.clamp(Duration::from_micros(200), most)).await;
        }
    }
}

impl Virtual {
    /// Advances the timeline to now and reads it.
    fn look(&self) -> Timestamp {
        let mut state = self.state.lock();
        let monotonic = monotonic_ns();
        let passed = (monotonic - state.monotonic).clamp(0, LONGEST_LOOK.as_nanos() as i128);
        state.virtual_now =
            state.virtual_now.checked_add(scaled(passed, state.speed)).unwrap_or(Timestamp::MAX);
        state.monotonic = monotonic;
        state.virtual_now
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({} × {})", self.now(), self.speed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Timestamp {
        "2026-11-20T08:50:00+09:00".parse().expect("a timestamp")
    }

    #[test]
    fn readings_survive_the_file_and_tears_are_noticed() {
        let reading = Reading { monotonic: 42, virtual_now: start(), speed: 120.0 };
        let bytes = reading.encode();
        assert_eq!(Reading::decode(&bytes), Some(reading));
        for at in 0..bytes.len() {
            let mut torn = bytes.clone();
            torn[at] ^= 1;
            assert_eq!(Reading::decode(&torn), None);
            assert_eq!(Reading::decode(&bytes[..at]), None);
        }
    }

    #[test]
    fn a_follower_and_a_continued_owner_read_the_same_timeline() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("clock");
        let owner = Clock::virtual_owner(start(), 600.0, Some(file.clone())).expect("an owner");
        let follower = Clock::follow(&file).expect("a follower");
        let (a, b) = (owner.now(), follower.now());
        assert!(b >= start() && b.duration_since(a).abs() < SignedDuration::from_secs(60), "{a} {b}");
        drop(owner);
        let continued = Clock::virtual_owner(Timestamp::UNIX_EPOCH, 600.0, Some(file)).expect("continued");
        assert!(continued.now() >= b);
    }

    #[test]
    fn a_clock_that_stands_still_goes_on_once_its_owner_is_gone() {
        let second = 1_000_000_000;
        let held = Reading { monotonic: 0, virtual_now: start(), speed: 0.0 };
        assert_eq!([0, second, 10 * second].map(|passed| held.at(passed)), [start(); 3]);
        assert_eq!(held.at(11 * second), start() + SignedDuration::from_secs(60));
    }

    #[tokio::test]
    async fn a_clock_that_stands_still_keeps_sleepers_and_lets_them_go() {
        let clock = Clock::virtual_owner(start(), 0.0, None).expect("an owner");
        let far = clock.sleep_until(Timestamp::MAX);
        let near = clock.sleep(Duration::from_secs(1));
        tokio::pin!(far, near);
        for _ in 0..3 {
            tokio::select! {
                biased;
                () = &mut far => panic!("the end of time"),
                () = &mut near => panic!("the clock stands still"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(clock.now(), start());
        clock.set_speed(600.0);
        near.await;
        assert!(clock.now() > start());
    }

    #[test]
    fn a_held_timeline_without_an_owner_does_not_pass_its_hold() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("clock");
        let hour = SignedDuration::from_hours(1);
        let left = |virtual_now| {
            let died = Reading { monotonic: monotonic_ns() - 60_000_000_000, virtual_now, speed: 600.0 };
            fs::write(&file, died.encode()).expect("written");
        };
        left(start());
        let on = Clock::virtual_owner(start(), 0.0, Some(file.clone())).expect("an owner");
        assert!(on.now() >= start() + 10 * hour, "a minute at 600");
        left(start());
        let held = Clock::virtual_until(start(), 0.0, Some(file.clone()), start() + hour).expect("an owner");
        assert_eq!(held.now(), start() + hour);
        left(start() + 2 * hour);
        let late = Clock::virtual_until(start(), 0.0, Some(file.clone()), start() + hour).expect("an owner");
        assert_eq!(late.now(), start() + 2 * hour, "and does not go back");
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers() {
        let clock = Clock::manual(start());
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(start() + Duration::from_secs(3600)).await }
        });
        clock.advance(Duration::from_secs(3601));
        sleeper.await.expect("woken");
    }
}
