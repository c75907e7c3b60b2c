//! Forms of the pages. Each carries the site's token and leads back to the page it came from.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Form;
use axum::extract::rejection::{FormRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Redirect;

use super::guard::check_token;
use super::pages::path;
use super::reply::{PageRefusal, Refusal};
use super::server::App;
use crate::daemon::handle::Command;
use crate::domain::ids::{DagName, RunId, StepName};

/// How long the daemon may take to answer a command, in real time.
const ANSWER: Duration = Duration::from_secs(30);

pub(super) type Fields = Result<Form<BTreeMap<String, String>>, FormRejection>;
type Done = Result<Redirect, PageRefusal>;

/// Fields of a form whose token is right.
pub(super) fn checked(app: &App, fields: Fields) -> Result<BTreeMap<String, String>, Refusal> {
    let Form(fields) =
        fields.map_err(|error| Refusal::new(error.status(), error.body_text().to_lowercase(), "send the form of the page"))?;
    check_token(fields.get("csrf"), &app.csrf)?;
    Ok(fields)
}

/// Gives a command to the daemon, in the name of whoever asks or else of the door they came through, and waits for its answer.
pub(super) async fn give(app: &App, door: &str, command: Command) -> Result<String, Refusal> {
    match tokio::time::timeout(ANSWER, app.handle.command(&app.by(door), command)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            "the daemon did not answer in 30 s",
            "look at the run; the command may still be carried out",
        )),
    }
}

fn step(fields: &BTreeMap<String, String>) -> Result<StepName, Refusal> {
    let name = fields.get("step").ok_or_else(|| Refusal::bad("the form names no step", ""))?;
    Ok(name.parse::<StepName>()?)
}

async fn to_run(app: &App, id: RunId, command: Command) -> Done {
    give(app, "web", command).await?;
    Ok(Redirect::to(&format!("/runs/{id}")))
}

async fn to_dags(app: &App, command: Command) -> Done {
    give(app, "web", command).await?;
    Ok(Redirect::to("/dags"))
}

/// Cancels a run.
pub(super) async fn cancel(State(app): State<App>, id: Result<Path<String>, PathRejection>, fields: Fields) -> Done {
    checked(&app, fields)?;
    let id: RunId = path(id)?.parse().map_err(Refusal::from)?;
    to_run(&app, id.clone(), Command::Cancel(id)).await
}

/// Clears a step.
pub(super) async fn clear(State(app): State<App>, id: Result<Path<String>, PathRejection>, fields: Fields) -> Done {
    let fields = checked(&app, fields)?;
    let id: RunId = path(id)?.parse().map_err(Refusal::from)?;
    to_run(&app, id.clone(), Command::Clear(id, vec![step(&fields)?])).await
}

/// Marks a step succeeded or failed.
pub(super) async fn mark(State(app): State<App>, id: Result<Path<String>, PathRejection>, fields: Fields) -> Done {
    let fields = checked(&app, fields)?;
    let id: RunId = path(id)?.parse().map_err(Refusal::from)?;
    let success = match fields.get("as").map(String::as_str) {
        Some("succeeded") => true,
        Some("failed") => false,
        _ => {
            return Err(
                Refusal::bad("a step is marked as succeeded or as failed", "send the field \"as\" with one of the two").into()
            );
        }
    };
    to_run(&app, id.clone(), Command::Mark(id, step(&fields)?, success)).await
}

/// Blocks scheduled starts of a DAG.
pub(super) async fn pause(State(app): State<App>, name: Result<Path<String>, PathRejection>, fields: Fields) -> Done {
    checked(&app, fields)?;
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    to_dags(&app, Command::Pause(name, true)).await
}

/// Allows them again.
pub(super) async fn resume(State(app): State<App>, name: Result<Path<String>, PathRejection>, fields: Fields) -> Done {
    checked(&app, fields)?;
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    to_dags(&app, Command::Pause(name, false)).await
}

/// Starts a run by hand.
pub(super) async fn trigger(State(app): State<App>, name: Result<Path<String>, PathRejection>, fields: Fields) -> Done {
    checked(&app, fields)?;
    let dag: DagName = path(name)?.parse().map_err(Refusal::from)?;
    to_dags(&app, Command::Trigger { dag, params: BTreeMap::new(), until: None, date: None }).await
}
