//! The way of the data, hop by hop: how much is there, how fast it comes, how far it is behind, whether it is fresh.

use askama::Template;

use super::Pair;
use super::findings::{self, FreshHop, HOPS, HopCount, built_in};
use super::format::{Zone, count, rate, span};
use super::freshness::finding;
use super::timeline::Scale;
use super::trend::{self, Trend, behind, per_second};
use daemon::Snapshot;
use daemon::snapshot::RunView;
use daemon::trends::Measure;
use domain::dag::Step;
use crate::reader::{Text, filters, say};

/// The row of hops.
#[derive(Debug, Template)]
#[template(path = "hops.html")]
pub struct Hops {
    /// In the order data passes them.
    pub hops: Vec<Hop>,
    /// When the freshness check last looked: `freshness as of 13:10 KST`.
    pub as_of: Option<Text>,
}

/// A hop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hop {
    /// `spool`, `log`, `raw`, `index` or `objects`.
    pub name: &'static str,
    /// Where its data comes from.
    pub from: Text,
    /// Style class of its light: `good`, `bad`, `quiet`.
    pub light: &'static str,
    /// What the light says.
    pub light_text: Text,
    /// Records in it.
    pub records: Option<String>,
    /// What arrives, or what reconciliation found.
    pub pairs: Vec<Pair>,
    /// What arrived over the day, and how far it was behind.
    pub trends: Vec<Trend>,
}

/// The hops of a run. Empty for a run that collects nothing.
pub fn hops(snapshot: &Snapshot, view: &RunView) -> Hops {
    let find = |prefix: &str| view.run.dag.steps().iter().find(|s| built_in(s).is_some_and(|p| p.starts_with(prefix)));
    let collector = find("collect/");
    let sinks = [find("sink/raw"), find("sink/index"), find("sink/objects")];
    if collector.is_none() && sinks.iter().all(Option::is_none) {
        return Hops { hops: Vec::new(), as_of: None };
    }
    let zone = Zone::new(&snapshot.timezone);
    let fresh = findings::freshness(view);
    let report = findings::reconciliation(view);
    let checked = findings::step_of(view, "freshness").and_then(|(_, run)| run.history.last()).map(|a| a.ended_at);
    let source = Source { snapshot, view, zone: &zone, collector, sinks };
    let scale = Scale::of(view, snapshot.now);
    let hops = HOPS
        .into_iter()
        .filter_map(|name| {
            let mut hop = source.hop(name)?;
            match report.as_ref().and_then(|r| r.hops.get(name)) {
                Some(counts) => proven(&mut hop, name, *counts),
                None if view.run.state.is_terminal() => {
                    (hop.light, hop.light_text) = ("quiet", say!("run ended"));
                }
                None => lit(&mut hop, fresh.as_ref().and_then(|f| f.hop(name)), &zone),
            }
            hop.trends = source.trends(name, &scale);
            Some(hop)
        })
        .collect();
    let as_of = checked
        .filter(|_| report.is_none() && !view.run.state.is_terminal())
        .map(|at| say!("freshness as of {} {}", zone.minute(at), zone.label(at)));
    Hops { hops, as_of }
}

struct Source<'a> {
    snapshot: &'a Snapshot,
    view: &'a RunView,
    zone: &'a Zone,
    collector: Option<&'a Step>,
    sinks: [Option<&'a Step>; 3],
}

