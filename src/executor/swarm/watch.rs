//! One attempt's service, from its start, or from where an earlier daemon left it, to its end.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use super::guard::{self, BLIND, Gone};
use super::sight::{Eyes, ServiceView, Sight};
use super::status;
use super::verdict::{Phase, TaskView, Verdict, of_one, of_several};
use clock::Clock;
use domain::dag::{Program, StopSignal};
use domain::ids::AttemptId;
use domain::run::Exit;
use crate::docker::engine::Engine;
use crate::docker::exits::{self, Known};
use crate::docker::output::{Carrier, Source, say, tail, while_it_grows};
use crate::docker::watch::KILLED;
use crate::folder::{self, Durability, ExitRecord};
use crate::{AttemptSpec, News, Report, Reports, Status};

/// Real time between tries at a manager that does not answer.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Real time between looks at the status of a program that is not ready yet, and of one that is.
const STATUS_LOOKS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(100)];
/// Real time after which a program on a lost node has ended, whether it could read its folder or not.
const FENCED: Duration = BLIND.saturating_add(Duration::from_secs(5));
/// Real time for which all copies of a step must have ended: the swarm takes a moment to start one again.
const ALL_ENDED: Duration = Duration::from_secs(3);
/// Real time between looks for the answer of a fenced program.
const FENCE_LOOK: Duration = Duration::from_millis(50);

/// How long an attempt may live, how it is stopped then, and what it is.
#[derive(Debug, Clone, Copy)]
pub(in crate) struct Terms {
    pub(super) deadline: Option<Timestamp>,
    pub(super) signal: StopSignal,
    pub(super) stop_time: Duration,
    pub(super) replicas: u32,
    /// A built-in program, which reads its folder.
    pub(super) guarded: bool,
}

impl Terms {
    pub(in crate) fn of(spec: &AttemptSpec) -> Self {
        Self {
            deadline: spec.deadline,
            signal: spec.step.stop.signal,
            stop_time: spec.step.stop_time(),
            replicas: spec.step.replicas.max(1),
            guarded: matches!(spec.step.program, Program::Uses(_)),
        }
    }
}

/// An attempt that is being watched.
pub(in crate) struct Watched {
    pub(super) id: AttemptId,
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) terms: Terms,
    pub(super) engine: Arc<Engine>,
    pub(super) clock: Clock,
    pub(super) ended: watch::Sender<bool>,
    pub(super) running: AtomicBool,
    nodes: Mutex<Vec<String>>,
    trouble: Mutex<Option<String>>,
    reports: Mutex<Reports>,
}

/// What an attempt came to.
enum End {
    Task(TaskView),
    /// It was told to end, and nobody knows how it did.
    Forgotten,
    /// Its node is lost to the swarm; how it ended there, if it said so.
    Ghost {
        node: String,
        gone: Option<Gone>,
    },
    /// The manager has no such service.
    Gone,
}

