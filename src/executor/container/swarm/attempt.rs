//! One attempt's service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::query_parameters::UpdateServiceOptions;
use parking_lot::Mutex;

use super::poll::{Poller, ServiceView, Snapshot};
use super::service;
use super::tasks::{Phase as TaskPhase, State, TaskView, of_one, of_several};
use super::watchdog::{self, LONGEST_UNREADABLE, TaskEnd};
use crate::Status;
use crate::attempts::{Attempt, Phase};
use crate::container::attempt::Workload;
use crate::container::engine::{ASK_AGAIN, Engine, explain, http_status};
use crate::container::exits::{self, Known};
use crate::container::output::Source;
use crate::container::{Contained, replicas};
use crate::folder::{self, StopOrder};
use domain::dag::StopSignal;
use domain::run::Exit;

/// Real time between tries of a keeper, which has time.
const ASK_RARELY: Duration = Duration::from_secs(30);
/// Real time after which a program on a lost node has ended, whether it could read its folder or not.
const FENCED: Duration = LONGEST_UNREADABLE.saturating_add(Duration::from_secs(5));
/// Real time for which all copies of a step must have ended: the swarm takes a moment to start one again.
const ALL_ENDED: Duration = Duration::from_secs(3);
/// Real time between reads of the answer of a fenced program.
const FENCE_POLL: Duration = Duration::from_millis(50);

/// A service of a swarm.
pub(crate) struct Service {
    poller: Arc<Poller>,
    seen: Mutex<ServiceReport>,
}

/// What the swarm says of it.
#[derive(Default)]
struct ServiceReport {
    nodes: Vec<String>,
    trouble: Option<String>,
}

type Watched = Attempt<Contained<Service>>;

/// What a service came to.
pub(crate) enum End {
    /// A task of it speaks for all.
    Task(TaskView),
    /// It was told to end, and nobody knows how it did.
    Forgotten,
    /// Its node is lost to the swarm; how it ended there, if it said so.
    NodeLost { node: String, end: Option<TaskEnd> },
    /// The manager has no such service.
    Gone,
}

impl Service {
    pub(super) fn new(poller: Arc<Poller>) -> Self {
        Self { poller, seen: Mutex::default() }
    }

    /// One whose end nobody waits for here.
    pub(crate) fn unwatched(engine: &Arc<Engine>) -> Self {
        Self::new(Arc::new(Poller::new(Arc::clone(engine), String::new())))
    }
}

impl Workload for Service {
    type End = End;
    const NAME_FILE: &'static str = folder::SERVICE;
    const KILLED_LINE: &'static str = "is killed";
    const KILLS_BY_ITSELF: bool = true;

    fn source(name: String) -> Source {
        Source::Service(name)
    }

