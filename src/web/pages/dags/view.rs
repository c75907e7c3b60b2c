//! The DAGs page: what is there, when it runs next, what is broken, which runs there were.

use askama::Template;

use crate::locale::{Reader, Text, filters, say, words};
use crate::pages::today::view::problems;
use crate::view::Fragment;
use crate::view::format::Zone;
use crate::view::states::run_class;
use daemon::Snapshot;
use daemon::snapshot::DagView;
use domain::schedule::Window;

/// Runs listed under a DAG.
const RUNS: usize = 8;
/// Next windows listed under a DAG.
const WINDOWS: usize = 5;

/// The list of DAGs.
#[derive(Debug, Template)]
#[template(path = "pages/dags/dags.html")]
pub struct Dags {
    /// By name.
    pub dags: Vec<DagCard>,
    /// Hidden field of every form.
    pub csrf: String,
    /// Zone of the times.
    pub zone: String,
}

/// A DAG.
#[derive(Debug, Clone, PartialEq)]
pub struct DagCard {
    /// Name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Who to ask.
    pub owner: String,
    /// Its file.
    pub file: String,
    /// When it runs, in words.
    pub schedule: Text,
    /// Scheduled starts are blocked.
    pub paused: bool,
    /// Next windows.
    pub next: Vec<Text>,
    /// Its runs, newest first.
    pub runs: Vec<RunRow>,
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Id.
    pub id: String,
    /// Its part after the DAG's name.
    pub key: String,
    /// State in words.
    pub state: Text,
    /// Style class of the state.
    pub class: &'static str,
}

fn window(window: &Window, zone: &Zone) -> Text {
    match window.close_at {
        Some(close) => {
            Text::joined("–", vec![zone.day_minute(window.open_at), Text::plain(zone.minute(close))])
        }
        None => zone.day_minute(window.open_at),
    }
}

fn card(snapshot: &Snapshot, dag: &DagView, zone: &Zone) -> DagCard {
    let runs = snapshot.runs.iter().filter(|v| v.run.id.dag() == dag.name).take(RUNS);
    DagCard {
        name: dag.name.clone(),
        description: dag.description.clone(),
        owner: dag.owner.clone(),
        file: dag.file.clone(),
        schedule: dag.schedule.clone().map_or_else(|| say!("by hand only"), Text::plain),
        paused: dag.paused,
        next: dag.next.iter().take(WINDOWS).map(|w| window(w, zone)).collect(),
        runs: runs
            .map(|v| RunRow {
                id: v.run.id.to_string(),
                key: v.run.id.key().to_owned(),
                state: words::run_state(v.run.state),
                class: run_class(v.run.state),
            })
            .collect(),
    }
}

/// The page.
pub fn page(snapshot: &Snapshot, csrf: &str, reader: &Reader) -> Vec<Fragment> {
    let zone = Zone::new(&snapshot.timezone);
    let dags = snapshot.dags.iter().map(|d| card(snapshot, d, &zone)).collect();
    vec![
        Fragment::new("problems", &problems(snapshot), reader),
        Fragment::new("dags", &Dags { dags, csrf: csrf.to_owned(), zone: zone.label(snapshot.now) }, reader),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing;

    #[test]
    fn windows_runs_and_broken_files_are_listed() {
        let fragments = page(&testing::snapshot(), "token", &Reader::default());
        let html: String = fragments.iter().map(|f| f.html.as_str()).collect();
        for text in [
            "Mon 23 Nov 08:50–16:00",
            "kis-trading-day@2026-11-20",
            "dags/broken.yaml:7:5",
            "by hand only",
            "paused",
        ] {
            assert!(html.contains(text), "{text} is missing in {html}");
        }
    }
}
