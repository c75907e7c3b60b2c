//! Where the contracts run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openbell::backends::endpoint::Endpoint;
use openbell::backends::index::Index;
use openbell::backends::index::embedded::EmbeddedIndex;
use openbell::backends::log::Log;
use openbell::backends::log::embedded::EmbeddedLog;
use openbell::backends::log::kafka::KafkaLog;
use openbell::backends::log::prefixed::Prefixed;
use openbell::backends::objects::Objects;
use openbell::backends::objects::folder::FolderObjects;
use openbell::backends::raw::Raw;
use openbell::backends::raw::embedded::EmbeddedRaw;
use openbell::backends::socket::{connect, serve};
use openbell::backends::{Backends, ErrorKind, open};
use openbell::config::Config;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::log::LONG;

/// A set of stores that can be opened, closed and opened again with their contents.
#[async_trait]
pub trait Place: Send + Sync {
    async fn log(&self) -> Arc<dyn Log>;
    async fn raw(&self) -> Arc<dyn Raw>;
    async fn index(&self) -> Arc<dyn Index>;
    async fn objects(&self) -> Arc<dyn Objects>;
}

/// How long a member of the embedded log may be silent: longer than any test waits.
const SILENT: Duration = Duration::from_secs(3600);

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
        reopened(|| EmbeddedLog::open_with(&self.0.path().join("log"), SILENT)).await
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
        let stores = reopened(|| open(&Config::default(), dir)).await;
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
        let address = crate::servers::variable("OPENBELL_KAFKA", "kafka")?;
        let endpoint = Endpoint::parse(&address).expect("an address");
        Some(Self { endpoint, prefix: format!("test-{:016x}.", fastrand::u64(..)) })
    }

    /// The same, for another process of a test that already has one.
    pub fn with_prefix(address: &str, prefix: &str) -> Self {
        Self { endpoint: Endpoint::parse(address).expect("an address"), prefix: prefix.to_owned() }
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn open(&self) -> Arc<dyn Log> {
        Prefixed::narrow(Arc::new(KafkaLog::connect(&self.endpoint).expect("an address")), &self.prefix)
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

/// Opens a store whose last owner may be on its way out.
async fn reopened<T>(open: impl Fn() -> openbell::backends::Result<T>) -> Arc<T> {
    wait_until(|| match open() {
        Ok(store) => Some(Arc::new(store)),
        Err(error) if error.kind == ErrorKind::Busy => None,
        Err(error) => panic!("{error}"),
    })
    .await
}

/// Looks every few milliseconds.
pub async fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, found).await.expect("waited in vain")
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
