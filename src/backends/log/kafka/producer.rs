//! Appends.
//!
//! What a failed append may leave in a partition is always a beginning of its records, never a later one
//! without an earlier one: whoever reads the tail and sends what comes after its last record closes every
//! gap. Four things see to it. The producer is idempotent, so that the broker refuses a batch whose
//! predecessor it has not got. A broker that does not know the producer yet could not tell, so the first
//! record for a partition goes ahead alone. A refused batch ends the producer (`enable.gapless.guarantee`).
//! And messages do not expire one by one: when nothing moves for a while the whole producer is ended and its
//! queue thrown away at once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard, RwLock};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer, PurgeConfig};
use tokio::time::timeout;

use super::cluster::Cluster;
use super::detached::Detached;
use super::errors::{LastError, kind};
use super::records;
use crate::log::{Record, partition_for};
use crate::{ErrorKind, Result, blocking};

/// An append that has not got on for this long has failed.
pub(super) const STALLED: Duration = Duration::from_secs(12);
/// How long a leader surely remembers a producer that is silent; brokers forget after a day.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Wait for the reports of messages that were thrown away; they come at once.
const REPORTS: Duration = Duration::from_secs(2);

/// A producer, and what it says.
struct Client {
    library: Detached<FutureProducer<Shared>>,
    last_error: Arc<LastError>,
    /// Whether it was ended. Held while records of one append are handed over, so that an end comes before or
    /// after all of them and never leaves the later ones alone.
    ended: RwLock<bool>,
    /// Partitions whose leader knows this producer, since when it last took something.
    known: Mutex<HashMap<(String, u32), Instant>>,
}

impl Client {
    fn known(&self) -> MutexGuard<'_, HashMap<(String, u32), Instant>> {
        self.known.lock()
    }
}

/// What is heard, from the producer's side and from ours.
#[derive(Clone, Default)]
struct Shared(Arc<LastError>);

impl rdkafka::ClientContext for Shared {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        super::errors::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.record(&error, reason);
    }
}

/// The producer of a log, made anew after a fatal fault.
pub(super) struct Appender {
    cluster: Arc<Cluster>,
    producer: Mutex<Option<Arc<Client>>>,
    stalled: Duration,
}

/// A record to send: its index and its partition.
type Going = (usize, u32);
/// A record on its way: its index, its partition, its report.
type Sent = (usize, u32, DeliveryFuture);

/// How an append stands.
struct AppendProgress {
    placed: Vec<(u32, u64)>,
    kept: usize,
    /// The first fault that says something, with the index of its record.
    failed: Option<(usize, KafkaError)>,
    /// Nothing moved.
    stalled: bool,
    /// The producer was ended because of a fault.
    ended: bool,
}

impl Appender {
    pub(super) fn new(cluster: Arc<Cluster>, stalled: Duration) -> Self {
        Self { cluster, producer: Mutex::default(), stalled }
    }

    /// See [`Log::append`](crate::log::Log::append).
    pub(super) async fn append(
        self: &Arc<Self>,
        topic: &str,
        records: Vec<Record>,
    ) -> Result<Vec<(u32, u64)>> {
        records::check(&self.cluster.topic_place(topic), &records)?;
        let (appender, topic) = (Arc::clone(self), topic.to_owned());
        // A task of its own: what was begun is seen through, even if the caller stops waiting, so that
        // nothing is still on its way when the caller looks at the tail and sends again.
        let task = tokio::spawn(async move { appender.carry_out(&topic, &records).await });
        task.await.unwrap_or_else(|e| Err(blocking::failed(&self.cluster.settings.place, &e)))
    }

    async fn carry_out(&self, topic: &str, records: &[Record]) -> Result<Vec<(u32, u64)>> {
        let (cluster, name) = (Arc::clone(&self.cluster), topic.to_owned());
        let count = blocking::run(&self.cluster.settings.place, move || cluster.partitions(&name)).await?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let producer = self.producer()?;
        let mut standing = AppendProgress {
            placed: vec![(0, 0); records.len()],
            kept: 0,
            failed: None,
            stalled: false,
            ended: false,
        };
        let mut sent: VecDeque<Sent> = VecDeque::with_capacity(records.len());
        let (first, rest) = in_order(&producer, topic, records, count);
        for part in [first, rest] {
            let mut at = 0;
            while at < part.len() && standing.failed.is_none() {
                match hand_over(&producer, topic, records, &part, &mut at, &mut sent) {
                    Ok(()) => {}
                    // The queue is full: some of ours must arrive first. With none of ours in it, others fill
                    // it.
                    Err(error) if error.rdkafka_error_code() == Some(Code::QueueFull) && !sent.is_empty() => {
                        self.settle(&producer, &mut sent, &mut standing).await;
                    }
                    Err(error) => standing.failed = Some((part[at].0, error)),
                }
            }
            self.settle(&producer, &mut sent, &mut standing).await;
            if standing.failed.is_none() {
                let mut known = producer.known();
                for (_, partition) in part {
                    known.insert((topic.to_owned(), partition), Instant::now());
                }
            }
        }
        self.outcome(topic, records.len(), standing, &producer)
    }

