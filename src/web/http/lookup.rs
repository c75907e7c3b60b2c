//! What a request is about, looked up in a snapshot; or that there is no such thing.

use axum::http::StatusCode;

use super::reply::Refusal;
use daemon::snapshot::{DagView, RunView};
use daemon::{Handle, Snapshot};
use domain::dag::AlertKind;
use domain::ids::{DagName, RunId};
use domain::message::Message;
use domain::said;

/// A DAG of a snapshot.
pub(crate) fn dag_of<'a>(snapshot: &'a Snapshot, name: &DagName) -> Result<&'a DagView, Refusal> {
    snapshot.dag(name.as_str()).ok_or_else(|| {
        Refusal::missing(
            said!("there is no DAG {}", name),
            said!("the DAGs page lists those there are, and files that do not work"),
        )
    })
}

/// A run as the daemon holds it, or as the journal keeps it.
pub(crate) async fn held(handle: &Handle, id: &RunId) -> Result<RunView, Refusal> {
    match handle.run(id).await {
        Ok(Some(view)) => Ok(view),
        Ok(None) => Err(Refusal::missing(
            said!("there is no run {}", id),
            said!("the pages of the DAGs list the runs that are kept"),
        )),
        Err(error) => {
            tracing::error!(%error, run.id = %id, "a run cannot be read from the journal");
            Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Message::foreign(error.to_string()),
                said!("look at the journal's disk"),
            ))
        }
    }
}

/// A run of a snapshot.
pub(crate) fn find<'a>(snapshot: &'a Snapshot, id: &RunId) -> Result<&'a RunView, Refusal> {
    let found = snapshot.runs.iter().find(|v| v.run.id == *id);
    found.ok_or_else(|| {
        Refusal::missing(
            said!("there is no run {} among the newest {}", id, Snapshot::KEPT_RUNS.to_string()),
            said!("the DAGs page lists the runs there are"),
        )
    })
}

/// Kinds in the order of the choice.
pub(crate) const KINDS: [AlertKind; 10] = [
    AlertKind::Stalled,
    AlertKind::Recovered,
    AlertKind::StepFailed,
    AlertKind::RunFailed,
    AlertKind::RunMissed,
    AlertKind::RunFinished,
    AlertKind::DeadLetters,
    AlertKind::DeadlineMissed,
    AlertKind::TopicRemade,
    AlertKind::OutputCut,
];

/// Which alerts are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    /// Of this kind; `None`: of all.
    pub(crate) kind: Option<AlertKind>,
    /// Of this DAG; empty: of all.
    pub(crate) dag: String,
}

impl Wanted {
    /// What a query asks for; an empty word asks for all.
    ///
    /// # Errors
    /// The kinds there are, when it names another.
    pub(crate) fn of(kind: &str, dag: &str) -> Result<Self, String> {
        let dag = dag.trim().to_owned();
        if kind.is_empty() {
            return Ok(Self { kind: None, dag });
        }
        match KINDS.into_iter().find(|k| k.as_str() == kind) {
            Some(kind) => Ok(Self { kind: Some(kind), dag }),
            None => Err(KINDS.map(AlertKind::as_str).join(", ")),
        }
    }

    /// Whether an alert is wanted.
    pub(crate) fn takes(&self, alert: &daemon::snapshot::AlertView) -> bool {
        self.kind.is_none_or(|kind| alert.kind == kind)
            && (self.dag.is_empty() || alert.run.dag() == self.dag)
    }
}

/// What alerts a query wants.
pub(crate) fn wanted(kind: &str, dag: &str) -> Result<Wanted, Refusal> {
    Wanted::of(kind, dag).map_err(|kinds| {
        Refusal::bad(said!("there is no kind of alert \"{}\"", kind), said!("there are {}", kinds))
    })
}
