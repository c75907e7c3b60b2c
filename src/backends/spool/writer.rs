//! The writing end.

use std::fs::File;
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::entry::NewEntry;
use super::{SEGMENT_BYTES, cursor, place, synced};
use crate::segments::{self, Disk, Options, RealDisk};
use crate::{BackendError, ErrorKind, Result};
use files;

/// The writing end; one per folder (it holds a lock).
pub struct Writer {
    segments: segments::Writer,
    id: String,
    last: u64,
    synced: watch::Sender<u64>,
    /// Before the lock, so that the next writer finds its place free.
    _listed: synced::Listed,
    /// Locked for as long as it is open.
    _lock: File,
}

/// What opening a spool found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Highest sequence number kept; 0 for an empty spool. The next entry's number is higher, by more than
    /// one if a damaged tail was cut.
    pub last_seq: u64,
    /// Bytes of a torn or damaged tail, or of damaged stretches before it, that were set aside.
    pub set_aside_bytes: u64,
    /// Where they went: the file, or the folder if there are several.
    pub set_aside: Option<PathBuf>,
}

impl Writer {
    /// Opens or creates the spool in `dir`; cuts a torn tail back to the last whole entry and keeps the
    /// cut-off bytes in a file beside it. A damaged stretch before whole entries is taken out likewise, and
    /// the entries after it stay.
    ///
    /// # Errors
    /// `Busy` while another writer has the spool open; `Full` when there is no room to set damaged bytes
    /// aside (nothing was cut then).
    pub fn open(dir: &Path) -> Result<(Self, Recovered)> {
        Self::open_with(dir, SEGMENT_BYTES, Box::new(RealDisk))
    }

    pub(super) fn open_with(dir: &Path, max_segment: u64, disk: Box<dyn Disk>) -> Result<(Self, Recovered)> {
        let place = place(dir);
        let fail = |e| BackendError::io(&place, &e);
        files::create_folders(dir).map_err(fail)?;
        let Some(lock) = files::lock(&dir.join("lock")).map_err(fail)? else {
            return Err(BackendError::new(
                ErrorKind::Busy,
                place,
                "another collector has this spool open for writing",
            )
            .remedy("stop it first; two collectors need two steps, each with its own spool"));
        };
        let id = cursor::id_or_new(dir)?;
        let options = Options { max_segment, first: 1, reuse_torn: false };
        let (segments, opened) = segments::Writer::open(dir, place, options, disk)?;
        let recovered = Recovered {
            last_seq: opened.last.unwrap_or(0),
            set_aside_bytes: opened.pieces.iter().map(|p| p.bytes).sum(),
            set_aside: match opened.pieces.as_slice() {
                [] => None,
                [piece] => Some(piece.kept_in.clone()),
                _ => Some(dir.join("aside")),
            },
        };
        let last = recovered.last_seq;
        let synced = watch::channel(last).0;
        let listed =
            synced::list(dir, synced.subscribe()).map_err(|e| BackendError::io(super::place(dir), &e))?;
        Ok((Self { segments, id, last, synced, _listed: listed, _lock: lock }, recovered))
    }

    /// The spool's own id, fixed when the folder was created.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Appends entries; returns the last one's sequence number. Not durable before [`Writer::sync`].
    ///
    /// # Errors
    /// `Full` when the disk is: nothing of the call is kept, and it can be repeated. `Rejected` for a body
    /// that is too large. `Unavailable` after a failed sync: open the spool again.
    pub fn append(&mut self, entries: &[NewEntry]) -> Result<u64> {
        if !entries.is_empty() {
            let first = self.segments.append(entries.len(), |i, out| entries[i].encode(out))?;
            self.last = first + entries.len() as u64 - 1;
        }
        Ok(self.last)
    }

    /// Makes everything appended durable, and thereby visible to readers in this process, and tells those who
    /// [watch](Writer::watch); returns the last sequence number.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails. What was appended since the last sync is in doubt then, and the
    /// writer refuses further work: open the spool again, which finds out.
    pub fn sync(&mut self) -> Result<u64> {
        self.segments.sync()?;
        self.synced.send_if_modified(|synced| std::mem::replace(synced, self.last) != self.last);
        Ok(self.last)
    }

    /// The last synced sequence number, for forwarders in this process.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.synced.subscribe()
    }
}
