//! What a program is: what may stand after `uses:`, what it does to data, and what it takes.
//!
//! `steps::programs` holds the table of the built-in ones, each row written beside its program. Lint, JSON
//! Schema, `dag show`, the guide's reference, forms and the reading of parameters come from it, and what a
//! run's data passes follows from the roles of its steps.

pub mod testing;

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::dag::{Program as Runs, Step, StepKind};

/// A built-in program.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// What stands after `uses:`, for example `sink/index`.
    pub name: &'static str,
    /// The kinds a step that uses it may have.
    pub kinds: &'static [StepKind],
    /// What it is in the way of the data.
    pub role: Role,
    /// What it does, in one line.
    pub about: &'static str,
    /// What it takes under `with:`.
    pub parameters: &'static [Parameter],
    /// The secrets it cannot do without.
    pub secrets: &'static [SecretName],
    /// Whether several copies of a step may run side by side: they share their work as a consumer group.
    pub replicas: bool,
}

/// What a program is in the way of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It receives trades of this feed and writes them to the log and the raw store.
    Source(&'static str),
    /// It writes every record of a topic into a store.
    Hop(Store),
    /// It makes something else of a topic's records.
    Transform,
    /// It judges while the run lives, and alerts follow from what it finds.
    Check,
    /// It compares the stores with what was received.
    Reconcile,
    /// Anything else.
    Task,
}

impl Role {
    /// The word used in the reference and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Hop(_) => "hop",
            Self::Transform => "transform",
            Self::Check => "check",
            Self::Reconcile => "reconcile",
            Self::Task => "task",
        }
    }
}

/// A kind of store that records end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Store {
    /// Raw documents.
    Raw,
    /// The search index.
    Index,
    /// Objects.
    Objects,
}

impl Store {
    /// All there are, in the order that reports list them.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Index, Self::Objects];

    /// The word used in reports, pages, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Index => "index",
            Self::Objects => "objects",
        }
    }

    /// The parameter of a program that says where in the store its records are: collection, name before the
    /// date, first part of the keys.
    pub fn place(self) -> &'static str {
        match self {
            Self::Raw => "collection",
            Self::Index => "index",
            Self::Objects => "prefix",
        }
    }
}

/// A parameter of a program; also a key of a DAG file.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// The key.
    pub name: &'static str,
    /// What its value may be.
    pub shape: Shape,
    /// What holds where the file does not give it.
    pub fallback: Fallback,
    /// What a number counts, for example `ids`; empty where the value carries its unit or has none.
    pub unit: &'static str,
    /// What it is for, in one line.
    pub help: &'static str,
    /// It is still taken and does nothing useful any more: what to do instead.
    pub deprecated: Option<&'static str>,
}

