//! What a container is made of: pure.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType};

use config::DockerSettings;
use domain::dag::container::{Health, Source, is_below};
use domain::dag::{Program, SecretRef, container};
use domain::ids::AttemptId;
use crate::AttemptSpec;

/// Where programs write what nobody keeps.
const TMP: &str = "/tmp";

/// Labels of the product's containers.
pub(in crate) mod label {
    pub(in crate) const INSTALLATION: &str = "openbell.installation";
    pub(in crate) const RUN: &str = "openbell.run";
    pub(in crate) const STEP: &str = "openbell.step";
    pub(in crate) const ATTEMPT: &str = "openbell.attempt";
    pub(in crate) const DEADLINE: &str = "openbell.deadline";
}

/// What every container of an installation is given.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The daemon's data folder (absolute). Built-in programs have it, at the same path.
    pub data: PathBuf,
    /// The DAG folder (absolute). Built-in programs may read it, at the same path.
    pub dags: PathBuf,
    /// Environment of built-in programs.
    pub environment: Vec<(String, String)>,
    /// Numbers of the user and group that own the data folder.
    pub owner: (u32, u32),
}

impl Surroundings {
    /// Tells this installation's containers from those of others on the same engine.
    pub fn installation(&self) -> String {
        format!("{:08x}", crc32fast::hash(self.data.as_os_str().as_encoded_bytes()))
    }
}

/// The name of an attempt's container. Engines allow letters, digits and `_.-`; the labels have the exact words.
pub(in crate) fn name(installation: &str, attempt: &AttemptId) -> String {
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '.' }).collect()
    };
    format!("openbell-{installation}-{}-{}-{}", plain(attempt.run.as_str()), plain(attempt.step.as_str()), attempt.attempt)
}

/// The attempt that a container's labels name, if it is one of this installation.
pub(in crate) fn attempt_of(installation: &str, labels: &HashMap<String, String>) -> Option<AttemptId> {
    if labels.get(label::INSTALLATION)? != installation {
        return None;
    }
    Some(AttemptId {
        run: labels.get(label::RUN)?.parse().ok()?,
        step: labels.get(label::STEP)?.parse().ok()?,
        attempt: labels.get(label::ATTEMPT)?.parse().ok()?,
    })
}

/// The image an attempt runs in.
pub(in crate) fn image<'a>(spec: &'a AttemptSpec, settings: &'a DockerSettings) -> Option<&'a str> {
    match &spec.step.program {
        Program::Uses(_) => Some(&settings.image),
        Program::Command { image, .. } => image.as_deref(),
    }
}

