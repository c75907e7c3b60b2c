//! What a container is made of, on an engine or as a task of a swarm: pure.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType};

use super::Installation;
use crate::AttemptSpec;
use config::DockerSettings;
use domain::dag::container::{Health, Source, is_below};
use domain::dag::{Program, SecretRef, container};
use domain::ids::AttemptId;

/// Where programs write what nobody keeps.
const TMP: &str = "/tmp";

/// Labels of the product's containers.
pub(crate) mod label {
    pub(crate) const INSTALLATION: &str = "openbell.installation";
    pub(crate) const RUN: &str = "openbell.run";
    pub(crate) const STEP: &str = "openbell.step";
    pub(crate) const ATTEMPT: &str = "openbell.attempt";
    pub(crate) const DEADLINE: &str = "openbell.deadline";
}

/// The name of an attempt's container. Engines allow letters, digits and `_.-`; the labels have the exact
/// words.
pub(crate) fn name(installation: &str, attempt: &AttemptId) -> String {
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '.' }).collect()
    };
    format!(
        "openbell-{installation}-{}-{}-{}",
        plain(attempt.run.as_str()),
        plain(attempt.step.as_str()),
        attempt.attempt
    )
}

/// The attempt that a container's labels name, if it is one of this installation.
pub(crate) fn attempt_of(installation: &str, labels: &HashMap<String, String>) -> Option<AttemptId> {
    if labels.get(label::INSTALLATION)? != installation {
        return None;
    }
    Some(AttemptId {
        run: labels.get(label::RUN)?.parse().ok()?,
        step: labels.get(label::STEP)?.parse().ok()?,
        attempt: labels.get(label::ATTEMPT)?.parse().ok()?,
    })
}

