//! A reading end of a segment folder. Any number of them, also in other processes, also while the writer
//! works.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::folder::{self, place_of};
use super::frame;
use super::window::{FrameAt, Window};
use crate::{BackendError, ErrorKind, Result};

/// Bytes between two remembered positions.
const HINT_EVERY: u64 = 256 << 10;

/// A sparse index shared by the readers of one writer's process: number → (its segment's first number, byte
/// offset).
pub(crate) type Hints = Arc<Mutex<BTreeMap<u64, (u64, u64)>>>;

/// How much to take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take {
    /// At most this many frames.
    pub(crate) frames: usize,
    /// No further frame once the payloads exceed this many bytes.
    pub(crate) bytes: usize,
    /// Frames below this number are known to be durable and nothing else is wanted; `None` takes all there
    /// are and makes them durable before handing them out.
    pub(crate) until: Option<u64>,
}

/// See the module.
pub(crate) struct Reader {
    dir: PathBuf,
    place: String,
    next: u64,
    open: Option<Open>,
    hints: Option<Hints>,
}

struct Open {
    first: u64,
    path: PathBuf,
    inode: u64,
    window: Window,
    /// Least number the next frame can have.
    least: u64,
    /// Opened again to verify damage: what is seen is damage then, and not a position gone stale.
    verifying: bool,
    hinted_at: u64,
}

impl Reader {
    /// Reads from `next` on.
    pub(crate) fn new(dir: &Path, place: String, next: u64, hints: Option<Hints>) -> Self {
        Self { dir: dir.to_owned(), place, next, open: None, hints }
    }

    /// The number the next frame has at least.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    /// Takes whole frames; none at the end. A torn tail ends the batch; damage with frames behind it is an
    /// error, once everything before it was handed out.
    pub(crate) fn take<T>(
        &mut self,
        take: Take,
        mut map: impl FnMut(u64, &[u8]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut out = Vec::new();
        let mut bytes = 0;
        while out.len() < take.frames
            && bytes < take.bytes
            && take.until.is_none_or(|until| self.next < until)
        {
            let wanted = self.next;
            self.ensure_open()?;
            let Some(open) = &mut self.open else { break };
            let look = open.window.look().map_err(|e| open.fail(&self.place, &e))?;
            match look {
                FrameAt::Whole { number, size } if number >= open.least => {
                    if take.until.is_some_and(|until| number >= until) {
                        break;
                    }
                    if number >= wanted {
                        let payload = open.window.payload(size);
                        bytes += payload.len();
                        out.push(map(number, payload)?);
                        self.next = number + 1;
                        open.verifying = false;
                    }
                    self.step(number, size);
                }
                FrameAt::End => {
                    if !self.at_end()? {
                        break;
                    }
                }
                FrameAt::Whole { .. } | FrameAt::Partial | FrameAt::Bad => {
                    match self.at_damage(out.is_empty()) {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(error) => {
                            self.open = None;
                            return Err(error);
                        }
                    }
                }
            }
        }
        if take.until.is_none() && !out.is_empty() {
            self.make_durable()?;
        }
        Ok(out)
    }

    /// Opens the segment that holds `next`, if none is open and there is one.
    fn ensure_open(&mut self) -> Result<()> {
        if self.open.is_none() {
            let segments = folder::list(&self.dir, &self.place)?;
            let at = segments.iter().rposition(|s| s.first <= self.next).unwrap_or(0);
            let Some(segment) = segments.get(at) else { return Ok(()) };
            let hint = self.hint(segment.first);
            self.open = Open::new(&self.place, segment.first, &segment.path, hint)?;
        }
        Ok(())
    }

    fn hint(&self, first: u64) -> Option<(u64, u64)> {
        let hints = self.hints.as_ref()?.lock();
        let (number, (segment, at)) = hints.range(..=self.next).next_back()?;
        (*segment == first).then_some((*number, *at))
    }

    fn step(&mut self, number: u64, size: usize) {
        let Some(open) = &mut self.open else { return };
        let at = open.window.position();
        if let Some(hints) = &self.hints
            && at >= open.hinted_at + HINT_EVERY
        {
            open.hinted_at = at;
            hints.lock().insert(number, (open.first, at));
        }
        open.window.advance(size);
        open.least = number + 1;
    }

    /// Goes on in the next segment, or in this one if it was replaced; false when there is nothing more.
    fn at_end(&mut self) -> Result<bool> {
        let Some(open) = &mut self.open else { return Ok(true) };
        let next = folder::list(&self.dir, &self.place)?.into_iter().find(|s| s.first > open.first);
        if let Some(next) = next {
            // The writer may have appended between our look and the listing; it does not any more.
            if open.look_again(&self.place)? == FrameAt::End {
                self.open = Open::new(&self.place, next.first, &next.path, None)?;
            }
            return Ok(true);
        }
        if open.is_stale(&self.place)? {
            self.open = None;
            return Ok(true);
        }
        Ok(false)
    }

    /// Tells a frame that is being written and a torn tail (false: wait) from damage (error); true to look
    /// again.
    fn at_damage(&mut self, report: bool) -> Result<bool> {
        let wanted = self.next;
        let Some(open) = &mut self.open else { return Ok(true) };
        if open.is_stale(&self.place)? {
            self.open = None;
            return Ok(true);
        }
        let at = open.window.position();
        let rest = open.window.rest().map_err(|e| open.fail(&self.place, &e))?;
        let mut behind =
            frame::resync(&rest, 1, open.least).map(|(skip, number)| (number, Some(at + skip as u64)));
        if behind.is_none() {
            for later in folder::list(&self.dir, &self.place)?.into_iter().filter(|s| s.first > open.first) {
                let Some(mut later) = Open::new(&self.place, later.first, &later.path, None)? else {
                    continue;
                };
                if let FrameAt::Whole { number, .. } =
                    later.window.look().map_err(|e| later.fail(&self.place, &e))?
                {
                    behind = Some((number, None));
                    if number <= wanted {
                        self.open = Some(later);
                        return Ok(true);
                    }
                    break;
                }
            }
        }
        let Some(open) = &mut self.open else { return Ok(true) };
        match behind {
            // Nothing whole behind it: the writer is at it, or was when it died.
            None => Ok(false),
            // What was lost lies before what is wanted.
            Some((number, Some(position))) if number <= wanted => {
                open.window.seek(position);
                Ok(true)
            }
            Some(_) if !open.verifying => {
                // The write may have ended between the two looks, or the file been cut and rewritten since it
                // was opened.
                let (first, path) = (open.first, open.path.clone());
                self.open =
                    Open::new(&self.place, first, &path, None)?.map(|open| Open { verifying: true, ..open });
                Ok(true)
            }
            Some(_) if report => Err(open.damage(&self.place, at)),
            Some(_) => Ok(false),
        }
    }

    /// A number that was handed out must never come back with other contents, not even after a power cut.
    /// Files before the open one were synced before it was created.
    fn make_durable(&self) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        open.window.file.sync_data().map_err(|e| open.fail(&self.place, &e))
    }
}

