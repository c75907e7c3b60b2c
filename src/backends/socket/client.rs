//! The traits, carried out by the daemon.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::connection::{Connection, Link};
use super::consumer::RemoteConsumer;
use super::protocol::{Reply, Request};
use crate::bytes::Blob;
use crate::index::{Index, Item, ItemResult, Template};
use crate::log::{Committed, Consumer, Log, Partition, Record, Stored, Topic};
use crate::objects::{Metadata, Objects, Put};
use crate::raw::{Document, Inserted, Raw};
use crate::{Backends, Result};

/// The stores of the daemon that listens, now or later, at `path`. Connects with the first call, and again
/// whenever the connection is gone; while the daemon is away, calls fail with `Unavailable` after a pause
/// that grows to a second, so that a caller may simply repeat them.
pub fn connect(path: impl Into<PathBuf>) -> Backends {
    let link = Arc::new(Link::new(path.into()));
    let remote = Arc::new(Remote(link));
    Backends { log: remote.clone(), raw: remote.clone(), index: remote.clone(), objects: remote }
}

struct Remote(Arc<Link>);

/// Calls, and takes the answer of the one kind that fits.
macro_rules! call {
    ($remote:expr, $kind:ident, $request:expr) => {
        match $remote.0.call($request).await? {
            Reply::$kind(value) => Ok(value),
            _ => Connection::unexpected(&$remote.0.place),
        }
    };
    ($remote:expr, $request:expr) => {
        match $remote.0.call($request).await? {
            Reply::Done => Ok(()),
            _ => Connection::unexpected(&$remote.0.place),
        }
    };
}

#[async_trait]
impl Log for Remote {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<bool> {
        call!(self, Created, Request::CreateTopic { topic: topic.into(), partitions })
    }
    async fn delete_topic(&self, topic: &str) -> Result<()> {
        call!(self, Request::DeleteTopic { topic: topic.into() })
    }
    async fn topic(&self, topic: &str) -> Result<Option<Topic>> {
        call!(self, Topic, Request::Topic { topic: topic.into() })
    }
    async fn topics(&self) -> Result<Vec<Topic>> {
        call!(self, Topics, Request::Topics)
    }
    async fn append(&self, topic: &str, records: Vec<Record>) -> Result<Vec<(u32, u64)>> {
        call!(self, Placed, Request::Append { topic: topic.into(), records })
    }
    async fn read(&self, partition: &Partition, offset: u64, max: usize) -> Result<Vec<Stored>> {
        call!(self, Records, Request::Read { partition: partition.clone(), offset, max })
    }
    async fn join(&self, group: &str, topics: &[String], name: Option<&str>) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(RemoteConsumer::join(Arc::clone(&self.0), group, topics, name).await?))
    }
    async fn groups(&self) -> Result<Vec<(String, Vec<Committed>)>> {
        call!(self, Groups, Request::Groups)
    }
}

#[async_trait]
impl Raw for Remote {
    async fn insert(&self, collection: &str, documents: Vec<Document>) -> Result<Inserted> {
        call!(self, Inserted, Request::RawInsert { collection: collection.into(), documents })
    }
    async fn ids(
        &self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        let after = after.map(str::to_owned);
        call!(
            self,
            Names,
            Request::RawIds { collection: collection.into(), prefix: prefix.into(), after, limit }
        )
    }
    async fn get(&self, collection: &str, id: &str) -> Result<Option<Document>> {
        call!(self, Document, Request::RawGet { collection: collection.into(), id: id.into() })
    }
    async fn latest(&self, collection: &str) -> Result<Option<Timestamp>> {
        call!(self, Instant, Request::RawLatest { collection: collection.into() })
    }
}

#[async_trait]
impl Index for Remote {
    async fn put_template(&self, template: &Template) -> Result<()> {
        call!(self, Request::PutTemplate { template: template.clone() })
    }
    async fn bulk(&self, items: Vec<Item>) -> Result<Vec<ItemResult>> {
        call!(self, Items, Request::Bulk { items })
    }
    async fn indices(&self, prefix: &str) -> Result<Vec<String>> {
        call!(self, Names, Request::Indices { prefix: prefix.into() })
    }
    async fn ids(&self, index: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let after = after.map(str::to_owned);
        call!(self, Names, Request::IndexIds { index: index.into(), prefix: prefix.into(), after, limit })
    }
    async fn get(&self, index: &str, id: &str) -> Result<Option<Vec<u8>>> {
        Ok(call!(self, Bytes, Request::IndexGet { index: index.into(), id: id.into() })?.map(|blob| blob.0))
    }
    async fn latest(&self, prefix: &str, field: &str) -> Result<Option<String>> {
        call!(self, Text, Request::IndexLatest { prefix: prefix.into(), field: field.into() })
    }
}

#[async_trait]
impl Objects for Remote {
    async fn put_if_absent(&self, key: &str, body: Vec<u8>, metadata: &Metadata) -> Result<Put> {
        call!(self, Put, Request::PutObject { key: key.into(), body: Blob(body), metadata: metadata.clone() })
    }
    async fn head(&self, key: &str) -> Result<Option<Metadata>> {
        call!(self, Metadata, Request::Head { key: key.into() })
    }
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(call!(self, Bytes, Request::GetObject { key: key.into() })?.map(|blob| blob.0))
    }
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        call!(self, Names, Request::List { prefix: prefix.into(), after: after.map(str::to_owned), limit })
    }
}
