//! Appends.
//!
//! What a failed append may leave in a partition is always a beginning of its records, never a later one without an earlier
//! one: whoever reads the tail and sends what comes after its last record closes every gap. Three things see to it. The
//! producer is idempotent, so that the broker refuses a batch whose predecessor it has not got. A refused batch ends the
//! producer (`enable.gapless.guarantee`). And messages do not expire one by one: when nothing moves for a while the whole
//! producer is ended and its queue thrown away at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer, PurgeConfig};
use tokio::time::timeout;

use super::cluster::Cluster;
use super::detached::Detached;
use super::errors::{Heard, kind};
use super::records;
use crate::backends::log::{Record, partition_for};
use crate::backends::{ErrorKind, Result, blocking};

/// An append that has not got on for this long has failed.
pub(super) const STALLED: Duration = Duration::from_secs(12);
/// Wait for the reports of messages that were thrown away; they come at once.
const REPORTS: Duration = Duration::from_secs(2);

/// A producer, and what it says.
struct Client {
    library: Detached<FutureProducer<Shared>>,
    heard: Arc<Heard>,
    /// Whether it was ended. Held while records of one append are handed over, so that an end comes before or after all of
    /// them and never leaves the later ones alone.
    ended: RwLock<bool>,
}

/// What is heard, from the producer's side and from ours.
#[derive(Clone, Default)]
struct Shared(Arc<Heard>);

impl rdkafka::ClientContext for Shared {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        super::errors::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.hear(&error, reason);
    }
}

/// The producer of a log, made anew after a fatal fault.
pub(super) struct Appender {
    cluster: Arc<Cluster>,
    producer: Mutex<Option<Arc<Client>>>,
    stalled: Duration,
}

/// A record on its way: its index, its partition, its report.
type Sent = (usize, u32, DeliveryFuture);

/// How an append stands.
struct Standing {
    placed: Vec<(u32, u64)>,
    kept: usize,
    /// The first fault that says something, with the index of its record.
    failed: Option<(usize, KafkaError)>,
    stalled: bool,
}

impl Appender {
    pub(super) fn new(cluster: Arc<Cluster>, stalled: Duration) -> Self {
        Self { cluster, producer: Mutex::default(), stalled }
    }

    /// See [`Log::append`](crate::backends::log::Log::append).
    pub(super) async fn append(self: &Arc<Self>, topic: &str, records: Vec<Record>) -> Result<Vec<(u32, u64)>> {
        records::check(&self.cluster.topic_place(topic), &records)?;
        let (appender, topic) = (Arc::clone(self), topic.to_owned());
        // A task of its own: what was begun is seen through, even if the caller stops waiting, so that nothing is still on
        // its way when the caller looks at the tail and sends again.
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
        let mut standing = Standing { placed: vec![(0, 0); records.len()], kept: 0, failed: None, stalled: false };
        let mut sent: VecDeque<Sent> = VecDeque::with_capacity(records.len());
        let mut at = 0;
        while at < records.len() && standing.failed.is_none() {
            match hand_over(&producer, topic, count, records, &mut at, &mut sent) {
                Ok(()) => {}
                // The queue is full: some of ours must arrive first. With none of ours in it, others fill it.
                Err(error) if error.rdkafka_error_code() == Some(Code::QueueFull) && !sent.is_empty() => {
                    self.settle(&producer, &mut sent, &mut standing).await;
                }
                Err(error) => standing.failed = Some((at, error)),
            }
        }
        self.settle(&producer, &mut sent, &mut standing).await;
        self.outcome(topic, records.len(), standing, &producer)
    }

