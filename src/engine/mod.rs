//! Floor 1: what is due, what follows from an event, and what a restart has to repair. Pure: no clock, no
//! files, no tasks.
//!
//! [`machine`] folds the events of one run; `needs`, `opening`, `readiness`, `exits`, `checks`, `close` and
//! `manual` are its chapters. [`recovery`] compares the folded runs with what is alive after a restart.

mod checks;
mod close;
mod exits;
mod graph;
pub mod machine;
mod manual;
mod needs;
mod opening;
pub mod planner;
mod readiness;
pub mod recovery;
