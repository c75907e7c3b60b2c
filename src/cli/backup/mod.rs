//! `openbell backup` and `openbell restore`: what cannot be made again, in one file.
//!
//! | in it | where from |
//! |---|---|
//! | `state.jsonl` | the journal as text: runs and their events, alerts, mails that wait, pauses, the audit |
//! | `users.json` | users and tokens, as digests |
//! | `spool/…` | everything collectors received, without their cursors |
//! | `dags/…`, `openbell.yaml` | DAG files and configuration, for whoever has no other copy; runs hold their DAG themselves |
//! | `manifest.json`, `manifest.crc32` | version, time, size and checksum of each |
//!
//! What the stores hold follows from the spool: a collector that finds no cursor forwards all of it again,
//! the sinks do the rest, and dead letters come about again. Outputs of steps, delivered mails and what steps
//! keep beside their stores are not in it.
//!
//! The journal is exported by whoever owns it, so it is consistent; spools only grow, so a copy of what was
//! there is whole up to its last record, like after a power cut.

mod archive;
mod check;
mod collect;
mod restore;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::exit::Exit;
use super::table::{columns, print, print_json};
use clock::Clock;

pub use restore::{RestoreArguments, main as restore_main};

/// Version of the file's layout; a newer program reads all older ones.
const FORMAT: u32 = 1;
/// The journal as text.
const STATE: &str = "state.jsonl";
/// Users and tokens.
const USERS: &str = "users.json";
/// The configuration.
const CONFIG: &str = "openbell.yaml";
/// What is in the file.
const MANIFEST: &str = "manifest.json";
/// The manifest's own checksum.
const MANIFEST_SUM: &str = "manifest.crc32";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  openbell backup /backups                       writes /backups/openbell-TIME.tar
  openbell backup day.tar --data /var/lib/openbell --config openbell.yaml
  openbell backup --check day.tar                is every byte as it was?
  openbell restore day.tar --data data2

It is a tar file that only its owner can read, with the journal, users and tokens, everything collectors received, DAG files and configuration.
The daemon may run meanwhile. What the stores hold is not in it: they are filled again from what was received. Real servers have backups
of their own.

Exit codes: 0 fine; 1 --check found a fault; 2 the command line was wrong; 3 a file is not usable, or the daemon does not answer.")]
pub struct Arguments {
    /// File to write, or a folder for a file named by the time
    #[arg(value_name = "FILE|DIR")]
    to: PathBuf,
    /// Check this file instead of writing it
    #[arg(long)]
    check: bool,
    /// Data folder of the daemon (running or not)
    #[arg(long, value_name = "DIR", default_value = "data", env = "OPENBELL_DATA")]
    data: PathBuf,
    /// DAG folder
    #[arg(long, value_name = "DIR", default_value = "dags")]
    dags: PathBuf,
    /// Configuration of the daemon (YAML)
    #[arg(long, value_name = "FILE", env = "OPENBELL_CONFIG")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is in a backup; `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    /// Version of the layout.
    format: u32,
    /// Version of the program.
    openbell: String,
    /// When it was made, of real time.
    at: Timestamp,
    /// The data folder it is of.
    data: PathBuf,
    /// A daemon ran meanwhile.
    running: bool,
    /// Files, in order.
    files: Vec<Entry>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    /// CRC-32 of its bytes: finds what a disk or a wire did to it, not what somebody did on purpose.
    crc32: u32,
}

/// Carries out the command.
pub fn main(arguments: Arguments) -> super::exit::Result {
    if arguments.check {
        return check_main(&arguments.to, arguments.json);
    }
    let to = if arguments.to.is_dir() {
        arguments.to.join(format!("openbell-{}.tar", Clock::system().now().strftime("%Y%m%dT%H%M%SZ")))
    } else {
        arguments.to.clone()
    };
    let manifest = super::serve::runtime()?.block_on(collect::collect(&arguments, &to))?;
    report(&to, &manifest, arguments.json)
}

fn check_main(file: &Path, as_json: bool) -> super::exit::Result {
    let checked = check::check(file)?;
    if as_json {
        print_json(
            &json!({ "file": file, "ok": checked.faults.is_empty(), "faults": checked.faults, "manifest": checked.manifest }),
        )?;
    } else if let (Some(manifest), []) = (&checked.manifest, checked.faults.as_slice()) {
        print(format!(
            "{}: {} files of {}, every byte as it was\n",
            file.display(),
            manifest.files.len(),
            manifest.at
        ))?;
    } else {
        print(
            checked.faults.iter().map(|fault| format!("{}: {fault}\n", file.display())).collect::<String>(),
        )?;
    }
    Ok(if checked.faults.is_empty() { Exit::Fine } else { Exit::Fault })
}

fn report(to: &Path, manifest: &Manifest, as_json: bool) -> super::exit::Result {
    if as_json {
        return print_json(&json!({ "file": to, "manifest": manifest })).map(|()| Exit::Fine);
    }
    let mut rows = vec![["WHAT", "FILES", "BYTES"].map(str::to_owned)];
    for (what, within) in [
        ("journal", STATE),
        ("users", USERS),
        ("received", "spool/"),
        ("DAG files", "dags/"),
        ("configuration", CONFIG),
    ] {
        let found: Vec<_> = manifest.files.iter().filter(|f| f.name.starts_with(within)).collect();
        rows.push([
            what.to_owned(),
            found.len().to_string(),
            found.iter().map(|f| f.bytes).sum::<u64>().to_string(),
        ]);
    }
    print(format!("{}\n{}", columns(&rows), format_args!("written to {}\n", to.display())))
        .map(|()| Exit::Fine)
}
