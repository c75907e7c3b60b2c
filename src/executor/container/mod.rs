//! Attempts in containers: what a Docker Engine ([`docker`]) and a swarm of them ([`swarm`]) share.
//!
//! The name and the labels of a container or service are those of the attempt, so that starting is idempotent
//! and a restarted daemon finds what it left: it lives on without one. An attempt's folder is used as by a
//! process ([`super::folder`]): it is mounted into the container at the same path, `status.json`, `stop.json`
//! and `result.json` pass through it, and the output that the engine keeps is copied into `output.log`.
//! Besides the files named there:
//!
//! | file | holds |
//! |---|---|
//! | `container`, `service` | its name; written before it is made |
//! | `output.position` | how far the engine's copy of the output was copied |
//! | `killed` | why the executor killed it: an exit code of 137 is then its own doing |
//! | `said` | the executor's own lines in `output.log`: they stay when the rest of it is copied anew |
//! | `keeper.lock` | locked by a living keeper; its process id |
//! | `keeper.log` | the keeper's own trouble |
//!
//! A command has a [keeper](super::keeper) beside it, which holds its deadline if no daemon is left.
//!
//! An engine that does not answer is waited for: its containers may live. What is known of an attempt then
//! stays as it is.
//!
//! ```text
//! executor ── the calls of a daemon, for both: start, stop, find, forget; one Platform behind it
//!    │            docker::launch, swarm::launch
//! attempt ─── the life of one, for both: output, status, deadline, stop, end; one Workload behind it
//!    │            docker::container, swarm::attempt
//! definition, output, exits, engine
//! ```

mod attempt;
mod definition;
pub mod docker;
mod engine;
mod executor;
mod exits;
mod keepers;
mod output;
mod replicas;
pub mod swarm;

use std::path::PathBuf;

pub(crate) use attempt::{Contained, PASSED, Terms, Workload};
pub(crate) use engine::Engine;
pub use replicas::folder as replica_folder;

/// The installation of openbell that containers belong to, and what it gives each of them.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The daemon's data folder (absolute). Built-in programs have it, at the same path.
    pub data: PathBuf,
    /// The DAG folder (absolute). Built-in programs may read it, at the same path.
    pub dags: PathBuf,
    /// Environment of built-in programs.
    pub environment: Vec<(String, String)>,
    /// Numbers of the user and group that own the data folder.
    pub owner: (u32, u32),
}

impl Installation {
    /// Tells this installation's containers from those of others on the same engine.
    pub fn id(&self) -> String {
        format!("{:08x}", crc32fast::hash(self.data.as_os_str().as_encoded_bytes()))
    }
}
