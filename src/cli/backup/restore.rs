//! Makes a data folder out of a backup.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use serde_json::json;

use super::archive::Reader;
use super::check::{check, is_empty};
use super::{CONFIG, MANIFEST, MANIFEST_SUM, Manifest, STATE, USERS};
use crate::exit::{Exit, Failure};
use crate::table::{print, print_json};

/// Arguments of `openbell restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  openbell restore /backups/openbell-20261120T073000Z.tar --data data2
  openbell up --data data2 --dags data2/dags

The backup is checked first, and nothing is made of one that is damaged. No folder that holds something is touched.

Exit codes: 0 fine; 1 the backup is damaged; 2 the command line was wrong; 3 a file or folder is not usable.")]
pub struct RestoreArguments {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Data folder to make; it must not hold anything yet
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Carries out the command.
pub fn main(arguments: RestoreArguments) -> crate::exit::Result {
    let RestoreArguments { file, data, json: as_json } = arguments;
    let (manifest, entries) = restore(&file, &data)?;
    if as_json {
        let found = json!({ "data": data, "journal_entries": entries, "manifest": manifest });
        return print_json(&found).map(|()| Exit::Fine);
    }
    let has = |name: &str| manifest.files.iter().any(|f| f.name.starts_with(name));
    let mut command = format!("openbell up --data {}", data.display());
    if has("dags/") {
        command.push_str(&format!(" --dags {}", data.join("dags").display()));
    }
    if has(CONFIG) {
        command.push_str(&format!(" --config {}", data.join(CONFIG).display()));
    }
    let words = format!(
        "{entries} entries of the journal and {} files of {} are in {}",
        manifest.files.len() - 1,
        manifest.at,
        data.display()
    );
    print(format!("{words}\nstart it with: {command}\n")).map(|()| Exit::Fine)
}

fn at<'a>(path: &'a Path) -> impl Fn(io::Error) -> Failure + 'a {
    move |error| Failure::unusable(format!("{}: {error}", path.display()))
}

/// Makes a data folder; what was in the backup, and how many entries the journal has.
pub(super) fn restore(file: &Path, data: &Path) -> Result<(Manifest, usize), Failure> {
    if !is_empty(data).map_err(at(data))? {
        let data = data.display();
        return Err(Failure::unusable(format!(
            "{data} is not empty; a backup replaces nothing, name a new folder with --data"
        )));
    }
    let checked = check(file)?;
    let manifest = match (checked.manifest, checked.faults.first()) {
        (Some(manifest), None) => manifest,
        (_, fault) => {
            let fault = fault.map_or("it cannot be read", String::as_str);
            let file = file.display();
            return Err(Failure::fault(format!(
                "{file}: {fault}; nothing was restored, `openbell backup --check` lists every fault"
            )));
        }
    };
    private_folder(data)?;
    let mut reader = Reader::new(BufReader::new(File::open(file).map_err(at(file))?));
    while let Some(head) = reader.next().map_err(at(file))? {
        if [MANIFEST, MANIFEST_SUM].contains(&head.name.as_str()) {
            reader.content(&head, &mut io::sink()).map_err(at(file))?;
            continue;
        }
        let path = data.join(inside(&head.name)?);
        if let Some(folder) = path.parent() {
            private_folder(folder)?;
        }
        let mut to =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(at(&path))?;
        reader.content(&head, &mut to).map_err(at(&path))?;
        to.sync_all().map_err(at(&path))?;
    }
    let export = data.join(STATE);
    let entries = state::restore(&data.join("state"), &export).map_err(Failure::unusable)?;
    fs::remove_file(&export).map_err(at(&export))?;
    Ok((manifest, entries))
}

fn private_folder(folder: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))
}

/// The place of a file inside of the data folder; what would lie elsewhere is refused.
fn inside(name: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let known =
        [STATE, USERS, CONFIG].contains(&name) || name.starts_with("spool/") || name.starts_with("dags/");
    if plain && known {
        return Ok(path.to_owned());
    }
    Err(Failure::fault(format!(
        "the backup holds {name}, which belongs nowhere in a data folder; it was not made by openbell"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_beside_the_folder() {
        for name in ["state.jsonl", "users.json", "spool/day/collector/1.seg", "dags/day.yaml"] {
            assert_eq!(inside(name).expect("fine"), Path::new(name));
        }
        for name in ["/etc/passwd", "spool/../../x", "../x", "state/db", "daemon.token", "dags/./../../x", ""]
        {
            assert!(inside(name).is_err(), "{name}");
        }
    }
}
