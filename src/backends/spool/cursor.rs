//! The small files of a spool: its id and the cursors of those who forward it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::place;
use crate::{BackendError, ErrorKind, Result};
use files;

/// The spool's id, without opening it for writing; `None` if there is no spool.
pub fn id(dir: &Path) -> Result<Option<String>> {
    let path = dir.join("spool.id");
    match fs::read_to_string(&path) {
        Ok(text) if is_id(text.trim_end()) => Ok(Some(text.trim_end().to_owned())),
        Ok(_) => {
            let place = format!("{} file {}", place(dir), path.display());
            Err(BackendError::new(ErrorKind::Corrupt, place, "is not a spool id").remedy(
                "move the file away: a new id is made then, and everything in the spool is sent once more; the stores fold the repeats",
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BackendError::io(place(dir), &error)),
    }
}

/// The id of the spool, made now if it has none.
pub(super) fn id_or_new(dir: &Path) -> Result<String> {
    if let Some(id) = id(dir)? {
        return Ok(id);
    }
    let id = format!("{:016x}", fastrand::u64(..));
    files::replace(&dir.join("spool.id"), format!("{id}\n").as_bytes())
        .map_err(|e| BackendError::io(place(dir), &e))?;
    Ok(id)
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric())
}

/// A cursor file: the next sequence number to forward, replaced atomically. `None` if it was never stored.
///
/// # Errors
/// `Corrupt` for a file that is no cursor.
pub fn load_cursor(dir: &Path, name: &str) -> Result<Option<u64>> {
    let path = cursor_path(dir, name)?;
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BackendError::io(cursor_place(&path), &error)),
    };
    let parsed = text.trim_end().split_once(' ').and_then(|(next, crc)| {
        let matches = u32::from_str_radix(crc, 16).ok()? == crc32fast::hash(next.as_bytes());
        next.parse().ok().filter(|_| matches)
    });
    parsed.map(Some).ok_or_else(|| {
        BackendError::new(ErrorKind::Corrupt, cursor_place(&path), "is not a cursor")
            .remedy("move the file away: forwarding begins at the spool's start then, and the stores fold the repeats")
    })
}

/// See [`load_cursor`].
pub fn store_cursor(dir: &Path, name: &str, next: u64) -> Result<()> {
    let path = cursor_path(dir, name)?;
    let next = next.to_string();
    let text = format!("{next} {:08x}\n", crc32fast::hash(next.as_bytes()));
    files::create_folders(dir)
        .and_then(|()| files::replace(&path, text.as_bytes()))
        .map_err(|e| BackendError::io(cursor_place(&path), &e))
}

fn cursor_place(path: &Path) -> String {
    format!("spool cursor {}", path.display())
}

fn cursor_path(dir: &Path, name: &str) -> Result<PathBuf> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        let message = format!("\"{name}\" is not a cursor name");
        return Err(BackendError::new(ErrorKind::Rejected, place(dir), message)
            .remedy("use letters, digits, '-' and '_'"));
    }
    Ok(dir.join(format!("{name}.cursor")))
}
