//! Opening the journal's folder, and what happens when it is damaged.
//!
//! Nothing is deleted: a damaged folder is moved aside to `state.damaged-N`, whatever can still be read is
//! taken over, and what cannot comes from the newest export. What was lost is named, so that people hear of
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::codec::{self, Key};
use super::export;
use super::journal::Entry;
use super::records::StoreError;
use super::sled::Disk;
use files;

/// How opening went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// There was no journal yet.
    New,
    /// It was whole.
    Whole,
    /// It was damaged: people should hear of it.
    Restored(Restored),
}

/// What was done about a damaged journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What was wrong.
    pub why: String,
    /// Where the damaged folder is now; `None` when it could go on being used.
    pub moved_to: Option<PathBuf>,
    /// The export that was read, if one was needed and there was one.
    pub from: Option<PathBuf>,
    /// Entries taken over.
    pub entries: usize,
    /// What could not be brought back, in words.
    pub lost: Vec<String>,
}

impl std::fmt::Display for Restored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the journal was damaged ({})", self.why)?;
        if let Some(moved_to) = &self.moved_to {
            write!(f, ", moved to {}", moved_to.display())?;
        }
        match &self.from {
            Some(from) => {
                write!(f, "; {} entries were taken over, with the export {}", self.entries, from.display())?
            }
            None => write!(f, "; {} entries were taken over", self.entries)?,
        }
        if !self.lost.is_empty() {
            write!(f, "; not brought back: {}", self.lost.join(", "))?;
        }
        Ok(())
    }
}

/// The file beside the database that says how many batches were acknowledged.
const COUNTER: &str = "acknowledged";

pub(super) fn encode_counter(batches: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&batches.to_be_bytes());
    bytes[8..].copy_from_slice(&crc32fast::hash(&batches.to_be_bytes()).to_be_bytes());
    bytes
}

fn decode_counter(bytes: &[u8]) -> Option<u64> {
    let (number, crc) = bytes.split_at_checked(8)?;
    (crc == crc32fast::hash(number).to_be_bytes())
        .then(|| number.try_into().map(u64::from_be_bytes).ok())
        .flatten()
}

/// Opens the folder, repairing it if need be.
pub(super) fn open(dir: &Path, exports: &Path) -> Result<(Disk, Opened), StoreError> {
    let is_new = !dir.join("db").exists() && !dir.join("conf").exists();
    let acknowledged = fs::read(dir.join(COUNTER)).ok().and_then(|bytes| decode_counter(&bytes));
    let (why, readable, broken) = match open_disk(dir) {
        Ok(disk) => match inspect(&disk.db)? {
            Inspected { readable, broken, .. } if !broken.is_empty() => {
                drop(disk);
                (format!("{} entries cannot be read", broken.len()), Some(readable), broken)
            }
            Inspected { batches, .. } if is_new && acknowledged.is_none() && batches == 0 => {
                return Ok((disk, Opened::New));
            }
            Inspected { readable, batches, .. } => {
                let acknowledged = acknowledged.unwrap_or(1);
                if batches >= acknowledged {
                    return Ok((disk, Opened::Whole));
                }
                let lost = format!("the last {} of {acknowledged} writes", acknowledged - batches);
                let export = export::newest(exports).filter(|(_, entries)| batches_of(entries) > batches);
                if export.is_none() {
                    // What is there is newer than any export: go on with it.
                    let restored = Restored {
                        why: format!("{lost} are gone"),
                        moved_to: None,
                        from: None,
                        entries: readable.len(),
                        lost: vec![lost],
                    };
                    return Ok((disk, Opened::Restored(restored)));
                }
                drop(disk);
                (format!("{lost} are gone"), None, Vec::new())
            }
        },
        Err(OpenError::Fatal(error)) => return Err(error),
        Err(OpenError::Damaged(why)) => (why, None, Vec::new()),
    };
    rebuild(dir, exports, why, readable, broken)
}

