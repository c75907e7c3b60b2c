//! Floor 2: the stores, one trait per kind with one file per implementation.
//!
//! | kind | trait | embedded default | server |
//! |---|---|---|---|
//! | log | [`log::Log`] | [`log::embedded`] | Kafka: [`log::kafka`] |
//! | raw | [`raw::Raw`] | [`raw::embedded`] | MongoDB: [`raw::mongodb`] |
//! | index | [`index::Index`] | [`index::embedded`] | Elasticsearch, OpenSearch: [`index::elasticsearch`] |
//! | objects | [`objects::Objects`] | [`objects::folder`] | S3: [`objects::s3`] |
//! | mail | [`mail::Mail`] | [`mail::folder`] | SMTP: [`mail::smtp`] |
//!
//! Embedded stores are opened by the daemon alone; a step that runs as another process reaches them through
//! the daemon's local [`socket`], behind the same traits. Servers are reached by each process itself.

pub mod address;
mod blocking;
mod bytes;
mod database;
pub mod endpoint;
pub mod index;
pub mod log;
pub mod mail;
pub mod objects;
pub mod raw;
mod remote;
mod segments;
pub mod socket;
pub mod spool;

pub use address::{open, open_beside_the_daemon, open_mail};

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What the caller can do about a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// Nobody answered, or not in time. The call may or may not have happened: look before repeating it.
    Unavailable,
    /// The store refuses for now (rate limit, overload): repeat later.
    Busy,
    /// The store has no room left.
    Full,
    /// The request itself is wrong; repeating it is useless.
    Rejected,
    /// Credentials are missing or wrong.
    Forbidden,
    /// What was asked for does not exist.
    NotFound,
    /// Another member owns the partition now; what was read must not be committed.
    Fenced,
    /// Stored bytes are damaged.
    Corrupt,
    /// Another member joined the group under this member's name and has its place; joining again would take
    /// it back.
    Replaced,
}

/// A failed call to a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{place}: {message}{}", if remedy.is_empty() { String::new() } else { format!("; {remedy}") })]
pub struct BackendError {
    /// What the caller can do.
    pub kind: ErrorKind,
    /// The store and the part of it, for example `log data/log topic NAME partition 1`.
    pub place: String,
    /// What happened, a lower-case fragment.
    pub message: String,
    /// What a person can do; may be empty.
    pub remedy: String,
}

impl BackendError {
    /// Builds an error without a remedy.
    pub fn new(kind: ErrorKind, place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, place: place.into(), message: message.into(), remedy: String::new() }
    }

    /// Adds what a person can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// An input/output error of a local file; a full disk is told apart.
    pub fn io(place: impl Into<String>, error: &std::io::Error) -> Self {
        let (kind, remedy) = match error.kind() {
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge => (
                ErrorKind::Full,
                "free some space; writing goes on by itself, nothing accepted so far is lost",
            ),
            std::io::ErrorKind::PermissionDenied => {
                (ErrorKind::Forbidden, "give this user the right to read and write it")
            }
            std::io::ErrorKind::NotFound => (ErrorKind::NotFound, ""),
            std::io::ErrorKind::InvalidData => (ErrorKind::Corrupt, ""),
            _ => (ErrorKind::Unavailable, ""),
        };
        Self::new(kind, place, error.to_string()).remedy(remedy)
    }

    /// Whether the same call may succeed later without anyone changing it.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Busy | ErrorKind::Full)
    }
}

/// Result of a call to a store.
pub type Result<T, E = BackendError> = std::result::Result<T, E>;

/// The stores of a daemon or of a step.
#[derive(Clone)]
pub struct Backends {
    /// Kafka-like log.
    pub log: Arc<dyn log::Log>,
    /// Raw documents.
    pub raw: Arc<dyn raw::Raw>,
    /// Search index.
    pub index: Arc<dyn index::Index>,
    /// Objects.
    pub objects: Arc<dyn objects::Objects>,
}
