//! Watches the DAG folder: reads it anew when a file's name, size or time of change differs from the last
//! look.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::folder::{self, Folder};
use domain::program::Program;

/// Between two looks, of real time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

type Stamp = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// Sends the folder whenever it changed, until stopped.
pub async fn watch(
    dags: PathBuf,
    programs: &'static [Program],
    changed: mpsc::Sender<Folder>,
    stop: CancellationToken,
) {
    let mut seen = stamp(&dags);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now = stamp(&dags);
        if now == seen {
            continue;
        }
        match folder::read(&dags, programs) {
            Ok(folder) => {
                seen = now;
                if changed.send(folder).await.is_err() {
                    return;
                }
            }
            // The folder itself is gone or unreadable: what runs stays in force, and the next look tries
            // again.
            Err(error) => tracing::warn!(%error, "the DAG folder cannot be read; the versions in force stay"),
        }
    }
}

fn stamp(dags: &Path) -> Stamp {
    let mut all = Stamp::new();
    for dir in [dags.to_owned(), dags.join("calendars")] {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            if let Ok(meta) = entry.metadata()
                && meta.is_file()
            {
                all.insert(entry.path(), (meta.len(), meta.modified().ok()));
            }
        }
    }
    all
}
