//! Names and identifiers. All of them are safe as file names and as parts of a URL path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::message::{Message, Refused};
use super::said;

/// Why a text is not a usable name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.said())]
pub struct NameError {
    /// The text that was refused.
    pub text: String,
    /// Which rule it breaks.
    pub why: Message,
}

impl NameError {
    /// What is said of it: why, and what to do instead.
    pub fn said(&self) -> Refused {
        Refused::new(
            said!("\"{}\" is not a usable name: {}", self.text, self.why),
            said!("use 1 to 63 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"),
        )
    }
}

fn check_name(text: &str) -> Result<(), NameError> {
    let refuse = |why| Err(NameError { text: text.to_owned(), why });
    match text.chars().next() {
        None => return refuse(said!("it is empty")),
        Some(c) if !(c.is_ascii_lowercase() || c.is_ascii_digit()) => {
            return refuse(said!("it does not start with a-z or 0-9"));
        }
        Some(_) => {}
    }
    if text.len() > 63 {
        return refuse(said!("it is longer than 63 characters"));
    }
    if let Some(_bad) =
        text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(*c)))
    {
        return refuse(said!("it holds a character that is not allowed"));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check_name(text)?;
                Ok(Self(text.to_owned()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// The name of a DAG, unique among the DAG files of a daemon.
    DagName
);
name!(
    /// The name of a step, unique in its DAG.
    StepName
);

/// One run of a DAG: `{dag}@{key}`.
///
/// The key of a scheduled window is its local date (`trading-day@2026-11-20`), so that at most one scheduled
/// run can exist per session; a schedule without a window adds the local time (`@2026-11-20T0900`); a manual
/// run adds `+manual.N`, a backfill nothing, because it *is* the session's run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Builds the id of `dag`'s run with this key.
    pub fn new(dag: &DagName, key: &str) -> Self {
        Self(format!("{dag}@{key}"))
    }
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The DAG's part of the id.
    pub fn dag(&self) -> &str {
        self.0.split_once('@').map_or(self.0.as_str(), |(dag, _)| dag)
    }
    /// The session's part of the id.
    pub fn key(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, key)| key)
    }
}

impl FromStr for RunId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| NameError { text: text.to_owned(), why };
        let (dag, key) = text
            .split_once('@')
            .ok_or_else(|| refuse(said!("a run id is DAG@KEY, and the '@' is missing")))?;
        check_name(dag)?;
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || "-+.".contains(c)) {
            return Err(refuse(said!("the part after '@' is not a session key")));
        }
        // With the DAG's name it is a file's name, of which systems take 255 bytes.
        if key.len() > 64 {
            return Err(refuse(said!("the part after '@' is longer than 64 characters")));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One attempt at a step of a run. The attempt number rises with every start of the step in this run,
/// whatever the reason (retry, restart, next round of a check), and fences off late reports of earlier
/// attempts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepName,
    /// 1 for the first start of the step in this run.
    pub attempt: u32,
}

impl AttemptId {
    /// The folder of this attempt below the daemon's `runs` folder: `{run}/{step}/{attempt}`.
    pub fn path(&self) -> std::path::PathBuf {
        [self.run.as_str(), self.step.as_str(), &self.attempt.to_string()].iter().collect()
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.run, self.step, self.attempt)
    }
}

#[cfg(test)]
mod tests;
