//! Floor 3: the daemon. One task owns the truth: it takes events (executor reports, commands, time, the DAG folder),
//! puts each through the machine, journals it, and only then acts. Everyone else reads snapshots and sends commands
//! through a [`Handle`].
//!
//! | file | what it does |
//! |---|---|
//! | [`dispatcher`] | the loop: select → truth → hands |
//! | [`truth`] | event → machine → journal → effects |
//! | [`journal`] | the daemon's side of `state`: what is written together |
//! | [`hands`] | carries out effects on executors |
//! | [`recover`] | journal and what is alive, brought together at start |
//! | [`alerts`], [`notice`], [`outbox`] | what people hear of, in which words, and its delivery |
//! | [`folder`], [`reload`], [`watcher`] | DAG files: reading, keeping the last good version, noticing changes |
//! | [`commands`], `requests`, [`handle`] | what people ask for |
//! | [`snapshot`], [`views`], [`gauges`], [`trends`] | what people see |
//! | [`lock`], [`wake`] | one daemon a folder; the wall clock's edges |

pub mod ahead;
pub mod alerts;
pub mod answers;
pub mod commands;
pub mod dispatcher;
pub mod folder;
pub mod gauges;
pub mod handle;
pub mod hands;
pub mod history;
pub mod journal;
pub mod lock;
pub mod missed;
pub mod notice;
pub mod outbox;
pub mod recover;
pub mod reload;
mod requests;
pub mod snapshot;
pub mod start;
pub mod testing;
pub mod trends;
pub mod truth;
pub mod views;
pub mod wake;
pub mod watcher;

#[cfg(test)]
mod life_tests;

pub use domain::message::Refused;
pub use handle::Handle;
pub use snapshot::Snapshot;
pub use start::{Failed, Options, start};