    /// Waits for the reports of all that was sent.
    async fn settle(&self, producer: &Arc<Client>, sent: &mut VecDeque<Sent>, standing: &mut Standing) {
        while let Some((index, partition, mut report)) = sent.pop_front() {
            let wait = if standing.stalled { REPORTS } else { self.stalled };
            let mut outcome = timeout(wait, &mut report).await;
            if outcome.is_err() && !standing.stalled {
                standing.stalled = true;
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
            // What befell the others because of one tells nothing.
            let telling = |e: &KafkaError| {
                !matches!(
                    e.rdkafka_error_code(),
                    None | Some(Code::PurgeQueue | Code::PurgeInflight | Code::Fatal | Code::GaplessGuarantee)
                )
            };
            if standing.failed.as_ref().is_none_or(|(_, known)| !telling(known) && telling(&failed)) {
                standing.failed = Some((index, failed));
            }
        }
    }

    fn outcome(&self, topic: &str, total: usize, standing: Standing, producer: &Arc<Client>) -> Result<Vec<(u32, u64)>> {
        let Some((index, error)) = standing.failed else {
            producer.heard.forget();
            return Ok(standing.placed);
        };
        self.cluster.forget(topic);
        let busy = error.rdkafka_error_code() == Some(Code::QueueFull);
        if !busy {
            // After any refusal too: the next one starts from a clean sequence.
            self.end(producer);
        }
        let place = self.cluster.topic_place(topic);
        let mut fault = producer.heard.explain(&place, &error);
        if standing.stalled {
            fault.message = format!("nothing was acknowledged for {} s: {}", self.stalled.as_secs(), fault.message);
        }
        if error.rdkafka_error_code().is_some_and(|c| kind(c) == ErrorKind::Rejected) {
            fault.message = format!("record {index} of {total} (or one sent with it) was refused: {}", fault.message);
        }
        if standing.kept > 0 {
            // Repeating the whole call would append the kept ones twice; Unavailable makes the caller look first.
            fault.kind = ErrorKind::Unavailable;
            fault.message = format!("{} of {total} records were appended, then: {}", standing.kept, fault.message);
        }
        Err(fault)
    }

    fn producer(&self) -> Result<Arc<Client>> {
        let mut kept = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*kept {
            return Ok(Arc::clone(known));
        }
        let shared = Shared::default();
        let made = FutureProducer::from_config_and_context(&self.cluster.settings.producing()?, shared.clone());
        let made = made.map_err(|e| shared.0.explain(&self.cluster.settings.place, &e))?;
        let client = Client { library: Detached::new(made), heard: shared.0, ended: RwLock::new(false) };
        Ok(Arc::clone(kept.insert(Arc::new(client))))
    }

    /// Ends a producer: nothing that it has not sent yet will be sent.
    fn end(&self, producer: &Arc<Client>) {
        let mut kept = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_some_and(|known| Arc::ptr_eq(known, producer)) {
            *kept = None;
        }
        drop(kept);
        *producer.ended.write().unwrap_or_else(PoisonError::into_inner) = true;
        producer.library.purge(PurgeConfig::default().queue().inflight().non_blocking());
    }
}

/// Hands records over from `at` on, which is left where it stopped.
fn hand_over(
    producer: &Client,
    topic: &str,
    partitions: u32,
    records: &[Record],
    at: &mut usize,
    sent: &mut VecDeque<Sent>,
) -> Result<(), KafkaError> {
    let ended = producer.ended.read().unwrap_or_else(PoisonError::into_inner);
    if *ended {
        return Err(KafkaError::MessageProduction(Code::PurgeQueue));
    }
    while let Some(record) = records.get(*at) {
        let partition = partition_for(record.key.as_deref(), partitions);
        sent.push_back((*at, partition, send(&producer.library, topic, partition, record)?));
        *at += 1;
    }
    Ok(())
}

fn send(producer: &FutureProducer<Shared>, topic: &str, partition: u32, record: &Record) -> Result<DeliveryFuture, KafkaError> {
    let mut message: FutureRecord<'_, Vec<u8>, Vec<u8>> = FutureRecord::to(topic)
        .partition(partition as i32)
        .payload(&record.value)
        .timestamp(record.timestamp.as_millisecond())
        .headers(records::headers(record));
    if let Some(key) = &record.key {
        message = message.key(key);
    }
    producer.send_result(message).map_err(|(error, _)| error)
}
