//! Attempts as services of a Docker Swarm: the same steps on several machines.
//!
//! Each attempt is one service, with as many replicas as the DAG says. Where they run is the swarm's to
//! decide; when they run again is not. A service of one replica is never restarted by the swarm, so that an
//! attempt's number stands for one life of the step. Several replicas are restarted by it one by one: they
//! share their work as a consumer group, whose membership is the fence between a copy and its successor.
//!
//! The data folder must be the same shared file system on every node, at the same path. The attempt's folder
//! on it is used as by every container ([`super`]), and beyond that:
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `replica-{n}/` | the copies of a step with several | `status.json` and `result.json` of each |
//! | `fence.{task}` | executor | that this task must end at once: its node is lost to the swarm, and a successor is about to start |
//! | `gone.{task}` | the task, at its end | how it ended, in its own words |
//!
//! A command's keeper, on the manager's side, evicts it at its deadline if no daemon is left.
//!
//! A swarm gives no way to send a signal to a task, and none at all to a task whose node is lost. So the stop
//! and the fence of built-in programs go through the folder, where their [`watchdog`] reads them.

mod attempt;
mod launch;
mod poll;
mod secrets;
mod service;
mod tasks;
pub mod watchdog;

use std::path::PathBuf;
use std::sync::Arc;

use super::Installation;
use super::executor::{Containers, Host};
use crate::Executor;
use crate::process::shim::SELF;
use clock::Clock;
use config::Config;

pub(crate) use attempt::Service;

/// Runs attempts as services of a swarm; they have their folders below `runs_dir` (absolute, the same on
/// every node). Needs a tokio runtime. The manager is asked when it is first needed. Dropping it stops
/// watching; the services run on and can be found again.
pub fn executor(
    clock: Clock,
    runs_dir: PathBuf,
    config: &Config,
    installation: Installation,
) -> impl Executor + use<> {
    executor_with(clock, runs_dir, config, installation, SELF.into())
}

/// The same with another binary than the running one for keepers.
pub fn executor_with(
    clock: Clock,
    runs_dir: PathBuf,
    config: &Config,
    installation: Installation,
    binary: PathBuf,
) -> impl Executor + use<> {
    let host = Host::new(&clock, config.docker.clone(), installation, binary);
    let poller = Arc::new(poll::Poller::new(Arc::clone(&host.engine), host.installation.id()));
    let (swarm, local) = (config.swarm.clone(), config.local_stores());
    let manager = launch::SwarmManager { host, swarm, local, poller: Arc::clone(&poller) };
    let executor = Containers::new(manager, clock, runs_dir);
    executor.attempts.spawn(async move { poller.run().await });
    executor
}
