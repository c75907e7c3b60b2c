//! openbell runs a market-data day: a scheduler with embedded workers, and the step programs it schedules.
//!
//! Two paths to follow with a finger:
//!
//! * control: [`dagfile`] → [`engine::planner`] → [`engine::machine`] → [`daemon`] → [`executor`] → [`state`] → [`web`]
//! * data: socket → [`feed`] codec → spool → log and raw → sink core → index and objects → reconcile
//!
//! Floors (imports run down, or sideways inside a folder, never up; `tests/architecture.rs` enforces it):
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`domain`] |
//! | 1 | [`clock`], [`config`], [`dagfile`], [`engine`], [`feed`], [`files`] |
//! | 2 | [`backends`], [`executor`], [`state`] |
//! | 3 | [`steps`], [`simulate`], [`daemon`] |
//! | 4 | [`web`], [`cli`] |

pub mod backends;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod dagfile;
pub mod domain;
pub mod engine;
pub mod executor;
pub mod feed;
pub mod files;
pub mod simulate;
pub mod state;
pub mod steps;
pub mod web;