enum OpenError {
    /// The folder is as it should be, and still cannot be used.
    Fatal(StoreError),
    /// What is in the folder cannot be opened.
    Damaged(String),
}

fn open_disk(dir: &Path) -> Result<Disk, OpenError> {
    let unusable =
        |e: io::Error| OpenError::Fatal(StoreError::Unusable { path: dir.to_owned(), why: e.to_string() });
    fs::create_dir_all(dir).map_err(unusable)?;
    // Sled remembers little and is read once: a small cache is enough.
    let config = sled::Config::new().path(dir).cache_capacity(8 * 1024 * 1024).flush_every_ms(None);
    let db = match files::sled_patiently(|| catch_unwind(AssertUnwindSafe(|| config.open()))) {
        Ok(Ok(db)) => db,
        Ok(Err(sled::Error::Io(e))) if files::is_sled_lock(&e) => {
            return Err(OpenError::Fatal(StoreError::Locked { dir: dir.to_owned() }));
        }
        Ok(Err(sled::Error::Io(e))) if is_environment(&e) => return Err(unusable(e)),
        Ok(Err(error)) => return Err(OpenError::Damaged(error.to_string().trim().replace('\n', " "))),
        Err(_) => return Err(OpenError::Damaged("opening it panicked".into())),
    };
    let counter = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(COUNTER))
        .map_err(unusable)?;
    Ok(Disk { db, counter })
}

/// Trouble of the place, not of the content: moving the folder aside would not help.
fn is_environment(error: &io::Error) -> bool {
    use io::ErrorKind::{
        NotADirectory, OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    matches!(
        error.kind(),
        PermissionDenied | StorageFull | ReadOnlyFilesystem | QuotaExceeded | NotADirectory | OutOfMemory
    ) || error.raw_os_error() == Some(24)
}

struct Inspected {
    readable: Vec<Entry>,
    /// Keys whose values do not decode.
    broken: Vec<Vec<u8>>,
    batches: u64,
}

/// Reads everything once. A newer format is not damage.
fn inspect(db: &sled::Db) -> Result<Inspected, StoreError> {
    let scanned = catch_unwind(AssertUnwindSafe(|| {
        let mut found = Inspected { readable: Vec::new(), broken: Vec::new(), batches: 0 };
        for entry in db.iter() {
            match entry {
                Ok((key, value)) => match codec::check(&key, &value) {
                    Ok(()) => found.readable.push((key.to_vec(), value.to_vec())),
                    Err(newer @ StoreError::Newer { .. }) => return Err(newer),
                    Err(_) => found.broken.push(key.to_vec()),
                },
                Err(error) => {
                    tracing::error!(%error, "a part of the journal cannot be read");
                    found.broken.push(Vec::new());
                    break;
                }
            }
        }
        Ok(found)
    }));
    let mut found = scanned
        .unwrap_or_else(|_| Ok(Inspected { readable: Vec::new(), broken: vec![Vec::new()], batches: 0 }))?;
    found.batches = batches_of(&found.readable);
    Ok(found)
}

fn batches_of(entries: &[Entry]) -> u64 {
    let key = Key::Batches.encode();
    entries.iter().find(|(k, _)| *k == key).and_then(|(k, v)| codec::decode(k, v).ok()).unwrap_or(0)
}

/// Makes a journal in a folder that has none out of a plain-text export; how many entries it has.
///
/// # Errors
/// An export that is not whole or is of a newer version, a journal that is there already, or a folder that
/// cannot be written.
pub fn restore(dir: &Path, export: &Path) -> Result<usize, StoreError> {
    let unusable = |path: &Path, why: String| StoreError::Unusable { path: path.to_owned(), why };
    let entries = export::read(export).map_err(|why| unusable(export, why))?;
    if dir.join("db").exists() || dir.join("conf").exists() {
        return Err(unusable(dir, "there is a journal already".into()));
    }
    let disk = open_disk(dir).map_err(|error| match error {
        OpenError::Fatal(error) => error,
        OpenError::Damaged(why) => unusable(dir, why),
    })?;
    fill(&disk, entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice())))?;
    Ok(entries.len())
}

