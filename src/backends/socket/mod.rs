//! The stores through the daemon's unix socket: how steps in other processes reach embedded stores that one
//! process alone may open.
//!
//! A connection begins with [`HELLO`] from both ends. Then follow frames, `length u32 big-endian | postcard`:
//! calls one way, answers the other, matched by id, so that many calls share a connection and a waiting poll
//! holds nothing up.
//!
//! ```text
//! client                                server
//!   Call { 7, Poll { consumer 1, 20 s } }  ──▶ waits in consumer 1's poll
//!   Call { 8, Append { … } }               ──▶ appends
//!                                    Answer { 8, Ok(Placed) } ◀──
//!                                    Answer { 7, Ok(Polled) } ◀──
//! ```
//!
//! A consumer lives in the server, and leaves its group when it is dropped or its connection ends. A frame
//! that is too large or makes no sense ends its connection and no other. Who may connect is decided by the
//! rights of the socket file.

mod client;
mod connection;
mod consumer;
mod frame;
mod protocol;
mod server;

pub use client::connect;
pub use server::serve;

/// Largest frame. A batch of records read is far smaller; a caller's batch that is larger is refused before
/// it is sent.
const MAX_FRAME: usize = 64 << 20;

/// First bytes of either end; the last one is the protocol's version, raised whenever a call or answer
/// changes.
const HELLO: [u8; 16] = *b"openbell stores\x02";
