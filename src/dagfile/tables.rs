//! The keys of a DAG file.

use domain::alert::AlertKind;
use domain::dag::container::CPUS;
use domain::program::{Parameter, Shape};

const NAMES: Shape = Shape::Either(&[Shape::List(&Shape::Text), Shape::Text]);
const EXECUTOR: Shape = Shape::OneOf(&["embedded", "process", "docker", "swarm"]);
const SCALARS: Shape = Shape::Dict { named: false, values: &Shape::Scalar };

/// The kinds of step.
pub(super) const KINDS: [&str; 4] = ["task", "service", "check", "teardown"];

const UNTIL: [&str; 4] = ["started", "ready", "succeeded", "done"];

const TRIGGER_RULES: [&str; 10] = [
    "all_success",
    "all_failed",
    "all_done",
    "one_success",
    "one_failed",
    "one_done",
    "none_failed",
    "none_failed_min_one_success",
    "none_skipped",
    "always",
];

/// The file.
pub(super) const FILE: &[Parameter] = &[
    Parameter::required("name", Shape::Name, "the DAG's name, unique in the folder"),
    Parameter::new("description", Shape::Text, "one line for people"),
    Parameter::new("owner", Shape::Text, "who to ask"),
    Parameter::new(
        "enabled",
        Shape::Bool,
        "false: starts as paused; somebody has to resume it (default true)",
    ),
    Parameter::new("schedule", Shape::Table(SCHEDULE), "when it runs; without one, by hand only"),
    Parameter::new("defaults", Shape::Table(DEFAULTS), "what steps that say nothing else get"),
    Parameter::new("alerts", Shape::Table(ALERT), "who hears of what"),
    Parameter::new("params", SCALARS, "run parameters and their defaults"),
    Parameter::new("env", SCALARS, "environment of every command"),
    Parameter::new("executor", EXECUTOR, "where steps run that name no executor"),
    Parameter::required(
        "steps",
        Shape::Dict { named: true, values: &Shape::Table(STEP) },
        "the steps, by name",
    ),
];

const SCHEDULE: &[Parameter] = &[
    Parameter::new("timezone", Shape::Text, "IANA zone of cron and dates (default: the calendar's)"),
    Parameter::new(
        "calendar",
        Shape::Text,
        "trading calendar: calendars/NAME.csv in the DAG folder; none: every day from 00:00 to 24:00",
    ),
    Parameter::required(
        "open",
        Shape::Text,
        "start of the window: cron (\"50 8 * * MON-FRI\") or session.open - 10m",
    ),
    Parameter::new(
        "close",
        Shape::Text,
        "end of the window: cron or session.close + 30m; without one, the run ends with its tasks",
    ),
    Parameter::new(
        "late_start",
        Shape::OneOf(&["join", "skip"]),
        "what to do when the daemon comes up inside a window (default join)",
    ),
    Parameter::new(
        "catchup",
        Shape::OneOf(&["none", "last", "all"]),
        "what to do about windows that passed while it was down (default none)",
    ),
];

const BACKOFF: &[Parameter] = &[
    Parameter::new("initial", Shape::Duration, "wait before the first retry (default 1s), doubled each time"),
    Parameter::new("max", Shape::Duration, "longest wait (default 1m)"),
    Parameter::new("jitter", Shape::Bool, "spread the waits, so that not all start at once (default true)"),
];

const RESTART: &[Parameter] = &[
    Parameter::new(
        "policy",
        Shape::OneOf(&["always", "on_failure", "never"]),
        "when a service that ended starts again (default always)",
    ),
    Parameter::new("backoff", Shape::Table(BACKOFF), "wait before it starts again"),
    Parameter::new("max", Shape::Count(1), "most restarts in a row (default: no limit)"),
];

const READY: &[Parameter] =
    &[Parameter::new("within", Shape::Duration, "how long a service may take to be ready (default 30s)")];

const STOP: &[Parameter] = &[
    Parameter::new(
        "signal",
        Shape::OneOf(&["SIGTERM", "SIGINT", "SIGQUIT"]),
        "how it is asked to stop (default SIGTERM)",
    ),
    Parameter::new("grace", Shape::Duration, "how long it may take before it is killed (default 30s)"),
];

const MOUNT: &[Parameter] = &[
    Parameter::required(
        "source",
        Shape::Text,
        "an absolute path on the engine's machine, or the name of a volume",
    ),
    Parameter::required("target", Shape::Text, "where the container sees it, an absolute path"),
    Parameter::new("read_only", Shape::Bool, "whether the step may only read it (default true)"),
];

const HEALTH: &[Parameter] = &[
    Parameter::required(
        "command",
        NAMES,
        "run in the container, without a shell; exit code 0 means that the service can serve",
    ),
    Parameter::new(
        "interval",
        Shape::Duration,
        "from one run to the next, and before the first (default 5s)",
    ),
    Parameter::new(
        "timeout",
        Shape::Duration,
        "longest life of one run; after it, it has failed (default 5s)",
    ),
    Parameter::new(
        "start_period",
        Shape::Duration,
        "failures this long after the start do not count (default 0s)",
    ),
    Parameter::new("retries", Shape::Count(1), "so many failures in a row make it unhealthy (default 3)"),
];

