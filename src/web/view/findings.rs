//! What checks and teardown steps returned, read leniently: a result that lacks a key still shows what it has.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use daemon::snapshot::RunView;
use domain::dag::{Program, Step};
use domain::run::StepRun;

/// What the `freshness` check returned.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Freshness {
    /// At least one hop receives nothing.
    pub stalled: bool,
    /// Each hop by itself.
    pub hops: Vec<FreshHop>,
    /// When the data stopped, if it did.
    #[serde(deserialize_with = "instant")]
    pub since: Option<Timestamp>,
    /// One line.
    pub summary: String,
    /// Whether trades were to be expected; unknown of older checks.
    pub trades_expected: Option<bool>,
    /// Symbols that were silent much longer than usual.
    pub silent_symbols: Vec<SilentSymbol>,
}

/// A symbol that was silent much longer than usual.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SilentSymbol {
    /// The symbol.
    pub symbol: String,
}

impl Freshness {
    /// Symbols that were silent much longer than usual when the check looked.
    pub fn silent(self) -> BTreeSet<String> {
        self.silent_symbols.into_iter().map(|s| s.symbol).collect()
    }

    /// What was found at a hop, by what a check calls it.
    pub fn hop(&self, name: &str) -> Option<&FreshHop> {
        self.hops.iter().find(|h| h.hop == name)
    }
}

/// A hop as the `freshness` check saw it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct FreshHop {
    /// Its name.
    pub hop: String,
    /// Its newest record.
    #[serde(deserialize_with = "instant")]
    pub newest: Option<Timestamp>,
    /// Age of that record at the check.
    pub age_seconds: Option<f64>,
    /// How far it is behind the hop before it.
    pub lag_seconds: Option<f64>,
    /// Too old.
    pub stale: bool,
    /// How it stands, in a word; unknown of older checks.
    pub state: String,
    /// More words.
    pub detail: Option<String>,
}

/// An instant, or nothing if the text is none.
fn instant<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.and_then(|text| text.parse().ok()))
}

/// What the `reconcile` teardown returned.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Reconciliation {
    /// Everything that was received is in every store, once.
    pub ok: bool,
    /// Counts by hop.
    pub hops: BTreeMap<String, HopCount>,
    /// What could not be processed.
    pub dead_letters: DeadLetters,
    /// Trades of the exchange that were never received.
    pub gaps: Vec<Gap>,
    /// Averages compared with the exchange's own.
    pub vwap: Averages,
}

/// Ids of a hop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HopCount {
    /// Different ids.
    pub unique: u64,
    /// Ids seen more than once. In the spool that is a feed that repeated itself, which is no fault.
    pub duplicates: u64,
    /// Ids of the spool that are not here.
    pub missing: u64,
}

/// Dead letters of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DeadLetters {
    /// All of them.
    pub total: u64,
    /// By the stable word of their cause.
    pub by_cause: BTreeMap<String, u64>,
}

/// Session averages of the symbols without gaps, compared with the exchange's own figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Averages {
    /// Symbols compared.
    pub checked: u64,
    /// Symbols whose figures are equal.
    pub equal: u64,
}

/// Exchange volume that never arrived.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Gap {
    /// The symbol.
    pub symbol: String,
    /// Time of the last good trade before it; nothing when it begins with the session.
    pub from: Value,
    /// Time of the first good trade after it.
    pub to: Value,
    /// Its size.
    pub shares: i64,
}

/// Shares that were never received, summed.
pub fn shares(report: &Reconciliation) -> u64 {
    report.gaps.iter().map(|g| g.shares.max(0).unsigned_abs()).sum()
}

/// The program of a step, if it is a built-in one.
pub fn built_in(step: &Step) -> Option<&str> {
    match &step.program {
        Program::Uses(name) => Some(name),
        Program::Command { .. } => None,
    }
}

/// The first step of a run that runs a built-in program whose name starts with `prefix`.
pub fn step_of<'a>(view: &'a RunView, prefix: &str) -> Option<(&'a Step, &'a StepRun)> {
    let step = view.run.dag.steps().iter().find(|s| built_in(s).is_some_and(|p| p.starts_with(prefix)))?;
    Some((step, view.run.steps.get(&step.name)?))
}

/// The newest findings of the run's `freshness` check; `None` before its first round or when they cannot be read.
pub fn freshness(view: &RunView) -> Option<Freshness> {
    let (_, run) = step_of(view, "freshness")?;
    Freshness::deserialize(run.result.as_ref()?).ok()
}

/// The run's reconciliation; `None` before its close or when it cannot be read.
pub fn reconciliation(view: &RunView) -> Option<Reconciliation> {
    let (_, run) = step_of(view, "reconcile")?;
    Reconciliation::deserialize(run.result.as_ref()?).ok()
}

/// A whole number among a living step's facts.
pub fn fact(view: &RunView, step: &Step, key: &str) -> Option<u64> {
    view.statuses.get(&step.name)?.facts.get(key)?.as_u64()
}

/// An instant among a living step's facts.
pub fn fact_time(view: &RunView, step: &Step, key: &str) -> Option<Timestamp> {
    view.statuses.get(&step.name)?.facts.get(key)?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_short_result_still_shows_what_it_has() {
        let fresh =
            Freshness::deserialize(&json!({ "stalled": true, "hops": [{ "hop": "log", "newest": "soon" }] })).expect("readable");
        assert!(fresh.stalled && fresh.hops[0].newest.is_none());
        let report = Reconciliation::deserialize(&json!({ "ok": false, "gaps": [{ "symbol": "005930", "shares": 12 }] }))
            .expect("readable");
        assert_eq!(report.gaps[0].shares, 12);
        assert!(Reconciliation::deserialize(&json!({ "ok": "perhaps" })).is_err());
    }
}
