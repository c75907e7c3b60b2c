//! From an attempt's specification to a running container.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::{CreateContainerOptions, CreateImageOptions};
use futures_util::StreamExt;

use super::container::{self, Surroundings};
use super::engine::{Engine, explain, status};
use super::executor::CONTAINER;
use super::watch::Watched;
use config::{DockerSettings, Pull};
use domain::dag::Program;
use domain::run::Exit;
use crate::folder::{self, Durability};
use crate::keeper::Keepers;
use crate::{AttemptSpec, secrets};

/// Real time between tries at an engine that went away in the middle of a start.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// How often it is tried: an engine that restarts is back by then.
const TRIES: u32 = 60;

/// Makes containers.
pub(super) struct Launcher {
    pub(super) settings: DockerSettings,
    pub(super) around: Surroundings,
    pub(super) engine: Arc<Engine>,
    pub(super) keepers: Keepers,
}

/// Why a container was not started.
enum Failure {
    /// The step is at fault: the reason and the remedy.
    Step(String, &'static str),
    /// The engine cannot be reached: nothing was made.
    Unreached(String),
    /// The engine went away: the container may be there.
    Interrupted(String),
}

impl Launcher {
    /// Starts an attempt's container, or finds that it was started before. Where the engine goes away in the middle it is asked again, since
    /// nobody else may start the step while its container may run.
    ///
    /// # Errors
    /// How the attempt ended instead.
    pub(super) async fn start(&self, spec: &AttemptSpec, watched: &Watched) -> Result<(), Exit> {
        if let Err(error) = prepare(spec, &watched.name) {
            let why = format!("its folder {} cannot be written: {error}", spec.folder.display());
            return Err(Exit::Lost(format!("{why}; check the disk's free space and the folder's permissions")));
        }
        let mut tries = 0;
        loop {
            let failure = match self.launch(spec, &watched.name).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let interrupted = tries > 0 || matches!(failure, Failure::Interrupted(_));
            match failure {
                Failure::Interrupted(why) | Failure::Unreached(why) if interrupted && tries < TRIES => {
                    tries += 1;
                    tracing::warn!(attempt = %spec.id, %why, "the engine went away in the middle of a start; it is asked again");
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                Failure::Interrupted(why) => return Err(Exit::Lost(why)),
                Failure::Unreached(why) => {
                    self.unmark(spec);
                    return Err(Exit::Lost(format!(
                        "{why}; see whether it runs (docker info), or set docker.host in the configuration"
                    )));
                }
                Failure::Step(why, remedy) => {
                    self.unmark(spec);
                    return Err(Exit::NotStarted(if remedy.is_empty() { why } else { format!("{why}; {remedy}") }));
                }
            }
        }
    }

    /// There is no container to look for.
    fn unmark(&self, spec: &AttemptSpec) {
        match std::fs::remove_file(spec.folder.join(CONTAINER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(attempt = %spec.id, %error, "an attempt that was not started looks as if it had been");
            }
            _ => {}
        }
    }

    /// Makes and starts the attempt's container, or finds that it was before.
    async fn launch(&self, spec: &AttemptSpec, name: &str) -> Result<(), Failure> {
        let settings = self.settings.of(&spec.step);
        let mut body = container::body(spec, &settings, &self.around, |name| std::env::var(name).ok())
            .map_err(|why| Failure::Step(why, ""))?;
        let secrets = secrets::of_command(&spec.step, config::resolve).map_err(|why| Failure::Step(why, ""))?;
        body.env.get_or_insert_default().extend(secrets.into_iter().map(|(name, value)| format!("{name}={value}")));
        let client = self.engine.client().await.map_err(|e| Failure::Unreached(self.silent(&e)))?;
        let image = body.image.clone().unwrap_or_default();
        if settings.pull == Pull::Always {
            self.pull(client, &image).await?;
        }
        let options = || Some(CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() });
        let mut made = client.create_container(options(), body.clone()).await;
        if made.as_ref().err().is_some_and(|e| status(e) == Some(404) && !lacks_network(e)) && settings.pull == Pull::Missing {
            self.pull(client, &image).await?;
            made = client.create_container(options(), body).await;
        }
        match made {
            Ok(made) => made.warnings.iter().for_each(|warning| tracing::warn!(container = name, "{warning}")),
            // An earlier start came so far.
            Err(error) if status(&error) == Some(409) => {
                let found = self.engine.look(name).await.map_err(|e| self.refused(&e, &image))?;
                if found.and_then(|s| s.status) != Some(ContainerStateStatusEnum::CREATED) {
                    return Ok(());
                }
            }
            Err(error) => return Err(self.refused(&error, &image)),
        }
        // Before it runs: nothing may, with nobody who ends it.
        self.keepers.ensure(&spec.folder).await;
        if let Err(error) = client.start_container(name, None).await {
            let failure = self.refused(&error, &image);
            // Nothing ran in it; it must not stand in the way of a look at what is there.
            if let Err(error) = self.engine.remove(name).await {
                tracing::warn!(container = name, error = explain(&error), "a container that could not be started stays");
            }
            return Err(failure);
        }
        Ok(())
    }

