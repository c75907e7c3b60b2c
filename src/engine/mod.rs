//! Floor 1: the pure engine: what is due, and what follows from what happened.

pub mod planner;
