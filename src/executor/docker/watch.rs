//! One attempt's container, from its start, or from where an earlier daemon left it, to its end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::{ContainerState, ContainerStateStatusEnum, HealthStatusEnum};
use bollard::query_parameters::KillContainerOptions;
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::watch;

use super::engine::{Engine, explain, status};
use super::exits::{self, Known};
use super::output::{Broken, Carrier, Source, tail, while_it_grows};
use clock::Clock;
use domain::dag::StopSignal;
use domain::ids::AttemptId;
use domain::run::Exit;
use crate::folder::{self, Durability, ExitRecord, StopOrder};
use crate::follow::Follower;
use crate::{News, Report, Reports};

/// File name of the reason why the executor killed the program.
pub(in crate) const KILLED: &str = "killed";
/// Real time between tries at an engine that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// The same for a keeper, which has time.
const ASK_RARELY: Duration = Duration::from_secs(2);
/// Real time after which a container that was made and not started has been left by whoever made it.
const LEFT: Duration = Duration::from_secs(300);
/// Real time between looks at a health check.
const HEALTH_LOOK: Duration = Duration::from_millis(500);
/// Real time that the end of a long output gets.
const LAST_OUTPUT: Duration = Duration::from_secs(10);

/// Why it is stopped at its deadline.
pub(in crate) const PASSED: &str = "its deadline had passed";

/// How long an attempt may live, and how it is stopped then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) deadline: Option<Timestamp>,
    pub(super) signal: StopSignal,
    pub(super) stop_time: Duration,
}

/// An attempt that is being watched.
pub(in crate) struct Watched {
    pub(super) id: AttemptId,
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) engine: Arc<Engine>,
    pub(super) clock: Clock,
    ended: watch::Sender<bool>,
    reports: Mutex<Reports>,
}

/// What a container came to.
enum End {
    /// The engine says how.
    Known(Box<ContainerState>, bool),
    /// The engine has no such container.
    Gone,
}

