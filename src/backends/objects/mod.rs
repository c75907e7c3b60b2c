//! Objects: immutable blobs under keys, S3's semantics.

pub mod folder;
mod key;
pub mod s3;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Result;

/// What a conditional put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Put {
    /// The object is ours.
    Created,
    /// The key exists (412): somebody, perhaps an earlier life of ours, wrote it.
    Exists,
}

/// An object's metadata: S3 user metadata, lower-case names.
pub type Metadata = BTreeMap<String, String>;

/// An object store.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Stores an object unless the key exists (`If-None-Match: *`). Atomic and durable on return.
    async fn put_if_absent(&self, key: &str, body: Vec<u8>, metadata: &Metadata) -> Result<Put>;

    /// Metadata of an object; `None` if there is none.
    async fn head(&self, key: &str) -> Result<Option<Metadata>>;

    /// An object's bytes; `None` if there is none.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// Up to `limit` keys with this prefix, in order, after `after` (exclusive).
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>>;
}
