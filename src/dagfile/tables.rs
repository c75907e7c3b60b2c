//! The keys of a DAG file.

use super::shape::{Field, Shape};
use domain::dag::container::CPUS;

const NAMES: Shape = Shape::Either(&[Shape::List(&Shape::Text), Shape::Text]);
const EXECUTOR: Shape = Shape::OneOf(&["embedded", "process", "docker", "swarm"]);
const SCALARS: Shape = Shape::Dict { named: false, values: &Shape::Scalar };

/// The kinds of step.
pub(super) const KINDS: [&str; 4] = ["task", "service", "check", "teardown"];

/// The kinds of alert.
pub(super) const ALERTS: [&str; 10] = [
    "step_failed",
    "run_failed",
    "run_missed",
    "run_finished",
    "stalled",
    "recovered",
    "dead_letters",
    "deadline_missed",
    "topic_remade",
    "output_cut",
];

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
pub(super) const FILE: &[Field] = &[
    Field::required("name", Shape::Name, "the DAG's name, unique in the folder"),
    Field::new("description", Shape::Text, "one line for people"),
    Field::new("owner", Shape::Text, "who to ask"),
    Field::new("enabled", Shape::Bool, "false: starts as paused; somebody has to resume it (default true)"),
    Field::new("schedule", Shape::Table(SCHEDULE), "when it runs; without one, by hand only"),
    Field::new("defaults", Shape::Table(DEFAULTS), "what steps that say nothing else get"),
    Field::new("alerts", Shape::Table(ALERT), "who hears of what"),
    Field::new("params", SCALARS, "run parameters and their defaults"),
    Field::new("env", SCALARS, "environment of every command"),
    Field::new("executor", EXECUTOR, "where steps run that name no executor"),
    Field::required("steps", Shape::Dict { named: true, values: &Shape::Table(STEP) }, "the steps, by name"),
];

const SCHEDULE: &[Field] = &[
    Field::new("timezone", Shape::Text, "IANA zone of cron and dates (default: the calendar's)"),
    Field::new("calendar", Shape::Text, "trading calendar: calendars/NAME.csv in the DAG folder"),
    Field::required("open", Shape::Text, "start of the window: cron (\"50 8 * * MON-FRI\") or session.open - 10m"),
    Field::new("close", Shape::Text, "end of the window: cron or session.close + 30m; without one, the run ends with its tasks"),
    Field::new(
        "late_start",
        Shape::OneOf(&["join", "skip"]),
        "what to do when the daemon comes up inside a window (default join)",
    ),
    Field::new(
        "catchup",
        Shape::OneOf(&["none", "last", "all"]),
        "what to do about windows that passed while it was down (default none)",
    ),
];

const BACKOFF: &[Field] = &[
    Field::new("initial", Shape::Duration, "wait before the first retry (default 1s), doubled each time"),
    Field::new("max", Shape::Duration, "longest wait (default 1m)"),
    Field::new("jitter", Shape::Bool, "spread the waits, so that not all start at once (default true)"),
];

const RESTART: &[Field] = &[
    Field::new(
        "policy",
        Shape::OneOf(&["always", "on_failure", "never"]),
        "when a service that ended starts again (default always)",
    ),
    Field::new("backoff", Shape::Table(BACKOFF), "wait before it starts again"),
    Field::new("max", Shape::Count(1), "most restarts in a row (default: no limit)"),
];

const READY: &[Field] = &[Field::new("within", Shape::Duration, "how long a service may take to be ready (default 30s)")];

const STOP: &[Field] = &[
    Field::new("signal", Shape::OneOf(&["SIGTERM", "SIGINT", "SIGQUIT"]), "how it is asked to stop (default SIGTERM)"),
    Field::new("grace", Shape::Duration, "how long it may take before it is killed (default 30s)"),
];

const MOUNT: &[Field] = &[
    Field::required("source", Shape::Text, "an absolute path on the engine's machine, or the name of a volume"),
    Field::required("target", Shape::Text, "where the container sees it, an absolute path"),
    Field::new("read_only", Shape::Bool, "whether the step may only read it (default true)"),
];

const HEALTH: &[Field] = &[
    Field::required("command", NAMES, "run in the container, without a shell; exit code 0 means that the service can serve"),
    Field::new("interval", Shape::Duration, "from one run to the next, and before the first (default 5s)"),
    Field::new("timeout", Shape::Duration, "longest life of one run; after it, it has failed (default 5s)"),
    Field::new("start_period", Shape::Duration, "failures this long after the start do not count (default 0s)"),
    Field::new("retries", Shape::Count(1), "so many failures in a row make it unhealthy (default 3)"),
];

