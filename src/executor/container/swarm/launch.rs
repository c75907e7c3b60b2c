//! From an attempt's specification to a service, and back from what the swarm has.

use std::path::Path;
use std::sync::Arc;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, TaskSpecContainerSpecSecrets};
use bollard::query_parameters::{InspectNetworkOptions, ListSecretsOptions};

use super::attempt::Service;
use super::poll::Poller;
use super::secrets::{self, Needed};
use super::service::{self, ServiceSettings};
use crate::AttemptSpec;
use crate::container::definition::{self, references};
use crate::container::engine::{explain, http_status};
use crate::container::executor::{Failure, Host, Platform, Presence};
use crate::container::{Installation, Terms};
use config::{Pull, SwarmSettings};
use domain::dag::{ExecutorKind, Program};
use domain::ids::AttemptId;

/// A manager of a swarm, with which attempts become services.
pub(super) struct SwarmManager {
    pub(super) host: Host,
    pub(super) swarm: SwarmSettings,
    /// Stores that only this machine has, as the configuration names them.
    pub(super) local: Vec<String>,
    pub(super) poller: Arc<Poller>,
}

impl Platform for SwarmManager {
    type Workload = Service;
    const KIND: ExecutorKind = ExecutorKind::Swarm;
    const WORD: &'static str = "service";
    const WITHOUT_SPEC: Option<Terms> = None;

    fn host(&self) -> &Host {
        &self.host
    }

    fn name(&self, attempt: &AttemptId) -> String {
        service::name(&self.host.installation.id(), attempt)
    }

    fn workload(&self) -> Service {
        Service::new(Arc::clone(&self.poller))
    }

    /// Built-in programs need stores that other machines reach.
    fn refuse(&self, spec: &AttemptSpec) -> Result<(), String> {
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
        let settings = self.host.settings.of(&spec.step);
        let mut body =
            definition::body(spec, &settings, &self.host.installation, |_| None).map_err(Failure::Step)?;
        without_secret_files(&mut body, spec, &self.host.installation);
        let network = self.network(&settings.network).await?;
        let image = self.image(body.image.as_deref().unwrap_or_default(), settings.pull).await?;
        let user = body.user.clone().unwrap_or_default();
        let read = |path: &std::path::Path| std::fs::read(path).ok();
        let needed = secrets::needed(spec, &self.host.installation, |name| std::env::var(name).ok(), read)
            .map_err(Failure::Step)?;
        let mut secrets = Vec::new();
        for one in &needed {
            secrets.push(self.secret(one, &spec.id, &user).await?);
        }
        let constraints = self.swarm.placement_of(&spec.step).to_vec();
        let service = service::spec(
            spec,
            name.to_owned(),
            body,
            ServiceSettings { image, network, secrets, constraints },
        );
        let client = self.host.engine.client().await.map_err(|e| self.failure(&e))?;
        // Before it runs: nothing may, with nobody who ends it.
        self.host.keepers.ensure(&spec.folder).await;
        match client.create_service(service, None).await {
            Ok(made) => {
                made.warnings
                    .iter()
                    .flatten()
                    .for_each(|warning| tracing::warn!(service = name, "{warning}"));
                Ok(())
            }
            // An earlier start came so far.
            Err(error) if http_status(&error) == Some(409) => Ok(()),
            Err(error) => Err(self.failure(&error)),
        }
    }

    async fn has(&self, name: &str) -> bool {
        match self.host.engine.client().await {
            Ok(client) => client.inspect_service(name, None).await.is_ok(),
            Err(_) => false,
        }
    }

    async fn list(&self, _runs: &Path) -> Result<Vec<(AttemptId, Presence)>, Error> {
        let (snapshot, installation) = (self.poller.poll().await?, self.host.installation.id());
        let attempts =
            snapshot.services.values().filter_map(|s| definition::attempt_of(&installation, &s.labels));
        Ok(attempts.map(|attempt| (attempt, Presence::Running)).collect())
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        match self.host.engine.client().await?.delete_service(name).await {
            Err(error) if http_status(&error) == Some(404) => Ok(()),
            removed => removed,
        }
    }

