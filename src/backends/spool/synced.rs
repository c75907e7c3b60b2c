//! How far the spools that this process writes are synced.
//!
//! A reader in the writer's process asks here, and never hands out what is not durable yet. A reader in
//! another process cannot ask, and syncs the file itself instead, which waits for the disk with every batch.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

/// Spools open for writing, by their canonical path.
static WRITTEN: Mutex<BTreeMap<PathBuf, watch::Receiver<u64>>> = Mutex::new(BTreeMap::new());

fn written() -> MutexGuard<'static, BTreeMap<PathBuf, watch::Receiver<u64>>> {
    WRITTEN.lock()
}

/// Keeps a spool listed.
pub(super) struct Listed(PathBuf);

/// Lists a spool; the caller holds its lock, so there is no other entry.
pub(super) fn list(dir: &Path, synced: watch::Receiver<u64>) -> std::io::Result<Listed> {
    let path = fs::canonicalize(dir)?;
    written().insert(path.clone(), synced);
    Ok(Listed(path))
}

/// The last synced number of a spool that this process writes.
pub(super) fn find(dir: &Path) -> Option<watch::Receiver<u64>> {
    let path = fs::canonicalize(dir).ok()?;
    written().get(&path).cloned()
}

impl Drop for Listed {
    fn drop(&mut self) {
        written().remove(&self.0);
    }
}
