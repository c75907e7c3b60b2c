//! The way of the data, hop by hop: how much is there, how fast it comes, how far it is behind, whether it is
//! fresh.

use askama::Template;
use rust_decimal::Decimal;

use super::trend::{self, Trend, behind, per_second};
use crate::locale::{Text, ToText, filters, say};
use crate::view::Pair;
use crate::view::axis::Scale;
use crate::view::findings;
use crate::view::format::{Zone, count, rate, span};
use daemon::Snapshot;
use daemon::snapshot::RunView;
use daemon::trends::Measure;
use domain::hop::{self, Hop as Place, Kind};
use domain::message::quantity;
use domain::results::{FreshHop, HopCount};

/// The row of hops.
#[derive(Debug, Template)]
#[template(path = "pages/today/hops.html")]
pub struct Hops {
    /// In the order data passes them.
    pub hops: Vec<Hop>,
    /// When the freshness check last looked: `freshness as of 13:10 KST`.
    pub as_of: Option<Text>,
}

/// A hop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hop {
    /// Its name in the run: `spool`, `log`, `raw`, `index`, `objects`, or its step's.
    pub name: String,
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

/// The hops of a run. Empty for a run that neither collects nor stores anything.
pub fn hops(snapshot: &Snapshot, view: &RunView) -> Hops {
    let way = hop::of_run(&view.run, steps::programs());
    if way.is_empty() {
        return Hops { hops: Vec::new(), as_of: None };
    }
    let zone = Zone::new(&snapshot.timezone);
    let fresh = findings::freshness(view);
    let reports = findings::reconciliations(view);
    // Of several checks the one that looked longest ago says how old all of it may be.
    let checked = findings::checks(view).filter_map(|(_, run)| Some(run.history.last()?.ended_at)).min();
    let source = Source { snapshot, view, zone: &zone };
    let scale = Scale::of(view, snapshot.now);
    let hops = way
        .iter()
        .map(|hop| {
            let mut drawn = source.hop(hop);
            match findings::counts(&reports, &hop.name) {
                Some(counts) => proven(&mut drawn, hop.is_spool(), counts),
                None if view.run.state.is_terminal() => {
                    (drawn.light, drawn.light_text) = ("quiet", say!("run ended"));
                }
                None => lit(&mut drawn, findings::hop(&fresh, &hop.checked_as()), &zone),
            }
            drawn.trends = source.trends(hop, &scale);
            drawn
        })
        .collect();
    let as_of = checked
        .filter(|_| reports.is_empty() && !view.run.state.is_terminal())
        .map(|at| say!("freshness as of {} {}", zone.minute(at), zone.label(at)));
    Hops { hops, as_of }
}

struct Source<'a> {
    snapshot: &'a Snapshot,
    view: &'a RunView,
    zone: &'a Zone,
}

