//! Attempts as services of a Docker Swarm: the same steps on several machines.
//!
//! Each attempt is one service, with as many replicas as the DAG says. Where they run is the swarm's to decide; when they run again is not. A service of one replica is never restarted by the swarm, so that an attempt's
//! number stands for one life of the step. Several replicas are restarted by it one by one: they share their work as a consumer group,
//! whose membership is the fence between a copy and its successor.
//!
//! The data folder must be the same shared file system on every node, at the same path. The attempt's folder on it is used as by a process
//! ([`super::folder`]), and beyond that:
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `service` | executor | the service's name; written before it is made |
//! | `replica-{n}/` | the copies of a step with several | `status.json` and `result.json` of each |
//! | `fence.{task}` | executor | that this task must end at once: its node is lost to the swarm, and a successor is about to start |
//! | `gone.{task}` | the task, at its end | how it ended, in its own words |
//!
//! A command has a keeper on the manager's side ([`super::keeper`]), which evicts it at its deadline if no daemon is left.
//!
//! A swarm gives no way to send a signal to a task, and none at all to a task whose node is lost. So the stop and the fence of built-in
//! programs go through the folder.

mod executor;
pub mod guard;
pub(in crate) mod launch;
mod secrets;
mod service;
mod sight;
mod status;
mod stop;
mod verdict;
pub(in crate) mod watch;

pub use executor::Swarm;
pub use status::folder_of;
