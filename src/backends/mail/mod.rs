//! Mail: one message to some people.

pub mod folder;
mod letter;
pub mod smtp;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Result;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Unique and stable over retries; becomes the Message-ID, so that a repeat can be told from a new mail.
    pub key: String,
    /// Sender.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// Subject, one line.
    pub subject: String,
    /// Plain-text body.
    pub text: String,
    /// `Date` header.
    pub at: Timestamp,
}

/// Something that delivers mail.
#[async_trait]
pub trait Mail: Send + Sync {
    /// Delivers a message, or says why not. Sending the same key again is allowed.
    async fn send(&self, message: &Message) -> Result<()>;

    /// Whether a message would find its way, as far as that can be told without sending one.
    async fn check(&self) -> Result<()>;
}