impl Source<'_> {
    fn hop(&self, hop: &Place) -> Hop {
        match (hop.kind, &hop.group) {
            (Kind::Spool, _) => self.spool(hop),
            (Kind::Log, _) => self.log(hop),
            (Kind::Store(_), Some(group)) => self.sink(hop, group),
            (Kind::Store(_), None) => self.raw_by_collector(hop),
        }
    }

    /// A whole number that the step of a hop tells of itself.
    fn fact(&self, hop: &Place, key: &str) -> Option<u64> {
        findings::fact(self.view, self.view.run.dag.step(&hop.step)?, key)
    }

    /// What its collector knows to be missing.
    fn gaps(&self, hop: &Place) -> Option<Decimal> {
        let missing = findings::fact_quantity(self.view, self.view.run.dag.step(&hop.step)?, "gap_shares");
        missing.filter(|missing| !missing.is_zero())
    }

    /// New records the collector counted, and since when if that is not its first start.
    fn received(&self, hop: &Place) -> Option<u64> {
        Some(self.fact(hop, "records")?.saturating_sub(self.fact(hop, "duplicates").unwrap_or(0)))
    }

    fn counted_since(&self, hop: &Place) -> Option<Pair> {
        let run = self.view.run.steps.get(&hop.step)?;
        let restarted = run.history.last().filter(|_| run.state.is_alive())?;
        Some(Pair::new(say!("counted since"), self.zone.time(restarted.ended_at)))
    }

    fn spool(&self, hop: &Place) -> Hop {
        let mut pairs = Vec::new();
        let mut add = |label: Text, key: &str, always: bool| {
            if let Some(n) = self.fact(hop, key).filter(|n| always || *n > 0) {
                pairs.push(Pair::new(label, count(n)));
            }
        };
        add(say!("frames"), "frames", true);
        add(say!("repeated"), "duplicates", false);
        add(say!("malformed"), "malformed", false);
        add(say!("reconnects"), "reconnects", false);
        if let Some(shares) = self.gaps(hop) {
            pairs.push(Pair::new(say!("shares in gaps"), quantity(&shares)));
        }
        pairs.extend(self.counted_since(hop));
        let step = self.view.run.dag.step(&hop.step);
        if let Some(at) = step.and_then(|step| findings::fact_time(self.view, step, "last_frame_at")) {
            pairs.push(Pair::new(say!("last frame"), self.zone.time(at)));
        }
        Hop {
            name: hop.name.clone(),
            from: say!("from the feed"),
            records: self.received(hop).map(count),
            pairs,
            ..Hop::default()
        }
    }

    fn log(&self, hop: &Place) -> Hop {
        let gauges = &self.snapshot.gauges;
        let mut pairs = Vec::new();
        if let Some(per_second) = gauges.rates.get(&hop.topic).filter(|_| !self.view.run.state.is_terminal())
        {
            pairs.push(Pair::new(say!("arriving"), rate(*per_second)));
        }
        if let (Some(spool), Some(log)) = (self.fact(hop, "spool_seq"), self.fact(hop, "log_seq")) {
            pairs.push(Pair::new(say!("behind"), count(spool.saturating_sub(log))));
        }
        let records = gauges.topics.get(&hop.topic).copied().map(count);
        Hop { name: hop.name.clone(), from: say!("from spool"), records, pairs, ..Hop::default() }
    }

    fn raw_by_collector(&self, hop: &Place) -> Hop {
        let behind = self
            .fact(hop, "spool_seq")
            .and_then(|spool| Some(spool.saturating_sub(self.fact(hop, "raw_seq")?)));
        let pairs = behind
            .map(|n| Pair::new(say!("behind"), count(n)))
            .into_iter()
            .chain(self.counted_since(hop))
            .collect();
        let records = self.received(hop).map(|n| count(n.saturating_sub(behind.unwrap_or(0))));
        Hop { name: hop.name.clone(), from: say!("from spool"), records, pairs, ..Hop::default() }
    }

    /// A sink is through with all of the topic but what its group is behind.
    fn sink(&self, hop: &Place, group: &str) -> Hop {
        let gauges = &self.snapshot.gauges;
        let lag = gauges.group_lag.get(group).copied().or_else(|| self.fact(hop, "lag"));
        let topic = gauges.topics.get(&hop.topic).copied();
        let through =
            lag.and_then(|lag| Some(topic?.saturating_sub(lag))).or_else(|| self.fact(hop, "written"));
        let mut pairs: Vec<_> = lag.map(|n| Pair::new(say!("behind"), count(n))).into_iter().collect();
        if let Some(n) = self.fact(hop, "dead_letters") {
            pairs.push(Pair::new(say!("dead letters"), count(n)));
        }
        Hop {
            name: hop.name.clone(),
            from: say!("from log"),
            records: through.map(count),
            pairs,
            ..Hop::default()
        }
    }

    /// What arrived over the day and how far it was behind; what never was behind has no chart of it.
    fn trends(&self, hop: &Place, scale: &Scale) -> Vec<Trend> {
        let trends = &self.snapshot.trends;
        let counted = |key: &str| {
            let (run, step) = (self.view.run.id.clone(), hop.step.clone());
            trends.series(&Measure::Fact { run, step, key: key.to_owned() })
        };
        let held = || trends.series(&Measure::Held(hop.topic.clone()));
        let (through, late) = match (hop.kind, &hop.group) {
            (Kind::Spool, _) => (counted("spool_seq"), Vec::new()),
            (Kind::Log, _) => (held(), behind(&counted("spool_seq"), &counted("log_seq"))),
            (Kind::Store(_), None) => {
                let raw = counted("raw_seq");
                (raw.clone(), behind(&counted("spool_seq"), &raw))
            }
            (Kind::Store(_), Some(group)) => {
                let lag = trends.series(&Measure::Lag(group.clone()));
                (behind(&held(), &lag), lag)
            }
        };
        let arriving =
            trend::draw(say!("records/s"), "arriving", &per_second(&through), scale, self.zone, |n| {
                format!("{n:.1}")
            });
        let late = trend::draw(say!("behind"), "late", &late, scale, self.zone, |n| count(n.round() as u64));
        arriving.into_iter().chain(late).collect()
    }
}

