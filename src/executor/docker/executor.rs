//! The executor: makes containers, finds those of earlier daemons, passes on stops and kills.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::ListContainersOptions;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::container::{self, Surroundings, label};
use super::engine::{Engine, explain, status};
use super::exits;
use super::launch::Launcher;
use super::output::{Broken, Carrier, Source};
use super::watch::{Limit, Watched, exit_of, noted_name};
use clock::Clock;
use config::DockerSettings;
use domain::dag::{ExecutorKind, StopSignal};
use domain::ids::AttemptId;
use crate::folder;
use crate::keeper::Keepers;
use crate::process::shim::SELF;
use crate::{AttemptSpec, Executor, Found, Reports, StartError};

/// File name of the container's name in an attempt's folder.
pub(in crate) const CONTAINER: &str = "container";

/// Real time that an output which nobody has watched to its end gets before its container is removed.
const LAST_OUTPUT: Duration = Duration::from_secs(10);

/// Runs attempts as containers. Dropping it stops watching; the containers run on and can be found again.
pub struct Docker {
    clock: Clock,
    runs: PathBuf,
    launcher: Arc<Launcher>,
    installation: String,
    engine: Arc<Engine>,
    living: Arc<Mutex<HashMap<AttemptId, Arc<Watched>>>>,
    /// Ends what was spawned for this executor.
    closed: CancellationToken,
}

impl Docker {
    /// An executor whose attempts have their folders below `runs_dir` (absolute). The engine is asked when it is first needed.
    pub fn new(clock: Clock, runs_dir: PathBuf, settings: DockerSettings, around: Surroundings) -> Self {
        Self::with_binary(clock, runs_dir, settings, around, SELF.into())
    }

    /// The same with another binary than the running one for keepers.
    pub fn with_binary(clock: Clock, runs_dir: PathBuf, settings: DockerSettings, around: Surroundings, binary: PathBuf) -> Self {
        let (installation, engine) = (around.installation(), Arc::new(Engine::new(settings.host.as_deref())));
        let keepers = Keepers { binary, host: engine.place().to_owned(), clock: clock.clone() };
        let launcher = Arc::new(Launcher { settings, around, engine: Arc::clone(&engine), keepers });
        Self { clock, runs: runs_dir, launcher, installation, engine, living: Arc::default(), closed: CancellationToken::new() }
    }

    fn living(&self) -> MutexGuard<'_, HashMap<AttemptId, Arc<Watched>>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an attempt, unless it is being watched: then that one is given back as the error.
    fn register(&self, id: &AttemptId, folder: PathBuf, reports: &Reports) -> Result<Arc<Watched>, Arc<Watched>> {
        let mut living = self.living();
        if let Some(watched) = living.get(id).filter(|w| !w.has_ended()) {
            return Err(Arc::clone(watched));
        }
        let name = container::name(&self.installation, id);
        let (engine, clock) = (Arc::clone(&self.engine), self.clock.clone());
        let watched = Arc::new(Watched::new(id.clone(), name, folder, engine, clock, reports.clone()));
        living.insert(id.clone(), Arc::clone(&watched));
        Ok(watched)
    }

    /// Watches an attempt to its end; one with a specification is started first.
    fn watch(&self, watched: Arc<Watched>, start: Option<AttemptSpec>) {
        let (living, closed, launcher) = (Arc::clone(&self.living), self.closed.clone(), Arc::clone(&self.launcher));
        let work = async move |watched: &Watched| {
            if let Some(spec) = start
                && let Err(exit) = launcher.start(&spec, watched).await
            {
                return watched.not_started(exit);
            }
            launcher.keepers.ensure(&watched.folder).await;
            watched.watch(limit_of(&watched.folder)).await;
        };
        tokio::spawn(async move {
            if closed.run_until_cancelled(work(&watched)).await.is_some() {
                let mut living = living.lock().unwrap_or_else(PoisonError::into_inner);
                // A start after the end has put another watch in its place.
                if living.get(&watched.id).is_some_and(|current| Arc::ptr_eq(current, &watched)) {
                    living.remove(&watched.id);
                }
            }
        });
    }