/// What a container is given.
pub(super) const CONTAINER: &[Parameter] = &[
    Parameter::new("memory", Shape::Size, "most memory; more ends the step (default: the configuration's)"),
    Parameter::new(
        "cpus",
        Shape::Number { least: CPUS.0, most: CPUS.1 },
        "most processors (default: the configuration's)",
    ),
    Parameter::new("pids", Shape::Count(1), "most processes and threads (default: the configuration's, 512)"),
    Parameter::new(
        "network",
        Shape::Text,
        "bridge, host, none, or the name of a network (default: the configuration's, bridge)",
    ),
    Parameter::new(
        "pull",
        Shape::OneOf(&["always", "missing", "never"]),
        "when the image is pulled (default: missing)",
    ),
    Parameter::new(
        "user",
        Shape::Either(&[Shape::Text, Shape::Count(0)]),
        "UID or UID:GID in numbers (default: the owner of the data folder)",
    ),
    Parameter::new(
        "mounts",
        Shape::List(&Shape::Either(&[Shape::Text, Shape::Table(MOUNT)])),
        "what it sees besides its folder: SOURCE:TARGET, read-only, or SOURCE:TARGET:rw",
    ),
    Parameter::new("health", Shape::Table(HEALTH), "a command whose success makes a service ready"),
    Parameter::new(
        "placement",
        Shape::List(&Shape::Text),
        "nodes it may run on: node.labels.zone == a (executor swarm)",
    ),
];

const DEFAULTS: &[Parameter] = &[
    Parameter::new("retries", Shape::Count(0), "retries of tasks, checks and teardowns (default 0)"),
    Parameter::new("backoff", Shape::Table(BACKOFF), "wait before a retry"),
    Parameter::new("timeout", Shape::Duration, "longest life of an attempt of tasks, checks and teardowns"),
    Parameter::new("ready", Shape::Table(READY), "readiness of services"),
    Parameter::new("restart", Shape::Table(RESTART), "restarts of services"),
    Parameter::new("stop", Shape::Table(STOP), "how steps are stopped"),
    Parameter::new("container", Shape::Table(CONTAINER), "what the containers of steps are given"),
];

const ALERT: &[Parameter] = &[
    Parameter::new("email", Shape::Either(&[Shape::List(&Shape::Email), Shape::Email]), "who gets the mails"),
    Parameter::new(
        "on",
        Shape::List(&Shape::OneOf(AlertKind::WORDS)),
        "what is told (default: everything except run_finished)",
    ),
    Parameter::new("dead_letters", Shape::Table(DEAD_LETTERS), "when dead letters are told"),
];

const DEAD_LETTERS: &[Parameter] =
    &[Parameter::new("over", Shape::Count(0), "tell when a run has more than this many (default 10)")];

const NEED: &[Parameter] = &[
    Parameter::required("step", Shape::Text, "the step waited for"),
    Parameter::new(
        "until",
        Shape::OneOf(&UNTIL),
        "the point waited for (default: service ready, task succeeded, check started)",
    ),
];

const WHEN: &[Parameter] = &[
    Parameter::required("param", Shape::Text, "name of a run parameter"),
    Parameter::required("equals", Shape::Scalar, "the value it must have"),
];

/// A step.
pub(super) const STEP: &[Parameter] = &[
    Parameter::new("kind", Shape::OneOf(&KINDS), "task (default), service, check or teardown"),
    Parameter::new("uses", Shape::Text, "the built-in program it runs"),
    Parameter::new("command", NAMES, "the command it runs, without a shell"),
    Parameter::new("image", Shape::Text, "container image of the command"),
    Parameter::new("executor", EXECUTOR, "where it runs"),
    Parameter::new(
        "container",
        Shape::Table(CONTAINER),
        "what its container is given (executor docker or swarm)",
    ),
    Parameter::new(
        "needs",
        Shape::List(&Shape::Either(&[Shape::Text, Shape::Table(NEED)])),
        "steps it waits for",
    ),
    Parameter::new(
        "trigger_rule",
        Shape::OneOf(&TRIGGER_RULES),
        "how the ends of its needs combine (default all_success)",
    ),
    Parameter::new("when", Shape::Table(WHEN), "skip it unless a run parameter has this value"),
    Parameter::new(
        "with",
        Shape::Dict { named: false, values: &Shape::Any },
        "parameters of the built-in program",
    ),
    Parameter::new("env", SCALARS, "environment of the command"),
    Parameter::new(
        "secrets",
        Shape::Dict { named: false, values: &Shape::Secret },
        "secrets by reference: env:NAME or file:/path",
    ),
    Parameter::new("retries", Shape::Count(0), "retries after a failure"),
    Parameter::new("backoff", Shape::Table(BACKOFF), "wait before a retry"),
    Parameter::new("timeout", Shape::Duration, "longest life of an attempt"),
    Parameter::new("ready", Shape::Table(READY), "readiness of a service"),
    Parameter::new("restart", Shape::Table(RESTART), "what happens when a service ends inside its window"),
    Parameter::new("stop", Shape::Table(STOP), "how it is stopped"),
    Parameter::new(
        "drain",
        Shape::Duration,
        "how long a service that is stopped may go on to finish what it has or its sources left",
    ),
    Parameter::new("every", Shape::Duration, "interval of a check"),
    Parameter::new("replicas", Shape::Count(1), "copies side by side (executor swarm)"),
];
