//! Where the contracts run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openbell::backends::ErrorKind;
use openbell::backends::log::Log;
use openbell::backends::log::embedded::EmbeddedLog;

/// A set of stores that can be opened, closed and opened again with their contents.
#[async_trait]
pub trait Place: Send + Sync {
    async fn log(&self) -> Arc<dyn Log>;
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
