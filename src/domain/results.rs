//! What checks and reconciliations return, read where it is shown. It may be of an older version or of a
//! program of the user's own: what it lacks is left out, and what is nothing of the kind is `None`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::finding::Finding;
use super::gaps::Gap;
use super::hop::Hop;

/// What a freshness check returns: `{"stalled": bool, "finding": {…}, "summary": "…", "hops": [{"hop":
/// "index", "stale": true, …}]}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Freshness {
    /// At least one hop is stale.
    pub stalled: bool,
    /// Nothing can be said yet: what was overdue may come now, since whoever brings it was started just
    /// before.
    pub settling: bool,
    /// What was found: the hop and since when.
    pub finding: Finding,
    /// Each hop by itself.
    pub hops: Vec<FreshHop>,
    /// When the data stopped, if it did.
    pub since: Option<Timestamp>,
    /// Whether trades were to be expected; unknown of older checks.
    pub trades_expected: Option<bool>,
    /// Symbols that were silent much longer than usual when the check looked.
    pub silent: BTreeSet<String>,
    /// Everything it returned.
    pub detail: Value,
}

/// A hop as a freshness check saw it.
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
    detail: Option<String>,
    finding: Value,
}

impl FreshHop {
    /// What was found there, if it says.
    pub fn finding(&self) -> Option<Finding> {
        Finding::read(Some(&self.finding), self.detail.as_deref())
    }
}

/// An instant, or nothing if the text is none.
fn instant<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Value::deserialize(from)?.as_str().and_then(|text| text.parse().ok()))
}

impl Freshness {
    /// Reads a result; `None` when it is not a freshness check's.
    pub fn of(result: &Value) -> Option<Self> {
        let stalled = result.get("stalled")?.as_bool()?;
        let flag = |key: &str| result.get(key).and_then(Value::as_bool);
        let text = |key: &str| result.get(key).and_then(Value::as_str);
        let list = |key: &str| result.get(key).and_then(Value::as_array).into_iter().flatten();
        let hops: Vec<FreshHop> = list("hops").filter_map(|hop| FreshHop::deserialize(hop).ok()).collect();
        let silent =
            list("silent_symbols").filter_map(|symbol| Some(symbol.get("symbol")?.as_str()?.to_owned()));
        Some(Self {
            stalled,
            settling: !stalled && flag("settling") == Some(true),
            finding: Finding::read(result.get("finding"), text("summary")).unwrap_or_else(|| of_hops(&hops)),
            since: text("since").and_then(|since| since.parse().ok()),
            trades_expected: flag("trades_expected"),
            silent: silent.collect(),
            hops,
            detail: result.clone(),
        })
    }

    /// What was found at a hop, by what a check calls it.
    pub fn hop(&self, name: &str) -> Option<&FreshHop> {
        self.hops.iter().find(|hop| hop.hop == name)
    }
}

fn of_hops(hops: &[FreshHop]) -> Finding {
    let hops: Vec<String> = hops.iter().filter(|hop| hop.stale).map(|hop| hop.hop.clone()).collect();
    if hops.is_empty() { Finding::Flows } else { Finding::NothingNew { hops } }
}

/// What a reconciliation returns.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Reconciliation {
    /// The day it is about.
    pub session_date: Option<Date>,
    /// Everything that was received is in every store, once.
    pub ok: bool,
    /// Counts by hop.
    pub hops: BTreeMap<String, HopCount>,
    /// What could not be processed.
    pub dead_letters: DeadLetters,
    /// What the exchange traded and was never received.
    pub gaps: Vec<Gap>,
    /// Averages compared with the exchange's own.
    pub vwap: Averages,
    findings: Vec<Value>,
}

/// Ids of a hop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HopCount {
    /// Different ids.
    pub unique: u64,
    /// Ids seen more than once. In the spool that is a feed that repeated itself, which is no fault.
    pub duplicates: u64,
    /// Ids of the spool that are not here.
    pub missing: u64,
    /// Some of these, by symbol.
    pub missing_ids: BTreeMap<String, Vec<String>>,
    /// Ids that no spool of the run has.
    pub extra: u64,
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Averages {
    /// Symbols compared.
    pub checked: u64,
    /// Symbols whose figures are equal.
    pub equal: u64,
    /// The others.
    pub different: Vec<Different>,
}

/// A symbol whose sums are not those of the exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Different {
    /// The symbol.
    pub symbol: String,
    /// Shares or units that were received.
    pub volume: String,
    /// What the exchange says.
    pub exchange_volume: i64,
    /// What they cost.
    pub value: String,
    /// What the exchange says.
    pub exchange_value: i64,
}

impl Reconciliation {
    /// Reads a result; `None` when it is not a reconciliation's, or that of one that failed before it had
    /// counted.
    pub fn of(result: &Value) -> Option<Self> {
        result.get("hops")?.as_object()?;
        Self::deserialize(result).ok()
    }

    /// Shares or units in all gaps.
    pub fn gap_quantity(&self) -> Decimal {
        self.gaps.iter().fold(Decimal::ZERO, |sum, gap| sum.saturating_add(gap.quantity))
    }

