//! Stub: filled by its owner.

pub mod folder;
