//! Commands to the daemon, in the name of whoever asks.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};

use super::idempotency;
use super::reply::Refusal;
use crate::server::App;
use daemon::handle::{Answer, Command};
use daemon::idempotency::Idempotency;
use domain::said;

/// How long the daemon may take to answer a command, in real time.
const ANSWER: Duration = Duration::from_secs(30);

/// Gives a command to the daemon, in the name of whoever asks or else of the door they came through, and waits for its answer.
pub(crate) async fn give(app: &App, door: &str, command: Command) -> Result<String, Refusal> {
    give_once(app, door, command, None).await.map(|(line, _)| line)
}

/// Gives a command that may have been given before: its answer, and whether it is that of before.
pub(crate) async fn give_once(
    app: &App,
    door: &str,
    command: Command,
    once: Option<Idempotency>,
) -> Result<(String, bool), Refusal> {
    match tokio::time::timeout(ANSWER, app.handle.command_idempotent(&app.by(door), command, once)).await {
        Ok(answer) => match answer? {
            Answer::Done(line) => Ok((line, false)),
            Answer::Repeated(line) => Ok((line, true)),
            Answer::KeyTaken => Err(idempotency::taken()),
        },
        Err(_) => Err(Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            said!("the daemon did not answer in 30 s"),
            said!("look at the run; the command may still be carried out"),
        )),
    }
}

/// By what door somebody without a name comes, for the audit.
pub(crate) fn by(headers: &HeaderMap) -> &'static str {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
    if agent.is_some_and(|a| a.starts_with("openbell-cli/")) { "cli" } else { "api" }
}
