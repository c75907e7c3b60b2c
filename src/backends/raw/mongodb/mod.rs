//! Raw documents in MongoDB: `mongodb://[user@]host[,host…]/[database]` or `mongodb+srv://…`.
//!
//! A collection of the trait is a collection of the database (default `openbell`), with an index on the
//! receipt time. Writes wait for the majority and its journal unless the address says otherwise (`w`,
//! `journal`). The driver repeats a write once after a lost connection where the server can tell a repeat
//! (`retryWrites`); ids make any repeat harmless.

mod document;

use std::collections::HashSet;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use mongodb::bson::{self, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind as Fault, InsertManyError};
use mongodb::options::{Acknowledgment, ClientOptions, ConnectionString, WriteConcern};
use mongodb::{Client, Collection, Database, IndexModel};
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Document, Inserted, Raw};
use crate::endpoint::Endpoint;
use crate::remote::{self, Limits, authorities, causes, start_of, unusable, within};
use crate::{BackendError, ErrorKind, Result};

/// Where documents go when the address names no database.
const DATABASE: &str = "openbell";
/// Options of the driver that an address may carry.
const PARAMETERS: &[&str] = &[
    "authSource",
    "authMechanism",
    "replicaSet",
    "directConnection",
    "tls",
    "retryWrites",
    "w",
    "journal",
    "maxPoolSize",
    "appName",
];
/// Documents and bytes of one command: far below the server's limits, so that each is done in time.
const DOCUMENTS: usize = 10_000;
const BYTES: usize = 16 << 20;
/// A unique index (that of `_id`) has this value already.
const DUPLICATE_KEY: i32 = 11000;

/// See the module.
pub struct MongoRaw {
    place: String,
    endpoint: Endpoint,
    database: String,
    limits: Limits,
    /// Made by the first call, and made anew when the server refuses the password, which may have been
    /// changed.
    client: tokio::sync::Mutex<Option<Client>>,
    /// Collections whose index is there.
    indexed: Mutex<HashSet<String>>,
}

impl MongoRaw {
    /// Prepares the client; nothing is sent before the first call.
    ///
    /// # Errors
    /// `Rejected` for an address that cannot be used, `Forbidden` when the reference to the password leads
    /// nowhere.
    pub fn connect(endpoint: &Endpoint) -> Result<Self> {
        let place = format!("raw {endpoint}");
        endpoint.only(PARAMETERS).map_err(|e| unusable(&place, &e))?;
        authorities(&place, endpoint)?;
        let database = if endpoint.path.is_empty() { DATABASE } else { endpoint.path.as_str() }.to_owned();
        if database.len() > 63 || database.contains(|c: char| c.is_control() || "/\\. \"$*<>:|?".contains(c))
        {
            let message = format!("\"{database}\" is not a name of a database");
            return Err(BackendError::new(ErrorKind::Rejected, place, message)
                .remedy("write mongodb://HOST/DATABASE"));
        }
        let raw = Self {
            place,
            endpoint: endpoint.clone(),
            database,
            limits: Limits::USUAL,
            client: tokio::sync::Mutex::default(),
            indexed: Mutex::default(),
        };
        raw.connection()?;
        Ok(raw)
    }

    /// The address as the driver reads it, with the password as it is now.
    fn connection(&self) -> Result<ConnectionString> {
        let endpoint = &self.endpoint;
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut uri = format!("{}://", endpoint.scheme);
        if let Some(user) = &endpoint.user {
            uri.push_str(&encoded(user));
            if let Some(password) = endpoint.password().map_err(|e| unusable(&self.place, &e))? {
                uri.push(':');
                uri.push_str(&encoded(&password));
            }
            uri.push('@');
        }
        uri.push_str(&endpoint.hosts.join(","));
        uri.push('/');
        uri.push_str(&encoded(&endpoint.path));
        let mut parameters: Vec<_> =
            endpoint.parameters().map(|(n, v)| format!("{n}={}", encoded(v))).collect();
        if let Some(ca) = &endpoint.ca {
            parameters.push(format!("tlsCAFile={}", encoded(&ca.to_string_lossy())));
            if endpoint.text("tls").is_none() {
                parameters.push("tls=true".into());
            }
        }
        if !parameters.is_empty() {
            uri.push('?');
            uri.push_str(&parameters.join("&"));
        }
        ConnectionString::parse(&uri).map_err(|error| {
            BackendError::new(ErrorKind::Rejected, &self.place, start_of(&error.kind.to_string(), 300))
                .remedy("correct the address in the configuration")
        })
    }

