//! From an attempt's spec to a running step program: resolves secrets and the calendar, and gives the program
//! its deadline, so that it ends itself even if nobody is left to stop it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Context, Reporter, Secret, StepError};
use backends::Backends;
use clock::Clock;
use config::Feeds;
use domain::calendar::Calendar;
use domain::dag::{Program, SecretRef};
use domain::message::Refused;
use executor::AttemptSpec;

/// What all step programs of one process share.
#[derive(Clone)]
pub struct StepRuntime {
    /// Time.
    pub clock: Clock,
    /// Stores.
    pub backends: Backends,
    /// Where the feeds are.
    pub feeds: Feeds,
    /// The daemon's data folder (absolute).
    pub data: PathBuf,
    /// The DAG folder (absolute).
    pub dags: PathBuf,
    /// Values for secret references (`env:NAME`) that stand in for the real ones: a demo's keys.
    pub stand_ins: BTreeMap<String, Secret>,
}

impl StepRuntime {
    /// Runs the attempt's built-in program to its end.
    ///
    /// # Errors
    /// What the program fails with, a missing secret, or a step that is no built-in program.
    pub async fn run(
        self,
        spec: AttemptSpec,
        stop: CancellationToken,
        reporter: Arc<dyn Reporter>,
    ) -> Result<serde_json::Value, StepError> {
        let Program::Uses(program) = spec.step.program.clone() else {
            return Err(StepError::Failed(format!(
                "step \"{}\" runs a command, not a built-in program",
                spec.step.name
            )));
        };
        let secrets = self.secrets(&spec)?;
        let calendar = self.calendar(&spec)?;
        let deadline = spec.deadline;
        let clock = self.clock.clone();
        let context = Context {
            spec,
            clock: self.clock,
            backends: self.backends,
            feeds: self.feeds,
            calendar,
            secrets,
            data: self.data,
            dags: self.dags,
            stop: stop.clone(),
            reporter,
        };
        let mut work = std::pin::pin!(super::run(&program, context));
        if let Some(deadline) = deadline {
            tokio::select! {
                result = &mut work => return result,
                () = clock.sleep_until(deadline) => stop.cancel(),
            }
        }
        work.await
    }

    fn secrets(&self, spec: &AttemptSpec) -> Result<BTreeMap<String, Secret>, StepError> {
        spec.step
            .secrets
            .iter()
            .map(|(name, reference)| {
                let value = match self.stand_ins.get(&reference.to_string()) {
                    Some(stand_in) => stand_in.clone(),
                    None => resolve(reference).map_err(|refused| StepError::Secret {
                        step: spec.step.name.to_string(),
                        name: name.clone(),
                        reference: reference.to_string(),
                        why: refused.to_string(),
                    })?,
                };
                Ok((name.clone(), value))
            })
            .collect()
    }

    fn calendar(&self, spec: &AttemptSpec) -> Result<Option<Calendar>, StepError> {
        let Some(name) = &spec.calendar else { return Ok(None) };
        let path = self.dags.join("calendars").join(format!("{name}.csv"));
        let text = std::fs::read_to_string(&path).map_err(|e| {
            StepError::Failed(format!(
                "calendar \"{name}\": {} cannot be read: {e}; put the calendar there",
                path.display()
            ))
        })?;
        Calendar::parse(name, &text).map(Some).map_err(|faults| {
            let first = faults.first().map(ToString::to_string).unwrap_or_default();
            StepError::Failed(format!("calendar \"{name}\": {}: {first}", path.display()))
        })
    }
}

/// Reads a secret where it is referenced.
///
/// # Errors
/// Those of [`config::resolve`].
pub fn resolve(reference: &SecretRef) -> Result<Secret, Refused> {
    config::resolve(reference).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key");
        std::fs::write(&path, "s3cret\n").expect("written");
        let secret = resolve(&SecretRef::File(path.display().to_string())).expect("read");
        assert_eq!((secret.reveal(), format!("{secret:?}").as_str()), ("s3cret", "***"));
    }
}
