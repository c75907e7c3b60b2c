//! Doubles for the tests of this crate and of those above: stores whose faults a test chooses, and contexts
//! to run a step in.

pub mod fakes;
pub mod fixtures;
