//! What a service is made of: pure. A container as the Docker executor makes it, said in the words of a
//! swarm.

use bollard::models::{
    ContainerCreateBody, HostConfig, Limit, Mount, MountTmpfsOptions, MountType, NetworkAttachmentConfig,
    ServiceSpec, ServiceSpecMode, ServiceSpecModeReplicated, ServiceSpecUpdateConfig, TaskSpec,
    TaskSpecContainerSpec, TaskSpecContainerSpecPrivileges, TaskSpecContainerSpecSecrets, TaskSpecLogDriver,
    TaskSpecPlacement, TaskSpecResources, TaskSpecRestartPolicy, TaskSpecRestartPolicyConditionEnum,
};

use super::watchdog;
use crate::AttemptSpec;
use crate::container::definition::{self, label, nanoseconds};
use domain::dag::{Step, StepKind};
use domain::ids::AttemptId;

/// A placement that no node satisfies: a service that gets it loses its tasks, and keeps what is known of
/// them.
pub(super) const NOWHERE: &str = "node.id==nowhere";
/// Where a swarm mounts secrets.
const SECRETS: &str = "/run/secrets";
/// Longest name of a service.
const LONGEST_NAME: usize = 63;
/// Bytes of a container's `/tmp`.
const TEMPORARY: i64 = 64 << 20;

/// What the attempt's specification does not say.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceSettings {
    /// The image, as the nodes find it.
    pub(super) image: String,
    /// The network's id; `None`: each node's own bridge.
    pub(super) network: Option<String>,
    /// Secrets, made before.
    pub(super) secrets: Vec<TaskSpecContainerSpecSecrets>,
    /// Where it may run.
    pub(super) constraints: Vec<String>,
}

/// The name of an attempt's service: letters, digits and single signs between them, 63 at most. The labels
/// have the exact words.
pub(super) fn name(installation: &str, attempt: &AttemptId) -> String {
    let long = definition::name(installation, attempt).replace('.', "-");
    if long.len() <= LONGEST_NAME {
        return long;
    }
    let mark = format!("{:08x}-{}", crc32fast::hash(long.as_bytes()), attempt.attempt);
    let room = LONGEST_NAME - mark.len() - 1;
    format!("{}-{mark}", long[..room].trim_end_matches(['-', '_']))
}

/// The service of an attempt, whose container would be `body`.
pub(super) fn spec(
    attempt: &AttemptSpec,
    name: String,
    mut body: ContainerCreateBody,
    given: ServiceSettings,
) -> ServiceSpec {
    let step = &attempt.step;
    let host = body.host_config.take().unwrap_or_default();
    let limits = Limit { nano_cpus: host.nano_cpus, memory_bytes: host.memory, pids: host.pids_limit };
    // Also what comes to its end by itself: engines before 24.0 leave containers and tasks of removed jobs
    // behind for ever (moby/moby#44312), and some of them running.
    let replicas = if step.kind == StepKind::Service { step.replicas.max(1) } else { 1 };
    let mode = ServiceSpecMode {
        replicated: Some(ServiceSpecModeReplicated { replicas: Some(i64::from(replicas)) }),
        ..ServiceSpecMode::default()
    };
    let attach =
        |id| vec![NetworkAttachmentConfig { target: Some(id), ..NetworkAttachmentConfig::default() }];
    let labels = body.labels.clone();
    let log = host.log_config.clone();
    ServiceSpec {
        name: Some(name),
        labels,
        task_template: Some(TaskSpec {
            container_spec: Some(container(step, body, host, given.image, given.secrets)),
            resources: Some(TaskSpecResources { limits: Some(limits), ..TaskSpecResources::default() }),
            restart_policy: Some(restart(step)),
            placement: Some(TaskSpecPlacement {
                constraints: Some(given.constraints),
                ..TaskSpecPlacement::default()
            }),
            networks: given.network.map(attach),
            log_driver: log.map(|log| TaskSpecLogDriver { name: log.typ, options: log.config }),
            ..TaskSpec::default()
        }),
        mode: Some(mode),
        // An eviction is for all copies at once.
        update_config: Some(ServiceSpecUpdateConfig {
            parallelism: Some(0),
            ..ServiceSpecUpdateConfig::default()
        }),
        ..ServiceSpec::default()
    }
}

