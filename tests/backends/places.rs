//! Where the contracts run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openbell::backends::endpoint::Endpoint;
use openbell::backends::index::Index;
use openbell::backends::index::embedded::EmbeddedIndex;
use openbell::backends::log::embedded::EmbeddedLog;
use openbell::backends::log::kafka::KafkaLog;
use openbell::backends::log::{Committed, Consumer, Log, Partition, Polled, Record, Stored, Topic};
use openbell::backends::objects::Objects;
use openbell::backends::objects::folder::FolderObjects;
use openbell::backends::raw::Raw;
use openbell::backends::raw::embedded::EmbeddedRaw;
use openbell::backends::socket::{connect, serve};
use openbell::backends::{Backends, ErrorKind, Result, open_embedded};
use openbell::config::Config;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A set of stores that can be opened, closed and opened again with their contents.
#[async_trait]
pub trait Place: Send + Sync {
    async fn log(&self) -> Arc<dyn Log>;
    async fn raw(&self) -> Arc<dyn Raw>;
    async fn index(&self) -> Arc<dyn Index>;
    async fn objects(&self) -> Arc<dyn Objects>;
}

/// The embedded stores in this process.
pub struct Embedded(tempfile::TempDir);

impl Embedded {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }
}

#[async_trait]
impl Place for Embedded {
    async fn log(&self) -> Arc<dyn Log> {
        reopened(|| EmbeddedLog::open(&self.0.path().join("log"))).await
    }

    async fn raw(&self) -> Arc<dyn Raw> {
        reopened(|| EmbeddedRaw::open(&self.0.path().join("raw"))).await
    }

    async fn index(&self) -> Arc<dyn Index> {
        reopened(|| EmbeddedIndex::open(&self.0.path().join("index"))).await
    }

    async fn objects(&self) -> Arc<dyn Objects> {
        reopened(|| FolderObjects::open(&self.0.path().join("objects"))).await
    }
}

/// The embedded stores of a daemon, reached through its socket. Opening again restarts the daemon.
pub struct Socket {
    dir: tempfile::TempDir,
    daemon: tokio::sync::Mutex<Option<Daemon>>,
}

/// A running server.
pub struct Daemon {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Daemon {
    /// Serves the stores below `dir` at `dir/sock`.
    pub async fn start(dir: &Path) -> Self {
        let stores = reopened(|| open_embedded(&Config::default(), dir)).await;
        let socket = dir.join("sock");
        if socket.exists() {
            std::fs::remove_file(&socket).expect("removes");
        }
        let listener = UnixListener::bind(socket).expect("binds");
        let stop = CancellationToken::new();
        let running = tokio::spawn(serve(listener, Backends::clone(&stores), stop.clone()));
        Self { stop, running }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.running.await.expect("no panic");
    }
}

impl Socket {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), daemon: tokio::sync::Mutex::default() }
    }

    async fn restart(&self) -> Backends {
        let mut daemon = self.daemon.lock().await;
        if let Some(daemon) = daemon.take() {
            daemon.stop().await;
        }
        *daemon = Some(Daemon::start(self.dir.path()).await);
        connect(self.dir.path().join("sock"))
    }
}

#[async_trait]
impl Place for Socket {
    async fn log(&self) -> Arc<dyn Log> {
        self.restart().await.log
    }

    async fn raw(&self) -> Arc<dyn Raw> {
        self.restart().await.raw
    }

    async fn index(&self) -> Arc<dyn Index> {
        self.restart().await.index
    }

    async fn objects(&self) -> Arc<dyn Objects> {
        self.restart().await.objects
    }
}

/// A Kafka cluster that others use too: every test has topics and groups of its own there.
pub struct Kafka {
    endpoint: Endpoint,
    prefix: String,
}

impl Kafka {
    /// The cluster that `OPENBELL_KAFKA` names, if it does.
    pub fn new() -> Option<Self> {
        let Ok(address) = std::env::var("OPENBELL_KAFKA") else {
            println!("skipped: kafka (OPENBELL_KAFKA is not set; scripts/services up)");
            return None;
        };
        let endpoint = Endpoint::parse(&address).expect("an address");
        Some(Self { endpoint, prefix: format!("test-{:016x}.", fastrand::u64(..)) })
    }

    pub fn open(&self) -> Arc<Named> {
        Arc::new(Named { log: KafkaLog::connect(&self.endpoint).expect("an address"), names: Names(self.prefix.clone()) })
    }

    /// Leaves the cluster as it was.
    pub async fn clear(&self) {
        let log = self.open();
        for topic in log.topics().await.expect("lists") {
            log.delete_topic(&topic.name).await.expect("deletes");
        }
    }
}

#[async_trait]
impl Place for Kafka {
    async fn log(&self) -> Arc<dyn Log> {
        self.open()
    }

    async fn raw(&self) -> Arc<dyn Raw> {
        panic!("only a log")
    }

    async fn index(&self) -> Arc<dyn Index> {
        panic!("only a log")
    }

    async fn objects(&self) -> Arc<dyn Objects> {
        panic!("only a log")
    }
}

/// The part of a log whose topics and groups begin with a prefix, which is not seen.
pub struct Named {
    log: KafkaLog,
    names: Names,
}

