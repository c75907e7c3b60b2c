//! The attempts that an executor watches: one map, and one way to report, for all executors.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{News, Report, Reports};
use clock::Clock;
use domain::ids::AttemptId;
use domain::run::Exit;

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It was not seen running yet.
    Starting,
    /// It runs, and that has been reported.
    Running,
    /// Its last report is out.
    Ended,
}

/// An attempt that is being watched. `D` is what its executor has to know of it.
pub(crate) struct Attempt<D> {
    pub(crate) id: AttemptId,
    pub(crate) folder: PathBuf,
    pub(crate) detail: D,
    phase: watch::Sender<Phase>,
    /// `None`: nobody listens. Held while a report is sent or its receiver changes, so that each report goes
    /// to one.
    reports: Mutex<Option<Reports>>,
}

impl<D> Attempt<D> {
    pub(crate) fn new(id: AttemptId, folder: PathBuf, detail: D, reports: Option<Reports>) -> Self {
        Self { id, folder, detail, phase: watch::Sender::new(Phase::Starting), reports: Mutex::new(reports) }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Reports news; nothing any more after the end.
    pub(crate) fn report(&self, news: News) {
        let reports = self.reports.lock();
        if self.phase() != Phase::Ended {
            self.send(reports.as_ref(), news);
        }
    }

    /// Reports that it runs, once.
    pub(crate) fn started(&self) {
        let reports = self.reports.lock();
        if self.phase() == Phase::Starting {
            self.phase.send_replace(Phase::Running);
            self.send(reports.as_ref(), News::Started);
        }
    }

    /// Makes its last report.
    fn end(&self, exit: Exit, result: Option<Value>) {
        let mut reports = self.reports.lock();
        self.phase.send_replace(Phase::Ended);
        self.send(reports.take().as_ref(), News::Exited { exit, result });
    }

    /// Sends later reports elsewhere, beginning with its start if that has been seen; false if its last
    /// report is out.
    fn redirect(&self, to: Reports) -> bool {
        let mut reports = self.reports.lock();
        match self.phase() {
            Phase::Ended => return false,
            Phase::Running => self.send(Some(&to), News::Started),
            Phase::Starting => {}
        }
        *reports = Some(to);
        true
    }

    fn send(&self, to: Option<&Reports>, news: News) {
        if to.is_some_and(|to| to.send(Report { attempt: self.id.clone(), news }).is_err()) {
            tracing::debug!(attempt = %self.id, "nobody listens to an attempt's reports");
        }
    }

    /// Waits until it stands where this holds.
    pub(crate) async fn until(&self, holds: impl Fn(Phase) -> bool) -> Phase {
        // The sender lives in self, so the wait cannot fail.
        self.phase.subscribe().wait_for(|phase| holds(*phase)).await.map_or(Phase::Ended, |phase| *phase)
    }

    /// Waits for its end; false if the clock reads `at` before that.
    pub(crate) async fn ends_by(&self, clock: &Clock, at: Timestamp) -> bool {
        tokio::select! {
            _ = self.until(|phase| phase == Phase::Ended) => true,
            () = clock.sleep_until(at) => false,
        }
    }
}

/// The attempts of one executor from their start, or from where it found them, to their last report. Dropping
/// it ends what was spawned for them, without further reports.
pub(crate) struct Attempts<D> {
    living: Living<D>,
    closed: CancellationToken,
}

type Living<D> = Arc<Mutex<HashMap<AttemptId, Arc<Attempt<D>>>>>;

impl<D> Default for Attempts<D> {
    fn default() -> Self {
        Self { living: Arc::default(), closed: CancellationToken::new() }
    }
}

impl<D: Send + Sync + 'static> Attempts<D> {
    /// The attempt, if it is being watched.
    pub(crate) fn get(&self, id: &AttemptId) -> Option<Arc<Attempt<D>>> {
        self.living.lock().get(id).cloned()
    }

