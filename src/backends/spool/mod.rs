//! The collector's local write-ahead log.
//!
//! What arrives is appended, [synced](Writer::sync), and only then forwarded; so an outage of a store, a
//! crash or a restart costs nothing that was received. Layout of a spool folder:
//!
//! | file | what |
//! |---|---|
//! | `spool.id` | the spool's own id, part of the headers of every forwarded record |
//! | `lock` | locked by the one writer |
//! | `{seq, 20 digits}.seg` | entries from `seq` on |
//! | `{name}.cursor` | the next sequence number to forward somewhere |
//! | `aside/` | damaged bytes that an opening took out; never deleted by openbell |
//!
//! An entry is a frame of [numbered segments](super::segments) whose payload is `kind u8 | seconds i64 |
//! nanoseconds i32 | body`.
//!
//! Sequence numbers start at 1 and rise by one, and jump where entries were lost to damage: a number that a
//! reader may have seen is never given again. Entries are made durable before a [`Reader`] hands them out, so
//! what was forwarded is in the spool, also after a power cut.

mod cursor;
mod entry;
mod reader;
mod synced;
mod writer;

#[cfg(test)]
mod tests;

pub use cursor::{id, load_cursor, store_cursor};
pub use entry::{Entry, Kind, MalformedBody, NewEntry, TradeBody};
pub use reader::{Reader, prune};
pub use writer::{Recovered, Writer};

use std::path::Path;

/// A file grows to about this many bytes before the next one is begun.
const SEGMENT_BYTES: u64 = 64 << 20;

/// How a spool is called in errors.
fn place(dir: &Path) -> String {
    format!("spool {}", dir.display())
}
