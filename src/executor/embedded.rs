//! Attempts as tasks inside the daemon.
//!
//! They die with it, so there is never anything to find or adopt. A task that is aborted ends at its next
//! await; one that computes without end cannot be killed, which is what processes are for.

use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::attempts::{Attempt, Attempts};
use super::folder::{self, Durability, Output, StopOrder};
use super::{AttemptSpec, Executor, Found, News, Reports, StartError, Status};
use clock::Clock;
use domain::dag::{ExecutorKind, StopSignal};
use domain::ids::AttemptId;
use domain::run::Exit;

/// Makes the future that is an attempt. It is given its specification, a token that asks it to stop, and
/// where its status and output go; it ends with what the step returns, or with its failure.
pub type Launch = Arc<
    dyn Fn(AttemptSpec, CancellationToken, Arc<dyn StatusSink>) -> BoxFuture<'static, Result<Value, Failure>>
        + Send
        + Sync,
>;

/// How a step failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The error, in words.
    pub text: String,
    /// What the step returns all the same.
    pub result: Value,
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { result: json!({ "error": text }), text }
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Where an embedded attempt's status and output go.
pub trait StatusSink: Send + Sync {
    /// Replaces the attempt's status.
    fn status(&self, status: Status);
    /// Appends a line to the attempt's output.
    fn line(&self, line: &str);
}

/// Runs attempts as tokio tasks. Dropping it aborts what it runs, without further reports: it died with its
/// daemon.
pub struct Embedded {
    clock: Clock,
    launch: Launch,
    attempts: Attempts<Task>,
}

/// The exit code of a task that panicked, as of any Rust program that does.
const PANICKED: i32 = 101;

/// The task that an attempt is.
#[derive(Default)]
struct Task {
    /// Asks it to stop.
    stop: CancellationToken,
    /// Set once it was spawned.
    abort: OnceLock<AbortHandle>,
}

impl Task {
    fn kill(&self) {
        if let Some(task) = self.abort.get() {
            task.abort();
        }
    }
}

struct Sink {
    attempt: Arc<Attempt<Task>>,
    output: Arc<Output>,
}

impl StatusSink for Sink {
    fn status(&self, status: Status) {
        self.attempt.report(News::Status(status));
    }
    fn line(&self, line: &str) {
        self.output.line(line);
    }
}

impl Embedded {
    /// An executor whose attempts are the futures that `launch` makes.
    pub fn new(clock: Clock, launch: Launch) -> Self {
        Self { clock, launch, attempts: Attempts::default() }
    }

    async fn prepare(&self, spec: &AttemptSpec) -> Result<Output, StartError> {
        let (copy, clock) = (spec.clone(), self.clock.clone());
        let written = tokio::task::spawn_blocking(move || {
            let output = Output::open(&copy.folder, clock)?;
            folder::write(&copy.folder.join(folder::SPEC), &copy, Durability::Volatile)?;
            Ok::<_, std::io::Error>(output)
        });
        let failed = |error: std::io::Error| StartError {
            attempt: spec.id.to_string(),
            reason: format!("its folder {} cannot be written: {error}", spec.folder.display()),
            remedy: "check the disk's free space and the folder's permissions".into(),
            infrastructure: true,
        };
        written.await.map_err(std::io::Error::other).flatten().map_err(failed)
    }
}

/// What the end of a task means.
fn outcome(ended: Result<Result<Value, Failure>, JoinError>, output: &Output) -> (Exit, Option<Value>) {
    let text = match ended {
        Ok(Ok(value)) => return (Exit::Code(0), Some(value)),
        Ok(Err(failure)) => {
            output.line(&format!("error: {}", failure.text));
            return (Exit::Code(1), Some(failure.result));
        }
        Err(error) if error.is_cancelled() => return (Exit::Signal(9), None),
        Err(error) => format!("panicked: {}", panic_text(&*error.into_panic())),
    };
    output.line(&text);
    (Exit::Code(PANICKED), Some(json!({ "error": text })))
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[async_trait]
impl Executor for Embedded {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Embedded
    }

    async fn start(&self, spec: AttemptSpec, reports: Reports) -> Result<(), StartError> {
        let Ok(attempt) = self.attempts.add(&spec.id, spec.folder.clone(), Task::default(), Some(reports))
        else {
            return Ok(());
        };
        let output = match self.prepare(&spec).await {
            Ok(output) => Arc::new(output),
            Err(error) => {
                self.attempts.remove(&attempt);
                return Err(error);
            }
        };
        attempt.started();
        let sink = Arc::new(Sink { attempt: attempt.clone(), output: output.clone() });
        let (launch, stop) = (self.launch.clone(), attempt.detail.stop.clone());
        // The launch itself runs inside the task: its panics are the attempt's.
        let work = AbortOnDropHandle::new(tokio::spawn(async move { launch(spec, stop, sink).await }));
        attempt.detail.abort.get_or_init(|| work.abort_handle());
        self.attempts.watch(attempt, async move { outcome(work.await, &output) });
        Ok(())
    }

    async fn stop(&self, attempt: &AttemptId, _signal: StopSignal, kill_after: Duration) {
        let Some(attempt) = self.attempts.get(attempt) else { return };
        let clock = self.clock.clone();
        let order = StopOrder::now(&clock, kill_after);
        self.attempts.spawn(async move {
            order.leave(&attempt.folder).await;
            attempt.detail.stop.cancel();
            if !attempt.ends_by(&clock, order.kill_at).await {
                attempt.detail.kill();
            }
        });
    }

    async fn kill(&self, attempt: &AttemptId) {
        if let Some(attempt) = self.attempts.get(attempt) {
            attempt.detail.kill();
        }
    }

    async fn find(&self) -> Vec<Found> {
        Vec::new()
    }

    async fn adopt(&self, attempt: &AttemptId, _reports: Reports) {
        tracing::warn!(%attempt, "an embedded attempt cannot be adopted: it died with its daemon");
    }

    async fn forget(&self, _attempt: &AttemptId) {
        // Nothing is kept of an ended attempt.
    }
}
