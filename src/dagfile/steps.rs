//! The steps of a DAG file.

use std::collections::BTreeMap;
use std::time::Duration;

use super::container::StepScope;
use super::graph::{self, Vertex};
use super::read::{Reader, duration, word};
use super::tree::{Entry, Node, Span, Value};
use super::{FileReference, Severity, shape, suggest, tables};
use domain::dag::{
    Condition, Container, ExecutorKind, Need, Program, Restart, RestartPolicy, SecretRef, Step, StepKind,
    StopPolicy, StopSignal, TriggerRule,
};
use domain::program;
use domain::retry::Backoff;

/// What the rest of the file says about all steps.
pub(super) struct File<'a> {
    pub defaults: Option<&'a Node>,
    /// What the defaults say of containers.
    pub container: Container,
    pub env: BTreeMap<String, String>,
    pub executor: Option<ExecutorKind>,
    pub params: &'a BTreeMap<String, String>,
    /// There is a schedule, and its windows have no end.
    pub unbounded: bool,
}

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOP_GRACE: Duration = Duration::from_secs(30);
/// A run waits for its teardowns, so they must end.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(600);

use StepKind::{Check, Service, Task, Teardown};

/// Keys that only some kinds of step have, and what to write on the others.
const KIND_KEYS: [(&str, &[StepKind], &str); 9] = [
    ("every", &[Check], "only a check repeats; write kind: check, or remove every"),
    ("drain", &[Service], "only a service drains; write kind: service, or remove drain"),
    ("ready", &[Service], "only a service gets ready; write kind: service, or remove ready"),
    ("restart", &[Service], "only a service restarts; others have retries"),
    ("replicas", &[Service], "only a service has replicas; write kind: service, or remove replicas"),
    ("retries", &[Task, Check, Teardown], "a service restarts instead; write restart: { max: … }"),
    ("backoff", &[Task, Check, Teardown], "a service restarts instead; write restart: { backoff: … }"),
    (
        "timeout",
        &[Task, Check, Teardown],
        "a service lives until close; for its start write ready: { within: … }",
    ),
    ("trigger_rule", &[Task, Service, Check], "a teardown runs whatever happened; remove trigger_rule"),
];

