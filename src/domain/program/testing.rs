//! A small table of programs for the tests of what goes over one; the real table is `steps::programs`.

use super::{Parameter, Program, Role, SecretName, Shape, Store};
use crate::dag::StepKind;

const TOPIC: Parameter = Parameter::new("topic", Shape::Text, "the topic it works on").or("kis.trades");
const GROUP: Parameter = Parameter::new("group", Shape::Text, "its consumer group").or_else("DAG and step");
const COLLECTION: Parameter =
    Parameter::new("collection", Shape::Text, "collection of the raw store").or_as("topic");
const INDEX: Parameter =
    Parameter::new("index", Shape::Text, "name of the index before the date").or("kis-trades");
const PREFIX: Parameter = Parameter::new("prefix", Shape::Text, "first part of the keys").or_as("topic");

const ROTATE: &[Parameter] = &[
    Parameter::new("size", Shape::Size, "largest object").or("64MiB"),
    Parameter::new("every", Shape::Duration, "longest time one object stays open").or("1m"),
];

const fn service(name: &'static str, role: Role, parameters: &'static [Parameter]) -> Program {
    Program {
        name,
        kinds: &[StepKind::Service],
        role,
        about: "a service",
        parameters,
        secrets: &[],
        replicas: true,
    }
}

/// A source, a sink for each kind of store, and a program of each other role.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "topics",
        kinds: &[StepKind::Task],
        role: Role::Task,
        about: "creates topics",
        parameters: &[
            Parameter::required("create", Shape::NAMES, "names of topics"),
            Parameter::new("partitions", Shape::Count(1), "of a new topic").or("3").counting("partitions"),
        ],
        secrets: &[],
        replicas: false,
    },
    Program {
        secrets: &[
            SecretName { name: "app_key", variable: "KIS_APP_KEY", help: "the key" },
            SecretName { name: "app_secret", variable: "KIS_APP_SECRET", help: "its secret" },
        ],
        replicas: false,
        ..service(
            "collect/kis",
            Role::Source("kis"),
            &[
                Parameter::required("symbols", Shape::NAMES, "a list of codes, or file:PATH with one a line"),
                Parameter::new("tr_ids", Shape::NAMES, "what to subscribe to").or("H0STCNT0"),
                TOPIC,
                COLLECTION,
            ],
        )
    },
    service("sink/raw", Role::Hop(Store::Raw), &[TOPIC, GROUP, COLLECTION]),
    service("sink/index", Role::Hop(Store::Index), &[TOPIC, GROUP, INDEX]),
    service(
        "sink/objects",
        Role::Hop(Store::Objects),
        &[
            TOPIC,
            GROUP,
            PREFIX,
            Parameter::new("rotate", Shape::Table(ROTATE), "when an object is closed and the next begun"),
        ],
    ),
    service(
        "vwap",
        Role::Transform,
        &[
            TOPIC,
            GROUP,
            Parameter::new("window", Shape::Duration, "length of a window").or("30s"),
            Parameter::new("anomalies", Shape::Text, "topic for anomalies"),
        ],
    ),
    Program {
        name: "freshness",
        kinds: &[StepKind::Check, StepKind::Task],
        role: Role::Check,
        about: "checks that data arrives",
        parameters: &[
            Parameter::new("stale_after", Shape::Duration, "age at which a hop is stalled").or("5m"),
            Parameter::new("hops", Shape::Count(1), "how many hops there are")
                .deprecated("remove it; they follow from the steps"),
        ],
        secrets: &[],
        replicas: false,
    },
    Program {
        name: "reconcile",
        kinds: &[StepKind::Teardown, StepKind::Task],
        role: Role::Reconcile,
        about: "compares the stores",
        parameters: &[Parameter::new("listed", Shape::Count(0), "most missing ids listed")
            .or("100")
            .counting("ids")],
        secrets: &[],
        replicas: false,
    },
];
