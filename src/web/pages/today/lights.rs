//! A light for each symbol: whether trades of it arrive.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use jiff::Timestamp;
use rust_decimal::Decimal;

use crate::locale::{Text, filters, say};
use crate::view::findings;
use crate::view::format::{Zone, count, part, span};
use daemon::Snapshot;
use daemon::snapshot::RunView;
use domain::gaps::Gap;
use domain::hop;
use domain::message::quantity;
use domain::units;

/// A symbol without a trade for longer is quiet, unless the run's own check says otherwise.
const QUIET_SECONDS: i64 = 300;
/// Symbols named in the summary.
const NAMED: usize = 5;

/// The lights.
#[derive(Debug, Template)]
#[template(path = "pages/today/lights.html")]
pub struct Lights {
    /// By symbol.
    pub lights: Vec<Light>,
    /// All of it in a line.
    pub words: Text,
}

/// A symbol's light.
#[derive(Debug, Clone, PartialEq)]
pub struct Light {
    /// The symbol.
    pub symbol: String,
    /// Its page.
    pub address: String,
    /// Style class: `good` trades arrive, `quiet` none for a while, `bad` silent much longer than usual,
    /// `warn` volume is missing, `none` no trade today, `over` the market has closed.
    pub class: &'static str,
    /// What it says, in words.
    pub words: Text,
}

/// The lights of a run; none for one that collects nothing.
pub fn lights(snapshot: &Snapshot, view: &RunView) -> Lights {
    let zone = Zone::new(&snapshot.timezone);
    let last = last_trades(view);
    let missing = missing(view);
    let found = findings::freshness(view);
    // Before the open and after the close nobody trades, which is no silence.
    let resting = !found.is_empty() && found.iter().all(|found| found.trades_expected == Some(false));
    let silent: BTreeSet<String> = found.into_iter().flat_map(|found| found.silent).collect();
    let limit = limit(view);
    let over = view.run.state.is_terminal() || resting;
    let lights: Vec<_> = last
        .into_iter()
        .map(|(symbol, at)| {
            // A trade of an earlier day is none of this one.
            let at = at.filter(|at| *at >= view.run.window.open_at);
            let age = at.map(|at| snapshot.now.duration_since(at).as_secs());
            let (class, words) = match (at, missing.get(&symbol), age) {
                (_, Some(shares), _) => ("warn", say!("{} shares were never received", quantity(shares))),
                (None, ..) => ("none", say!("no trade today")),
                (Some(at), ..) if over => ("over", say!("last trade {}", zone.time(at))),
                // It may have traded since the check looked.
                (Some(at), _, Some(age)) if age > limit && silent.contains(&symbol) => {
                    ("bad", say!("silent much longer than usual, last trade {}", zone.time(at)))
                }
                (Some(at), _, Some(age)) if age > limit => ("quiet", say!("last trade {}", zone.time(at))),
                (Some(_), ..) => ("good", say!("traded within {}", span(limit))),
            };
            Light { address: format!("/market/{}", part(&symbol)), symbol, class, words }
        })
        .collect();
    Lights { words: summary(&lights, limit), lights }
}

/// When each symbol's newest trade came: the living collector says it, else what it returned at its end.
fn last_trades(view: &RunView) -> BTreeMap<String, Option<Timestamp>> {
    let collectors = view.run.dag.steps().iter().filter(|s| hop::collects(steps::programs(), s));
    let told = collectors.filter_map(|step| {
        let living = view.statuses.get(&step.name).and_then(|s| s.facts.get("last_trades"));
        living.or_else(|| view.run.steps.get(&step.name)?.result.as_ref()?.get("last_trades"))?.as_object()
    });
    told.flatten().map(|(symbol, at)| (symbol.clone(), at.as_str().and_then(|at| at.parse().ok()))).collect()
}

/// What reconciliation found to be missing, by symbol.
fn missing(view: &RunView) -> BTreeMap<String, Decimal> {
    let gaps: BTreeSet<Gap> =
        findings::reconciliations(view).into_iter().flat_map(|report| report.gaps).collect();
    gaps.into_iter().fold(BTreeMap::new(), |mut sums, gap| {
        let sum: &mut Decimal = sums.entry(gap.symbol).or_default();
        *sum = sum.saturating_add(gap.quantity);
        sums
    })
}

