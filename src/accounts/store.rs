//! The users file on disk: read when it changed, and changed by one at a time.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::Accounts;

/// The use of a token is noted again after this long.
const NOTED_FOR: SignedDuration = SignedDuration::from_secs(60);

/// Reads the users; `None` if there is no file.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn read(path: &Path) -> Result<Option<Accounts>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Accounts::parse(&text).map(Some).map_err(|why| format!("{}: {why}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}; give this user the right to read it", path.display())),
    }
}

/// Changes the users, or makes the file. Only its owner may read it, and whoever reads it meanwhile finds the
/// old users or the new ones.
///
/// # Errors
/// A file that cannot be read, locked or written, or what the change was refused with.
pub fn edit<T>(path: &Path, change: impl FnOnce(&mut Accounts) -> Result<T, String>) -> Result<T, String> {
    let failed =
        |error: io::Error| format!("{}: {error}; give this user the right to write there", path.display());
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        files::create_folders(folder).map_err(failed)?;
    }
    let lock = beside(path, ".lock");
    let _held = files::lock(&lock)
        .map_err(failed)?
        .ok_or_else(|| format!("{} is being changed by somebody else; try again", path.display()))?;
    let mut accounts = read(path)?.unwrap_or_default();
    let done = change(&mut accounts)?;
    files::replace_private(path, accounts.text().as_bytes()).map_err(failed)?;
    Ok(done)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// What tells one state of a file from another.
type Stamp = (u64, i64, i64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let it = std::fs::metadata(path).ok()?;
    Some((it.ino(), it.mtime(), it.mtime_nsec(), it.len()))
}

/// The users as the running site knows them.
pub struct Source {
    path: PathBuf,
    known: Mutex<(Option<Stamp>, Option<Arc<Accounts>>)>,
}

impl Source {
    /// The users of a file, or of none.
    ///
    /// # Errors
    /// As [`read`].
    pub fn open(path: PathBuf) -> Result<Self, String> {
        let at = stamp(&path);
        let accounts = read(&path)?.map(Arc::new);
        Ok(Self { path, known: Mutex::new((at, accounts)) })
    }

    /// Where they are kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The users now; `None` while there never was a file. Once there was one, somebody has to log in until
    /// the daemon ends: a file that is gone or broken leaves the last good users in force.
    pub fn now(&self) -> Option<Arc<Accounts>> {
        let at = stamp(&self.path);
        let mut known = self.known.lock();
        if known.0 != at {
            known.0 = at;
            match read(&self.path) {
                Ok(Some(accounts)) => known.1 = Some(Arc::new(accounts)),
                Ok(None) if known.1.is_none() => {}
                Ok(None) => {
                    tracing::warn!(file = %self.path.display(), "the file of users is gone; those it had still count until the daemon ends")
                }
                Err(error) if known.1.is_none() => {
                    // Somebody means to have users: nobody gets in until they are readable.
                    tracing::error!(%error, "the file of users cannot be used; nobody can log in");
                    known.1 = Some(Arc::default());
                }
                Err(error) => {
                    tracing::error!(%error, "the file of users cannot be used; those it had before still count")
                }
            }
        }
        known.1.clone()
    }
}

/// When tokens were last used, in a file of its own, so that the users file is written by people only.
pub struct Used {
    path: PathBuf,
    times: Mutex<BTreeMap<String, Timestamp>>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    used: BTreeMap<String, Timestamp>,
}

/// The file with the last uses of the tokens of a users file.
fn used_path(users: &Path) -> PathBuf {
    beside(users, ".used")
}

/// When tokens were last used, by id. Nothing depends on it, so a file that cannot be read counts as none.
pub fn last_used(users: &Path) -> BTreeMap<String, Timestamp> {
    let text = std::fs::read_to_string(used_path(users)).unwrap_or_default();
    serde_json::from_str::<Written>(&text).map(|written| written.used).unwrap_or_default()
}

impl Used {
    /// The last uses of the tokens of a users file.
    pub fn of(users: &Path) -> Self {
        Self { path: used_path(users), times: Mutex::new(last_used(users)) }
    }

    /// Whether a use has to be written down; then it counts as written.
    pub fn note(&self, id: &str, now: Timestamp) -> bool {
        let mut times = self.times.lock();
        let due = times.get(id).is_none_or(|at| now.duration_since(*at) >= NOTED_FOR);
        if due {
            times.insert(id.to_owned(), now);
        }
        due
    }

    /// Writes the times down; those of tokens that are no more are dropped.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, accounts: &Accounts) -> io::Result<()> {
        // Held while writing: the file has one writer at a time.
        let mut times = self.times.lock();
        times.retain(|id, _| accounts.tokens.iter().any(|t| t.id == *id));
        files::replace_private(
            &self.path,
            &serde_json::to_vec_pretty(&Written { version: 1, used: times.clone() })?,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{Role, password};

    fn add(path: &Path, name: &str) {
        edit(path, |all| {
            all.add_user(name, Role::Viewer, password::NOBODY.to_owned(), Timestamp::UNIX_EPOCH)
        })
        .expect("added");
    }

    #[test]
    fn only_the_owner_reads_the_file_and_a_refused_change_leaves_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("new/users.json");
        // What a crash may have left.
        std::fs::create_dir(dir.path().join("new")).expect("a folder");
        std::fs::write(dir.path().join("new/users.json.tmp"), "half").expect("written");
        add(&path, "ann");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let before = std::fs::read(&path).expect("read");
        assert!(edit(&path, |all| all.remove_user("bob")).is_err());
        assert_eq!(std::fs::read(&path).expect("read"), before);
    }

    #[test]
    fn a_change_is_seen_and_a_lost_or_broken_file_opens_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("users.json");
        let source = Source::open(path.clone()).expect("no file is fine");
        assert!(source.now().is_none());
        add(&path, "ann");
        assert_eq!(source.now().expect("users").users.len(), 1);
        add(&path, "bob");
        assert_eq!(source.now().expect("users").users.len(), 2);
        std::fs::write(&path, "{").expect("written");
        assert_eq!(source.now().expect("the last good ones").users.len(), 2);
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(source.now().expect("the last good ones").users.len(), 2);
        std::fs::write(&path, "{").expect("written");
        assert!(Source::open(path.clone()).is_err());
        std::fs::remove_file(&path).expect("removed");
        let fresh = Source::open(path.clone()).expect("no file");
        std::fs::write(&path, "{").expect("written");
        assert!(fresh.now().expect("closed").is_empty());
    }

    #[test]
    fn uses_are_noted_once_a_minute_and_survive() {
        let dir = tempfile::tempdir().expect("a folder");
        let users = dir.path().join("users.json");
        let used = Used::of(&users);
        let at = |s| Timestamp::from_second(s).expect("a time");
        assert!(used.note("a", at(100)) && !used.note("a", at(159)) && used.note("a", at(160)));
        used.write(&Accounts::default()).expect("written");
        assert!(last_used(&users).is_empty(), "the token is no more");
        let token = crate::Token {
            id: "a".into(),
            name: "a".into(),
            role: Role::Viewer,
            digest: String::new(),
            created_at: at(1),
            expires_at: None,
        };
        assert!(used.note("a", at(300)));
        let mut accounts = Accounts::default();
        accounts.add_token(token).expect("added");
        used.write(&accounts).expect("written");
        assert_eq!(last_used(&users)["a"], at(300));
    }
}
