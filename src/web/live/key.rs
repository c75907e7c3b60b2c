//! What a live page depends on, besides the snapshot.

use crate::http::lookup::Wanted;
use crate::locale::Reader;
use crate::view::Fragment;
use daemon::Snapshot;
use domain::ids::{DagName, RunId};

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

/// What a live page depends on, besides the snapshot: whoever has the same key sees the same. Nothing of a
/// single viewer may be in it, nor in what is drawn for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The page.
    pub(crate) watched: Watched,
    /// The viewer may act: the page has its forms.
    pub(crate) acts: bool,
    /// The language of the page, and the path it is below.
    pub(crate) reader: Reader,
}

/// Draws the parts of a page; `None` once it is about nothing any more. Given by those who know the pages.
pub(crate) type Draw = fn(&Key, &Snapshot) -> Option<Vec<Fragment>>;
