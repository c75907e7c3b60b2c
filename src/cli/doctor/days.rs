//! DAG files, their calendars and their secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use super::Finding;
use daemon::folder::{self, Folder};
use domain::dag::{Dag, SecretRef};
use steps::launch::resolve;

/// How far ahead a calendar must know, in days.
const AHEAD: i64 = 30;

/// Looks at a folder of DAG files.
pub(super) fn dags(dags: &Path, now: Timestamp) -> Vec<Finding> {
    let folder = match folder::read(dags, steps::programs()) {
        Ok(folder) => folder,
        Err(error) => {
            let at = dags.display();
            return vec![Finding::fail(
                "DAG files",
                format!("the DAG folder {at} cannot be read: {}", error.source),
                "name a readable folder with --dags",
            )];
        }
    };
    let mut findings = Vec::new();
    for problem in &folder.problems {
        findings.push(Finding::fail("DAG files", problem.to_string(), "correct the file"));
    }
    for file in &folder.files {
        let path = file.path.display().to_string();
        let said = |diagnostics: &[dagfile::Diagnostic]| {
            diagnostics.iter().map(|d| d.render(&path)).collect::<Vec<_>>().join("\n")
        };
        if let Err(errors) = &file.dag {
            findings.push(Finding::fail(
                "DAG files",
                said(errors),
                "correct the file; openbell dag lint shows the same",
            ));
        }
        if !file.warnings.is_empty() {
            findings.push(Finding::warn("DAG files", said(&file.warnings), ""));
        }
    }
    let enabled: Vec<&Dag> =
        folder.files.iter().filter(|f| f.enabled).filter_map(|f| f.dag.as_ref().ok()).collect();
    let names = enabled.iter().map(|d| d.name.as_str()).collect::<Vec<_>>().join(", ");
    findings.push(if enabled.is_empty() {
        Finding::warn(
            "DAG files",
            format!("none in {} starts by itself", dags.display()),
            "write one, or take one of those that are shipped in dags/",
        )
    } else {
        Finding::ok("DAG files", format!("{} enabled: {names}", enabled.len()))
    });
    findings.extend(calendars(&folder, &enabled, now));
    findings.extend(secrets(&enabled));
    findings
}

/// Whether the calendars of the enabled DAGs know the next days. Beyond its last year a calendar takes every
/// weekday for an open one.
fn calendars(folder: &Folder, enabled: &[&Dag], now: Timestamp) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let used =
        enabled.iter().filter_map(|dag| folder.calendar_of(dag)).filter(|c| seen.insert(c.name.clone()));
    used.map(|calendar| {
        let zone = jiff::tz::TimeZone::get(&calendar.timezone).unwrap_or(jiff::tz::TimeZone::UTC);
        let last_needed: Option<Date> = now.to_zoned(zone).date().checked_add(AHEAD.days()).ok();
        let known = calendar.covered().map(|(_, last)| last);
        match (known, last_needed) {
            (Some(known), Some(needed)) if known >= needed => {
                Finding::ok("calendar", format!("{} knows the days up to {known}", calendar.name))
            }
            (known, _) => {
                let up_to = known.map_or_else(|| "no day".to_owned(), |d| format!("the days up to {d} only"));
                let remedy = format!(
                    "add next year's closed days and late opens to calendars/{}.csv; until then every weekday counts as open",
                    calendar.name
                );
                Finding::fail("calendar", format!("{} knows {up_to}", calendar.name), remedy)
            }
        }
    })
    .collect()
}

/// Whether every secret of the enabled DAGs can be read. Values are never looked at further, nor shown.
fn secrets(enabled: &[&Dag]) -> Vec<Finding> {
    let mut wanted: BTreeMap<String, (&SecretRef, BTreeSet<String>)> = BTreeMap::new();
    for dag in enabled {
        for step in dag.steps() {
            for reference in step.secrets.values() {
                let users = &mut wanted
                    .entry(reference.to_string())
                    .or_insert_with(|| (reference, BTreeSet::new()))
                    .1;
                users.insert(format!("{}/{}", dag.name, step.name));
            }
        }
    }
    let finding =
        |(place, (reference, users)): (String, (&SecretRef, BTreeSet<String>))| match resolve(reference) {
            Ok(_) => Finding::ok("secrets", format!("{place} can be read")),
            Err(refused) => {
                let users = users.into_iter().collect::<Vec<_>>().join(", ");
                Finding::fail(
                    "secrets",
                    format!("{place}, needed by {users}: {}", refused.why),
                    refused.remedy.to_string(),
                )
            }
        };
    wanted.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests;