impl Open {
    /// `None` when the file is gone: pruned in this moment.
    fn new(place: &str, first: u64, path: &Path, hint: Option<(u64, u64)>) -> Result<Option<Self>> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.ino(), file)));
        let (inode, file) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BackendError::io(place_of(place, path), &error)),
        };
        let (least, at) = hint.unwrap_or((first, 0));
        Ok(Some(Self {
            first,
            path: path.to_owned(),
            inode,
            window: Window::new(file, at),
            least,
            verifying: false,
            hinted_at: at,
        }))
    }

    fn fail(&self, place: &str, error: &io::Error) -> BackendError {
        BackendError::io(place_of(place, &self.path), error)
    }

    fn look_again(&mut self, place: &str) -> Result<FrameAt> {
        self.window.seek(self.window.position());
        self.window.look().map_err(|e| self.fail(place, &e))
    }

    /// Whether the file was replaced, removed or cut since it was opened.
    fn is_stale(&self, place: &str) -> Result<bool> {
        match fs::metadata(&self.path) {
            Ok(now) => Ok(now.ino() != self.inode || now.len() < self.window.position()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(self.fail(place, &error)),
        }
    }

    fn damage(&self, place: &str, at: u64) -> BackendError {
        if let Err(error) = File::create(folder::damage_note(&self.path)) {
            tracing::warn!(%error, segment = %self.path.display(), "damage cannot be noted beside the file, so the next opening will not repair it");
        }
        let message = format!("damaged at byte {at}, with whole entries after it");
        BackendError::new(ErrorKind::Corrupt, place_of(place, &self.path), message)
            .remedy("delete nothing: restart what writes here (a collector step, or the daemon for its log); opening sets the damaged bytes aside and goes on after them")
    }
}
