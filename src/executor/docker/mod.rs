//! Attempts as containers on a Docker Engine.
//!
//! The container's name and labels are those of the attempt, so that starting is idempotent and a restarted daemon finds what it left: its
//! containers live on without it. An attempt's folder is used as by a process ([`super::folder`]): it is mounted into the container
//! at the same path, `status.json`, `stop.json` and `result.json` pass through it, and the engine's copy of the output is carried on into
//! `output.log`. Besides the files named there:
//!
//! | file | holds |
//! |---|---|
//! | `container` | the container's name; written before it is made |
//! | `output.position` | how far the engine's copy of the output was carried over |
//! | `killed` | why the executor sent SIGKILL: an exit code of 137 is then its own doing |
//! | `said` | the executor's own lines in `output.log`: they stay when the rest of it is carried over anew |
//!
//! A command's container has a keeper beside it ([`super::keeper`]), which holds the deadline if no daemon is left.
//!
//! An engine that does not answer is waited for: its containers may live. What is known of an attempt then stays as it is.

pub(in crate) mod container;
pub(in crate) mod engine;
pub(in crate) mod executor;
pub(in crate) mod exits;
mod launch;
pub(in crate) mod output;
pub(in crate) mod watch;

pub use container::Surroundings;
pub use executor::Docker;
