//! How trading spreads over a session: a burst at the open, a lull at midday, a rise towards the closing
//! auction.

use fastrand::Rng;

/// Knots of the intensity over continuous trading: (thousandths of its length, relative intensity).
const KNOTS: [(i64, i64); 10] = [
    (0, 800),
    (10, 520),
    (30, 300),
    (100, 160),
    (250, 90),
    (420, 52),
    (620, 52),
    (800, 105),
    (950, 175),
    (1000, 200),
];

/// Thousandths of a day's volume that the opening and the closing auction make.
const OPENING_SHARE: i64 = 30;
const CLOSING_SHARE: i64 = 60;

/// The intensity of each second of continuous trading, summed up.
#[derive(Debug, Clone)]
pub struct Profile {
    cumulative: Vec<i64>,
}

impl Profile {
    /// For continuous trading of this length.
    pub fn new(seconds: i64) -> Self {
        let seconds = seconds.max(1);
        let mut sum = 0;
        let cumulative = (0..seconds)
            .map(|second| {
                sum += intensity(second * 1000 / seconds);
                sum
            })
            .collect();
        Self { cumulative }
    }

    fn total(&self) -> i64 {
        self.cumulative.last().copied().unwrap_or(1)
    }

    /// Draws a moment of continuous trading, in milliseconds since its start.
    pub fn draw(&self, rng: &mut Rng) -> i64 {
        let point = rng.i64(0..self.total());
        let second = self.cumulative.partition_point(|sum| *sum <= point) as i64;
        second * 1000 + rng.i64(0..1000)
    }

    /// Which part of a usual day's volume has been traded `seconds` after the open, in thousandths: the
    /// opening auction at once, the closing auction when `closed`.
    pub fn thousandths(&self, seconds: i64, closed: bool) -> i64 {
        let continuous = 1000 - OPENING_SHARE - CLOSING_SHARE;
        let done = usize::try_from(seconds).ok().filter(|s| *s > 0).map_or(0, |s| {
            let last = self.cumulative.len() - 1;
            self.cumulative[(s - 1).min(last)]
        });
        OPENING_SHARE + continuous * done / self.total() + if closed { CLOSING_SHARE } else { 0 }
    }
}

fn intensity(thousandth: i64) -> i64 {
    for pair in KNOTS.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        if thousandth <= x1 {
            return y0 + (y1 - y0) * (thousandth - x0) / (x1 - x0);
        }
    }
    KNOTS[KNOTS.len() - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_volume_rises_from_the_opening_auction_to_the_whole_day() {
        let profile = Profile::new(380 * 60);
        assert_eq!(profile.thousandths(0, false), OPENING_SHARE);
        assert_eq!(profile.thousandths(380 * 60, true), 1000);
        let curve: Vec<_> = (0..380).map(|m| profile.thousandths(m * 60, false)).collect();
        assert!(curve.is_sorted());
    }

    #[test]
    fn draws_stay_inside_even_for_a_session_of_a_second() {
        let mut rng = Rng::with_seed(1);
        let profile = Profile::new(0);
        assert!((0..100).all(|_| (0..1000).contains(&profile.draw(&mut rng))));
    }
}
