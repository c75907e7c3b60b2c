//! The terminal view of a demo: a bar from open to close with what matters now, and a line for each thing
//! that happens.

use std::collections::BTreeMap;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::tz::TimeZone;
use tokio::sync::mpsc;

use super::pace::of;
use daemon::{Handle, Snapshot};
use domain::ids::RunId;
use domain::run::StepState;

/// Shows the day until dropped. What is `said` is shown in any case: somebody has to act on it.
pub async fn show(handle: Handle, day: RunId, topic: String, quiet: bool, mut said: mpsc::Receiver<String>) {
    let bar = if quiet {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
    } else {
        ProgressBar::no_length()
    };
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    let mut snapshots = handle.subscribe();
    let mut known = Known::default();
    loop {
        {
            let snapshot = snapshots.borrow_and_update();
            for line in known.news(&snapshot, &day) {
                if bar.is_hidden() && !quiet {
                    println!("{line}");
                } else {
                    bar.println(line);
                }
            }
            draw(&bar, &snapshot, &day, &topic);
        }
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    break;
                }
            }
            Some(words) = said.recv() => {
                if bar.is_hidden() {
                    eprintln!("{words}");
                } else {
                    bar.println(words);
                }
            }
        }
    }
    bar.finish_and_clear();
}

fn zone(snapshot: &Snapshot) -> TimeZone {
    TimeZone::get(&snapshot.timezone).unwrap_or(TimeZone::UTC)
}

fn draw(bar: &ProgressBar, snapshot: &Snapshot, day: &RunId, topic: &str) {
    bar.set_prefix(snapshot.now.to_zoned(zone(snapshot)).strftime("%H:%M:%S %Z").to_string());
    let Some(view) = of(snapshot, day) else { return };
    if let Some(close) = view.run.window.close_at {
        let length = close.duration_since(view.run.window.open_at).as_secs().max(1);
        let gone = snapshot.now.duration_since(view.run.window.open_at).as_secs().clamp(0, length);
        bar.set_length(length.unsigned_abs());
        bar.set_position(gone.unsigned_abs());
    }
    let count = |name: &str| snapshot.gauges.topics.get(name).copied().unwrap_or(0);
    let lag: u64 = snapshot.gauges.group_lag.values().copied().max().unwrap_or(0);
    let dead: u64 = snapshot.gauges.dead_letters.values().sum();
    bar.set_message(format!(
        "{} trades, lag {lag}, {dead} dead letters, {}",
        count(topic),
        view.run.state.as_str()
    ));
}

/// What was shown before.
#[derive(Default)]
struct Known {
    steps: BTreeMap<String, (StepState, u32)>,
    alerts: usize,
}

impl Known {
    fn news(&mut self, snapshot: &Snapshot, day: &RunId) -> Vec<String> {
        let zone = zone(snapshot);
        let clock = |t: jiff::Timestamp| t.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string();
        let mut lines = Vec::new();
        if let Some(view) = of(snapshot, day) {
            for step in view.run.dag.steps() {
                let Some(now) = view.run.steps.get(&step.name) else { continue };
                let before = self.steps.insert(step.name.to_string(), (now.state, now.attempt));
                let quiet_kind = step.kind == domain::dag::StepKind::Check;
                if quiet_kind || before == Some((now.state, now.attempt)) || now.state == StepState::Pending {
                    continue;
                }
                let reason = now.reason.as_deref().map_or(String::new(), |r| format!(" ({r})"));
                lines.push(format!("{} {:<14} {}{reason}", clock(now.since), step.name, now.state.as_str()));
            }
        }
        let fresh = snapshot.alerts.len().saturating_sub(self.alerts);
        for alert in snapshot.alerts.iter().take(fresh).rev() {
            // Only what the DAG asks for becomes a mail.
            let door = if alert.mail == "not asked for" { "note" } else { "mail" };
            lines.push(format!("{} {door}: {} {}", clock(alert.at), alert.kind.as_str(), alert.finding));
        }
        self.alerts = snapshot.alerts.len();
        lines
    }
}