/// The prefix.
#[derive(Clone)]
struct Names(String);

impl Names {
    /// Names that cannot be, stay so.
    fn long(&self, name: &str) -> String {
        let usable = !["", ".", ".."].contains(&name) && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if usable { format!("{}{name}", self.0) } else { name.to_owned() }
    }

    fn short(&self, name: String) -> Option<String> {
        name.strip_prefix(&self.0).map(str::to_owned)
    }

    fn inside(&self, partition: &Partition) -> Partition {
        Partition { topic: self.long(&partition.topic), ..partition.clone() }
    }

    fn outside(&self, partition: Partition) -> Partition {
        Partition { topic: self.short(partition.topic).expect("of this test"), ..partition }
    }

    fn committed(&self, committed: Vec<Committed>) -> Vec<Committed> {
        committed.into_iter().map(|c| Committed { partition: self.outside(c.partition), ..c }).collect()
    }

    fn stored(&self, stored: Vec<Stored>) -> Vec<Stored> {
        stored.into_iter().map(|s| Stored { partition: self.outside(s.partition), ..s }).collect()
    }
}

#[async_trait]
impl Log for Named {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<bool> {
        self.log.create_topic(&self.names.long(topic), partitions).await
    }

    async fn delete_topic(&self, topic: &str) -> Result<()> {
        self.log.delete_topic(&self.names.long(topic)).await
    }

    async fn topic(&self, topic: &str) -> Result<Option<Topic>> {
        let found = self.log.topic(&self.names.long(topic)).await?;
        Ok(found.map(|t| Topic { name: self.names.short(t.name).expect("of this test"), ..t }))
    }

    async fn topics(&self) -> Result<Vec<Topic>> {
        let all = self.log.topics().await?;
        Ok(all.into_iter().filter_map(|t| Some(Topic { name: self.names.short(t.name)?, ..t })).collect())
    }

    async fn append(&self, topic: &str, records: Vec<Record>) -> Result<Vec<(u32, u64)>> {
        self.log.append(&self.names.long(topic), records).await
    }

    async fn read(&self, partition: &Partition, offset: u64, max: usize) -> Result<Vec<Stored>> {
        Ok(self.names.stored(self.log.read(&self.names.inside(partition), offset, max).await?))
    }

    async fn join(&self, group: &str, topics: &[String]) -> Result<Box<dyn Consumer>> {
        let topics: Vec<_> = topics.iter().map(|t| self.names.long(t)).collect();
        let consumer = self.log.join(&self.names.long(group), &topics).await?;
        Ok(Box::new(NamedConsumer { consumer, names: self.names.clone() }))
    }

    async fn groups(&self) -> Result<Vec<(String, Vec<Committed>)>> {
        let all = self.log.groups().await?;
        Ok(all.into_iter().filter_map(|(group, c)| Some((self.names.short(group)?, self.names.committed(c)))).collect())
    }
}

struct NamedConsumer {
    consumer: Box<dyn Consumer>,
    names: Names,
}

#[async_trait]
impl Consumer for NamedConsumer {
    async fn poll(&mut self, wait: Duration) -> Result<Polled> {
        Ok(match self.consumer.poll(wait).await? {
            Polled::Nothing => Polled::Nothing,
            Polled::Records(records) => Polled::Records(self.names.stored(records)),
            Polled::Assigned(committed) => Polled::Assigned(self.names.committed(committed)),
            Polled::Revoked(going) => Polled::Revoked(going.into_iter().map(|p| self.names.outside(p)).collect()),
        })
    }

    async fn commit(&mut self, offsets: &[Committed]) -> Result<()> {
        let offsets: Vec<_> =
            offsets.iter().map(|c| Committed { partition: self.names.inside(&c.partition), next: c.next }).collect();
        self.consumer.commit(&offsets).await
    }

    async fn seek(&mut self, partition: &Partition, offset: u64) -> Result<()> {
        self.consumer.seek(&self.names.inside(partition), offset).await
    }

    async fn pause(&mut self, partition: &Partition, paused: bool) -> Result<()> {
        self.consumer.pause(&self.names.inside(partition), paused).await
    }

    async fn leave(self: Box<Self>) -> Result<()> {
        self.consumer.leave().await
    }
}

/// Opens a store whose last owner may be on its way out.
async fn reopened<T>(open: impl Fn() -> openbell::backends::Result<T>) -> Arc<T> {
    wait_until(|| match open() {
        Ok(store) => Some(Arc::new(store)),
        Err(error) if error.kind == ErrorKind::Busy => None,
        Err(error) => panic!("{error}"),
    })
    .await
}

/// Looks every few milliseconds, for half a minute.
pub async fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain");
}

/// Writes one test a contract function and place.
#[macro_export]
macro_rules! contract {
    // The log's contract is Kafka's too.
    (kafka; $($name:ident),* $(,)?) => {
        $crate::contract!($($name),*);
        mod kafka {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(place) = $crate::places::Kafka::new() {
                    super::$name(&place).await;
                    place.clear().await;
                }
            })*
        }
    };
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&$crate::places::Embedded::new()).await;
            })*
        }
        mod socket {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&$crate::places::Socket::new()).await;
            })*
        }
    };
}
