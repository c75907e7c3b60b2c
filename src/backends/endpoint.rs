//! Addresses of servers: `scheme://[user[:password]@]host[:port][,host[:port]…][/path][?name=value&…]`.
//!
//! Every server takes the parameters `user`, `password` and `ca`, the rest belongs to its kind. A password is
//! a reference, `env:NAME` or `file:PATH`, so that a configuration file holds none; one in clear is accepted
//! where a test needs it. Values are percent-decoded. What is read here is never shown again but for scheme,
//! hosts and path.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// Where a server is, and how it is talked to.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// In lower case, as written: `kafka`, `mongodb`, `mongodb+srv`, `http`, `https`, `s3`, `smtp`, `smtps`,
    /// …
    pub scheme: String,
    /// `host` or `host:port`, in the order written; never empty.
    pub hosts: Vec<String>,
    /// What follows the hosts, without its first `/`; may be empty.
    pub path: String,
    /// Who signs in.
    pub user: Option<String>,
    /// With what, not resolved yet.
    password: Option<String>,
    /// File with the certificates (PEM) of the authorities to trust, besides or instead of the usual ones.
    pub ca: Option<PathBuf>,
    /// The other parameters.
    parameters: BTreeMap<String, String>,
}

/// Why an address of a server cannot be used. Never shows values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not the shape.
    #[error("{0}")]
    Shape(String),
    /// A parameter that this kind of server does not have.
    #[error("there is no parameter \"{name}\" for {scheme}: addresses; it takes {known}")]
    Unknown {
        /// The parameter.
        name: String,
        /// The scheme.
        scheme: String,
        /// What may be written.
        known: String,
    },
    /// A parameter whose value is not one.
    #[error("parameter \"{name}\": {why}")]
    Value {
        /// The parameter.
        name: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
    /// A reference that leads nowhere.
    #[error("the password is a reference to {reference}, which {why}")]
    Secret {
        /// `env:NAME` or `file:PATH`.
        reference: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Endpoint {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with its shape. Which parameters there are is checked by [`only`](Self::only).
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let shape = |why: &str| EndpointError::Shape(why.to_owned());
        let (scheme, rest) =
            text.trim().split_once("://").ok_or_else(|| shape("\"://\" after the scheme is missing"))?;
        let rest = rest.split('#').next().unwrap_or_default();
        // A password in clear may hold '/' and '?': the hosts begin behind the last '@' that is not part of a
        // parameter.
        let (before, query) = match rest.rsplit_once('@') {
            Some((user, behind)) if !user.contains("?") || behind.contains('?') => {
                match behind.split_once('?') {
                    Some((hosts, query)) => (format!("{user}@{hosts}"), query),
                    None => (rest.to_owned(), ""),
                }
            }
            _ => match rest.split_once('?') {
                Some((before, query)) => (before.to_owned(), query),
                None => (rest.to_owned(), ""),
            },
        };
        let (credentials, place) = match before.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, before.as_str()),
        };
        let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
        let hosts: Vec<String> = hosts.split(',').map(str::trim).map(str::to_owned).collect();
        if hosts.iter().any(|h| h.is_empty() || h.starts_with(':')) {
            return Err(shape("a host is missing"));
        }
        let mut parameters = BTreeMap::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| shape("a parameter is written name=value"))?;
            let (name, value) = (decoded(name)?, decoded(value)?);
            if parameters.insert(name.clone(), value).is_some() {
                return Err(EndpointError::Value { name, why: "it is there twice".into() });
            }
        }
        let (mut user, mut password) =
            match credentials.map(|c| c.split_once(':').map_or((c, None), |(u, p)| (u, Some(p)))) {
                Some((user, password)) => (Some(decoded(user)?), password.map(decoded).transpose()?),
                None => (None, None),
            };
        user = parameters.remove("user").or(user);
        password = parameters.remove("password").or(password);
        let ca = parameters.remove("ca").map(PathBuf::from);
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            hosts,
            path: decoded(path)?,
            user,
            password,
            ca,
            parameters,
        })
    }

    /// Checks that no other parameters than these were written.
    ///
    /// # Errors
    /// The first other one.
    pub fn only(&self, known: &[&str]) -> Result<(), EndpointError> {
        match self.parameters.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(EndpointError::Unknown {
                name: name.clone(),
                scheme: self.scheme.clone(),
                known: [&["user", "password", "ca"], known].concat().join(", "),
            }),
        }
    }

    /// Takes a parameter out, for whoever stands before the server's own client.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.parameters.remove(name)
    }

    /// A parameter as written.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The parameters but `user`, `password` and `ca`, for a client that reads its own.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A switch: `true` or `false`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn switch(&self, name: &str, default: bool) -> Result<bool, EndpointError> {
        match self.text(name) {
            None => Ok(default),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => Err(EndpointError::Value { name: name.to_owned(), why: "write true or false".into() }),
        }
    }

    /// A whole number from 1 on.
    ///
    /// # Errors
    /// When it is none.
    pub fn number(&self, name: &str, default: u32) -> Result<u32, EndpointError> {
        match self.text(name).map(str::parse) {
            None => Ok(default),
            Some(Ok(number)) if number > 0 => Ok(number),
            Some(_) => Err(EndpointError::Value {
                name: name.to_owned(),
                why: "write a whole number from 1 on".into(),
            }),
        }
    }

    /// The password, read from where it is kept. Read anew at every call, so that a rotated one is found.
    ///
    /// # Errors
    /// When the reference leads nowhere.
    pub fn password(&self) -> Result<Option<String>, EndpointError> {
        let Some(written) = &self.password else { return Ok(None) };
        let broken = |why: String| EndpointError::Secret { reference: written.clone(), why };
        if let Some(name) = written.strip_prefix("env:") {
            return config::variable(name)
                .map(Some)
                .ok_or_else(|| broken("is not set in the daemon's environment".into()));
        }
        if let Some(path) = written.strip_prefix("file:") {
            let text =
                std::fs::read_to_string(path).map_err(|error| broken(format!("cannot be read: {error}")))?;
            return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        Ok(Some(written.clone()))
    }

    /// The first host's name, without its port.
    pub fn host(&self) -> &str {
        split_port(&self.hosts[0]).0
    }

    /// The first host's port.
    ///
    /// # Errors
    /// When what is written is not a port.
    pub fn port(&self) -> Result<Option<u16>, EndpointError> {
        let port = split_port(&self.hosts[0]).1;
        port.map(|p| p.parse().map_err(|_| EndpointError::Shape(format!("\"{p}\" is not a port"))))
            .transpose()
    }
}

