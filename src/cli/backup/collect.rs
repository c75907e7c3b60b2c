//! Puts a backup together.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::archive::Writer;
use super::{Arguments, CONFIG, Entry, FORMAT, MANIFEST, MANIFEST_SUM, Manifest, STATE, USERS};
use crate::client::Client;
use crate::exit::Failure;
use clock::Clock;
use daemon::lock::Lock;
use files;
use state::Store;
use state::sled::Sled;

/// A file that is to be in a backup.
struct Wanted {
    name: String,
    path: PathBuf,
    /// It may be gone by the time it is read: the oldest part of a spool is removed one day.
    passing: bool,
}

fn at<'a>(path: &'a Path) -> impl Fn(io::Error) -> Failure + 'a {
    move |error| Failure::unusable(format!("{}: {error}", path.display()))
}

/// The journal as text: a file that the daemon wrote, or that is written here, with what keeps it until it is
/// copied.
struct Exported {
    file: PathBuf,
    running: bool,
    _lock: Option<Lock>,
    _folder: Option<Folder>,
}

/// A folder that is removed when it is not needed any more.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover is named by its purpose, and does no harm.
        drop(fs::remove_dir_all(&self.0));
    }
}

async fn export(data: &Path) -> Result<Exported, Failure> {
    let socket = data.join("openbell.sock");
    // A socket nobody answers was left by a daemon that died.
    if tokio::net::UnixStream::connect(&socket).await.is_ok() {
        let answer = Client::find(data)?.post_json("/api/v1/export", &json!({})).await?;
        let file = answer["file"]
            .as_str()
            .ok_or_else(|| Failure::unusable("the daemon did not say where its export is"))?;
        return Ok(Exported { file: file.into(), running: true, _lock: None, _folder: None });
    }
    let lock = Lock::take(data).map_err(Failure::unusable)?;
    let folder = Folder(data.join("backup-export"));
    let (store, _) =
        Sled::open(&data.join("state"), &data.join("state-export")).await.map_err(Failure::unusable)?;
    let file = store.export(&folder.0, Clock::system().now()).await.map_err(Failure::unusable)?;
    Ok(Exported { file, running: false, _lock: Some(lock), _folder: Some(folder) })
}

/// Files below a folder, in order of their names; links are left out.
fn below(
    folder: &Path,
    name: &str,
    wanted: &impl Fn(&str) -> bool,
    passing: bool,
    found: &mut Vec<Wanted>,
) -> Result<(), Failure> {
    let mut entries = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>().map_err(at(folder))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(folder)(error)),
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let own = entry.file_name().to_string_lossy().into_owned();
        let (path, name) = (entry.path(), format!("{name}/{own}"));
        let kind = entry.file_type().map_err(at(&path))?;
        if kind.is_dir() && !own.starts_with('.') {
            below(&path, &name, wanted, passing, found)?;
        } else if kind.is_file() && wanted(&own) {
            found.push(Wanted { name, path, passing });
        }
    }
    Ok(())
}

/// Whether a file of a spool's folder is of what was received, and not a note about how far it was forwarded:
/// a new folder has new stores.
fn received(name: &str) -> bool {
    let note = name.ends_with(".cursor") || name.ends_with(".topics");
    !note && !name.ends_with(".tmp") && name != "lock"
}

/// Writes a backup; nothing is at its place until it is whole.
pub(super) async fn collect(arguments: &Arguments, to: &Path) -> Result<Manifest, Failure> {
    let data = arguments.data.as_path();
    if !data.join("state").is_dir() {
        let data = data.display();
        return Err(Failure::unusable(format!(
            "{data} is not the data folder of a daemon; name it with --data"
        )));
    }
    let config = crate::serve::configuration(arguments.config.as_deref())?;
    if to.exists() {
        return Err(Failure::unusable(format!(
            "{} is there already; a backup replaces nothing, give another name",
            to.display()
        )));
    }
    // First the journal, then what was received: so nothing that the journal knows of is missing.
    let exported = export(data).await?;
    let mut wanted = vec![Wanted { name: STATE.into(), path: exported.file.clone(), passing: false }];
    let users = data.join(config.auth.users_path());
    if users.exists() {
        wanted.push(Wanted { name: USERS.into(), path: users, passing: false });
    }
    if let Some(config) = &arguments.config {
        wanted.push(Wanted { name: CONFIG.into(), path: config.clone(), passing: false });
    }
    below(&arguments.dags, "dags", &|name| !name.starts_with('.'), false, &mut wanted)?;
    below(&data.join("spool"), "spool", &received, true, &mut wanted)?;
    let mut manifest = Manifest {
        format: FORMAT,
        openbell: env!("CARGO_PKG_VERSION").to_owned(),
        at: Clock::system().now(),
        data: data.canonicalize().map_err(at(data))?,
        running: exported.running,
        files: Vec::new(),
    };
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = write(&part, &wanted, &mut manifest).and_then(|()| fs::rename(&part, to).map_err(at(to)));
    if let Err(failure) = written {
        // Half a backup is none.
        drop(fs::remove_file(&part));
        return Err(failure);
    }
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    files::sync_folder(parent).map_err(at(parent))?;
    drop(exported);
    Ok(manifest)
}

fn write(part: &Path, wanted: &[Wanted], manifest: &mut Manifest) -> Result<(), Failure> {
    // One that an interrupted backup left may be open to others.
    match fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(part)(error)),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part).map_err(at(part))?;
    let mut tar = Writer::new(BufWriter::new(file));
    let now = manifest.at.as_second();
    for Wanted { name, path, passing } in wanted {
        let content = match File::open(path) {
            Err(error) if *passing && error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(at(path))?,
        };
        let bytes = content.metadata().map_err(at(path))?.len();
        let crc32 = tar.file(name, bytes, now, content).map_err(at(path))?;
        manifest.files.push(Entry { name: name.clone(), bytes, crc32 });
    }
    let text = serde_json::to_vec_pretty(&manifest).map_err(Failure::fault)?;
    let sum = format!("{:08x}\n", crc32fast::hash(&text));
    tar.file(MANIFEST, text.len() as u64, now, text.as_slice()).map_err(at(part))?;
    tar.file(MANIFEST_SUM, sum.len() as u64, now, sum.as_bytes()).map_err(at(part))?;
    let mut out = tar.finish().map_err(at(part))?;
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(at(part))
}