    /// Adds an attempt whose reports go to `reports`. One that is being watched is given back as the error;
    /// its reports go there from now on.
    pub(crate) fn add(
        &self,
        id: &AttemptId,
        folder: PathBuf,
        detail: D,
        reports: Option<Reports>,
    ) -> Result<Arc<Attempt<D>>, Arc<Attempt<D>>> {
        // Decided under one lock, so that of two starts one adopts.
        let mut living = self.living.lock();
        if let Some(attempt) = living.get(id)
            && reports.clone().map_or(attempt.phase() != Phase::Ended, |reports| attempt.redirect(reports))
        {
            return Err(attempt.clone());
        }
        let attempt = Arc::new(Attempt::new(id.clone(), folder, detail, reports));
        living.insert(id.clone(), attempt.clone());
        Ok(attempt)
    }

    /// Takes out an attempt that was not started, and of which nothing is reported.
    pub(crate) fn remove(&self, attempt: &Arc<Attempt<D>>) {
        remove(&self.living, attempt);
    }

    /// Watches an attempt: its last report is what `work` comes to.
    pub(crate) fn watch(
        &self,
        attempt: Arc<Attempt<D>>,
        work: impl Future<Output = (Exit, Option<Value>)> + Send + 'static,
    ) {
        let living = self.living.clone();
        self.spawn(async move {
            let (exit, result) = work.await;
            attempt.end(exit, result);
            remove(&living, &attempt);
        });
    }

    /// Does something beside the executor's calls, for as long as it lives.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        tokio::spawn(async move { closed.run_until_cancelled(work).await });
    }
}

fn remove<D>(living: &Living<D>, attempt: &Arc<Attempt<D>>) {
    let mut living = living.lock();
    // A start after the end has put another in its place.
    if living.get(&attempt.id).is_some_and(|current| Arc::ptr_eq(current, attempt)) {
        living.remove(&attempt.id);
    }
}

impl<D> Drop for Attempts<D> {
    fn drop(&mut self) {
        self.closed.cancel();
        for attempt in self.living.lock().values() {
            attempt.reports.lock().take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    fn id() -> AttemptId {
        AttemptId {
            run: "day@2026-11-20".parse().expect("a run"),
            step: "load".parse().expect("a step"),
            attempt: 1,
        }
    }

    fn exited(code: i32) -> News {
        News::Exited { exit: Exit::Code(code), result: None }
    }

    #[tokio::test]
    async fn every_report_goes_to_the_last_who_asked_and_the_exit_is_the_last_one() {
        let attempts = Attempts::<()>::default();
        let add = |reports| attempts.add(&id(), PathBuf::new(), (), Some(reports));
        let ((first, mut to_first), (second, mut to_second)) =
            (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let attempt = add(first).ok().expect("new");
        attempt.started();
        attempt.started();
        assert!(add(second).is_err(), "it is watched");
        assert_eq!(to_first.recv().await.map(|r| r.news), Some(News::Started));
        assert!(to_first.recv().await.is_none(), "nobody sends there any more");
        let (end, ended) = tokio::sync::oneshot::channel();
        attempts.watch(attempt.clone(), async move { (ended.await.expect("an end"), None) });
        end.send(Exit::Code(3)).expect("watched");
        for news in [News::Started, exited(3)] {
            assert_eq!(to_second.recv().await.map(|r| r.news), Some(news));
        }
        attempt.report(News::Started);
        assert!(to_second.recv().await.is_none());
        assert_eq!(attempt.until(|phase| phase == Phase::Ended).await, Phase::Ended);
    }

    #[tokio::test]
    async fn what_has_ended_makes_room_and_does_not_take_its_successor_along() {
        let attempts = Attempts::<u32>::default();
        let add = |n| attempts.add(&id(), PathBuf::new(), n, None);
        let first = add(1).ok().expect("new");
        first.end(Exit::Code(0), None);
        let second = add(2).ok().expect("the first has ended");
        attempts.remove(&first);
        assert_eq!(attempts.get(&id()).map(|a| a.detail), Some(2));
        assert_eq!(add(3).map(|a| a.detail).map_err(|a| a.detail), Err(2));
        attempts.remove(&second);
        assert!(attempts.get(&id()).is_none());
    }

    #[tokio::test]
    async fn nothing_is_reported_of_an_executor_that_is_gone() {
        let attempts = Attempts::<()>::default();
        let (reports, mut received) = mpsc::unbounded_channel();
        let attempt = attempts.add(&id(), PathBuf::new(), (), Some(reports)).ok().expect("new");
        attempts.watch(attempt.clone(), std::future::pending());
        drop(attempts);
        attempt.started();
        assert!(received.recv().await.is_none());
    }
}