    async fn until_ended(attempt: &Watched) -> End {
        // What was polled before does not show it.
        let since = Instant::now();
        let mut snapshots = attempt.detail.workload.poller.subscribe();
        let mut all_ended: Option<Instant> = None;
        loop {
            let snapshot = snapshots.borrow_and_update().clone().filter(|snapshot| snapshot.began >= since);
            if let Some(snapshot) = snapshot {
                let Some(service) = snapshot.services.get(&attempt.detail.name) else { return End::Gone };
                let state = attempt.state(service, &snapshot);
                if !matches!(state, State::Ended(_)) {
                    all_ended = None;
                }
                match state {
                    State::Pending(why) => attempt.waits(why),
                    State::Running { copies, nodes } => attempt.runs(copies, nodes),
                    State::Ended(task) if attempt.detail.terms.replicas > 1 && !service.evicted => {
                        if all_ended.get_or_insert_with(Instant::now).elapsed() >= ALL_ENDED {
                            return End::Task(task);
                        }
                    }
                    State::Ended(task) => {
                        // Some end between two polls.
                        if task.phase == TaskPhase::Ended && task.container.is_some() {
                            attempt.runs(1, Vec::new());
                        }
                        return End::Task(task);
                    }
                    State::Forgotten => return End::Forgotten,
                    State::NodeLost { task, node } => {
                        let end = attempt.fence(&task, &node).await;
                        // A foreign program runs on if its node is heard of again meanwhile.
                        let newest = snapshots.borrow_and_update().clone();
                        let found = newest.as_ref().and_then(|newest| {
                            Some(attempt.state(newest.services.get(&attempt.detail.name)?, newest))
                        });
                        if attempt.detail.terms.built_in
                            || matches!(found, None | Some(State::NodeLost { .. }))
                        {
                            return End::NodeLost { node, end };
                        }
                    }
                }
            }
            if snapshots.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// A node that is lost answers nobody.
    fn has_output(end: &End) -> bool {
        !matches!(end, End::NodeLost { .. })
    }

    async fn exit(attempt: &Watched, end: End) -> Exit {
        let built_in = attempt.detail.terms.built_in;
        let signal = i32::from(attempt.detail.terms.signal.number());
        let asked = folder::read_stop(&attempt.folder);
        let killed = attempt.folder.join(folder::KILLED).exists();
        match end {
            End::Gone | End::Forgotten if killed => Exit::Signal(9),
            End::Gone | End::Forgotten if asked.is_some() => Exit::Signal(signal),
            End::Gone => Exit::Lost("its service is gone; somebody removed it".into()),
            End::Forgotten => Exit::Lost("the swarm has forgotten how it ended".into()),
            End::NodeLost { end: Some(TaskEnd::Code(code)), .. } => Exit::Code(code),
            End::NodeLost { node, end: Some(TaskEnd::Killed(_)) } => {
                Exit::Lost(format!("its node {node} was lost to the swarm, and it was ended there"))
            }
            End::NodeLost { node, .. } if built_in => Exit::Lost(format!(
                "its node {node} was lost to the swarm, for longer than a step lives without its folder"
            )),
            End::NodeLost { node, .. } => Exit::Lost(format!(
                "its node {node} is lost to the swarm; its container may run on there until the node is back (docker node ls)"
            )),
            End::Task(task) if task.phase == TaskPhase::Orphaned => {
                Exit::Lost("the swarm gave it up: its node was away for long".into())
            }
            End::Task(task) => {
                let by_watchdog =
                    matches!(watchdog::read_end(&attempt.folder, &task.id), Some(TaskEnd::Killed(_)));
                let known = Known {
                    asked: asked.as_ref().map(|_| i64::from(signal)),
                    // A swarm kills what was asked to stop once its grace is over, and does not say so.
                    killed: killed || by_watchdog || (asked.is_some() && !built_in),
                    unseen: false,
                };
                attempt.exit_of(&task, known).await
            }
        }
    }

    fn status(attempt: &Watched) -> Option<Status> {
        let seen = attempt.detail.workload.seen.lock();
        let merged =
            replicas::merge(&replicas::read(&attempt.folder, attempt.detail.terms.replicas), &seen.nodes);
        let merged = merged.or_else(|| seen.trouble.as_ref().map(|_| Status::default()));
        merged.map(|status| Status { degraded: status.degraded.or_else(|| seen.trouble.clone()), ..status })
    }

    async fn ask(attempt: &Watched, _signal: StopSignal, _order: &StopOrder) {
        // The signal is the step's, and part of the service. One that reads its folder stops by itself, and
        // says how it ended; several would be started again.
        let terms = attempt.detail.terms;
        if !terms.built_in || terms.replicas > 1 || attempt.phase() != Phase::Running {
            attempt.evict().await;
        }
    }

    /// A foreign program gets the time of an orderly stop all the same: a swarm knows nothing faster.
    async fn kill(attempt: &Watched) {
        let now = attempt.detail.clock.now();
        if folder::read_stop(&attempt.folder).is_none_or(|order| order.kill_at > now) {
            StopOrder::now(&attempt.detail.clock, Duration::ZERO).leave(&attempt.folder).await;
        }
        attempt.evict().await;
    }

    async fn until_gone(attempt: &Watched) {
        let mut seen = false;
        loop {
            let found = match attempt.detail.engine.client().await {
                Ok(client) => client.inspect_service(&attempt.detail.name, None).await.map(drop),
                Err(error) => Err(error),
            };
            match found {
                Ok(()) => seen = true,
                // Before that it may not be made yet.
                Err(error) if seen && http_status(&error) == Some(404) => return,
                Err(_silent) => {} // its deadline is waited for
            }
            tokio::time::sleep(ASK_RARELY).await;
        }
    }
}

impl Watched {
    fn state(&self, service: &ServiceView, snapshot: &Snapshot) -> State {
        let of = if self.detail.terms.replicas > 1 { of_several } else { of_one };
        of(&service.tasks, &snapshot.nodes, service.evicted)
    }

    fn waits(&self, why: Option<String>) {
        let before = std::mem::replace(&mut self.detail.workload.seen.lock().trouble, why.clone());
        if let Some(why) = why.filter(|why| before.as_ref() != Some(why)) {
            self.line(&format!("it waits for a node: {why}"));
        }
    }

    fn runs(&self, copies: usize, nodes: Vec<String>) {
        let replicas = self.detail.terms.replicas;
        let missing = (replicas as usize).saturating_sub(copies);
        let trouble = (missing > 0 && self.phase() == Phase::Running)
            .then(|| format!("{missing} of {replicas} copies do not run"));
        *self.detail.workload.seen.lock() = ServiceReport { nodes, trouble };
        self.started();
    }

    /// Sees to it that the program on a lost node ends, and gives what it said of that.
    async fn fence(&self, task: &str, node: &str) -> Option<TaskEnd> {
        if let Some(end) = watchdog::read_end(&self.folder, task) {
            return Some(end);
        }
        self.line(&format!("node {node} is lost to the swarm; what runs there is told to end"));
        if let Err(error) = std::fs::write(self.folder.join(watchdog::fence_file(task)), "") {
            tracing::error!(attempt = %self.id, %error, "a program on a lost node cannot be told to end; it is waited for");
        }
        let answered = async {
            loop {
                match watchdog::read_end(&self.folder, task) {
                    Some(end) => return end,
                    None => tokio::time::sleep(FENCE_POLL).await,
                }
            }
        };
        tokio::time::timeout(FENCED, answered).await.ok()
    }

    async fn exit_of(&self, task: &TaskView, known: Known) -> Exit {
        // Where it ran on the manager's own engine, that knows more: whether it ran out of memory.
        let near = match &task.container {
            Some(container) => self.detail.engine.inspect(container).await.ok().flatten(),
            None => None,
        };
        match exits::of(&self.folder, &near.unwrap_or_else(|| task.as_container()), known) {
            Exit::NotStarted(why) if why.contains("No such image") => Exit::NotStarted(format!(
                "{why}; push the image where every node can pull it, or load it on every node (docker load)"
            )),
            exit => exit,
        }
    }

    /// Leaves the service nowhere to run: the swarm stops its tasks, and remembers how they ended.
    async fn evict(&self) {
        while !self.has_ended() {
            let evicted = async {
                let client = self.detail.engine.client().await?;
                let found = client.inspect_service(&self.detail.name, None).await?;
                let version = found.version.and_then(|v| v.index).unwrap_or_default();
                let Some(spec) = found.spec.and_then(service::evicted) else { return Ok(()) };
                let options = UpdateServiceOptions {
                    version: i32::try_from(version).unwrap_or_default(),
                    ..UpdateServiceOptions::default()
                };
                client.update_service(&self.detail.name, spec, options, None).await.map(drop)
            };
            match evicted.await {
                Ok(()) => return,
                Err(error) if http_status(&error) == Some(404) => return,
                Err(error) => {
                    tracing::debug!(attempt = %self.id, error = explain(&error), "a service cannot be stopped yet")
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}
