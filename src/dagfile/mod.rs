//! Floor 1: a DAG file, from YAML text to a checked [`Dag`], or to everything that is wrong with it.
//!
//! A file goes through four looks, and none of them stops at its first finding:
//!
//! 1. `tree`: YAML to a tree whose nodes know their place. Only a fault of the YAML itself ends here.
//! 2. `shape`: the tree against the tables of `tables` and the rows of the programs: unknown and missing
//!    keys, wrong types, values
//!    that are not durations, names or words of a list. The same tables give the JSON [`schema`].
//! 3. `read`, `steps` and `container`: what the tables cannot say: cron, zones, calendars, kinds, needs and
//!    cycles. Builds the DAG.
//! 4. `hops`: what the steps of a DAG lack together, for example somebody who reconciles.
//!
//! Nothing here reads files or the clock; `daemon::folder` reads a folder of DAG files.

mod container;
mod diagnostic;
mod diagnostics;
mod graph;
mod hops;
mod read;
pub mod schema;
mod shape;
mod steps;
mod suggest;
mod tables;
mod tree;

use std::collections::BTreeMap;

pub use diagnostic::{Diagnostic, Severity};
pub use suggest::nearest;

use domain::calendar::Calendar;
use domain::dag::Dag;
use domain::program::Program;

/// What a DAG file may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The built-in programs.
    pub programs: &'a [Program],
    /// The calendars, by name.
    pub calendars: &'a BTreeMap<String, Calendar>,
}

/// What a file says.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// The name it gives itself, also when it is broken elsewhere.
    pub name: Option<String>,
    /// What to say at its name if another file uses the same one.
    pub if_taken: Option<Diagnostic>,
    /// The DAG, if the file has no errors.
    pub dag: Option<Dag>,
    /// Whether the DAG may start by itself (`enabled:`); the daemon starts one that may not as paused.
    pub enabled: bool,
    /// Files that parameters refer to (`file:PATH`, relative to the DAG folder), for a caller who can look
    /// whether they exist.
    pub files: Vec<FileReference>,
    /// Everything wrong with the file, from top to bottom.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// The diagnostics that keep the file from being used.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error)
    }
}

/// A file that a parameter refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReference {
    /// Its path as written, relative to the DAG folder.
    pub path: String,
    /// What to say if it is not there.
    pub if_missing: Diagnostic,
}

/// Reads the text of a DAG file.
pub fn parse(text: &str, known: &Known<'_>) -> Parsed {
    match tree::parse(text) {
        Ok(root) => read::read(text, &root, known),
        Err(diagnostic) => Parsed { diagnostics: vec![*diagnostic], enabled: true, ..Parsed::default() },
    }
}

#[cfg(test)]
mod tests;
