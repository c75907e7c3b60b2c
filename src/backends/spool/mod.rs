//! The collector's local write-ahead log.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::Result;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A trade record's wire text, `{tr_id}|{field^field^…}`.
    Record,
    /// A frame that could not be decoded, as received. The body is `{cause}\n{message}\n{frame bytes}`.
    Malformed,
    /// The feed's session came up (body: JSON facts).
    SessionUp,
    /// The feed's session went down (body: JSON facts).
    SessionDown,
}

/// An entry to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// What it is.
    pub kind: Kind,
    /// When the socket task received it.
    pub received_at: Timestamp,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// An entry as read back; `seq` starts at 1 and rises by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position in the spool.
    pub seq: u64,
    /// What it is.
    pub kind: Kind,
    /// When the socket task received it.
    pub received_at: Timestamp,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// The writing end; one per folder (it holds a lock).
pub struct Writer {}

/// What opening a spool found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Highest sequence number kept; 0 for an empty spool.
    pub last_seq: u64,
    /// Bytes of a torn or damaged tail that were set aside.
    pub set_aside_bytes: u64,
    /// Where they went.
    pub set_aside: Option<PathBuf>,
}

impl Writer {
    /// Opens or creates the spool in `dir`; cuts a torn tail back to the last whole entry and keeps the cut-off bytes in a file beside it.
    pub fn open(_dir: &Path) -> Result<(Self, Recovered)> {
        unimplemented!()
    }
    /// The spool's own id, fixed when the folder was created.
    pub fn id(&self) -> &str {
        unimplemented!()
    }
    /// Appends entries; returns the last one's sequence number. Not durable before [`Writer::sync`]. After an error (full disk) nothing of
    /// the call is kept and it can be repeated.
    pub fn append(&mut self, _entries: &[NewEntry]) -> Result<u64> {
        unimplemented!()
    }
    /// Makes everything appended durable and visible to readers of this process; returns the last sequence number.
    pub fn sync(&mut self) -> Result<u64> {
        unimplemented!()
    }
}

/// A reading end. Any number, also in other processes, also while the writer works.
pub struct Reader {}

impl Reader {
    /// Reads from `seq` on (1 is the first entry).
    pub fn open(_dir: &Path, _seq: u64) -> Result<Self> {
        unimplemented!()
    }
    /// Up to `max` whole entries; empty at the end. A torn tail ends the batch; damage before the tail is an error.
    pub fn next(&mut self, _max: usize) -> Result<Vec<Entry>> {
        unimplemented!()
    }
}

/// The spool's id, without opening it for writing.
pub fn id(_dir: &Path) -> Result<Option<String>> {
    unimplemented!()
}

/// A cursor file: the next sequence number to forward, replaced atomically.
pub fn load_cursor(_dir: &Path, _name: &str) -> Result<Option<u64>> {
    unimplemented!()
}

/// See [`load_cursor`].
pub fn store_cursor(_dir: &Path, _name: &str, _next: u64) -> Result<()> {
    unimplemented!()
}
