//! The search index: JSON documents in named indices, Elasticsearch's bulk semantics.

pub mod elasticsearch;
pub mod embedded;
pub mod prefixed;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Result;

/// What indices of a name pattern look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Template name.
    pub name: String,
    /// Index name prefix it applies to (`trades-` for `trades-*`).
    pub prefix: String,
    /// Field name → Elasticsearch type (`date`, `keyword`, `long`, `double`, `object`).
    pub fields: Vec<(String, String)>,
}

/// One item of a bulk call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Index name.
    pub index: String,
    /// `_id`.
    pub id: String,
    /// Create or replace.
    pub op: Op,
    /// One JSON object.
    #[serde(with = "crate::bytes")]
    pub source: Vec<u8>,
}

/// What an item does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Store it unless the id exists.
    Create,
    /// Store it, replacing what is there.
    Put,
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemResult {
    /// Stored.
    Stored,
    /// The id exists (status 409 of a create); it was stored before.
    Exists,
    /// Refused for good (400, 404): belongs into the dead letters.
    Rejected {
        /// HTTP status of the item.
        status: u16,
        /// The store's reason.
        reason: String,
    },
    /// Refused for now (429, 5xx): send it again.
    Retry {
        /// HTTP status of the item.
        status: u16,
        /// The store's reason.
        reason: String,
    },
}

/// A search index.
#[async_trait]
pub trait Index: Send + Sync {
    /// Creates or replaces a template; it must exist before the first document of its indices.
    async fn put_template(&self, template: &Template) -> Result<()>;

    /// Carries out items in order; the result is aligned with them. Durable on return.
    async fn bulk(&self, items: Vec<Item>) -> Result<Vec<ItemResult>>;

    /// Names of indices with this prefix, sorted.
    async fn indices(&self, prefix: &str) -> Result<Vec<String>>;

    /// Up to `limit` ids of an index with this prefix, in order, after `after` (exclusive). A missing index
    /// is empty.
    async fn ids(&self, index: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>>;

    /// One document's source.
    async fn get(&self, index: &str, id: &str) -> Result<Option<Vec<u8>>>;

    /// The largest value of a date field over the indices with this prefix, as stored (RFC 3339).
    async fn latest(&self, prefix: &str, field: &str) -> Result<Option<String>>;
}