/// Labels by which [`attempt_of`] gives an attempt back.
pub(crate) fn labels(installation: &str, attempt: &AttemptId) -> HashMap<String, String> {
    let labels = [
        (label::INSTALLATION, installation.to_owned()),
        (label::RUN, attempt.run.to_string()),
        (label::STEP, attempt.step.to_string()),
        (label::ATTEMPT, attempt.attempt.to_string()),
    ];
    labels.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The filter of an engine's lists for what is labelled as an installation's.
pub(crate) fn filter(installation: &str) -> Option<HashMap<String, Vec<String>>> {
    Some(HashMap::from([("label".to_owned(), vec![format!("{}={installation}", label::INSTALLATION)])]))
}

/// Everything about the container of an attempt. `settings` are those that hold for its step; `variable`
/// reads the daemon's environment, for secrets that are kept there.
///
/// # Errors
/// What is missing, with the remedy.
pub(crate) fn body(
    spec: &AttemptSpec,
    settings: &DockerSettings,
    installation: &Installation,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<ContainerCreateBody, String> {
    let image = match &spec.step.program {
        Program::Uses(_) => Some(&settings.image),
        Program::Command { image, .. } => image.as_ref(),
    };
    let image =
        image.ok_or_else(|| format!("step \"{}\" has no image; add image: NAME:TAG", spec.step.name))?;
    let Inside { environment, mut mounts, entrypoint, cmd } = inside(spec, installation, variable)?;
    for mount in &spec.step.container.mounts {
        if let Some(taken) =
            mounts.iter().filter_map(|m| m.target.as_deref()).find(|taken| overlap(&mount.target, taken))
        {
            return Err(format!(
                "the mount {mount} is over {taken}, which openbell gives the step; write another target into mounts: of container:"
            ));
        }
        mounts.push(wanted(mount));
    }
    let (user, group) = installation.owner;
    let mut labels = labels(&installation.id(), &spec.id);
    labels.extend(spec.deadline.map(|at| (label::DEADLINE.to_owned(), at.to_string())));
    Ok(ContainerCreateBody {
        image: Some(image.clone()),
        entrypoint,
        cmd: Some(cmd),
        env: Some(environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels),
        user: Some(settings.user.clone().unwrap_or_else(|| format!("{user}:{group}"))),
        attach_stdin: Some(false),
        healthcheck: spec.step.container.health.as_ref().map(health),
        host_config: Some(host(spec, settings, mounts)),
        ..ContainerCreateBody::default()
    })
}

/// What a container's program is, and what it finds there.
struct Inside {
    environment: Vec<(String, String)>,
    mounts: Vec<Mount>,
    entrypoint: Option<Vec<String>>,
    cmd: Vec<String>,
}

fn inside(
    spec: &AttemptSpec,
    installation: &Installation,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Inside, String> {
    let folder = path_text(&spec.folder)?;
    let mut environment: Vec<(String, String)> = vec![
        ("OPENBELL_RUN".into(), spec.id.run.to_string()),
        ("OPENBELL_STEP".into(), spec.id.step.to_string()),
        ("OPENBELL_ATTEMPT".into(), spec.id.attempt.to_string()),
        ("OPENBELL_SESSION_DATE".into(), spec.session_date.to_string()),
        ("OPENBELL_FOLDER".into(), folder.clone()),
    ];
    environment.extend(spec.deadline.map(|at| ("OPENBELL_DEADLINE".into(), at.to_string())));
    let own = spec.step.env.iter().map(|(name, value)| (name.clone(), value.clone()));
    match &spec.step.program {
        Program::Uses(_) => {
            environment.extend(installation.environment.iter().cloned());
            let mut mounts = vec![
                bind(&path_text(&installation.data)?, false),
                bind(&path_text(&installation.dags)?, true),
            ];
            let (variables, files) = references(spec, installation);
            for name in variables {
                // One that is not set is missed by the step itself, in its own words.
                environment.extend(variable(&name).map(|value| (name, value)));
            }
            mounts.extend(files.iter().map(|file| bind(file, true)));
            environment.extend(own);
            Ok(Inside {
                environment,
                mounts,
                entrypoint: None,
                cmd: vec!["step".into(), "--folder".into(), folder],
            })
        }
        Program::Command { argv, .. } => {
            let (program, arguments) =
                argv.split_first().ok_or("its command is empty; write command: [PROGRAM, ARGUMENT…]")?;
            environment.extend(own);
            let (entrypoint, cmd) = (Some(vec![program.clone()]), arguments.to_vec());
            Ok(Inside { environment, mounts: vec![bind(&folder, false)], entrypoint, cmd })
        }
    }
}

/// What the engine grants the container.
fn host(spec: &AttemptSpec, settings: &DockerSettings, mounts: Vec<Mount>) -> HostConfig {
    let memory = settings.memory_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let tmp_is_mounted = spec.step.container.mounts.iter().any(|mount| mount.target == TMP);
    // The engine's copy of the output is bounded, by more than is copied of it (`output`), so that a
    // beginning is never lost.
    let log = [("max-size", "64m"), ("max-file", "3"), ("compress", "false")];
    HostConfig {
        mounts: Some(mounts),
        network_mode: Some(settings.network.clone()),
        memory,
        // Swap would only make running out of memory slow.
        memory_swap: memory,
        nano_cpus: settings.cpus.map(|cpus| (cpus * 1e9) as i64),
        pids_limit: Some(i64::from(settings.pids)),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(vec!["no-new-privileges:true".into()]),
        readonly_rootfs: Some(true),
        tmpfs: (!tmp_is_mounted)
            .then(|| HashMap::from([(TMP.to_owned(), "rw,nosuid,nodev,size=64m".to_owned())])),
        // Built-in programs heed signals as process 1; of another program's children somebody has to take
        // care.
        init: matches!(spec.step.program, Program::Command { .. }).then_some(true),
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".into()),
            config: Some(log.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        }),
        ..HostConfig::default()
    }
}

fn path_text(path: &Path) -> Result<String, String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("the path {} is not UTF-8; choose another folder", path.display()))
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

/// A time as engines take it.
pub(crate) fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// A health check as engines take it.
fn health(health: &Health) -> HealthConfig {
    HealthConfig {
        test: Some(std::iter::once("CMD".to_owned()).chain(health.command.iter().cloned()).collect()),
        interval: Some(nanoseconds(health.interval)),
        timeout: Some(nanoseconds(health.timeout)),
        start_period: Some(nanoseconds(health.start_period)),
        retries: Some(i64::from(health.retries)),
        ..HealthConfig::default()
    }
}

/// Environment variables and files that a built-in program reads secrets from: its own, and those of the
/// stores' addresses.
pub(crate) fn references(spec: &AttemptSpec, installation: &Installation) -> (Vec<String>, Vec<String>) {
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
    for (_, text) in &installation.environment {
        variables.extend(after(text, "=env:"));
        files.extend(after(text, "=file:"));
    }
    variables.sort();
    variables.dedup();
    files.retain(|file| Path::new(file).is_absolute() && !Path::new(file).starts_with(&installation.data));
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
