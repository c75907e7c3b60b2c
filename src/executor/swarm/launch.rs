//! From an attempt's specification to a service.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, TaskSpecContainerSpecSecrets};
use bollard::query_parameters::{InspectNetworkOptions, ListSecretsOptions};

use super::secrets::{self, Needed};
use super::service::{self, Particulars};
use super::status::folder_of;
use config::{DockerSettings, Pull, SwarmSettings};
use domain::dag::Program;
use domain::ids::AttemptId;
use domain::run::Exit;
use crate::AttemptSpec;
use crate::docker::container::{self, Surroundings, label, references};
use crate::docker::engine::{Engine, explain, status};
use crate::folder::{self, Durability};
use crate::keeper::Keepers;

/// File name of the service's name in an attempt's folder.
pub(in crate) const SERVICE: &str = "service";
/// Real time between tries at a manager that went away in the middle of a start.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// How often it is tried: a swarm that elects a new leader has one by then.
const TRIES: u32 = 60;

/// Makes services.
pub(super) struct Launcher {
    pub(super) settings: DockerSettings,
    pub(super) swarm: SwarmSettings,
    /// Stores that only this machine has, as the configuration names them.
    pub(super) local: Vec<String>,
    pub(super) around: Surroundings,
    pub(super) engine: Arc<Engine>,
    pub(super) keepers: Keepers,
}

/// Why a service was not made.
enum Failure {
    /// The step is at fault.
    Step(String),
    /// The manager does not answer: the service may be there.
    Interrupted(String),
}

