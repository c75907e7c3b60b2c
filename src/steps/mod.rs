//! Floor 3: the built-in step programs. They know nothing of the daemon: a [`Context`] is all they get.

pub mod collect;
pub mod dead_letters;
pub mod envelope;
pub mod freshness;
mod hops;
pub mod launch;
pub mod log_search;
pub mod programs;
pub mod reconcile;
pub mod replay;
pub mod retry;
pub mod sink;
pub mod spool_tail;
pub mod spooled;
pub mod testing;
pub mod topics;
pub mod vwap;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use backends::Backends;
use clock::Clock;
use config::Feeds;
use domain::calendar::Calendar;
use domain::finding::Finding;
use executor::folder::read_stop;
use executor::{AttemptSpec, Status};
use feed::Feed;
pub use programs::{programs, run};

/// What a step program works with.
#[derive(Clone)]
pub struct Context {
    /// The attempt it is.
    pub spec: AttemptSpec,
    /// Time.
    pub clock: Clock,
    /// Stores.
    pub backends: Backends,
    /// Where the feeds are.
    pub feeds: Feeds,
    /// The schedule's calendar.
    pub calendar: Option<Calendar>,
    /// Resolved secrets, by the name the step file gives them.
    pub secrets: BTreeMap<String, Secret>,
    /// The daemon's data folder (absolute). A collector's spool is `spool/{dag}/{step}`, other durable state
    /// `steps/{dag}/{step}`.
    pub data: PathBuf,
    /// The folder DAG files are in (absolute); `file:` parameters are relative to it.
    pub dags: PathBuf,
    /// Asked to stop: finish what was begun (a sink drains to the log's end), then return.
    pub stop: CancellationToken,
    /// Where status and output go.
    pub reporter: Arc<dyn Reporter>,
}

impl Context {
    /// When a stop that begins now has to be over: a little before the step is killed, so that it can still
    /// say what is left. Whoever asked it to stop says when that is; at a deadline nobody does, and the step
    /// has its drain time and grace.
    pub fn end_of_stop(&self) -> Timestamp {
        let (now, step) = (self.clock.now(), &self.spec.step);
        let left = match read_stop(&self.spec.folder) {
            Some(order) => Duration::try_from(order.kill_at.duration_since(now)).unwrap_or_default(),
            None => step.stop_time(),
        };
        now.checked_add(left.saturating_sub(left.min(step.stop.grace).mul_f64(0.2))).unwrap_or(Timestamp::MAX)
    }
}

/// Where a step's status and output go.
pub trait Reporter: Send + Sync {
    /// Replaces the step's status.
    fn status(&self, status: Status);
    /// Appends a line to the step's output; the reporter adds the time.
    fn line(&self, line: &str);
}

/// A secret's value: never printed, never serialised.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: String) -> Self {
        Self(value)
    }
    /// The value, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Why a step failed; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A parameter is missing or wrong.
    #[error(transparent)]
    Parameter(#[from] domain::parameters::ParameterError),
    /// A secret is missing.
    #[error("secret \"{name}\" ({reference}) of step \"{step}\" cannot be read: {why}")]
    Secret {
        /// The step.
        step: String,
        /// The name under `secrets:`.
        name: String,
        /// Where it should be.
        reference: String,
        /// What happened and what to do.
        why: String,
    },
    /// A store failed for good.
    #[error(transparent)]
    Backend(#[from] backends::BackendError),
    /// The program did its work, and what it found is not as it should be.
    #[error("{what}")]
    Unmet {
        /// What is wrong.
        what: Box<Finding>,
        /// All that was found.
        result: serde_json::Value,
    },
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

impl StepError {
    /// What a step that failed so returns: the error under `error`, beside whatever was found.
    pub fn result(&self) -> serde_json::Value {
        let mut result = match self {
            Self::Unmet { result, what } => {
                let mut result = result.clone();
                result["finding"] = serde_json::json!(what);
                result
            }
            _ => serde_json::json!({}),
        };
        if let Some(fields) = result.as_object_mut() {
            fields.insert("error".to_owned(), self.to_string().into());
        }
        result
    }
}

/// The feed that a program collects.
pub fn collected(program: &str) -> Option<&'static dyn Feed> {
    feed::find(program.strip_prefix("collect/")?)
}

/// The topic of a step that names none: that of the first feed.
pub fn default_topic() -> &'static str {
    feed::FEEDS[0].default_topic()
}

/// Name of what a step keeps of a topic and gives no name itself: `{feed}-{what}`. A topic that is no feed's
/// own counts as the first one's.
pub fn default_name(topic: &str, what: &str) -> String {
    let feed = feed::FEEDS.iter().find(|feed| feed.default_topic() == topic).unwrap_or(&feed::FEEDS[0]);
    format!("{}-{what}", feed.name())
}

/// The consumer group of a step that names none: `{dag}.{step}`.
pub fn group(spec: &AttemptSpec) -> String {
    format!("{}.{}", spec.id.run.dag(), spec.id.step)
}

/// The name under which a step that reads the log is a member of its group: `{dag}.{step}.{session}`. The
/// next attempt has the same one and takes over at once; the same step of another run that lives at the same
/// time has a place of its own, and so has each of several copies.
pub fn member(spec: &AttemptSpec) -> String {
    // A session's key may hold a '+', which no member's name does.
    let name = format!("{}.{}.{}", spec.id.run.dag(), spec.id.step, spec.id.run.key().replace('+', "_"));
    if spec.replica == 0 { name } else { format!("{name}.{}", spec.replica) }
}

/// The zone of the step's schedule; UTC when its name is unknown.
pub fn zone(spec: &AttemptSpec) -> jiff::tz::TimeZone {
    jiff::tz::TimeZone::get(&spec.timezone).unwrap_or(jiff::tz::TimeZone::UTC)
}

/// The attempt's deadline has passed.
pub fn is_past(deadline: Option<Timestamp>, now: Timestamp) -> bool {
    deadline.is_some_and(|d| now >= d)
}

#[cfg(test)]
mod tests;
