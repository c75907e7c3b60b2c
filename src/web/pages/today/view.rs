//! The first page: the day that runs, or the last one that did.

use std::collections::BTreeMap;

use askama::Template;
use rust_decimal::Decimal;

use super::hops::hops;
use super::lights::lights;
use super::timeline::timeline;
use super::verdict::verdict;
use crate::locale::{Reader, Text, ToText, filters, say, words};
use crate::pages::run::view::header;
use crate::view::findings;
use crate::view::format::{Zone, count};
use crate::view::problems::{self, ProblemRow};
use crate::view::states::alert_class;
use crate::view::{Fragment, Pair};
use daemon::Snapshot;
use daemon::snapshot::RunView;
use domain::gaps::Gap;
use domain::hop;
use domain::message::quantity;
use domain::results::{self, Averages};

/// Alerts shown on the page.
const ALERTS: usize = 12;
/// Gaps shown on the page.
const GAPS: usize = 12;

/// Files and parts of the daemon that do not work.
#[derive(Debug, Template)]
#[template(path = "pages/today/problems.html")]
pub struct Problems {
    /// Broken DAG files.
    pub files: Vec<ProblemRow>,
    /// Trouble of the daemon itself.
    pub notices: Vec<String>,
}

/// Broken files and notices of a snapshot.
pub fn problems(snapshot: &Snapshot) -> Problems {
    Problems { files: problems::rows(snapshot.problems.iter()), notices: snapshot.notices.clone() }
}

/// The list of alerts.
#[derive(Debug, Template)]
#[template(path = "pages/today/alerts.html")]
pub struct Alerts {
    /// Newest first.
    pub rows: Vec<AlertRow>,
    /// Older ones that are not shown.
    pub more: usize,
    /// Zone of the times.
    pub zone: String,
}

/// An alert.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRow {
    /// Time of day, with the date when it is another day's.
    pub at: Text,
    /// Kind in words.
    pub kind: Text,
    /// Style class of the kind.
    pub class: &'static str,
    /// The rule, when it is not the kind itself.
    pub rule: String,
    /// Run id.
    pub run: String,
    /// One line.
    pub summary: Text,
    /// State of its mail.
    pub mail: Text,
}

/// The newest alerts of a snapshot.
pub fn alerts(snapshot: &Snapshot) -> Alerts {
    let zone = Zone::new(&snapshot.timezone);
    let today = snapshot.today().map(|v| &v.run.id);
    let rows = snapshot.alerts.iter().take(ALERTS).map(|a| AlertRow {
        at: if Some(&a.run) == today { Text::plain(zone.time(a.at)) } else { zone.day_minute(a.at) },
        kind: words::alert_kind(a.kind),
        class: alert_class(a.kind),
        rule: if a.rule == a.kind.as_str() { String::new() } else { a.rule.clone() },
        run: a.run.to_string(),
        summary: a.finding.to_text(),
        mail: words::mail(a.mail),
    });
    Alerts {
        rows: rows.collect(),
        more: snapshot.alerts.len().saturating_sub(ALERTS),
        zone: zone.label(snapshot.now),
    }
}

/// Dead letters held, by topic, and by cause once the day was reconciled.
#[derive(Debug, Template)]
#[template(path = "pages/today/dead_letters.html")]
pub struct DeadLetters {
    /// All of them.
    pub total: u64,
    /// By topic.
    pub topics: Vec<Pair>,
    /// By cause.
    pub causes: Vec<Pair>,
}

/// Dead letters of a snapshot.
pub fn dead_letters(snapshot: &Snapshot) -> DeadLetters {
    let held = &snapshot.gauges.dead_letters;
    let mut causes: BTreeMap<String, u64> = BTreeMap::new();
    for report in snapshot.today().map(findings::reconciliations).unwrap_or_default() {
        for (cause, n) in report.dead_letters.by_cause {
            // Reconciliations of one topic count the same letters.
            let known = causes.entry(cause).or_default();
            *known = n.max(*known);
        }
    }
    DeadLetters {
        total: held.values().sum(),
        topics: held.iter().map(|(topic, n)| Pair::new(topic, count(*n))).collect(),
        causes: causes.into_iter().map(|(cause, n)| Pair::new(cause, count(n))).collect(),
    }
}

/// What reconciliation found beyond the hops: gaps.
#[derive(Debug, Template)]
#[template(path = "pages/today/reconciliation.html")]
pub struct Reconciliation {
    /// It ran.
    pub done: bool,
    /// It holds.
    pub ok: bool,
    /// Gaps, the first of them.
    pub gaps: Vec<GapRow>,
    /// Gaps that are not shown.
    pub more: usize,
    /// Shares that were never received.
    pub shares: String,
    /// What the comparison of averages found.
    pub averages: Text,
    /// Why there is nothing to show yet.
    pub pending: Text,
}

/// A gap in exchange volume.
#[derive(Debug, Clone, PartialEq)]
pub struct GapRow {
    /// Symbol.
    pub symbol: String,
    /// From where.
    pub from: Text,
    /// To where.
    pub to: Text,
    /// How many shares.
    pub shares: String,
}

