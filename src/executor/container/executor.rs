//! The executor of containers and of services: makes them, finds those of earlier daemons, passes on stops
//! and kills.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error;

use super::Installation;
use super::attempt::{Contained, Terms, Workload};
use super::engine::{ASK_AGAIN, Engine, explain};
use super::keepers::Keepers;
use super::output::{self, Part};
use super::replicas;
use crate::attempts::{Attempt, Attempts};
use crate::folder::{self, Durability};
use crate::{AttemptSpec, Executor, Found, Reports, StartError};
use clock::Clock;
use config::DockerSettings;
use domain::dag::{ExecutorKind, Program, StopSignal};
use domain::ids::AttemptId;
use domain::run::Exit;

/// How often a start is tried that an engine broke off: one that restarts is back by then.
const TRIES: u32 = 60;
/// Real time that an output which nobody has watched to its end gets before its container is removed.
const LAST_OUTPUT: Duration = Duration::from_secs(10);

/// The engine that attempts run on, and what holds for all of them.
pub(super) struct Host {
    pub(super) settings: DockerSettings,
    pub(super) installation: Installation,
    pub(super) engine: Arc<Engine>,
    pub(super) keepers: Keepers,
}

impl Host {
    pub(super) fn new(
        clock: &Clock,
        settings: DockerSettings,
        installation: Installation,
        binary: PathBuf,
    ) -> Self {
        let engine = Arc::new(Engine::new(settings.host.as_deref()));
        let keepers = Keepers { binary, host: engine.host().to_owned(), clock: clock.clone() };
        Self { settings, installation, engine, keepers }
    }
}

/// Why a container or service was not started, with the remedy.
pub(super) enum Failure {
    /// The step is at fault.
    Step(String),
    /// The engine cannot be reached: nothing was made now.
    Unreached(String),
    /// The engine went away: what was to be made may be there.
    Interrupted(String),
}

/// How an attempt is found.
pub(super) enum Presence {
    /// It was made and never started: the start that did it will be repeated.
    Made,
    /// It is there; how it ended, if it did, is written down or found by whoever adopts it.
    Running,
    /// It has ended, as the engine says.
    Ended(Exit),
}

