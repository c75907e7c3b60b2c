//! What a built-in program takes: its parameters and secrets.

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number of at least this.
    Count(u64),
    /// `30s`, `1m30s`.
    Duration,
    /// `64MiB`.
    Size,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list.
    List(&'static Shape),
    /// Any of these, told apart by the type of the value.
    Either(&'static [Shape]),
}

impl Shape {
    /// A list of names, or one of them.
    pub const NAMES: Self = Self::Either(&[Self::List(&Self::Text), Self::Text]);
}

/// A parameter under `with:`.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its key.
    pub name: &'static str,
    /// Its value.
    pub shape: Shape,
    /// What holds where it is left out, as people would write it.
    pub default: Option<&'static str>,
    /// What it is for, in one line.
    pub help: &'static str,
    /// Whether the program is useless without it.
    pub required: bool,
}

impl Parameter {
    /// A parameter that may be left out.
    pub const fn new(name: &'static str, shape: Shape, help: &'static str) -> Self {
        Self { name, shape, default: None, help, required: false }
    }

    /// A parameter that must be there.
    pub const fn required(name: &'static str, shape: Shape, help: &'static str) -> Self {
        Self { required: true, ..Self::new(name, shape, help) }
    }

    /// The same with a default.
    #[must_use]
    pub const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }
}

/// A secret under `secrets:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretName {
    /// Its name in the DAG file.
    pub name: &'static str,
    /// The environment variable it is usually in.
    pub variable: &'static str,
    /// What it is, in one line.
    pub help: &'static str,
}