    async fn database(&self) -> Result<Database> {
        let mut held = self.client.lock().await;
        if let Some(client) = held.as_ref() {
            return Ok(client.database(&self.database));
        }
        let connection = self.connection()?;
        // Looks up the hosts of a mongodb+srv address; nothing else goes over the network here.
        let parsed = within(self.limits.connect, &self.place, async {
            ClientOptions::parse(connection).await.map_err(|e| self.fail(&self.place, &e))
        });
        let mut options = parsed.await?;
        options.connect_timeout.get_or_insert(self.limits.connect);
        options.server_selection_timeout.get_or_insert(self.limits.connect);
        options.app_name.get_or_insert_with(|| "openbell".into());
        let concern = options.write_concern.get_or_insert_with(WriteConcern::default);
        concern.w.get_or_insert(Acknowledgment::Majority);
        concern.journal.get_or_insert(true);
        let client = Client::with_options(options).map_err(|e| self.fail(&self.place, &e))?;
        let database = client.database(&self.database);
        *held = Some(client);
        Ok(database)
    }

    fn place_of(&self, collection: &str) -> String {
        format!("{} collection {collection}", self.place)
    }

    /// Runs commands on a collection in bounded time.
    async fn on<T>(
        &self,
        collection: &str,
        work: impl AsyncFnOnce(&Database) -> Result<T, Error>,
    ) -> Result<T, Result<Error, BackendError>> {
        let place = self.place_of(collection);
        // A frozen server keeps its connections, and the driver alone would wait forever.
        let done = within(self.limits.connect + self.limits.answer, &place, async {
            let database = self.database().await?;
            within(self.limits.answer, &place, async { Ok(work(&database).await) }).await
        });
        match done.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                if matches!(error.kind.as_ref(), Fault::Authentication { .. }) {
                    *self.client.lock().await = None;
                }
                Err(Ok(error))
            }
            Err(error) => Err(Err(error)),
        }
    }

    /// The same, with the server's errors translated.
    async fn ask<T>(
        &self,
        collection: &str,
        work: impl AsyncFnOnce(&Database) -> Result<T, Error>,
    ) -> Result<T> {
        let failed = |error: Result<Error, BackendError>| match error {
            Ok(error) => self.fail(&self.place_of(collection), &error),
            Err(error) => error,
        };
        self.on(collection, work).await.map_err(failed)
    }

    fn fail(&self, place: &str, error: &Error) -> BackendError {
        let kind = match error.kind.as_ref() {
            Fault::Authentication { .. } => ErrorKind::Forbidden,
            Fault::Command(command) => kind_of(command.code),
            _ => ErrorKind::Unavailable,
        };
        let message = causes(error.kind.as_ref());
        let remedy = if kind == ErrorKind::Unavailable { remote::remedy(&message) } else { remedy(kind) };
        BackendError::new(kind, place, start_of(&message, 500)).remedy(remedy)
    }

    /// Makes the index that `latest` reads, once.
    async fn index(&self, collection: &str) -> Result<()> {
        if self.indexed.lock().contains(collection) {
            return Ok(());
        }
        let model = IndexModel::builder().keys(newest_first()).build();
        let made = self.on(collection, async |database| {
            database.collection::<bson::Document>(collection).create_index(model).await.map(drop)
        });
        match made.await {
            Ok(()) => {}
            Err(Err(error)) => return Err(error),
            // Without it everything works, only slower: no reason to stop writing.
            Err(Ok(error)) if matches!(error.kind.as_ref(), Fault::Command(_)) => {
                let error = self.fail(&self.place_of(collection), &error);
                tracing::warn!(%error, "no index on received_at; looking for the newest document will be slow");
            }
            Err(Ok(error)) => return Err(self.fail(&self.place_of(collection), &error)),
        }
        self.indexed.lock().insert(collection.to_owned());
        Ok(())
    }

    /// Inserts one command's documents; says how many were there already.
    async fn insert_some(&self, collection: &str, documents: &[(&str, RawDocumentBuf)]) -> Result<usize> {
        let inserted = self.on(collection, async |database| {
            let collection: Collection<RawDocumentBuf> = database.collection(collection);
            collection.insert_many(documents.iter().map(|(_, d)| d)).ordered(false).await.map(drop)
        });
        let place = self.place_of(collection);
        match inserted.await {
            Ok(()) => Ok(0),
            Err(Err(error)) => Err(error),
            Err(Ok(error)) => match error.kind.as_ref() {
                Fault::InsertMany(errors) => existing(&place, documents, errors),
                _ => Err(self.fail(&place, &error)),
            },
        }
    }
}

