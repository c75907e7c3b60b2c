//! The executor: makes services, finds those of earlier daemons, passes on stops and kills.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::launch::{Launcher, SERVICE};
use super::service;
use super::sight::{Eyes, Sight};
use super::status;
use super::watch::{Terms, Watched};
use clock::Clock;
use config::Config;
use domain::dag::{ExecutorKind, StopSignal};
use domain::ids::AttemptId;
use crate::docker::Surroundings;
use crate::docker::container;
use crate::docker::engine::{Engine, explain, status as status_of};
use crate::folder;
use crate::keeper::Keepers;
use crate::process::shim::SELF;
use crate::{AttemptSpec, Executor, Found, Reports, StartError};

/// Runs attempts as services of a swarm. Dropping it stops watching; the services run on and can be found again.
pub struct Swarm {
    clock: Clock,
    runs: PathBuf,
    launcher: Arc<Launcher>,
    installation: String,
    engine: Arc<Engine>,
    eyes: Arc<Eyes>,
    living: Arc<Mutex<HashMap<AttemptId, Arc<Watched>>>>,
    /// Ends what was spawned for this executor.
    closed: CancellationToken,
}

impl Swarm {
    /// An executor whose attempts have their folders below `runs_dir` (absolute, the same on every node). Needs a tokio runtime. The manager
    /// is asked when it is first needed.
    pub fn new(clock: Clock, runs_dir: PathBuf, config: &Config, around: Surroundings) -> Self {
        Self::with_binary(clock, runs_dir, config, around, SELF.into())
    }

    /// The same with another binary than the running one for keepers.
    pub fn with_binary(clock: Clock, runs_dir: PathBuf, config: &Config, around: Surroundings, binary: PathBuf) -> Self {
        let installation = around.installation();
        let engine = Arc::new(Engine::new(config.docker.host.as_deref()));
        let eyes = Arc::new(Eyes::new(Arc::clone(&engine), installation.clone()));
        let launcher = Arc::new(Launcher {
            settings: config.docker.clone(),
            swarm: config.swarm.clone(),
            local: config.local_stores(),
            around,
            engine: Arc::clone(&engine),
            keepers: Keepers { binary, host: engine.place().to_owned(), clock: clock.clone() },
        });
        let closed = CancellationToken::new();
        tokio::spawn({
            let (eyes, closed) = (Arc::clone(&eyes), closed.clone());
            async move { closed.run_until_cancelled(eyes.keep_open()).await }
        });
        Self { clock, runs: runs_dir, launcher, installation, engine, eyes, living: Arc::default(), closed }
    }

    fn living(&self) -> MutexGuard<'_, HashMap<AttemptId, Arc<Watched>>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an attempt, unless it is being watched: then that one is given back as the error.
    fn register(&self, id: &AttemptId, folder: PathBuf, terms: Terms, reports: &Reports) -> Result<Arc<Watched>, Arc<Watched>> {
        let mut living = self.living();
        if let Some(watched) = living.get(id).filter(|w| !w.has_ended()) {
            return Err(Arc::clone(watched));
        }
        let name = service::name(&self.installation, id);
        let (engine, clock) = (Arc::clone(&self.engine), self.clock.clone());
        let watched = Arc::new(Watched::new(id.clone(), name, folder, terms, engine, clock, reports.clone()));
        living.insert(id.clone(), Arc::clone(&watched));
        Ok(watched)
    }

