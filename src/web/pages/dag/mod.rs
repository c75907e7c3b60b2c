//! A DAG: its steps by needs, its runs, its calendar, and its forms.

mod actions;
mod calendar;
mod graph;
mod grid;
pub(crate) mod view;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};

use crate::http::lookup::dag_of;
use crate::http::page::Frame;
use crate::http::query::{Parted, path, skip};
use crate::http::reply::{PageRefusal, Refusal};
use daemon::Handle;
use domain::ids::DagName;

pub(crate) use actions::{pause, resume, trigger};

/// A DAG.
pub(crate) async fn page(
    State(handle): State<Handle>,
    frame: Frame,
    name: Result<Path<String>, PathRejection>,
    part: Parted,
) -> Result<Response, PageRefusal> {
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    let skip = skip(part)?;
    let snapshot = handle.snapshot();
    let fragments = view::page(&snapshot, dag_of(&snapshot, &name)?, skip, frame.csrf(), &frame.reader);
    let events = (skip == 0).then(|| format!("/events?page=dag&dag={name}"));
    Ok(frame.page("dag", name.as_str(), events, fragments).into_response())
}
