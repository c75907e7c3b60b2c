//! Addresses of the parts, and opening what they name.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::embedded::EmbeddedIndex;
use super::log::embedded::EmbeddedLog;
use super::mail::Mail;
use super::mail::folder::FolderMail;
use super::objects::folder::FolderObjects;
use super::raw::embedded::EmbeddedRaw;
use super::{BackendError, Backends, ErrorKind, Result};
use crate::config::Config;

/// A part that has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The Kafka-like log.
    Log,
    /// Raw documents.
    Raw,
    /// The search index.
    Index,
    /// Objects.
    Objects,
    /// Mail.
    Mail,
}

/// Where a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A database or log in the daemon's process, in this folder.
    Embedded(PathBuf),
    /// Plain files in this folder.
    Folder(PathBuf),
}

/// Why an address cannot be used. Never shows user names, passwords or parameters of an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A server that openbell is going to know.
    #[error("{part}: \"{address}\" names a {server} server, which this build cannot reach yet; use {works}")]
    NotInThisBuild {
        /// Whose address.
        part: Part,
        /// The address without secrets.
        address: String,
        /// What it names.
        server: &'static str,
        /// What works today.
        works: &'static str,
    },
    /// An address of another part.
    #[error("{part}: \"{address}\" is not an address for this part; use {works}")]
    WrongPart {
        /// Whose address.
        part: Part,
        /// The address without secrets.
        address: String,
        /// What works today.
        works: &'static str,
    },
    /// No address at all.
    #[error(
        "{part}: \"{address}\" is not an address: {why}; use {works} (valid schemes are embedded:, file:, kafka://, mongodb://, http://, https://, s3:// and smtp://, the last six in a later build)"
    )]
    Unknown {
        /// Whose address.
        part: Part,
        /// The address without secrets.
        address: String,
        /// What is wrong with it.
        why: &'static str,
        /// What works today.
        works: &'static str,
    },
}

impl Part {
    /// What can be written today.
    fn works(self) -> &'static str {
        match self {
            Self::Log => "embedded:PATH, for example embedded:log",
            Self::Raw => "embedded:PATH, for example embedded:raw",
            Self::Index => "embedded:PATH, for example embedded:index",
            Self::Objects => "file:PATH, for example file:objects",
            Self::Mail => "file:PATH, for example file:outbox",
        }
    }

    /// Schemes of the servers of this part.
    fn servers(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::Log => (&["kafka"], "Kafka"),
            Self::Raw => (&["mongodb", "mongodb+srv"], "MongoDB"),
            Self::Index => (&["http", "https"], "Elasticsearch"),
            Self::Objects => (&["s3"], "S3"),
            Self::Mail => (&["smtp", "smtps"], "mail"),
        }
    }
}

impl fmt::Display for Part {
    /// The key in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::Raw => "raw",
            Self::Index => "index",
            Self::Objects => "objects",
            Self::Mail => "mail",
        })
    }
}

/// Reads an address; relative paths are below `data_dir`.
///
/// # Errors
/// Says which part it is about, what is wrong and what to write instead.
pub fn parse(part: Part, text: &str, data_dir: &Path) -> Result<Address, AddressError> {
    let works = part.works();
    let unknown = |why| Err(AddressError::Unknown { part, address: without_secrets(text), why, works });
    let Some((scheme, rest)) = text.trim().split_once(':') else { return unknown("the scheme before ':' is missing") };
    let (own_servers, server) = part.servers();
    let all = [Part::Log, Part::Raw, Part::Index, Part::Objects, Part::Mail];
    match scheme {
        "embedded" | "file" if rest.is_empty() => unknown("the path after ':' is missing"),
        // The usual spelling of an absolute path is accepted; file://folder would name a host.
        "embedded" | "file" if rest.starts_with("//") && !rest.starts_with("///") => {
            unknown("a path follows ':' directly, without '//'")
        }
        "embedded" if matches!(part, Part::Log | Part::Raw | Part::Index) => Ok(Address::Embedded(data_dir.join(path(rest)))),
        "file" if matches!(part, Part::Objects | Part::Mail) => Ok(Address::Folder(data_dir.join(path(rest)))),
        own if own_servers.contains(&own) => {
            Err(AddressError::NotInThisBuild { part, address: without_secrets(text), server, works })
        }
        other if other == "embedded" || other == "file" || all.iter().any(|p| p.servers().0.contains(&other)) => {
            Err(AddressError::WrongPart { part, address: without_secrets(text), works })
        }
        _ => unknown("its scheme is not known"),
    }
}

fn path(rest: &str) -> &str {
    rest.strip_prefix("//").unwrap_or(rest)
}

/// The address without user name, password and parameters, which may hold secrets.
fn without_secrets(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match text.split_once("://") {
        Some((scheme, rest)) => {
            // A password may hold anything, so everything before the last '@' goes.
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            format!("{scheme}://{host}")
        }
        None => text.to_owned(),
    }
}

