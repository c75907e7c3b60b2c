//! An executor that plays a script, for tests of what uses executors.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::{AttemptSpec, Executor, Found, News, Report, Reports, StartError, Status};
use crate::clock::Clock;
use crate::domain::dag::{ExecutorKind, StopSignal};
use crate::domain::ids::AttemptId;
use crate::domain::run::Exit;

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
            living.reports = None;
        }
    }

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
    }
}

#[async_trait]
impl Executor for Fake {
    fn kind(&self) -> ExecutorKind {
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
    }
}
