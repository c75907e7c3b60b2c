//! The life of one attempt in a container or a service, from its start, or from where an earlier daemon left
//! it, to its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::engine::{ASK_AGAIN, Engine};
use super::output::{self, CopyError, Part, Source};
use super::replicas;
use crate::attempts::{Attempt, Phase};
use crate::folder::{self, Durability, ExitRecord, StopOrder};
use crate::follow::Follower;
use crate::{AttemptSpec, News, Status};
use clock::Clock;
use domain::dag::{Program, StopSignal};
use domain::run::Exit;

/// Why it is stopped at its deadline.
pub(crate) const PASSED: &str = "its deadline had passed";

/// How long an attempt may live, how it is stopped then, and what it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) signal: StopSignal,
    pub(crate) stop_time: Duration,
    pub(crate) replicas: u32,
    /// A built-in program, which reads its folder.
    pub(crate) built_in: bool,
}

impl Terms {
    pub(crate) fn of(spec: &AttemptSpec) -> Self {
        Self {
            deadline: spec.deadline,
            signal: spec.step.stop.signal,
            stop_time: spec.step.stop_time(),
            replicas: spec.step.replicas.max(1),
            built_in: matches!(spec.step.program, Program::Uses(_)),
        }
    }
}

/// What an attempt runs in.
pub(crate) struct Contained<W> {
    pub(crate) name: String,
    pub(crate) terms: Terms,
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Clock,
    pub(crate) workload: W,
}

/// A container or a service: what each does in its own way.
pub(crate) trait Workload: Sized + Send + Sync + 'static {
    /// What its end is known by.
    type End: Send;
    /// The file in the attempt's folder that holds its name.
    const NAME_FILE: &'static str;
    /// What is written into the output when it is killed.
    const KILLED_LINE: &'static str;
    /// What is asked to stop is killed after its grace without openbell.
    const KILLS_BY_ITSELF: bool;

    /// Where the engine has its output.
    fn source(name: String) -> Source;

    /// Waits for its end, through outages of the engine, and says when it runs.
    fn until_ended(attempt: &Attempt<Contained<Self>>) -> impl Future<Output = Self::End> + Send;

    /// Whether somebody still has its output after this end.
    fn has_output(end: &Self::End) -> bool;

    /// What this end is called. All of the output is here then.
    fn exit(attempt: &Attempt<Contained<Self>>, end: Self::End) -> impl Future<Output = Exit> + Send;

    /// What it says of itself now.
    fn status(attempt: &Attempt<Contained<Self>>) -> Option<Status>;

    /// Asks it to stop; the order is in its folder.
    fn ask(
        attempt: &Attempt<Contained<Self>>,
        signal: StopSignal,
        order: &StopOrder,
    ) -> impl Future<Output = ()> + Send;

    /// Kills it, however often the engine has to be asked.
    fn kill(attempt: &Attempt<Contained<Self>>) -> impl Future<Output = ()> + Send;

    /// Waits, without haste, until the engine has it no longer.
    fn until_gone(attempt: &Attempt<Contained<Self>>) -> impl Future<Output = ()> + Send;
}

impl<W: Workload> Attempt<Contained<W>> {
    /// Watches to the end and reports on the way: how it ended, and what it returned.
    pub(super) async fn watch(&self) -> (Exit, Option<Value>) {
        let mut follower = Follower::default();
        let read = || W::status(self);
        let tell = |status| self.report(News::Status(status));
        let end = tokio::select! {
            biased;
            end = W::until_ended(self) => end,
            never = self.copy_output() => match never {},
            never = follower.follow(read, tell) => match never {},
            never = self.hold_deadline() => match never {},
        };
        follower.check(read(), tell);
        if W::has_output(&end) && output::while_it_grows(&self.folder, self.copy_rest()).await.is_none() {
            tracing::warn!(attempt = %self.id, "the end of an attempt's output did not come in time");
        }
        let exit = W::exit(self, end).await;
        if exit == Exit::OutOfMemory {
            self.line("killed by the kernel: out of memory");
        }
        let result = replicas::result(&self.folder, self.detail.terms.replicas);
        let record = ExitRecord { exit: exit.clone(), finished_at: self.detail.clock.now() };
        if let Err(error) = folder::write(&self.folder.join(folder::EXIT), &record, Durability::Synced) {
            // The engine still says so, until it is removed there.
            tracing::warn!(attempt = %self.id, %error, "cannot write down how an attempt ended");
        }
        (exit, result)
    }

    /// Copies its output while it runs; never ends.
    async fn copy_output(&self) -> Infallible {
        let mut told = None;
        loop {
            match self.copy(Part::Live).await {
                Ok(notice) if notice != told => {
                    notice.clone().into_iter().for_each(|notice| self.report(News::Noticed(notice)));
                    told = notice;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(attempt = %self.id, %error, "an attempt's output is interrupted")
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Copies what is left of its output.
    async fn copy_rest(&self) {
        loop {
            match self.copy(Part::Rest).await {
                Ok(notice) => {
                    return notice.into_iter().for_each(|notice| self.report(News::Noticed(notice)));
                }
                Err(error) => {
                    tracing::debug!(attempt = %self.id, %error, "the end of an attempt's output is missing");
                    if error.is_final() {
                        return;
                    }
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn copy(&self, part: Part) -> Result<Option<crate::Notice>, CopyError> {
        output::copy(&self.detail.engine, &self.folder, W::source(self.detail.name.clone()), part).await
    }

    /// Stops it at its deadline; never returns.
    async fn hold_deadline(&self) -> Infallible {
        let Terms { deadline, signal, stop_time, .. } = self.detail.terms;
        if let Some(deadline) = deadline {
            self.detail.clock.sleep_until(deadline).await;
            match folder::read_stop(&self.folder).filter(|order| order.asked_at >= deadline) {
                // By its keeper, when no daemon was there.
                Some(order) => self.enforce(&order, PASSED).await,
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
        let order = StopOrder::now(&self.detail.clock, kill_after);
        self.ask(signal, &order).await;
        self.enforce(&order, why).await;
    }

    /// Asks it to stop.
    pub(crate) async fn ask(&self, signal: StopSignal, order: &StopOrder) {
        order.leave(&self.folder).await;
        W::ask(self, signal, order).await;
    }

    /// Kills it if it has not ended when the order says so.
    async fn enforce(&self, order: &StopOrder, why: &str) {
        if !self.ends_by(&self.detail.clock, order.kill_at).await {
            self.kill(&format!("{why}, and it did not stop in time")).await;
        }
    }

    /// Kills it, and says why.
    pub(crate) async fn kill(&self, why: &str) {
        if let Err(error) = std::fs::write(self.folder.join(folder::KILLED), why) {
            tracing::warn!(attempt = %self.id, %error, "cannot note that an attempt is killed; its end will look like its own");
        }
        self.line(&format!("{}: {why}", W::KILLED_LINE));
        W::kill(self).await;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.phase() == Phase::Ended
    }

    /// Writes a line among its output.
    pub(crate) fn line(&self, text: &str) {
        if let Err(error) = output::append(&self.folder, &self.detail.clock, text) {
            tracing::warn!(attempt = %self.id, %error, text, "cannot write into an attempt's output");
        }
    }
}
