//! Addresses of the parts, and opening what they name.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::endpoint::{Endpoint, EndpointError};
use super::index::Index;
use super::index::elasticsearch::ElasticIndex;
use super::index::embedded::EmbeddedIndex;
use super::log::Log;
use super::log::embedded::EmbeddedLog;
use super::log::kafka::KafkaLog;
use super::mail::Mail;
use super::mail::folder::FolderMail;
use super::mail::smtp::SmtpMail;
use super::objects::folder::FolderObjects;
use super::objects::s3::S3Objects;
use super::raw::embedded::EmbeddedRaw;
use super::raw::mongodb::MongoRaw;
use super::{BackendError, Backends, ErrorKind, Result, index, log, socket};
use config::Config;

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
    /// A server, and the prefix of all names on it.
    Server(Endpoint),
}

/// Why an address cannot be used. Never shows user names, passwords or parameters of an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A server's address that is not one.
    #[error("{part}: \"{address}\": {error}")]
    Server {
        /// Whose address.
        part: Part,
        /// The address without secrets.
        address: String,
        /// What is wrong with it.
        error: EndpointError,
    },
    /// An address of another part.
    #[error("{part}: \"{address}\" is not an address for this part; use {works}")]
    WrongPart {
        /// Whose address.
        part: Part,
        /// The address without secrets.
        address: String,
        /// What can be written.
        works: &'static str,
    },
    /// No address at all.
    #[error("{part}: \"{address}\" is not an address: {why}; use {works}")]
    Unknown {
        /// Whose address.
        part: Part,
        /// The address without secrets.
        address: String,
        /// What is wrong with it.
        why: &'static str,
        /// What can be written.
        works: &'static str,
    },
}

