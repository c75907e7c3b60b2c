//! What the built-in programs take. `steps` implements them; a test keeps the two lists equal.

use super::shape::{Field, Shape};
use domain::dag::StepKind;

/// A built-in program as a DAG file sees it.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// What stands after `uses:`.
    pub name: &'static str,
    /// The kinds a step that uses it may have.
    pub kinds: &'static [StepKind],
    /// What it does, in one line.
    pub about: &'static str,
    /// Its parameters.
    pub with: &'static [Field],
    /// Names of the secrets it cannot do without.
    pub secrets: &'static [&'static str],
}

/// Programs of which several copies can run side by side: they share their work as a consumer group.
pub(super) const SHARING: [&str; 4] = ["sink/raw", "sink/index", "sink/objects", "vwap"];

const NAMES: Shape = Shape::Either(&[Shape::List(&Shape::Text), Shape::Text]);

const TOPIC: Field = Field::new("topic", Shape::Text, "the topic it works on (default kis.trades)");
const GROUP: Field = Field::new("group", Shape::Text, "its consumer group (default: DAG and step)");
const DOCUMENTS: Field = Field::new("documents", Shape::Count(1), "most documents in one request");
const BYTES: Field = Field::new("bytes", Shape::Size, "most bytes in one request");
const COLLECTOR: Field = Field::new("collector", Shape::Text, "the collecting step whose spool counts (default collector)");
const COLLECTION: Field = Field::new("collection", Shape::Text, "collection of the raw store (default: the topic's name)");
const INDEX: Field = Field::new("index", Shape::Text, "index name before the date (default kis-trades)");
const PREFIX: Field = Field::new("prefix", Shape::Text, "first part of the object keys (default: the topic's name)");
const TIMEZONE: Field = Field::new("timezone", Shape::Text, "zone of the date parts of object keys (default: the schedule's)");

const COLLECT_KIS: &[Field] = &[
    Field::required("symbols", NAMES, "a list of codes, or file:PATH with one a line"),
    Field::new("tr_ids", NAMES, "what to subscribe to (default [H0STCNT0])"),
    TOPIC,
    COLLECTION,
    Field::new("limit", Shape::Count(1), "most subscriptions of one session (default 41)"),
    Field::new("pace", Shape::Duration, "wait between two subscriptions"),
    Field::new("stale_after", Shape::Duration, "silence after which the session connects anew (default 90s)"),
];

const ROTATE: &[Field] = &[
    Field::new("size", Shape::Size, "largest object (default 64MiB)"),
    Field::new("every", Shape::Duration, "longest time one object stays open (default 1m)"),
];

const OBJECTS: &[Field] = &[
    TOPIC,
    GROUP,
    Field::new("rotate", Shape::Table(ROTATE), "when an object is closed and the next begun"),
    PREFIX,
    TIMEZONE,
    Field::new("remember", Shape::Count(0), "ids remembered to fold duplicates (default 200000)"),
];

const VWAP: &[Field] = &[
    TOPIC,
    GROUP,
    Field::new("window", Shape::Duration, "length of a window, whole seconds (default 30s)"),
    Field::new("index", Shape::Text, "index name before the date (default kis-vwap)"),
    Field::new("anomalies", Shape::Text, "topic for anomalies"),
    Field::new("anomaly_index", Shape::Text, "index name of anomalies before the date (default kis-anomalies)"),
    Field::new("lateness", Shape::Duration, "how long a late trade still corrects its window (default 1h)"),
    Field::new("emit", Shape::Duration, "how often changed windows are written (default 5s)"),
    Field::new("checkpoint", Shape::Duration, "how often the state is saved (default 1m)"),
    Field::new("remember", Shape::Count(1), "ids remembered to fold duplicates (default 200000)"),
];

const FRESHNESS: &[Field] = &[
    Field::new("stale_after", Shape::Duration, "age at which a hop is stalled (default 5m)"),
    Field::new("grace", Shape::Duration, "how long after the open nothing counts as stalled (default 1m)"),
    COLLECTOR,
    TOPIC,
    COLLECTION,
    INDEX,
    PREFIX,
    TIMEZONE,
];

const RECONCILE: &[Field] = &[
    COLLECTOR,
    TOPIC,
    COLLECTION,
    INDEX,
    PREFIX,
    TIMEZONE,
    Field::new("listed", Shape::Count(0), "most missing ids listed for a store (default 100)"),
];

const TOPICS: &[Field] = &[
    Field::required("create", NAMES, "[kis.trades]"),
    Field::new("partitions", Shape::Count(1), "partitions of a new topic (default 3)"),
];

/// The built-in programs, in the order of `steps::PROGRAMS`.
pub const BUILT_IN: &[Program] = &[
    Program {
        name: "topics",
        kinds: &[StepKind::Task],
        about: "creates topics and their dead-letter topics where they are missing",
        with: TOPICS,
        secrets: &[],
    },
    Program {
        name: "collect/kis",
        kinds: &[StepKind::Service],
        about: "collects trades from the KIS WebSocket feed into the log and the raw store",
        with: COLLECT_KIS,
        secrets: &["app_key", "app_secret"],
    },
    Program {
        name: "sink/raw",
        kinds: &[StepKind::Service],
        about: "writes a topic into the raw store",
        with: &[TOPIC, GROUP, COLLECTION, DOCUMENTS, BYTES],
        secrets: &[],
    },
    Program {
        name: "sink/index",
        kinds: &[StepKind::Service],
        about: "writes a topic into the search index",
        with: &[TOPIC, GROUP, INDEX, DOCUMENTS, BYTES],
        secrets: &[],
    },
    Program {
        name: "sink/objects",
        kinds: &[StepKind::Service],
        about: "writes a topic into objects, one open file a partition",
        with: OBJECTS,
        secrets: &[],
    },
    Program {
        name: "vwap",
        kinds: &[StepKind::Service],
        about: "volume-weighted average prices per symbol, by window and session",
        with: VWAP,
        secrets: &[],
    },
    Program {
        name: "freshness",
        kinds: &[StepKind::Check, StepKind::Task],
        about: "checks that data still arrives at every hop",
        with: FRESHNESS,
        secrets: &[],
    },
    Program {
        name: "reconcile",
        kinds: &[StepKind::Teardown, StepKind::Task],
        about: "compares every store with the spool, id by id, and reports gaps",
        with: RECONCILE,
        secrets: &[],
    },
];

/// The program of this name.
pub fn find<'a>(programs: &'a [Program], name: &str) -> Option<&'a Program> {
    programs.iter().find(|p| p.name == name)
}
