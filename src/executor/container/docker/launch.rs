//! From an attempt's specification to a running container, and back from what the engine has.

use std::path::Path;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::{CreateContainerOptions, CreateImageOptions, ListContainersOptions};
use futures_util::StreamExt;

use super::container::{Container, exit_of};
use crate::container::Terms;
use crate::container::definition;
use crate::container::engine::{explain, http_status};
use crate::container::executor::{Failure, Host, Platform, Presence};
use crate::container::exits;
use crate::{AttemptSpec, folder, secrets};
use config::Pull;
use domain::dag::{ExecutorKind, StopSignal};
use domain::ids::AttemptId;

/// An engine, with which attempts become containers.
pub(super) struct DockerEngine {
    pub(super) host: Host,
}

impl Platform for DockerEngine {
    type Workload = Container;
    const KIND: ExecutorKind = ExecutorKind::Docker;
    const WORD: &'static str = "container";
    const WITHOUT_SPEC: Option<Terms> = Some(Terms {
        deadline: None,
        signal: StopSignal::Term,
        stop_time: Duration::ZERO,
        replicas: 1,
        built_in: false,
    });

    fn host(&self) -> &Host {
        &self.host
    }

    fn name(&self, attempt: &AttemptId) -> String {
        definition::name(&self.host.installation.id(), attempt)
    }

    fn workload(&self) -> Container {
        Container
    }

    fn terms(spec: &AttemptSpec) -> Terms {
        Terms { replicas: 1, ..Terms::of(spec) }
    }

    async fn launch(&self, spec: &AttemptSpec, name: &str) -> Result<(), Failure> {
        let settings = self.host.settings.of(&spec.step);
        let mut body =
            definition::body(spec, &settings, &self.host.installation, |name| std::env::var(name).ok())
                .map_err(Failure::Step)?;
        let secrets = secrets::of_command(&spec.step, config::resolve).map_err(Failure::Step)?;
        body.env
            .get_or_insert_default()
            .extend(secrets.into_iter().map(|(name, value)| format!("{name}={value}")));
        let client = self.host.engine.client().await.map_err(|e| self.unreached(&e))?;
        let image = body.image.clone().unwrap_or_default();
        if settings.pull == Pull::Always {
            self.pull(client, &image).await?;
        }
        let options = || {
            Some(CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() })
        };
        let mut made = client.create_container(options(), body.clone()).await;
        if made.as_ref().err().is_some_and(|e| http_status(e) == Some(404) && !lacks_network(e))
            && settings.pull == Pull::Missing
        {
            self.pull(client, &image).await?;
            made = client.create_container(options(), body).await;
        }
        match made {
            Ok(made) => {
                made.warnings.iter().for_each(|warning| tracing::warn!(container = name, "{warning}"))
            }
            // An earlier start came so far.
            Err(error) if http_status(&error) == Some(409) => {
                let found = self.host.engine.inspect(name).await.map_err(|e| self.refused(&e, &image))?;
                if found.and_then(|s| s.status) != Some(ContainerStateStatusEnum::CREATED) {
                    return Ok(());
                }
            }
            Err(error) => return Err(self.refused(&error, &image)),
        }
        // Before it runs: nothing may, with nobody who ends it.
        self.host.keepers.ensure(&spec.folder).await;
        if let Err(error) = client.start_container(name, None).await {
            let failure = self.refused(&error, &image);
            // Nothing ran in it; it must not stand in the way of a look at what is there.
            if let Err(error) = self.host.engine.remove(name).await {
                tracing::warn!(
                    container = name,
                    error = explain(&error),
                    "a container that could not be started stays"
                );
            }
            return Err(failure);
        }
        Ok(())
    }

    async fn has(&self, name: &str) -> bool {
        matches!(self.host.engine.inspect(name).await, Ok(Some(_)))
    }

    async fn list(&self, runs: &Path) -> Result<Vec<(AttemptId, Presence)>, Error> {
        let installation = self.host.installation.id();
        let options = ListContainersOptions {
            all: true,
            filters: definition::filter(&installation),
            ..ListContainersOptions::default()
        };
        let mut all = Vec::new();
        for summary in self.host.engine.client().await?.list_containers(Some(options)).await? {
            let attempt =
                summary.labels.as_ref().and_then(|labels| definition::attempt_of(&installation, labels));
            let Some(attempt) = attempt else { continue };
            let Some(state) = self.host.engine.inspect(&self.name(&attempt)).await? else { continue };
            let folder = runs.join(attempt.path());
            let presence = if state.status == Some(ContainerStateStatusEnum::CREATED) {
                Presence::Made
            } else if exits::has_ended(&state) {
                let signal = folder::read_spec(&folder).ok().map(|spec| spec.step.stop.signal);
                Presence::Ended(exit_of(&folder, &state, signal, true))
            } else {
                Presence::Running
            };
            all.push((attempt, presence));
        }
        Ok(all)
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        self.host.engine.remove(name).await
    }
}

impl DockerEngine {
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
                let why = format!(
                    "image \"{image}\" is not on the engine and cannot be pulled: {}",
                    explain(&error)
                );
                let remedy = "build or load it there (docker build, docker load), or correct its name";
                return Err(Failure::Step(format!("{why}; {remedy}")));
            }
        }
        Ok(())
    }

    fn silent(&self, error: &Error) -> String {
        format!("the Docker Engine at {} cannot be reached: {}", self.host.engine.host(), explain(error))
    }

    fn unreached(&self, error: &Error) -> Failure {
        let why = self.silent(error);
        Failure::Unreached(format!(
            "{why}; see whether it runs (docker info), or set docker.host in the configuration"
        ))
    }

    /// A refusal of the engine is the step's fault, silence the engine's.
    fn refused(&self, error: &Error, image: &str) -> Failure {
        let said = explain(error);
        Failure::Step(match http_status(error) {
            Some(404) if lacks_network(error) => format!(
                "the engine lacks a network: {said}; make it there (docker network create), or correct network: of container: in \
                 the DAG file, or in the configuration"
            ),
            Some(404) => format!(
                "image \"{image}\" is not on the engine: {said}; build or load it there (docker build, docker load), or write \
                 pull: missing into container: or the configuration"
            ),
            Some(400) if said.contains("mount") => format!(
                "the engine refuses a mount: {said}; look at mounts: of container: in the DAG file; paths are those of the \
                 engine's machine"
            ),
            Some(code) if (400..500).contains(&code) => format!("the engine refuses it: {said}"),
            // The engine reports programs that cannot be executed as its own failure.
            Some(_) if said.contains("OCI runtime") => {
                format!("its program cannot be executed: {said}; look at command: and at the image")
            }
            _ => return Failure::Interrupted(self.silent(error)),
        })
    }
}

/// Whether an engine says that it does not have a network.
fn lacks_network(error: &Error) -> bool {
    let said = explain(error);
    said.starts_with("network ") && said.ends_with("not found")
}