impl Source<'_> {
    fn hop(&self, name: &'static str) -> Option<Hop> {
        match name {
            "spool" => self.spool(),
            "log" => self.log(),
            "raw" => self.sinks[0].map(|s| self.sink("raw", say!("from log"), s)).or_else(|| self.raw_by_collector()),
            "index" => self.sinks[1].map(|s| self.sink("index", say!("from log"), s)),
            _ => self.sinks[2].map(|s| self.sink("objects", say!("from log"), s)),
        }
    }

    fn collected(&self, key: &str) -> Option<u64> {
        findings::fact(self.view, self.collector?, key)
    }

    /// New records the collector counted, and since when if that is not its first start.
    fn received(&self) -> Option<u64> {
        Some(self.collected("records")?.saturating_sub(self.collected("duplicates").unwrap_or(0)))
    }

    fn counted_since(&self) -> Option<Pair> {
        let run = self.view.run.steps.get(&self.collector?.name)?;
        let restarted = run.history.last().filter(|_| run.state.is_alive())?;
        Some(Pair::new(say!("counted since"), self.zone.time(restarted.ended_at)))
    }

    fn spool(&self) -> Option<Hop> {
        let collector = self.collector?;
        let mut pairs = Vec::new();
        let mut add = |label: Text, key: &str, always: bool| {
            if let Some(n) = self.collected(key).filter(|n| always || *n > 0) {
                pairs.push(Pair::new(label, count(n)));
            }
        };
        add(say!("frames"), "frames", true);
        add(say!("repeated"), "duplicates", false);
        add(say!("malformed"), "malformed", false);
        add(say!("reconnects"), "reconnects", false);
        add(say!("shares in gaps"), "gap_shares", false);
        pairs.extend(self.counted_since());
        if let Some(at) = findings::fact_time(self.view, collector, "last_frame_at") {
            pairs.push(Pair::new(say!("last frame"), self.zone.time(at)));
        }
        Some(Hop { name: "spool", from: say!("from the feed"), records: self.received().map(count), pairs, ..Hop::default() })
    }

    /// The topic the run's collector writes: named in its parameters, else after its venue.
    fn topic(&self) -> Option<String> {
        let collector = self.collector?;
        let named = collector.with.get("topic").and_then(|t| t.as_str()).map(str::to_owned);
        named.or_else(|| Some(format!("{}.trades", built_in(collector)?.strip_prefix("collect/")?)))
    }

    fn log(&self) -> Option<Hop> {
        let topic = self.topic()?;
        let gauges = &self.snapshot.gauges;
        let mut pairs = Vec::new();
        if let Some(per_second) = gauges.rates.get(&topic).filter(|_| !self.view.run.state.is_terminal()) {
            pairs.push(Pair::new(say!("arriving"), rate(*per_second)));
        }
        if let (Some(spool), Some(log)) = (self.collected("spool_seq"), self.collected("log_seq")) {
            pairs.push(Pair::new(say!("behind"), count(spool.saturating_sub(log))));
        }
        let records = gauges.topics.get(&topic).copied().map(count);
        Some(Hop { name: "log", from: say!("from spool"), records, pairs, ..Hop::default() })
    }

    fn raw_by_collector(&self) -> Option<Hop> {
        self.collector?;
        let behind = self.collected("spool_seq").and_then(|spool| Some(spool.saturating_sub(self.collected("raw_seq")?)));
        let pairs = behind.map(|n| Pair::new(say!("behind"), count(n))).into_iter().chain(self.counted_since()).collect();
        let records = self.received().map(|n| count(n.saturating_sub(behind.unwrap_or(0))));
        Some(Hop { name: "raw", from: say!("from spool"), records, pairs, ..Hop::default() })
    }

    /// A sink is through with all of the topic but what its group is behind.
    fn sink(&self, name: &'static str, from: Text, step: &Step) -> Hop {
        let fact = |key| findings::fact(self.view, step, key);
        let lag = self.group_lag(step).or_else(|| fact("lag"));
        let topic = self.topic().and_then(|t| self.snapshot.gauges.topics.get(&t).copied());
        let through = lag.and_then(|lag| Some(topic?.saturating_sub(lag))).or_else(|| fact("written"));
        let mut pairs: Vec<_> = lag.map(|n| Pair::new(say!("behind"), count(n))).into_iter().collect();
        if let Some(n) = fact("dead_letters") {
            pairs.push(Pair::new(say!("dead letters"), count(n)));
        }
        Hop { name, from, records: through.map(count), pairs, ..Hop::default() }
    }

    /// How far the sink's consumer group is behind.
    fn group_lag(&self, step: &Step) -> Option<u64> {
        self.snapshot.gauges.group_lag.get(&self.group(step)).copied()
    }

    /// The sink's consumer group: named in its parameters or status, else `{dag}.{step}`.
    fn group(&self, step: &Step) -> String {
        let told = self.view.statuses.get(&step.name).and_then(|s| s.facts.get("group"));
        let named = told.or_else(|| step.with.get("group")).and_then(|g| g.as_str()).map(str::to_owned);
        named.unwrap_or_else(|| format!("{}.{}", self.view.run.dag.name, step.name))
    }

    /// What arrived over the day and how far it was behind; what never was behind has no chart of it.
    fn trends(&self, name: &str, scale: &Scale) -> Vec<Trend> {
        let trends = &self.snapshot.trends;
        let counted = |key: &str| {
            let (run, step) = (self.view.run.id.clone(), self.collector?.name.clone());
            Some(trends.series(&Measure::Fact { run, step, key: key.to_owned() }))
        };
        let held = || self.topic().map(|topic| trends.series(&Measure::Held(topic))).unwrap_or_default();
        let spooled = || counted("spool_seq").unwrap_or_default();
        let (through, late) = match (name, self.sinks) {
            ("spool", _) => (spooled(), Vec::new()),
            ("log", _) => (held(), behind(&spooled(), &counted("log_seq").unwrap_or_default())),
            ("raw", [None, ..]) => {
                let raw = counted("raw_seq").unwrap_or_default();
                (raw.clone(), behind(&spooled(), &raw))
            }
            ("raw", [Some(step), ..]) | ("index", [_, Some(step), _]) | ("objects", [_, _, Some(step)]) => {
                let lag = trends.series(&Measure::Lag(self.group(step)));
                (behind(&held(), &lag), lag)
            }
            _ => return Vec::new(),
        };
        let arriving = trend::draw(say!("records/s"), "arriving", &per_second(&through), scale, self.zone, |n| format!("{n:.1}"));
        let late = trend::draw(say!("behind"), "late", &late, scale, self.zone, |n| count(n.round() as u64));
        arriving.into_iter().chain(late).collect()
    }
}