    /// Watches an attempt to its end; one with a specification is started first.
    fn watch(&self, watched: Arc<Watched>, start: Option<AttemptSpec>) {
        let (living, closed, launcher) = (Arc::clone(&self.living), self.closed.clone(), Arc::clone(&self.launcher));
        let eyes = Arc::clone(&self.eyes);
        let work = async move |watched: &Watched| {
            if let Some(spec) = start
                && let Err(exit) = launcher.start(&spec, &watched.name).await
            {
                return watched.not_started(exit);
            }
            launcher.keepers.ensure(&watched.folder).await;
            watched.watch(&eyes, Instant::now()).await;
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
        let folder = self.runs.join(id.path());
        // Asked for every orphan of every executor: without a service, or a manager, it is not ours.
        let client = self.engine.client().await.ok()?;
        client.inspect_service(&service::name(&self.installation, id), None).await.ok()?;
        let terms = Terms::of(&folder::read_spec(&folder).ok()?);
        let (nobody, _) = mpsc::unbounded_channel();
        match self.register(id, folder, terms, &nobody) {
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

    /// What a sight shows of this installation. How an attempt ended is found by whoever adopts it: here it counts as running.
    fn found(&self, sight: &Sight) -> Vec<Found> {
        let attempts = sight.services.values().filter_map(|s| container::attempt_of(&self.installation, &s.labels));
        attempts.map(|attempt| self.found_one(attempt)).collect()
    }

    fn found_one(&self, attempt: AttemptId) -> Found {
        let folder = self.runs.join(attempt.path());
        let replicas = folder::read_spec(&folder).map_or(1, |spec| spec.step.replicas);
        let status = status::merge(&status::read(&folder, replicas), &[]).unwrap_or_default();
        Found { ended: folder::read_end(&folder), status, attempt }
    }
}

/// Attempts below `runs` that a service was noted for and that nobody has forgotten.
fn noted(runs: &Path) -> Vec<AttemptId> {
    let open = |folder: &PathBuf| !folder.join(folder::DONE).exists() && folder.join(SERVICE).exists();
    folder::attempts(runs).into_iter().filter(open).filter_map(|f| folder::read_spec(&f).ok()).map(|spec| spec.id).collect()
}

#[async_trait]
impl Executor for Swarm {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Swarm
    }

    async fn start(&self, spec: AttemptSpec, reports: Reports) -> Result<(), StartError> {
        match self.register(&spec.id, spec.folder.clone(), Terms::of(&spec), &reports) {
            // Making a service takes its time, and others wait to be started: how it went comes as a report.
            Ok(watched) => self.watch(watched, Some(spec)),
            Err(living) => living.redirect(reports),
        }
        Ok(())
    }

    async fn stop(&self, attempt: &AttemptId, _signal: StopSignal, kill_after: Duration) {
        // The signal is the step's, and part of the service.
        let Some(watched) = self.find_living(attempt).await else { return };
        self.spawn(async move { watched.stop(kill_after, "it was asked to stop").await });
    }

    async fn kill(&self, attempt: &AttemptId) {
        let Some(watched) = self.find_living(attempt).await else { return };
        self.spawn(async move { watched.kill("it was told to").await });
    }

    async fn find(&self) -> Vec<Found> {
        let runs = self.runs.clone();
        let noted = tokio::task::spawn_blocking(move || noted(&runs)).await.unwrap_or_default();
        match self.eyes.look().await {
            Ok(sight) => {
                let mut found = self.found(&sight);
                let listed: HashSet<_> = found.iter().map(|f| f.attempt.clone()).collect();
                // Their services were removed; how they ended may have been written down.
                let rest = noted.into_iter().filter(|attempt| !listed.contains(attempt)).map(|attempt| self.found_one(attempt));
                found.extend(rest.filter(|f| f.ended.is_some()));
                found
            }
            Err(error) if noted.is_empty() => {
                let (engine, error) = (self.engine.place(), explain(&error));
                tracing::debug!(engine, error, "no manager of a swarm, and nothing to find there");
                Vec::new()
            }
            Err(error) => {
                let (engine, error) = (self.engine.place(), explain(&error));
                tracing::error!(engine, error, "the swarm's manager does not answer; what ran is taken to run on");
                noted.into_iter().map(|attempt| self.found_one(attempt)).collect()
            }
        }
    }

    async fn adopt(&self, attempt: &AttemptId, reports: Reports) {
        let folder = self.runs.join(attempt.path());
        let terms = match folder::read_spec(&folder) {
            Ok(spec) => Terms::of(&spec),
            Err(error) => {
                tracing::error!(%attempt, %error, "a service cannot be watched without its attempt's specification");
                return;
            }
        };
        match self.register(attempt, folder, terms, &reports) {
            Ok(watched) => self.watch(watched, None),
            Err(living) => living.redirect(reports),
        }
    }

    async fn forget(&self, attempt: &AttemptId) {
        let folder = self.runs.join(attempt.path());
        if !folder.join(SERVICE).exists() {
            return;
        }
        let name = service::name(&self.installation, attempt);
        let removed = match self.engine.client().await {
            Ok(client) => client.delete_service(&name).await,
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if status_of(&error) != Some(404) => {
                tracing::warn!(%attempt, error = explain(&error), "a service that ended cannot be removed; it will be found again");
                return;
            }
            _ => {}
        }
        self.launcher.forget_secrets(attempt).await;
        if let Err(error) = std::fs::write(folder.join(folder::DONE), b"") {
            tracing::warn!(%attempt, %error, "cannot mark an attempt as done; it will be found again");
        }
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}