impl Watched {
    pub(in crate) fn new(
        id: AttemptId,
        name: String,
        folder: PathBuf,
        terms: Terms,
        engine: Arc<Engine>,
        clock: Clock,
        reports: Reports,
    ) -> Self {
        let (ended, reports) = (watch::Sender::new(false), Mutex::new(reports));
        let (running, nodes, trouble) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        Self { id, name, folder, terms, engine, clock, ended, running, nodes, trouble, reports }
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Sends later reports elsewhere, beginning with its start if that has been seen.
    pub(super) fn redirect(&self, reports: Reports) {
        *self.reports.lock().unwrap_or_else(PoisonError::into_inner) = reports;
        if self.running.load(Ordering::Acquire) {
            self.report(News::Started);
        }
    }

    fn report(&self, news: News) {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.send(Report { attempt: self.id.clone(), news }).is_err() {
            tracing::debug!(attempt = %self.id, "nobody listens to an attempt's reports");
        }
    }

    /// Watches to the end and reports on the way. The service is there since `since`.
    pub(super) async fn watch(&self, eyes: &Eyes, since: Instant) {
        let end = {
            let mut ended = std::pin::pin!(self.until_ended(eyes, since));
            let mut output = std::pin::pin!(self.carry());
            let mut followed = std::pin::pin!(self.follow());
            let mut limited = std::pin::pin!(self.hold());
            tokio::select! {
                end = &mut ended => end,
                never = &mut output => match never {},
                never = &mut followed => match never {},
                never = &mut limited => match never {},
            }
        };
        if let Some(status) = self.status() {
            self.report(News::Status(status));
        }
        // A node that is lost answers nobody.
        if !matches!(end, End::Ghost { .. }) && while_it_grows(&self.folder, self.carry_rest()).await.is_none() {
            tracing::warn!(attempt = %self.id, "the end of an attempt's output did not come in time");
        }
        let exit = self.exit(end).await;
        let result = status::result(&self.folder, self.terms.replicas);
        let record = ExitRecord { exit: exit.clone(), finished_at: self.clock.now() };
        if let Err(error) = folder::write(&self.folder.join(folder::EXIT), &record, Durability::Synced) {
            // The service still says so, until it is removed.
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

    async fn until_ended(&self, eyes: &Eyes, since: Instant) -> End {
        let mut sights = eyes.open();
        let mut all_ended: Option<Instant> = None;
        loop {
            let sight = sights.borrow_and_update().clone().filter(|sight| sight.began >= since);
            if let Some(sight) = sight {
                let Some(service) = sight.services.get(&self.name) else { return End::Gone };
                match self.verdict(service, &sight) {
                    Verdict::Waiting(why) => self.waits(why),
                    Verdict::Running { copies, nodes } => self.runs(copies, nodes),
                    Verdict::Ended(task) if self.terms.replicas > 1 && !service.evicted => {
                        if all_ended.get_or_insert_with(Instant::now).elapsed() >= ALL_ENDED {
                            return End::Task(task);
                        }
                    }
                    Verdict::Ended(task) => {
                        // Some end between two looks.
                        if task.phase == Phase::Ended && task.container.is_some() {
                            self.runs(1, Vec::new());
                        }
                        return End::Task(task);
                    }
                    Verdict::Forgotten => return End::Forgotten,
                    Verdict::Ghost { task, node } => {
                        let gone = self.fence(&task, &node).await;
                        // A foreign program runs on if its node is heard of again meanwhile.
                        let still = sights.borrow_and_update().as_ref().and_then(|sight| {
                            Some(matches!(self.verdict(sight.services.get(&self.name)?, sight), Verdict::Ghost { .. }))
                        });
                        if self.terms.guarded || still != Some(false) {
                            return End::Ghost { node, gone };
                        }
                    }
                }
                if !matches!(self.verdict(service, &sight), Verdict::Ended(_)) {
                    all_ended = None;
                }
            }
            if sights.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn verdict(&self, service: &ServiceView, sight: &Sight) -> Verdict {
        let judge = if self.terms.replicas > 1 { of_several } else { of_one };
        judge(&service.tasks, &sight.nodes, service.evicted)
    }

    fn waits(&self, why: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *trouble != why {
            if let Some(why) = &why {
                self.line(&format!("it waits for a node: {why}"));
            }
            *trouble = why;
        }
    }

    fn runs(&self, copies: usize, nodes: Vec<String>) {
        let missing = (self.terms.replicas as usize).saturating_sub(copies);
        let trouble = (missing > 0 && self.running.load(Ordering::Acquire))
            .then(|| format!("{missing} of {} copies do not run", self.terms.replicas));
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
        if !self.running.swap(true, Ordering::AcqRel) {
            self.report(News::Started);
        }
    }

    /// Sees to it that the program on a lost node ends, and gives what it said of that.
    async fn fence(&self, task: &str, node: &str) -> Option<Gone> {
        if let Some(gone) = guard::read_gone(&self.folder, task) {
            return Some(gone);
        }
        self.line(&format!("node {node} is lost to the swarm; what runs there is told to end"));
        if let Err(error) = std::fs::write(self.folder.join(guard::fence(task)), "") {
            tracing::error!(attempt = %self.id, %error, "a program on a lost node cannot be told to end; it is waited for");
        }
        let answered = async {
            loop {
                match guard::read_gone(&self.folder, task) {
                    Some(gone) => return gone,
                    None => tokio::time::sleep(FENCE_LOOK).await,
                }
            }
        };
        tokio::time::timeout(FENCED, answered).await.ok()
    }

    async fn exit(&self, end: End) -> Exit {
        let asked = folder::read_stop(&self.folder).is_some();
        let killed = self.folder.join(KILLED).exists();
        let signal = self.terms.signal.number();
        match end {
            End::Gone | End::Forgotten if killed => Exit::Signal(9),
            End::Gone | End::Forgotten if asked => Exit::Signal(i32::from(signal)),
            End::Gone => Exit::Lost("its service is gone; somebody removed it".into()),
            End::Forgotten => Exit::Lost("the swarm has forgotten how it ended".into()),
            End::Ghost { gone: Some(Gone::Code(code)), .. } => Exit::Code(code),
            End::Ghost { node, gone: Some(Gone::Killed(_)) } => {
                Exit::Lost(format!("its node {node} was lost to the swarm, and it was ended there"))
            }
            End::Ghost { node, .. } if self.terms.guarded => {
                Exit::Lost(format!("its node {node} was lost to the swarm, for longer than a step lives without its folder"))
            }
            End::Ghost { node, .. } => Exit::Lost(format!(
                "its node {node} is lost to the swarm; its container may run on there until the node is back (docker node ls)"
            )),
            End::Task(task) if task.phase == Phase::Orphaned => {
                Exit::Lost("the swarm gave it up: its node was away for long".into())
            }
            End::Task(task) => {
                // Where it ran on the manager's own engine, that knows more: whether it ran out of memory.
                let near = match &task.container {
                    Some(container) => self.engine.look(container).await.ok().flatten(),
                    None => None,
                };
                let state = near.unwrap_or_else(|| task.as_container());
                let by_guard = matches!(guard::read_gone(&self.folder, &task.id), Some(Gone::Killed(_)));
                let known = Known {
                    asked: asked.then_some(i64::from(signal)),
                    // A swarm kills what was asked to stop once its grace is over, and does not say so.
                    killed: killed || by_guard || (asked && !self.terms.guarded),
                    unseen: false,
                };
                match exits::not_executed(&state, &tail(&self.folder)).unwrap_or_else(|| exits::exit_of(&state, known)) {
                    Exit::NotStarted(why) if why.contains("No such image") => Exit::NotStarted(format!(
                        "{why}; push the image where every node can pull it, or load it on every node (docker load)"
                    )),
                    exit => exit,
                }
            }
        }
    }

    fn status(&self) -> Option<Status> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut merged = status::merge(&status::read(&self.folder, self.terms.replicas), &nodes);
        if let (None, Some(_)) = (&merged, &trouble) {
            merged = Some(Status::default());
        }
        merged.map(|status| Status { degraded: status.degraded.or(trouble), ..status })
    }

    /// Reports what its copies say; never ends.
    async fn follow(&self) -> Infallible {
        let mut last = None;
        loop {
            let status = self.status();
            let ready = status.as_ref().is_some_and(|s| s.ready);
            if status.is_some() && status != last {
                last.clone_from(&status);
                self.report(News::Status(status.unwrap_or_default()));
            }
            tokio::time::sleep(STATUS_LOOKS[usize::from(ready)]).await;
        }
    }

    fn carrier(&self) -> std::io::Result<Carrier> {
        Carrier::open(&self.folder, Source::Service(self.name.clone()))
    }

    /// Carries its output over; never ends.
    async fn carry(&self) -> Infallible {
        loop {
            match (self.carrier(), self.engine.client().await) {
                (Ok(mut carrier), Ok(client)) => {
                    if let Err(error) = carrier.run(client).await {
                        tracing::debug!(attempt = %self.id, %error, "an attempt's output is interrupted");
                    }
                    if let Some(notice) = carrier.notice() {
                        self.report(News::Noticed(notice));
                    }
                }
                (Err(error), _) => tracing::debug!(attempt = %self.id, %error, "an attempt's output cannot be written"),
                (_, Err(error)) => tracing::debug!(attempt = %self.id, %error, "an attempt's output is interrupted"),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn carry_rest(&self) {
        let (Ok(mut carrier), Ok(client)) = (self.carrier(), self.engine.client().await) else { return };
        let rest = async {
            carrier.rest(client).await?;
            carrier.end(client).await
        };
        if let Err(error) = rest.await {
            tracing::debug!(attempt = %self.id, %error, "the end of an attempt's output is missing");
        }
    }

    /// Writes a line among its output.
    pub(in crate) fn line(&self, text: &str) {
        if let Err(error) = say(&self.folder, &self.clock, text) {
            tracing::warn!(attempt = %self.id, %error, text, "cannot write into an attempt's output");
        }
    }
}
