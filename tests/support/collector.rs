//! A collector as a daemon would start it, without the daemon.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::civil::Date;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use openbell::backends::Backends;
use openbell::backends::log::{Log, Partition, Stored};
use openbell::backends::spool::{Entry, Reader};
use openbell::clock::Clock;
use openbell::config::Feeds;
use openbell::domain::dag::fixtures::step;
use openbell::domain::dag::{Program, Step, StepKind};
use openbell::domain::ids::{AttemptId, RunId};
use openbell::domain::schedule::Window;
use openbell::executor::{AttemptSpec, Status};
use openbell::steps::{Context, Reporter};

use super::PATIENCE;

/// What a collector told.
#[derive(Default)]
pub struct Told {
    pub lines: Mutex<Vec<String>>,
    /// Its last status.
    pub status: Mutex<Option<Status>>,
}

impl Told {
    pub fn text(&self) -> String {
        self.lines.lock().join("\n")
    }

    /// Waits for a status.
    pub async fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) {
        let waiting = async {
            while !self.status.lock().as_ref().is_some_and(&holds) {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, waiting).await;
        in_time.unwrap_or_else(|_| panic!("never {what}:\n{}", self.text()));
    }
}

impl Reporter for Told {
    fn status(&self, status: Status) {
        *self.status.lock() = Some(status);
    }
    fn line(&self, line: &str) {
        self.lines.lock().push(line.to_owned());
    }
}

/// Where a collector works.
pub struct Place<'a> {
    pub data: &'a Path,
    pub clock: &'a Clock,
    pub backends: Backends,
    /// Its exchange: the base of the REST calls, and the WebSocket.
    pub addresses: [String; 2],
    pub told: Arc<Told>,
}

/// The first attempt of the step `collector` in a DAG's run of a date, in a window that is open and never
/// closes.
pub fn context(place: Place<'_>, feed: &str, dag: &str, date: Date, with: &Value) -> Context {
    let step = Step {
        program: Program::Uses(format!("collect/{feed}")),
        with: with.as_object().expect("a table").clone(),
        timeout: None,
        ..step("collector", StepKind::Service, &[])
    };
    let run: RunId = format!("{dag}@{date}").parse().expect("a run");
    let addresses = ["rest", "websocket"].map(str::to_owned).into_iter().zip(place.addresses);
    Context {
        spec: AttemptSpec {
            id: AttemptId { run, step: step.name.clone(), attempt: 1 },
            step,
            session_date: date,
            timezone: "Asia/Seoul".into(),
            calendar: None,
            window: Window { open_at: place.clock.now(), close_at: None },
            deadline: None,
            params: BTreeMap::new(),
            folder: place.data.join("runs").join(date.to_string()),
            replica: 0,
            hops: Vec::new(),
        },
        clock: place.clock.clone(),
        backends: place.backends,
        feeds: Feeds::from([(feed.to_owned(), addresses.collect())]),
        calendar: None,
        secrets: BTreeMap::new(),
        data: place.data.to_owned(),
        dags: place.data.to_owned(),
        stop: CancellationToken::new(),
        reporter: place.told,
    }
}

/// All that the spool of a DAG's collector holds.
pub fn spool(data: &Path, dag: &str) -> Vec<Entry> {
    let mut reader = Reader::open(&data.join("spool").join(dag).join("collector"), 1).expect("a spool");
    let mut all = Vec::new();
    loop {
        let entries = reader.next(1000).expect("entries");
        if entries.is_empty() {
            return all;
        }
        all.extend(entries);
    }
}

/// All that a topic holds, partition by partition.
pub async fn records(log: &dyn Log, topic: &str) -> Vec<Stored> {
    let mut all = Vec::new();
    let found = log.topic(topic).await.expect("the log").expect("the topic");
    for (number, range) in (0u32..).zip(&found.partitions) {
        let partition = Partition { topic: topic.into(), number };
        let mut next = range.start;
        while next < range.end {
            let records = log.read(&partition, next, 1000).await.expect("records");
            next = records.last().expect("not empty before the end").offset + 1;
            all.extend(records);
        }
    }
    all
}

/// The event id that a record carries.
pub fn id(stored: &Stored) -> String {
    String::from_utf8(stored.record.header("openbell.id").expect("an id").to_vec()).expect("text")
}
