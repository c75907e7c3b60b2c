//! What the built-in programs take. `steps` implements them; a test keeps the two lists equal.

use super::shape::{Field, Shape};
use crate::domain::dag::StepKind;

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

const NAMES: Shape = Shape::Either(&[Shape::List(&Shape::Text), Shape::Text]);
const TOPIC: Field = Field::new("topic", Shape::Text, "the topic it works on (default kis.trades)");
const GROUP: Field = Field::new("group", Shape::Text, "its consumer group (default: DAG and step)");
const DOCUMENTS: Field = Field::new("documents", Shape::Count(1), "most documents in one request");
const BYTES: Field = Field::new("bytes", Shape::Size, "most bytes in one request");

const ROTATE: &[Field] = &[
    Field::new("size", Shape::Size, "largest object (default 64MiB)"),
    Field::new("every", Shape::Duration, "longest time one object stays open (default 1m)"),
];

/// The built-in programs.
pub const BUILT_IN: &[Program] = &[
    Program {
        name: "topics",
        kinds: &[StepKind::Task],
        about: "creates topics and their dead-letter topics where they are missing",
        with: &[
            Field::required("create", NAMES, "[kis.trades]"),
            Field::new("partitions", Shape::Count(1), "partitions of a new topic (default 3)"),
        ],
        secrets: &[],
    },
    Program {
        name: "collect/kis",
        kinds: &[StepKind::Service],
        about: "collects trades from the KIS WebSocket feed into the log and the raw store",
        with: &[
            Field::required("symbols", NAMES, "a list of codes, or file:PATH with one a line"),
            Field::new("tr_ids", NAMES, "what to subscribe to (default [H0STCNT0])"),
            TOPIC,
            Field::new("collection", Shape::Text, "collection of the raw store (default: the topic's name)"),
        ],
        secrets: &["app_key", "app_secret"],
    },
    Program {
        name: "sink/raw",
        kinds: &[StepKind::Service],
        about: "writes a topic into the raw store",
        with: &[TOPIC, GROUP, Field::new("collection", Shape::Text, "collection (default: the topic's name)"), DOCUMENTS, BYTES],
        secrets: &[],
    },
    Program {
        name: "sink/index",
        kinds: &[StepKind::Service],
        about: "writes a topic into the search index",
        with: &[
            TOPIC,
            GROUP,
            Field::new("index", Shape::Text, "index name before the date (default kis-trades)"),
            DOCUMENTS,
            BYTES,
        ],
        secrets: &[],
    },
    Program {
        name: "sink/objects",
        kinds: &[StepKind::Service],
        about: "writes a topic into objects, one open file a partition",
        with: &[
            TOPIC,
            GROUP,
            Field::new("rotate", Shape::Table(ROTATE), "when an object is closed and the next begun"),
            Field::new("prefix", Shape::Text, "first part of the keys (default: the topic's name)"),
            Field::new("timezone", Shape::Text, "zone of the date parts of keys (default: the schedule's)"),
            Field::new("remember", Shape::Count(0), "ids remembered to fold duplicates (default 200000)"),
        ],
        secrets: &[],
    },
    Program {
        name: "vwap",
        kinds: &[StepKind::Service],
        about: "volume-weighted average prices per symbol, by window and session",
        with: &[
            TOPIC,
            GROUP,
            Field::new("window", Shape::Duration, "length of a window (default 30s)"),
            Field::new("anomalies", Shape::Text, "topic for anomalies (default kis.anomalies)"),
            Field::new("index", Shape::Text, "index name before the date (default kis-vwap)"),
        ],
        secrets: &[],
    },
    Program {
        name: "freshness",
        kinds: &[StepKind::Check, StepKind::Task],
        about: "checks that data still arrives at every hop",
        with: &[TOPIC, Field::new("stale_after", Shape::Duration, "age at which a hop is stalled (default 5m)")],
        secrets: &[],
    },
    Program {
        name: "reconcile",
        kinds: &[StepKind::Teardown, StepKind::Task],
        about: "compares every store with the spool, id by id, and reports gaps",
        with: &[TOPIC],
        secrets: &[],
    },
];

/// The program of this name.
pub fn find<'a>(programs: &'a [Program], name: &str) -> Option<&'a Program> {
    programs.iter().find(|p| p.name == name)
}