/// Everything about the container of an attempt. `settings` are those that hold for its step; `variable` reads the daemon's environment, for secrets that are kept there.
///
/// # Errors
/// What is missing, with the remedy.
pub(in crate) fn body(
    spec: &AttemptSpec,
    settings: &DockerSettings,
    around: &Surroundings,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<ContainerCreateBody, String> {
    let image = image(spec, settings).ok_or_else(|| format!("step \"{}\" has no image; add image: NAME:TAG", spec.step.name))?;
    let folder = path_text(&spec.folder)?;
    let mut environment: Vec<(String, String)> = vec![
        ("OPENBELL_RUN".into(), spec.id.run.to_string()),
        ("OPENBELL_STEP".into(), spec.id.step.to_string()),
        ("OPENBELL_ATTEMPT".into(), spec.id.attempt.to_string()),
        ("OPENBELL_SESSION_DATE".into(), spec.session_date.to_string()),
        ("OPENBELL_FOLDER".into(), folder.clone()),
    ];
    environment.extend(spec.deadline.map(|at| ("OPENBELL_DEADLINE".into(), at.to_string())));
    let mut mounts = vec![bind(&folder, false)];
    let (entrypoint, cmd) = match &spec.step.program {
        Program::Uses(_) => {
            environment.extend(around.environment.iter().cloned());
            mounts = vec![bind(&path_text(&around.data)?, false), bind(&path_text(&around.dags)?, true)];
            let (variables, files) = references(spec, around);
            for name in variables {
                // One that is not set is missed by the step itself, in its own words.
                environment.extend(variable(&name).map(|value| (name, value)));
            }
            mounts.extend(files.iter().map(|file| bind(file, true)));
            (None, vec!["step".to_owned(), "--folder".to_owned(), folder])
        }
        Program::Command { argv, .. } => {
            let (program, arguments) = argv.split_first().ok_or("its command is empty; write command: [PROGRAM, ARGUMENT…]")?;
            (Some(vec![program.clone()]), arguments.to_vec())
        }
    };
    for mount in &spec.step.container.mounts {
        if let Some(taken) = mounts.iter().filter_map(|m| m.target.as_deref()).find(|taken| overlap(&mount.target, taken)) {
            return Err(format!(
                "the mount {mount} is over {taken}, which openbell gives the step; write another target into mounts: of container:"
            ));
        }
        mounts.push(wanted(mount));
    }
    let tmp_is_mounted = spec.step.container.mounts.iter().any(|mount| mount.target == TMP);
    environment.extend(spec.step.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    let (user, group) = around.owner;
    let mut labels = HashMap::from([
        (label::INSTALLATION.to_owned(), around.installation()),
        (label::RUN.to_owned(), spec.id.run.to_string()),
        (label::STEP.to_owned(), spec.id.step.to_string()),
        (label::ATTEMPT.to_owned(), spec.id.attempt.to_string()),
    ]);
    labels.extend(spec.deadline.map(|at| (label::DEADLINE.to_owned(), at.to_string())));
    let command = matches!(spec.step.program, Program::Command { .. });
    let host = HostConfig {
        mounts: Some(mounts),
        network_mode: Some(settings.network.clone()),
        memory: settings.memory_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        // Swap would only make running out of memory slow.
        memory_swap: settings.memory_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        nano_cpus: settings.cpus.map(|cpus| (cpus * 1e9) as i64),
        pids_limit: Some(i64::from(settings.pids)),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(vec!["no-new-privileges:true".into()]),
        readonly_rootfs: Some(true),
        tmpfs: (!tmp_is_mounted).then(|| HashMap::from([(TMP.to_owned(), "rw,nosuid,nodev,size=64m".to_owned())])),
        // Built-in programs heed signals as process 1; of another program's children somebody has to take care.
        init: command.then_some(true),
        // The engine's copy of the output is bounded, by more than is carried over of it (`output`), so that a beginning is never lost.
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".into()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), "64m".to_owned()),
                ("max-file".to_owned(), "3".to_owned()),
                ("compress".to_owned(), "false".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    };
    Ok(ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint,
        cmd: Some(cmd),
        env: Some(environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels),
        user: Some(settings.user.clone().unwrap_or_else(|| format!("{user}:{group}"))),
        attach_stdin: Some(false),
        healthcheck: spec.step.container.health.as_ref().map(health),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    })
}

fn path_text(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("the path {} is not UTF-8; choose another folder", path.display()))
}

fn bind(path: &str, read_only: bool) -> Mount {
    Mount {
        target: Some(path.to_owned()),
        source: Some(path.to_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

/// Whether one of two places hides the other, or a part of it.
fn overlap(one: &str, other: &str) -> bool {
    is_below(one, other) || is_below(other, one)
}

/// A mount that the step asks for.
fn wanted(mount: &container::Mount) -> Mount {
    let (typ, source) = match &mount.source {
        Source::Path(path) => (MountType::BIND, path),
        Source::Volume(name) => (MountType::VOLUME, name),
    };
    Mount {
        target: Some(mount.target.clone()),
        source: Some(source.clone()),
        typ: Some(typ),
        read_only: Some(mount.read_only),
        ..Mount::default()
    }
}

/// A health check as engines take it: in nanoseconds.
fn health(health: &Health) -> HealthConfig {
    let nanoseconds = |time: Duration| Some(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    HealthConfig {
        test: Some(std::iter::once("CMD".to_owned()).chain(health.command.iter().cloned()).collect()),
        interval: nanoseconds(health.interval),
        timeout: nanoseconds(health.timeout),
        start_period: nanoseconds(health.start_period),
        retries: Some(i64::from(health.retries)),
        ..HealthConfig::default()
    }
}

/// Environment variables and files that a built-in program reads secrets from: its own, and those of the stores' addresses.
pub(in crate) fn references(spec: &AttemptSpec, around: &Surroundings) -> (Vec<String>, Vec<String>) {
    // The clients of stores look for these by themselves.
    let mut variables: Vec<String> =
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"].map(str::to_owned).into();
    let mut files = Vec::new();
    for reference in spec.step.secrets.values() {
        match reference {
            SecretRef::Env(name) => variables.push(name.clone()),
            SecretRef::File(path) => files.push(path.clone()),
        }
    }
    for (_, text) in &around.environment {
        variables.extend(after(text, "=env:"));
        files.extend(after(text, "=file:"));
    }
    variables.sort();
    variables.dedup();
    files.retain(|file| Path::new(file).is_absolute() && !Path::new(file).starts_with(&around.data));
    files.sort();
    files.dedup();
    (variables, files)
}

/// The words of a text that follow `mark`, up to what ends a parameter of an address.
fn after<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = String> + 'a {
    text.match_indices(mark).map(move |(at, _)| {
        let rest = &text[at + mark.len()..];
        let end = rest.find(|c: char| "&\"'\\ ".contains(c)).unwrap_or(rest.len());
        rest[..end].to_owned()
    })
}

#[cfg(test)]
mod tests;