/// What the index on the receipt time sorts by, and `latest`.
fn newest_first() -> bson::Document {
    doc! { "received_at": -1, "received_at_nanos": -1 }
}

/// Counts the documents whose id exists; any other error of a document, or a write that is not safe yet,
/// fails the call.
fn existing(place: &str, documents: &[(&str, RawDocumentBuf)], errors: &InsertManyError) -> Result<usize> {
    let mut existing = 0;
    let mut worst: Option<BackendError> = None;
    for error in errors.write_errors.iter().flatten() {
        if error.code == DUPLICATE_KEY {
            existing += 1;
            continue;
        }
        // The server had a look at this document: what it does not explain is the document's own fault.
        let kind = match kind_of(error.code) {
            ErrorKind::Unavailable if !is_passing(error.code) => ErrorKind::Rejected,
            kind => kind,
        };
        let id = documents.get(error.index).map_or("?", |(id, _)| id);
        let message = format!("document {id}: error {}: {}", error.code, start_of(&error.message, 300));
        // A passing error first: after it, the caller sends all again anyway.
        if worst.as_ref().is_none_or(|w| w.kind == ErrorKind::Rejected && kind != ErrorKind::Rejected) {
            worst = Some(BackendError::new(kind, place, message).remedy(remedy(kind)));
        }
    }
    if let Some(concern) = &errors.write_concern_error {
        let message =
            format!("written, but not safe yet: error {}: {}", concern.code, start_of(&concern.message, 300));
        worst.get_or_insert_with(|| {
            BackendError::new(ErrorKind::Unavailable, place, message).remedy(
                "look at the replica set's health; a server without journal or replicas needs other w and journal in the address",
            )
        });
    }
    worst.map_or(Ok(existing), Err)
}

/// What the caller can do about an error code of the server.
fn kind_of(code: i32) -> ErrorKind {
    match code {
        13 | 18 | 8000 => ErrorKind::Forbidden,
        // A lock, a write conflict, rate limits.
        24 | 112 | 462 | 16500 => ErrorKind::Busy,
        14031 => ErrorKind::Full,
        // The document: not BSON, a validation rule, its size.
        22 | 121 | 10334 | 17280 | 17419 | 17420 => ErrorKind::Rejected,
        _ => ErrorKind::Unavailable,
    }
}

/// Codes that go away by themselves: no primary, shutting down, timeouts, a moved shard.
fn is_passing(code: i32) -> bool {
    matches!(
        code,
        6 | 7
            | 50
            | 63
            | 64
            | 89
            | 91
            | 133
            | 150
            | 189
            | 262
            | 9001
            | 10058
            | 10107
            | 11600
            | 11602
            | 13388
            | 13435
            | 13436
    )
}

fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Forbidden => {
            "check user, password and authSource of the raw address, and that the user may read and write the database"
        }
        ErrorKind::Full => "give the database server more room",
        ErrorKind::Unavailable => "look whether the server is up and reachable",
        _ => "",
    }
}

