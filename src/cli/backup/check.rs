//! Whether a backup is as it was written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

use super::archive::Reader;
use super::{Entry, FORMAT, MANIFEST, MANIFEST_SUM, Manifest};
use crate::exit::Failure;

/// Largest manifest that is believed, in bytes.
const LARGEST: u64 = 256 << 20;

/// What a look at a backup found.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// What should be in it; `None` when that cannot be read.
    pub(super) manifest: Option<Manifest>,
    /// What is wrong, one line each.
    pub(super) faults: Vec<String>,
}

/// Keeps what is small enough to be a manifest, and passes over the rest.
struct Held {
    bytes: Option<Vec<u8>>,
}

impl Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(held) = &mut self.bytes {
            held.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads all of a backup.
///
/// # Errors
/// When the file cannot be opened, or a newer program wrote it.
pub(super) fn check(file: &Path) -> Result<Checked, Failure> {
    let unusable = |e: io::Error| Failure::unusable(format!("{}: {e}", file.display()));
    let mut checked = Checked::default();
    let mut found = BTreeMap::new();
    let (mut manifest, mut sum) = (Vec::new(), String::new());
    let mut reader = Reader::new(BufReader::new(File::open(file).map_err(unusable)?));
    let ended = loop {
        let head = match reader.next() {
            Ok(Some(head)) => head,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        let small = [MANIFEST, MANIFEST_SUM].contains(&head.name.as_str()) && head.bytes <= LARGEST;
        let mut held = Held { bytes: small.then(Vec::new) };
        match reader.content(&head, &mut held) {
            Ok(crc32) => match (head.name.as_str(), held.bytes) {
                (MANIFEST, Some(bytes)) => manifest = bytes,
                (MANIFEST_SUM, Some(bytes)) => sum = String::from_utf8_lossy(&bytes).trim().to_owned(),
                _ => {
                    drop(found.insert(head.name.clone(), Entry { name: head.name, bytes: head.bytes, crc32 }))
                }
            },
            Err(error) => break Err(error),
        }
    };
    if let Err(error) = ended {
        checked.faults.push(error.to_string());
    }
    if manifest.is_empty() {
        checked.faults.push(format!("it has no {MANIFEST}: it is no backup of openbell, or not a whole one"));
        return Ok(checked);
    }
    if format!("{:08x}", crc32fast::hash(&manifest)) != sum {
        checked.faults.push(format!("{MANIFEST} or its checksum is damaged"));
    }
    let manifest: Manifest = match serde_json::from_slice(&manifest) {
        Ok(manifest) => manifest,
        Err(error) => {
            checked.faults.push(format!("{MANIFEST} cannot be read: {error}"));
            return Ok(checked);
        }
    };
    if manifest.format > FORMAT {
        let (program, format) = (&manifest.openbell, manifest.format);
        let message = format!(
            "{}: openbell {program} wrote it in format {format}; this one reads up to {FORMAT}",
            file.display()
        );
        return Err(Failure::unusable(format!("{message}; take the newer version")));
    }
    checked.faults.extend(differences(&manifest, found));
    checked.manifest = Some(manifest);
    Ok(checked)
}

/// Files that are not as the manifest has them, or that it does not know.
fn differences(manifest: &Manifest, mut found: BTreeMap<String, Entry>) -> Vec<String> {
    let mut faults = Vec::new();
    for entry in &manifest.files {
        match found.remove(&entry.name) {
            None => faults.push(format!("{} is missing", entry.name)),
            Some(there) if there.bytes != entry.bytes => {
                faults.push(format!(
                    "{} has {} bytes and should have {}",
                    entry.name, there.bytes, entry.bytes
                ));
            }
            Some(there) if there.crc32 != entry.crc32 => {
                let (is, was) = (there.crc32, entry.crc32);
                faults.push(format!(
                    "{} is damaged: its checksum is {is:08x} and should be {was:08x}",
                    entry.name
                ));
            }
            Some(_) => {}
        }
    }
    faults
        .extend(found.into_keys().map(|name| format!("{name} is in it, and the manifest does not know it")));
    faults
}

/// Whether a folder holds nothing.
pub(super) fn is_empty(folder: &Path) -> io::Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
