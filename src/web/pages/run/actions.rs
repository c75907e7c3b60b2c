//! Forms of a run's page.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Redirect;

use crate::http::command::Control;
use crate::http::form::{Checked, Done};
use crate::http::query::path;
use crate::http::reply::Refusal;
use daemon::handle::Command;
use domain::ids::{RunId, StepName};
use domain::message::Message;
use domain::said;

fn step(fields: &BTreeMap<String, String>) -> Result<StepName, Refusal> {
    let name =
        fields.get("step").ok_or_else(|| Refusal::bad(said!("the form names no step"), Message::none()))?;
    Ok(name.parse::<StepName>()?)
}

async fn to_run(control: &Control, id: RunId, command: Command) -> Done {
    control.give("web", command).await?;
    Ok(Redirect::to(&format!("/runs/{id}")))
}

/// Cancels a run.
pub(crate) async fn cancel(control: Control, id: Result<Path<String>, PathRejection>, _: Checked) -> Done {
    let id: RunId = path(id)?.parse().map_err(Refusal::from)?;
    to_run(&control, id.clone(), Command::Cancel(id)).await
}

/// Clears a step.
pub(crate) async fn clear(
    control: Control,
    id: Result<Path<String>, PathRejection>,
    Checked(fields): Checked,
) -> Done {
    let id: RunId = path(id)?.parse().map_err(Refusal::from)?;
    to_run(&control, id.clone(), Command::Clear(id, vec![step(&fields)?])).await
}

/// Marks a step succeeded or failed.
pub(crate) async fn mark(
    control: Control,
    id: Result<Path<String>, PathRejection>,
    Checked(fields): Checked,
) -> Done {
    let id: RunId = path(id)?.parse().map_err(Refusal::from)?;
    let success = match fields.get("as").map(String::as_str) {
        Some("succeeded") => true,
        Some("failed") => false,
        _ => {
            return Err(Refusal::bad(
                said!("a step is marked as succeeded or as failed"),
                said!("send the field \"as\" with one of the two"),
            )
            .into());
        }
    };
    to_run(&control, id.clone(), Command::Mark(id, step(&fields)?, success)).await
}
