//! Waits between attempts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Exponential backoff: `initial`, doubled each time, at most `max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Wait before the first retry.
    pub initial: Duration,
    /// Longest wait.
    pub max: Duration,
    /// Spread the wait over its upper half, so that many steps do not start at once.
    pub jitter: bool,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_secs(1), max: Duration::from_secs(60), jitter: true }
    }
}

impl Backoff {
    /// Wait before retry number `retry` (1 for the first). `spread` is any number that differs between steps
    /// and attempts; the same number gives the same wait, so a replayed journal decides what the live run
    /// decided.
    pub fn delay(&self, retry: u32, spread: u64) -> Duration {
        let doublings = retry.saturating_sub(1).min(32);
        let full = self.initial.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.max);
        if !self.jitter {
            return full;
        }
        let half = full / 2;
        let share = (mix(spread) >> 11) as f64 / (1u64 << 53) as f64;
        half + (full - half).mul_f64(share)
    }
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): spreads consecutive numbers evenly.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number that differs between texts: FNV-1a, 64 bit.
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_and_never_overflows() {
        let backoff =
            Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60), jitter: false };
        let waits: Vec<_> = (1..=8).map(|n| backoff.delay(n, 0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.delay(u32::MAX, 0).as_secs(), 60);
    }

    #[test]
    fn jitter_stays_in_the_upper_half() {
        let backoff = Backoff { initial: Duration::from_secs(8), max: Duration::from_secs(60), jitter: true };
        for spread in 0..1000 {
            let wait = backoff.delay(1, spread);
            assert!(wait >= Duration::from_secs(4) && wait <= Duration::from_secs(8), "{wait:?}");
        }
    }
}
