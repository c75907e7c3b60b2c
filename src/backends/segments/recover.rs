//! What opening a segment folder for writing repairs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::folder::{self, Segment, place_of};
use super::frame;
use super::window::{FrameAt, Window};
use super::writer::Options;
use crate::{BackendError, Result};
use files;

/// A stretch of bytes that was taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DamagedPiece {
    /// The file it was in.
    pub(crate) segment: PathBuf,
    /// Where it began.
    pub(crate) offset: u64,
    /// How long it was.
    pub(crate) bytes: u64,
    /// Where its bytes are now.
    pub(crate) kept_in: PathBuf,
}

/// What opening found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opened {
    /// Highest number kept, if any frame was.
    pub(crate) last: Option<u64>,
    /// The number the next frame gets.
    pub(crate) next: u64,
    /// What was taken out.
    pub(crate) pieces: Vec<DamagedPiece>,
}

/// What a segment holds.
#[derive(Debug, Default)]
struct Contents {
    good: Vec<Range<u64>>,
    bad: Vec<Range<u64>>,
    last: Option<u64>,
    /// The bad stretch at the end is the beginning of the next frame and nothing else: a write that never
    /// finished.
    torn_write: bool,
}

/// Repairs the folder; afterwards every examined file is a row of whole frames, and the newest file is the
/// one to append to.
pub(crate) fn recover(dir: &Path, place: &str, options: &Options) -> Result<Opened> {
    let segments = folder::list(dir, place)?;
    let mut opened = Opened { last: None, next: options.first, pieces: Vec::new() };
    let mut examined: Vec<(Segment, Contents)> = Vec::new();
    for segment in segments.iter().rev() {
        let contents = examine(segment, place)?;
        let found = contents.last.is_some();
        opened.last = opened.last.or(contents.last);
        examined.push((segment.clone(), contents));
        if found {
            break;
        }
    }
    // Newest first: what follows the last good frame is the tail.
    let mut tail_bytes = 0;
    let mut torn_write = true;
    for (_, contents) in &examined {
        let end_of_good = contents.good.last().map_or(0, |g| g.end);
        let tail: Vec<_> = contents.bad.iter().filter(|b| b.start >= end_of_good).collect();
        tail_bytes += tail.iter().map(|b| b.end - b.start).sum::<u64>();
        torn_write &= tail.is_empty() || contents.torn_write;
    }
    let newest = segments.last().map_or(options.first, |s| s.first);
    opened.next = opened.last.map_or(options.first, |last| last + 1).max(newest);
    let jump = tail_bytes > 0 && !(options.reuse_torn && torn_write);
    if jump {
        // As many numbers as the cut-off bytes can have held are spent. The new file's name remembers that
        // even if the machine stops before the cut.
        opened.next += tail_bytes / frame::HEADER as u64 + 1;
    }
    for (segment, contents) in &examined {
        set_aside(dir, place, segment, contents, &mut opened.pieces)?;
    }
    if jump || segments.is_empty() {
        create(dir, place, opened.next)?;
    }
    for (segment, contents) in &examined {
        take_out(dir, place, segment, contents)?;
    }
    for segment in &segments[..segments.len() - examined.len()] {
        if folder::damage_note(&segment.path).exists() {
            let contents = examine(segment, place)?;
            set_aside(dir, place, segment, &contents, &mut opened.pieces)?;
            take_out(dir, place, segment, &contents)?;
        }
    }
    Ok(opened)
}

/// Creates an empty segment, durably.
pub(crate) fn create(dir: &Path, place: &str, first: u64) -> Result<PathBuf> {
    let path = dir.join(folder::name(first));
    let made = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .and_then(|_| files::sync_folder(dir));
    made.map_err(|e| BackendError::io(place_of(place, &path), &e))?;
    Ok(path)
}