    /// Their values are in the manager's store until then.
    async fn remove_secrets(&self, attempt: &AttemptId) {
        let installation = self.host.installation.id();
        let wanted = definition::labels(&installation, attempt);
        let remove = async {
            let client = self.host.engine.client().await?;
            let options = ListSecretsOptions { filters: definition::filter(&installation) };
            for secret in client.list_secrets(Some(options)).await? {
                let labels = secret.spec.as_ref().and_then(|s| s.labels.as_ref());
                if labels
                    .is_some_and(|labels| wanted.iter().all(|(name, value)| labels.get(name) == Some(value)))
                {
                    client.delete_secret(&secret.id.unwrap_or_default()).await?;
                }
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = remove.await {
            tracing::warn!(%attempt, error = explain(&error), "secrets of an attempt that ended stay in the swarm");
        }
    }
}

impl SwarmManager {
    /// The image as the nodes find it. Nodes that must not pull get its id: the same image was loaded on each
    /// of them.
    async fn image(&self, name: &str, pull: Pull) -> Result<String, Failure> {
        if pull != Pull::Never {
            return Ok(name.to_owned());
        }
        let client = self.host.engine.client().await.map_err(|e| self.failure(&e))?;
        match client.inspect_image(name).await {
            Ok(found) => Ok(found.id.unwrap_or_else(|| name.to_owned())),
            Err(error) if http_status(&error) == Some(404) => Err(Failure::Step(format!(
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
        let client = self.host.engine.client().await.map_err(|e| self.failure(&e))?;
        let options =
            InspectNetworkOptions { scope: Some("swarm".into()), ..InspectNetworkOptions::default() };
        match client.inspect_network(name, Some(options)).await {
            Ok(found) => Ok(Some(found.id.unwrap_or_else(|| name.to_owned()))),
            Err(error) if http_status(&error) == Some(404) => Err(Failure::Step(format!(
                "the swarm has no network \"{name}\"; make one (docker network create --driver overlay {name}), or write host or bridge"
            ))),
            Err(error) => Err(self.failure(&error)),
        }
    }

    async fn secret(
        &self,
        needed: &Needed,
        attempt: &AttemptId,
        user: &str,
    ) -> Result<TaskSpecContainerSpecSecrets, Failure> {
        let client = self.host.engine.client().await.map_err(|e| self.failure(&e))?;
        let labels = definition::labels(&self.host.installation.id(), attempt);
        let id = match client.create_secret(needed.spec(labels)).await {
            Ok(made) => made.id,
            // An earlier start came so far.
            Err(error) if http_status(&error) == Some(409) => client
                .inspect_secret(&needed.name)
                .await
                .map_err(|e| self.failure(&e))?
                .id
                .unwrap_or_default(),
            Err(error) => return Err(self.failure(&error)),
        };
        Ok(needed.reference(id, user))
    }

    /// A refusal of the manager is the step's fault, silence the manager's.
    fn failure(&self, error: &Error) -> Failure {
        let (place, why) = (self.host.engine.host(), explain(error));
        match http_status(error) {
            Some(503) if why.contains("not a swarm manager") => Failure::Step(format!(
                "the engine at {place} is no manager of a swarm; write docker swarm init there, or set docker.host to a manager"
            )),
            Some(code) if (400..500).contains(&code) => Failure::Step(format!("the swarm refuses it: {why}")),
            _ => Failure::Interrupted(format!(
                "the swarm's manager at {place} cannot be used: {why}; see whether it runs and is a manager (docker node ls)"
            )),
        }
    }
}

/// Files with secrets come by the swarm, not from the node's disk.
fn without_secret_files(body: &mut ContainerCreateBody, spec: &AttemptSpec, installation: &Installation) {
    let (_, files) = references(spec, installation);
    if let Some(mounts) = body.host_config.as_mut().and_then(|host| host.mounts.as_mut()) {
        mounts.retain(|mount| mount.source.as_ref().is_none_or(|source| !files.contains(source)));
    }
}
