//! The path below which a reverse proxy shows the site.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest base path, in bytes.
const LONGEST: usize = 200;

/// What every path of the site begins with: `/openbell`, or nothing where the site has a host of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BasePath(Arc<str>);

impl BasePath {
    /// The text; empty at the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the site is at the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// A path of the site as the world sees it. What does not begin with a slash, such as a place on the same
    /// page, stays as it is.
    pub fn join(&self, path: &str) -> String {
        if path.starts_with('/') { format!("{}{path}", self.0) } else { path.to_owned() }
    }

    /// A path of the world as the site sees it; `None` for one that is not below.
    pub fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        match path.strip_prefix(&*self.0)? {
            "" => Some("/"),
            rest => rest.starts_with('/').then_some(rest),
        }
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BasePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
        let wrong = if !text.starts_with('/') {
            "it does not begin with /"
        } else if text == "/" {
            "the root needs none"
        } else if text.ends_with('/') {
            "it ends with /"
        } else if text.split('/').skip(1).any(|part| part.is_empty() || part == "." || part == "..") {
            "a part of it is empty, . or .."
        } else if !text.split('/').all(|part| part.chars().all(plain)) {
            "it has other characters than a-z, A-Z, 0-9, -, _, . and ~"
        } else if text.len() > LONGEST {
            "it is longer than 200 bytes"
        } else {
            return Ok(Self(text.into()));
        };
        Err(format!(
            "base_path: \"{text}\" is no path below which the site can be: {wrong}; write for example /openbell, or leave it out"
        ))
    }
}

impl TryFrom<String> for BasePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<BasePath> for String {
    fn from(base: BasePath) -> Self {
        base.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_in_and_out() {
        let base: BasePath = "/ops/openbell".parse().expect("a path");
        assert_eq!(base.join("/dags"), "/ops/openbell/dags");
        assert_eq!(base.join("#step-a"), "#step-a");
        assert_eq!(base.strip("/ops/openbell/dags"), Some("/dags"));
        assert_eq!((base.strip("/ops/openbell"), base.strip("/ops/openbell/")), (Some("/"), Some("/")));
        assert_eq!((base.strip("/ops/openbells"), base.strip("/dags"), base.strip("/")), (None, None, None));
        let root = BasePath::default();
        assert_eq!(
            (root.join("/dags").as_str(), root.strip("/dags"), root.strip("/")),
            ("/dags", Some("/dags"), Some("/"))
        );
    }

    #[test]
    fn odd_ones_are_refused_with_the_reason() {
        for (bad, why) in [
            ("openbell", "begin with /"),
            ("/", "root"),
            ("/openbell/", "ends with /"),
            ("/a//b", "empty"),
            ("//evil.example", "empty"),
            ("/a/../b", ".."),
            ("/a b", "other characters"),
            ("/a?b", "other characters"),
            ("/a\"b", "other characters"),
            ("/한국", "other characters"),
        ] {
            let said = bad.parse::<BasePath>().expect_err(bad);
            assert!(said.contains(why) && said.contains("/openbell"), "{bad}: {said}");
        }
        assert!(format!("/{}", "a".repeat(LONGEST)).parse::<BasePath>().is_err());
        assert!("".parse::<BasePath>().expect("the root").is_root());
    }
}
