<<<<<<< HEAD
//! Attempts as tasks inside the daemon.
//!
//! They die with it, so there is never anything to find or adopt. A task that is aborted ends at its next await; one that
//! computes without end cannot be killed, which is what processes are for.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
=======
//! Attempts as tasks inside the daemon. They die with it, so nothing is ever found after a restart.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
>>>>>>> w-engine
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
<<<<<<< HEAD
use tokio::task::{AbortHandle, JoinError};
use tokio_util::sync::CancellationToken;

use super::folder::{self, Durability, Output};
=======
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::folder::{ExitFile, Folder};
>>>>>>> w-engine
use super::{AttemptSpec, Executor, Found, News, Report, Reports, StartError, Status};
use crate::clock::Clock;
use crate::domain::dag::{ExecutorKind, StopSignal};
use crate::domain::ids::AttemptId;
use crate::domain::run::Exit;

<<<<<<< HEAD
/// Makes the future that is an attempt. It is given its specification, a token that asks it to stop, and where its status and
/// output go; it ends with what the step returns, or with the text of its error.
pub type Launch =
    Arc<dyn Fn(AttemptSpec, CancellationToken, Arc<dyn StatusSink>) -> BoxFuture<'static, Result<Value, String>> + Send + Sync>;

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
=======
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
>>>>>>> w-engine
        }
    }
}

impl StatusSink for Sink {
    fn status(&self, status: Status) {
<<<<<<< HEAD
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
fn outcome(ended: Result<Result<Value, String>, JoinError>, output: &Output) -> (Exit, Option<Value>) {
    let text = match ended {
        Ok(Ok(value)) => return (Exit::Code(0), Some(value)),
        Ok(Err(text)) => {
            output.line(&format!("error: {text}"));
            return (Exit::Code(1), Some(json!({ "error": text })));
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
=======
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
>>>>>>> w-engine
}

#[async_trait]
impl Executor for Embedded {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Embedded
    }

    async fn start(&self, spec: AttemptSpec, reports: Reports) -> Result<(), StartError> {
<<<<<<< HEAD
        let living = Arc::new(Living {
            attempt: spec.id.clone(),
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
=======
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
>>>>>>> w-engine
        });
        Ok(())
    }

    async fn stop(&self, attempt: &AttemptId, _signal: StopSignal, kill_after: Duration) {
<<<<<<< HEAD
        let Some(living) = self.find_living(attempt) else { return };
        living.stop.cancel();
        let clock = self.clock.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = living.ended.cancelled() => {}
                () = clock.sleep(kill_after) => living.kill(),
=======
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
>>>>>>> w-engine
            }
        });
    }

    async fn kill(&self, attempt: &AttemptId) {
<<<<<<< HEAD
        if let Some(living) = self.find_living(attempt) {
            living.kill();
=======
        if let Some(living) = self.living(attempt) {
            living.kill.cancel();
>>>>>>> w-engine
        }
    }

    async fn find(&self) -> Vec<Found> {
        Vec::new()
    }

<<<<<<< HEAD
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
=======
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
>>>>>>> w-engine
