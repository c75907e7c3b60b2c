//! The search index in a sled database in this process: ids, templates and refusals as Elasticsearch has
//! them, without search.
//!
//! One tree an index. Beside its documents, the largest value of every date field that its template names is
//! kept, so that freshness costs one read. Templates have a tree of their own.

pub(super) mod mapping;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::RwLock;

use super::{Index, Item, ItemResult, Op, Template};
use crate::database::{self, Database};
use crate::{BackendError, ErrorKind, Result, blocking};

/// Trees of indices are named with this before the index.
const INDEX: &str = "index:";
const TEMPLATES: &str = "templates";

/// See the module.
pub struct EmbeddedIndex(Arc<Inner>);

struct Inner {
    db: Database,
    templates: RwLock<Vec<Template>>,
}

/// A date value: the instant it sorts by, and its text as stored.
type DateValue = (Timestamp, String);

/// What a bulk call is about to do to one index.
struct Pending {
    tree: sled::Tree,
    template: Option<Template>,
    documents: BTreeMap<String, Vec<u8>>,
    latest: BTreeMap<String, DateValue>,
    /// Fields whose largest value was replaced by a smaller one.
    shrunk: BTreeSet<String>,
}

impl EmbeddedIndex {
    /// Opens or creates the index in `folder`.
    ///
    /// # Errors
    /// `Busy` while another process has it open; `Corrupt` when it cannot be read (nothing is touched then).
    pub fn open(folder: &Path) -> Result<Self> {
        let db = Database::open(folder, "index")?;
        let mut templates = Vec::new();
        for entry in db.tree(TEMPLATES)?.iter() {
            let (name, bytes) = entry.map_err(|e| db.fail(e))?;
            let template = postcard::from_bytes(db.value(&bytes)?).map_err(|e| {
                let message = format!("template {} cannot be read: {e}", String::from_utf8_lossy(&name));
                BackendError::new(ErrorKind::Corrupt, &db.place, message)
            })?;
            templates.push(template);
        }
        Ok(Self(Arc::new(Inner { db, templates: RwLock::new(templates) })))
    }
}

impl Inner {
    fn put_template(&self, template: Template) -> Result<()> {
        mapping::check_template(&self.db.place, &template)?;
        let mut value = database::versioned(256);
        let encoded = postcard::to_stdvec(&template).map_err(|e| {
            BackendError::new(ErrorKind::Rejected, &self.db.place, format!("template cannot be encoded: {e}"))
        })?;
        value.extend(encoded);
        let _one = self.db.lock();
        self.db.tree(TEMPLATES)?.insert(template.name.as_bytes(), value).map_err(|e| self.db.fail(e))?;
        self.db.flush()?;
        let mut templates = self.templates.write();
        templates.retain(|t| t.name != template.name);
        templates.push(template);
        Ok(())
    }

    /// The template of an index: the one with the longest prefix.
    fn template(&self, index: &str) -> Option<Template> {
        let templates = self.templates.read();
        templates.iter().filter(|t| index.starts_with(&t.prefix)).max_by_key(|t| t.prefix.len()).cloned()
    }

    fn bulk(&self, items: Vec<Item>) -> Result<Vec<ItemResult>> {
        let mut pending: BTreeMap<String, Pending> = BTreeMap::new();
        let mut results = Vec::with_capacity(items.len());
        {
            let _looking = self.db.lock();
            for item in items {
                results.push(self.item(&mut pending, item)?);
            }
            for (index, mut pending) in pending {
                self.recount(&index, &mut pending)?;
                let mut batch = sled::Batch::default();
                for (id, source) in &pending.documents {
                    batch.insert(database::document_key(id), stored(source));
                }
                for (field, (at, text)) in &pending.latest {
                    let mut value = database::versioned(12 + text.len());
                    database::put_instant(&mut value, *at);
                    value.extend_from_slice(text.as_bytes());
                    batch.insert(database::beside_key(field), value);
                }
                for field in pending.shrunk.iter().filter(|f| !pending.latest.contains_key(*f)) {
                    batch.remove(database::beside_key(field));
                }
                pending.tree.apply_batch(batch).map_err(|e| self.db.fail(e))?;
            }
        }
        // Also when nothing was stored: what exists may be another call's that is not durable yet.
        self.db.flush()?;
        Ok(results)
    }

