use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Runs a command of a shell.
fn shell(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().expect("a shell");
    assert!(status.success(), "{command}: {status}");
}

/// The sequence that a record carries.
fn sequence(stored: &Stored) -> u64 {
    String::from_utf8_lossy(&stored.record.value).parse().expect("a number")
}

/// The highest sequence in the log, as a collector finds it.
async fn tail(log: &KafkaLog, topic: &str) -> Result<Option<u64>> {
    let described = log.topic(topic).await?.expect("exists");
    let range = described.partitions[0];
    let last = range.end.saturating_sub(500).max(range.start);
    Ok(log.read(&partition(topic, 0), last, 500).await?.iter().map(sequence).max())
}

/// Appends all there is, looking at the tail after each failure.
async fn write(log: Arc<KafkaLog>, topic: String, total: u64, failures: Arc<AtomicU64>) {
    let mut next = 0;
    while next < total {
        let batch = (next..(next + 10).min(total)).map(|n| record("k", n.to_string())).collect();
        match log.append(&topic, batch).await {
            Ok(_) => next = (next + 10).min(total),
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                failures.fetch_add(1, Ordering::Relaxed);
                next = loop {
                    if let Ok(found) = tail(&log, &topic).await {
                        break found.map_or(0, |n| n + 1);
                    }
                };
            }
        }
    }
}

/// Works through the log as a sink does: joins anew after any failure, commits what is done.
async fn work(log: Arc<KafkaLog>, topic: String, end: Arc<AtomicU64>, failures: Arc<AtomicU64>) -> Vec<u64> {
    let (mut seen, mut done) = (Vec::new(), 0);
    loop {
        let mut consumer = log.join(&topic, std::slice::from_ref(&topic), None).await.expect("asks nobody");
        loop {
            if done == end.load(Ordering::Relaxed) {
                consumer.leave().await.expect("leaves");
                return seen;
            }
            let outcome = match consumer.poll(Duration::from_millis(100)).await {
                Ok(Polled::Records(records)) => {
                    let next = records.last().map_or(0, |r| r.offset + 1);
                    let committed = consumer.commit(&committed(&topic, next)).await;
                    if committed.is_ok() {
                        done = next;
                        seen.extend(records.iter().map(sequence));
                    }
                    committed
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            if outcome.is_err() {
                failures.fetch_add(1, Ordering::Relaxed);
                // As sinks do before they join again.
                tokio::time::sleep(Duration::from_millis(200)).await;
                break;
            }
        }
    }
}

/// Stops and starts a broker that nobody else uses, with the commands that are named for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_loses_nothing() {
    let name = |name: &str| std::env::var(name).ok();
    let (Some(address), Some(stop), Some(start)) =
        (name("OPENBELL_KAFKA_OWN"), name("OPENBELL_KAFKA_STOP"), name("OPENBELL_KAFKA_START"))
    else {
        println!(
            "skipped: kafka outage (OPENBELL_KAFKA_OWN, OPENBELL_KAFKA_STOP and OPENBELL_KAFKA_START are not set)"
        );
        return;
    };
    let log = Arc::new(hasty(&address));
    let topic = format!("test-{:016x}", fastrand::u64(..));
    log.create_topic(&topic, 1).await.expect("creates");
    const TOTAL: u64 = 20_000;
    let (failed_writes, failed_polls) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let end = Arc::new(AtomicU64::new(u64::MAX));
    let writer = tokio::spawn(write(Arc::clone(&log), topic.clone(), TOTAL, Arc::clone(&failed_writes)));
    let sink =
        tokio::spawn(work(Arc::clone(&log), topic.clone(), Arc::clone(&end), Arc::clone(&failed_polls)));
    let outage = async {
        retried(async || tail(&log, &topic).await).await;
        shell(&stop);
        // Until both have noticed, or the writer is through.
        while failed_writes.load(Ordering::Relaxed) == 0 || failed_polls.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        shell(&start);
    };
    tokio::time::timeout(2 * LONG, outage).await.expect("noticed in time");
    tokio::time::timeout(4 * LONG, writer).await.expect("in time").expect("no panic");
    let written: Vec<_> = retried(async || {
        let range = log.topic(&topic).await?.expect("exists").partitions[0];
        end.store(range.end, Ordering::Relaxed);
        Ok(read_all(&*log, &partition(&topic, 0)).await)
    })
    .await
    .iter()
    .map(sequence)
    .collect();
    let seen = tokio::time::timeout(4 * LONG, sink).await.expect("in time").expect("no panic");
    let mut unique = written.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique, (0..TOTAL).collect::<Vec<_>>(), "something is lost");
    assert_eq!(seen, written, "the sink saw something else");
    println!(
        "{} duplicates in the log, {} failed appends, {} failed polls",
        written.len() - unique.len(),
        failed_writes.load(Ordering::Relaxed),
        failed_polls.load(Ordering::Relaxed)
    );
    log.delete_topic(&topic).await.expect("deletes");
}