impl Reader<'_> {
    pub fn steps(&mut self, entry: &Entry, file: &File<'_>) -> Option<Vec<Step>> {
        let entries = entry.value.entries();
        if matches!(&entry.value.value, Value::Map(entries) if entries.is_empty()) {
            self.diagnostics.error(
                entry.key_span,
                "the DAG has no steps",
                "add one: NAME: { command: [echo, hello] }",
            );
        }
        self.defaults(file);
        let vertices: Vec<Vertex<'_>> = entries.iter().map(|e| vertex(e, file)).collect();
        graph::check(&vertices, &mut self.diagnostics);
        let kinds: BTreeMap<&str, StepKind> = vertices.iter().map(|v| (v.name, v.kind)).collect();
        let steps: Vec<Option<Step>> =
            entries.iter().zip(&vertices).map(|(e, v)| self.step(e, v, &kinds, file)).collect();
        steps.into_iter().collect()
    }

    fn defaults(&mut self, file: &File<'_>) {
        for backoff in [
            file.defaults.and_then(|d| d.get("backoff")),
            restart_of(file.defaults).and_then(|r| r.get("backoff")),
        ] {
            self.backoff(backoff, Backoff::default());
        }
        let timeout = file.defaults.and_then(|d| d.get("timeout"));
        self.positive(timeout, "\"timeout\" of \"defaults\"");
    }

    /// Its lengths of time are longer than nothing.
    fn positive_times(&mut self, entry: &Entry) {
        for key in ["timeout", "every"] {
            self.positive(entry.value.get(key), &format!("\"{key}\" of step \"{}\"", entry.key));
        }
        self.positive(
            entry.value.get("ready").and_then(|r| r.get("within")),
            &format!("\"within\" of \"ready\" of step \"{}\"", entry.key),
        );
    }

    fn step(
        &mut self,
        entry: &Entry,
        vertex: &Vertex<'_>,
        kinds: &BTreeMap<&str, StepKind>,
        file: &File<'_>,
    ) -> Option<Step> {
        let (node, kind) = (&entry.value, vertex.kind);
        if !matches!(node.value, Value::Map(_)) {
            return None;
        }
        let program = self.program(entry, kind);
        self.kind_keys(entry, kind, file);
        let executor = self.executor(entry, program.as_ref(), file);
        let default = |key: &str| file.defaults.and_then(|d| d.get(key));
        let own_or_default = |key: &str| node.get(key).or_else(|| default(key));
        let retried = kind != Service;
        let base = self.backoff(default("backoff"), Backoff::default());
        let backoff = self.backoff(node.get("backoff"), base);
        let restart = self.restart(node.get("restart"), restart_of(file.defaults));
        let stop = |key: &str| {
            node.get("stop").and_then(|s| s.get(key)).or_else(|| default("stop").and_then(|s| s.get(key)))
        };
        let ready = node.get("ready").or_else(|| default("ready"));
        self.positive_times(entry);
        let every = duration(node.get("every"));
        let timeout = duration(own_or_default("timeout")).or(match kind {
            Check => every,
            Teardown => Some(TEARDOWN_TIMEOUT),
            Task | Service => None,
        });
        let mut env = file.env.clone();
        env.extend(self.scalars(node.get("env")));
        let ready_within = duration(ready.and_then(|r| r.get("within"))).unwrap_or(READY_WITHIN);
        let place = StepScope { kind, program: program.as_ref(), executor, ready_within };
        let container = self.container(entry, &file.container, &place);
        let when = self.condition(node.get("when"), file);
        self.file_references(node.get("with"));
        if matches!(program, Some(Program::Command { .. })) {
            self.names_of_secrets(entry);
        }
        Some(Step {
            name: entry.key.parse().ok()?,
            kind,
            program: program?,
            executor,
            needs: resolved_needs(vertex, kinds)?,
            trigger_rule: word::<TriggerRule>(node.get("trigger_rule")).unwrap_or_default(),
            with: json_table(node.get("with")),
            env,
            secrets: secrets(node.get("secrets")),
            retries: own_or_default("retries").filter(|_| retried).and_then(small).unwrap_or(0),
            backoff,
            timeout: timeout.filter(|_| retried),
            ready_within,
            restart,
            stop: StopPolicy {
                signal: word::<StopSignal>(stop("signal")).unwrap_or(StopSignal::Term),
                grace: duration(stop("grace")).unwrap_or(STOP_GRACE),
            },
            drain: duration(node.get("drain")),
            every,
            replicas: node.get("replicas").and_then(small).unwrap_or(1),
            when,
            container,
        })
    }

    /// What the step runs: exactly one of `uses` and `command`.
    fn program(&mut self, entry: &Entry, kind: StepKind) -> Option<Program> {
        let node = &entry.value;
        match (node.entry("uses"), node.entry("command")) {
            (Some(uses), None) => {
                if let Some(image) = node.entry("image") {
                    let help = "remove it; the image of built-in programs is set in the config";
                    self.diagnostics.error(
                        image.key_span,
                        "\"image\" belongs to a command, and this step uses a built-in program",
                        help,
                    );
                }
                let name = uses.value.text()?;
                self.built_in(entry, &uses.value, name, kind)?;
                Some(Program::Uses(name.to_owned()))
            }
            (None, Some(command)) => self.command(node, command),
            (Some(_), Some(command)) => {
                let message = format!("step \"{}\" has both \"uses\" and \"command\"", entry.key);
                self.diagnostics.error(command.key_span, message, "keep one of them");
                None
            }
            // A misspelt key has been reported already.
            (None, None)
                if node.entries().iter().any(|e| {
                    matches!(
                        suggest::nearest(&e.key, tables::STEP.iter().map(|f| f.name)),
                        Some("uses" | "command")
                    )
                }) =>
            {
                None
            }
            (None, None) => {
                let message = format!("step \"{}\" says nothing to run", entry.key);
                self.diagnostics.error(
                    entry.key_span,
                    message,
                    "add uses: with a built-in program, or command: with a list of words",
                );
                None
            }
        }
    }

    /// The command that a step runs.
    fn command(&mut self, node: &Node, command: &Entry) -> Option<Program> {
        if let Some(with) = node.entry("with") {
            let help = "write them into command, or as env";
            self.diagnostics.error(
                with.key_span,
                "\"with\" holds parameters of a built-in program, and this step runs a command",
                help,
            );
        }
        let argv: Vec<String> = match &command.value.value {
            Value::Text(line) => line.split_whitespace().map(str::to_owned).collect(),
            _ => command.value.items().iter().filter_map(|n| n.text().map(str::to_owned)).collect(),
        };
        if argv.first().is_none_or(String::is_empty) {
            if matches!(command.value.value, Value::Text(_) | Value::List(_)) {
                self.diagnostics.error(
                    command.key_span,
                    "the command is empty",
                    "write [program, argument, …]",
                );
            }
            return None;
        }
        self.no_shell(&command.value);
        Some(Program::Command { argv, image: node.get("image").and_then(Node::text).map(str::to_owned) })
    }

    /// A command written as one line is split at spaces; people who expect a shell are told.
    pub fn no_shell(&mut self, node: &Node) {
        let Some(line) = node.text() else { return };
        if let Some(sign) = line
            .split_whitespace()
            .find(|w| matches!(*w, "|" | "&&" | "||" | ";" | ">" | ">>" | "<" | "&"))
            .or_else(|| line.contains(['"', '\'']).then_some("quotes"))
        {
            let message =
                format!("the command runs without a shell, so {sign} would be passed on as it stands");
            self.diagnostics.warning(
                node.span,
                message,
                "write a list of words; for a shell write [sh, -c, \"…\"]",
            );
        }
    }

    fn built_in(&mut self, entry: &Entry, uses: &Node, name: &str, kind: StepKind) -> Option<()> {
        let programs = self.known.programs;
        let Some(program) = program::find(programs, name) else {
            let help = suggest::help(name, programs.iter().map(|p| p.name), "built-in programs");
            self.diagnostics.error(uses.span, format!("there is no built-in program \"{name}\""), help);
            return None;
        };
        if !program.kinds.contains(&kind) {
            let kinds: Vec<&str> = program.kinds.iter().map(|k| k.as_str()).collect();
            let message = format!("\"{name}\" does not work as a {}", kind.as_str());
            let place = entry.value.get("kind").map_or(uses.span, |k| k.span);
            self.diagnostics.error(place, message, format!("write kind: {}", kinds.join(" or kind: ")));
        }
        self.parameters(entry, uses.span, program);
        Some(())
    }

    fn parameters(&mut self, entry: &Entry, uses: Span, program: &program::Program) {
        let name = format!("\"with\" of {}", program.name);
        match entry.value.entry("with") {
            Some(with) if matches!(with.value.value, Value::Map(_)) => {
                shape::table(&with.value, program.parameters, &name, with.key_span, &mut self.diagnostics);
            }
            Some(_) => {}
            None => {
                for field in program.parameters.iter().filter(|f| f.is_required()) {
                    let message = format!(
                        "step \"{}\" lacks the parameter \"{}\" of {}",
                        entry.key, field.name, program.name
                    );
                    self.diagnostics.error(
                        uses,
                        message,
                        format!("add with: {{ {}: … }}: {}", field.name, field.help),
                    );
                }
            }
        }
        let given = entry.value.get("secrets");
        for secret in program.secrets.iter().filter(|s| given.is_none_or(|g| g.entry(s.name).is_none())) {
            let (name, variable) = (secret.name, secret.variable);
            let message = format!("step \"{}\" lacks the secret \"{name}\" of {}", entry.key, program.name);
            let help = format!("add secrets: {{ {name}: env:{variable} }} or {{ {name}: file:/path }}");
            self.diagnostics.error(entry.value.entry("secrets").map_or(uses, |e| e.key_span), message, help);
        }
    }

    /// A command finds a secret under its name, as a variable or as a file.
    fn names_of_secrets(&mut self, entry: &Entry) {
        let Some(secrets) = entry.value.get("secrets") else { return };
        for secret in secrets.entries() {
            let (name, step) = (&secret.key, &entry.key);
            let mut signs = name.chars();
            let word = signs.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                && signs.all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !word {
                let message = format!(
                    "\"{name}\" of \"secrets\" of step \"{step}\" is no name of an environment variable"
                );
                let help = "the command finds the secret under this name: use letters, digits and _, for example API_TOKEN";
                self.diagnostics.error(secret.key_span, message, help);
            } else if name.starts_with("OPENBELL_") {
                let message = format!(
                    "\"{name}\" of \"secrets\" of step \"{step}\" is a name that openbell gives itself"
                );
                self.diagnostics.error(
                    secret.key_span,
                    message,
                    "take a name that does not begin with OPENBELL_",
                );
            } else if entry.value.get("env").is_some_and(|env| env.entry(name).is_some()) {
                let message = format!("step \"{step}\" has \"{name}\" both in \"env\" and in \"secrets\"");
                self.diagnostics.error(secret.key_span, message, "keep one of them");
            }
        }
    }

    /// Keys that do not go with the kind of the step, and keys that it needs.
    fn kind_keys(&mut self, entry: &Entry, kind: StepKind, file: &File<'_>) {
        let node = &entry.value;
        for (key, kinds, help) in KIND_KEYS {
            if let Some(found) = node.entry(key)
                && !kinds.contains(&kind)
            {
                let message = format!("\"{key}\" does not go with a {}", kind.as_str());
                self.diagnostics.error(found.key_span, message, help);
            }
        }
        let place = node.get("kind").map_or(entry.key_span, |k| k.span);
        if kind == Check && node.entry("every").is_none() {
            let message = format!("check \"{}\" does not say how often", entry.key);
            self.diagnostics.error(place, message, "add every: with an interval, for example every: 5m");
        }
        if matches!(kind, Service | Check) && file.unbounded {
            let message =
                format!("{} \"{}\" would never end: the schedule has no close", kind.as_str(), entry.key);
            self.diagnostics.error(place, message, "add close: to the schedule, or make the step a task");
        }
    }

    fn executor(
        &mut self,
        entry: &Entry,
        program: Option<&Program>,
        file: &File<'_>,
    ) -> Option<ExecutorKind> {
        use ExecutorKind::{Docker, Embedded, Process, Swarm};
        let node = &entry.value;
        let own = word::<ExecutorKind>(node.get("executor"));
        let place = node.get("executor").map_or(entry.key_span, |n| n.span);
        let (command, image) = match program {
            Some(Program::Command { image, .. }) => (true, image.is_some()),
            _ => (false, false),
        };
        let fits = |e: &ExecutorKind| match e {
            Embedded => !command,
            Process => !image,
            Docker | Swarm => !command || image,
        };
        match own {
            Some(Embedded) if command => {
                self.diagnostics.error(
                    place,
                    "a command cannot run inside the daemon",
                    "write executor: process, or docker with an image:",
                );
            }
            Some(Process) if image => {
                self.diagnostics.error(
                    place,
                    "a command with an image cannot run as a process",
                    "write executor: docker or swarm, or remove image:",
                );
            }
            Some(e @ (Docker | Swarm)) if command && !image => {
                let message = format!("executor {} needs an image to run the command in", e.as_str());
                self.diagnostics.error(place, message, "add image: NAME:TAG");
            }
            _ => {}
        }
        let executor = own.or(file.executor.filter(fits)).or(image.then_some(Docker));
        if let Some(replicas) = node.get("replicas")
            && replicas.count().is_some_and(|n| n > 1)
            && executor != Some(Swarm)
        {
            let help = "add executor: swarm, or start a second step with the same program";
            self.diagnostics.error(replicas.span, "several replicas need the executor swarm", help);
        } else if let Some(replicas) = node.get("replicas")
            && let Some(Program::Uses(name)) = program
            && program::find(self.known.programs, name).is_some_and(|program| !program.replicas)
            && replicas.count().is_some_and(|n| n > 1)
        {
            let message = format!("several copies of {name} would do the same work twice");
            let help = format!("remove replicas; {} share theirs", self.sharing().join(", "));
            self.diagnostics.error(replicas.span, message, help);
        }
        executor
    }

    /// Programs of which several copies share their work.
    fn sharing(&self) -> Vec<&str> {
        self.known.programs.iter().filter(|p| p.replicas).map(|p| p.name).collect()
    }

    fn condition(&mut self, node: Option<&Node>, file: &File<'_>) -> Option<Condition> {
        let node = node?;
        let param = node.get("param")?;
        let name = param.text()?;
        if !file.params.contains_key(name) {
            let known = suggest::help(name, file.params.keys().map(String::as_str), "parameters");
            let help = format!("{known} (or add it to the params: of the file, with a default)");
            self.diagnostics.error(param.span, format!("there is no run parameter \"{name}\""), help);
        }
        Some(Condition { param: name.to_owned(), equals: node.get("equals")?.scalar(self.text)?.to_owned() })
    }

    fn restart(&mut self, own: Option<&Node>, default: Option<&Node>) -> RestartPolicy {
        let get = |key: &str| own.and_then(|o| o.get(key)).or_else(|| default.and_then(|d| d.get(key)));
        let base = self.backoff(default.and_then(|d| d.get("backoff")), Backoff::default());
        RestartPolicy {
            policy: word(get("policy")).unwrap_or(Restart::Always),
            backoff: self.backoff(own.and_then(|o| o.get("backoff")), base),
            max: get("max").and_then(Node::count).and_then(|n| u32::try_from(n).ok()),
        }
    }

    /// A backoff; what the file does not say is taken from `base`.
    fn backoff(&mut self, node: Option<&Node>, base: Backoff) -> Backoff {
        let Some(node) = node else { return base };
        let initial = duration(node.get("initial")).unwrap_or(base.initial);
        // An initial wait longer than the default longest one means that the longest one was not thought of.
        let max = duration(node.get("max")).unwrap_or(base.max.max(initial));
        if max < initial {
            let place = node.get("max").map_or(node.span, |n| n.span);
            self.diagnostics.error(
                place,
                "the longest wait is shorter than the first",
                "make max at least as long as initial",
            );
        }
        Backoff { initial, max, jitter: node.get("jitter").and_then(Node::bool).unwrap_or(base.jitter) }
    }

    pub fn positive(&mut self, node: Option<&Node>, name: &str) {
        if let Some(node) = node
            && duration(Some(node)).is_some_and(|d| d.is_zero())
        {
            self.diagnostics.error(
                node.span,
                format!("{name} is zero"),
                "write a duration above zero, or remove the key",
            );
        }
    }

    /// Remembers the files that parameters refer to.
    fn file_references(&mut self, node: Option<&Node>) {
        let Some(node) = node else { return };
        match &node.value {
            Value::Text(text) => {
                if let Some(path) = text.strip_prefix("file:") {
                    let (message, help) = (
                        format!("there is no file \"{path}\""),
                        "the path is relative to the DAG folder".to_owned(),
                    );
                    let if_missing = self.diagnostics.at(Severity::Error, node.span, message, help);
                    self.files.push(FileReference { path: path.to_owned(), if_missing });
                }
            }
            Value::List(items) => items.iter().for_each(|item| self.file_references(Some(item))),
            Value::Map(entries) => entries.iter().for_each(|e| self.file_references(Some(&e.value))),
            _ => {}
        }
    }
}

