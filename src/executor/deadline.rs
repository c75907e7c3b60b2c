//! Deadlines on a clock that may be virtual, and may be gone.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Whether `at` has come. A virtual clock reads the epoch once its file is gone: the day it belonged to is
/// over.
pub(crate) fn is_due(at: Timestamp, now: Timestamp) -> bool {
    now >= at || now == Timestamp::UNIX_EPOCH
}

/// Real time until a clock of this speed should be read again, when `left` of its time remains; within
/// `limits`, since a clock may be set or change its speed.
pub(crate) fn pause(left: SignedDuration, speed: f64, limits: [Duration; 2]) -> Duration {
    let [shortest, longest] = limits;
    left.unsigned_abs().div_f64(speed.max(1e-3)).clamp(shortest, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_follow_the_speed_of_the_clock() {
        let limits = [Duration::from_micros(200), Duration::from_millis(500)];
        assert_eq!(pause(SignedDuration::from_secs(3600), 1.0, limits), limits[1]);
        assert_eq!(pause(SignedDuration::from_secs(60), 600.0, limits), Duration::from_millis(100));
        assert_eq!(pause(SignedDuration::ZERO, 1.0, limits), limits[0]);
    }

    #[test]
    fn a_day_without_its_clock_is_over() {
        let at: Timestamp = "2026-11-20T16:00:00+09:00".parse().expect("a time");
        assert!(is_due(at, at) && is_due(at, Timestamp::UNIX_EPOCH));
        assert!(!is_due(at, at - SignedDuration::from_secs(1)));
    }
}
