//! The sinks: one core, one target per kind of store.

pub mod index;
pub mod objects;
pub mod raw;
