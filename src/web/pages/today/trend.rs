//! A figure over the day as a small chart, on the same axis as the timeline.

use std::fmt::Write;

use jiff::Timestamp;

use crate::locale::{Text, say};
use crate::view::axis::Scale;
use crate::view::format::Zone;

/// Height of the chart's box, in its own units; its width is 100.
const HEIGHT: f64 = 20.0;
/// Fewer samples draw nothing.
const FEWEST: usize = 3;
/// Without a sample for longer, the line is broken.
const BREAK_SECONDS: i64 = 900;

/// Samples, oldest first.
pub type Series = Vec<(Timestamp, f64)>;

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Trend {
    /// What it shows.
    pub label: Text,
    /// Style class: `arriving`, `late`.
    pub class: &'static str,
    /// An area, as an SVG path; the highest peaks are cut off.
    pub path: String,
    /// The largest sample and its time: `most 88.1 at 09:01`.
    pub most: Text,
    /// What it shows, for who cannot see it.
    pub words: Text,
}

/// How much a count grew a second, from sample to sample. A count that fell began anew.
pub fn per_second(counts: &Series) -> Series {
    counts
        .windows(2)
        .filter_map(|pair| {
            let ((before, from), (at, to)) = (pair[0], pair[1]);
            let seconds = at.duration_since(before).as_secs_f64();
            (to >= from && seconds > 0.0).then(|| (at, (to - from) / seconds))
        })
        .collect()
}

/// How far one count was behind another, at the times both were seen.
pub fn behind(first: &Series, second: &Series) -> Series {
    let mut seconds = second.iter().peekable();
    first
        .iter()
        .filter_map(|(at, n)| {
            while seconds.next_if(|(other, _)| other < at).is_some() {}
            seconds.next_if(|(other, _)| other == at).map(|(_, other)| (*at, (n - other).max(0.0)))
        })
        .collect()
}

/// Draws samples; none where there is nothing to see.
pub(crate) fn draw(
    label: Text,
    class: &'static str,
    samples: &Series,
    scale: &Scale,
    zone: &Zone,
    figure: impl Fn(f64) -> String,
) -> Option<Trend> {
    // Samples of before the day lie outside of the axis.
    let samples: Vec<_> = samples.iter().filter(|(at, n)| scale.holds(*at) && n.is_finite()).collect();
    let (top_at, top) = samples.iter().fold(None::<(Timestamp, f64)>, |top, (at, n)| match top {
        Some((_, most)) if most >= *n => top,
        _ => Some((*at, *n)),
    })?;
    if samples.len() < FEWEST || top <= 0.0 {
        return None;
    }
    // An opening burst would flatten the rest of the day.
    let height = usual(&samples).max(top / 10.0);
    let mut path = String::new();
    let mut pen: Option<(Timestamp, f64)> = None;
    for (at, n) in samples {
        let (x, y) = (scale.at(*at).0, HEIGHT * (1.0 - (n.max(0.0) / height).min(1.0)));
        match pen {
            Some((before, _)) if at.duration_since(before).as_secs() <= BREAK_SECONDS => {}
            // Writing into a text cannot fail.
            Some((_, last)) => drop(write!(path, "L{last:.2} {HEIGHT}ZM{x:.2} {HEIGHT}")),
            None => drop(write!(path, "M{x:.2} {HEIGHT}")),
        }
        let _ = write!(path, "L{x:.2} {y:.1}");
        pen = Some((*at, x));
    }
    if let Some((_, last)) = pen {
        let _ = write!(path, "L{last:.2} {HEIGHT}Z");
    }
    let most = say!("most {} at {}", figure(top), zone.minute(top_at));
    let words = Text::joined(": ", vec![label.clone(), most.clone()]);
    Some(Trend { label, class, path, most, words })
}

/// What all but one in twenty samples stay below.
fn usual(samples: &[&(Timestamp, f64)]) -> f64 {
    let mut sizes: Vec<f64> = samples.iter().map(|(_, n)| *n).collect();
    sizes.sort_unstable_by(f64::total_cmp);
    sizes.get(sizes.len().saturating_sub(1 + sizes.len() / 20)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing::{self, at};

    #[test]
    fn growth_and_distance_are_taken_between_equal_times() {
        let counts = vec![
            (at("09:00:00"), 10.0),
            (at("09:01:00"), 70.0),
            (at("09:02:00"), 5.0),
            (at("09:03:00"), 65.0),
        ];
        assert_eq!(per_second(&counts), [(at("09:01:00"), 1.0), (at("09:03:00"), 1.0)]);
        let other = vec![(at("09:01:00"), 60.0), (at("09:01:30"), 0.0), (at("09:02:00"), 9.0)];
        assert_eq!(behind(&counts, &other), [(at("09:01:00"), 10.0), (at("09:02:00"), 0.0)]);
    }

    #[test]
    fn a_burst_does_not_flatten_the_day() {
        let mut samples = vec![(at("09:00:00"), 1.0); 99];
        samples.push((at("09:00:00"), 8.0));
        assert_eq!(usual(&samples.iter().collect::<Vec<_>>()), 1.0);
        assert_eq!(usual(&[]), 0.0);
    }

    #[test]
    fn a_day_with_a_break_is_two_areas_and_a_calm_one_is_nothing() {
        let snapshot = testing::snapshot();
        let (scale, zone) = (Scale::of(&snapshot.runs[0], snapshot.now), Zone::new("Asia/Seoul"));
        let drawn =
            |samples: &Series| draw(say!("behind"), "late", samples, &scale, &zone, |n| format!("{n}"));
        let samples =
            vec![(at("07:00:00"), 99.0), (at("09:00:00"), 1.0), (at("09:01:00"), 4.0), (at("11:00:00"), 2.0)];
        let trend = drawn(&samples).expect("a chart");
        assert_eq!(trend.words, "behind: most 4 at 09:01");
        assert_eq!(
            (trend.path.matches('M').count(), trend.path.matches('Z').count()),
            (2, 2),
            "{}",
            trend.path
        );
        assert_eq!(drawn(&samples[..2].to_vec()), None);
        assert_eq!(drawn(&samples.into_iter().map(|(at, _)| (at, 0.0)).collect()), None);
    }
}