/// What holds where the file does not give a parameter.
#[derive(Debug, Clone, Copy)]
pub enum Fallback {
    /// Nothing does: the program cannot run without it.
    Required,
    /// The program goes without it.
    Nothing,
    /// This, as one would write it in the file.
    Value(&'static str),
    /// This, which is known only when the program runs: the first feed's topic.
    Found(fn() -> &'static str),
    /// What this other parameter says.
    Parameter(&'static str),
    /// What this makes of what another parameter says; the words are for people (`FEED-trades`).
    Made {
        /// The other parameter.
        of: &'static str,
        /// What it is, in a few words.
        words: &'static str,
        /// Makes it.
        by: fn(&str) -> String,
    },
    /// What the program works out, in words for people (`the schedule's`).
    Words(&'static str),
}

impl Fallback {
    /// The default, where there is one that depends on nothing else.
    pub fn value(&self) -> Option<&'static str> {
        match self {
            Self::Value(value) => Some(value),
            Self::Found(value) => Some(value()),
            _ => None,
        }
    }

    /// What holds instead of a value, in words for people.
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Parameter(other) => Some(format!("what {other} says")),
            Self::Made { words, .. } | Self::Words(words) => Some((*words).to_owned()),
            _ => None,
        }
    }
}

impl Parameter {
    /// A key that may be left out; the program then goes without it.
    pub const fn new(name: &'static str, shape: Shape, help: &'static str) -> Self {
        Self { name, shape, fallback: Fallback::Nothing, unit: "", help, deprecated: None }
    }
    /// A key that must be there.
    pub const fn required(name: &'static str, shape: Shape, help: &'static str) -> Self {
        Self { fallback: Fallback::Required, ..Self::new(name, shape, help) }
    }
    /// The same with a default, as one would write it in the file.
    #[must_use]
    pub const fn or(self, value: &'static str) -> Self {
        Self { fallback: Fallback::Value(value), ..self }
    }
    /// The same with a default that is found when it is asked for.
    #[must_use]
    pub const fn or_found(self, value: fn() -> &'static str) -> Self {
        Self { fallback: Fallback::Found(value), ..self }
    }
    /// The same; where it is not given, what `parameter` says.
    #[must_use]
    pub const fn or_as(self, parameter: &'static str) -> Self {
        Self { fallback: Fallback::Parameter(parameter), ..self }
    }
    /// The same; where it is not given, what `by` makes of what the parameter `of` says.
    #[must_use]
    pub const fn or_made(self, of: &'static str, words: &'static str, by: fn(&str) -> String) -> Self {
        Self { fallback: Fallback::Made { of, words, by }, ..self }
    }
    /// The same; where it is not given, what the program works out.
    #[must_use]
    pub const fn or_else(self, words: &'static str) -> Self {
        Self { fallback: Fallback::Words(words), ..self }
    }
    /// The same, counting `unit`.
    #[must_use]
    pub const fn counting(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }
    /// The same, told by lint with what to do `instead`.
    #[must_use]
    pub const fn deprecated(self, instead: &'static str) -> Self {
        Self { deprecated: Some(instead), ..self }
    }
    /// Whether the program cannot run without it.
    pub fn is_required(&self) -> bool {
        matches!(self.fallback, Fallback::Required)
    }
    /// What it is for, and what holds where the file does not give it.
    pub fn about(&self) -> String {
        let (help, unit) = (self.help, self.unit);
        match (self.fallback.value(), self.fallback.words()) {
            (Some(value), _) if unit.is_empty() => format!("{help} (default {value})"),
            (Some(value), _) => format!("{help} (default {value} {unit})"),
            (None, Some(words)) => format!("{help} (default: {words})"),
            (None, None) => help.to_owned(),
        }
    }
}

/// A secret that a program cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretName {
    /// Its name under `secrets:`.
    pub name: &'static str,
    /// The environment variable that people usually keep it in.
    pub variable: &'static str,
    /// What it is, in one line.
    pub help: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A text.
    Text,
    /// A text that is usable as a name: of a DAG, of a step.
    Name,
    /// `true` or `false`.
    Bool,
    /// A whole number of at least this.
    Count(u64),
    /// A number, whole or not, in these limits.
    Number {
        /// The least.
        least: f64,
        /// The most.
        most: f64,
    },
    /// `30s`, `1m30s`.
    Duration,
    /// `64MiB`.
    Size,
    /// A text, number or yes/no value, taken as text.
    Scalar,
    /// Where a secret is found: `env:NAME` or `file:/path`.
    Secret,
    /// An e-mail address.
    Email,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list.
    List(&'static Shape),
    /// A table with these keys.
    Table(&'static [Parameter]),
    /// A table with free keys.
    Dict {
        /// Whether the keys are names of steps, and what the values are.
        named: bool,
        /// The values.
        values: &'static Shape,
    },
    /// Any of these, told apart by the type of the value.
    Either(&'static [Shape]),
    /// Whatever there is.
    Any,
}

impl Shape {
    /// A list of names, or one of them.
    pub const NAMES: Self = Self::Either(&[Self::List(&Self::Text), Self::Text]);
}

impl Program {
    /// The parameter of this name; a key of a table inside is named with a dot (`rotate.size`).
    pub fn parameter(&self, name: &str) -> Option<&'static Parameter> {
        let mut known = self.parameters;
        let mut found = None;
        for part in name.split('.') {
            let parameter = known.iter().find(|p| p.name == part)?;
            known = match parameter.shape {
                Shape::Table(keys) => keys,
                _ => &[],
            };
            found = Some(parameter);
        }
        found
    }

    /// Each parameter by its name; in place of a table its keys, named with a dot.
    pub fn all_parameters(&self) -> Vec<(String, &'static Parameter)> {
        let keys = |parameter: &'static Parameter| match parameter.shape {
            Shape::Table(keys) => {
                keys.iter().map(|key| (format!("{}.{}", parameter.name, key.name), key)).collect()
            }
            _ => vec![(parameter.name.to_owned(), parameter)],
        };
        self.parameters.iter().flat_map(keys).collect()
    }

    /// What a step's `with` says of a parameter that is a text, or what holds without; `None` where that is
    /// the program's to work out, or what is given is no text.
    pub fn text<'a>(&self, with: &'a Map<String, Value>, name: &str) -> Option<Cow<'a, str>> {
        if let Some(given) = with.get(name).filter(|v| !v.is_null()) {
            return given.as_str().map(Cow::Borrowed);
        }
        match self.parameter(name)?.fallback {
            Fallback::Value(value) => Some(Cow::Borrowed(value)),
            Fallback::Found(value) => Some(Cow::Borrowed(value())),
            // A parameter that follows itself follows nothing.
            Fallback::Parameter(other) if other != name => self.text(with, other),
            Fallback::Made { of, by, .. } if of != name => {
                self.text(with, of).map(|other| Cow::Owned(by(&other)))
            }
            _ => None,
        }
    }
}

/// The program of this name.
pub fn find<'a>(programs: &'a [Program], name: &str) -> Option<&'a Program> {
    programs.iter().find(|p| p.name == name)
}

/// The built-in program that a step runs.
pub fn of<'a>(programs: &'a [Program], step: &Step) -> Option<&'a Program> {
    match &step.program {
        Runs::Uses(name) => find(programs, name),
        Runs::Command { .. } => None,
    }
}

#[cfg(test)]
mod tests;
