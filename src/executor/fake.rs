<<<<<<< HEAD
//! An executor that runs nothing: it writes down what it is asked, and a test (or a simulation) plays the part of the
//! programs through its [`Script`].

use std::collections::BTreeMap;
=======
//! An executor that plays a script, for tests of what uses executors.

use std::collections::{BTreeMap, VecDeque};
>>>>>>> w-engine
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
<<<<<<< HEAD
use tokio::sync::watch;

use super::{AttemptSpec, Executor, Found, News, Report, Reports, StartError, Status};
=======
use serde_json::Value;

use super::{AttemptSpec, Executor, Found, News, Report, Reports, StartError, Status};
use crate::clock::Clock;
>>>>>>> w-engine
use crate::domain::dag::{ExecutorKind, StopSignal};
use crate::domain::ids::AttemptId;
use crate::domain::run::Exit;

<<<<<<< HEAD
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

/// The other end of a [`Fake`]: reads what it was asked and sends news of its attempts. Clones share one script; it may be
/// given to the executor of a next daemon, as the machine outlives daemons.
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
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.until(|calls| calls.iter().any(|call| matches!(call, Call::Start(spec) if spec.id == *attempt))).await;
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

    /// The daemon died: nobody hears of the attempts until somebody adopts them. What ends meanwhile is found as ended.
    pub fn crash(&self) {
        for living in self.state().living.values_mut() {
=======
/// What an attempt does.
#[derive(Debug, Clone, PartialEq)]
pub enum Behaviour {
    /// Ends as soon as it has started.
    Exits(Exit, Option<Value>),
    /// Ends after this much of the clock's time.
    ExitsAfter(Duration, Exit, Option<Value>),
    /// Runs, ready at once, until it is asked to stop; then it ends like this.
    ReadyUntilStopped(Exit),
    /// Runs, never ready, until it is asked to stop.
    RunsUntilStopped(Exit),
    /// Ready at once; ends only when it is killed.
    IgnoresStop,
    /// Cannot be started.
    Refused {
        /// Why.
        reason: String,
        /// The place is at fault, not the step.
        infrastructure: bool,
    },
}

/// Something that was asked of the executor.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// A start; the flag says whether it already lived.
    Start(AttemptId, bool),
    /// A stop.
    Stop(AttemptId),
    /// A kill.
    Kill(AttemptId),
    /// Adopted after a restart.
    Adopt(AttemptId),
    /// Forgotten.
    Forget(AttemptId),
}

#[derive(Default)]
struct State {
    scripts: BTreeMap<String, VecDeque<Behaviour>>,
    calls: Vec<Call>,
    live: BTreeMap<AttemptId, Living>,
    ended: BTreeMap<AttemptId, (Exit, Option<Value>)>,
}

struct Living {
    behaviour: Behaviour,
    reports: Option<Reports>,
}

/// Plays scripts by step name. Clones share everything, so a clone stands for the executor after a restart of the daemon.
#[derive(Clone)]
pub struct Fake {
    clock: Clock,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// Every step ends well at once, unless it has a [script](Self::script).
    pub fn new(clock: Clock) -> Self {
        Self { clock, state: Arc::default() }
    }

    /// What the attempts of a step do, one after the other; the last entry repeats.
    pub fn script(&self, step: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.lock().scripts.insert(step.to_owned(), behaviours.into_iter().collect());
    }

    /// Everything asked so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Attempts that run.
    pub fn alive(&self) -> Vec<AttemptId> {
        self.lock().live.keys().cloned().collect()
    }

    /// Ends a running attempt; gives `false` when there is none.
    pub fn end(&self, attempt: &AttemptId, exit: Exit, result: Option<Value>) -> bool {
        let mut state = self.lock();
        let Some(living) = state.live.remove(attempt) else { return false };
        state.ended.insert(attempt.clone(), (exit.clone(), result.clone()));
        send(living.reports.as_ref(), attempt, News::Exited { exit, result });
        true
    }

    /// Reports a status of a running attempt.
    pub fn status(&self, attempt: &AttemptId, status: Status) {
        if let Some(living) = self.lock().live.get(attempt) {
            send(living.reports.as_ref(), attempt, News::Status(status));
        }
    }

    /// The daemon died: nobody listens to what runs any more.
    pub fn disconnect(&self) {
        for living in self.lock().live.values_mut() {
>>>>>>> w-engine
            living.reports = None;
        }
    }

<<<<<<< HEAD
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
            let found = Found { attempt: attempt.clone(), ended: Some((exit, result)), status: living.status };
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
=======
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_later(&self, attempt: AttemptId, after: Duration, exit: Exit, result: Option<Value>) {
        let fake = self.clone();
        tokio::spawn(async move {
            fake.clock.sleep(after).await;
            fake.end(&attempt, exit, result);
        });
    }
}

fn send(reports: Option<&Reports>, attempt: &AttemptId, news: News) {
    if let Some(reports) = reports
        && reports.send(Report { attempt: attempt.clone(), news }).is_err()
    {
        tracing::debug!(%attempt, "nobody listens to this attempt any more");
>>>>>>> w-engine
    }
}

#[async_trait]
impl Executor for Fake {
    fn kind(&self) -> ExecutorKind {
<<<<<<< HEAD
        self.kind
    }

    async fn start(&self, spec: AttemptSpec, reports: Reports) -> Result<(), StartError> {
        let refused = {
            let mut state = self.script.state();
            let refused = state.refusals.remove(&spec.id);
            if refused.is_none() {
                let living = state.living.entry(spec.id.clone()).or_insert(Living { reports: None, status: Status::default() });
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
=======
        ExecutorKind::Process
    }

    async fn start(&self, spec: AttemptSpec, reports: Reports) -> Result<(), StartError> {
        let id = spec.id;
        let behaviour = {
            let mut state = self.lock();
            let lives = state.live.contains_key(&id);
            state.calls.push(Call::Start(id.clone(), lives));
            if let Some(living) = state.live.get_mut(&id) {
                if living.reports.is_none() {
                    living.reports = Some(reports);
                }
                return Ok(());
            }
            if let Some((exit, result)) = state.ended.get(&id).cloned() {
                send(Some(&reports), &id, News::Exited { exit, result });
                return Ok(());
            }
            let behaviour = match state.scripts.get_mut(id.step.as_str()) {
                Some(script) if script.len() > 1 => script.pop_front(),
                Some(script) => script.front().cloned(),
                None => None,
            };
            let behaviour = behaviour.unwrap_or(Behaviour::Exits(Exit::Code(0), None));
            if let Behaviour::Refused { reason, infrastructure } = behaviour {
                return Err(StartError { attempt: id.to_string(), reason, remedy: String::new(), infrastructure });
            }
            send(Some(&reports), &id, News::Started);
            if matches!(behaviour, Behaviour::ReadyUntilStopped(_) | Behaviour::IgnoresStop) {
                send(Some(&reports), &id, News::Status(Status { ready: true, ..Status::default() }));
            }
            state.live.insert(id.clone(), Living { behaviour: behaviour.clone(), reports: Some(reports) });
            behaviour
        };
        match behaviour {
            Behaviour::Exits(exit, result) => drop(self.end(&id, exit, result)),
            Behaviour::ExitsAfter(after, exit, result) => self.end_later(id, after, exit, result),
            _ => {}
        }
        Ok(())
    }

    async fn stop(&self, attempt: &AttemptId, _signal: StopSignal, kill_after: Duration) {
        let behaviour = {
            let mut state = self.lock();
            state.calls.push(Call::Stop(attempt.clone()));
            state.live.get(attempt).map(|living| living.behaviour.clone())
        };
        match behaviour {
            Some(Behaviour::ReadyUntilStopped(exit) | Behaviour::RunsUntilStopped(exit)) => drop(self.end(attempt, exit, None)),
            Some(Behaviour::ExitsAfter(..)) => drop(self.end(attempt, Exit::Signal(15), None)),
            Some(Behaviour::IgnoresStop) => self.end_later(attempt.clone(), kill_after, Exit::Signal(9), None),
            _ => {}
        }
    }

    async fn kill(&self, attempt: &AttemptId) {
        self.lock().calls.push(Call::Kill(attempt.clone()));
        self.end(attempt, Exit::Signal(9), None);
    }

    async fn find(&self) -> Vec<Found> {
        let state = self.lock();
        let running = state.live.iter().map(|(attempt, living)| {
            let ready = matches!(living.behaviour, Behaviour::ReadyUntilStopped(_) | Behaviour::IgnoresStop);
            Found { attempt: attempt.clone(), ended: None, status: Status { ready, ..Status::default() } }
        });
        let ended = state.ended.iter().map(|(attempt, end)| Found {
            attempt: attempt.clone(),
            ended: Some(end.clone()),
            status: Status::default(),
        });
        running.chain(ended).collect()
    }

    async fn adopt(&self, attempt: &AttemptId, reports: Reports) {
        let mut state = self.lock();
        state.calls.push(Call::Adopt(attempt.clone()));
        if let Some(living) = state.live.get_mut(attempt) {
            living.reports = Some(reports);
        } else if let Some((exit, result)) = state.ended.get(attempt).cloned() {
            send(Some(&reports), attempt, News::Exited { exit, result });
        }
    }

    async fn forget(&self, attempt: &AttemptId) {
        let mut state = self.lock();
        state.calls.push(Call::Forget(attempt.clone()));
        state.ended.remove(attempt);
>>>>>>> w-engine
    }
}
