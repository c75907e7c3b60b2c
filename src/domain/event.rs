//! Facts about a run, and the wishes that follow from them.
//!
//! The machine turns (run, event, now) into (run′, actions). Events are journaled before their actions are
//! carried out.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::dag::{AlertKind, Dag, StopSignal};
use super::ids::{AttemptId, RunId, StepName};
use super::run::{Cause, Exit};
use super::schedule::Window;

/// An event with the time it was decided on; the journal's unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Daemon's wall clock when the event was handled.
    pub at: Timestamp,
    /// What happened.
    pub event: RunEvent,
}

/// What can happen to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEvent {
    /// The run came into being. Always the first event, and only the first.
    Created(Box<Created>),
    /// Time passed. Journaled only when it changed something.
    Tick,
    /// The executor confirmed a start.
    Started {
        /// The step.
        step: StepName,
        /// Fence.
        attempt: u32,
    },
    /// A service reported ready.
    Ready {
        /// The step.
        step: StepName,
        /// Fence.
        attempt: u32,
    },
    /// A ready service reports trouble.
    Degraded {
        /// The step.
        step: StepName,
        /// Fence.
        attempt: u32,
        /// The trouble.
        reason: String,
    },
    /// An attempt ended.
    Exited {
        /// The step.
        step: StepName,
        /// Fence.
        attempt: u32,
        /// How.
        exit: Exit,
        /// What it returned.
        result: Option<serde_json::Value>,
    },
    /// Somebody wants the run to end now.
    CancelRequested {
        /// Who.
        by: String,
    },
    /// Somebody set a step's end by hand.
    Marked {
        /// The step.
        step: StepName,
        /// Succeeded or failed.
        success: bool,
        /// Who.
        by: String,
    },
    /// Somebody cleared steps: they, and what needs them, run again.
    Cleared {
        /// The steps named.
        steps: Vec<StepName>,
        /// Who.
        by: String,
    },
    /// A service that is not ready yet says that it cannot be before a time.
    Waiting {
        /// The step.
        step: StepName,
        /// Fence.
        attempt: u32,
        /// Not before this time.
        until: Timestamp,
        /// Why.
        reason: String,
    },
    /// A daemon takes the run up again: what services said meanwhile has not been heard yet.
    Resumed,
    /// A step noticed something that people should hear of, once.
    Noticed {
        /// The step.
        step: StepName,
        /// Fence.
        attempt: u32,
        /// When it noticed; tells one notice from the next.
        noticed_at: Timestamp,
        /// What kind of thing it is.
        kind: AlertKind,
        /// One line.
        text: String,
    },
}

/// Everything a run starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Created {
    /// The run's id.
    pub id: RunId,
    /// The DAG, frozen.
    pub dag: Dag,
    /// Why it exists.
    pub cause: Cause,
    /// The local date it is about.
    pub session_date: Date,
    /// From open to close.
    pub window: Window,
    /// Run parameters.
    pub params: BTreeMap<String, String>,
}

/// What the daemon is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Start this attempt (idempotent: starting what already lives adopts it).
    Start {
        /// The attempt.
        attempt: AttemptId,
        /// When it ends itself, even if nobody is left to stop it.
        deadline: Option<Timestamp>,
    },
    /// Ask this attempt to stop; kill it after `kill_after`.
    Stop {
        /// The attempt.
        attempt: AttemptId,
        /// How to ask.
        signal: StopSignal,
        /// Drain time plus grace.
        kill_after: Duration,
    },
    /// Kill this attempt now.
    Kill {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Tell people.
    Alert {
        /// Which kind.
        kind: AlertKind,
        /// The step it is about.
        step: Option<StepName>,
        /// One line.
        summary: String,
    },
    /// The run is over.
    Finished,
}
