//! The Docker Engine, and what containers are given.

use serde::{Deserialize, Serialize};

use domain::dag::container::{self, CPUS, LEAST_MEMORY_BYTES};
use domain::dag::{Pull, Step};

/// The engine, and what the container of a step is given that says nothing else ([`DockerSettings::of`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DockerSettings {
    /// The engine's address, `unix:///var/run/docker.sock` or `tcp://HOST:PORT`; without one, that of
    /// `DOCKER_HOST`, or the usual socket.
    pub host: Option<String>,
    /// Image of built-in programs.
    pub image: String,
    /// When images are pulled.
    pub pull: Pull,
    /// The network containers are in: `bridge`, `host`, `none` or a network's name.
    pub network: String,
    /// `USER[:GROUP]` in numbers; default: the owner of the data folder.
    pub user: Option<String>,
    /// Most memory of a container, bytes; swap is not added.
    pub memory_bytes: Option<u64>,
    /// Most processors of a container.
    pub cpus: Option<f64>,
    /// Most processes and threads of a container.
    pub pids: u32,
}

/// Settings of the executor `swarm`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwarmSettings {
    /// Nodes that may run steps which do not choose for themselves, in Docker's words: `node.labels.zone ==
    /// a`.
    pub placement: Vec<String>,
}

impl SwarmSettings {
    /// What holds for a step: its own choice, else this.
    pub fn placement_of<'a>(&'a self, step: &'a Step) -> &'a [String] {
        if step.container.placement.is_empty() { &self.placement } else { &step.container.placement }
    }

    /// The rules that types cannot say.
    ///
    /// # Errors
    /// The first rule broken and what to write instead.
    pub(super) fn check(&self) -> Result<(), String> {
        let checked =
            |one: &String| container::check_placement(one).map_err(|why| format!("swarm.placement: {why}"));
        self.placement.iter().try_for_each(checked)
    }
}

impl Default for DockerSettings {
    fn default() -> Self {
        Self {
            host: None,
            image: concat!("openbell:", env!("CARGO_PKG_VERSION")).to_owned(),
            pull: Pull::Missing,
            network: "bridge".into(),
            user: None,
            memory_bytes: None,
            cpus: None,
            pids: 512,
        }
    }
}

impl DockerSettings {
    /// The settings that hold for one step: its own `container:`, and where that is silent, these. What only
    /// a step can say (mounts, health and placement) stays in [`Step::container`].
    pub fn of(&self, step: &Step) -> Self {
        let own = &step.container;
        Self {
            host: self.host.clone(),
            image: self.image.clone(),
            pull: own.pull.unwrap_or(self.pull),
            network: own.network.clone().unwrap_or_else(|| self.network.clone()),
            user: own.user.map(|user| user.to_string()).or_else(|| self.user.clone()),
            memory_bytes: own.memory_bytes.or(self.memory_bytes),
            cpus: own.cpus.or(self.cpus),
            pids: own.pids.unwrap_or(self.pids),
        }
    }

    /// The rules that types cannot say.
    ///
    /// # Errors
    /// The first rule broken and what to write instead.
    pub(super) fn check(&self) -> Result<(), String> {
        let addresses = ["unix:///", "tcp://", "http://"];
        if let Some(host) =
            self.host.as_deref().filter(|h| !addresses.iter().any(|start| h.starts_with(start)))
        {
            return Err(format!(
                "docker.host: \"{host}\" is not an address; write unix:///var/run/docker.sock or tcp://HOST:2375"
            ));
        }
        if self.image.trim().is_empty() {
            return Err("docker.image: it is empty; write NAME:TAG of an image with openbell in it".into());
        }
        if let Some(bytes) = self.memory_bytes.filter(|bytes| *bytes < LEAST_MEMORY_BYTES) {
            return Err(format!(
                "docker.memory_bytes: {bytes} is less than an engine takes; write at least {LEAST_MEMORY_BYTES}"
            ));
        }
        if let Some(cpus) = self.cpus.filter(|cpus| !(CPUS.0..=CPUS.1).contains(cpus)) {
            return Err(format!("docker.cpus: {cpus} is not a number of processors; write for example 0.5"));
        }
        if self.pids == 0 {
            return Err("docker.pids: 0 lets nothing run; write for example 512".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use domain::dag::StepKind;
    use domain::dag::container::User;
    use domain::dag::fixtures::step;

    #[test]
    fn a_step_overrides_what_it_names_and_nothing_else() {
        let settings =
            DockerSettings { memory_bytes: Some(64 << 20), cpus: Some(2.0), ..DockerSettings::default() };
        let mut step = step("a", StepKind::Task, &[]);
        assert_eq!(settings.of(&step), settings, "a step that says nothing has the settings as they are");
        step.container.memory_bytes = Some(256 << 20);
        step.container.network = Some("none".into());
        step.container.pull = Some(Pull::Never);
        step.container.user = Some(User { uid: 7, gid: Some(8) });
        let held = settings.of(&step);
        assert_eq!((held.memory_bytes, held.cpus, held.pids), (Some(256 << 20), Some(2.0), settings.pids));
        assert_eq!(
            (held.network.as_str(), held.pull, held.user.as_deref()),
            ("none", Pull::Never, Some("7:8"))
        );
    }

    #[test]
    fn faults_name_the_key_and_the_remedy() {
        assert!(
            Config::parse("c", "docker: { network: host, memory_bytes: 268435456, cpus: 1.5, pull: never }")
                .is_ok()
        );
        for (text, words) in [
            ("host: ftp://x", ["docker.host", "unix://"]),
            ("image: ' '", ["docker.image", "NAME:TAG"]),
            ("memory_bytes: 1000", ["memory_bytes", "6291456"]),
            ("cpus: 0", ["docker.cpus", "0.5"]),
            ("pids: 0", ["docker.pids", "512"]),
            ("pull: sometimes", ["sometimes", "always"]),
        ] {
            let fault = Config::parse("c", &format!("docker: {{ {text} }}")).expect_err(text).to_string();
            assert!(words.iter().all(|w| fault.contains(w)), "{text}: {fault}");
        }
    }
}