    /// Waits for the reports of all that was sent.
    async fn settle(&self, producer: &Arc<Client>, sent: &mut VecDeque<Sent>, standing: &mut AppendProgress) {
        while let Some((index, partition, mut report)) = sent.pop_front() {
            let wait = if standing.ended { REPORTS } else { self.stalled };
            let mut outcome = timeout(wait, &mut report).await;
            if outcome.is_err() && !standing.ended {
                standing.stalled = true;
                standing.ended = true;
                self.end(producer);
                outcome = timeout(REPORTS, &mut report).await;
            }
            let failed = match outcome {
                Ok(Ok(Ok(delivery))) if delivery.offset >= 0 => {
                    standing.placed[index] = (partition, delivery.offset as u64);
                    standing.kept += 1;
                    continue;
                }
                Ok(Ok(Ok(_))) => KafkaError::MessageProduction(Code::MessageTimedOut),
                Ok(Ok(Err((error, _)))) => error,
                Ok(Err(_)) => KafkaError::Canceled,
                Err(_) => KafkaError::MessageProduction(Code::MessageTimedOut),
            };
            // The library keeps what comes after a refusal waiting for ever.
            if !standing.ended {
                standing.ended = true;
                self.end(producer);
            }
            // What befell the others because of one tells nothing.
            let telling = |e: &KafkaError| {
                !matches!(
                    e.rdkafka_error_code(),
                    None | Some(
                        Code::PurgeQueue | Code::PurgeInflight | Code::Fatal | Code::GaplessGuarantee
                    )
                )
            };
            if standing.failed.as_ref().is_none_or(|(_, known)| !telling(known) && telling(&failed)) {
                standing.failed = Some((index, failed));
            }
        }
    }

    fn outcome(
        &self,
        topic: &str,
        total: usize,
        standing: AppendProgress,
        producer: &Arc<Client>,
    ) -> Result<Vec<(u32, u64)>> {
        let Some((index, error)) = standing.failed else {
            producer.last_error.forget();
            return Ok(standing.placed);
        };
        self.cluster.forget(topic);
        let busy = error.rdkafka_error_code() == Some(Code::QueueFull);
        if !busy {
            // After any refusal too: the next one starts from a clean sequence.
            self.end(producer);
        }
        let place = self.cluster.topic_place(topic);
        let mut fault = producer.last_error.explain(&place, &error);
        if standing.stalled {
            fault.message =
                format!("nothing was acknowledged for {} s: {}", self.stalled.as_secs(), fault.message);
        }
        if error.rdkafka_error_code().is_some_and(|c| kind(c) == ErrorKind::Rejected) {
            fault.message =
                format!("record {index} of {total} (or one sent with it) was refused: {}", fault.message);
        }
        if standing.kept > 0 {
            // Repeating the whole call would append the kept ones twice; Unavailable makes the caller look
            // first.
            fault.kind = ErrorKind::Unavailable;
            fault.message =
                format!("{} of {total} records were appended, then: {}", standing.kept, fault.message);
        }
        Err(fault)
    }

    fn producer(&self) -> Result<Arc<Client>> {
        let mut kept = self.producer.lock();
        if let Some(known) = &*kept {
            return Ok(Arc::clone(known));
        }
        let shared = Shared::default();
        let made =
            FutureProducer::from_config_and_context(&self.cluster.settings.producing()?, shared.clone());
        let made = made.map_err(|e| shared.0.explain(&self.cluster.settings.place, &e))?;
        let client = Client {
            library: Detached::new(made),
            last_error: shared.0,
            ended: RwLock::new(false),
            known: Mutex::default(),
        };
        Ok(Arc::clone(kept.insert(Arc::new(client))))
    }

    /// Ends a producer: nothing that it has not sent yet will be sent.
    fn end(&self, producer: &Arc<Client>) {
        let mut kept = self.producer.lock();
        if kept.as_ref().is_some_and(|known| Arc::ptr_eq(known, producer)) {
            *kept = None;
        }
        drop(kept);
        *producer.ended.write() = true;
        producer.library.purge(PurgeConfig::default().queue().inflight().non_blocking());
    }
}

/// Records with their partitions, in order: first what goes ahead alone. That is the first record of each
/// partition whose leader does not know the producer yet, since it would take a second batch even if it
/// refused the first.
fn in_order(producer: &Client, topic: &str, records: &[Record], partitions: u32) -> (Vec<Going>, Vec<Going>) {
    let mut known: HashSet<u32> = HashSet::new();
    for ((of, partition), at) in producer.known().iter() {
        if of == topic && at.elapsed() < REMEMBERED {
            known.insert(*partition);
        }
    }
    let all = records.iter().map(|r| partition_for(r.key.as_deref(), partitions)).enumerate();
    all.partition(|(_, partition)| known.insert(*partition))
}

/// Hands records over from `at` on, which is left where it stopped.
fn hand_over(
    producer: &Client,
    topic: &str,
    records: &[Record],
    going: &[Going],
    at: &mut usize,
    sent: &mut VecDeque<Sent>,
) -> Result<(), KafkaError> {
    let ended = producer.ended.read();
    if *ended {
        return Err(KafkaError::MessageProduction(Code::PurgeQueue));
    }
    while let Some((index, partition)) = going.get(*at) {
        sent.push_back((*index, *partition, send(&producer.library, topic, *partition, &records[*index])?));
        *at += 1;
    }
    Ok(())
}

fn send(
    producer: &FutureProducer<Shared>,
    topic: &str,
    partition: u32,
    record: &Record,
) -> Result<DeliveryFuture, KafkaError> {
    // Kafka's own time is that of the append: the record's would be refused if it lies ahead, and retention
    // would take it at once if it lies long ago, as in a day that is played again.
    let mut message: FutureRecord<'_, Vec<u8>, Vec<u8>> = FutureRecord::to(topic)
        .partition(partition as i32)
        .payload(&record.value)
        .headers(records::headers(record));
    if let Some(key) = &record.key {
        message = message.key(key);
    }
    producer.send_result(message).map_err(|(error, _)| error)
}
