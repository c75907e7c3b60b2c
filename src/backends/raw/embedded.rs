//! Raw documents in a sled database in this process.
//!
//! A document is stored as `version u8 | seconds i64 | nanoseconds i32 | body` under its id; the newest
//! receipt of a collection is kept beside its documents.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Document, Inserted, Raw};
use crate::database::{self, Database};
use crate::{BackendError, ErrorKind, Result, blocking};

const LATEST: &str = "latest";

/// See the module.
pub struct EmbeddedRaw(Arc<Database>);

impl EmbeddedRaw {
    /// Opens or creates the store in `folder`.
    ///
    /// # Errors
    /// `Busy` while another process has it open; `Corrupt` when it cannot be read (nothing is touched then).
    pub fn open(folder: &Path) -> Result<Self> {
        Database::open(folder, "raw").map(|db| Self(Arc::new(db)))
    }
}

fn insert(db: &Database, collection: &str, documents: Vec<Document>) -> Result<Inserted> {
    let tree = db.tree(collection)?;
    let mut inserted = Inserted::default();
    let mut batch = sled::Batch::default();
    {
        let _looking = db.lock();
        let mut fresh = HashSet::new();
        let mut newest = None;
        for document in &documents {
            let key = database::document_key(&document.id);
            if fresh.contains(document.id.as_str()) || tree.contains_key(&key).map_err(|e| db.fail(e))? {
                inserted.existing += 1;
                continue;
            }
            let mut value = database::versioned(12 + document.body.len());
            database::put_instant(&mut value, document.received_at);
            value.extend_from_slice(&document.body);
            batch.insert(key, value);
            fresh.insert(document.id.as_str());
            inserted.new += 1;
            newest = newest.max(Some(document.received_at));
        }
        if let Some(newest) = newest
            && latest(db, &tree)?.is_none_or(|held| newest > held)
        {
            let mut value = database::versioned(12);
            database::put_instant(&mut value, newest);
            batch.insert(database::beside_key(LATEST), value);
        }
        tree.apply_batch(batch).map_err(|e| db.fail(e))?;
    }
    // Also when nothing was new: what exists may be another call's that is not durable yet.
    db.flush()?;
    Ok(inserted)
}

fn latest(db: &Database, tree: &sled::Tree) -> Result<Option<Timestamp>> {
    let Some(bytes) = tree.get(database::beside_key(LATEST)).map_err(|e| db.fail(e))? else {
        return Ok(None);
    };
    Ok(database::take_instant(db.value(&bytes)?).map(|(at, _)| at))
}

fn get(db: &Database, collection: &str, id: &str) -> Result<Option<Document>> {
    let Some(tree) = db.existing_tree(collection)? else { return Ok(None) };
    let Some(bytes) = tree.get(database::document_key(id)).map_err(|e| db.fail(e))? else { return Ok(None) };
    let (received_at, body) = database::take_instant(db.value(&bytes)?).ok_or_else(|| {
        BackendError::new(
            ErrorKind::Corrupt,
            format!("{} collection {collection}", db.place),
            format!("document {id} is too short"),
        )
    })?;
    Ok(Some(Document { id: id.to_owned(), body: body.to_vec(), received_at }))
}

fn check_collection(db: &Database, collection: &str) -> Result<()> {
    if !collection.is_empty() && !collection.starts_with("__") && collection.len() <= 200 {
        return Ok(());
    }
    let message = format!("\"{collection}\" is not a collection name");
    Err(BackendError::new(ErrorKind::Rejected, &db.place, message)
        .remedy("use 1 to 200 characters that do not begin with \"__\""))
}

#[async_trait]
impl Raw for EmbeddedRaw {
    async fn insert(&self, collection: &str, documents: Vec<Document>) -> Result<Inserted> {
        check_collection(&self.0, collection)?;
        if documents.iter().any(|d| d.id.is_empty()) {
            return Err(BackendError::new(
                ErrorKind::Rejected,
                format!("{} collection {collection}", self.0.place),
                "a document has no id",
            ));
        }
        let (db, collection) = (Arc::clone(&self.0), collection.to_owned());
        blocking::run(&self.0.place, move || insert(&db, &collection, documents)).await
    }

    async fn ids(
        &self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        let (db, collection, prefix) = (Arc::clone(&self.0), collection.to_owned(), prefix.to_owned());
        let after = after.map(str::to_owned);
        blocking::run(&self.0.place, move || db.ids(&collection, &prefix, after.as_deref(), limit)).await
    }

    async fn get(&self, collection: &str, id: &str) -> Result<Option<Document>> {
        let (db, collection, id) = (Arc::clone(&self.0), collection.to_owned(), id.to_owned());
        blocking::run(&self.0.place, move || get(&db, &collection, &id)).await
    }

    async fn latest(&self, collection: &str) -> Result<Option<Timestamp>> {
        let (db, collection) = (Arc::clone(&self.0), collection.to_owned());
        blocking::run(&self.0.place, move || {
            db.existing_tree(&collection)?.map_or(Ok(None), |tree| latest(&db, &tree))
        })
        .await
    }
}
