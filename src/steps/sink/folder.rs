//! What the objects of a folder hold, read back.

use std::collections::HashSet;
use std::io::Read;

use jiff::civil::Date;
use serde::Deserialize;

use backends::objects::Objects;
use backends::{BackendError, ErrorKind, Result};

/// Keys of one list.
const PAGE: usize = 1_000;

/// The identity of a line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ObjectLine {
    /// Event id.
    pub id: String,
    /// Exchange's business date.
    pub session_date: Date,
}

/// The keys that begin with `folder`, sorted.
///
/// # Errors
/// What the store fails with.
pub async fn keys(objects: &dyn Objects, folder: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    loop {
        let keys = objects.list(folder, all.last().map(String::as_str), PAGE).await?;
        if keys.is_empty() {
            return Ok(all);
        }
        all.extend(keys);
    }
}

/// The lines of an object; none, if it is gone.
///
/// # Errors
/// `Corrupt` for an object that is not gzip JSON lines of records, and what the store fails with.
pub async fn lines(objects: &dyn Objects, key: &str) -> Result<Vec<ObjectLine>> {
    let Some(body) = objects.get(key).await? else { return Ok(Vec::new()) };
    let corrupt = |e: String| BackendError::new(ErrorKind::Corrupt, format!("object {key}"), e);
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(body.as_slice())
        .read_to_end(&mut text)
        .map_err(|e| corrupt(e.to_string()))?;
    let lines = text.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|e| corrupt(e.to_string()))).collect()
}

/// The ids of all lines in a folder.
///
/// # Errors
/// See [`lines`].
pub async fn ids(objects: &dyn Objects, folder: &str) -> Result<HashSet<String>> {
    let mut ids = HashSet::new();
    for key in keys(objects, folder).await? {
        ids.extend(lines(objects, &key).await?.into_iter().map(|line| line.id));
    }
    Ok(ids)
}
