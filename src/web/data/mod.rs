//! What pages show of the stores, read for them: with a limit on how many reads go on at a time, each at most once for
//! everybody who looks, and never longer than a reader waits. A store that does not answer costs its own figures and nothing else.

pub mod kept;
pub mod market;
pub mod records;
pub mod stores;
pub mod topics;