impl Part {
    /// What can be written.
    fn works(self) -> &'static str {
        match self {
            Self::Log => "embedded:PATH, for example embedded:log, or kafka://HOST:PORT",
            Self::Raw => "embedded:PATH, for example embedded:raw, or mongodb://HOST:PORT/DATABASE",
            Self::Index => {
                "embedded:PATH, for example embedded:index, or http://HOST:PORT (https://) of Elasticsearch or OpenSearch"
            }
            Self::Objects => "file:PATH, for example file:objects, or s3://BUCKET/PREFIX?region=REGION",
            Self::Mail => "file:PATH, for example file:outbox, or smtp://HOST:PORT (smtps://)",
        }
    }

    /// Schemes of the servers of this part.
    fn servers(self) -> &'static [&'static str] {
        match self {
            Self::Log => &["kafka"],
            Self::Raw => &["mongodb", "mongodb+srv"],
            Self::Index => &["http", "https"],
            Self::Objects => &["s3"],
            Self::Mail => &["smtp", "smtps"],
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
    let Some((scheme, rest)) = text.trim().split_once(':') else {
        return unknown("the scheme before ':' is missing");
    };
    let all = [Part::Log, Part::Raw, Part::Index, Part::Objects, Part::Mail];
    match scheme {
        "embedded" | "file" if rest.is_empty() => unknown("the path after ':' is missing"),
        // The usual spelling of an absolute path is accepted; file://folder would name a host.
        "embedded" | "file" if rest.starts_with("//") && !rest.starts_with("///") => {
            unknown("a path follows ':' directly, without '//'")
        }
        "embedded" if matches!(part, Part::Log | Part::Raw | Part::Index) => {
            Ok(Address::Embedded(data_dir.join(path(rest))))
        }
        "file" if matches!(part, Part::Objects | Part::Mail) => {
            Ok(Address::Folder(data_dir.join(path(rest))))
        }
        own if part.servers().contains(&own) => Endpoint::parse(text)
            .map(Address::Server)
            .map_err(|error| AddressError::Server { part, address: without_secrets(text), error }),
        other
            if other == "embedded" || other == "file" || all.iter().any(|p| p.servers().contains(&other)) =>
        {
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

/// Opens the stores that the configuration names, repairing what a crash left in embedded ones. Blocks;
/// servers are not asked yet. For the daemon alone.
///
/// # Errors
/// `Rejected` for an address that cannot be used, otherwise what opening the first failing store fails with.
pub fn open(config: &Config, data_dir: &Path) -> Result<Backends> {
    Ok(Backends {
        log: match parse(Part::Log, &config.log, data_dir)? {
            Address::Server(endpoint) => server_log(&endpoint)?,
            Address::Embedded(folder) | Address::Folder(folder) => Arc::new(EmbeddedLog::open(&folder)?),
        },
        raw: match parse(Part::Raw, &config.raw, data_dir)? {
            Address::Server(endpoint) => Arc::new(MongoRaw::connect(&endpoint)?),
            Address::Embedded(folder) | Address::Folder(folder) => Arc::new(EmbeddedRaw::open(&folder)?),
        },
        index: match parse(Part::Index, &config.index, data_dir)? {
            Address::Server(endpoint) => server_index(&endpoint)?,
            Address::Embedded(folder) | Address::Folder(folder) => Arc::new(EmbeddedIndex::open(&folder)?),
        },
        objects: match parse(Part::Objects, &config.objects, data_dir)? {
            Address::Server(endpoint) => Arc::new(S3Objects::connect(&endpoint)?),
            Address::Embedded(folder) | Address::Folder(folder) => Arc::new(FolderObjects::open(&folder)?),
        },
    })
}

/// The stores as a step outside of the daemon reaches them: servers by themselves, embedded ones through the
/// daemon's socket.
///
/// # Errors
/// `Rejected` for an address that cannot be used.
pub fn open_beside_the_daemon(config: &Config, socket: &Path, data_dir: &Path) -> Result<Backends> {
    let mut backends = socket::connect(socket);
    if let Address::Server(endpoint) = parse(Part::Log, &config.log, data_dir)? {
        backends.log = server_log(&endpoint)?;
    }
    if let Address::Server(endpoint) = parse(Part::Raw, &config.raw, data_dir)? {
        backends.raw = Arc::new(MongoRaw::connect(&endpoint)?);
    }
    if let Address::Server(endpoint) = parse(Part::Index, &config.index, data_dir)? {
        backends.index = server_index(&endpoint)?;
    }
    if let Address::Server(endpoint) = parse(Part::Objects, &config.objects, data_dir)? {
        backends.objects = Arc::new(S3Objects::connect(&endpoint)?);
    }
    Ok(backends)
}

/// Takes `prefix=` out of an address: all names on the server begin with it.
fn shared(endpoint: &Endpoint) -> (Endpoint, String) {
    let mut endpoint = endpoint.clone();
    let prefix = endpoint.take("prefix").unwrap_or_default();
    (endpoint, prefix)
}

fn server_log(endpoint: &Endpoint) -> Result<Arc<dyn Log>> {
    let (endpoint, prefix) = shared(endpoint);
    Ok(log::prefixed::Prefixed::narrow(Arc::new(KafkaLog::connect(&endpoint)?), &prefix))
}

fn server_index(endpoint: &Endpoint) -> Result<Arc<dyn Index>> {
    let (endpoint, prefix) = shared(endpoint);
    Ok(index::prefixed::Prefixed::narrow(Arc::new(ElasticIndex::connect(&endpoint)?), &prefix))
}

/// Opens the configured way of sending mail. Blocks; a server is not asked yet.
///
/// # Errors
/// `Rejected` for an address that cannot be used; otherwise when the folder cannot be created.
pub fn open_mail(config: &Config, data_dir: &Path) -> Result<Arc<dyn Mail>> {
    Ok(match parse(Part::Mail, &config.mail, data_dir)? {
        Address::Server(endpoint) => Arc::new(SmtpMail::connect(&endpoint)?),
        Address::Embedded(folder) | Address::Folder(folder) => Arc::new(FolderMail::open(&folder)?),
    })
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
    fn servers_are_named_by_their_schemes() {
        for (part, address) in [
            (Part::Log, "kafka://broker:9092"),
            (Part::Raw, "mongodb://host/db"),
            (Part::Index, "https://host:9200"),
            (Part::Objects, "s3://bucket"),
            (Part::Mail, "smtp://host:25"),
        ] {
            let server = parse(part, address, Path::new("/data")).expect("fine");
            assert!(
                matches!(&server, Address::Server(endpoint) if endpoint.to_string() == address),
                "{server:?}"
            );
        }
        assert!(text(Part::Log, "kafka://").contains("a host is missing"));
    }

    #[test]
    fn a_prefix_is_not_the_servers_business() {
        let endpoint = Endpoint::parse("kafka://a:1?prefix=demo.&replication=3").expect("fine");
        let (endpoint, prefix) = shared(&endpoint);
        assert_eq!((prefix.as_str(), endpoint.only(&["replication"])), ("demo.", Ok(())));
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
        for address in [
            "mongodb://user:p@ss/w?rd@host/db?authSource=hunter2",
            "smtp://u:hunter2@host",
            "weird://u:hunter2@host",
        ] {
            for part in [Part::Log, Part::Index] {
                let error = text(part, address);
                assert!(!error.contains("hunter2") && !error.contains("p@ss"), "{error}");
            }
        }
    }

    #[test]
    fn everything_opens_below_the_data_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let config = Config::default();
        let first = open(&config, dir.path()).expect("opens");
        open_mail(&config, dir.path()).expect("opens");
        for folder in ["log", "raw", "index", "objects", "outbox"] {
            assert!(dir.path().join(folder).is_dir(), "{folder}");
        }
        let error = open(&config, dir.path()).map(drop).expect_err("open already");
        assert_eq!(error.kind, ErrorKind::Busy, "{error}");
        drop(first);
        let config = Config { raw: "kafka://host".into(), ..config };
        assert_eq!(open(&config, dir.path()).map(drop).expect_err("refused").kind, ErrorKind::Rejected);
    }
}
