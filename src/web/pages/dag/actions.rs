//! Forms of a DAG's page, and of the list of DAGs.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Redirect;
use jiff::tz::TimeZone;

use crate::http::command::Control;
use crate::http::form::{Checked, Done};
use crate::http::query::path;
use crate::http::reply::Refusal;
use daemon::handle::Command;
use domain::ids::DagName;
use domain::said;

/// Gives a command about a DAG and goes back to where the form stands.
async fn to_dag(
    control: &Control,
    name: &DagName,
    command: Command,
    fields: &BTreeMap<String, String>,
) -> Done {
    control.give("web", command).await?;
    let list = fields.get("back").is_some_and(|back| back == "dags");
    Ok(if list { Redirect::to("/dags") } else { Redirect::to(&format!("/dags/{name}")) })
}

/// Blocks scheduled starts of a DAG.
pub(crate) async fn pause(
    control: Control,
    name: Result<Path<String>, PathRejection>,
    Checked(fields): Checked,
) -> Done {
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    to_dag(&control, &name, Command::Pause(name.clone(), true), &fields).await
}

/// Allows them again.
pub(crate) async fn resume(
    control: Control,
    name: Result<Path<String>, PathRejection>,
    Checked(fields): Checked,
) -> Done {
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    to_dag(&control, &name, Command::Pause(name.clone(), false), &fields).await
}

/// Starts a run by hand.
pub(crate) async fn trigger(
    control: Control,
    name: Result<Path<String>, PathRejection>,
    Checked(fields): Checked,
) -> Done {
    let dag: DagName = path(name)?.parse().map_err(Refusal::from)?;
    let snapshot = control.handle.snapshot();
    let zone = snapshot
        .dag(dag.as_str())
        .and_then(|d| d.dag.as_ref()?.schedule.as_ref().map(|s| s.timezone.clone()));
    let zone = TimeZone::get(zone.as_deref().unwrap_or(&snapshot.timezone)).unwrap_or(TimeZone::UTC);
    let command = Command::Trigger {
        dag: dag.clone(),
        params: params(&fields)?,
        until: time(&fields, "until", |text| {
            // Of a local time that a clock change repeats or skips, the first is meant.
            let at = snapshot.now.to_zoned(zone.clone()).date().to_datetime(text.parse().ok()?);
            zone.to_ambiguous_timestamp(at).compatible().ok()
        })?,
        date: time(&fields, "date", |text| text.parse().ok())?,
    };
    if fields.get("back").is_some_and(|back| back == "run") {
        let run = control.give("web", command).await?;
        return Ok(Redirect::to(&format!("/runs/{run}")));
    }
    to_dag(&control, &dag, command, &fields).await
}

/// Parameters of a run: fields of their own, and lines `name=value`, which come last and win.
fn params(fields: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    let own = fields
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("param.")?.to_owned(), value.clone())));
    let mut params: BTreeMap<_, _> = own.collect();
    for line in
        fields.get("more").map_or("", String::as_str).lines().map(str::trim).filter(|line| !line.is_empty())
    {
        let (name, value) = line.split_once('=').ok_or_else(|| {
            Refusal::bad(said!("\"{}\" is not a parameter", line), said!("write name=value, one a line"))
        })?;
        params.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    Ok(params)
}

/// A date or time of a form; an empty one is none.
fn time<T>(
    fields: &BTreeMap<String, String>,
    name: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    match fields.get(name).map(|text| text.trim()).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => read(text).map(Some).ok_or_else(|| {
            Refusal::bad(
                said!("{}: \"{}\" cannot be read", name, text),
                said!("write a date as 2026-11-20 and a time as 16:00"),
            )
        }),
    }
}
