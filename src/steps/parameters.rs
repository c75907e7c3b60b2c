//! Reads a step's `with:` parameters; every refusal names the parameter and what to write instead.

use std::time::Duration;

use serde_json::{Map, Value};

use super::StepError;
use domain::units;

/// The parameters of one step, or of one table inside them.
#[derive(Debug, Clone, Copy)]
pub struct Parameters<'a> {
    program: &'a str,
    path: &'a str,
    with: Option<&'a Map<String, Value>>,
}

impl<'a> Parameters<'a> {
    /// Reads the parameters of `program`.
    pub fn new(program: &'a str, with: &'a Map<String, Value>) -> Self {
        Self { program, path: "", with: Some(with) }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.with.and_then(|with| with.get(name)).filter(|v| !v.is_null())
    }

    /// The error for a parameter that cannot be used.
    pub fn wrong(&self, name: &str, why: impl Into<String>) -> StepError {
        StepError::Parameter { program: self.program.to_owned(), name: format!("{}{name}", self.path), why: why.into() }
    }

    /// A table inside the parameters; a missing one is empty. `path` is its name with a dot (`rotate.`).
    ///
    /// # Errors
    /// When it is something else than a table.
    pub fn table(&self, name: &str, path: &'a str) -> Result<Parameters<'a>, StepError> {
        match self.get(name) {
            None => Ok(Parameters { program: self.program, path, with: None }),
            Some(Value::Object(map)) => Ok(Parameters { program: self.program, path, with: Some(map) }),
            Some(other) => Err(self.wrong(name, format!("it is {other}, not a table; write {name}: {{ key: value }}"))),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, StepError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, format!("it is {other}, not a text"))),
        }
    }

    /// A text, or a default.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text_or(&self, name: &str, default: &str) -> Result<String, StepError> {
        Ok(self.text(name)?.unwrap_or(default).to_owned())
    }

    /// A list of texts, or one text.
    ///
    /// # Errors
    /// When it is missing, empty or something else.
    pub fn names(&self, name: &str) -> Result<Vec<String>, StepError> {
        let example = format!("write {name}: [{}]", super::default_topic());
        let names = match self.get(name) {
            None => return Err(self.wrong(name, format!("it is missing; {example}"))),
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => many
                .iter()
                .map(|v| v.as_str().map(str::to_owned).ok_or_else(|| self.wrong(name, format!("{v} is not a text; {example}"))))
                .collect::<Result<_, _>>()?,
            Some(other) => return Err(self.wrong(name, format!("it is {other}, not a list of names; {example}"))),
        };
        if names.is_empty() || names.iter().any(|n| n.trim().is_empty()) {
            return Err(self.wrong(name, format!("a name is empty, or there is none; {example}")));
        }
        Ok(names)
    }

    /// A whole number of at least `least`, or a default.
    ///
    /// # Errors
    /// When it is something else.
    pub fn count(&self, name: &str, default: u64, least: u64) -> Result<u64, StepError> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .filter(|n| *n >= least)
                .ok_or_else(|| self.wrong(name, format!("it is {value}; write a whole number of at least {least}"))),
        }
    }

    /// A duration above zero such as `30s`, or a default.
    ///
    /// # Errors
    /// When it is something else.
    pub fn duration(&self, name: &str, default: Duration) -> Result<Duration, StepError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let Some(text) = value.as_str() else {
            return Err(self.wrong(name, format!("{value} has no unit; write for example {value}s")));
        };
        let duration = units::duration(text).map_err(|e| self.wrong(name, e.to_string()))?;
        if duration.is_zero() { Err(self.wrong(name, "it must be longer than zero")) } else { Ok(duration) }
    }

    /// A size above zero such as `64MiB`, or a default.
    ///
    /// # Errors
    /// When it is something else.
    pub fn bytes(&self, name: &str, default: u64) -> Result<u64, StepError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let size = match value {
            Value::String(text) => units::bytes(text).map_err(|e| self.wrong(name, e.to_string()))?,
            other => other.as_u64().ok_or_else(|| self.wrong(name, format!("it is {other}; write for example 64MiB")))?,
        };
        if size == 0 { Err(self.wrong(name, "it must be larger than zero")) } else { Ok(size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn reads_what_is_there_and_fills_in_what_is_not() {
        let with = with(json!({"create": ["a", "b"], "rotate": {"size": "64MiB"}, "partitions": 3}));
        let p = Parameters::new("sink/objects", &with);
        assert_eq!(p.names("create").expect("names"), ["a", "b"]);
        assert_eq!(p.count("partitions", 1, 1).expect("a count"), 3);
        assert_eq!(p.table("rotate", "rotate.").expect("a table").bytes("size", 1).expect("a size"), 64 << 20);
        assert_eq!(
            p.table("none", "none.").expect("a table").duration("every", Duration::from_secs(60)).expect("default"),
            Duration::from_secs(60)
        );
    }

    #[test]
    fn refusals_name_the_parameter_and_the_remedy() {
        let with = with(json!({"create": [], "stale_after": 5, "rotate": {"size": "64mb"}, "partitions": 0}));
        let p = Parameters::new("topics", &with);
        for (error, part) in [
            (p.names("create").expect_err("empty"), "write create: [kis.trades]"),
            (p.duration("stale_after", Duration::ZERO).expect_err("no unit"), "5s"),
            (p.count("partitions", 3, 1).expect_err("zero"), "at least 1"),
            (p.table("rotate", "rotate.").expect("a table").bytes("size", 1).expect_err("unit"), "\"rotate.size\""),
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
