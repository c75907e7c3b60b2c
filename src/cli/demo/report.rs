//! The report of a demo day: the JSON that programs read, and its summary for people.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use domain::gaps::Gap;
use domain::hop::{Hop, in_order};
use domain::trade::quantity;

/// What is in a hop, compared by event id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Different ids there.
    pub unique: u64,
    /// Records beyond the first of an id.
    pub duplicates: u64,
    /// Spool: undelivered trades outside a disconnect. Other hops: ids in the spool that are not there.
    pub missing: u64,
}

/// Dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetters {
    /// Mangled frames that the exchange sent into a session.
    pub expected: u64,
    /// Dead letters held.
    pub actual: u64,
}

/// An alert that was mailed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The rule: the check's name for a stall, else the alert kind.
    pub rule: String,
    /// `stalled`, `recovered`, `step_failed`, …
    pub state: String,
    /// When, RFC 3339 with the exchange's offset.
    pub at: String,
}

/// A step of the day. Times are RFC 3339 with the exchange's offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Name.
    pub name: String,
    /// `task`, `service`, `check`, `teardown`.
    pub kind: String,
    /// Attempts started; for a check its rounds.
    pub attempts: u32,
    /// First start.
    pub started_at: Option<String>,
    /// First time ready (services).
    pub ready_at: Option<String>,
    /// End.
    pub stopped_at: Option<String>,
    /// `succeeded`, `stopped`, `failed`, …
    pub outcome: String,
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The day.
    pub session_date: jiff::civil::Date,
    /// Speed asked for.
    pub speed: f64,
    /// The exchange's seed.
    pub seed: u64,
    /// Trades in the exchange's own ledger.
    pub exchange_records: u64,
    /// Of these, never received because no session was up.
    pub undelivered: u64,
    /// Their shares or units.
    #[serde(with = "quantity")]
    pub undelivered_shares: Decimal,
    /// By the names of the run's hops: `spool`, `log`, `raw`, `index`, `objects` on the shipped day.
    pub hops: BTreeMap<String, Found>,
    /// Dead letters.
    pub dead_letters: DeadLetters,
    /// Mailed alerts, oldest first.
    pub alerts: Vec<Alert>,
    /// Steps, in the DAG's order.
    pub steps: Vec<Step>,
    /// What was traded and never arrived, as the feed's rule of completeness shows it.
    pub gaps: Vec<Gap>,
    /// What does not add up, in words; empty when `ok`.
    pub faults: Vec<String>,
    /// Whether the day reconciles.
    pub ok: bool,
}

impl Report {
    /// Finds what does not add up and sets `ok`.
    pub fn judge(&mut self, undelivered_by_symbol: &BTreeMap<String, Decimal>, run_state: &str) {
        let mut faults = Vec::new();
        for (name, hop) in &self.hops {
            if hop.missing > 0 {
                faults.push(format!("{name}: {} missing", hop.missing));
            }
            if hop.duplicates > 0 {
                faults.push(format!("{name}: {} duplicates", hop.duplicates));
            }
        }
        if self.dead_letters.expected != self.dead_letters.actual {
            faults.push(format!(
                "dead letters: {} expected, {} held",
                self.dead_letters.expected, self.dead_letters.actual
            ));
        }
        let mut gaps: BTreeMap<&str, Decimal> = BTreeMap::new();
        for gap in &self.gaps {
            *gaps.entry(&gap.symbol).or_default() += gap.quantity;
        }
        for symbol in undelivered_by_symbol
            .keys()
            .map(String::as_str)
            .chain(gaps.keys().copied())
            .collect::<std::collections::BTreeSet<_>>()
        {
            let (undelivered, explained) = (
                undelivered_by_symbol.get(symbol).copied().unwrap_or_default(),
                gaps.get(symbol).copied().unwrap_or_default(),
            );
            if undelivered != explained {
                faults.push(format!(
                    "{symbol}: {undelivered} shares undelivered, {explained} in the gap ledger"
                ));
            }
        }
        for step in &self.steps {
            if step.started_at.is_some() && step.stopped_at.is_none() {
                faults.push(format!("step {} never stopped", step.name));
            }
        }
        if run_state != "succeeded" {
            faults.push(format!("the run ended as {run_state}"));
        }
        self.ok = faults.is_empty();
        self.faults = faults;
    }