fn lit(hop: &mut Hop, fresh: Option<&FreshHop>, zone: &Zone) {
    let Some(fresh) = fresh else {
        (hop.light, hop.light_text) = ("quiet", say!("not checked yet"));
        return;
    };
    let said = fresh.finding().map(|found| found.to_text()).filter(|said| !said.is_empty());
    let age = fresh.age_seconds.map(|s| span(s as i64));
    hop.light = match (fresh.stale, fresh.state.as_str()) {
        (true, _) => "bad",
        (false, "settling") => "quiet",
        (false, _) => "good",
    };
    hop.light_text = match (said, fresh.stale, age) {
        (Some(said), ..) => said,
        (None, true, Some(age)) => say!("nothing new for {}", age),
        (None, true, None) => say!("nothing there"),
        (None, false, _) => say!("fresh"),
    };
    if let Some(at) = fresh.newest.filter(|_| !hop.pairs.iter().any(|p| p.label == "last frame")) {
        hop.pairs.push(Pair::new(say!("newest"), zone.time(at)));
    }
}

fn proven(hop: &mut Hop, spool: bool, counts: &HopCount) {
    let fine = counts.missing == 0 && (spool || counts.duplicates == 0);
    let twice = if spool { say!("repeated by the feed") } else { say!("duplicates") };
    hop.records = Some(count(counts.unique));
    hop.pairs =
        vec![Pair::new(say!("missing"), count(counts.missing)), Pair::new(twice, count(counts.duplicates))];
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
        let lights: Vec<_> = drawn.hops.iter().map(|h| (h.name.as_str(), h.light)).collect();
        assert_eq!(
            lights,
            [("spool", "bad"), ("log", "good"), ("raw", "good"), ("index", "good"), ("objects", "good")]
        );
        let log = &drawn.hops[1];
        assert_eq!(log.records.as_deref(), Some("14,212"));
        assert!(log.pairs.contains(&Pair::new(say!("behind"), "0")), "{log:?}");
        let counts: Vec<_> = drawn.hops.iter().filter_map(|h| h.records.as_deref()).collect();
        assert_eq!(
            counts,
            ["4,406", "14,212", "4,406", "14,212", "14,188"],
            "the collector counts since its restart"
        );
        assert!(drawn.as_of.as_ref().is_some_and(|at| *at == "freshness as of 13:10 KST"));
    }

    #[test]
    fn each_sink_of_the_run_is_a_hop_and_no_other_step() {
        let mut snapshot = testing::snapshot();
        let run = &mut snapshot.runs[0].run;
        let mut steps: Vec<_> =
            run.dag.steps().iter().filter(|s| s.name.as_str() != "sink-objects").cloned().collect();
        let sink = steps.iter().find(|s| s.name.as_str() == "sink-index").cloned().expect("a sink");
        let mut second = domain::dag::Step { name: "vwap-2".parse().expect("a name"), ..sink };
        second.with.insert("group".into(), "of.its.own".into());
        steps.push(second);
        let dag = &run.dag;
        let again = domain::dag::Dag::new(
            dag.name.clone(),
            String::new(),
            String::new(),
            dag.schedule.clone(),
            dag.alerts.clone(),
            steps,
        );
        run.dag = again.expect("a DAG");
        snapshot.gauges.group_lag.insert("of.its.own".into(), 12);
        let drawn = hops(&snapshot, &snapshot.runs[0]);
        let lights: Vec<_> = drawn.hops.iter().map(|h| (h.name.as_str(), h.light)).collect();
        assert_eq!(
            lights,
            [
                ("spool", "bad"),
                ("log", "good"),
                ("raw", "good"),
                ("sink-index", "quiet"),
                ("vwap-2", "quiet")
            ]
        );
        assert!(
            drawn.hops[4].pairs.contains(&Pair::new(say!("behind"), "12"))
                && drawn.hops[4].records.as_deref() == Some("14,200")
        );
    }

    #[test]
    fn an_ended_run_shows_what_reconciliation_found() {
        let snapshot = testing::ended();
        let drawn = hops(&snapshot, &snapshot.runs[0]);
        assert!(drawn.hops.iter().all(|h| h.light == "good"), "{drawn:?}");
        assert!(drawn.hops[4].pairs.contains(&Pair::new(say!("missing"), "0")));
    }
}
