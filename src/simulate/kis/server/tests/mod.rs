//! The simulator over real sockets, against every line of the fact sheet's checklist (§1.14).

mod client;
mod delivery;
mod faults;
mod sessions;