    fn item(&self, pending: &mut BTreeMap<String, Pending>, item: Item) -> Result<ItemResult> {
        if let Some(reason) = mapping::refuse_names(&item.index, &item.id) {
            return Ok(ItemResult::Rejected { status: 400, reason });
        }
        let template =
            pending.get(&item.index).map_or_else(|| self.template(&item.index), |p| p.template.clone());
        let document = match mapping::check(template.as_ref(), &item.id, &item.source) {
            Ok(document) => document,
            Err(reason) => return Ok(ItemResult::Rejected { status: 400, reason }),
        };
        let of_index = match pending.entry(item.index) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let tree = self.db.tree(&format!("{INDEX}{}", entry.key()))?;
                let latest = self.kept_latest(&tree, template.as_ref())?;
                entry.insert(Pending {
                    tree,
                    template,
                    documents: BTreeMap::new(),
                    latest,
                    shrunk: BTreeSet::new(),
                })
            }
        };
        let held = match of_index.documents.get(&item.id) {
            Some(source) => Some(source.clone()),
            None => self.document(&of_index.tree, &item.id)?,
        };
        let fields = of_index.template.iter().flat_map(mapping::date_fields);
        match (item.op, held) {
            (Op::Create, Some(_)) => return Ok(ItemResult::Exists),
            (Op::Put, Some(held)) => {
                let held = serde_json::from_slice(&held).unwrap_or_default();
                for field in fields {
                    let (old, new) = (mapping::date(&held, field), mapping::date(&document, field));
                    let largest = of_index.latest.get(field);
                    if old.is_some()
                        && old.as_ref().map(|o| o.0) == largest.map(|l| l.0)
                        && new.as_ref().map(|n| n.0) < old.map(|o| o.0)
                    {
                        of_index.shrunk.insert(field.to_owned());
                    }
                    raise(&mut of_index.latest, field, new);
                }
            }
            (_, None) => {
                for field in fields {
                    raise(&mut of_index.latest, field, mapping::date(&document, field));
                }
            }
        }
        of_index.documents.insert(item.id, item.source);
        Ok(ItemResult::Stored)
    }

    /// Finds the largest values again where one went away.
    fn recount(&self, index: &str, pending: &mut Pending) -> Result<()> {
        for field in &pending.shrunk {
            let mut largest = BTreeMap::new();
            for source in pending.documents.values() {
                raise(&mut largest, field, date_in(source, field));
            }
            self.scan(index, |id, source| {
                if !pending.documents.contains_key(id) {
                    raise(&mut largest, field, date_in(source, field));
                }
            })?;
            pending.latest.remove(field);
            pending.latest.extend(largest);
        }
        Ok(())
    }

    fn scan(&self, index: &str, mut each: impl FnMut(&str, &[u8])) -> Result<()> {
        let Some(tree) = self.db.existing_tree(&format!("{INDEX}{index}"))? else { return Ok(()) };
        for entry in tree.scan_prefix(b"d") {
            let (key, bytes) = entry.map_err(|e| self.db.fail(e))?;
            each(database::document_id(&key).unwrap_or_default(), self.db.value(&bytes)?);
        }
        Ok(())
    }

    fn document(&self, tree: &sled::Tree, id: &str) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = tree.get(database::document_key(id)).map_err(|e| self.db.fail(e))? else {
            return Ok(None);
        };
        Ok(Some(self.db.value(&bytes)?.to_vec()))
    }

    fn kept(&self, tree: &sled::Tree, field: &str) -> Result<Option<DateValue>> {
        let Some(bytes) = tree.get(database::beside_key(field)).map_err(|e| self.db.fail(e))? else {
            return Ok(None);
        };
        let parts = database::take_instant(self.db.value(&bytes)?);
        Ok(parts.map(|(at, text)| (at, String::from_utf8_lossy(text).into_owned())))
    }

    fn kept_latest(
        &self,
        tree: &sled::Tree,
        template: Option<&Template>,
    ) -> Result<BTreeMap<String, DateValue>> {
        let mut latest = BTreeMap::new();
        for field in template.into_iter().flat_map(mapping::date_fields) {
            if let Some(value) = self.kept(tree, field)? {
                latest.insert(field.to_owned(), value);
            }
        }
        Ok(latest)
    }

    fn latest(&self, prefix: &str, field: &str) -> Result<Option<String>> {
        let mut largest = BTreeMap::new();
        for name in self.db.names(&format!("{INDEX}{prefix}")) {
            let index = &name[INDEX.len()..];
            match self.kept(&self.db.tree(&name)?, field)? {
                Some(value) => raise(&mut largest, field, Some(value)),
                // Not declared when its documents came: look at them.
                None => self.scan(index, |_, source| raise(&mut largest, field, date_in(source, field)))?,
            }
        }
        Ok(largest.remove(field).map(|(_, text)| text))
    }
}

fn stored(source: &[u8]) -> Vec<u8> {
    let mut value = database::versioned(source.len());
    value.extend_from_slice(source);
    value
}

fn date_in(source: &[u8], field: &str) -> Option<DateValue> {
    mapping::date(&serde_json::from_slice(source).ok()?, field)
}

fn raise(largest: &mut BTreeMap<String, DateValue>, field: &str, value: Option<DateValue>) {
    if let Some(value) = value
        && largest.get(field).is_none_or(|held| value.0 > held.0)
    {
        largest.insert(field.to_owned(), value);
    }
}

#[async_trait]
impl Index for EmbeddedIndex {
    async fn put_template(&self, template: &Template) -> Result<()> {
        let (inner, template) = (Arc::clone(&self.0), template.clone());
        blocking::run(&self.0.db.place, move || inner.put_template(template)).await
    }

    async fn bulk(&self, items: Vec<Item>) -> Result<Vec<ItemResult>> {
        let inner = Arc::clone(&self.0);
        blocking::run(&self.0.db.place, move || inner.bulk(items)).await
    }

    async fn indices(&self, prefix: &str) -> Result<Vec<String>> {
        let names = self.0.db.names(&format!("{INDEX}{prefix}"));
        Ok(names.into_iter().map(|n| n[INDEX.len()..].to_owned()).collect())
    }

    async fn ids(&self, index: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let (inner, tree, prefix) = (Arc::clone(&self.0), format!("{INDEX}{index}"), prefix.to_owned());
        let after = after.map(str::to_owned);
        blocking::run(&self.0.db.place, move || inner.db.ids(&tree, &prefix, after.as_deref(), limit)).await
    }

    async fn get(&self, index: &str, id: &str) -> Result<Option<Vec<u8>>> {
        let (inner, tree, id) = (Arc::clone(&self.0), format!("{INDEX}{index}"), id.to_owned());
        blocking::run(&self.0.db.place, move || {
            inner.db.existing_tree(&tree)?.map_or(Ok(None), |tree| inner.document(&tree, &id))
        })
        .await
    }

    async fn latest(&self, prefix: &str, field: &str) -> Result<Option<String>> {
        let (inner, prefix, field) = (Arc::clone(&self.0), prefix.to_owned(), field.to_owned());
        blocking::run(&self.0.db.place, move || inner.latest(&prefix, &field)).await
    }
}
