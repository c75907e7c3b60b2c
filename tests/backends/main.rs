//! One contract per store, run against every implementation: here, the embedded one and the same through the
//! daemon's socket.

mod frozen;
mod index;
mod killed;
mod log;
mod log_files;
mod log_names;
mod mail;
mod objects;
mod places;
mod raw;
mod servers;
mod socket;
#[path = "../support/mod.rs"]
mod support;
