//! Style classes and signs of states and alerts.

use domain::dag::AlertKind;
use domain::run::{RunState, StepState};

/// The page's style class of a step state.
pub fn state_class(state: StepState) -> &'static str {
    match state {
        StepState::Pending | StepState::Skipped => "quiet",
        StepState::Starting | StepState::Running | StepState::Waiting => "busy",
        StepState::Ready | StepState::Succeeded => "good",
        StepState::Stopping | StepState::Stopped => "over",
        StepState::Degraded => "warn",
        StepState::Failed | StepState::UpstreamFailed => "bad",
    }
}

/// The page's style class of a run state.
pub fn run_class(state: RunState) -> &'static str {
    match state {
        RunState::Running => "good",
        RunState::Closing => "busy",
        RunState::Succeeded => "over",
        RunState::Failed => "bad",
        RunState::Cancelled => "warn",
    }
}

/// The sign of a step's state; no two states share one.
pub fn glyph(state: StepState) -> &'static str {
    match state {
        StepState::Pending => "·",
        StepState::Starting => "▹",
        StepState::Running => "▸",
        StepState::Ready => "●",
        StepState::Degraded => "!",
        StepState::Waiting => "…",
        StepState::Stopping => "▾",
        StepState::Succeeded => "✓",
        StepState::Failed => "✕",
        StepState::Stopped => "■",
        StepState::Skipped => "–",
        StepState::UpstreamFailed => "↑",
    }
}

/// The sign of a run's state.
pub fn run_glyph(state: RunState) -> &'static str {
    match state {
        RunState::Running => "▸",
        RunState::Closing => "▾",
        RunState::Succeeded => "✓",
        RunState::Failed => "✕",
        RunState::Cancelled => "–",
    }
}

pub(crate) fn alert_class(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::Recovered => "good",
        // Well or not: its text says.
        AlertKind::RunFinished => "over",
        AlertKind::DeadLetters
        | AlertKind::DeadlineMissed
        | AlertKind::RunMissed
        | AlertKind::TopicRemade
        | AlertKind::OutputCut => "warn",
        AlertKind::Stalled | AlertKind::StepFailed | AlertKind::RunFailed => "bad",
    }
}