    /// The report of a day on which nothing runs, with nothing in any of the hops there would be.
    pub fn closed(session_date: jiff::civil::Date, speed: f64, seed: u64, hops: &[Hop]) -> Self {
        Self {
            session_date,
            speed,
            seed,
            exchange_records: 0,
            undelivered: 0,
            undelivered_shares: Decimal::ZERO,
            hops: hops.iter().map(|hop| (hop.name.clone(), Found::default())).collect(),
            dead_letters: DeadLetters::default(),
            alerts: Vec::new(),
            steps: Vec::new(),
            gaps: Vec::new(),
            faults: Vec::new(),
            ok: true,
        }
    }

    /// A few lines for people.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let mut line = |s: String| {
            text.push_str(&s);
            text.push('\n');
        };
        line(format!(
            "{}: {} trades on the exchange, {} of them ({}) while no session was up",
            self.session_date,
            self.exchange_records,
            self.undelivered,
            counted(self.undelivered_shares)
        ));
        line(format!("{:<10}{:>10}{:>12}{:>10}", "hop", "unique", "duplicates", "missing"));
        for name in in_order(self.hops.keys().map(String::as_str)) {
            let hop = &self.hops[name];
            line(format!("{name:<10}{:>10}{:>12}{:>10}", hop.unique, hop.duplicates, hop.missing));
        }
        line(format!(
            "dead letters: {} expected, {} held",
            self.dead_letters.expected, self.dead_letters.actual
        ));
        let symbols: std::collections::BTreeSet<&str> = self.gaps.iter().map(|g| g.symbol.as_str()).collect();
        line(format!(
            "gaps: {} in {} symbols, {}",
            self.gaps.len(),
            symbols.len(),
            counted(self.gaps.iter().map(|g| g.quantity).sum())
        ));
        for alert in &self.alerts {
            line(format!("mail: {} {} at {}", alert.rule, alert.state, alert.at));
        }
        for fault in &self.faults {
            line(format!("does not add up: {fault}"));
        }
        line(if self.ok { "the day reconciles".into() } else { "the day does NOT reconcile".into() });
        text
    }
}

/// A quantity with what it counts: shares are whole.
fn counted(quantity: Decimal) -> String {
    let what = if quantity.fract().is_zero() { "shares" } else { "units" };
    format!("{} {what}", quantity.normalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::closed("2026-11-20".parse().expect("a date"), 60.0, 1, &[]);
        report.hops = ["spool", "log", "raw", "index", "objects"]
            .map(|name| (name.to_owned(), Found::default()))
            .into();
        report
    }

    #[test]
    fn every_kind_of_fault_is_named() {
        let mut report = report();
        report.hops.get_mut("index").expect("a hop").missing = 2;
        report.hops.get_mut("log").expect("a hop").duplicates = 1;
        report.dead_letters.expected = 5;
        report.gaps.push(Gap { symbol: "005930".into(), from: None, to: "t".into(), quantity: 7.into() });
        report.judge(&BTreeMap::from([("000660".to_owned(), 3.into())]), "failed");
        assert!(!report.ok);
        assert_eq!(report.faults.len(), 6, "{:?}", report.faults);
    }

    #[test]
    fn a_clean_day_is_ok() {
        let mut report = report();
        report.gaps.push(Gap { symbol: "005930".into(), from: None, to: "t".into(), quantity: 7.into() });
        report.judge(&BTreeMap::from([("005930".to_owned(), 7.into())]), "succeeded");
        assert!(report.ok, "{:?}", report.faults);
    }
}
