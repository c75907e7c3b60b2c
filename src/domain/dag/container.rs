//! What a step says about its container. Where it is silent, the configuration holds for it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Less memory than this an engine does not take.
pub const LEAST_MEMORY_BYTES: u64 = 6 << 20;
/// The least and the most processors that a container can be given.
pub const CPUS: (f64, f64) = (0.01, 1024.0);

/// What a step says about its container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Most memory, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Most processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Most processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// The network it is in: `bridge`, `host`, `none` or a network's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// When its image is pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// The user its program runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// What it sees besides the attempt's folder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// How the engine finds out that a service can serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Which nodes of a swarm it may run on: all of these must hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub placement: Vec<String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pull {
    /// Before every start.
    Always,
    /// When the engine does not have it.
    #[default]
    Missing,
    /// Never.
    Never,
}

/// A user, and a group if one is named, in numbers: names mean what the image makes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: Option<u32>,
}

/// A folder or file that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What it sees.
    pub source: Source,
    /// Where it sees it: an absolute path in the container.
    pub target: String,
    /// Whether it may only read it.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An absolute path on the engine's machine.
    Path(String),
    /// A volume of the engine, by name.
    Volume(String),
}

/// A command that the engine runs in the container again and again; its first success makes a service ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Program and arguments, without a shell.
    pub command: Vec<String>,
    /// From one run to the next, and before the first.
    pub interval: Duration,
    /// Longest life of one run; after it, it has failed.
    pub timeout: Duration,
    /// Failures this long after the start do not count.
    pub start_period: Duration,
    /// So many failures in a row make it unhealthy.
    pub retries: u32,
}

/// Why a text cannot stand in `container:`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct ContainerError {
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

fn refused(message: impl Into<String>, help: impl Into<String>) -> ContainerError {
    ContainerError { message: message.into(), help: help.into() }
}

impl Container {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Pull {
    /// The word used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Missing => "missing",
            Self::Never => "never",
        }
    }
}

impl FromStr for User {
    type Err = ContainerError;

    fn from_str(text: &str) -> Result<Self, ContainerError> {
        let number =
            |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let read = || match text.split_once(':') {
            Some((uid, gid)) => Some(Self { uid: number(uid)?, gid: Some(number(gid)?) }),
            None => Some(Self { uid: number(text)?, gid: None }),
        };
        read().ok_or_else(|| {
            let help = "write UID or UID:GID, for example \"1000:1000\"; id -u NAME on the engine's machine tells a user's";
            refused(format!("\"{text}\" is not a user in numbers"), help)
        })
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gid {
            Some(gid) => write!(f, "{}:{gid}", self.uid),
            None => write!(f, "{}", self.uid),
        }
    }
}

/// Folders that belong to the kernel, or to the container itself.
const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];

impl FromStr for Source {
    type Err = ContainerError;

    fn from_str(text: &str) -> Result<Self, ContainerError> {
        match text {
            path if path.starts_with('/') => Ok(Self::Path(absolute(path)?)),
            name if is_name(name) => Ok(Self::Volume(name.to_owned())),
            other => Err(refused(
                format!("\"{other}\" is neither an absolute path nor a volume's name"),
                "write a path of the engine's machine, from / on, or the name of a volume of the engine",
            )),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Path(text) | Self::Volume(text)) = self;
        f.write_str(text)
    }
}

impl Mount {
    /// Where a container may see something, as a path without detours.
    ///
    /// # Errors
    /// When the text is no absolute path, or a place that nothing may be put over.
    pub fn target(text: &str) -> Result<String, ContainerError> {
        if !text.starts_with('/') {
            let message = format!("\"{text}\" is not an absolute path in the container");
            return Err(refused(message, "write where the container sees it, from / on"));
        }
        let target = absolute(text)?;
        if target == "/" {
            return Err(refused(
                "a mount over / hides the image's own files",
                "write a folder, for example /models",
            ));
        }
        if let Some(folder) = RESERVED.iter().find(|folder| is_below(&target, folder)) {
            let message = format!("\"{target}\" belongs to the system of the container");
            return Err(refused(message, format!("write a folder outside of {folder}, for example /models")));
        }
        Ok(target)
    }
}

impl FromStr for Mount {
    type Err = ContainerError;

    fn from_str(text: &str) -> Result<Self, ContainerError> {
        let mount = |source: &str, target, read_only| {
            Ok(Self { source: source.parse()?, target: Self::target(target)?, read_only })
        };
        match text.split(':').collect::<Vec<_>>()[..] {
            [source, target] | [source, target, "ro"] => mount(source, target, true),
            [source, target, "rw"] => mount(source, target, false),
            [_, _, mode] => Err(refused(
                format!("a mount cannot be \"{mode}\""),
                "write :ro (the default) or :rw at its end",
            )),
            _ => Err(refused(
                format!("\"{text}\" is not a mount"),
                "write SOURCE:TARGET, or SOURCE:TARGET:rw to let the step write, for example /srv/models:/models",
            )),
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source, self.target, if self.read_only { "ro" } else { "rw" })
    }
}

/// A path without what makes two texts name one place; it starts at the root.
fn absolute(path: &str) -> Result<String, ContainerError> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(refused(format!("\"{path}\" has \"..\" in it"), "write the path it leads to"));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// Whether a path is a folder or something in it; both are absolute.
pub fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || folder == "/")
}

