//! Attempts as tasks inside the daemon. They die with it, so nothing is ever found after a restart.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::folder::{ExitFile, Folder};
use super::{AttemptSpec, Executor, Found, News, Report, Reports, StartError, Status};
use crate::clock::Clock;
use crate::domain::dag::{ExecutorKind, StopSignal};
use crate::domain::ids::AttemptId;
use crate::domain::run::Exit;

/// Runs a step program to its end. The token asks it to stop; the sink takes its status and its output.
pub type Launch =
    Arc<dyn Fn(AttemptSpec, CancellationToken, Arc<dyn StatusSink>) -> BoxFuture<'static, Result<Value, String>> + Send + Sync>;

/// Where an embedded program's status and output go.
pub trait StatusSink: Send + Sync {
    /// Replaces its status.
    fn status(&self, status: Status);
    /// Appends a line to `output.log`, with the time.
    fn line(&self, line: &str);
}

/// An aborted task that does not come to an end within this real time is given up: it blocks its thread.
const ABORT_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Living {
    /// Asks the program to stop.
    stop: CancellationToken,
    /// Aborts it.
    kill: CancellationToken,
    /// It is over.
    over: CancellationToken,
}

/// Runs attempts inside the daemon.
pub struct Embedded {
    clock: Clock,
    launch: Launch,
    live: Arc<Mutex<HashMap<AttemptId, Living>>>,
}

impl Embedded {
    /// Runs what `launch` makes of a spec.
    pub fn new(clock: Clock, launch: Launch) -> Self {
        Self { clock, launch, live: Arc::default() }
    }

    fn living(&self, attempt: &AttemptId) -> Option<Living> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(attempt).cloned()
    }
}

/// The sink of one attempt.
struct Sink {
    attempt: AttemptId,
    clock: Clock,
    zone: jiff::tz::TimeZone,
    output: Mutex<File>,
    last: Mutex<Status>,
    reports: Reports,
}

impl Sink {
    fn send(&self, news: News) {
        if self.reports.send(Report { attempt: self.attempt.clone(), news }).is_err() {
            tracing::debug!(attempt = %self.attempt, "nobody listens to this attempt any more");
        }
    }
}

impl StatusSink for Sink {
    fn status(&self, status: Status) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != status {
            *last = status.clone();
            self.send(News::Status(status));
        }
    }

    fn line(&self, line: &str) {
        let now = self.clock.now().to_zoned(self.zone.clone());
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let text = format!("{} {line}\n", now.strftime("%Y-%m-%d %H:%M:%S%.3f"));
        if let Err(error) = output.write_all(text.as_bytes()) {
            tracing::warn!(attempt = %self.attempt, %error, line, "a line of output cannot be written");
        }
    }
}

