//! An executor that runs nothing: it writes down what it is asked, and a test (or a simulation) plays the
//! part of the programs through its [`Script`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::{AttemptSpec, Executor, Found, News, Report, Reports, StartError, Status};
use domain::dag::{ExecutorKind, StopSignal};
use domain::ids::AttemptId;
use domain::run::Exit;

/// What the executor was asked to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// `start`
    Start(Box<AttemptSpec>),
    /// `stop`
    Stop {
        /// Which attempt.
        attempt: AttemptId,
        /// How to ask.
        signal: StopSignal,
        /// Time until the kill.
        kill_after: Duration,
    },
    /// `kill`
    Kill(AttemptId),
    /// `find`
    Find,
    /// `adopt`
    Adopt(AttemptId),
    /// `forget`
    Forget(AttemptId),
}

/// Answers calls at once: the news that follow, for the attempt they name.
pub type Answers = Box<dyn Fn(&Call) -> Vec<(AttemptId, News)> + Send + Sync>;

/// Runs nothing; see [`Script`].
pub struct Fake {
    kind: ExecutorKind,
    script: Script,
}

/// The other end of a [`Fake`]: reads what it was asked and sends news of its attempts. Clones share one
/// script; it may be given to the executor of a next daemon, as the machine outlives daemons.
#[derive(Clone, Default)]
pub struct Script(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    living: BTreeMap<AttemptId, Living>,
    ended: BTreeMap<AttemptId, Found>,
    refusals: BTreeMap<AttemptId, StartError>,
    answers: Option<Answers>,
}

struct Living {
    /// `None`: nobody has adopted it yet.
    reports: Option<Reports>,
    status: Status,
}

impl Script {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// Everything asked so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The attempts that were started and have not ended.
    pub fn living(&self) -> Vec<AttemptId> {
        self.state().living.keys().cloned().collect()
    }

    /// Waits until `enough` holds for what was asked so far.
    pub async fn until(&self, mut enough: impl FnMut(&[Call]) -> bool) {
        let mut changes = self.0.changed.subscribe();
        while !enough(&self.state().calls) {
            if changes.changed().await.is_err() {
                // The sender lives in self.
                return;
            }
        }
    }

    /// Waits until this attempt was started.
    pub async fn until_started(&self, attempt: &AttemptId) {
        self.until(|calls| calls.iter().any(|call| matches!(call, Call::Start(spec) if spec.id == *attempt)))
            .await;
    }

    /// The next start of this attempt fails.
    pub fn refuse(&self, attempt: AttemptId, error: StartError) {
        self.state().refusals.insert(attempt, error);
    }

    /// Answers every call from now on.
    pub fn answer(&self, answers: impl Fn(&Call) -> Vec<(AttemptId, News)> + Send + Sync + 'static) {
        self.state().answers = Some(Box::new(answers));
    }

    /// Something an earlier daemon left.
    pub fn leave(&self, found: Found) {
        let mut state = self.state();
        match found.ended {
            None => drop(state.living.insert(found.attempt, Living { reports: None, status: found.status })),
            Some(_) => drop(state.ended.insert(found.attempt.clone(), found)),
        }
    }

    /// The daemon died: nobody hears of the attempts until somebody adopts them. What ends meanwhile is found
    /// as ended.
    pub fn crash(&self) {
        for living in self.state().living.values_mut() {
            living.reports = None;
        }
    }

    /// Sends news of an attempt; news of one that does not live go nowhere, like those of a real executor.
    pub fn send(&self, attempt: &AttemptId, news: News) {
        let mut state = self.state();
        let Some(living) = state.living.get_mut(attempt) else { return };
        if let News::Status(status) = &news {
            living.status = status.clone();
        }
        if let Some(reports) = &living.reports
            && reports.send(Report { attempt: attempt.clone(), news: news.clone() }).is_err()
        {
            tracing::debug!(%attempt, "nobody listens to a fake attempt's reports");
        }
        if let News::Exited { exit, result } = news
            && let Some(living) = state.living.remove(attempt)
        {
            let found =
                Found { attempt: attempt.clone(), ended: Some((exit, result)), status: living.status };
            state.ended.insert(attempt.clone(), found);
        }
    }

    /// The attempt runs.
    pub fn started(&self, attempt: &AttemptId) {
        self.send(attempt, News::Started);
    }

    /// The attempt reports ready.
    pub fn ready(&self, attempt: &AttemptId) {
        self.send(attempt, News::Status(Status { ready: true, ..Status::default() }));
    }

    /// The attempt ends.
    pub fn exit(&self, attempt: &AttemptId, exit: Exit) {
        self.send(attempt, News::Exited { exit, result: None });
    }

    fn note(&self, call: Call) {
        let answers = {
            let mut state = self.state();
            let answers = state.answers.as_ref().map(|answers| answers(&call)).unwrap_or_default();
            state.calls.push(call);
            answers
        };
        for (attempt, news) in answers {
            self.send(&attempt, news);
        }
        self.0.changed.send_replace(());
    }
}

impl Fake {
    /// A fake of this kind of executor, and the script that drives it.
    pub fn new(kind: ExecutorKind) -> (Self, Script) {
        let script = Script::default();
        (Self::with_script(kind, script.clone()), script)
    }

    /// The executor of another daemon on the same machine.
    pub fn with_script(kind: ExecutorKind, script: Script) -> Self {
        Self { kind, script }
    }
}

#[async_trait]
impl Executor for Fake {
    fn kind(&self) -> ExecutorKind {
        self.kind
    }

    async fn start(&self, spec: AttemptSpec, reports: Reports) -> Result<(), StartError> {
        let refused = {
            let mut state = self.script.state();
            let refused = state.refusals.remove(&spec.id);
            if refused.is_none() {
                let living = state
                    .living
                    .entry(spec.id.clone())
                    .or_insert(Living { reports: None, status: Status::default() });
                living.reports = Some(reports);
            }
            refused
        };
        self.script.note(Call::Start(Box::new(spec)));
        refused.map_or(Ok(()), Err)
    }

    async fn stop(&self, attempt: &AttemptId, signal: StopSignal, kill_after: Duration) {
        self.script.note(Call::Stop { attempt: attempt.clone(), signal, kill_after });
    }

    async fn kill(&self, attempt: &AttemptId) {
        self.script.note(Call::Kill(attempt.clone()));
    }

    async fn find(&self) -> Vec<Found> {
        self.script.note(Call::Find);
        let state = self.script.state();
        let living = state.living.iter().map(|(attempt, living)| Found {
            attempt: attempt.clone(),
            ended: None,
            status: living.status.clone(),
        });
        living.chain(state.ended.values().cloned()).collect()
    }

    async fn adopt(&self, attempt: &AttemptId, reports: Reports) {
        if let Some(living) = self.script.state().living.get_mut(attempt) {
            living.reports = Some(reports);
        }
        self.script.note(Call::Adopt(attempt.clone()));
    }

    async fn forget(&self, attempt: &AttemptId) {
        self.script.state().ended.remove(attempt);
        self.script.note(Call::Forget(attempt.clone()));
    }
}