/// What a container is given.
pub(super) const CONTAINER: &[Field] = &[
    Field::new("memory", Shape::Size, "most memory; more ends the step (default: the configuration's)"),
    Field::new("cpus", Shape::Number { least: CPUS.0, most: CPUS.1 }, "most processors (default: the configuration's)"),
    Field::new("pids", Shape::Count(1), "most processes and threads (default: the configuration's, 512)"),
    Field::new("network", Shape::Text, "bridge, host, none, or the name of a network (default: the configuration's, bridge)"),
    Field::new("pull", Shape::OneOf(&["always", "missing", "never"]), "when the image is pulled (default: missing)"),
    Field::new(
        "user",
        Shape::Either(&[Shape::Text, Shape::Count(0)]),
        "UID or UID:GID in numbers (default: the owner of the data folder)",
    ),
    Field::new(
        "mounts",
        Shape::List(&Shape::Either(&[Shape::Text, Shape::Table(MOUNT)])),
        "what it sees besides its folder: SOURCE:TARGET, read-only, or SOURCE:TARGET:rw",
    ),
    Field::new("health", Shape::Table(HEALTH), "a command whose success makes a service ready"),
    Field::new("placement", Shape::List(&Shape::Text), "nodes it may run on: node.labels.zone == a (executor swarm)"),
];

const DEFAULTS: &[Field] = &[
    Field::new("retries", Shape::Count(0), "retries of tasks, checks and teardowns (default 0)"),
    Field::new("backoff", Shape::Table(BACKOFF), "wait before a retry"),
    Field::new("timeout", Shape::Duration, "longest life of an attempt of tasks, checks and teardowns"),
    Field::new("ready", Shape::Table(READY), "readiness of services"),
    Field::new("restart", Shape::Table(RESTART), "restarts of services"),
    Field::new("stop", Shape::Table(STOP), "how steps are stopped"),
    Field::new("container", Shape::Table(CONTAINER), "what the containers of steps are given"),
];

const ALERT: &[Field] = &[
    Field::new("email", Shape::Either(&[Shape::List(&Shape::Email), Shape::Email]), "who gets the mails"),
    Field::new("on", Shape::List(&Shape::OneOf(&ALERTS)), "what is told (default: everything except run_finished)"),
    Field::new("dead_letters", Shape::Table(DEAD_LETTERS), "when dead letters are told"),
];

const DEAD_LETTERS: &[Field] = &[Field::new("over", Shape::Count(0), "tell when a run has more than this many (default 10)")];

const NEED: &[Field] = &[
    Field::required("step", Shape::Text, "the step waited for"),
    Field::new("until", Shape::OneOf(&UNTIL), "the point waited for (default: service ready, task succeeded, check started)"),
];

const WHEN: &[Field] = &[
    Field::required("param", Shape::Text, "name of a run parameter"),
    Field::required("equals", Shape::Scalar, "the value it must have"),
];

/// A step.
pub(super) const STEP: &[Field] = &[
    Field::new("kind", Shape::OneOf(&KINDS), "task (default), service, check or teardown"),
    Field::new("uses", Shape::Text, "the built-in program it runs"),
    Field::new("command", NAMES, "the command it runs, without a shell"),
    Field::new("image", Shape::Text, "container image of the command"),
    Field::new("executor", EXECUTOR, "where it runs"),
    Field::new("container", Shape::Table(CONTAINER), "what its container is given (executor docker or swarm)"),
    Field::new("needs", Shape::List(&Shape::Either(&[Shape::Text, Shape::Table(NEED)])), "steps it waits for"),
    Field::new("trigger_rule", Shape::OneOf(&TRIGGER_RULES), "how the ends of its needs combine (default all_success)"),
    Field::new("when", Shape::Table(WHEN), "skip it unless a run parameter has this value"),
    Field::new("with", Shape::Dict { named: false, values: &Shape::Any }, "parameters of the built-in program"),
    Field::new("env", SCALARS, "environment of the command"),
    Field::new("secrets", Shape::Dict { named: false, values: &Shape::Secret }, "secrets by reference: env:NAME or file:/path"),
    Field::new("retries", Shape::Count(0), "retries after a failure"),
    Field::new("backoff", Shape::Table(BACKOFF), "wait before a retry"),
    Field::new("timeout", Shape::Duration, "longest life of an attempt"),
    Field::new("ready", Shape::Table(READY), "readiness of a service"),
    Field::new("restart", Shape::Table(RESTART), "what happens when a service ends inside its window"),
    Field::new("stop", Shape::Table(STOP), "how it is stopped"),
    Field::new(
        "drain",
        Shape::Duration,
        "how long a service that is stopped may go on to finish what it has or its sources left",
    ),
    Field::new("every", Shape::Duration, "interval of a check"),
    Field::new("replicas", Shape::Count(1), "copies side by side (executor swarm)"),
];
