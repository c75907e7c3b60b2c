//! Korea Investment & Securities' real-time WebSocket: bytes ↔ records and control messages, and the session
//! protocol.
//!
//! [`parse`] tells what a message is; [`trade()`] turns a record into the house's own
//! [`Trade`](domain::trade::Trade); [`session`] decides what to send when; [`Kis`] puts them together as a
//! [`Feed`](crate::Feed). Nothing here does input or output.

pub mod approval;
mod cipher;
mod control;
mod feed;
mod frame;
mod layout;
mod live;
pub mod request;
pub mod session;
mod trade;

pub use cipher::Seal;
pub use control::{Action, Code, Control, Reply};
pub use feed::Kis;
pub use frame::{Frame, Message, Record, Sealed, parse};
pub use layout::{Content, Field, Kind, LAYOUTS, Layout, trade_at};
pub use trade::{Essence, trade, trade_of};

/// Builds a plain data frame: `0|{tr_id}|{count:03}|{records joined by ^}`.
pub fn encode(tr_id: &str, records: &[Vec<String>]) -> String {
    let payload = records.iter().map(|r| r.join("^")).collect::<Vec<_>>().join("^");
    format!("0|{tr_id}|{:03}|{payload}", records.len())
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
