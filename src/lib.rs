//! openbell runs a market-data day: a scheduler with embedded workers, and the step programs it schedules.
//!
//! Two paths to follow with a finger:
//!
//! * control: [`dagfile`] → [`engine::planner`] → [`engine::machine`] → [`daemon`] → [`executor`] → [`state`]
//!   → [`web`]
//! * data: socket → [`feed`] codec → spool → log and raw → sink core → index and objects → reconcile
//!
//! Floors (imports run down, or sideways inside a folder, never up; `tests/architecture.rs` enforces it):
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`domain`] |
//! | 1 | [`clock`], [`config`], [`dagfile`], [`engine`], [`feed`], [`files`] |
//! | 2 | [`accounts`], [`backends`], [`executor`], [`state`] |
//! | 3 | [`steps`], [`simulate`], [`daemon`] |
//! | 4 | [`web`], [`cli`] |

pub use {
    accounts, backends, cli, clock, config, daemon, dagfile, domain, engine, executor, feed, files, simulate,
    state, steps, web,
};
