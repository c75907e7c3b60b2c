//! Commands to the daemon, in the name of whoever asks.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};

use super::caller::Caller;
use super::idempotency;
use super::reply::Refusal;
use daemon::Handle;
use daemon::handle::{Answer, Command};
use daemon::idempotency::Idempotency;
use domain::said;

/// How long the daemon may take to answer a command, in real time.
const ANSWER: Duration = Duration::from_secs(30);

/// The daemon, commanded in the name of whoever asks.
pub(crate) struct Control {
    pub(crate) handle: Handle,
    caller: Caller,
}

impl<S> FromRequestParts<S> for Control
where
    S: Sync,
    Handle: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self { handle: Handle::from_ref(state), caller: Caller::of(&parts.extensions) })
    }
}

impl Control {
    /// The name of whoever asks, for the audit; without one, the door they came through.
    pub(crate) fn by(&self, door: &str) -> String {
        self.caller.by(door)
    }

    /// Gives a command and waits for its answer.
    pub(crate) async fn give(&self, door: &str, command: Command) -> Result<String, Refusal> {
        self.give_once(door, command, None).await.map(|(line, _)| line)
    }

    /// Gives a command that may have been given before: its answer, and whether it is that of before.
    pub(crate) async fn give_once(
        &self,
        door: &str,
        command: Command,
        once: Option<Idempotency>,
    ) -> Result<(String, bool), Refusal> {
        match tokio::time::timeout(ANSWER, self.handle.command_idempotent(&self.by(door), command, once))
            .await
        {
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
}

/// By what door somebody without a name comes, for the audit.
pub(crate) fn by(headers: &HeaderMap) -> &'static str {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
    if agent.is_some_and(|a| a.starts_with("openbell-cli/")) { "cli" } else { "api" }
}
