//! A sled database in a folder of its own, as the raw store and the index use it.
//!
//! One tree a collection. Keys are `d` + id for documents and `m` + name for what is kept beside them, so
//! that one atomic batch covers both. Values begin with a version byte. Everything here blocks; callers go
//! through [`super::blocking`].

use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};

use super::{BackendError, ErrorKind, Result};
use files;

/// Bytes of pages that sled keeps in memory.
const CACHE_BYTES: u64 = 16 << 20;
/// Version of the values written.
const VERSION: u8 = 1;

/// See the module.
pub(crate) struct Database {
    db: sled::Db,
    pub(crate) place: String,
    writing: Mutex<()>,
    _lock: File,
}

impl Database {
    /// Opens or creates the database in `folder`; `kind` names it in errors.
    pub(crate) fn open(folder: &Path, kind: &str) -> Result<Self> {
        let place = format!("{kind} {}", folder.display());
        let fail = |e| BackendError::io(&place, &e);
        files::create_folders(folder).map_err(fail)?;
        let Some(lock) = files::lock(&folder.join("lock")).map_err(fail)? else {
            return Err(BackendError::new(ErrorKind::Busy, place, "another process has this database open")
                .remedy("stop the other openbell daemon of this data folder, or give this one its own with --data"));
        };
        // Every call flushes by itself before it returns, so sled needs no flusher of its own.
        let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        // sled panics on some damage instead of returning an error.
        let opened = || std::panic::catch_unwind(AssertUnwindSafe(|| config.open()));
        let db = match files::sled_patiently(opened) {
            Ok(Ok(db)) => db,
            Ok(Err(sled::Error::Io(error))) => return Err(BackendError::io(&place, &error)),
            Ok(Err(error)) => return Err(unusable(&place, &error.to_string())),
            Err(_) => return Err(unusable(&place, "sled panicked while reading it")),
        };
        Ok(Self { db, place, writing: Mutex::new(()), _lock: lock })
    }

    /// Held while looking and writing must be one.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock()
    }

    /// The tree of this name; `None` if nothing was ever written to it.
    pub(crate) fn existing_tree(&self, name: &str) -> Result<Option<sled::Tree>> {
        if self.db.tree_names().iter().any(|n| n == name.as_bytes()) {
            self.tree(name).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The tree of this name, made now if there is none.
    pub(crate) fn tree(&self, name: &str) -> Result<sled::Tree> {
        self.db.open_tree(name).map_err(|e| self.fail(e))
    }

    /// Names of trees with this prefix, sorted.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let names = self.db.tree_names().into_iter().filter_map(|n| String::from_utf8(n.to_vec()).ok());
        let mut names: Vec<_> = names.filter(|n| n.starts_with(prefix)).collect();
        names.sort_unstable();
        names
    }

    /// Makes everything written durable.
    pub(crate) fn flush(&self) -> Result<()> {
        self.db.flush().map(drop).map_err(|e| self.fail(e))
    }

    /// What a failed call of sled means.
    pub(crate) fn fail(&self, error: sled::Error) -> BackendError {
        match error {
            sled::Error::Io(error) => BackendError::io(&self.place, &error),
            sled::Error::Corruption { .. } => unusable(&self.place, &error.to_string()),
            other => BackendError::new(ErrorKind::Unavailable, &self.place, other.to_string()),
        }
    }

    /// A value of this or an older version, without its version byte.
    pub(crate) fn value<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        match bytes.split_first() {
            Some((&VERSION, value)) => Ok(value),
            Some((version, _)) => Err(BackendError::new(
                ErrorKind::Corrupt,
                &self.place,
                format!("holds a value of format {version}; this openbell knows {VERSION}"),
            )
            .remedy("use the version of openbell that wrote it")),
            None => Err(unusable(&self.place, "it holds an empty value")),
        }
    }

    /// Documents' ids with a prefix, in order, after `after`.
    pub(crate) fn ids(
        &self,
        tree: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        let Some(tree) = self.existing_tree(tree)? else { return Ok(Vec::new()) };
        let mut from = document_key(prefix);
        if let Some(after) = after.filter(|a| *a >= prefix) {
            from = document_key(after);
            // The least key greater than `after`.
            from.push(0);
        }
        let mut ids = Vec::new();
        for entry in tree.range(from..) {
            let (key, _) = entry.map_err(|e| self.fail(e))?;
            let Some(id) = document_id(&key).filter(|id| ids.len() < limit && id.starts_with(prefix)) else {
                break;
            };
            ids.push(id.to_owned());
        }
        Ok(ids)
    }
}

fn unusable(place: &str, message: &str) -> BackendError {
    BackendError::new(ErrorKind::Corrupt, place, format!("the database cannot be read: {message}")).remedy(
        "do not delete it: stop openbell, move the folder aside, restore a backup or start with an empty one; reconcile then names what is missing",
    )
}

/// Begins a value.
pub(crate) fn versioned(capacity: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(capacity + 1);
    value.push(VERSION);
    value
}

/// Key of a document.
pub(crate) fn document_key(id: &str) -> Vec<u8> {
    [b"d", id.as_bytes()].concat()
}

/// The id in a document's key; `None` for other keys.
pub(crate) fn document_id(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(b"d")?).ok()
}

/// Key of something kept beside the documents.
pub(crate) fn beside_key(name: &str) -> Vec<u8> {
    [b"m", name.as_bytes()].concat()
}

/// An instant in 12 bytes.
pub(crate) fn put_instant(out: &mut Vec<u8>, at: Timestamp) {
    out.extend_from_slice(&at.as_second().to_be_bytes());
    out.extend_from_slice(&at.subsec_nanosecond().to_be_bytes());
}

/// An instant, and what follows it.
pub(crate) fn take_instant(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (head, rest) = bytes.split_at_checked(12)?;
    let seconds = i64::from_be_bytes(head[..8].try_into().ok()?);
    let nanos = i32::from_be_bytes(head[8..].try_into().ok()?);
    Some((Timestamp::from_duration(SignedDuration::new(seconds, nanos)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_database_that_cannot_be_read_is_not_touched_and_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("raw");
        drop(Database::open(&folder, "raw").expect("opens"));
        let damaged = b"not a sled configuration".to_vec();
        fs::write(folder.join("conf"), &damaged).expect("writes");
        let error = Database::open(&folder, "raw").map(drop).expect_err("damaged");
        assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
        let text = error.to_string();
        assert!(text.contains(&folder.display().to_string()) && text.contains("do not delete"), "{text}");
        assert_eq!(fs::read(folder.join("conf")).expect("reads"), damaged);
    }

    #[test]
    fn a_second_opener_is_told_who_is_in_the_way() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Database::open(dir.path(), "index").expect("opens");
        let error = Database::open(dir.path(), "index").map(drop).expect_err("locked");
        assert_eq!(error.kind, ErrorKind::Busy);
        drop(first);
        Database::open(dir.path(), "index").expect("opens");
    }

    #[test]
    fn instants_sort_and_come_back() {
        for text in ["1969-12-31T23:59:59.5Z", "2026-11-20T09:00:00.123456789+09:00"] {
            let at: Timestamp = text.parse().expect("valid");
            let mut bytes = Vec::new();
            put_instant(&mut bytes, at);
            assert_eq!(take_instant(&bytes), Some((at, &[][..])));
        }
    }
}
