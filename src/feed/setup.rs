//! What a session is made from: a step's parameters and secrets, and the configuration's addresses.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{FEEDS, Feed, SecretName};
use domain::units;

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

impl Setup<'_> {
    /// A secret that the session cannot do without.
    ///
    /// # Errors
    /// When it is not given, empty, or holds a control character.
    pub fn secret(&self, secret: &SecretName) -> Result<&str, SetupError> {
        let fail = |why: String| Err(SetupError::Secret { name: secret.name.to_owned(), why });
        match self.secrets.get(secret.name) {
            Some(value) if value.trim().is_empty() => fail("it is empty; put the value you were given there".into()),
            Some(value) if value.chars().any(char::is_control) => {
                fail("it holds a line break or another control character; keep the value alone there".into())
            }
            Some(value) => Ok(value),
            None => fail(format!("it is needed; write secrets: {{ {}: env:{} }}", secret.name, secret.variable)),
        }
    }

    /// An address; empty when the feed has no such key.
    pub fn address(&self, key: &str) -> &str {
        self.addresses.get(key).map_or("", String::as_str)
    }
}

/// A step's parameters; every refusal names the parameter and what to write instead.
#[derive(Clone, Copy)]
pub struct Parameters<'a> {
    /// What stands under `with:`.
    pub with: &'a Map<String, Value>,
    /// Reads a text file whose path is relative to the DAG folder; or says which file and what is wrong.
    pub file: &'a dyn Fn(&str) -> Result<String, String>,
}

impl Parameters<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.with.get(name).filter(|value| !value.is_null())
    }

    /// The error for a parameter that cannot be used.
    pub fn wrong(&self, name: &str, why: impl Into<String>) -> SetupError {
        SetupError::Parameter { name: name.to_owned(), why: why.into() }
    }

    /// A list of texts, or one text; `None` where it is left out.
    ///
    /// # Errors
    /// When it is empty or something else. `example` is what to write.
    pub fn names(&self, name: &str, example: &str) -> Result<Option<Vec<String>>, SetupError> {
        let text = |value: &Value| {
            value.as_str().map(str::to_owned).ok_or_else(|| self.wrong(name, format!("{value} is not a text; {example}")))
        };
        let names: Vec<String> = match self.get(name) {
            None => return Ok(None),
            Some(Value::Array(many)) => many.iter().map(text).collect::<Result<_, _>>()?,
            Some(one) => vec![text(one)?],
        };
        if names.is_empty() || names.iter().any(|n| n.trim().is_empty()) {
            return Err(self.wrong(name, format!("a name is empty, or there is none; {example}")));
        }
        Ok(Some(unique(names)))
    }

    /// Instruments: a list, or `file:PATH` with one a line, each once and in order. What follows a code on its line, and everything after
    /// `#`, is for people.
    ///
    /// # Errors
    /// When there is none, or the file cannot be read. `example` is what to write.
    pub fn codes(&self, name: &str, example: &str) -> Result<Vec<String>, SetupError> {
        let file = self.get(name).and_then(Value::as_str).and_then(|text| text.strip_prefix("file:"));
        let codes = match file {
            None => self.names(name, example)?.ok_or_else(|| self.wrong(name, format!("it is missing; {example}")))?,
            Some(path) => {
                let text = (self.file)(path).map_err(|why| self.wrong(name, why))?;
                let code = |line: &str| line.split('#').next()?.split([' ', '\t', ',']).next().map(|c| c.trim().to_owned());
                unique(text.lines().filter_map(code).filter(|code| !code.is_empty()).collect())
            }
        };
        if codes.is_empty() { Err(self.wrong(name, format!("there is none; {example}"))) } else { Ok(codes) }
    }

    /// A whole number of at least `least`, or a default.
    ///
    /// # Errors
    /// When it is something else.
    pub fn count(&self, name: &str, default: u64, least: u64) -> Result<u64, SetupError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let good = value.as_u64().filter(|n| *n >= least);
        good.ok_or_else(|| self.wrong(name, format!("it is {value}; write a whole number of at least {least}")))
    }

    /// A duration above zero such as `30s`, or a default.
    ///
    /// # Errors
    /// When it is something else.
    pub fn duration(&self, name: &str, default: Duration) -> Result<Duration, SetupError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let Some(text) = value.as_str() else {
            return Err(self.wrong(name, format!("{value} has no unit; write for example {value}s")));
        };
        let duration = units::duration(text).map_err(|e| self.wrong(name, e.to_string()))?;
        if duration.is_zero() { Err(self.wrong(name, "it must be longer than zero")) } else { Ok(duration) }
    }
}

/// The first of each, in order.
fn unique(names: Vec<String>) -> Vec<String> {
    let mut known = HashSet::new();
    names.into_iter().filter(|name| known.insert(name.clone())).collect()
}
