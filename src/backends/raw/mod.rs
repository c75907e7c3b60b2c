//! Raw documents: every record as received, under its event id.

pub mod embedded;
pub mod mongodb;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Result;

/// A document to store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// `_id`: the event id.
    pub id: String,
    /// One JSON object.
    #[serde(with = "crate::bytes")]
    pub body: Vec<u8>,
    /// When the collector received it.
    pub received_at: Timestamp,
}

/// What an insert did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inserted {
    /// Documents that were new.
    pub new: usize,
    /// Documents whose id was there already; the stored one is kept.
    pub existing: usize,
}

/// A document store.
#[async_trait]
pub trait Raw: Send + Sync {
    /// Inserts documents; an id that exists keeps its stored document and counts as success. Durable on
    /// return.
    async fn insert(&self, collection: &str, documents: Vec<Document>) -> Result<Inserted>;

    /// Up to `limit` ids with this prefix, in order, after `after` (exclusive).
    async fn ids(
        &self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>>;

    /// One document.
    async fn get(&self, collection: &str, id: &str) -> Result<Option<Document>>;

    /// The newest `received_at` in the collection.
    async fn latest(&self, collection: &str) -> Result<Option<Timestamp>>;
}
