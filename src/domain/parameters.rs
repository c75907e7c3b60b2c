//! Reads a step's `with:` by its program's row: what is not given is what the row says, and every refusal
//! names the parameter and what to write.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value};

use super::program::{Fallback, Parameter, Program, Shape};
use super::units;

/// Why a parameter cannot be used; the message says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parameter \"{name}\" of {program}: {why}")]
pub struct ParameterError {
    /// The program.
    pub program: String,
    /// The parameter under `with:`.
    pub name: String,
    /// What is wrong and what to write.
    pub why: String,
}

/// The parameters of one step, or of one table inside them.
#[derive(Debug, Clone, Copy)]
pub struct Parameters<'a> {
    program: &'a str,
    /// Name of the table they stand in, with a dot behind.
    path: &'a str,
    known: &'a [Parameter],
    with: Option<&'a Map<String, Value>>,
}

/// What holds for a parameter.
enum Holds<'a> {
    Given(&'a Value),
    Default(Cow<'static, str>),
}

impl Holds<'_> {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Given(value) => value.as_str(),
            Self::Default(text) => Some(text),
        }
    }

    /// As it is written, for messages.
    fn written(&self) -> String {
        match self {
            Self::Given(value) => value.to_string(),
            Self::Default(text) => text.clone().into_owned(),
        }
    }
}

impl<'a> Parameters<'a> {
    /// Reads the parameters of a program.
    pub fn of(program: &Program, with: &'a Map<String, Value>) -> Self {
        Self::new(program.name, program.parameters, with)
    }

    /// Reads `with` by a list of parameters; `program` is what messages name.
    pub fn new(program: &'a str, known: &'a [Parameter], with: &'a Map<String, Value>) -> Self {
        Self { program, path: "", known, with: Some(with) }
    }

    /// The error for a parameter that cannot be used.
    pub fn wrong(&self, name: &str, why: impl Into<String>) -> ParameterError {
        ParameterError {
            program: self.program.to_owned(),
            name: format!("{}{name}", self.path),
            why: why.into(),
        }
    }

