//! `topics`: creates the topics a day needs, and their dead-letter topics.

use serde_json::json;

use super::dead_letters::topic_of;
use super::{Context, StepError};
use backends::{BackendError, ErrorKind};
use domain::dag::StepKind;
use domain::parameters::Parameters;
use domain::program::{Parameter, Program, Role, Shape};
use domain::retry::{Backoff, hash};
use executor::Status;

/// Its row in the table of programs.
pub const PROGRAM: Program = Program {
    name: "topics",
    kinds: &[StepKind::Task],
    role: Role::Task,
    about: "creates topics and their dead-letter topics where they are missing",
    parameters: &[
        Parameter::required("create", Shape::NAMES, "names of topics, for example [trades]"),
        Parameter::new("partitions", Shape::Count(1), "partitions of a new topic").or("3"),
    ],
    secrets: &[],
    replicas: false,
};

/// Creates every topic of `with.create` with `with.partitions` partitions, and `{topic}.dlq` with one. What
/// exists is left as it is.
///
/// # Errors
/// A wrong parameter, a topic that exists with another partition count, or a log that refuses. A log that
/// does not answer is asked again until the step is stopped or timed out.
pub async fn run(context: Context) -> Result<serde_json::Value, StepError> {
    let p = Parameters::of(&PROGRAM, &context.spec.step.with);
    let names = p.names("create")?;
    let partitions = u32::try_from(p.count("partitions")?)
        .map_err(|_| p.wrong("partitions", "it is too large; write a number below 4294967296"))?;
    let (mut created, mut existing) = (Vec::new(), Vec::new());
    for name in names {
        for (topic, count) in [(name.clone(), partitions), (topic_of(&name), 1)] {
            if create(&context, &topic, count).await? {
                context.reporter.line(&format!(
                    "created topic {topic} with {count} partition{}",
                    if count == 1 { "" } else { "s" }
                ));
                created.push(topic);
            } else {
                existing.push(topic);
            }
        }
    }
    Ok(json!({ "created": created, "existing": existing }))
}

async fn create(context: &Context, topic: &str, partitions: u32) -> Result<bool, StepError> {
    let backoff = Backoff::default();
    let mut failures = 0;
    loop {
        match context.backends.log.create_topic(topic, partitions).await {
            Ok(created) => return Ok(created),
            Err(error) if error.is_transient() && !context.stop.is_cancelled() => {
                failures += 1;
                context.reporter.status(Status {
                    ready: false,
                    degraded: Some(error.to_string()),
                    ..Status::default()
                });
                tokio::select! {
                    () = context.clock.sleep(backoff.delay(failures, hash(topic))) => {}
                    () = context.stop.cancelled() => {}
                }
            }
            Err(error) if error.kind == ErrorKind::Rejected => {
                let known = context.backends.log.topic(topic).await?;
                return Err(match known {
                    Some(known) if known.partitions.len() != partitions as usize => {
                        mismatch(topic, partitions, known.partitions.len()).into()
                    }
                    _ => error.into(),
                });
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn mismatch(topic: &str, wanted: u32, found: usize) -> BackendError {
    BackendError::new(ErrorKind::Rejected, format!("topic {topic}"), format!("exists with {found} partitions, not {wanted}"))
        .remedy(format!(
            "write partitions: {found} in the DAG file, or delete the topic (its records go with it) and run the step again"
        ))
}
