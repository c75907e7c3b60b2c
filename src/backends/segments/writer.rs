//! The writing end of a segment folder.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::{self, place_of};
use super::frame::{self, MAX_PAYLOAD};
use super::recover::{self, Opened};
use crate::{BackendError, ErrorKind, Result};
use files;

/// The encode buffer is given back when a large call made it grow beyond this.
const KEPT_BUFFER: usize = 1 << 20;

/// How a folder is written.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// A file that would grow beyond this is followed by a new one. One call's frames always stay together,
    /// so a single call larger than this makes a larger file.
    pub(crate) max_segment: u64,
    /// The first number of an empty folder.
    pub(crate) first: u64,
    /// Whether the numbers of a write that never finished may be given again: only where readers see synced
    /// frames alone.
    pub(crate) reuse_torn: bool,
}

/// Where bytes go; tests put a full disk here.
pub(crate) trait Disk: Send {
    /// Writes all of `bytes` at a position. After an error any part of them may have been written.
    fn write(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
}

/// The file itself.
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn write(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }
}

/// See the module.
pub(crate) struct Writer {
    dir: PathBuf,
    place: String,
    options: Options,
    disk: Box<dyn Disk>,
    file: Arc<File>,
    path: PathBuf,
    length: u64,
    next: u64,
    buffer: Vec<u8>,
    /// A failed write left bytes behind `length` that could not be cut off yet.
    uncut: bool,
    /// A failed sync: what the disk holds is unknown until the folder is opened again.
    failed: bool,
}

impl Writer {
    /// Opens or creates the folder and repairs it. The caller holds the folder's lock.
    pub(crate) fn open(
        dir: &Path,
        place: String,
        options: Options,
        disk: Box<dyn Disk>,
    ) -> Result<(Self, Opened)> {
        files::create_folders(dir).map_err(|e| BackendError::io(&place, &e))?;
        let opened = recover::recover(dir, &place, &options)?;
        for piece in &opened.pieces {
            tracing::warn!(
                segment = %piece.segment.display(), offset = piece.offset, size_bytes = piece.bytes, kept_in = %piece.kept_in.display(),
                "{place}: damaged bytes were set aside"
            );
        }
        let newest = folder::list(dir, &place)?.pop();
        let path = newest.map_or_else(|| recover::create(dir, &place, opened.next), |s| Ok(s.path))?;
        let fail = |e: io::Error| BackendError::io(place_of(&place, &path), &e);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(fail)?;
        // What a killed writer left unsynced becomes durable before anything is built on it.
        file.sync_all().map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let writer = Self {
            dir: dir.to_owned(),
            place,
            options,
            disk,
            file: Arc::new(file),
            path,
            length,
            next: opened.next,
            buffer: Vec::new(),
            uncut: false,
            failed: false,
        };
        Ok((writer, opened))
    }

    /// The number the next frame gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Appends `count` frames, whose payloads `fill` writes, and returns the first one's number. After an
    /// error none of them is kept.
    pub(crate) fn append(&mut self, count: usize, mut fill: impl FnMut(usize, &mut Vec<u8>)) -> Result<u64> {
        self.usable()?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        for i in 0..count {
            let start = buffer.len();
            frame::encode(&mut buffer, self.next + i as u64, |out| fill(i, out));
            let size = buffer.len() - start - frame::HEADER;
            if size > MAX_PAYLOAD {
                let message = format!("an entry of {size} bytes is larger than the {MAX_PAYLOAD} that fit");
                return Err(BackendError::new(ErrorKind::Rejected, &self.place, message));
            }
        }
        let written = self.write(&buffer, count as u64);
        if buffer.capacity() <= KEPT_BUFFER {
            self.buffer = buffer;
        }
        written
    }

    fn write(&mut self, bytes: &[u8], count: u64) -> Result<u64> {
        if self.uncut {
            self.cut_back()?;
        }
        if self.length > 0 && self.length + bytes.len() as u64 > self.options.max_segment {
            self.roll()?;
        }
        if let Err(error) = self.disk.write(&self.file, bytes, self.length) {
            let error = BackendError::io(place_of(&self.place, &self.path), &error);
            if !self.options.reuse_torn && self.file.metadata().is_ok_and(|m| m.len() > self.length) {
                // A reader may have seen frames of the half-written call.
                self.next += count;
            }
            if let Err(second) = self.cut_back() {
                tracing::warn!(error = %second, "{}: a failed write could not be cut back yet; the next one tries again", self.place);
            }
            return Err(error);
        }
        let first = self.next;
        self.length += bytes.len() as u64;
        self.next += count;
        Ok(first)
    }

    fn cut_back(&mut self) -> Result<()> {
        self.uncut = true;
        self.file
            .set_len(self.length)
            .map_err(|e| BackendError::io(place_of(&self.place, &self.path), &e))?;
        self.uncut = false;
        Ok(())
    }

    fn roll(&mut self) -> Result<()> {
        self.sync()?;
        let path = recover::create(&self.dir, &self.place, self.next)?;
        let file = OpenOptions::new().read(true).write(true).open(&path);
        self.file = Arc::new(file.map_err(|e| BackendError::io(place_of(&self.place, &path), &e))?);
        self.path = path;
        self.length = 0;
        Ok(())
    }

    /// Makes everything appended durable.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.usable()?;
        self.file.sync_data().map_err(|e| self.sync_failed(&e))
    }

    /// The file whose sync makes everything appended so far durable, for a caller that syncs without holding
    /// the writer.
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Records that a sync failed and builds its error.
    pub(crate) fn sync_failed(&mut self, error: &io::Error) -> BackendError {
        // The kernel forgets dirty pages after a failed sync, so a second sync would claim success for lost
        // bytes.
        self.failed = true;
        BackendError::new(
            ErrorKind::Unavailable,
            place_of(&self.place, &self.path),
            format!("bytes could not be made durable: {error}"),
        )
        .remedy("check the disk, then restart what writes here (a collector step, or the daemon for its log): opening finds out what was kept")
    }

    fn usable(&self) -> Result<()> {
        if self.failed {
            let message = "an earlier sync failed, and what the disk holds is unknown";
            return Err(BackendError::new(ErrorKind::Unavailable, &self.place, message)
                .remedy("check the disk, then restart what writes here (a collector step, or the daemon for its log): opening finds out what was kept"));
        }
        Ok(())
    }
}
