//! What is said on the socket. Any change here raises the version in [`super::HELLO`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::bytes::Blob;
use crate::index::{Item, ItemResult, Template};
use crate::log::{Committed, Partition, Polled, Record, Stored, Topic};
use crate::objects::{Metadata, Put};
use crate::raw::{Document, Inserted};

/// A numbered request.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) request: Request,
}

/// The answer to the call of the same number.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) id: u64,
    pub(super) outcome: Result<Reply>,
}

/// A method of one of the traits. Consumers are numbered by the client.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    CreateTopic {
        topic: String,
        partitions: u32,
    },
    DeleteTopic {
        topic: String,
    },
    Topic {
        topic: String,
    },
    Topics,
    Append {
        topic: String,
        records: Vec<Record>,
    },
    Read {
        partition: Partition,
        offset: u64,
        max: usize,
    },
    Groups,
    Join {
        consumer: u64,
        group: String,
        topics: Vec<String>,
        name: Option<String>,
    },
    Poll {
        consumer: u64,
        wait_ms: u64,
    },
    /// Ends a poll that is waiting, by the number of its call. Has no answer of its own.
    Interrupt {
        consumer: u64,
        poll: u64,
    },
    Commit {
        consumer: u64,
        offsets: Vec<Committed>,
    },
    Seek {
        consumer: u64,
        partition: Partition,
        offset: u64,
    },
    Pause {
        consumer: u64,
        partition: Partition,
        paused: bool,
    },
    Leave {
        consumer: u64,
    },
    RawInsert {
        collection: String,
        documents: Vec<Document>,
    },
    RawIds {
        collection: String,
        prefix: String,
        after: Option<String>,
        limit: usize,
    },
    RawGet {
        collection: String,
        id: String,
    },
    RawLatest {
        collection: String,
    },
    PutTemplate {
        template: Template,
    },
    Bulk {
        items: Vec<Item>,
    },
    Indices {
        prefix: String,
    },
    IndexIds {
        index: String,
        prefix: String,
        after: Option<String>,
        limit: usize,
    },
    IndexGet {
        index: String,
        id: String,
    },
    IndexLatest {
        prefix: String,
        field: String,
    },
    PutObject {
        key: String,
        body: Blob,
        metadata: Metadata,
    },
    Head {
        key: String,
    },
    GetObject {
        key: String,
    },
    List {
        prefix: String,
        after: Option<String>,
        limit: usize,
    },
}

/// What a request brought.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Reply {
    Done,
    Created(bool),
    Topic(Option<Topic>),
    Topics(Vec<Topic>),
    Placed(Vec<(u32, u64)>),
    Records(Vec<Stored>),
    Groups(Vec<(String, Vec<Committed>)>),
    Polled(Polled),
    Inserted(Inserted),
    Names(Vec<String>),
    Document(Option<Document>),
    Instant(Option<Timestamp>),
    Items(Vec<ItemResult>),
    Bytes(Option<Blob>),
    Text(Option<String>),
    Put(Put),
    Metadata(Option<Metadata>),
}