/// The first text after all texts with this prefix, as the server sorts (bytes of UTF-8); `None` if there is
/// none.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // Between the two halves lie no characters.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[async_trait]
impl Raw for MongoRaw {
    async fn insert(&self, collection: &str, documents: Vec<Document>) -> Result<Inserted> {
        let place = self.place_of(collection);
        let refuse = |message: String| BackendError::new(ErrorKind::Rejected, &place, message);
        if collection.is_empty()
            || collection.len() > 120
            || collection.starts_with("system.")
            || collection.contains(['$', '\0'])
        {
            let message = format!("\"{collection}\" is not a collection name");
            return Err(
                refuse(message).remedy("use 1 to 120 bytes without '$', not beginning with \"system.\"")
            );
        }
        let mut inserted = Inserted::default();
        let mut seen = HashSet::new();
        let mut batches: Vec<Vec<(&str, RawDocumentBuf)>> = Vec::new();
        let mut bytes = 0;
        for document in &documents {
            let encoded = document::encode(document).map_err(refuse)?;
            if !seen.insert(document.id.as_str()) {
                inserted.existing += 1;
                continue;
            }
            bytes += encoded.as_bytes().len();
            match batches.last_mut() {
                Some(batch) if bytes <= BYTES && batch.len() < DOCUMENTS => {
                    batch.push((&document.id, encoded))
                }
                _ => {
                    bytes = encoded.as_bytes().len();
                    batches.push(vec![(&document.id, encoded)]);
                }
            }
        }
        if !batches.is_empty() {
            self.index(collection).await?;
        }
        for batch in batches {
            let existing = self.insert_some(collection, &batch).await?;
            inserted.existing += existing;
            inserted.new += batch.len() - existing;
        }
        Ok(inserted)
    }

    async fn ids(
        &self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        // The server takes 0 as "no limit".
        let Some(limit) = i64::try_from(limit).ok().filter(|limit| *limit > 0) else { return Ok(Vec::new()) };
        let mut bounds = doc! { "$gte": prefix };
        if let Some(end) = after_prefix(prefix) {
            bounds.insert("$lt", end);
        }
        if let Some(after) = after {
            bounds.insert("$gt", after);
        }
        let found: Vec<bson::Document> = self
            .ask(collection, async |database| {
                let collection = database.collection::<bson::Document>(collection);
                let found = collection
                    .find(doc! { "_id": bounds })
                    .sort(doc! { "_id": 1 })
                    .projection(doc! { "_id": 1 });
                found.limit(limit).await?.try_collect().await
            })
            .await?;
        let ids = found.iter().filter_map(|d| d.get_str("_id").ok());
        Ok(ids.filter(|id| id.starts_with(prefix)).map(str::to_owned).collect())
    }

    async fn get(&self, collection: &str, id: &str) -> Result<Option<Document>> {
        let found = self.ask(collection, async |database| {
            database.collection::<bson::Document>(collection).find_one(doc! { "_id": id }).await
        });
        let Some(stored) = found.await? else { return Ok(None) };
        document::decode(stored).map(Some).map_err(|why| self.foreign(collection, id, &why))
    }

    async fn latest(&self, collection: &str) -> Result<Option<Timestamp>> {
        let found = self.ask(collection, async |database| {
            let collection = database.collection::<bson::Document>(collection);
            collection.find_one(doc! {}).sort(newest_first()).projection(newest_first_fields()).await
        });
        let Some(stored) = found.await? else { return Ok(None) };
        document::receipt(&stored).map(Some).map_err(|why| self.foreign(collection, "the newest", &why))
    }
}

fn newest_first_fields() -> bson::Document {
    doc! { "received_at": 1, "received_at_nanos": 1 }
}

impl MongoRaw {
    fn foreign(&self, collection: &str, id: &str, why: &str) -> BackendError {
        BackendError::new(ErrorKind::Corrupt, self.place_of(collection), format!("document {id}: {why}"))
            .remedy("it was not written by openbell; give openbell a database or collection of its own")
    }
}

#[cfg(test)]
mod tests;
