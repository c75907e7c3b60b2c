//! Floor 3: the daemon. One task owns the truth: it takes events (executor reports, commands, time, the DAG folder),
//! puts each through the machine, journals it, and only then acts. Everyone else reads snapshots and sends commands
//! through a [`Handle`].

pub mod handle;
pub mod snapshot;

pub use handle::{Handle, Refused};
pub use snapshot::Snapshot;
