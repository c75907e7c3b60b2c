//! Attempts as tasks inside the daemon.
//!
//! They die with it, so there is never anything to find or adopt. A task that is aborted ends at its next await; one that
//! computes without end cannot be killed, which is what processes are for.

use std::any::Any;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinError};
use tokio_util::sync::CancellationToken;

use super::folder::{self, Durability, Output, StopOrder};
use super::{AttemptSpec, Executor, Found, News, Report, Reports, StartError, Status};
use clock::Clock;
use domain::dag::{ExecutorKind, StopSignal};
use domain::ids::AttemptId;
use domain::run::Exit;

/// Makes the future that is an attempt. It is given its specification, a token that asks it to stop, and where its status and
/// output go; it ends with what the step returns, or with its failure.
pub type Launch =
    Arc<dyn Fn(AttemptSpec, CancellationToken, Arc<dyn StatusSink>) -> BoxFuture<'static, Result<Value, Failure>> + Send + Sync>;

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

/// Runs attempts as tokio tasks. Dropping it aborts what it runs, without further reports: it died with its daemon.
pub struct Embedded {
    clock: Clock,
    launch: Launch,
    living: Arc<Mutex<HashMap<AttemptId, Arc<Living>>>>,
}

/// The exit code of a task that panicked, as of any Rust program that does.
const PANICKED: i32 = 101;

struct Living {
    attempt: AttemptId,
    folder: PathBuf,
    /// Asks the task to stop.
    stop: CancellationToken,
    /// Cancelled once the task has ended.
    ended: CancellationToken,
    /// `None` once the last report is out.
    reports: Mutex<Option<Reports>>,
    abort: Mutex<Option<AbortHandle>>,
}

struct Sink {
    living: Arc<Living>,
    output: Arc<Output>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Living {
    fn report(&self, news: News) {
        let mut reports = lock(&self.reports);
        let last = matches!(news, News::Exited { .. });
        if let Some(to) = &*reports
            && to.send(Report { attempt: self.attempt.clone(), news }).is_err()
        {
            tracing::debug!(attempt = %self.attempt, "nobody listens to an attempt's reports");
        }
        if last {
            *reports = None;
        }
    }

    fn kill(&self) {
        if let Some(task) = &*lock(&self.abort) {
            task.abort();
        }
    }
}

impl StatusSink for Sink {
    fn status(&self, status: Status) {
        self.living.report(News::Status(status));
    }
    fn line(&self, line: &str) {
        self.output.line(line);
    }
}

impl Embedded {
    /// An executor whose attempts are the futures that `launch` makes.
    pub fn new(clock: Clock, launch: Launch) -> Self {
        Self { clock, launch, living: Arc::default() }
    }

    fn find_living(&self, attempt: &AttemptId) -> Option<Arc<Living>> {
        lock(&self.living).get(attempt).cloned()
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
        let living = Arc::new(Living {
            attempt: spec.id.clone(),
            folder: spec.folder.clone(),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
            reports: Mutex::new(Some(reports.clone())),
            abort: Mutex::new(None),
        });
        // Decided under one lock, so that of two starts one adopts.
        let adopted = {
            let mut all = lock(&self.living);
            let found = all.get(&spec.id).cloned();
            if found.is_none() {
                all.insert(spec.id.clone(), living.clone());
            }
            found
        };
        if let Some(adopted) = adopted {
            let mut current = lock(&adopted.reports);
            if current.is_some() {
                *current = Some(reports);
            }
            drop(current);
            adopted.report(News::Started);
            return Ok(());
        }
        let output = match self.prepare(&spec).await {
            Ok(output) => Arc::new(output),
            Err(error) => {
                lock(&self.living).remove(&spec.id);
                return Err(error);
            }
        };
        living.report(News::Started);
        let sink = Arc::new(Sink { living: living.clone(), output: output.clone() });
        let (launch, stop) = (self.launch.clone(), living.stop.clone());
        // The launch itself runs inside the task: its panics are the attempt's.
        let work = tokio::spawn(async move { launch(spec, stop, sink).await });
        *lock(&living.abort) = Some(work.abort_handle());
        let all = self.living.clone();
        tokio::spawn(async move {
            let (exit, result) = outcome(work.await, &output);
            lock(&all).remove(&living.attempt);
            living.ended.cancel();
            living.report(News::Exited { exit, result });
        });
        Ok(())
    }

    async fn stop(&self, attempt: &AttemptId, _signal: StopSignal, kill_after: Duration) {
        let Some(living) = self.find_living(attempt) else { return };
        let clock = self.clock.clone();
        let order = StopOrder::now(&clock, kill_after);
        tokio::spawn(async move {
            order.leave(living.folder.clone()).await;
            living.stop.cancel();
            tokio::select! {
                () = living.ended.cancelled() => {}
                () = clock.sleep(kill_after) => living.kill(),
            }
        });
    }

    async fn kill(&self, attempt: &AttemptId) {
        if let Some(living) = self.find_living(attempt) {
            living.kill();
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

impl Drop for Embedded {
    fn drop(&mut self) {
        for living in lock(&self.living).values() {
            *lock(&living.reports) = None;
            living.kill();
        }
    }
}