fn lit(hop: &mut Hop, fresh: Option<&FreshHop>, zone: &Zone) {
    let Some(fresh) = fresh else {
        (hop.light, hop.light_text) = ("quiet", say!("not checked yet"));
        return;
    };
    let said = fresh.detail.clone().filter(|d| !d.is_empty());
    let age = fresh.age_seconds.map(|s| span(s as i64));
    hop.light = if fresh.stale { "bad" } else { "good" };
    hop.light_text = match (said, fresh.stale, age) {
        (Some(said), ..) => finding(&said),
        (None, true, Some(age)) => say!("nothing new for {}", age),
        (None, true, None) => say!("nothing there"),
        (None, false, _) => say!("fresh"),
    };
    if let Some(at) = fresh.newest.filter(|_| !hop.pairs.iter().any(|p| p.label == "last frame")) {
        hop.pairs.push(Pair::new(say!("newest"), zone.time(at)));
    }
}

fn proven(hop: &mut Hop, name: &str, counts: HopCount) {
    let spool = name == "spool";
    let fine = counts.missing == 0 && (spool || counts.duplicates == 0);
    let twice = if spool { say!("repeated by the feed") } else { say!("duplicates") };
    hop.records = Some(count(counts.unique));
    hop.pairs = vec![Pair::new(say!("missing"), count(counts.missing)), Pair::new(twice, count(counts.duplicates))];
    (hop.light, hop.light_text) = match (fine, spool) {
        (true, true) => ("good", say!("received")),
        (true, false) => ("good", say!("complete")),
        (false, _) => ("bad", say!("does not match the spool")),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing;

    #[test]
    fn each_hop_shows_its_own_light() {
        let snapshot = testing::snapshot();
        let drawn = hops(&snapshot, &snapshot.runs[0]);
        let lights: Vec<_> = drawn.hops.iter().map(|h| (h.name, h.light)).collect();
        assert_eq!(lights, [("spool", "bad"), ("log", "good"), ("raw", "good"), ("index", "good"), ("objects", "good")]);
        let log = &drawn.hops[1];
        assert_eq!(log.records.as_deref(), Some("14,212"));
        assert!(log.pairs.contains(&Pair::new(say!("behind"), "0")), "{log:?}");
        let counts: Vec<_> = drawn.hops.iter().filter_map(|h| h.records.as_deref()).collect();
        assert_eq!(counts, ["4,406", "14,212", "4,406", "14,212", "14,188"], "the collector counts since its restart");
        assert!(drawn.as_of.as_ref().is_some_and(|at| *at == "freshness as of 13:10 KST"));
    }

    #[test]
    fn an_ended_run_shows_what_reconciliation_found() {
        let snapshot = testing::ended();
        let drawn = hops(&snapshot, &snapshot.runs[0]);
        assert!(drawn.hops.iter().all(|h| h.light == "good"), "{drawn:?}");
        assert!(drawn.hops[4].pairs.contains(&Pair::new(say!("missing"), "0")));
    }
}