impl Watched {
    pub(in crate) fn new(
        id: AttemptId,
        name: String,
        folder: PathBuf,
        engine: Arc<Engine>,
        clock: Clock,
        reports: Reports,
    ) -> Self {
        Self { id, name, folder, engine, clock, ended: watch::Sender::new(false), reports: Mutex::new(reports) }
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Sends later reports elsewhere.
    pub(super) fn redirect(&self, reports: Reports) {
        *self.reports.lock().unwrap_or_else(PoisonError::into_inner) = reports;
        self.report(News::Started);
    }

    fn report(&self, news: News) {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.send(Report { attempt: self.id.clone(), news }).is_err() {
            tracing::debug!(attempt = %self.id, "nobody listens to an attempt's reports");
        }
    }

    /// Watches to the end and reports on the way.
    pub(super) async fn watch(&self, limit: Option<Limit>) {
        self.report(News::Started);
        let mut follower = Follower::new(self.folder.clone());
        let mut output = std::pin::pin!(self.carry());
        let mut carried = false;
        let end = {
            let mut ended = std::pin::pin!(self.until_ended());
            let mut followed = std::pin::pin!(follower.follow(|status| self.report(News::Status(status))));
            let mut limited = std::pin::pin!(self.hold(limit));
            let mut healthy = std::pin::pin!(self.until_healthy());
            let mut is_healthy = false;
            loop {
                tokio::select! {
                    end = &mut ended => break end,
                    () = &mut output, if !carried => carried = true,
                    () = &mut healthy, if !is_healthy => {
                        is_healthy = true;
                        self.report(News::Status(crate::Status { ready: true, ..Default::default() }));
                    }
                    () = &mut followed => {}
                    () = &mut limited => {}
                }
            }
        };
        follower.look(|status| self.report(News::Status(status)));
        if !carried && while_it_grows(&self.folder, output).await.is_none() {
            tracing::warn!(attempt = %self.id, "the end of an attempt's output did not come in time");
        }
        match tokio::time::timeout(LAST_OUTPUT, self.last_lines()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(attempt = %self.id, %error, "the end of a long output could not be kept"),
            Err(_) => tracing::warn!(attempt = %self.id, "the end of a long output did not come in time"),
        }
        let exit = self.exit(end, limit.map(|l| l.signal));
        if exit == Exit::OutOfMemory {
            self.line("killed by the kernel: out of memory");
        }
        let result = folder::read_or_warn(&self.folder.join(folder::RESULT));
        let record = ExitRecord { exit: exit.clone(), finished_at: self.clock.now() };
        if let Err(error) = folder::write(&self.folder.join(folder::EXIT), &record, Durability::Synced) {
            // The container still says so, until it is removed.
            tracing::warn!(attempt = %self.id, %error, "cannot write down how an attempt ended");
        }
        self.ended.send_replace(true);
        self.report(News::Exited { exit, result });
    }

    /// It ended before it began.
    pub(super) fn not_started(&self, exit: Exit) {
        self.ended.send_replace(true);
        self.report(News::Exited { exit, result: None });
    }

    fn exit(&self, end: End, signal: Option<StopSignal>) -> Exit {
        match end {
            End::Gone => Exit::Lost("its container is gone; somebody removed it".into()),
            End::Known(state, unseen) => exit_of(&self.folder, &state, signal, unseen),
        }
    }

    /// Waits for the end of the container, through outages of the engine.
    async fn until_ended(&self) -> End {
        let mut unseen = false;
        let mut silent = false;
        loop {
            match self.engine.look(&self.name).await {
                Ok(Some(state)) if exits::has_ended(&state) => return End::Known(Box::new(state), unseen),
                Ok(Some(_)) => {
                    if std::mem::take(&mut silent) {
                        tracing::info!(attempt = %self.id, "the engine answers again");
                    }
                    unseen = !self.waited().await;
                }
                Ok(None) => return End::Gone,
                Err(error) => {
                    unseen = true;
                    if !std::mem::replace(&mut silent, true) {
                        let engine = self.engine.place();
                        tracing::warn!(attempt = %self.id, engine, error = explain(&error), "the engine does not answer; its containers are waited for");
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    /// Waits until its container has ended, or is not there.
    pub(in crate) async fn until_gone(&self) {
        let since = Instant::now();
        loop {
            match self.engine.look(&self.name).await {
                Ok(None) => return,
                Ok(Some(state)) if exits::has_ended(&state) => return,
                Ok(Some(state)) if state.status == Some(ContainerStateStatusEnum::CREATED) => {
                    if since.elapsed() >= LEFT {
                        return;
                    }
                    tokio::time::sleep(ASK_RARELY).await;
                }
                Ok(Some(_)) => {
                    if !self.waited().await {
                        tokio::time::sleep(ASK_RARELY).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(attempt = %self.id, error = explain(&error), "the engine does not answer");
                    tokio::time::sleep(ASK_RARELY).await;
                }
            }
        }
    }

    /// Waits until the engine says that the container does not run; false if it broke off.
    async fn waited(&self) -> bool {
        let Ok(client) = self.engine.client().await else { return false };
        let mut answers = std::pin::pin!(client.wait_container(&self.name, None));
        match answers.next().await {
            Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. })) => true,
            Some(Err(error)) => {
                // An answer that takes long is no fault.
                let patience = matches!(error, bollard::errors::Error::RequestTimeoutError);
                if !patience {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                patience
            }
            None => false,
        }
    }

    /// Carries its output over until there is no more.
    async fn carry(&self) {
        loop {
            let outcome = match (Carrier::open(&self.folder, Source::Container(self.name.clone())), self.engine.client().await) {
                (Ok(mut carrier), Ok(client)) => {
                    let outcome = carrier.run(client).await;
                    if let Some(notice) = carrier.notice() {
                        self.report(News::Noticed(notice));
                    }
                    outcome
                }
                (Err(error), _) => Err(Broken::File(error)),
                (_, Err(error)) => Err(Broken::Engine(error)),
            };
            match outcome {
                Ok(()) => return,
                Err(Broken::Engine(error)) if status(&error) == Some(404) => return,
                Err(error) => tracing::debug!(attempt = %self.id, %error, "an attempt's output is interrupted"),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Carries over the end of an output that was cut.
    async fn last_lines(&self) -> Result<(), Broken> {
        let mut carrier = Carrier::open(&self.folder, Source::Container(self.name.clone()))?;
        if carrier.notice().is_none() {
            return Ok(());
        }
        carrier.end(self.engine.client().await?).await
    }

    /// Waits until a health check of the image says that it can serve; for ever if there is none.
    async fn until_healthy(&self) {
        loop {
            match self.engine.look(&self.name).await {
                Ok(Some(state)) => match state.health.and_then(|h| h.status) {
                    Some(HealthStatusEnum::HEALTHY) => return,
                    Some(HealthStatusEnum::STARTING | HealthStatusEnum::UNHEALTHY) => {}
                    _ => std::future::pending().await,
                },
                Ok(None) => std::future::pending().await,
                Err(_silent) => {} // told by who waits for the end
            }
            tokio::time::sleep(HEALTH_LOOK).await;
        }
    }

    /// Stops it at its deadline; never returns.
    async fn hold(&self, limit: Option<Limit>) {
        if let Some(Limit { deadline: Some(deadline), signal, stop_time }) = limit {
            self.clock.sleep_until(deadline).await;
            match folder::read_stop(&self.folder).filter(|order| order.asked_at >= deadline) {
                // By its keeper, when no daemon was there.
                Some(order) => self.enforce(order.kill_at, PASSED).await,
                None => {
                    self.line(&format!("the attempt's deadline {deadline} has passed"));
                    self.stop(signal, stop_time, PASSED).await;
                }
            }
        }
        std::future::pending().await
    }

    /// Asks it to stop, and kills it when it has not within `kill_after` of the clock.
    pub(super) async fn stop(&self, signal: StopSignal, kill_after: Duration, why: &str) {
        let order = StopOrder::now(&self.clock, kill_after);
        self.ask(signal, &order).await;
        self.enforce(order.kill_at, why).await;
    }

    /// Asks it to stop; tries no longer than the order says.
    pub(in crate) async fn ask(&self, signal: StopSignal, order: &StopOrder) {
        order.clone().leave(self.folder.clone()).await;
        tokio::select! {
            () = self.signal(signal.name()) => {}
            () = self.clock.sleep_until(order.kill_at) => {}
        }
    }

    /// Kills it at `kill_at` if it has not ended by then.
    async fn enforce(&self, kill_at: Timestamp, why: &str) {
        tokio::select! {
            () = self.until_told() => {}
            () = self.clock.sleep_until(kill_at) => self.kill(&format!("{why}, and it did not stop in time")).await,
        }
    }

    /// Kills it.
    pub(in crate) async fn kill(&self, why: &str) {
        let marked = std::fs::write(self.folder.join(KILLED), why);
        if let Err(error) = marked {
            tracing::warn!(attempt = %self.id, %error, "cannot note that an attempt is killed; its end will look like its own");
        }
        self.line(&format!("sent SIGKILL: {why}"));
        self.signal("SIGKILL").await;
    }

    async fn until_told(&self) {
        // The sender lives in self, so the wait cannot fail.
        self.ended.subscribe().wait_for(|ended| *ended).await.map(drop).unwrap_or_default();
    }

    /// Sends a signal, however often the engine has to be asked.
    pub(in crate) async fn signal(&self, signal: &str) {
        let options = || Some(KillContainerOptions { signal: signal.to_owned() });
        loop {
            let sent = match self.engine.client().await {
                Ok(client) => client.kill_container(&self.name, options()).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(()) => return,
                // Not there, or not running: it has ended.
                Err(error) if matches!(status(&error), Some(404 | 409)) => return,
                Err(error) => {
                    tracing::debug!(attempt = %self.id, error = explain(&error), signal, "a signal could not be sent yet")
                }
            }
            if self.has_ended() {
                return;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Writes a line among its output.
    pub(in crate) fn line(&self, text: &str) {
        if let Err(error) = super::output::say(&self.folder, &self.clock, text) {
            tracing::warn!(attempt = %self.id, %error, text, "cannot write into an attempt's output");
        }
    }
}

/// How the attempt in `folder` ended, whose container the engine says has. `unseen`: the engine was away, or nobody watched.
pub(super) fn exit_of(folder: &Path, state: &ContainerState, signal: Option<StopSignal>, unseen: bool) -> Exit {
    let known = Known {
        asked: folder::read_stop(folder).and(signal).map(|signal| i64::from(signal.number())),
        killed: folder.join(KILLED).exists(),
        unseen: unseen && !folder.join(folder::RESULT).exists(),
    };
    exits::not_executed(state, &tail(folder)).unwrap_or_else(|| exits::exit_of(state, known))
}

/// The container an attempt's folder names.
pub(super) fn noted_name(folder: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(folder.join(super::executor::CONTAINER)) {
        Ok(name) => Ok(Some(name.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
