//! Builds snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::alerts::Raised;
use super::daemon_state::DaemonState;
use super::folder::Folder;
use super::snapshot::{AlertView, DagView, Gauges, Problem, QueuedMail, RunView, Snapshot};
use super::trends::Trends;
use super::upcoming;
use clock::Clock;
use domain::calendar::Calendar;
use domain::dag::Dag;
use domain::ids::DagName;
use domain::schedule::{Anchor, Edge, Schedule};
use state::Paused;

/// Upcoming windows shown for each DAG.
const UPCOMING: usize = 5;
/// Months shown on a DAG's calendar, the running one included.
const MONTHS: i32 = 3;

/// What a snapshot is built from, besides the daemon's state.
pub struct Parts<'a> {
    /// Time.
    pub clock: &'a Clock,
    /// When the daemon came up.
    pub up_since: Timestamp,
    /// DAGs in force, with file and next windows.
    pub dags: &'a [DagView],
    /// Broken files.
    pub problems: &'a [Problem],
    /// Store figures.
    pub gauges: &'a Gauges,
    /// Figures of the last hours.
    pub trends: &'a Arc<Trends>,
    /// Trouble of the daemon itself.
    pub notices: &'a [String],
    /// Mails not sent yet.
    pub queued: &'a [QueuedMail],
    /// Zone for showing times.
    pub timezone: &'a str,
}

/// Builds a snapshot.
pub fn snapshot(state: &DaemonState, parts: &Parts<'_>) -> Snapshot {
    let mut runs: Vec<_> = state.runs.values().collect();
    runs.sort_by_key(|r| (r.state.is_terminal(), std::cmp::Reverse(r.created_at)));
    let runs = runs
        .into_iter()
        .take(Snapshot::KEPT_RUNS)
        .map(|run| RunView {
            run: run.clone(),
            statuses: state
                .statuses
                .iter()
                .filter(|((id, _), _)| id == &run.id)
                .map(|((_, s), v)| (s.clone(), v.clone()))
                .collect(),
        })
        .collect();
    Snapshot {
        now: parts.clock.now(),
        speed: parts.clock.speed(),
        timezone: parts.timezone.to_owned(),
        up_since: parts.up_since,
        pid: std::process::id(),
        dags: parts.dags.to_vec(),
        problems: parts.problems.to_vec(),
        runs,
        alerts: state
            .book
            .raised
            .iter()
            .rev()
            .take(Snapshot::KEPT_ALERTS)
            .map(|raised| alert(raised, parts.queued))
            .collect(),
        gauges: parts.gauges.clone(),
        outbox: parts.queued.to_vec(),
        history: state.journal().history().clone(),
        audit: state.journal().audits().clone(),
        trends: Arc::clone(parts.trends),
        notices: parts.notices.to_vec(),
    }
}

fn alert(raised: &Raised, queued: &[QueuedMail]) -> AlertView {
    AlertView {
        at: raised.at,
        kind: raised.kind,
        rule: raised.rule.clone(),
        run: raised.run.clone(),
        step: raised.step.clone(),
        finding: raised.finding.clone(),
        mail: match &raised.mail {
            None => "not asked for",
            Some(key) if queued.iter().any(|m| m.key == *key) => "queued",
            Some(_) => "sent",
        },
    }
}

/// The DAGs of a folder as the page shows them.
pub fn dags(
    dags: &[(String, Dag)],
    folder: &Folder,
    paused: &BTreeMap<DagName, Paused>,
    now: Timestamp,
) -> Vec<DagView> {
    let mut views: Vec<_> = dags
        .iter()
        .map(|(file, dag)| {
            let calendar =
                dag.schedule.as_ref().and_then(|s| s.calendar.as_ref()).and_then(|c| folder.calendars.get(c));
            DagView {
                name: dag.name.to_string(),
                description: dag.description.clone(),
                owner: dag.owner.clone(),
                file: file.clone(),
                schedule: dag.schedule.as_ref().map(in_words),
                paused: paused.contains_key(&dag.name),
                next: dag
                    .schedule
                    .as_ref()
                    .map(|s| s.next_windows(now, calendar, UPCOMING).into_iter().map(|o| o.window).collect())
                    .unwrap_or_default(),
                dag: Some(Arc::new(dag.clone())),
                days: Arc::new(dag.schedule.as_ref().map(|s| months(s, calendar, now)).unwrap_or_default()),
            }
        })
        .collect();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views
}

/// The days of the running month and the next ones.
fn months(schedule: &Schedule, calendar: Option<&Calendar>, now: Timestamp) -> Vec<upcoming::PlannedDay> {
    let Ok(zone) = schedule.zone() else { return Vec::new() };
    let first = zone.to_datetime(now).date().first_of_month();
    let last = first.saturating_add(jiff::Span::new().months(MONTHS - 1)).last_of_month();
    upcoming::days(schedule, calendar, first, last)
}

fn in_words(schedule: &Schedule) -> String {
    let close = schedule.close.as_ref().map_or(String::new(), |c| format!(" → {}", edge(c)));
    let calendar = schedule.calendar.as_ref().map_or(String::new(), |c| format!(", calendar {c}"));
    format!("{}{close} {}{calendar}", edge(&schedule.open), schedule.timezone)
}

fn edge(edge: &Edge) -> String {
    match edge {
        Edge::Cron(cron) => cron.to_string(),
        Edge::Session { anchor, offset_seconds } => {
            let anchor = match anchor {
                Anchor::Open => "session.open",
                Anchor::Close => "session.close",
            };
            match offset_seconds / 60 {
                0 => anchor.to_owned(),
                minutes if minutes < 0 => format!("{anchor} - {}m", -minutes),
                minutes => format!("{anchor} + {minutes}m"),
            }
        }
    }
}
