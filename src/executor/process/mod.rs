//! Attempts as local processes that outlive the daemon.
//!
//! Between the daemon and each program stands a small process, the *shim*: it starts the program in a process
//! group of its own, waits for it, and writes down how it ended. So the exit code survives a dead daemon, and
//! nothing but the shim needs to be the program's parent.
//!
//! ```text
//! daemon ── spec.json, lock ──▶ shim ── own process group ──▶ program ──▶ output.log, status.json, result.json
//!    ▲                           │
//!    └── "started" on a pipe ────┤   pid: who runs (for signals, and for a daemon that comes later)
//!    └── end of the shim ────────┘   exit.json: how it ended
//! ```
//!
//! Three facts decide everything, and each survives a crash of any of the parties:
//!
//! * **`lock` is held** (flock): the shim lives. The daemon takes the lock before it starts the shim and
//!   hands it over as the
//!   shim's standard input, so there is no moment at which a second start could slip in, and the kernel lets go of it when
//!   the shim ends, however that happens. Process ids alone would not do: they are used again.
//! * **`exit.json` is there**: it ended, this way.
//! * Neither: the shim was killed or the machine went down. What is left of the program is killed, the
//!   attempt is lost.
//!
//! Nothing on the way waits for a timer: the start is read from a pipe, the end comes as a readable pidfd.

mod attempt;
mod executor;
mod identity;
pub mod shim;

pub use executor::Process;
pub use identity::{Identity, Pids};
