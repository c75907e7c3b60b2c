//! The sinks: one core ([`core`]) that joins a consumer group and keeps its promises, and one [`lane::Lane`]
//! per kind of store that says how records are buffered and written.
//!
//! What the core promises: an offset is committed only when every record before it is written or its dead
//! letter is acknowledged; records are never skipped; a partition that is taken away is finished or given up,
//! never committed late; a stop drains to the log's end.

mod assignment;
mod batch;
pub(crate) mod contents;
pub mod core;
pub mod folder;
pub mod index;
pub mod lane;
pub mod objects;
pub mod raw;
mod report;

use domain::program::{Parameter, Shape};

/// A batch of so many documents is written at once.
const DOCUMENTS: Parameter = Parameter::new("documents", Shape::Count(1), "most documents in one request")
    .or("2000")
    .counting("documents");
/// So is one of so many bytes.
const BYTES: Parameter = Parameter::new("bytes", Shape::Size, "most bytes in one request").or("5MiB");

#[cfg(test)]
mod tests;
