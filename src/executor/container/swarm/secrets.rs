//! Secrets of a step as secrets of the swarm: nodes hold them in memory, and only while a task that needs
//! them runs there.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard::models::{SecretSpec, TaskSpecContainerSpecFile, TaskSpecContainerSpecSecrets};

use crate::AttemptSpec;
use crate::container::Installation;
use crate::container::definition::references;
use crate::secrets::missing;
use config::{secret_empty, secret_not_set, secret_unreadable};
use domain::dag::{Program, SecretRef};
use domain::ids::AttemptId;
use domain::said;

/// A secret that a task needs.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Needed {
    /// Its name in the swarm; one attempt's own, and removed with it.
    pub(super) name: String,
    /// The file it becomes: absolute, or below `/run/secrets`.
    pub(super) target: String,
    value: Vec<u8>,
}

/// What the attempt needs and the daemon has.
///
/// A built-in program finds a variable as the file `env.NAME`, and a file at its own path; what is missing,
/// it misses in its own words. A command finds each secret under its name in the DAG.
///
/// # Errors
/// A secret of a command that is not there, or empty, with place and remedy.
pub(super) fn needed(
    spec: &AttemptSpec,
    installation: &Installation,
    variable: impl Fn(&str) -> Option<String>,
    read: impl Fn(&Path) -> Option<Vec<u8>>,
) -> Result<Vec<Needed>, String> {
    let of_variable = |name: &str| variable(name).map(String::into_bytes);
    let values: Vec<(String, Vec<u8>)> = match &spec.step.program {
        Program::Uses(_) => {
            let (variables, files) = references(spec, installation);
            let variables =
                variables.into_iter().filter_map(|name| Some((format!("env.{name}"), of_variable(&name)?)));
            let files =
                files.into_iter().filter_map(|file| read(Path::new(&file)).map(|value| (file, value)));
            variables.chain(files).collect()
        }
        Program::Command { .. } => {
            let value = |reference: &SecretRef| match reference {
                SecretRef::Env(name) => of_variable(name).ok_or_else(|| secret_not_set(name)),
                SecretRef::File(path) => read(Path::new(path))
                    .ok_or_else(|| secret_unreadable(path, said!("the file cannot be read"))),
            };
            let named = |(name, reference): (&String, &SecretRef)| match value(reference) {
                Ok(value) if !value.is_empty() => Ok((name.clone(), value)),
                Ok(_) => Err(missing(name, reference, &secret_empty())),
                Err(why) => Err(missing(name, reference, &why)),
            };
            spec.step.secrets.iter().map(named).collect::<Result<_, _>>()?
        }
    };
    let stem = stem(&installation.id(), &spec.id);
    let named = values.into_iter().filter(|(_, value)| !value.is_empty()).enumerate();
    Ok(named.map(|(n, (target, value))| Needed { name: format!("{stem}-{n}"), target, value }).collect())
}

/// The beginning of the names of an attempt's secrets; 64 letters are allowed.
fn stem(installation: &str, attempt: &AttemptId) -> String {
    let text = format!("{}/{}/{}", attempt.run, attempt.step, attempt.attempt);
    format!("openbell-{installation}-{:08x}-{}", crc32fast::hash(text.as_bytes()), attempt.attempt)
}

impl Needed {
    /// As the swarm is told of it.
    pub(super) fn spec(&self, labels: HashMap<String, String>) -> SecretSpec {
        SecretSpec {
            name: Some(self.name.clone()),
            labels: Some(labels),
            data: Some(BASE64_STANDARD.encode(&self.value)),
            ..SecretSpec::default()
        }
    }

    /// As a task is told of it: only the task's user reads it.
    pub(super) fn reference(&self, id: String, user: &str) -> TaskSpecContainerSpecSecrets {
        let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
        TaskSpecContainerSpecSecrets {
            file: Some(TaskSpecContainerSpecFile {
                name: Some(self.target.clone()),
                uid: Some(uid.to_owned()),
                gid: Some(gid.to_owned()),
                mode: Some(0o400),
            }),
            secret_id: Some(id),
            secret_name: Some(self.name.clone()),
        }
    }
}
