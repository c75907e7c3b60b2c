//! Figures of the last hours, one sample a minute of the clock, for small charts.
//!
//! They are held in memory alone: after a restart of the daemon the charts begin anew, while every count they
//! are made of is still in the stores.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use super::snapshot::Gauges;
use domain::ids::{RunId, StepName};
use executor::Status;

/// Between two samples, in seconds of the clock.
const EVERY_SECONDS: i64 = 60;
/// Samples kept: half a day.
const KEPT: usize = 720;
/// Things measured at a time; what comes beyond is not kept.
const MEASURES: usize = 500;

/// A thing that is measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Records this topic holds.
    Held(String),
    /// Records this consumer group is behind.
    Lag(String),
    /// A place in a sequence that a step reported: a fact whose name ends in `_seq`.
    Fact {
        /// Its run.
        run: RunId,
        /// The step.
        step: StepName,
        /// The fact's name.
        key: String,
    },
}

/// The samples.
#[derive(Debug, Clone, Default)]
pub struct Trends {
    /// When they were taken, oldest first.
    times: VecDeque<Timestamp>,
    /// Each as long as `times`.
    series: BTreeMap<Measure, VecDeque<Option<f64>>>,
}

impl Trends {
    /// Whether it is time for a sample. A clock that was set back is time, too.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.times
            .back()
            .is_none_or(|last| !(0..EVERY_SECONDS).contains(&(now.as_second() - last.as_second())))
    }

    /// Takes a sample.
    pub fn note(&mut self, now: Timestamp, figures: Vec<(Measure, f64)>) {
        // What the clock said before it was set back is not known to be after what comes now.
        while self.times.back().is_some_and(|last| *last > now) {
            self.times.pop_back();
            self.series.values_mut().for_each(|s| _ = s.pop_back());
        }
        let before = self.times.len();
        self.times.push_back(now);
        self.series.values_mut().for_each(|s| s.push_back(None));
        for (measure, value) in figures {
            if self.series.len() >= MEASURES && !self.series.contains_key(&measure) {
                continue;
            }
            let series = self.series.entry(measure).or_insert_with(|| vec![None; before + 1].into());
            if let Some(last) = series.back_mut() {
                *last = Some(value);
            }
        }
        while self.times.len() > KEPT {
            self.times.pop_front();
            self.series.values_mut().for_each(|s| _ = s.pop_front());
        }
        self.series.retain(|_, series| series.iter().any(Option::is_some));
    }

    /// The samples of a measure, oldest first.
    pub fn series(&self, measure: &Measure) -> Vec<(Timestamp, f64)> {
        let Some(series) = self.series.get(measure) else { return Vec::new() };
        self.times.iter().zip(series).filter_map(|(at, value)| Some((*at, (*value)?))).collect()
    }
}

/// What is measured now.
pub fn figures(gauges: &Gauges, statuses: &BTreeMap<(RunId, StepName), Status>) -> Vec<(Measure, f64)> {
    let held = gauges.topics.iter().map(|(topic, n)| (Measure::Held(topic.clone()), *n as f64));
    let lags = gauges.group_lag.iter().map(|(group, n)| (Measure::Lag(group.clone()), *n as f64));
    let facts = statuses.iter().flat_map(|((run, step), status)| {
        status.facts.iter().filter(|(key, _)| key.ends_with("_seq")).filter_map(move |(key, value)| {
            Some((Measure::Fact { run: run.clone(), step: step.clone(), key: key.clone() }, value.as_f64()?))
        })
    });
    held.chain(lags).chain(facts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn lag(group: &str) -> Measure {
        Measure::Lag(group.into())
    }

    #[test]
    fn a_sample_a_minute_is_kept_for_half_a_day() {
        let mut trends = Trends::default();
        for minute in 0..1_000 {
            assert!(trends.is_due(at(minute * 60)));
            trends.note(at(minute * 60), vec![(lag("a"), minute as f64)]);
            assert!(!trends.is_due(at(minute * 60 + 59)));
        }
        let series = trends.series(&lag("a"));
        assert_eq!(
            (series.len(), series[0], series[719]),
            (KEPT, (at(280 * 60), 280.0), (at(999 * 60), 999.0))
        );
    }

    #[test]
    fn what_comes_and_goes_keeps_its_times() {
        let mut trends = Trends::default();
        trends.note(at(0), vec![(lag("a"), 1.0)]);
        trends.note(at(60), vec![(lag("b"), 2.0)]);
        trends.note(at(120), vec![(lag("a"), 3.0), (lag("b"), 4.0)]);
        assert_eq!(trends.series(&lag("a")), [(at(0), 1.0), (at(120), 3.0)]);
        assert_eq!(trends.series(&lag("b")), [(at(60), 2.0), (at(120), 4.0)]);
        assert_eq!(trends.series(&lag("c")), []);
        // The clock was set back by an hour and a half: samples go on from there.
        assert!(trends.is_due(at(-5_400)));
        trends.note(at(-5_400), vec![(lag("b"), 5.0)]);
        assert_eq!(trends.series(&lag("b")), [(at(-5_400), 5.0)]);
        assert_eq!(trends.series(&lag("a")), []);
    }

    #[test]
    fn only_so_many_things_are_measured() {
        let mut trends = Trends::default();
        trends.note(at(0), (0..2 * MEASURES).map(|n| (lag(&n.to_string()), 0.0)).collect());
        assert_eq!(trends.series.len(), MEASURES);
    }
}