/// The container of each task.
fn container(
    step: &Step,
    body: ContainerCreateBody,
    host: HostConfig,
    image: String,
    secrets: Vec<TaskSpecContainerSpecSecrets>,
) -> TaskSpecContainerSpec {
    let mut environment: Vec<String> =
        body.env.unwrap_or_default().iter().map(|line| literal(line)).collect();
    environment.push(format!("{}={{{{.Task.ID}}}}", watchdog::TASK));
    environment.push(format!("{}={SECRETS}", config::SECRETS_FOLDER));
    if step.replicas > 1 {
        environment.push(format!("{}={{{{.Task.Slot}}}}", watchdog::REPLICA));
    }
    let mut mounts = host.mounts.unwrap_or_default();
    mounts.extend(host.tmpfs.unwrap_or_default().into_keys().map(|target| Mount {
        target: Some(target),
        typ: Some(MountType::TMPFS),
        tmpfs_options: Some(MountTmpfsOptions {
            size_bytes: Some(TEMPORARY),
            mode: Some(0o1777),
            ..MountTmpfsOptions::default()
        }),
        ..Mount::default()
    }));
    // Not the installation's: containers of that label are the Docker executor's.
    let labels = body.labels.unwrap_or_default().into_iter().filter(|(name, _)| name != label::INSTALLATION);
    TaskSpecContainerSpec {
        image: Some(image),
        labels: Some(labels.collect()),
        command: body.entrypoint,
        args: body.cmd,
        env: Some(environment),
        user: body.user,
        privileges: Some(TaskSpecContainerSpecPrivileges {
            no_new_privileges: Some(true),
            ..Default::default()
        }),
        read_only: host.readonly_rootfs,
        mounts: Some(mounts),
        stop_signal: Some(step.stop.signal.name().to_owned()),
        stop_grace_period: Some(nanoseconds(step.stop_time())),
        health_check: body.healthcheck,
        secrets: Some(secrets),
        init: host.init,
        capability_drop: host.cap_drop,
        ..TaskSpecContainerSpec::default()
    }
}

/// Only one of several copies is started again.
fn restart(step: &Step) -> TaskSpecRestartPolicy {
    use TaskSpecRestartPolicyConditionEnum::{ANY, NONE};
    let several = step.replicas > 1;
    TaskSpecRestartPolicy {
        condition: Some(if several { ANY } else { NONE }),
        delay: several.then(|| nanoseconds(step.restart.backoff.initial)),
        max_attempts: step.restart.max.filter(|_| several).map(i64::from),
        ..TaskSpecRestartPolicy::default()
    }
}

/// The same service, with nowhere to run: its tasks are stopped with the step's signal and grace. `None`: it
/// is so already.
pub(super) fn evicted(mut spec: ServiceSpec) -> Option<ServiceSpec> {
    if is_evicted(&spec) {
        return None;
    }
    let placement = spec.task_template.get_or_insert_default().placement.get_or_insert_default();
    placement.constraints.get_or_insert_default().push(NOWHERE.to_owned());
    Some(spec)
}

/// Whether the service was given nowhere to run.
pub(super) fn is_evicted(spec: &ServiceSpec) -> bool {
    let constraints =
        spec.task_template.as_ref().and_then(|t| t.placement.as_ref()).and_then(|p| p.constraints.as_ref());
    constraints.is_some_and(|all| all.iter().any(|one| one == NOWHERE))
}

/// A line of the environment in which a swarm finds none of its templates.
fn literal(line: &str) -> String {
    line.replace("{{", "{{\"{{\"}}")
}

#[cfg(test)]
mod tests;