fn examine(segment: &Segment, place: &str) -> Result<Contents> {
    let fail = |e: io::Error| BackendError::io(place_of(place, &segment.path), &e);
    let mut window = Window::new(File::open(&segment.path).map_err(fail)?, 0);
    let mut contents = Contents::default();
    let mut least = segment.first;
    let mut good_from = 0;
    loop {
        let at = window.position();
        let look = window.look().map_err(fail)?;
        match look {
            FrameAt::Whole { number, size } if number >= least => {
                window.advance(size);
                contents.last = Some(number);
                least = number + 1;
                continue;
            }
            FrameAt::End => {}
            FrameAt::Whole { .. } | FrameAt::Partial | FrameAt::Bad => {
                let rest = window.rest().map_err(fail)?;
                let found = frame::resync(&rest, 1, least);
                let end = at + found.map_or(rest.len(), |(p, _)| p) as u64;
                contents.bad.push(at..end);
                contents.torn_write =
                    look == FrameAt::Partial && window.claimed_number().is_none_or(|n| n == least);
                if at > good_from {
                    contents.good.push(good_from..at);
                }
                good_from = end;
                window.seek(end);
                if found.is_some() {
                    continue;
                }
            }
        }
        if window.position() > good_from {
            contents.good.push(good_from..window.position());
        }
        return Ok(contents);
    }
}

/// Copies the bad stretches of a segment into files of their own.
fn set_aside(
    dir: &Path,
    place: &str,
    segment: &Segment,
    contents: &Contents,
    pieces: &mut Vec<DamagedPiece>,
) -> Result<()> {
    if contents.bad.is_empty() {
        return Ok(());
    }
    let aside = dir.join("aside");
    let bytes = fs::read(&segment.path).map_err(|e| BackendError::io(place_of(place, &segment.path), &e))?;
    let fail = |e: io::Error| BackendError::io(format!("{place} folder {}", aside.display()), &e);
    files::create_folders(&aside).map_err(fail)?;
    for bad in &contents.bad {
        let damaged = &bytes[bad.start as usize..(bad.end as usize).min(bytes.len())];
        let mut kept_in = aside.join(format!("{}@{}", folder::name(segment.first), bad.start));
        // An earlier opening that was interrupted may have kept the same bytes already; other bytes are never
        // overwritten.
        for copy in 2.. {
            match fs::read(&kept_in) {
                Ok(held) if held == damaged => break,
                Ok(_) => {
                    kept_in = aside.join(format!("{}@{}.{copy}", folder::name(segment.first), bad.start))
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    let fresh = aside.join("being-copied");
                    files::write_synced(&fresh, damaged)
                        .and_then(|()| fs::rename(&fresh, &kept_in))
                        .map_err(fail)?;
                    break;
                }
                Err(e) => return Err(fail(e)),
            }
        }
        pieces.push(DamagedPiece {
            segment: segment.path.clone(),
            offset: bad.start,
            bytes: bad.end - bad.start,
            kept_in,
        });
    }
    files::sync_folder(&aside).map_err(fail)
}

/// Removes the bad stretches, which [`set_aside`] has copied, from a segment.
fn take_out(dir: &Path, place: &str, segment: &Segment, contents: &Contents) -> Result<()> {
    let fail = |e: io::Error| BackendError::io(place_of(place, &segment.path), &e);
    let only_tail = contents.good.len() <= 1 && contents.good.first().is_none_or(|g| g.start == 0);
    if !contents.bad.is_empty() && only_tail {
        let file = OpenOptions::new().write(true).open(&segment.path).map_err(fail)?;
        file.set_len(contents.good.first().map_or(0, |g| g.end))
            .and_then(|()| file.sync_all())
            .map_err(fail)?;
    } else if !contents.bad.is_empty() {
        let bytes = fs::read(&segment.path).map_err(fail)?;
        let fresh = dir.join("being-repaired");
        let mut out = File::create(&fresh).map_err(fail)?;
        for good in &contents.good {
            out.write_all(&bytes[good.start as usize..good.end as usize]).map_err(fail)?;
        }
        out.sync_all().and_then(|()| fs::rename(&fresh, &segment.path)).map_err(fail)?;
        files::sync_folder(dir).map_err(fail)?;
    }
    match fs::remove_file(folder::damage_note(&segment.path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fail(e)),
        _ => Ok(()),
    }
}
