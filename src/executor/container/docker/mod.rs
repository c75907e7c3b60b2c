//! Attempts as containers on one Docker Engine.

mod container;
mod launch;

use std::path::PathBuf;

use super::Installation;
use super::executor::{Containers, Host};
use crate::Executor;
use crate::process::shim::SELF;
use clock::Clock;
use config::DockerSettings;

pub(crate) use container::Container;

/// Runs attempts as containers; they have their folders below `runs_dir` (absolute). The engine is asked when
/// it is first needed. Dropping it stops watching; the containers run on and can be found again.
pub fn executor(
    clock: Clock,
    runs_dir: PathBuf,
    settings: DockerSettings,
    installation: Installation,
) -> impl Executor + use<> {
    executor_with(clock, runs_dir, settings, installation, SELF.into())
}

/// The same with another binary than the running one for keepers.
pub fn executor_with(
    clock: Clock,
    runs_dir: PathBuf,
    settings: DockerSettings,
    installation: Installation,
    binary: PathBuf,
) -> impl Executor + use<> {
    let host = Host::new(&clock, settings, installation, binary);
    Containers::new(launch::DockerEngine { host }, clock, runs_dir)
}