fn fill<'a>(disk: &Disk, entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), StoreError> {
    let mut batch = sled::Batch::default();
    for (key, value) in entries {
        batch.insert(key, value);
    }
    let write = |e: sled::Error| StoreError::Write { why: e.to_string() };
    disk.db.apply_batch(batch).map_err(write)?;
    disk.db.flush().map(drop).map_err(write)
}

/// Moves the folder aside and builds a new one from what is left.
fn rebuild(
    dir: &Path,
    exports: &Path,
    why: String,
    readable: Option<Vec<Entry>>,
    broken: Vec<Vec<u8>>,
) -> Result<(Disk, Opened), StoreError> {
    let moved_to = move_aside(dir)?;
    let export = export::newest(exports);
    let from = export.as_ref().map(|(path, _)| path.clone());
    let exported: BTreeMap<Vec<u8>, Vec<u8>> =
        export.map(|(_, entries)| entries.into_iter().collect()).unwrap_or_default();
    let mut lost = Vec::new();
    let entries: BTreeMap<Vec<u8>, Vec<u8>> = match readable {
        // The folder could be read but for some entries: those alone come from the export, which is older
        // than the rest.
        Some(readable) if broken.iter().all(|key| !key.is_empty()) => {
            let mut entries: BTreeMap<_, _> = readable.into_iter().collect();
            for key in broken {
                match exported.get(&key) {
                    Some(value) => drop(entries.insert(key, value.clone())),
                    None => lost.push(codec::describe(&key)),
                }
            }
            entries
        }
        // Only a part could be read: the export is the base, the readable part is newer than it.
        Some(readable) => {
            let mut entries = exported;
            entries.extend(readable);
            lost.push("what was written after the export and could not be read".into());
            entries
        }
        None => {
            lost.push(match &from {
                Some(_) => "what was written after the export".into(),
                None => "everything: there is no export yet".into(),
            });
            exported
        }
    };
    lost.extend(gaps(&entries));
    let disk = open_disk(dir).map_err(|error| match error {
        OpenError::Fatal(error) => error,
        OpenError::Damaged(why) => StoreError::Unusable { path: dir.to_owned(), why },
    })?;
    fill(&disk, entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice())))?;
    let restored = Restored { why, moved_to: Some(moved_to), from, entries: entries.len(), lost };
    tracing::error!("{restored}");
    Ok((disk, Opened::Restored(restored)))
}

fn move_aside(dir: &Path) -> Result<PathBuf, StoreError> {
    let name = dir.file_name().map_or_else(|| "state".into(), |name| name.to_string_lossy().into_owned());
    let free = (1..).map(|n| dir.with_file_name(format!("{name}.damaged-{n}"))).find(|path| !path.exists());
    let to = free.expect("numbers do not run out before folders do");
    fs::rename(dir, &to).map_err(|e| StoreError::Unusable {
        path: dir.to_owned(),
        why: format!("it cannot be moved aside: {e}"),
    })?;
    if let Some(parent) = dir.parent()
        && let Err(error) = File::open(parent).and_then(|parent| parent.sync_all())
    {
        tracing::warn!(%error, "the move of the damaged journal may not survive a power cut");
    }
    Ok(to)
}

/// Runs whose events have a hole, in words: they are read up to it.
fn gaps(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<String> {
    let mut numbers: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for key in entries.keys() {
        if let Some(Key::Event { run, seq }) = Key::decode(key) {
            numbers.entry(run.to_string()).or_default().insert(seq);
        }
    }
    let hole = |numbers: &BTreeSet<u64>| {
        (1..).zip(numbers).find(|(expected, seq)| expected != *seq).map(|(expected, _)| expected)
    };
    numbers
        .into_iter()
        .filter_map(|(run, numbers)| {
            hole(&numbers).map(|at| format!("events of run {run} from number {at} on"))
        })
        .collect()
}
