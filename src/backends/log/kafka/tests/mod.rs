//! What only a cluster can do to a log: lost answers, refusals, brokers that are away or silent, hand-overs,
//! recreations. Against the library's own mock of a cluster, and against a real one where `OPENBELL_KAFKA`
//! names it.

mod faults;
mod outage;
mod real;

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::KafkaLog;
use crate::Result;
use crate::endpoint::Endpoint;
use crate::log::{Committed, Consumer, Log, Partition, Polled, Record, Stored};

/// Only how long a failure takes.
const LONG: Duration = Duration::from_secs(300);

fn with(address: &str, stalled: Duration) -> KafkaLog {
    KafkaLog::connect_with(&Endpoint::parse(address).expect("an address"), stalled).expect("settings")
}

/// A log whose appends are not given up while a test runs.
fn at(address: &str) -> KafkaLog {
    with(address, 2 * LONG)
}

/// One that gives up soon, for tests that wait for that.
fn hasty(address: &str) -> KafkaLog {
    with(address, Duration::from_secs(5))
}

fn record(key: &str, value: impl Into<Vec<u8>>) -> Record {
    Record { key: Some(key.into()), value: value.into(), headers: vec![], timestamp: Timestamp::UNIX_EPOCH }
}

fn partition(topic: &str, number: u32) -> Partition {
    Partition { topic: topic.into(), number }
}

fn committed(topic: &str, next: u64) -> Vec<Committed> {
    vec![Committed { partition: partition(topic, 0), next }]
}

async fn read_all(log: &dyn Log, partition: &Partition) -> Vec<Stored> {
    let mut all: Vec<Stored> = Vec::new();
    loop {
        let next = all.last().map_or(0, |s| s.offset + 1);
        let some = log.read(partition, next, 500).await.expect("reads");
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

/// Polls until something is as wanted.
async fn until(consumer: &mut dyn Consumer, wanted: impl Fn(&Polled) -> bool) -> Vec<Polled> {
    let mut all = Vec::new();
    let polls = async {
        loop {
            let polled = consumer.poll(LONG).await.expect("polls");
            let done = wanted(&polled);
            all.push(polled);
            if done {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, polls).await.expect("in time");
    all
}

fn is_assigned(polled: &Polled) -> bool {
    matches!(polled, Polled::Assigned(_))
}

/// Repeats a call until it succeeds.
async fn retried<T>(mut call: impl AsyncFnMut() -> Result<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        match call().await {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}
