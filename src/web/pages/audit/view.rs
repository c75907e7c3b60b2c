//! Who did what, when, and what came of it.

use askama::Template;

use crate::locale::{Reader, filters};
use crate::view::Fragment;
use crate::view::format::Zone;
use daemon::Snapshot;
use state::{Audit, Outcome};

/// Entries of a page.
pub const ENTRIES: usize = 50;

#[derive(Debug, Template)]
#[template(path = "pages/audit/audit.html")]
struct Page {
    rows: Vec<Row>,
    from: usize,
    to: usize,
    all: usize,
    newer: Option<usize>,
    older: Option<usize>,
    zone: String,
}

#[derive(Debug)]
struct Row {
    at: String,
    who: String,
    what: String,
    subject: String,
    link: String,
    detail: String,
    refused: bool,
}

/// Where an entry leads.
fn link_of(entry: &Audit) -> String {
    match entry.what.as_str() {
        // The topic the dead letters are of.
        "replay" => format!(
            "/dead-letters/{}",
            crate::view::format::part(entry.subject.split(' ').next().unwrap_or_default())
        ),
        // A user, who has no page.
        "log in" | "change password" => String::new(),
        _ => link(&entry.subject),
    }
}

/// Where a subject leads: `day@2026-11-20/step`, `day@2026-11-20 a,b`, `day`.
fn link(subject: &str) -> String {
    let first = subject.split([' ', '/']).next().unwrap_or_default();
    if first.contains('@') {
        return first.parse::<domain::ids::RunId>().map(|id| format!("/runs/{id}")).unwrap_or_default();
    }
    first.parse::<domain::ids::DagName>().map(|name| format!("/dags/{name}")).unwrap_or_default()
}

fn row(entry: &Audit, zone: &Zone) -> Row {
    Row {
        at: zone.full(entry.at),
        who: entry.who.clone(),
        what: entry.what.clone(),
        subject: entry.subject.clone(),
        link: link_of(entry),
        detail: entry.detail.clone(),
        refused: entry.outcome != Outcome::Done,
    }
}

/// The page, without the newest `skip` entries.
pub fn page(snapshot: &Snapshot, skip: usize, reader: &Reader) -> Vec<Fragment> {
    let zone = Zone::new(&snapshot.timezone);
    let all = snapshot.audit.len();
    // Beyond the end, the last part is shown.
    let skip = skip.min(all.saturating_sub(1) / ENTRIES * ENTRIES);
    let to = (skip + ENTRIES).min(all);
    let page = Page {
        rows: snapshot.audit[skip..to].iter().map(|e| row(e, &zone)).collect(),
        from: skip + 1,
        to,
        all,
        newer: (skip > 0).then(|| skip.saturating_sub(ENTRIES)),
        older: (to < all).then_some(to),
        zone: zone.label(snapshot.now),
    };
    vec![Fragment::new("audit", &page, reader)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing;

    #[test]
    fn entries_are_paged_and_lead_to_what_they_are_about() {
        let mut snapshot = testing::snapshot();
        let entry = |n: usize| Audit {
            at: testing::at("13:00:00"),
            who: format!("user-{n}"),
            what: "cancel".into(),
            subject: "kis-trading-day@2026-11-20".into(),
            outcome: if n == 0 { Outcome::Refused } else { Outcome::Done },
            detail: if n == 0 { "refused: it has ended".into() } else { "done".into() },
        };
        assert!(
            page(&snapshot, 0, &Reader::default())[0].html.as_str().contains("Nobody gave a command yet")
        );
        snapshot.audit = std::sync::Arc::new((0..120).map(entry).collect());
        let html = page(&snapshot, 0, &Reader::default())[0].html.to_string();
        assert!(
            html.contains("user-49") && !html.contains("user-50") && html.contains("refused: it has ended"),
            "{html}"
        );
        let last = page(&snapshot, 100, &Reader::default())[0].html.to_string();
        assert!(
            last.contains("user-119") && last.contains("skip=50") && !last.contains("skip=150"),
            "{last}"
        );
        assert!(page(&snapshot, usize::MAX, &Reader::default())[0].html.as_str().contains("user-119"));
        assert_eq!(link("day@2026-11-20+manual.1/load"), "/runs/day@2026-11-20+manual.1");
        let replay = Audit { what: "replay".into(), subject: "kis.trades cause x".into(), ..entry(1) };
        assert_eq!(link_of(&replay), "/dead-letters/kis.trades");
        assert_eq!(link_of(&Audit { what: "log in".into(), subject: "ann".into(), ..entry(1) }), "");
        assert_eq!(
            (link("day"), link(""), link("<b>@x")),
            ("/dags/day".into(), String::new(), String::new())
        );
    }
}
