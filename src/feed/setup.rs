//! What a session is made from: a step's parameters and secrets, and the configuration's addresses.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value};

use super::{FEEDS, Feed, SecretName};
use domain::parameters::{self, ParameterError};

/// Where a feed is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Its key in the configuration: `feeds: { name: { key: URL } }`.
    pub key: &'static str,
    /// The feed's real server.
    pub default: &'static str,
    /// What it is for, in one line.
    pub help: &'static str,
}

/// Addresses of feeds as the configuration gives them: name → key → URL.
pub type Configured = BTreeMap<String, BTreeMap<String, String>>;

/// A feed's addresses by key: the configuration's, or else its own.
pub fn addresses(feed: &dyn Feed, configured: &Configured) -> BTreeMap<String, String> {
    let given = |key: &str| configured.get(feed.name()).and_then(|keys| keys.get(key));
    let url = |address: &Address| given(address.key).map_or(address.default, String::as_str).to_owned();
    feed.addresses().iter().map(|address| (address.key.to_owned(), url(address))).collect()
}

/// Refuses feeds and keys that there are not.
///
/// # Errors
/// The first of them, and what to write instead.
pub fn check_addresses(configured: &Configured) -> Result<(), String> {
    let listed = |names: &mut dyn Iterator<Item = &'static str>| names.collect::<Vec<_>>().join(", ");
    for (name, keys) in configured {
        let Some(feed) = FEEDS.iter().find(|feed| feed.name() == name) else {
            let there = listed(&mut FEEDS.iter().map(|feed| feed.name()));
            return Err(format!("feeds.{name}: there is no feed \"{name}\"; there are {there}"));
        };
        if let Some(key) = keys.keys().find(|key| feed.addresses().iter().all(|a| a.key != **key)) {
            let there = listed(&mut feed.addresses().iter().map(|a| a.key));
            return Err(format!("feeds.{name}.{key}: the feed has no such address; write {there}"));
        }
    }
    Ok(())
}

/// What a session is made from.
pub struct Setup<'a> {
    /// The step's parameters.
    pub with: Parameters<'a>,
    /// Resolved secrets, by their names in the DAG file.
    pub secrets: BTreeMap<&'a str, &'a str>,
    /// Addresses, by key: the configuration's, or the feed's own.
    pub addresses: BTreeMap<String, String>,
    /// How much faster than real time the clock runs; waits for answers of servers keep some real time.
    pub speed: f64,
    /// The day that the step's run is about.
    pub session_date: Date,
    /// Spreads the session's waits; any number that differs between collectors.
    pub seed: u64,
    /// Now.
    pub now: Timestamp,
}

/// Why a session cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetupError {
    /// A parameter is missing or wrong.
    Parameter {
        /// Which, under `with:`.
        name: String,
        /// What is wrong and what to write.
        why: String,
    },
    /// A secret is missing or unusable.
    Secret {
        /// Which, under `secrets:`.
        name: String,
        /// What is wrong and what to do.
        why: String,
    },
}

impl From<ParameterError> for SetupError {
    fn from(error: ParameterError) -> Self {
        Self::Parameter { name: error.name, why: error.why }
    }
}

impl Setup<'_> {
    /// A secret that the session cannot do without.
    ///
    /// # Errors
    /// When it is not given, empty, or holds a control character.
    pub fn secret(&self, secret: &SecretName) -> Result<&str, SetupError> {
        let fail = |why: String| Err(SetupError::Secret { name: secret.name.to_owned(), why });
        match self.secrets.get(secret.name) {
            Some(value) if value.trim().is_empty() => {
                fail("it is empty; put the value you were given there".into())
            }
            Some(value) if value.chars().any(char::is_control) => {
                fail("it holds a line break or another control character; keep the value alone there".into())
            }
            Some(value) => Ok(value),
            None => {
                fail(format!("it is needed; write secrets: {{ {}: env:{} }}", secret.name, secret.variable))
            }
        }
    }

    /// An address; empty when the feed has no such key.
    pub fn address(&self, key: &str) -> &str {
        self.addresses.get(key).map_or("", String::as_str)
    }
}

/// A step's parameters, read by what the feed says of them; every refusal names the parameter and what to
/// write instead.
#[derive(Clone, Copy)]
pub struct Parameters<'a> {
    with: parameters::Parameters<'a>,
    given: &'a Map<String, Value>,
    /// Reads a text file whose path is relative to the DAG folder; or says which file and what is wrong.
    file: &'a dyn Fn(&str) -> Result<String, String>,
}

impl<'a> Parameters<'a> {
    /// The parameters of a step that collects a feed; `file` reads a text file whose path is relative to the
    /// DAG folder, or says which file and what is wrong.
    pub fn new(
        feed: &'a dyn Feed,
        given: &'a Map<String, Value>,
        file: &'a dyn Fn(&str) -> Result<String, String>,
    ) -> Self {
        Self { with: parameters::Parameters::new(feed.name(), feed.parameters(), given), given, file }
    }

    /// The error for a parameter that cannot be used.
    pub fn wrong(&self, name: &str, why: impl Into<String>) -> SetupError {
        self.with.wrong(name, why).into()
    }

    /// A text.
    ///
    /// # Errors
    /// When it is something else, or neither given nor a default of the feed.
    pub fn text(&self, name: &str) -> Result<String, SetupError> {
        Ok(self.with.text(name)?)
    }

    /// A list of texts, or one text, each once.
    ///
    /// # Errors
    /// When it is empty or something else, or neither given nor a default of the feed.
    pub fn names(&self, name: &str) -> Result<Vec<String>, SetupError> {
        Ok(unique(self.with.names(name)?))
    }

    /// Instruments: a list, or `file:PATH` with one a line, each once and in order. What follows a code on
    /// its line, and everything after `#`, is for people.
    ///
    /// # Errors
    /// When there is none, or the file cannot be read. `example` is what to write.
    pub fn codes(&self, name: &str, example: &str) -> Result<Vec<String>, SetupError> {
        let file = self.given.get(name).and_then(Value::as_str).and_then(|text| text.strip_prefix("file:"));
        let codes = match file {
            None if !self.with.is_given(name) => {
                return Err(self.wrong(name, format!("it is missing; {example}")));
            }
            None => self.names(name)?,
            Some(path) => {
                let text = (self.file)(path).map_err(|why| self.wrong(name, why))?;
                let code = |line: &str| {
                    line.split('#').next()?.split([' ', '\t', ',']).next().map(|c| c.trim().to_owned())
                };
                unique(text.lines().filter_map(code).filter(|code| !code.is_empty()).collect())
            }
        };
        if codes.is_empty() { Err(self.wrong(name, format!("there is none; {example}"))) } else { Ok(codes) }
    }

    /// A whole number, as what counts things in memory.
    ///
    /// # Errors
    /// When it is something else, or neither given nor a default of the feed.
    pub fn size(&self, name: &str) -> Result<usize, SetupError> {
        Ok(self.with.size(name)?)
    }

    /// A duration above zero such as `30s`.
    ///
    /// # Errors
    /// When it is something else, or neither given nor a default of the feed.
    pub fn duration(&self, name: &str) -> Result<Duration, SetupError> {
        Ok(self.with.duration(name)?)
    }
}

/// The first of each, in order.
fn unique(names: Vec<String>) -> Vec<String> {
    let mut known = HashSet::new();
    names.into_iter().filter(|name| known.insert(name.clone())).collect()
}
