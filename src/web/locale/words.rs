//! Words for what the core knows by name: states, kinds, ends. Each `match` is whole, so that a new name
//! needs its word; in English a word is what `as_str` says.

use accounts::Role;
use axum::http::StatusCode;

use super::{Text, say};
use domain::dag::{AlertKind, StepKind};
use domain::run::{Exit, RunState, StepState};

/// Where a step stands.
pub fn step_state(state: StepState) -> Text {
    match state {
        StepState::Pending => say!("pending"),
        StepState::Starting => say!("starting"),
        StepState::Running => say!("running"),
        StepState::Ready => say!("ready"),
        StepState::Degraded => say!("degraded"),
        StepState::Waiting => say!("waiting"),
        StepState::Stopping => say!("stopping"),
        StepState::Succeeded => say!("succeeded"),
        StepState::Failed => say!("failed"),
        StepState::Stopped => say!("stopped"),
        StepState::Skipped => say!("skipped"),
        StepState::UpstreamFailed => say!("upstream_failed"),
    }
}

/// Where a run stands.
pub fn run_state(state: RunState) -> Text {
    match state {
        RunState::Running => say!("running"),
        RunState::Closing => say!("closing"),
        RunState::Succeeded => say!("succeeded"),
        RunState::Failed => say!("failed"),
        RunState::Cancelled => say!("cancelled"),
    }
}

/// What kind of step it is.
pub fn step_kind(kind: StepKind) -> Text {
    match kind {
        StepKind::Task => say!("task"),
        StepKind::Service => say!("service"),
        StepKind::Check => say!("check"),
        StepKind::Teardown => say!("teardown"),
    }
}

/// What an alert is about.
pub fn alert_kind(kind: AlertKind) -> Text {
    match kind {
        AlertKind::StepFailed => say!("step_failed"),
        AlertKind::RunFailed => say!("run_failed"),
        AlertKind::RunMissed => say!("run_missed"),
        AlertKind::RunFinished => say!("run_finished"),
        AlertKind::Stalled => say!("stalled"),
        AlertKind::Recovered => say!("recovered"),
        AlertKind::DeadLetters => say!("dead_letters"),
        AlertKind::DeadlineMissed => say!("deadline_missed"),
        AlertKind::TopicRemade => say!("topic_remade"),
        AlertKind::OutputCut => say!("output_cut"),
    }
}

/// What became of an alert's mail.
pub fn mail(state: &'static str) -> Text {
    match state {
        "sent" => say!("sent"),
        "queued" => say!("queued"),
        "not asked for" => say!("not asked for"),
        other => Text::plain(other),
    }
}

/// How an attempt ended. What an engine said about it stays as it was said.
pub fn exit(exit: &Exit) -> Text {
    match exit {
        Exit::Code(code) => say!("exit code {}", i64::from(*code)),
        Exit::Signal(9) => say!("killed (signal 9)"),
        Exit::Signal(signal) => say!("ended by signal {}", i64::from(*signal)),
        Exit::OutOfMemory => say!("out of memory"),
        Exit::NotStarted(why) => say!("could not be started: {}", why),
        Exit::Lost(why) => say!("lost: {}", why),
    }
}

/// [`exit`] without the reason, for a column of a table.
pub fn exit_in_brief(end: &Exit) -> Text {
    match end {
        Exit::NotStarted(_) => say!("could not be started"),
        Exit::Lost(_) => say!("lost"),
        other => exit(other),
    }
}

/// What a step says of itself, by the names of the built-in ones.
pub fn fact(name: &str) -> Text {
    match name {
        "records" => say!("records"),
        "written" => say!("written"),
        "duplicates" => say!("duplicates"),
        "dead_letters" => say!("dead letters"),
        "partitions" => say!("partitions"),
        "waiting_bytes" => say!("waiting bytes"),
        "group" => say!("group"),
        "frames" => say!("frames"),
        "malformed" => say!("malformed"),
        "gaps" => say!("gaps"),
        "gap_shares" => say!("gap shares"),
        "session" => say!("session"),
        "active" => say!("active"),
        "reconnects" => say!("reconnects"),
        "last_frame_at" => say!("last frame at"),
        "spool_seq" => say!("spool seq"),
        "log_seq" => say!("log seq"),
        "raw_seq" => say!("raw seq"),
        other => Text::plain(other.replace('_', " ")),
    }
}

/// What somebody may do.
pub(crate) fn role(role: Role) -> Text {
    match role {
        Role::Viewer => say!("viewer"),
        Role::Operator => say!("operator"),
    }
}

/// The headline of a refusal.
pub(crate) fn status(status: StatusCode) -> Text {
    match status {
        StatusCode::BAD_REQUEST => say!("Bad Request"),
        StatusCode::UNAUTHORIZED => say!("Unauthorized"),
        StatusCode::FORBIDDEN => say!("Forbidden"),
        StatusCode::NOT_FOUND => say!("Not Found"),
        StatusCode::METHOD_NOT_ALLOWED => say!("Method Not Allowed"),
        StatusCode::REQUEST_TIMEOUT => say!("Request Timeout"),
        StatusCode::CONFLICT => say!("Not done"),
        StatusCode::PAYLOAD_TOO_LARGE => say!("Payload Too Large"),
        StatusCode::MISDIRECTED_REQUEST => say!("Misdirected Request"),
        StatusCode::TOO_MANY_REQUESTS => say!("Too Many Requests"),
        StatusCode::INTERNAL_SERVER_ERROR => say!("Internal Server Error"),
        StatusCode::SERVICE_UNAVAILABLE => say!("Service Unavailable"),
        StatusCode::GATEWAY_TIMEOUT => say!("Gateway Timeout"),
        other => Text::plain(other.canonical_reason().unwrap_or("Not done")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_english_a_word_is_what_the_core_says() {
        for kind in [StepKind::Task, StepKind::Service, StepKind::Check, StepKind::Teardown] {
            assert_eq!(step_kind(kind), kind.as_str());
        }
        for state in
            [RunState::Running, RunState::Closing, RunState::Succeeded, RunState::Failed, RunState::Cancelled]
        {
            assert_eq!(run_state(state), state.as_str());
        }
        for state in [StepState::Pending, StepState::Degraded, StepState::UpstreamFailed, StepState::Stopped]
        {
            assert_eq!(step_state(state), state.as_str());
        }
        for end in
            [Exit::Code(3), Exit::Signal(9), Exit::Signal(15), Exit::OutOfMemory, Exit::Lost("gone".into())]
        {
            assert_eq!(exit(&end).to_string(), end.to_string());
            assert_eq!(exit_in_brief(&end).to_string(), end.in_brief());
        }
        let not = Exit::NotStarted("no image".into());
        assert_eq!(
            (exit(&not).to_string(), exit_in_brief(&not).to_string()),
            (not.to_string(), not.in_brief())
        );
    }
}