    async fn pull(&self, client: &bollard::Docker, image: &str) -> Result<(), Failure> {
        let tagged = image.contains('@') || image.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let options = CreateImageOptions {
            from_image: Some(image.to_owned()),
            tag: (!tagged).then(|| "latest".to_owned()),
            ..CreateImageOptions::default()
        };
        let mut progress = std::pin::pin!(client.create_image(Some(options), None, None));
        while let Some(step) = progress.next().await {
            if let Err(error) = step {
                let why = format!("image \"{image}\" is not on the engine and cannot be pulled: {}", explain(&error));
                return Err(Failure::Step(why, "build or load it there (docker build, docker load), or correct its name"));
            }
        }
        Ok(())
    }

    fn silent(&self, error: &Error) -> String {
        format!("the Docker Engine at {} cannot be reached: {}", self.engine.place(), explain(error))
    }

    /// A refusal of the engine is the step's fault, silence the engine's.
    fn refused(&self, error: &Error, image: &str) -> Failure {
        match status(error) {
            Some(404) if lacks_network(error) => Failure::Step(
                format!("the engine lacks a network: {}", explain(error)),
                "make it there (docker network create), or correct network: of container: in the DAG file, or in the configuration",
            ),
            Some(404) => Failure::Step(
                format!("image \"{image}\" is not on the engine: {}", explain(error)),
                "build or load it there (docker build, docker load), or write pull: missing into container: or the configuration",
            ),
            Some(400) if explain(error).contains("mount") => {
                let why = format!("the engine refuses a mount: {}", explain(error));
                Failure::Step(why, "look at mounts: of container: in the DAG file; paths are those of the engine's machine")
            }
            Some(code) if (400..500).contains(&code) => Failure::Step(format!("the engine refuses it: {}", explain(error)), ""),
            // The engine reports programs that cannot be executed as its own failure.
            Some(_) if explain(error).contains("OCI runtime") => {
                Failure::Step(format!("its program cannot be executed: {}", explain(error)), "look at command: and at the image")
            }
            _ => Failure::Interrupted(self.silent(error)),
        }
    }
}

/// Whether an engine says that it does not have a network.
fn lacks_network(error: &Error) -> bool {
    let said = explain(error);
    said.starts_with("network ") && said.ends_with("not found")
}

/// Gives the folder of a command to the user whom its step names, so that it can write its status and its result. Only root can; for anybody else
/// the folder stays as it is, and a step that writes nothing there does not miss it.
fn give_folder(spec: &AttemptSpec) {
    let Some(user) = spec.step.container.user.filter(|_| matches!(spec.step.program, Program::Command { .. })) else { return };
    if let Err(error) = std::os::unix::fs::chown(&spec.folder, Some(user.uid), user.gid) {
        tracing::warn!(attempt = %spec.id, %user, %error, "a step's user cannot be given its folder; it cannot write its status or result");
    }
}

fn prepare(spec: &AttemptSpec, name: &str) -> io::Result<()> {
    std::fs::create_dir_all(&spec.folder)?;
    give_folder(spec);
    folder::write(&spec.folder.join(folder::SPEC), spec, Durability::Synced)?;
    std::fs::write(spec.folder.join(CONTAINER), format!("{name}\n"))
}