#[async_trait]
impl Executor for Embedded {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Embedded
    }

    async fn start(&self, spec: AttemptSpec, reports: Reports) -> Result<(), StartError> {
        let folder = Folder::new(spec.folder.clone());
        let fail = |path: PathBuf, error: std::io::Error| StartError {
            attempt: spec.id.to_string(),
            reason: format!("{} cannot be written: {error}", path.display()),
            remedy: "check the data folder's disk and permissions".into(),
            infrastructure: true,
        };
        if self.living(&spec.id).is_some() {
            return Ok(());
        }
        folder.create(&spec).map_err(|e| fail(folder.file("spec.json"), e))?;
        let output = folder.output().map_err(|e| fail(folder.file("output.log"), e))?;
        let living = Living { stop: CancellationToken::new(), kill: CancellationToken::new(), over: CancellationToken::new() };
        {
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            if live.contains_key(&spec.id) {
                return Ok(());
            }
            live.insert(spec.id.clone(), living.clone());
        }
        let sink = Arc::new(Sink {
            attempt: spec.id.clone(),
            clock: self.clock.clone(),
            zone: jiff::tz::TimeZone::get(&spec.timezone).unwrap_or(jiff::tz::TimeZone::UTC),
            output: Mutex::new(output),
            last: Mutex::default(),
            reports,
        });
        sink.send(News::Started);
        let (clock, launch, live) = (self.clock.clone(), Arc::clone(&self.launch), Arc::clone(&self.live));
        tokio::spawn(async move {
            let (id, deadline, grace) = (spec.id.clone(), spec.deadline, spec.step.stop.grace);
            // The call itself may panic too, so it happens inside the task.
            let program = tokio::spawn({
                let (stop, sink) = (living.stop.clone(), Arc::clone(&sink) as Arc<dyn StatusSink>);
                async move { launch(spec, stop, sink).await }
            });
            let expire = async {
                match deadline {
                    Some(deadline) => clock.sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
                living.stop.cancel();
                clock.sleep(grace).await;
                living.kill.cancel();
                std::future::pending::<()>().await
            };
            let (exit, result) = tokio::select! {
                ended = supervise(program, &living.kill, &sink) => ended,
                () = expire => unreachable!("it waits for ever once it has killed"),
            };
            write_down(&folder, &clock, &exit, result.as_ref());
            live.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            living.over.cancel();
            sink.send(News::Exited { exit, result });
        });
        Ok(())
    }

    async fn stop(&self, attempt: &AttemptId, _signal: StopSignal, kill_after: Duration) {
        let Some(living) = self.living(attempt) else { return };
        living.stop.cancel();
        let (clock, attempt) = (self.clock.clone(), attempt.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = living.over.cancelled() => {}
                () = clock.sleep(kill_after) => {
                    tracing::warn!(%attempt, ?kill_after, "it did not stop in time and is aborted");
                    living.kill.cancel();
                }
            }
        });
    }

    async fn kill(&self, attempt: &AttemptId) {
        if let Some(living) = self.living(attempt) {
            living.kill.cancel();
        }
    }

    async fn find(&self) -> Vec<Found> {
        Vec::new()
    }

    async fn adopt(&self, attempt: &AttemptId, reports: Reports) {
        if self.living(attempt).is_none() {
            let news = News::Exited { exit: Exit::Lost("it ended with the daemon it ran in".into()), result: None };
            if reports.send(Report { attempt: attempt.clone(), news }).is_err() {
                tracing::debug!(%attempt, "nobody listens to this attempt");
            }
        }
    }

    async fn forget(&self, _attempt: &AttemptId) {}
}

/// Waits for the program and puts its end into the words of a process.
async fn supervise(
    mut program: JoinHandle<Result<Value, String>>,
    kill: &CancellationToken,
    sink: &Sink,
) -> (Exit, Option<Value>) {
    let joined = tokio::select! {
        joined = &mut program => joined,
        () = kill.cancelled() => {
            program.abort();
            match tokio::time::timeout(ABORT_LIMIT, program).await {
                Ok(joined) => joined,
                Err(_) => {
                    sink.line("killed; it blocks a thread and is left behind");
                    tracing::error!(attempt = %sink.attempt, "an aborted step blocks its thread and is left behind");
                    return (Exit::Signal(9), None);
                }
            }
        }
    };
    match joined {
        Ok(Ok(result)) => (Exit::Code(0), Some(result)),
        Ok(Err(message)) => {
            sink.line(&format!("error: {message}"));
            (Exit::Code(1), Some(json!({ "error": message })))
        }
        Err(error) if error.is_cancelled() => (Exit::Signal(9), None),
        Err(error) => {
            let message = panic_message(error);
            sink.line(&format!("panicked: {message}"));
            (Exit::Code(101), Some(json!({ "error": format!("panicked: {message}") })))
        }
    }
}

fn panic_message(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (None, Some(text)) => text.clone(),
            (None, None) => "without a message".into(),
        },
        Err(error) => error.to_string(),
    }
}

/// The same files as a process leaves, for whoever looks at the folder.
fn write_down(folder: &Folder, clock: &Clock, exit: &Exit, result: Option<&Value>) {
    let file = ExitFile { exit: exit.clone(), finished_at: clock.now(), by_deadline: false };
    let written = result.map_or(Ok(()), |result| folder.replace("result.json", result, false));
    if let Err(error) = written.and_then(|()| folder.replace("exit.json", &file, false)) {
        tracing::warn!(folder = %folder.path().display(), %error, "the end of an attempt cannot be written down; the journal has it");
    }
}
