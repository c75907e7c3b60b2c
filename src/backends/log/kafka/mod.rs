//! The log on an Apache Kafka cluster, or on a server that speaks its protocol.
//!
//! `kafka://HOST[:PORT][,HOST[:PORT]…][?name=value&…]` with the parameters
//!
//! | parameter | meaning | default |
//! |---|---|---|
//! | `user`, `password` | who signs in; the password as `env:NAME` or `file:PATH` | nobody |
//! | `security` | `plaintext`, `sasl_plaintext`, `ssl` or `sasl_ssl`; the last two need the feature `kafka-tls` | `plaintext`, with a user `sasl_plaintext` |
//! | `mechanism` | `PLAIN`, or with `kafka-tls` also `SCRAM-SHA-256` and `SCRAM-SHA-512` | `PLAIN` |
//! | `ca` | certificates to trust | the system's |
//! | `replication`, `min_insync` | of topics that are created | the cluster's own |
//!
//! What differs from the embedded log:
//!
//! * A topic's incarnation is Kafka's topic id. It is empty with a server older than 2.8, with encryption and
//!   with SCRAM; then
//!   nothing tells a recreated topic from its predecessor, and whoever recreates one gives it another name.
//! * Records of transactions that were aborted are not seen; offsets may have gaps there and where compaction
//!   took records.
//! * A commit for a topic that was deleted and recreated a moment ago succeeds; it is void, as it names the
//!   old topic.
//! * With encryption and with SCRAM a member's name is not used, since nothing could free its place when it
//!   leaves; a member that
//!   dies holds its partitions until its session of ten seconds has run out.
//! * A member that takes another one's place is given what that one had. Should its topic have more
//!   partitions by then, those come
//!   with the next change among the members.
//! * A broker that froze with an append in its socket may still carry it out when it wakes, after whoever
//!   sent it has looked at
//!   the tail in vain; that is a duplicate, which the sinks fold by id.

mod cluster;
mod consumer;
mod detached;
mod errors;
mod groups;
mod link;
mod member;
mod names;
mod producer;
mod reader;
mod records;
mod settings;
mod watch;
mod wire;

use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use self::cluster::{Cluster, check_name};
use self::consumer::KafkaConsumer;
use self::member::Membership;
use self::producer::{Appender, STALLED};
use self::reader::Readers;
use self::settings::Settings;
use self::watch::Watch;
use super::{Committed, Consumer, Log, Partition, Record, Stored, Topic};
use crate::endpoint::Endpoint;
use crate::{BackendError, ErrorKind, Result, blocking};

/// See the module.
pub struct KafkaLog {
    cluster: Arc<Cluster>,
    appender: Arc<Appender>,
    readers: Arc<Readers>,
    watch: Mutex<Weak<Watch>>,
}

impl KafkaLog {
    /// Reads the address. Nobody is asked before the first call.
    ///
    /// # Errors
    /// `Rejected` for an address that cannot be used, with what to write instead.
    pub fn connect(endpoint: &Endpoint) -> Result<Self> {
        Self::connect_with(endpoint, STALLED)
    }

    fn connect_with(endpoint: &Endpoint, stalled: Duration) -> Result<Self> {
        let cluster = Arc::new(Cluster::new(Arc::new(Settings::read(endpoint)?)));
        Ok(Self {
            appender: Arc::new(Appender::new(Arc::clone(&cluster), stalled)),
            readers: Arc::new(Readers::new(Arc::clone(&cluster))),
            cluster,
            watch: Mutex::default(),
        })
    }

    fn place(&self) -> &str {
        &self.cluster.settings.place
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cluster) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let cluster = Arc::clone(&self.cluster);
        blocking::run(self.place(), move || work(&cluster)).await
    }

    fn watch(&self) -> Result<Arc<Watch>> {
        let mut kept = self.watch.lock();
        if let Some(watch) = kept.upgrade() {
            return Ok(watch);
        }
        let watch = Watch::start(&self.cluster)?;
        *kept = Arc::downgrade(&watch);
        Ok(watch)
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<bool> {
        self.cluster.create(topic, partitions).await
    }

    async fn delete_topic(&self, topic: &str) -> Result<()> {
        self.cluster.delete(topic).await
    }

    async fn topic(&self, topic: &str) -> Result<Option<Topic>> {
        let topic = topic.to_owned();
        self.ask(move |cluster| Ok(cluster.describe(Some(&topic))?.pop())).await
    }

    async fn topics(&self) -> Result<Vec<Topic>> {
        self.ask(|cluster| cluster.describe(None)).await
    }

    async fn append(&self, topic: &str, records: Vec<Record>) -> Result<Vec<(u32, u64)>> {
        self.appender.append(topic, records).await
    }

    async fn read(&self, partition: &Partition, offset: u64, max: usize) -> Result<Vec<Stored>> {
        let (readers, partition) = (Arc::clone(&self.readers), partition.clone());
        blocking::run(self.place(), move || readers.read(&partition, offset, max)).await
    }

    async fn join(&self, group: &str, topics: &[String], name: Option<&str>) -> Result<Box<dyn Consumer>> {
        check_name(self.place(), "consumer group", group)?;
        if let Some(name) = name {
            check_name(self.place(), "member", name)?;
        }
        for topic in topics {
            check_name(self.place(), "topic", topic)?;
        }
        if topics.is_empty() {
            let message = format!("group \"{group}\" was joined without topics");
            return Err(BackendError::new(ErrorKind::Rejected, self.place(), message));
        }
        let watch = self.watch()?;
        watch.add(topics);
        let (commands, questions) = mpsc::channel();
        let (cluster, group, topics, name) =
            (Arc::clone(&self.cluster), group.to_owned(), topics.to_vec(), name.map(str::to_owned));
        let place = blocking::run(self.place(), move || {
            let name = name.and_then(|name| cluster.take_name(&group, &name));
            let member = Membership::new(cluster, watch, &group, &topics, name, questions);
            let client = member.client()?;
            let fail =
                |e| BackendError::new(ErrorKind::Unavailable, member.place(), format!("no thread: {e}"));
            let runs = member.clone();
            std::thread::Builder::new()
                .name("kafka-member".into())
                .spawn(move || runs.run(client))
                .map_err(fail)?;
            Ok(member.place().to_owned())
        })
        .await?;
        Ok(Box::new(KafkaConsumer::new(place, commands)))
    }

    async fn groups(&self) -> Result<Vec<(String, Vec<Committed>)>> {
        self.ask(Cluster::groups).await
    }
}

#[cfg(test)]
mod tests;
