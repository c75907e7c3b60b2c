//! Reads the stores' own figures for the page, a few times a second.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use super::snapshot::Gauges;
use backends::Backends;

/// Remembers enough to give rates.
#[derive(Default)]
pub struct Meter {
    seen: BTreeMap<String, VecDeque<(Timestamp, u64)>>,
}

/// Rates are over this many seconds of the clock.
const SPAN_SECONDS: i64 = 60;

impl Meter {
    /// Asks the stores and gives the figures; a store that does not answer is named instead.
    pub async fn read(&mut self, backends: &Backends, now: Timestamp) -> Gauges {
        let mut gauges = Gauges::default();
        let topics = match backends.log.topics().await {
            Ok(topics) => topics,
            Err(error) => {
                gauges.unreachable.insert("log".into(), error.to_string());
                return gauges;
            }
        };
        let mut ends = BTreeMap::new();
        for topic in topics {
            let held = topic.partitions.iter().map(|r| r.end - r.start).sum();
            let end: u64 = topic.partitions.iter().map(|r| r.end).sum();
            for (number, range) in topic.partitions.iter().enumerate() {
                ends.insert((topic.name.clone(), number as u32), range.end);
            }
            gauges.rates.insert(topic.name.clone(), self.rate(&topic.name, end, now));
            if topic.name.ends_with(".dlq") {
                gauges.dead_letters.insert(topic.name.clone(), held);
            }
            gauges.topics.insert(topic.name, held);
        }
        match backends.log.groups().await {
            Ok(groups) => {
                for (group, committed) in groups {
                    let behind = |c: &backends::log::Committed| {
                        ends.get(&(c.partition.topic.clone(), c.partition.number))
                            .map_or(0, |end| end.saturating_sub(c.next))
                    };
                    gauges.group_lag.insert(group, committed.iter().map(behind).sum());
                }
            }
            Err(error) => {
                gauges.unreachable.insert("log".into(), error.to_string());
            }
        }
        gauges
    }

    fn rate(&mut self, topic: &str, end: u64, now: Timestamp) -> f64 {
        let seen = self.seen.entry(topic.to_owned()).or_default();
        // A clock that stands still must not make this grow.
        if seen.back().is_some_and(|(at, _)| *at == now) {
            seen.pop_back();
        }
        seen.push_back((now, end));
        while seen.len() > 2
            && seen.front().is_some_and(|(at, _)| now.as_second() - at.as_second() > SPAN_SECONDS)
        {
            seen.pop_front();
        }
        let (first_at, first) = seen[0];
        let seconds = now.duration_since(first_at).as_secs_f64();
        if seconds < 1.0 { 0.0 } else { end.saturating_sub(first) as f64 / seconds }
    }
}