impl Launcher {
    /// Makes an attempt's service, or finds that it was made before. A manager that goes away is asked again, since nobody else may start
    /// the step while its service may be there.
    ///
    /// # Errors
    /// How the attempt ended instead.
    pub(super) async fn start(&self, spec: &AttemptSpec, name: &str) -> Result<(), Exit> {
        self.refuse_local(spec).map_err(Exit::NotStarted)?;
        if let Err(error) = prepare(spec, name) {
            let why = format!("its folder {} cannot be written: {error}", spec.folder.display());
            return Err(Exit::Lost(format!("{why}; check the disk's free space and the folder's permissions")));
        }
        let mut tries = 0;
        loop {
            match self.launch(spec, name).await {
                Ok(()) => return Ok(()),
                Err(Failure::Interrupted(why)) if tries < TRIES => {
                    tries += 1;
                    tracing::warn!(attempt = %spec.id, %why, "a service cannot be made yet; the manager is asked again");
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                Err(Failure::Interrupted(why)) => {
                    return Err(Exit::Lost(format!("{why}; see whether it runs and is a manager (docker node ls)")));
                }
                Err(Failure::Step(why)) => {
                    self.forget_secrets(&spec.id).await;
                    unmark(spec);
                    return Err(Exit::NotStarted(why));
                }
            }
        }
    }

    /// Built-in programs need stores that other machines reach.
    fn refuse_local(&self, spec: &AttemptSpec) -> Result<(), String> {
        if matches!(spec.step.program, Program::Command { .. }) || self.local.is_empty() {
            return Ok(());
        }
        Err(format!(
            "step \"{}\" may run on another machine, which cannot reach {}; write the addresses of servers into the configuration \
             (kafka://…, mongodb://…, https://…, s3://…), or another executor into the step",
            spec.step.name,
            self.local.join(", ")
        ))
    }

    async fn launch(&self, spec: &AttemptSpec, name: &str) -> Result<(), Failure> {
        let settings = self.settings.of(&spec.step);
        let mut body = container::body(spec, &settings, &self.around, |_| None).map_err(Failure::Step)?;
        without_secret_files(&mut body, spec, &self.around);
        let network = self.network(&settings.network).await?;
        let image = self.image(body.image.as_deref().unwrap_or_default(), settings.pull).await?;
        let user = body.user.clone().unwrap_or_default();
        let read = |path: &std::path::Path| std::fs::read(path).ok();
        let needed = secrets::needed(spec, &self.around, |name| std::env::var(name).ok(), read).map_err(Failure::Step)?;
        let mut secrets = Vec::new();
        for one in &needed {
            secrets.push(self.secret(one, &spec.id, &user).await?);
        }
        let constraints = self.swarm.placement_of(&spec.step).to_vec();
        let service = service::spec(spec, name.to_owned(), body, Particulars { image, network, secrets, constraints });
        let client = self.engine.client().await.map_err(|e| self.failure(&e))?;
        // Before it runs: nothing may, with nobody who ends it.
        self.keepers.ensure(&spec.folder).await;
        match client.create_service(service, None).await {
            Ok(made) => {
                made.warnings.iter().flatten().for_each(|warning| tracing::warn!(service = name, "{warning}"));
                Ok(())
            }
            // An earlier start came so far.
            Err(error) if status(&error) == Some(409) => Ok(()),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// The image as the nodes find it. Nodes that must not pull get its id: the same image was loaded on each of them.
    async fn image(&self, name: &str, pull: Pull) -> Result<String, Failure> {
        if pull != Pull::Never {
            return Ok(name.to_owned());
        }
        let client = self.engine.client().await.map_err(|e| self.failure(&e))?;
        match client.inspect_image(name).await {
            Ok(found) => Ok(found.id.unwrap_or_else(|| name.to_owned())),
            Err(error) if status(&error) == Some(404) => Err(Failure::Step(format!(
                "image \"{name}\" is not on the manager, and pull: never forbids to get it; load the same image on every node (docker load)"
            ))),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// The network's id: a service names networks by that.
    async fn network(&self, name: &str) -> Result<Option<String>, Failure> {
        let name = match name {
            "bridge" => return Ok(None),
            "none" => {
                let why = "network: none does not exist in a swarm; write bridge, host or the name of an overlay network";
                return Err(Failure::Step(why.into()));
            }
            name => name,
        };
        let client = self.engine.client().await.map_err(|e| self.failure(&e))?;
        let options = InspectNetworkOptions { scope: Some("swarm".into()), ..InspectNetworkOptions::default() };
        match client.inspect_network(name, Some(options)).await {
            Ok(found) => Ok(Some(found.id.unwrap_or_else(|| name.to_owned()))),
            Err(error) if status(&error) == Some(404) => Err(Failure::Step(format!(
                "the swarm has no network \"{name}\"; make one (docker network create --driver overlay {name}), or write host or bridge"
            ))),
            Err(error) => Err(self.failure(&error)),
        }
    }

    async fn secret(&self, needed: &Needed, attempt: &AttemptId, user: &str) -> Result<TaskSpecContainerSpecSecrets, Failure> {
        let client = self.engine.client().await.map_err(|e| self.failure(&e))?;
        let labels = secrets::labels(&self.around.installation(), attempt);
        let id = match client.create_secret(needed.spec(labels)).await {
            Ok(made) => made.id,
            // An earlier start came so far.
            Err(error) if status(&error) == Some(409) => {
                client.inspect_secret(&needed.name).await.map_err(|e| self.failure(&e))?.id.unwrap_or_default()
            }
            Err(error) => return Err(self.failure(&error)),
        };
        Ok(needed.reference(id, user))
    }

    /// Removes an attempt's secrets; their values are in the manager's store until then.
    pub(super) async fn forget_secrets(&self, attempt: &AttemptId) {
        let wanted = secrets::labels(&self.around.installation(), attempt);
        let filters =
            HashMap::from([("label".to_owned(), vec![format!("{}={}", label::INSTALLATION, self.around.installation())])]);
        let forget = async {
            let client = self.engine.client().await?;
            for secret in client.list_secrets(Some(ListSecretsOptions { filters: Some(filters) })).await? {
                let labels = secret.spec.as_ref().and_then(|s| s.labels.as_ref());
                if labels.is_some_and(|labels| wanted.iter().all(|(name, value)| labels.get(name) == Some(value))) {
                    client.delete_secret(&secret.id.unwrap_or_default()).await?;
                }
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = forget.await {
            tracing::warn!(%attempt, error = explain(&error), "secrets of an attempt that ended stay in the swarm");
        }
    }

    /// A refusal of the manager is the step's fault, silence the manager's.
    fn failure(&self, error: &Error) -> Failure {
        let (place, why) = (self.engine.place(), explain(error));
        match status(error) {
            Some(503) if why.contains("not a swarm manager") => Failure::Step(format!(
                "the engine at {place} is no manager of a swarm; write docker swarm init there, or set docker.host to a manager"
            )),
            Some(code) if (400..500).contains(&code) => Failure::Step(format!("the swarm refuses it: {why}")),
            _ => Failure::Interrupted(format!("the swarm's manager at {place} cannot be used: {why}")),
        }
    }
}

/// Files with secrets come by the swarm, not from the node's disk.
fn without_secret_files(body: &mut ContainerCreateBody, spec: &AttemptSpec, around: &Surroundings) {
    let (_, files) = references(spec, around);
    if let Some(mounts) = body.host_config.as_mut().and_then(|host| host.mounts.as_mut()) {
        mounts.retain(|mount| mount.source.as_ref().is_none_or(|source| !files.contains(source)));
    }
}

/// There is no service to look for.
fn unmark(spec: &AttemptSpec) {
    match std::fs::remove_file(spec.folder.join(SERVICE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(attempt = %spec.id, %error, "an attempt that was not started looks as if it had been");
        }
        _ => {}
    }
}

fn prepare(spec: &AttemptSpec, name: &str) -> io::Result<()> {
    std::fs::create_dir_all(&spec.folder)?;
    if spec.step.replicas > 1 {
        (1..=spec.step.replicas).try_for_each(|n| std::fs::create_dir_all(folder_of(&spec.folder, n)))?;
    }
    folder::write(&spec.folder.join(folder::SPEC), spec, Durability::Synced)?;
    std::fs::write(spec.folder.join(SERVICE), format!("{name}\n"))
}
