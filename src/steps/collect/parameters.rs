//! What the step file says.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::programs::TOPIC;
use crate::sink::raw::COLLECTION;
use crate::{Context, StepError};
use domain::dag::StepKind;
use domain::parameters::{ParameterError, Parameters};
use domain::program::{Fallback, Parameter, Program, Role, Shape};
use feed::{Feed, Session, Setup, SetupError};

/// Without it, a spool that is another collector's is none that this one can use.
const TAKE_OVER: Parameter = Parameter::new(
    "take_over",
    Shape::Duration,
    "how long the collector of the run before may still have the spool while this one listens already, where the runs of two days overlap",
);

/// A feed's row in the table of programs. What it is made of is kept for as long as the process lives.
pub fn program(feed: &'static dyn Feed) -> Program {
    Program {
        name: String::leak(name(feed)),
        kinds: &[StepKind::Service],
        role: Role::Source(feed.name()),
        about: feed.about(),
        parameters: parameters(feed).leak(),
        secrets: feed.secrets(),
        replicas: false,
    }
}

/// Checked parameters, and the session made from them.
pub(super) struct Plan {
    /// `collect/{feed}`.
    pub(super) program: String,
    /// Topic of the trades.
    pub(super) topic: String,
    /// Collection of the raw documents.
    pub(super) collection: String,
    /// How long another run's collector may still have the spool while this one listens already.
    pub(super) take_over: Option<Duration>,
    /// Connects at its first tick.
    pub(super) session: Box<dyn Session>,
}

impl Plan {
    /// Reads and checks everything the step needs before anything is opened. `seed` spreads the session's
    /// waits.
    pub(super) fn read(feed: &'static dyn Feed, context: &Context, seed: u64) -> Result<Self, StepError> {
        let program = name(feed);
        let step = &context.spec.step;
        let file = |path: &str| read(&context.dags, path);
        let setup = Setup {
            with: feed::Parameters::new(feed, &step.with, &file),
            secrets: context.secrets.iter().map(|(name, secret)| (name.as_str(), secret.reveal())).collect(),
            addresses: feed::addresses(feed, &context.feeds),
            speed: context.clock.speed(),
            session_date: context.spec.session_date,
            seed,
            now: context.clock.now(),
        };
        let session = feed.session(&setup).map_err(|error| refused(&program, context, error))?;
        let known = parameters(feed);
        let with = Parameters::new(&program, &known, &step.with);
        let (topic, collection) = (with.text("topic")?, with.text("collection")?);
        let take_over = with.is_given(TAKE_OVER.name).then(|| with.duration(TAKE_OVER.name)).transpose()?;
        Ok(Self { program, topic, collection, take_over, session })
    }
}

/// What the feed takes, and what the collector does.
fn parameters(feed: &dyn Feed) -> Vec<Parameter> {
    let default =
        |parameter: Parameter| Parameter { fallback: Fallback::Value(feed.default_topic()), ..parameter };
    feed.parameters().iter().copied().chain([default(TOPIC), default(COLLECTION), TAKE_OVER]).collect()
}

fn name(feed: &dyn Feed) -> String {
    format!("collect/{}", feed.name())
}

fn read(dags: &Path, path: &str) -> Result<String, String> {
    let path = dags.join(path);
    std::fs::read_to_string(&path).map_err(|e| {
        format!("{} cannot be read: {e}; the path is relative to the DAG folder", path.display())
    })
}

fn refused(program: &str, context: &Context, error: SetupError) -> StepError {
    match error {
        SetupError::Parameter { name, why } => {
            ParameterError { program: program.to_owned(), name, why }.into()
        }
        SetupError::Secret { name, why } => {
            let reference = context
                .spec
                .step
                .secrets
                .get(&name)
                .map_or_else(|| "not given".to_owned(), ToString::to_string);
            StepError::Secret { step: context.spec.step.name.to_string(), name, reference, why }
        }
    }
}

/// The symbols a collector step asks for, as its parameters name them.
///
/// # Errors
/// When the parameter is missing or wrong, or its file cannot be read.
pub fn symbols(
    feed: &dyn Feed,
    with: &Map<String, Value>,
    dags: &Path,
) -> Result<Vec<String>, ParameterError> {
    feed.symbols(&feed::Parameters::new(feed, with, &|path| read(dags, path))).map_err(|error| {
        let (SetupError::Parameter { name: parameter, why } | SetupError::Secret { name: parameter, why }) =
            error;
        ParameterError { program: name(feed), name: parameter, why }
    })
}