    /// The attempt if it is watched; one that nobody asked to adopt (an orphan that is only to be stopped) is watched from now on.
    async fn find_living(&self, id: &AttemptId) -> Option<Arc<Watched>> {
        if let Some(watched) = self.living().get(id) {
            return Some(Arc::clone(watched));
        }
        // Asked for every orphan of every executor: without a container, or an engine, it is not ours.
        if !matches!(self.engine.look(&container::name(&self.installation, id)).await, Ok(Some(_))) {
            return None;
        }
        let (nobody, _) = mpsc::unbounded_channel();
        match self.register(id, self.runs.join(id.path()), &nobody) {
            Ok(watched) => {
                self.watch(Arc::clone(&watched), None);
                Some(watched)
            }
            Err(watched) => Some(watched),
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        tokio::spawn(async move { closed.run_until_cancelled(work).await });
    }

    /// All containers of this installation, by the attempt their labels name.
    async fn list(&self) -> Result<Vec<(AttemptId, Option<Found>)>, Error> {
        let client = self.engine.client().await?;
        let filters = HashMap::from([("label".to_owned(), vec![format!("{}={}", label::INSTALLATION, self.installation)])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let mut all = Vec::new();
        for summary in client.list_containers(Some(options)).await? {
            let Some(attempt) = summary.labels.as_ref().and_then(|l| container::attempt_of(&self.installation, l)) else {
                continue;
            };
            let Some(found) = self.engine.look(&container::name(&self.installation, &attempt)).await? else { continue };
            let folder = self.runs.join(attempt.path());
            // Made and never started: the start that did it will be repeated.
            let started = found.status != Some(ContainerStateStatusEnum::CREATED);
            let found = started.then(|| {
                let ended = exits::has_ended(&found).then(|| {
                    let signal = folder::read_spec(&folder).ok().map(|spec| spec.step.stop.signal);
                    (exit_of(&folder, &found, signal, true), folder::read_or_warn(&folder.join(folder::RESULT)))
                });
                let status = folder::read_or_warn(&folder.join(folder::STATUS)).unwrap_or_default();
                Found { attempt: attempt.clone(), ended, status }
            });
            all.push((attempt, found));
        }
        Ok(all)
    }
}

impl Docker {
    /// Carries over what is left of an ended container's output.
    async fn carry_rest(&self, folder: &Path, name: &str) {
        let rest = async {
            let mut carrier = Carrier::open(folder, Source::Container(name.to_owned()))?;
            let client = self.engine.client().await?;
            carrier.rest(client).await?;
            carrier.end(client).await
        };
        match tokio::time::timeout(LAST_OUTPUT, rest).await {
            Ok(Ok(())) => {}
            Ok(Err(Broken::Engine(error))) if status(&error) == Some(404) => {}
            Ok(Err(error)) => tracing::warn!(container = name, %error, "the end of an attempt's output could not be kept"),
            Err(_) => tracing::warn!(container = name, "the end of an attempt's output did not come in time"),
        }
    }
}

/// How long the attempt in a folder may live.
fn limit_of(folder: &Path) -> Option<Limit> {
    let spec = folder::read_spec(folder).ok()?;
    Some(Limit { deadline: spec.deadline, signal: spec.step.stop.signal, stop_time: spec.step.stop_time() })
}

/// Attempts below `runs` that a container was noted for and that nobody has forgotten.
fn noted(runs: &Path) -> Vec<AttemptId> {
    let open = |folder: &PathBuf| !folder.join(folder::DONE).exists() && noted_name(folder).is_ok_and(|name| name.is_some());
    folder::attempts(runs).into_iter().filter(open).filter_map(|f| folder::read_spec(&f).ok()).map(|spec| spec.id).collect()
}

#[async_trait]
impl Executor for Docker {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Docker
    }

    async fn start(&self, spec: AttemptSpec, reports: Reports) -> Result<(), StartError> {
        match self.register(&spec.id, spec.folder.clone(), &reports) {
            // Making a container takes its time, and others wait to be started: how it went comes as a report.
            Ok(watched) => self.watch(watched, Some(spec)),
            Err(living) => living.redirect(reports),
        }
        Ok(())
    }

    async fn stop(&self, attempt: &AttemptId, signal: StopSignal, kill_after: Duration) {
        let Some(watched) = self.find_living(attempt).await else { return };
        self.spawn(async move { watched.stop(signal, kill_after, "it was asked to stop").await });
    }

    async fn kill(&self, attempt: &AttemptId) {
        let Some(watched) = self.find_living(attempt).await else { return };
        self.spawn(async move { watched.kill("it was told to").await });
    }

    async fn find(&self) -> Vec<Found> {
        let runs = self.runs.clone();
        let noted = tokio::task::spawn_blocking(move || noted(&runs)).await.unwrap_or_default();
        match self.list().await {
            Ok(all) => {
                let listed: HashSet<_> = all.iter().map(|(attempt, _)| attempt.clone()).collect();
                let mut found: Vec<_> = all.into_iter().filter_map(|(_, found)| found).collect();
                // Their containers were removed; how they ended may have been written down.
                for attempt in noted.into_iter().filter(|attempt| !listed.contains(attempt)) {
                    let ended = folder::read_end(&self.runs.join(attempt.path()));
                    found.extend(ended.map(|ended| Found { attempt, ended: Some(ended), status: Default::default() }));
                }
                found
            }
            Err(error) if noted.is_empty() => {
                tracing::debug!(
                    engine = self.engine.place(),
                    error = explain(&error),
                    "no Docker Engine, and nothing to find on it"
                );
                Vec::new()
            }
            Err(error) => {
                let (engine, error) = (self.engine.place(), explain(&error));
                tracing::error!(engine, error, "the engine does not answer; what ran on it is taken to run on");
                let status = |attempt: &AttemptId| folder::read_or_warn(&self.runs.join(attempt.path()).join(folder::STATUS));
                let found = |attempt: AttemptId| {
                    let ended = folder::read_end(&self.runs.join(attempt.path()));
                    Found { status: status(&attempt).unwrap_or_default(), ended, attempt }
                };
                noted.into_iter().map(found).collect()
            }
        }
    }

    async fn adopt(&self, attempt: &AttemptId, reports: Reports) {
        match self.register(attempt, self.runs.join(attempt.path()), &reports) {
            Ok(watched) => self.watch(watched, None),
            Err(living) => living.redirect(reports),
        }
    }

    async fn forget(&self, attempt: &AttemptId) {
        let folder = self.runs.join(attempt.path());
        if !matches!(noted_name(&folder), Ok(Some(_))) {
            return;
        }
        let name = container::name(&self.installation, attempt);
        if !folder.join(folder::EXIT).exists() {
            // It ended with nobody watching, and what it printed goes with the container.
            self.carry_rest(&folder, &name).await;
        }
        if let Err(error) = self.engine.remove(&name).await {
            tracing::warn!(%attempt, error = explain(&error), "a container that ended cannot be removed; it will be found again");
            return;
        }
        if let Err(error) = std::fs::write(folder.join(folder::DONE), b"") {
            tracing::warn!(%attempt, %error, "cannot mark an attempt as done; it will be found again");
        }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}
