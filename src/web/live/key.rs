//! What a live page depends on, besides the snapshot.

use crate::pages::{dag_of, find};
use crate::reader::Reader;
use crate::view::alerts::Wanted;
use crate::view::{self, Fragment};
use daemon::Snapshot;
use domain::ids::{DagName, RunId};

/// Stands in forms of live parts where the token of a session belongs. The script puts that of its own page there.
const OF_THE_PAGE: &str = "of-the-page";

/// A page that can be watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Watched {
    /// Today.
    Today,
    /// All DAGs.
    Dags,
    /// A run.
    Run(RunId),
    /// A DAG.
    Dag(DagName),
    /// Alerts, all or some.
    Alerts(Wanted),
    /// Who did what.
    Audit,
}

/// What a live page depends on, besides the snapshot: whoever has the same key sees the same. Nothing of a single viewer may be in it, nor in
/// what is drawn for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The page.
    pub(crate) watched: Watched,
    /// The viewer may act: the page has its forms.
    pub(crate) acts: bool,
    /// The language of the page, and the path it is below.
    pub(crate) reader: Reader,
}

impl Key {
    /// The page's parts; `None` once it is about nothing any more.
    pub(super) fn draw(&self, snapshot: &Snapshot) -> Option<Vec<Fragment>> {
        let (csrf, reader) = (if self.acts { OF_THE_PAGE } else { "" }, &self.reader);
        Some(match &self.watched {
            Watched::Today => view::today::page(snapshot, reader),
            Watched::Dags => view::dags::page(snapshot, csrf, reader),
            Watched::Dag(name) => view::dag::page(snapshot, dag_of(snapshot, name).ok()?, 0, csrf, reader),
            Watched::Alerts(wanted) => view::alerts::page(snapshot, wanted, csrf, reader),
            Watched::Audit => view::audit::page(snapshot, 0, reader),
            Watched::Run(id) => view::run::page(snapshot, find(snapshot, id).ok()?, csrf, reader),
        })
    }
}
