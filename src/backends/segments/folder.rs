//! The files of a segment folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{BackendError, Result};

/// A segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// No frame in it has a lower number.
    pub(crate) first: u64,
    /// Where it is.
    pub(crate) path: PathBuf,
}

/// Name of the segment whose first frame has this number.
pub(crate) fn name(first: u64) -> String {
    format!("{first:020}.seg")
}

/// The note that a reader met damage in this segment.
pub(crate) fn damage_note(segment: &Path) -> PathBuf {
    segment.with_extension("seg.damaged")
}

/// All segments in order; a missing folder has none.
pub(crate) fn list(folder: &Path, place: &str) -> Result<Vec<Segment>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BackendError::io(place, &error)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| BackendError::io(place, &e))?.path();
        let digits = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".seg"));
        if let Some(first) = digits.filter(|d| d.len() == 20).and_then(|d| d.parse().ok()) {
            segments.push(Segment { first, path });
        }
    }
    segments.sort_by_key(|s| s.first);
    Ok(segments)
}

/// Names a file for an error.
pub(crate) fn place_of(place: &str, path: &Path) -> String {
    format!("{place} file {}", path.display())
}

/// Removes, oldest first, segments that hold nothing but frames numbered below `before`, as long as `agree`
/// says yes to the segment that follows each. The newest stays whatever it holds: its name remembers which
/// numbers are spent.
pub(crate) fn prune(
    folder: &Path,
    place: &str,
    before: u64,
    mut agree: impl FnMut(&Segment) -> Result<bool>,
) -> Result<usize> {
    let segments = list(folder, place)?;
    let mut removed = 0;
    for pair in segments.windows(2) {
        if pair[1].first > before || !agree(&pair[1])? {
            break;
        }
        fs::remove_file(&pair[0].path).map_err(|e| BackendError::io(place_of(place, &pair[0].path), &e))?;
        match fs::remove_file(damage_note(&pair[0].path)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(BackendError::io(place_of(place, &pair[0].path), &e));
            }
            _ => removed += 1,
        }
    }
    Ok(removed)
}