/// `stale_after` of the run's checks, in seconds; the shortest of them.
fn limit(view: &RunView) -> i64 {
    let told = findings::checks(view).filter_map(|(step, _)| step.with.get("stale_after")?.as_str());
    let limits = told.filter_map(|text| i64::try_from(units::duration(text).ok()?.as_secs()).ok());
    limits.min().unwrap_or(QUIET_SECONDS)
}

fn summary(lights: &[Light], limit: i64) -> Text {
    let of = |class: &str| lights.iter().filter(|l| l.class == class).collect::<Vec<_>>();
    let mut parts = Vec::new();
    for class in ["good", "quiet", "bad", "none", "warn", "over"] {
        let found = of(class);
        if found.is_empty() {
            continue;
        }
        let names: BTreeSet<_> = found.iter().map(|l| l.symbol.as_str()).collect();
        let more = if names.len() > NAMED { ", …" } else { "" };
        let named = format!("{}{more}", names.into_iter().take(NAMED).collect::<Vec<_>>().join(", "));
        let n = count(found.len() as u64);
        parts.push(match class {
            "good" => say!("{} traded within {}", n, span(limit)),
            "quiet" => say!("{} quiet", n),
            "bad" => say!("{} silent much longer than usual ({})", n, named),
            "none" => say!("{} without a trade today", n),
            "warn" => say!("{} with missing volume ({})", n, named),
            _ => say!("{} received until the close", n),
        });
    }
    Text::joined(" · ", parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing;

    fn name(text: &str) -> domain::ids::StepName {
        text.parse().expect("a name")
    }

    fn classes(lights: &Lights) -> Vec<(&str, &str)> {
        lights.lights.iter().map(|l| (l.symbol.as_str(), l.class)).collect()
    }

    #[test]
    fn each_symbol_shows_whether_it_trades() {
        let mut snapshot = testing::snapshot();
        let drawn = lights(&snapshot, &snapshot.runs[0]);
        assert_eq!(
            classes(&drawn),
            [("000660", "quiet"), ("005930", "quiet"), ("035720", "quiet"), ("373220", "none")]
        );
        snapshot.now = testing::at("13:05:00");
        let check = snapshot.runs[0].run.steps.get_mut(&name("freshness")).expect("a check");
        check.result.as_mut().expect("a finding")["silent_symbols"] =
            serde_json::json!([{ "symbol": "035720" }, { "symbol": "005930" }]);
        let drawn = lights(&snapshot, &snapshot.runs[0]);
        assert_eq!(
            classes(&drawn),
            [("000660", "good"), ("005930", "good"), ("035720", "bad"), ("373220", "none")]
        );
        assert_eq!(
            drawn.words,
            "2 traded within 5 min · 1 silent much longer than usual (035720) · 1 without a trade today"
        );
        assert_eq!(drawn.lights[2].words, "silent much longer than usual, last trade 11:20:00");
    }

    #[test]
    fn after_the_close_nobody_is_silent() {
        let mut snapshot = testing::snapshot();
        let check = snapshot.runs[0].run.steps.get_mut(&name("freshness")).expect("a check");
        check.result.as_mut().expect("a finding")["trades_expected"] = false.into();
        let drawn = lights(&snapshot, &snapshot.runs[0]);
        assert_eq!(
            classes(&drawn),
            [("000660", "over"), ("005930", "over"), ("035720", "over"), ("373220", "none")]
        );
        assert_eq!(drawn.words, "1 without a trade today · 3 received until the close");
    }

    #[test]
    fn after_the_day_what_is_missing_is_told() {
        let mut snapshot = testing::ended();
        let told = testing::snapshot().runs[0].statuses[&name("collector")].facts.clone();
        snapshot.runs[0].run.steps.get_mut(&name("collector")).expect("a step").result = Some(told.into());
        let drawn = lights(&snapshot, &snapshot.runs[0]);
        assert_eq!(
            classes(&drawn),
            [("000660", "warn"), ("005930", "warn"), ("035720", "over"), ("373220", "none")]
        );
        assert_eq!(drawn.lights[1].words, "59 shares were never received");
        assert_eq!(Zone::new(&Snapshot::default().timezone).label(snapshot.now), "UTC");
    }
}