    fn row(&self, name: &str) -> Result<&'a Parameter, ParameterError> {
        let row = self.known.iter().find(|p| p.name == name);
        row.ok_or_else(|| {
            self.wrong(name, "the program has no such parameter in its row of the table of programs")
        })
    }

    fn missing(&self, name: &str) -> ParameterError {
        self.wrong(
            name,
            format!("it is missing; write {name}: … ({})", self.row(name).map_or("", |row| row.help)),
        )
    }

    /// Whether the file gives it.
    pub fn is_given(&self, name: &str) -> bool {
        self.given(name).is_some()
    }

    fn given(&self, name: &str) -> Option<&'a Value> {
        self.with.and_then(|with| with.get(name)).filter(|v| !v.is_null())
    }

    fn holds(&self, name: &str) -> Result<Option<Holds<'a>>, ParameterError> {
        let row = self.row(name)?;
        if let Some(value) = self.given(name) {
            return Ok(Some(Holds::Given(value)));
        }
        match row.fallback {
            Fallback::Value(text) => Ok(Some(Holds::Default(Cow::Borrowed(text)))),
            Fallback::Found(text) => Ok(Some(Holds::Default(Cow::Borrowed(text())))),
            // A parameter that follows itself follows nothing.
            Fallback::Parameter(other) if other != name => self.holds(other),
            Fallback::Made { of, by, .. } if of != name => {
                let made = |other: String| Holds::Default(Cow::Owned(by(&other)));
                Ok(self.optional_text(of)?.map(made))
            }
            Fallback::Required => Err(self.missing(name)),
            _ => Ok(None),
        }
    }

    fn must_hold(&self, name: &str) -> Result<Holds<'a>, ParameterError> {
        self.holds(name)?.ok_or_else(|| self.missing(name))
    }

    /// A table inside the parameters; a missing one is empty, with the defaults of its keys. `path` is its
    /// name with a dot (`rotate.`).
    ///
    /// # Errors
    /// When it is something else than a table.
    pub fn table(&self, name: &str, path: &'a str) -> Result<Parameters<'a>, ParameterError> {
        let Shape::Table(known) = self.row(name)?.shape else {
            return Err(self.wrong(name, "it is no table in the program's row"));
        };
        let table = |with| Parameters { program: self.program, path, known, with };
        match self.given(name) {
            None => Ok(table(None)),
            Some(Value::Object(map)) => Ok(table(Some(map))),
            Some(other) => {
                Err(self.wrong(name, format!("it is {other}, not a table; write {name}: {{ key: value }}")))
            }
        }
    }

    /// A text.
    ///
    /// # Errors
    /// When it is something else, or neither given nor a default of the row.
    pub fn text(&self, name: &str) -> Result<String, ParameterError> {
        self.optional_text(name)?.ok_or_else(|| self.missing(name))
    }

    /// A text that may be left out: `None` where the program works it out, or goes without.
    ///
    /// # Errors
    /// When it is something else.
    pub fn optional_text(&self, name: &str) -> Result<Option<String>, ParameterError> {
        let Some(holds) = self.holds(name)? else { return Ok(None) };
        let not_a_text = || self.wrong(name, format!("it is {}, not a text", holds.written()));
        holds.text().map(|text| Some(text.to_owned())).ok_or_else(not_a_text)
    }

    /// A list of texts, or one text.
    ///
    /// # Errors
    /// When it is missing, empty or something else.
    pub fn names(&self, name: &str) -> Result<Vec<String>, ParameterError> {
        let example = format!("write {name}: [first, second]");
        let not_a_text = |value: &Value| self.wrong(name, format!("{value} is not a text; {example}"));
        let names = match self.must_hold(name)? {
            // As one would write it in the file: one name, or [first, second].
            Holds::Default(text) => {
                text.trim_matches(['[', ']']).split(',').map(|name| name.trim().to_owned()).collect()
            }
            Holds::Given(Value::String(one)) => vec![one.clone()],
            Holds::Given(Value::Array(many)) => many
                .iter()
                .map(|v| v.as_str().map(str::to_owned).ok_or_else(|| not_a_text(v)))
                .collect::<Result<_, _>>()?,
            Holds::Given(other) => {
                return Err(self.wrong(name, format!("it is {other}, not a list of names; {example}")));
            }
        };
        if names.is_empty() || names.iter().any(|n| n.trim().is_empty()) {
            return Err(self.wrong(name, format!("a name is empty, or there is none; {example}")));
        }
        Ok(names)
    }

    /// A whole number of at least what the row says.
    ///
    /// # Errors
    /// When it is something else, or neither given nor a default of the row.
    pub fn count(&self, name: &str) -> Result<u64, ParameterError> {
        let least = match self.row(name)?.shape {
            Shape::Count(least) => least,
            _ => 0,
        };
        let holds = self.must_hold(name)?;
        let count = match &holds {
            Holds::Given(value) => value.as_u64(),
            Holds::Default(text) => text.parse().ok(),
        };
        let wrong = || {
            self.wrong(name, format!("it is {}; write a whole number of at least {least}", holds.written()))
        };
        count.filter(|n| *n >= least).ok_or_else(wrong)
    }

    /// The same, as what counts things in memory; more than fits is all there are.
    ///
    /// # Errors
    /// Those of [`Self::count`].
    pub fn size(&self, name: &str) -> Result<usize, ParameterError> {
        Ok(usize::try_from(self.count(name)?).unwrap_or(usize::MAX))
    }

    /// A duration above zero such as `30s`.
    ///
    /// # Errors
    /// When it is something else, or neither given nor a default of the row.
    pub fn duration(&self, name: &str) -> Result<Duration, ParameterError> {
        let holds = self.must_hold(name)?;
        let Some(text) = holds.text() else {
            let value = holds.written();
            return Err(self.wrong(name, format!("{value} has no unit; write for example {value}s")));
        };
        let duration = units::duration(text).map_err(|e| self.wrong(name, e.to_string()))?;
        if duration.is_zero() { Err(self.wrong(name, "it must be longer than zero")) } else { Ok(duration) }
    }

    /// A size above zero such as `64MiB`, in bytes; more than fits into memory is all there is.
    ///
    /// # Errors
    /// When it is something else, or neither given nor a default of the row.
    pub fn bytes(&self, name: &str) -> Result<usize, ParameterError> {
        let holds = self.must_hold(name)?;
        let size = match (holds.text(), &holds) {
            (Some(text), _) => units::bytes(text).map_err(|e| self.wrong(name, e.to_string()))?,
            (None, Holds::Given(Value::Number(number))) if number.is_u64() => {
                number.as_u64().unwrap_or_default()
            }
            _ => return Err(self.wrong(name, format!("it is {}; write for example 64MiB", holds.written()))),
        };
        if size == 0 {
            Err(self.wrong(name, "it must be larger than zero"))
        } else {
            Ok(usize::try_from(size).unwrap_or(usize::MAX))
        }
    }
}

#[cfg(test)]
mod tests;