/// Whether engines take it as the name of a volume or a network.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Checks the name of a network.
///
/// # Errors
/// When no network can be called so.
pub fn check_network(text: &str) -> Result<(), ContainerError> {
    if is_name(text) {
        return Ok(());
    }
    let message = format!("\"{text}\" is not a network");
    Err(refused(
        message,
        "write bridge, host, none, or the name of a network of the engine (docker network ls)",
    ))
}

/// What a constraint can speak of: <https://docs.docker.com/reference/cli/docker/service/create/#constraint>.
const ATTRIBUTES: [&str; 5] =
    ["node.id", "node.hostname", "node.role", "node.platform.os", "node.platform.arch"];
const LABELS: [&str; 2] = ["node.labels.", "engine.labels."];

/// Checks a constraint on the nodes of a swarm.
///
/// # Errors
/// When a swarm would refuse it, or never meet it.
pub fn check_placement(text: &str) -> Result<(), ContainerError> {
    let example =
        "write for example node.labels.zone == a, node.role != manager or node.hostname == worker-1";
    let Some((attribute, value)) = text.split_once("==").or_else(|| text.split_once("!=")) else {
        return Err(refused(format!("\"{text}\" compares nothing"), example));
    };
    let (attribute, value) = (attribute.trim(), value.trim());
    let label = LABELS.iter().any(|start| attribute.strip_prefix(start).is_some_and(is_name));
    if !label && !ATTRIBUTES.contains(&attribute) {
        return Err(refused(format!("nodes have no \"{attribute}\""), example));
    }
    if value.is_empty() || value.contains('=') {
        return Err(refused(format!("\"{text}\" has no value to compare with"), example));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        for (text, uid, gid) in [("0", 0, None), ("1000", 1000, None), ("1000:10", 1000, Some(10))] {
            let user: User = text.parse().expect(text);
            assert_eq!((user, user.to_string().as_str()), (User { uid, gid }, text));
        }
        for bad in ["", "root", "1000:", ":10", "1:2:3", "-1", "+1", "4294967296", "1000:staff"] {
            let error = bad.parse::<User>().expect_err(bad).to_string();
            assert!(error.contains("UID:GID"), "{error}");
        }
    }

    #[test]
    fn mounts_are_absolute_and_read_only_unless_they_say_otherwise() {
        let mount: Mount = "/srv//models/:/models/./v1".parse().expect("a mount");
        assert_eq!(
            mount,
            Mount {
                source: Source::Path("/srv/models".into()),
                target: "/models/v1".into(),
                read_only: true
            }
        );
        let volume: Mount = "cache:/cache:rw".parse().expect("a mount");
        assert_eq!((volume.source.clone(), volume.read_only), (Source::Volume("cache".into()), false));
        assert_eq!(volume.to_string(), "cache:/cache:rw");
        for (bad, word) in [
            ("/a", "SOURCE:TARGET"),
            ("./a:/a", "neither an absolute path"),
            ("/a:b", "not an absolute path in the container"),
            ("/a:/", "mount over /"),
            ("/a://.", "mount over /"),
            ("/a:/proc/1", "outside of /proc"),
            ("/a:/b/../c", "\"..\""),
            ("/a:/b:z", ":rw"),
            ("/a:/b:ro:z", "is not a mount"),
            (":/b", "neither"),
        ] {
            let error = bad.parse::<Mount>().expect_err(bad).to_string();
            assert!(error.contains(word), "{bad}: {error}");
        }
        assert!("/a:/processes".parse::<Mount>().is_ok(), "only looks like a folder of the system");
    }

    #[test]
    fn networks_and_constraints_are_those_of_engines() {
        for good in ["bridge", "host", "none", "market_data.1"] {
            assert_eq!(check_network(good), Ok(()), "{good}");
        }
        for bad in ["", "container:x", "a b", "-a"] {
            assert!(check_network(bad).is_err(), "{bad}");
        }
        for good in ["node.labels.zone == a", "node.role!=manager", "engine.labels.os.name==x y"] {
            assert_eq!(check_placement(good), Ok(()), "{good}");
        }
        for (bad, word) in [
            ("zone = a", "compares nothing"),
            ("zone == a", "nodes have no \"zone\""),
            ("node.labels. == a", "no \"node.labels.\""),
            ("node.role ==", "no value"),
            ("node.role === x", "no value"),
        ] {
            let error = check_placement(bad).expect_err(bad).to_string();
            assert!(error.contains(word) && error.contains("node.labels.zone == a"), "{bad}: {error}");
        }
    }

    #[test]
    fn nothing_said_is_nothing_written() {
        assert_eq!(serde_json::to_string(&Container::default()).expect("JSON"), "{}");
        let some = Container {
            pull: Some(Pull::Never),
            user: Some(User { uid: 1, gid: None }),
            ..Container::default()
        };
        let text = serde_json::to_string(&some).expect("JSON");
        assert_eq!(serde_json::from_str::<Container>(&text).expect("a container"), some);
        assert!(!some.is_empty() && Container::default().is_empty());
        // Journals of versions that knew no `container:` read as before, and one without any is as they wrote
        // it.
        let step = super::super::fixtures::step("a", super::super::StepKind::Task, &[]);
        let before = serde_json::to_value(&step).expect("JSON");
        assert!(before.get("container").is_none(), "{before}");
        assert_eq!(serde_json::from_value::<super::super::Step>(before).expect("a step"), step);
    }
}
