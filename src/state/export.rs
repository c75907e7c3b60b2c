//! The plain-text copy: one JSON object a line, first a head, last the number of lines between.
//!
//! A file without its last line is not whole and is not used. Files are named by their time, so the newest
//! sorts last.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::codec::{self, Key};
use super::journal::Entry;
use super::records::StoreError;

/// Exports kept beside the newest.
const KEPT: usize = 4;

#[derive(Serialize, Deserialize)]
struct ExportLine {
    key: Key,
    version: u8,
    value: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
struct ExportHead {
    openbell: String,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct ExportTail {
    entries: usize,
}

/// Writes `entries` into `dir` and removes exports that are too old to be of use.
pub(super) fn write(dir: &Path, at: Timestamp, entries: &[Entry]) -> Result<PathBuf, StoreError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |e: std::io::Error| StoreError::Unusable { path, why: e.to_string() }
    };
    fs::create_dir_all(dir).map_err(unusable(dir))?;
    let name = format!("state-{}.jsonl", at.strftime("%Y%m%dT%H%M%S%3fZ"));
    let path = dir.join(name);
    let fresh = path.with_extension("tmp");
    let file = File::create(&fresh).map_err(unusable(&fresh))?;
    let mut file = BufWriter::new(file);
    let mut line = |value: serde_json::Result<String>| {
        let text = value.map_err(|e| StoreError::Write { why: e.to_string() })?;
        writeln!(file, "{text}").map_err(unusable(&fresh))
    };
    line(serde_json::to_string(&ExportHead { openbell: "state export".into(), at }))?;
    for (key, value) in entries {
        let unreadable = |why: String| StoreError::Unreadable { what: codec::describe(key), why };
        let known = Key::decode(key).ok_or_else(|| unreadable("its key has no known form".into()))?;
        let value =
            serde_json::from_slice(codec::body(key, value)?).map_err(|e| unreadable(e.to_string()))?;
        line(serde_json::to_string(&ExportLine { key: known, version: codec::VERSION, value }))?;
    }
    line(serde_json::to_string(&ExportTail { entries: entries.len() }))?;
    let file = file.into_inner().map_err(|e| unusable(&fresh)(e.into_error()))?;
    file.sync_all().map_err(unusable(&fresh))?;
    fs::rename(&fresh, &path).map_err(unusable(&path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(unusable(dir))?;
    let old = list(dir);
    for surplus in &old[..old.len().saturating_sub(KEPT + 1)] {
        if let Err(error) = fs::remove_file(surplus) {
            tracing::warn!(path = %surplus.display(), %error, "an old export cannot be removed");
        }
    }
    Ok(path)
}

/// All exports in `dir`, oldest first.
fn list(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    found.sort();
    found
}

/// The newest whole export in `dir`, and what it holds.
pub(super) fn newest(dir: &Path) -> Option<(PathBuf, Vec<Entry>)> {
    list(dir).into_iter().rev().find_map(|path| match read(&path) {
        Ok(entries) => Some((path, entries)),
        Err(why) => {
            tracing::warn!(path = %path.display(), why, "this export is not whole; an older one is tried");
            None
        }
    })
}

/// Reads a whole export.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut lines = BufReader::new(file).lines().enumerate();
    let (_, head) = lines.next().ok_or("it is empty")?;
    serde_json::from_str::<ExportHead>(&head.map_err(|e| e.to_string())?)
        .map_err(|e| format!("line 1: {e}"))?;
    let mut entries = Vec::new();
    for (number, text) in lines {
        let text = text.map_err(|e| e.to_string())?;
        if let Ok(tail) = serde_json::from_str::<ExportTail>(&text) {
            return if tail.entries == entries.len() { Ok(entries) } else { Err("lines are missing".into()) };
        }
        let line: ExportLine =
            serde_json::from_str(&text).map_err(|e| format!("line {}: {e}", number + 1))?;
        let key = line.key.encode();
        let mut value = vec![line.version];
        serde_json::to_writer(&mut value, &line.value).map_err(|e| e.to_string())?;
        codec::check(&key, &value).map_err(|e| format!("line {}: {e}", number + 1))?;
        entries.push((key, value));
    }
    Err("its end is missing".into())
}
