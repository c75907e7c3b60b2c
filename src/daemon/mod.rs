//! Floor 3: the daemon. One task owns the state: it takes events (executor reports, commands, time, the DAG
//! folder), puts each through the machine, journals it, and only then acts. Everyone else reads snapshots and
//! sends commands through a [`Handle`].
//!
//! | file | what it does |
//! |---|---|
//! | [`dispatcher`] | the loop: select → state → action runner |
//! | [`daemon_state`] | event → machine → journal → effects |
//! | [`journal`] | the daemon's side of `state`: what is written together |
//! | [`action_runner`] | carries out effects on executors |
//! | [`recover`] | journal and what is alive, brought together at start |
//! | [`alerts`], [`alert_mail`], [`outbox`] | what people hear of, in which words, and its delivery |
//! | [`folder`], [`reload`], [`watcher`] | DAG files: reading, keeping the last good version, noticing changes |
//! | [`commands`], `requests`, [`handle`] | what people ask for |
//! | [`idempotency`] | answers to requests that may come again |
//! | [`snapshot`], [`views`], [`gauges`], [`trends`], [`upcoming`] | what people see |
//! | [`lock`], [`cron_tick`] | one daemon a folder; the wall clock's edges |

pub mod action_runner;
pub mod alert_mail;
pub mod alerts;
pub mod commands;
pub mod cron_tick;
pub mod daemon_state;
pub mod dispatcher;
pub mod folder;
pub mod gauges;
pub mod handle;
pub mod history;
pub mod idempotency;
pub mod journal;
pub mod lock;
pub mod missed;
pub mod outbox;
pub mod recover;
pub mod reload;
mod requests;
pub mod snapshot;
pub mod start;
pub mod testing;
pub mod trends;
pub mod upcoming;
pub mod views;
pub mod watcher;

#[cfg(test)]
mod tests;

pub use domain::message::Refused;
pub use handle::Handle;
pub use snapshot::Snapshot;
pub use start::{Failed, Options, start};
