//! A buffered look into a segment file that others may be appending to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::frame::{self, HEADER, Parsed};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// What stands at the window's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameAt {
    /// A frame of `size` bytes.
    Whole { number: u64, size: usize },
    /// The file ends here.
    End,
    /// The file ends within what may be a frame.
    Partial,
    /// No frame.
    Bad,
}

/// See the module.
pub(crate) struct Window {
    pub(crate) file: File,
    start: u64,
    bytes: Vec<u8>,
    at: usize,
}

impl Window {
    pub(crate) fn new(file: File, position: u64) -> Self {
        Self { file, start: position, bytes: Vec::new(), at: 0 }
    }

    /// Byte offset in the file.
    pub(crate) fn position(&self) -> u64 {
        self.start + self.at as u64
    }

    /// Goes to a byte offset and forgets what was buffered.
    pub(crate) fn seek(&mut self, position: u64) {
        self.start = position;
        self.at = 0;
        self.bytes.clear();
    }

    /// Looks without moving.
    pub(crate) fn look(&mut self) -> io::Result<FrameAt> {
        let mut needed = HEADER;
        loop {
            match frame::parse(&self.bytes[self.at..]) {
                Parsed::Whole { number, size } => return Ok(FrameAt::Whole { number, size }),
                Parsed::Bad => return Ok(FrameAt::Bad),
                Parsed::Incomplete { needed: more } => needed = needed.max(more),
            }
            if !self.fill(needed)? {
                return Ok(if self.at == self.bytes.len() { FrameAt::End } else { FrameAt::Partial });
            }
        }
    }

    /// The payload of the whole frame last looked at.
    pub(crate) fn payload(&self, size: usize) -> &[u8] {
        &self.bytes[self.at + HEADER..self.at + size]
    }

    /// Steps over a frame.
    pub(crate) fn advance(&mut self, size: usize) {
        self.at += size;
    }

    /// The number in the header at the position, if that much is there.
    pub(crate) fn claimed_number(&self) -> Option<u64> {
        frame::number(&self.bytes[self.at..])
    }

    /// Everything from the position to the end of the file.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let position = self.position();
        let length = self.file.metadata()?.len().saturating_sub(position);
        let mut rest = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let mut filled = 0;
        while filled < rest.len() {
            match self.file.read_at(&mut rest[filled..], position + filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        rest.truncate(filled);
        Ok(rest)
    }

    /// Buffers until at least `needed` bytes follow the position; false when the file ends before.
    fn fill(&mut self, needed: usize) -> io::Result<bool> {
        self.bytes.drain(..self.at);
        self.start += self.at as u64;
        self.at = 0;
        while self.bytes.len() < needed {
            let had = self.bytes.len();
            self.bytes.resize(had.max(needed).max(CHUNK), 0);
            let read = self.file.read_at(&mut self.bytes[had..], self.start + had as u64);
            self.bytes.truncate(had + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
