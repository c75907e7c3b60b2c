//! Where the contracts run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openbell::backends::ErrorKind;
use openbell::backends::index::Index;
use openbell::backends::index::embedded::EmbeddedIndex;
use openbell::backends::log::Log;
use openbell::backends::log::embedded::EmbeddedLog;
use openbell::backends::objects::Objects;
use openbell::backends::objects::folder::FolderObjects;
use openbell::backends::raw::Raw;
use openbell::backends::raw::embedded::EmbeddedRaw;

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
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&$crate::places::Embedded::new()).await;
            })*
        }
    };
}
