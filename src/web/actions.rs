//! Forms of the pages. Each carries the site's token and leads back to the page it came from.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Form;
use axum::extract::rejection::{FormRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Redirect;
use jiff::tz::TimeZone;

use super::guard::check_token;
use super::pages::path;
use super::reply::{PageRefusal, Refusal};
use super::server::App;
use daemon::handle::{Answer, Command, Once};
use domain::ids::{DagName, RunId, StepName};

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
    give_once(app, door, command, None).await.map(|(line, _)| line)
}

/// Gives a command that may have been given before: its answer, and whether it is that of before.
pub(super) async fn give_once(app: &App, door: &str, command: Command, once: Option<Once>) -> Result<(String, bool), Refusal> {
    match tokio::time::timeout(ANSWER, app.handle.command_once(&app.by(door), command, once)).await {
        Ok(answer) => match answer? {
            Answer::Done(line) => Ok((line, false)),
            Answer::Again(line) => Ok((line, true)),
            Answer::KeyTaken => Err(super::once::taken()),
        },
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

/// Gives a command about a DAG and goes back to where the form stands.
async fn to_dag(app: &App, name: &DagName, command: Command, fields: &BTreeMap<String, String>) -> Done {
    give(app, "web", command).await?;
    let list = fields.get("back").is_some_and(|back| back == "dags");
    Ok(if list { Redirect::to("/dags") } else { Redirect::to(&format!("/dags/{name}")) })
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
    let fields = checked(&app, fields)?;
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    to_dag(&app, &name, Command::Pause(name.clone(), true), &fields).await
}

/// Allows them again.
pub(super) async fn resume(State(app): State<App>, name: Result<Path<String>, PathRejection>, fields: Fields) -> Done {
    let fields = checked(&app, fields)?;
    let name: DagName = path(name)?.parse().map_err(Refusal::from)?;
    to_dag(&app, &name, Command::Pause(name.clone(), false), &fields).await
}

/// Starts a run by hand.
pub(super) async fn trigger(State(app): State<App>, name: Result<Path<String>, PathRejection>, fields: Fields) -> Done {
    let fields = checked(&app, fields)?;
    let dag: DagName = path(name)?.parse().map_err(Refusal::from)?;
    let snapshot = app.handle.snapshot();
    let zone = snapshot.dag(dag.as_str()).and_then(|d| d.dag.as_ref()?.schedule.as_ref().map(|s| s.timezone.clone()));
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
        let run = give(&app, "web", command).await?;
        return Ok(Redirect::to(&format!("/runs/{run}")));
    }
    to_dag(&app, &dag, command, &fields).await
}

/// Parameters of a run: fields of their own, and lines `name=value`, which come last and win.
fn params(fields: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    let own = fields.iter().filter_map(|(key, value)| Some((key.strip_prefix("param.")?.to_owned(), value.clone())));
    let mut params: BTreeMap<_, _> = own.collect();
    for line in fields.get("more").map_or("", String::as_str).lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| Refusal::bad(format!("\"{line}\" is not a parameter"), "write name=value, one a line"))?;
        params.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    Ok(params)
}

/// A date or time of a form; an empty one is none.
fn time<T>(fields: &BTreeMap<String, String>, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Refusal> {
    match fields.get(name).map(|text| text.trim()).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => read(text).map(Some).ok_or_else(|| {
            Refusal::bad(format!("{name}: \"{text}\" cannot be read"), "write a date as 2026-11-20 and a time as 16:00")
        }),
    }
}

/// Queues a test mail.
pub(super) async fn test_mail(State(app): State<App>, fields: Fields) -> Done {
    checked(&app, fields)?;
    give(&app, "web", Command::TestMail(None)).await?;
    Ok(Redirect::to("/alerts"))
}
