//! What the step file says.

use std::path::Path;

use serde_json::{Map, Value};

use crate::parameters::Parameters;
use crate::{Context, StepError};
use feed::{Feed, Session, Setup, SetupError};

/// Checked parameters, and the session made from them.
pub(super) struct Plan {
    /// `collect/{feed}`.
    pub(super) program: String,
    /// Topic of the trades.
    pub(super) topic: String,
    /// Collection of the raw documents.
    pub(super) collection: String,
    /// Connects at its first tick.
    pub(super) session: Box<dyn Session>,
}

impl Plan {
    /// Reads and checks everything the step needs before anything is opened. `seed` spreads the session's waits.
    pub(super) fn read(feed: &'static dyn Feed, context: &Context, seed: u64) -> Result<Self, StepError> {
        let program = program(feed);
        let step = &context.spec.step;
        let file = |path: &str| read(&context.dags, path);
        let setup = Setup {
            with: feed::Parameters { with: &step.with, file: &file },
            secrets: context.secrets.iter().map(|(name, secret)| (name.as_str(), secret.reveal())).collect(),
            addresses: feed::addresses(feed, &context.feeds),
            speed: context.clock.speed(),
            seed,
            now: context.clock.now(),
        };
        let session = feed.session(&setup).map_err(|error| refused(&program, context, error))?;
        let with = Parameters::new(&program, &step.with);
        let (topic, collection) = (feed.default_topic(), feed.default_topic());
        let (topic, collection) = (with.text_or("topic", topic)?, with.text_or("collection", collection)?);
        Ok(Self { program, topic, collection, session })
    }
}

fn program(feed: &dyn Feed) -> String {
    format!("collect/{}", feed.name())
}

fn read(dags: &Path, path: &str) -> Result<String, String> {
    let path = dags.join(path);
    std::fs::read_to_string(&path)
        .map_err(|e| format!("{} cannot be read: {e}; the path is relative to the DAG folder", path.display()))
}

fn refused(program: &str, context: &Context, error: SetupError) -> StepError {
    match error {
        SetupError::Parameter { name, why } => StepError::Parameter { program: program.to_owned(), name, why },
        SetupError::Secret { name, why } => {
            let reference = context.spec.step.secrets.get(&name).map_or_else(|| "not given".to_owned(), ToString::to_string);
            StepError::Secret { step: context.spec.step.name.to_string(), name, reference, why }
        }
    }
}

/// The symbols a collector step asks for, as its parameters name them.
///
/// # Errors
/// When the parameter is missing or wrong, or its file cannot be read.
pub fn symbols(feed: &dyn Feed, with: &Map<String, Value>, dags: &Path) -> Result<Vec<String>, StepError> {
    feed.symbols(&feed::Parameters { with, file: &|path| read(dags, path) }).map_err(|error| {
        let (SetupError::Parameter { name, why } | SetupError::Secret { name, why }) = error;
        StepError::Parameter { program: program(feed), name, why }
    })
}