    /// What is wrong with the day. A result that does not say it, of an older version, has the counts; `hops`
    /// are those of its run.
    pub fn because(&self, hops: &[Hop]) -> Vec<Finding> {
        let told: Vec<Finding> =
            self.findings.iter().filter_map(|found| Finding::read(Some(found), None)).collect();
        if told.len() == self.findings.len() && !told.is_empty() {
            return told;
        }
        let is_spool = |name: &str| hops.iter().any(|hop| hop.name == name && hop.is_spool());
        let of = |name: &&str| {
            let counts = &self.hops[*name];
            Finding::of_counts(name, counts.missing, if is_spool(name) { 0 } else { counts.duplicates })
        };
        super::hop::in_order(self.hops.keys().map(String::as_str))
            .iter()
            .flat_map(of)
            .chain(self.totals())
            .collect()
    }

    fn totals(&self) -> Option<Finding> {
        let symbols = self.vwap.different.len() as u64;
        (symbols > 0).then_some(Finding::TotalsDiffer { symbols })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dag::fixtures;

    #[test]
    fn other_results_are_nothing_of_the_kind() {
        for result in [json!({ "rows": 3 }), json!({ "stalled": "yes" }), Value::Null] {
            assert_eq!(Freshness::of(&result), None, "{result}");
        }
        for result in [
            json!({ "error": "raw: not reached" }),
            json!({ "hops": [] }),
            json!({ "hops": {}, "ok": "perhaps" }),
        ] {
            assert_eq!(Reconciliation::of(&result), None, "{result}");
        }
    }

    #[test]
    fn a_short_result_says_what_it_has() {
        let hops = json!([{ "hop": "log", "newest": "soon", "stale": true }, { "hop": 3 }, "raw"]);
        let fresh = Freshness::of(
            &json!({ "stalled": true, "hops": hops, "silent_symbols": [{ "symbol": "005930" }, 7] }),
        );
        let fresh = fresh.expect("a freshness check's");
        assert_eq!((fresh.hops.len(), fresh.hops[0].newest, fresh.hops[0].finding()), (1, None, None));
        assert_eq!(fresh.finding, Finding::NothingNew { hops: vec!["log".into()] });
        assert_eq!(fresh.silent, BTreeSet::from(["005930".to_owned()]));
        let said = json!({ "stalled": false, "settling": true, "summary": "as it was said" });
        let said = Freshness::of(&said).expect("a freshness check's");
        assert_eq!((said.settling, said.finding), (true, Finding::text("as it was said")));
    }

    #[test]
    fn what_is_found_at_a_hop_is_a_value_or_its_words() {
        let hop = |finding| {
            FreshHop::deserialize(&json!({ "hop": "log", "detail": "18s behind", "finding": finding }))
        };
        let found = |finding| hop(finding).expect("a hop").finding();
        assert_eq!(found(json!({ "code": "behind", "seconds": 18 })), Some(Finding::Behind { seconds: 18 }));
        assert_eq!(found(json!({ "code": "hums" })), Some(Finding::text("18s behind")));
    }

    #[test]
    fn gaps_are_counted_in_shares_and_in_units() {
        let gap = |shares: Value| json!({ "symbol": "x", "from": null, "to": "2026-11-20T10:42:10+09:00", "shares": shares });
        let result = json!({ "hops": {}, "gaps": [gap(json!(12)), gap(json!("0.5"))] });
        let read = Reconciliation::of(&result).expect("a reconciliation's");
        assert_eq!(read.gap_quantity().to_string(), "12.5");
    }

    #[test]
    fn a_result_without_findings_is_judged_by_its_counts() {
        let dag = fixtures::dag("day", Vec::new());
        let [mut spool, log] = ["spool", "log"].map(|name| Hop {
            name: name.into(),
            kind: crate::hop::Kind::Log,
            step: "a".parse().expect("a name"),
            program: "p".into(),
            feed: None,
            group: None,
            topic: dag.name.to_string(),
            place: String::new(),
            timezone: None,
        });
        spool.kind = crate::hop::Kind::Spool;
        let hop = |missing: u64, duplicates: u64| json!({ "unique": 9, "missing": missing, "duplicates": duplicates });
        let mut result = json!({
            "ok": false,
            "hops": { "spool": hop(0, 6), "log": hop(2, 0), "raw": hop(0, 3), "index": hop(0, 0) },
            "vwap": { "checked": 2, "equal": 1, "different": [{ "symbol": "x" }] },
        });
        let because = |result: &Value| {
            Reconciliation::of(result).expect("a reconciliation's").because(&[spool.clone(), log.clone()])
        };
        let (log, raw) = (
            Finding::Misses { hop: "log".into(), records: 2 },
            Finding::Repeats { hop: "raw".into(), records: 3 },
        );
        assert_eq!(because(&result), [log.clone(), raw, Finding::TotalsDiffer { symbols: 1 }]);
        result["findings"] = json!([log]);
        assert_eq!(because(&result), [log.clone()], "as it says itself");
        result["findings"] = json!([log, { "code": "sings" }]);
        assert_eq!(because(&result).len(), 3, "a code of another version");
    }
}