fn vertex<'a>(entry: &'a Entry, file: &File<'_>) -> Vertex<'a> {
    let node = &entry.value;
    let policy = |restart: Option<&Node>| word::<Restart>(restart.and_then(|r| r.get("policy")));
    Vertex {
        name: &entry.key,
        kind: word(node.get("kind")).unwrap_or(Task),
        restart: policy(node.get("restart"))
            .or_else(|| policy(restart_of(file.defaults)))
            .unwrap_or(Restart::Always),
        needs: graph::needs(node),
    }
}

/// A whole number that a count of the DAG can be.
fn small(node: &Node) -> Option<u32> {
    node.count().and_then(|n| u32::try_from(n).ok())
}

fn restart_of(defaults: Option<&Node>) -> Option<&Node> {
    defaults.and_then(|d| d.get("restart"))
}

fn resolved_needs(vertex: &Vertex<'_>, kinds: &BTreeMap<&str, StepKind>) -> Option<Vec<Need>> {
    let need = |n: &graph::NeedRef<'_>| {
        let kind = *kinds.get(n.step)?;
        let until = n.until.unwrap_or_else(|| graph::default_until(vertex.kind, kind));
        Some(Need { step: n.step.parse().ok()?, until })
    };
    vertex.needs.iter().map(need).collect()
}

fn secrets(node: Option<&Node>) -> BTreeMap<String, SecretRef> {
    let reference = |text: &str| match text.split_once(':')? {
        ("env", name) => Some(SecretRef::Env(name.to_owned())),
        ("file", path) => Some(SecretRef::File(path.to_owned())),
        _ => None,
    };
    let entries = node.map(Node::entries).unwrap_or_default();
    entries.iter().filter_map(|e| Some((e.key.clone(), reference(e.value.text()?)?))).collect()
}

fn json_table(node: Option<&Node>) -> serde_json::Map<String, serde_json::Value> {
    match node.map(Node::to_json) {
        Some(serde_json::Value::Object(table)) => table,
        _ => serde_json::Map::new(),
    }
}
