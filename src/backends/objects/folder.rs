//! Objects as files below a folder.
//!
//! An object at `{key}` has its metadata beside it in `{key}.meta.json`, which is written first. The object
//! itself appears by a hard link to a finished file, so that it is there whole or not at all, and never
//! replaces another.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::key::{self, METADATA};
use super::{Metadata, Objects, Put};
use crate::{BackendError, ErrorKind, Result, blocking};
use files;

/// Holds unfinished objects; no key begins with a dot.
const UNFINISHED: &str = ".unfinished";

/// See the module.
pub struct FolderObjects(Arc<Inner>);

struct Inner {
    root: PathBuf,
    place: String,
    counter: AtomicU64,
    /// Metadata and object are put as one.
    putting: Mutex<()>,
    _lock: File,
}

impl FolderObjects {
    /// Opens or creates the store below `root` and clears away what an interrupted put left.
    ///
    /// # Errors
    /// `Busy` while another process has it open.
    pub fn open(root: &Path) -> Result<Self> {
        let place = format!("objects {}", root.display());
        let fail = |e: io::Error| BackendError::io(&place, &e);
        files::create_folders(root).map_err(fail)?;
        let Some(lock) = files::lock(&root.join(".lock")).map_err(fail)? else {
            return Err(BackendError::new(ErrorKind::Busy, place, "another process has this folder open")
                .remedy("stop the other openbell daemon of this data folder, or give this one its own with --data"));
        };
        let unfinished = root.join(UNFINISHED);
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(fail)?;
        }
        files::create_folders(&unfinished).map_err(fail)?;
        let inner = Inner {
            root: root.to_owned(),
            counter: AtomicU64::new(0),
            putting: Mutex::new(()),
            _lock: lock,
            place,
        };
        Ok(Self(Arc::new(inner)))
    }
}

impl Inner {
    fn path(&self, key: &str) -> Result<PathBuf> {
        key::check(&self.place, key)?;
        Ok(self.root.join(key))
    }

    fn put(&self, key: &str, body: &[u8], metadata: &Metadata) -> Result<Put> {
        let path = self.path(key)?;
        let fail = |e: io::Error| self.fail(key, &e);
        let unfinished =
            self.root.join(UNFINISHED).join(self.counter.fetch_add(1, Ordering::Relaxed).to_string());
        let put = self.put_through(&unfinished, &path, body, metadata);
        for leftover in [unfinished.with_extension("meta"), unfinished] {
            match fs::remove_file(&leftover) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
                _ => {}
            }
        }
        put.map_err(fail)
    }

    fn put_through(
        &self,
        unfinished: &Path,
        path: &Path,
        body: &[u8],
        metadata: &Metadata,
    ) -> io::Result<Put> {
        if path.is_file() {
            return Ok(Put::Exists);
        }
        let folder = path.parent().unwrap_or(&self.root);
        files::create_folders(folder)?;
        files::write_synced(unfinished, body)?;
        let described = unfinished.with_extension("meta");
        files::write_synced(&described, &serde_json::to_vec(metadata)?)?;
        let _one = self.putting.lock();
        // Looked at again under the lock: the winner's metadata must not be replaced by the loser's.
        if path.is_file() {
            return Ok(Put::Exists);
        }
        fs::rename(&described, beside(path))?;
        files::sync_folder(folder)?;
        match fs::hard_link(unfinished, path) {
            Ok(()) => files::sync_folder(folder).map(|()| Put::Created),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_file() => Ok(Put::Exists),
            Err(error) => Err(error),
        }
    }

    fn fail(&self, key: &str, error: &io::Error) -> BackendError {
        let failed = BackendError::io(format!("{} key {key}", self.place), error);
        match error.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
                BackendError {
                    kind: ErrorKind::Rejected,
                    remedy: "one key cannot be both an object and the folder of others: choose another key"
                        .into(),
                    ..failed
                }
            }
            io::ErrorKind::Unsupported | io::ErrorKind::TooManyLinks => {
                failed.remedy("this file system has no hard links: put the objects folder on another one")
            }
            _ => failed,
        }
    }

    fn head(&self, key: &str) -> Result<Option<Metadata>> {
        let path = self.path(key)?;
        if !path.is_file() {
            return Ok(None);
        }
        match fs::read(beside(&path)) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| {
                BackendError::new(
                    ErrorKind::Corrupt,
                    format!("{} key {key}", self.place),
                    format!("its metadata file cannot be read: {e}"),
                )
                .remedy(format!("restore {}", beside(&path).display()))
            }),
            // Put there by hand, without metadata.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Metadata::new())),
            Err(error) => Err(self.fail(key, &error)),
        }
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match fs::read(self.path(key)?) {
            Ok(body) => Ok(Some(body)),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.fail(key, &error)),
        }
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let mut keys = BTreeSet::new();
        // Only the folder that the prefix leads to can hold matching keys.
        let base = prefix.rfind('/').map_or("", |at| &prefix[..at]);
        if !base.split('/').any(|part| part.starts_with('.')) {
            self.collect(base, prefix, &mut keys)?;
        }
        let beyond = |key: &String| after.is_none_or(|after| key.as_str() > after);
        Ok(keys.into_iter().filter(beyond).take(limit).collect())
    }

    fn collect(&self, base: &str, prefix: &str, keys: &mut BTreeSet<String>) -> Result<()> {
        let fail = |e: io::Error| BackendError::io(format!("{} folder {base}", self.place), &e);
        let entries = match fs::read_dir(self.root.join(base)) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(fail(error)),
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') || name.ends_with(METADATA) {
                continue;
            }
            let key = if base.is_empty() { name } else { format!("{base}/{name}") };
            if entry.file_type().map_err(fail)?.is_dir() {
                if prefix.starts_with(&key) || key.starts_with(prefix) {
                    self.collect(&key, prefix, keys)?;
                }
            } else if key.starts_with(prefix) {
                keys.insert(key);
            }
        }
        Ok(())
    }
}

/// Where an object's metadata is.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(METADATA);
    PathBuf::from(name)
}

#[async_trait]
impl Objects for FolderObjects {
    async fn put_if_absent(&self, key: &str, body: Vec<u8>, metadata: &Metadata) -> Result<Put> {
        let (inner, key, metadata) = (Arc::clone(&self.0), key.to_owned(), metadata.clone());
        blocking::run(&self.0.place, move || inner.put(&key, &body, &metadata)).await
    }

    async fn head(&self, key: &str) -> Result<Option<Metadata>> {
        let (inner, key) = (Arc::clone(&self.0), key.to_owned());
        blocking::run(&self.0.place, move || inner.head(&key)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let (inner, key) = (Arc::clone(&self.0), key.to_owned());
        blocking::run(&self.0.place, move || inner.get(&key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let (inner, prefix, after) = (Arc::clone(&self.0), prefix.to_owned(), after.map(str::to_owned));
        blocking::run(&self.0.place, move || inner.list(&prefix, after.as_deref(), limit)).await
    }
}