/// The reconciliation of a run.
pub fn reconciliation(snapshot: &Snapshot, view: &RunView) -> Reconciliation {
    let zone = Zone::new(&snapshot.timezone);
    let reports = findings::reconciliations(view);
    if reports.is_empty() {
        let results: Vec<_> = findings::reconciles(view).map(|(_, run)| run.result.as_ref()).collect();
        let pending = match results.as_slice() {
            [] => say!("This DAG has no reconcile step."),
            [.., Some(_)] | [Some(_), ..] => {
                say!("The reconcile step returned something this page cannot read; its output shows it.")
            }
            _ => {
                let hops = hop::of_run(&view.run, steps::programs());
                let names: Vec<_> = hops.iter().map(|hop| hop.name.as_str()).collect();
                say!("Runs at close: every id of the day is compared across {}.", names.join(", "))
            }
        };
        return Reconciliation {
            done: false,
            ok: false,
            gaps: Vec::new(),
            more: 0,
            shares: String::new(),
            averages: Text::default(),
            pending,
        };
    }
    let time = |at: &str| zone.value(&at.into());
    let row = |gap: &Gap| GapRow {
        symbol: gap.symbol.clone(),
        from: gap.from.as_deref().map_or_else(|| say!("the open"), time),
        to: time(&gap.to),
        shares: quantity(&gap.quantity),
    };
    let averages = |report: &results::Reconciliation| match &report.vwap {
        Averages { checked: 0, .. } => Text::default(),
        v => say!(
            "The average price of {} of {} symbols without gaps equals the exchange's own.",
            count(v.equal),
            count(v.checked)
        ),
    };
    let mut gaps: Vec<&Gap> = Vec::new();
    for gap in reports.iter().flat_map(|report| &report.gaps) {
        if !gaps.contains(&gap) {
            gaps.push(gap);
        }
    }
    let missing = gaps.iter().fold(Decimal::ZERO, |sum, gap| sum.saturating_add(gap.quantity));
    Reconciliation {
        done: true,
        ok: reports.iter().all(|report| report.ok),
        more: gaps.len().saturating_sub(GAPS),
        gaps: gaps.into_iter().take(GAPS).map(row).collect(),
        shares: quantity(&missing),
        averages: Text::joined(" ", reports.iter().map(averages).collect()),
        pending: Text::default(),
    }
}

/// The page.
pub fn page(snapshot: &Snapshot, reader: &Reader) -> Vec<Fragment> {
    let view = snapshot.today();
    let mut fragments = vec![
        Fragment::new("header", &header(snapshot, view), reader),
        Fragment::new("verdict", &verdict(snapshot), reader),
        Fragment::new("problems", &problems(snapshot), reader),
    ];
    if let Some(view) = view {
        fragments.push(Fragment::new("hops", &hops(snapshot, view), reader));
        fragments.push(Fragment::new("lights", &lights(snapshot, view), reader));
        fragments.push(Fragment::new("timeline", &timeline(snapshot, view), reader));
    }
    fragments.push(Fragment::new("alerts", &alerts(snapshot), reader));
    fragments.push(Fragment::new("dead-letters", &dead_letters(snapshot), reader));
    if let Some(view) = view {
        fragments.push(Fragment::new("reconciliation", &reconciliation(snapshot, view), reader));
    }
    fragments
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing;
    use domain::finding::Finding;

    #[test]
    fn every_text_is_escaped() {
        let mut snapshot = testing::snapshot();
        let evil = "<script>alert('x')</script>";
        for step in snapshot.runs[0].run.steps.values_mut() {
            step.reason = Some(evil.to_owned());
        }
        for alert in &mut snapshot.alerts {
            alert.finding = Finding::text(evil);
            alert.rule = evil.to_owned();
        }
        let fault = &mut snapshot.problems[0].faults[0];
        (fault.message, fault.excerpt, fault.help) =
            (evil.to_owned(), Some(evil.to_owned()), Some(evil.to_owned()));
        snapshot.notices.push(evil.to_owned());
        snapshot.gauges.dead_letters.insert(evil.to_owned(), 3);
        for status in snapshot.runs[0].statuses.values_mut() {
            status.facts.insert(evil.to_owned(), evil.into());
        }
        let mut fragments = page(&snapshot, &Reader::default());
        fragments.extend(crate::pages::run::view::page(
            &snapshot,
            &snapshot.runs[0],
            "token",
            &Reader::default(),
        ));
        fragments.extend(crate::pages::dags::view::page(&snapshot, "token", &Reader::default()));
        for fragment in fragments {
            assert!(!fragment.html.as_str().contains("<script"), "{}", fragment.id);
            assert!(
                !fragment.html.as_str().contains("style=\""),
                "inline styles are forbidden by the page's own policy"
            );
        }
    }

    #[test]
    fn the_closing_report_lists_gaps() {
        let snapshot = testing::ended();
        let report = reconciliation(&snapshot, &snapshot.runs[0]);
        assert!(report.done && report.ok);
        assert_eq!(report.gaps[0].symbol, "005930");
        assert_eq!(dead_letters(&snapshot).causes[0], Pair::new("bad_field", "9"));
    }
}