impl From<AddressError> for BackendError {
    fn from(error: AddressError) -> Self {
        Self::new(ErrorKind::Rejected, "configuration", error.to_string())
    }
}

/// Opens the stores that the configuration names, repairing what a crash left. Blocks; for the daemon alone.
///
/// # Errors
/// `Rejected` for an address that cannot be used, otherwise what opening the first failing store fails with.
pub fn open_embedded(config: &Config, data_dir: &Path) -> Result<Backends> {
    let (Address::Embedded(log) | Address::Folder(log)) = parse(Part::Log, &config.log, data_dir)?;
    let (Address::Embedded(raw) | Address::Folder(raw)) = parse(Part::Raw, &config.raw, data_dir)?;
    let (Address::Embedded(index) | Address::Folder(index)) = parse(Part::Index, &config.index, data_dir)?;
    let (Address::Embedded(objects) | Address::Folder(objects)) = parse(Part::Objects, &config.objects, data_dir)?;
    Ok(Backends {
        log: Arc::new(EmbeddedLog::open(&log)?),
        raw: Arc::new(EmbeddedRaw::open(&raw)?),
        index: Arc::new(EmbeddedIndex::open(&index)?),
        objects: Arc::new(FolderObjects::open(&objects)?),
    })
}

/// Opens the configured way of sending mail. Blocks.
///
/// # Errors
/// `Rejected` for an address that cannot be used; otherwise when the folder cannot be created.
pub fn open_mail(config: &Config, data_dir: &Path) -> Result<Arc<dyn Mail>> {
    let (Address::Embedded(folder) | Address::Folder(folder)) = parse(Part::Mail, &config.mail, data_dir)?;
    Ok(Arc::new(FolderMail::open(&folder)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(part: Part, address: &str) -> String {
        parse(part, address, Path::new("/data")).expect_err("refused").to_string()
    }

    #[test]
    fn the_defaults_and_absolute_paths_parse() {
        let at = |part, address| parse(part, address, Path::new("/data"));
        assert_eq!(at(Part::Log, "embedded:log"), Ok(Address::Embedded("/data/log".into())));
        assert_eq!(at(Part::Index, "embedded:/else/where"), Ok(Address::Embedded("/else/where".into())));
        assert_eq!(at(Part::Objects, "file:objects/a"), Ok(Address::Folder("/data/objects/a".into())));
        assert_eq!(at(Part::Mail, "file:///var/outbox"), Ok(Address::Folder("/var/outbox".into())));
    }

    #[test]
    fn servers_of_later_builds_are_named_with_what_works_today() {
        for (part, address, name) in [
            (Part::Log, "kafka://broker:9092", "Kafka"),
            (Part::Raw, "mongodb://host/db", "MongoDB"),
            (Part::Index, "https://host:9200", "Elasticsearch"),
            (Part::Objects, "s3://bucket", "S3"),
            (Part::Mail, "smtp://host:25", "mail"),
        ] {
            let error = text(part, address);
            assert!(
                error.starts_with(&format!("{part}: \"{address}\" names a {name} server")) && error.contains(part.works()),
                "{error}"
            );
        }
    }

    #[test]
    fn wrong_and_unknown_addresses_say_what_to_write() {
        assert!(text(Part::Log, "file:log").contains("not an address for this part"));
        assert!(text(Part::Objects, "embedded:objects").contains("file:PATH"));
        assert!(text(Part::Raw, "kafka://broker").contains("not an address for this part"));
        for bad in ["log", "", "redis://host", "embedded:", "embedded://host/x", "C:\\data"] {
            let error = text(Part::Log, bad);
            assert!(error.contains("embedded:PATH") && error.contains("kafka://"), "{error}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        for address in ["mongodb://user:p@ss/w?rd@host/db?authSource=hunter2", "smtp://u:hunter2@host", "weird://u:hunter2@host"]
        {
            for part in [Part::Raw, Part::Mail] {
                let error = text(part, address);
                assert!(!error.contains("hunter2") && !error.contains("p@ss"), "{error}");
            }
        }
    }

    #[test]
    fn everything_opens_below_the_data_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let config = Config::default();
        let first = open_embedded(&config, dir.path()).expect("opens");
        open_mail(&config, dir.path()).expect("opens");
        for folder in ["log", "raw", "index", "objects", "outbox"] {
            assert!(dir.path().join(folder).is_dir(), "{folder}");
        }
        let error = open_embedded(&config, dir.path()).map(drop).expect_err("open already");
        assert_eq!(error.kind, ErrorKind::Busy, "{error}");
        drop(first);
        let config = Config { raw: "mongodb://host".into(), ..config };
        assert_eq!(open_embedded(&config, dir.path()).map(drop).expect_err("refused").kind, ErrorKind::Rejected);
    }
}
