//! The table `container:` of a step and of the defaults.

use std::time::Duration;

use super::read::{Reader, duration, word};
use super::tree::{Entry, Node, Value};
use domain::dag::container::{
    self, Container, ContainerError, Health, LEAST_MEMORY_BYTES, Mount, Source, User, is_below,
};
use domain::dag::{ExecutorKind, Program, StepKind};
use domain::units;

/// What about a step decides which keys go with it.
pub(super) struct StepScope<'a> {
    pub kind: StepKind,
    /// `None`: it is faulty, and reported.
    pub program: Option<&'a Program>,
    pub executor: Option<ExecutorKind>,
    pub ready_within: Duration,
}

const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// Who has one of these has the engine, and with it the machine.
const ENGINE_SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

impl StepScope<'_> {
    fn is_command(&self) -> bool {
        matches!(self.program, Some(Program::Command { .. }))
    }

    /// Why the step has no container, and what to write for it to have one.
    fn no_container(&self) -> Option<(&'static str, &'static str)> {
        use ExecutorKind::{Docker, Embedded, Process, Swarm};
        let bare = matches!(self.program, Some(Program::Command { image: None, .. }));
        match self.executor {
            Some(Docker | Swarm) => None,
            Some(Embedded) => Some((
                "the executor embedded has no containers",
                "write executor: docker, or remove container",
            )),
            Some(Process) if bare => Some((
                "the executor process has no containers",
                "write executor: docker and image: NAME:TAG, or remove container",
            )),
            Some(Process) => Some((
                "the executor process has no containers",
                "write executor: docker, or remove container",
            )),
            None if bare => Some((
                "a command without an image runs as a process, not in a container",
                "add image: NAME:TAG, or remove container",
            )),
            // The configuration decides: in a container it holds, elsewhere there is nothing to give.
            None => None,
        }
    }
}