/// Splits `host:port`; the colons of an IPv6 address in brackets are part of it.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

fn decoded(text: &str) -> Result<String, EndpointError> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| EndpointError::Shape("it is not UTF-8 after percent-decoding".into()))
}

impl fmt::Display for Endpoint {
    /// Without user, password and parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.hosts.join(","))?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read() {
        let all =
            Endpoint::parse("kafka://a:1,b:2/x/y?user=me&password=file:/run/secret&ca=/ca.pem&acks=all%20")
                .expect("fine");
        assert_eq!(
            (all.scheme.as_str(), all.path.as_str(), all.user.as_deref()),
            ("kafka", "x/y", Some("me"))
        );
        assert_eq!(all.hosts, ["a:1", "b:2"]);
        assert_eq!((all.host(), all.port()), ("a", Ok(Some(1))));
        assert_eq!(all.text("acks"), Some("all "));
        assert_eq!(all.ca, Some(PathBuf::from("/ca.pem")));
        assert_eq!(Endpoint::parse("s3://bucket").expect("fine").port(), Ok(None));
        assert_eq!(Endpoint::parse("smtp://[::1]:25").expect("fine").port(), Ok(Some(25)));
        assert_eq!(Endpoint::parse("smtp://[::1]").expect("fine").port(), Ok(None));
    }

    #[test]
    fn a_password_is_resolved_and_never_shown() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("secret");
        std::fs::write(&file, "hunter2\n").expect("written");
        let kept =
            Endpoint::parse(&format!("smtp://h?user=u&password=file:{}", file.display())).expect("fine");
        assert_eq!(kept.password(), Ok(Some("hunter2".into())));
        let clear = Endpoint::parse("mongodb://u:p%40ss?w/d@host/db?x=1").expect("fine");
        assert_eq!(clear.password(), Ok(Some("p@ss?w/d".into())));
        assert_eq!((clear.hosts.as_slice(), clear.path.as_str()), (["host".to_owned()].as_slice(), "db"));
        assert_eq!(format!("{clear} {clear:?}"), "mongodb://host/db Endpoint(mongodb://host/db)");
        let gone =
            Endpoint::parse("smtp://h?password=env:OPENBELL_NO_SUCH_VARIABLE").expect("fine").password();
        assert!(gone.expect_err("not set").to_string().contains("env:OPENBELL_NO_SUCH_VARIABLE"));
    }

    #[test]
    fn faults_are_named() {
        for (bad, why) in
            [("host", "://"), ("smtp://", "host"), ("smtp://:25", "host"), ("smtp://h?x", "name=value")]
        {
            assert!(Endpoint::parse(bad).expect_err(bad).to_string().contains(why), "{bad}");
        }
        let endpoint = Endpoint::parse("smtp://h?tsl=none&n=0").expect("fine");
        assert!(endpoint.only(&["tls"]).expect_err("unknown").to_string().contains("\"n\""));
        assert!(endpoint.number("n", 1).is_err() && endpoint.switch("n", true) == Ok(false));
    }
}
