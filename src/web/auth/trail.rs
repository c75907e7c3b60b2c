//! What the audit is told of logins. Anybody can fail to log in, and as often as the throttle lets them; so
//! failures are told one by one up to a number, and counted beyond it. Pure: time is an argument.

use jiff::{SignedDuration, Timestamp};

/// Failures told one by one within [`SPAN`].
const ONE_BY_ONE: u32 = 10;
/// For so long they are counted together.
const SPAN: SignedDuration = SignedDuration::from_mins(10);

/// What to tell of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    /// It, after so many that were not told.
    Failure {
        /// Failures since the last one that was told.
        untold: u64,
    },
    /// That further ones are only counted.
    TooMany,
    /// Nothing.
    Nothing,
}

/// Failures of the last minutes.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    since: Option<Timestamp>,
    told: u32,
    untold: u64,
}

impl Trail {
    /// A login or a token failed.
    pub(crate) fn failed(&mut self, now: Timestamp) -> Tell {
        if self.since.is_none_or(|since| now.duration_since(since) >= SPAN || now < since) {
            (self.since, self.told) = (Some(now), 0);
        }
        self.told = self.told.saturating_add(1);
        if self.told <= ONE_BY_ONE {
            return Tell::Failure { untold: std::mem::take(&mut self.untold) };
        }
        self.untold = self.untold.saturating_add(1);
        if self.told == ONE_BY_ONE + 1 { Tell::TooMany } else { Tell::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[test]
    fn however_many_fail_few_are_told_and_all_are_counted() {
        let mut trail = Trail::default();
        let told: Vec<_> =
            (0..100_000).map(|n| trail.failed(at(n / 1000))).filter(|t| *t != Tell::Nothing).collect();
        assert_eq!(told.len(), 11);
        assert_eq!((told[0], told[10]), (Tell::Failure { untold: 0 }, Tell::TooMany));
        assert_eq!(
            trail.failed(at(600)),
            Tell::Failure { untold: 99_990 },
            "the next span tells how many there were"
        );
        assert_eq!(trail.failed(at(601)), Tell::Failure { untold: 0 });
        assert_eq!(
            trail.failed(at(100)),
            Tell::Failure { untold: 0 },
            "a clock that was set back begins anew"
        );
    }
}