/// A Docker Engine or a swarm: what each does in its own way.
pub(super) trait Platform: Sized + Send + Sync + 'static {
    /// What an attempt becomes.
    type Workload: Workload;
    /// Which executor it is.
    const KIND: ExecutorKind;
    /// What an attempt becomes, in messages.
    const WORD: &'static str;
    /// What holds for an attempt whose specification cannot be read; `None`: it cannot be watched.
    const WITHOUT_SPEC: Option<Terms>;

    fn host(&self) -> &Host;

    /// The name of an attempt's container or service.
    fn name(&self, attempt: &AttemptId) -> String;

    fn workload(&self) -> Self::Workload;

    /// What holds for an attempt of this specification.
    fn terms(spec: &AttemptSpec) -> Terms {
        Terms::of(spec)
    }

    /// Says why an attempt cannot run here, whatever the engine says.
    fn refuse(&self, _spec: &AttemptSpec) -> Result<(), String> {
        Ok(())
    }

    /// Makes and starts it, or finds that it was before.
    fn launch(&self, spec: &AttemptSpec, name: &str) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Whether the engine has it.
    fn has(&self, name: &str) -> impl Future<Output = bool> + Send;

    /// All of this installation. `runs` holds the attempts' folders.
    fn list(&self, runs: &Path) -> impl Future<Output = Result<Vec<(AttemptId, Presence)>, Error>> + Send;

    /// Removes it; one that is not there is fine.
    fn remove(&self, name: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Removes what was made for an attempt beside it.
    fn remove_secrets(&self, _attempt: &AttemptId) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Runs attempts on a platform. Dropping it stops watching; they run on and can be found again.
pub(super) struct Containers<P: Platform> {
    clock: Clock,
    runs: PathBuf,
    platform: Arc<P>,
    pub(super) attempts: Attempts<Contained<P::Workload>>,
}

type Watched<P> = Arc<Attempt<Contained<<P as Platform>::Workload>>>;

impl<P: Platform> Containers<P> {
    pub(super) fn new(platform: P, clock: Clock, runs: PathBuf) -> Self {
        Self { clock, runs, platform: Arc::new(platform), attempts: Attempts::default() }
    }

    /// Watches an attempt to its end, unless it is being watched; one with a specification is started first.
    fn watch(&self, id: &AttemptId, terms: Terms, start: Option<AttemptSpec>, reports: Option<Reports>) {
        let contained = Contained {
            name: self.platform.name(id),
            terms,
            engine: Arc::clone(&self.platform.host().engine),
            clock: self.clock.clone(),
            workload: self.platform.workload(),
        };
        let folder = start.as_ref().map_or_else(|| self.runs.join(id.path()), |spec| spec.folder.clone());
        let Ok(attempt) = self.attempts.add(id, folder, contained, reports) else { return };
        let (platform, watched) = (Arc::clone(&self.platform), Arc::clone(&attempt));
        self.attempts.watch(attempt, async move {
            if let Some(spec) = start
                && let Err(exit) = launch(&*platform, &spec, &watched.detail.name).await
            {
                return (exit, None);
            }
            platform.host().keepers.ensure(&watched.folder).await;
            watched.watch().await
        });
    }

    fn adopt_for(&self, id: &AttemptId, reports: Option<Reports>) {
        let terms = folder::read_spec(&self.runs.join(id.path())).map(|spec| P::terms(&spec));
        match terms.or_else(|error| P::WITHOUT_SPEC.ok_or(error)) {
            Ok(terms) => self.watch(id, terms, None, reports),
            Err(error) => {
                tracing::error!(attempt = %id, %error, "a {} cannot be watched without its attempt's specification", P::WORD);
            }
        }
    }

    /// The attempt if it lives; one that nobody asked to adopt (an orphan that is only to be stopped) is
    /// watched from now on.
    async fn find_living(&self, id: &AttemptId) -> Option<Watched<P>> {
        // Asked for every orphan of every executor: what the engine does not have is not ours.
        if self.attempts.get(id).is_none() && self.platform.has(&self.platform.name(id)).await {
            self.adopt_for(id, None);
        }
        self.attempts.get(id)
    }

    /// An attempt as its folder shows it.
    fn found(&self, attempt: AttemptId) -> Found {
        let folder = self.runs.join(attempt.path());
        let copies = folder::read_spec(&folder).map_or(1, |spec| P::terms(&spec).replicas);
        let status = replicas::merge(&replicas::read(&folder, copies), &[]).unwrap_or_default();
        Found { ended: folder::read_end(&folder), status, attempt }
    }

    fn listed(&self, attempt: AttemptId, presence: Presence) -> Option<Found> {
        let result =
            |attempt: &AttemptId| folder::read_or_warn(&self.runs.join(attempt.path()).join(folder::RESULT));
        match presence {
            Presence::Made => None,
            Presence::Running => Some(self.found(attempt)),
            Presence::Ended(exit) => {
                let found = self.found(attempt);
                let ended = found.ended.or_else(|| Some((exit, result(&found.attempt))));
                Some(Found { ended, ..found })
            }
        }
    }
}

/// Starts an attempt, or finds that it was started before. Where the engine goes away in the middle it is
/// asked again, since nobody else may start the step while it may run.
///
/// # Errors
/// How the attempt ended instead.
async fn launch<P: Platform>(platform: &P, spec: &AttemptSpec, name: &str) -> Result<(), Exit> {
    platform.refuse(spec).map_err(Exit::NotStarted)?;
    let note = spec.folder.join(P::Workload::NAME_FILE);
    if let Err(error) = prepare(spec, &note, name) {
        let why = format!("its folder {} cannot be written: {error}", spec.folder.display());
        return Err(Exit::Lost(format!("{why}; check the disk's free space and the folder's permissions")));
    }
    let mut tries = 0;
    let exit = loop {
        match platform.launch(spec, name).await {
            Ok(()) => return Ok(()),
            Err(Failure::Step(why)) => {
                platform.remove_secrets(&spec.id).await;
                break Exit::NotStarted(why);
            }
            Err(Failure::Unreached(why)) if tries == 0 => break Exit::Lost(why),
            Err(Failure::Unreached(why) | Failure::Interrupted(why)) if tries == TRIES => {
                return Err(Exit::Lost(why));
            }
            Err(Failure::Unreached(why) | Failure::Interrupted(why)) => {
                tries += 1;
                tracing::warn!(attempt = %spec.id, %why, "the engine went away in the middle of a start; it is asked again");
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    };
    // There is nothing to look for.
    match std::fs::remove_file(note) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(attempt = %spec.id, %error, "an attempt that was not started looks as if it had been");
        }
        _ => {}
    }
    Err(exit)
}

/// Writes the folder of an attempt that is to be started: `note` says by which name.
fn prepare(spec: &AttemptSpec, note: &Path, name: &str) -> io::Result<()> {
    std::fs::create_dir_all(&spec.folder)?;
    give(spec, &spec.folder);
    if spec.step.replicas > 1 {
        for number in 1..=spec.step.replicas {
            let folder = replicas::folder(&spec.folder, number);
            std::fs::create_dir_all(&folder)?;
            give(spec, &folder);
        }
    }
    folder::write(&spec.folder.join(folder::SPEC), spec, Durability::Synced)?;
    std::fs::write(note, format!("{name}\n"))
}

/// Gives a folder of a command to the user whom its step names, so that it can write its status and its
/// result. Only root can; for anybody else the folder stays as it is, and a step that writes nothing there
/// does not miss it.
fn give(spec: &AttemptSpec, folder: &Path) {
    let Some(user) =
        spec.step.container.user.filter(|_| matches!(spec.step.program, Program::Command { .. }))
    else {
        return;
    };
    if let Err(error) = std::os::unix::fs::chown(folder, Some(user.uid), user.gid) {
        tracing::warn!(attempt = %spec.id, %user, %error, "a step's user cannot be given its folder; it cannot write its status or result");
    }
}

/// Attempts below `runs` that were given a name, in this file, and that nobody has forgotten.
fn noted(runs: &Path, file: &str) -> Vec<AttemptId> {
    let open = |folder: &PathBuf| !folder.join(folder::DONE).exists() && folder.join(file).exists();
    let specs =
        folder::attempts(runs).into_iter().filter(open).filter_map(|folder| folder::read_spec(&folder).ok());
    specs.map(|spec| spec.id).collect()
}

#[async_trait]
impl<P: Platform> Executor for Containers<P> {
    fn kind(&self) -> ExecutorKind {
        P::KIND
    }

    async fn start(&self, spec: AttemptSpec, reports: Reports) -> Result<(), StartError> {
        // Making it takes its time, and others wait to be started: how it went comes as a report.
        self.watch(&spec.id.clone(), P::terms(&spec), Some(spec), Some(reports));
        Ok(())
    }

    async fn stop(&self, attempt: &AttemptId, signal: StopSignal, kill_after: Duration) {
        let Some(attempt) = self.find_living(attempt).await else { return };
        self.attempts.spawn(async move { attempt.stop(signal, kill_after, "it was asked to stop").await });
    }

    async fn kill(&self, attempt: &AttemptId) {
        let Some(attempt) = self.find_living(attempt).await else { return };
        self.attempts.spawn(async move { attempt.kill("it was told to").await });
    }

    async fn find(&self) -> Vec<Found> {
        let (runs, host) = (self.runs.clone(), self.platform.host().engine.host());
        let noted = tokio::task::spawn_blocking(move || noted(&runs, P::Workload::NAME_FILE))
            .await
            .unwrap_or_default();
        match self.platform.list(&self.runs).await {
            Ok(all) => {
                let listed: HashSet<_> = all.iter().map(|(attempt, _)| attempt.clone()).collect();
                let there = all.into_iter().filter_map(|(attempt, presence)| self.listed(attempt, presence));
                // What was removed; how it ended may have been written down.
                let removed = noted
                    .into_iter()
                    .filter(|attempt| !listed.contains(attempt))
                    .map(|attempt| self.found(attempt));
                there.chain(removed.filter(|found| found.ended.is_some())).collect()
            }
            Err(error) if noted.is_empty() => {
                tracing::debug!(
                    engine = host,
                    error = explain(&error),
                    "no engine for a {}, and nothing to find there",
                    P::WORD
                );
                Vec::new()
            }
            Err(error) => {
                tracing::error!(
                    engine = host,
                    error = explain(&error),
                    "the engine does not answer; what ran on it is taken to run on"
                );
                noted.into_iter().map(|attempt| self.found(attempt)).collect()
            }
        }
    }

    async fn adopt(&self, attempt: &AttemptId, reports: Reports) {
        self.adopt_for(attempt, Some(reports));
    }

    async fn forget(&self, attempt: &AttemptId) {
        let folder = self.runs.join(attempt.path());
        if !folder.join(P::Workload::NAME_FILE).exists() {
            return;
        }
        let name = self.platform.name(attempt);
        if !folder.join(folder::EXIT).exists() {
            // It ended with nobody watching, and what it printed goes with the container.
            let engine = &self.platform.host().engine;
            let rest = output::copy(engine, &folder, P::Workload::source(name.clone()), Part::Rest);
            match tokio::time::timeout(LAST_OUTPUT, rest).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%attempt, %error, "the end of an attempt's output could not be kept")
                }
                Err(_) => tracing::warn!(%attempt, "the end of an attempt's output did not come in time"),
            }
        }
        if let Err(error) = self.platform.remove(&name).await {
            tracing::warn!(%attempt, error = explain(&error), "a {} that ended cannot be removed; it will be found again", P::WORD);
            return;
        }
        self.platform.remove_secrets(attempt).await;
        folder::mark_done(&folder);
    }
}