impl Reader<'_> {
    /// What the container of a step is given: its own table, key by key, over the defaults'. Mounts add up.
    pub fn container(&mut self, step: &Entry, defaults: &Container, place: &StepScope<'_>) -> Container {
        let name = format!("step \"{}\"", step.key);
        let own = step.value.entry("container");
        let table = self.container_table(own.map(|e| &e.value), &name);
        if let Some(own) = own {
            self.fits(own, &table, place);
        }
        if place.no_container().is_some() {
            return Container::default();
        }
        let mut base = defaults.clone();
        // Defaults are for the steps that can have them.
        if place.kind != StepKind::Service || !place.is_command() {
            base.health = None;
        }
        if place.executor == Some(ExecutorKind::Docker) {
            base.placement.clear();
        }
        base.mounts.retain(|mount| table.mounts.iter().all(|own| own.target != mount.target));
        base.mounts.extend(table.mounts);
        Container {
            memory_bytes: table.memory_bytes.or(base.memory_bytes),
            cpus: table.cpus.or(base.cpus),
            pids: table.pids.or(base.pids),
            network: table.network.or(base.network),
            pull: table.pull.or(base.pull),
            user: table.user.or(base.user),
            mounts: base.mounts,
            health: table.health.or(base.health),
            placement: if own.is_some_and(|e| e.value.get("placement").is_some()) {
                table.placement
            } else {
                base.placement
            },
        }
    }

    /// Whether what a step says of its container goes with the step.
    fn fits(&mut self, own: &Entry, table: &Container, place: &StepScope<'_>) {
        if place.program.is_some()
            && let Some((message, help)) = place.no_container()
        {
            return self.diagnostics.error(own.key_span, message, help);
        }
        if let Some(placement) = own.value.entry("placement")
            && place.executor != Some(ExecutorKind::Swarm)
        {
            let message =
                "\"placement\" chooses among the nodes of a swarm, and this step does not run on one";
            self.diagnostics.error(placement.key_span, message, "add executor: swarm, or remove placement");
        }
        let Some(health) = own.value.entry("health") else { return };
        if place.kind != StepKind::Service {
            let message = format!("\"health\" does not go with a {}", place.kind.as_str());
            self.diagnostics.error(
                health.key_span,
                message,
                "only a service gets ready; write kind: service, or remove health",
            );
        } else if matches!(place.program, Some(Program::Uses(_))) {
            let message = "a built-in program says itself when it is ready";
            self.diagnostics.error(health.key_span, message, "remove health");
        } else if let Some(interval) =
            table.health.as_ref().map(|h| h.interval).filter(|i| *i >= place.ready_within)
        {
            let (interval, within) = (interval.as_secs_f64(), place.ready_within.as_secs_f64());
            let message = format!(
                "the first look comes after {interval} s, and the service has to be ready within {within} s"
            );
            let at = health.value.get("interval").map_or(health.key_span, |n| n.span);
            self.diagnostics.warning(at, message, "make interval shorter, or ready: { within: … } longer");
        }
    }

    /// Reads a table and says what is wrong with it.
    pub fn container_table(&mut self, node: Option<&Node>, owner: &str) -> Container {
        let Some(node) = node else { return Container::default() };
        let name = |key: &str| format!("\"{key}\" of \"container\" of {owner}");
        let memory = node.get("memory").and_then(|n| Some((n, units::bytes(n.text()?).ok()?)));
        if let Some((at, _)) = memory.filter(|(_, bytes)| *bytes < LEAST_MEMORY_BYTES) {
            let message = format!("{} is less than an engine takes", name("memory"));
            self.diagnostics.error(at.span, message, "write at least 6MiB, for example 256MiB");
        }
        let network = node.get("network").and_then(|n| Some((n, n.text()?)));
        if let Some((at, text)) = network {
            self.told(at, container::check_network(text));
        }
        let user = match node.get("user").map(|n| (n, &n.value)) {
            Some((at, Value::Text(text))) => self.told(at, text.parse()),
            // YAML takes one number as a number.
            Some((at, Value::Number(_))) => {
                at.count().and_then(|n| u32::try_from(n).ok()).map(|uid| User { uid, gid: None })
            }
            _ => None,
        };
        let mut placement = Vec::new();
        for item in list(node.get("placement")) {
            if let Some(text) = item.text()
                && self.told(item, container::check_placement(text)).is_some()
            {
                placement.push(text.to_owned());
            }
        }
        Container {
            memory_bytes: memory.map(|(_, bytes)| bytes),
            cpus: node.get("cpus").and_then(Node::number),
            pids: node.get("pids").and_then(Node::count).and_then(|n| u32::try_from(n).ok()),
            network: network.map(|(_, text)| text.to_owned()),
            pull: word(node.get("pull")),
            user,
            mounts: self.mounts(node.get("mounts")),
            health: node.get("health").and_then(|n| self.health(n, &name("health"))),
            placement,
        }
    }

    fn mounts(&mut self, node: Option<&Node>) -> Vec<Mount> {
        let mut mounts: Vec<Mount> = Vec::new();
        for item in list(node) {
            let Some((mount, at)) = self.mount(item) else { continue };
            if mounts.iter().any(|other| other.target == mount.target) {
                let message = format!("two mounts are at \"{}\"", mount.target);
                self.diagnostics.error(at.span, message, "remove one, or give it another target");
            }
            if let Source::Path(source) = &mount.source
                && ENGINE_SOCKETS.iter().any(|socket| is_below(socket, source))
            {
                let message =
                    format!("\"{source}\" leads to the engine's socket: who has that has the whole machine");
                self.diagnostics.warning(
                    at.span,
                    message,
                    "mount the folder that the step needs, and nothing above it",
                );
            }
            mounts.push(mount);
        }
        mounts
    }

    /// A mount, and where it is written.
    fn mount<'n>(&mut self, item: &'n Node) -> Option<(Mount, &'n Node)> {
        if let Some(text) = item.text() {
            return Some((self.told(item, text.parse())?, item));
        }
        let (source, target) = (item.get("source")?, item.get("target")?);
        let read_only = item.get("read_only").and_then(Node::bool).unwrap_or(true);
        let (from, to) =
            (self.told(source, source.text()?.parse()), self.told(target, Mount::target(target.text()?)));
        Some((Mount { source: from?, target: to?, read_only }, target))
    }

    fn health(&mut self, node: &Node, name: &str) -> Option<Health> {
        for key in ["interval", "timeout"] {
            self.positive(node.get(key), &format!("\"{key}\" of {name}"));
        }
        let line = node.get("command")?;
        let command: Vec<String> = match &line.value {
            Value::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
            _ => line.items().iter().filter_map(|n| n.text().map(str::to_owned)).collect(),
        };
        match command.first().map(String::as_str) {
            None | Some("") if matches!(line.value, Value::Text(_) | Value::List(_)) => {
                self.diagnostics.error(
                    line.span,
                    "the health command is empty",
                    "write [program, argument, …]",
                );
            }
            Some(word @ ("CMD" | "CMD-SHELL" | "NONE")) => {
                let message = format!("\"{word}\" is a word of compose, and would be run as a program");
                self.diagnostics.error(
                    line.span,
                    message,
                    "write the command alone; for a shell write [sh, -c, \"…\"]",
                );
            }
            _ => self.no_shell(line),
        }
        Some(Health {
            command,
            interval: duration(node.get("interval")).unwrap_or(INTERVAL),
            timeout: duration(node.get("timeout")).unwrap_or(TIMEOUT),
            start_period: duration(node.get("start_period")).unwrap_or_default(),
            retries: node
                .get("retries")
                .and_then(Node::count)
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(RETRIES),
        })
    }

    /// The outcome of a check; what is wrong is said at `at`.
    fn told<T>(&mut self, at: &Node, outcome: Result<T, ContainerError>) -> Option<T> {
        outcome.map_err(|error| self.diagnostics.error(at.span, error.message, error.help)).ok()
    }
}

/// The items of a list; anything else has been reported.
fn list(node: Option<&Node>) -> &[Node] {
    match node.map(|n| &n.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}
