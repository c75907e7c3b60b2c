//! Korea Investment & Securities' real-time WebSocket: bytes ↔ records and control messages, and the session protocol.
//!
//! [`parse`] tells what a message is; [`trade()`] turns a record into the house's own [`Trade`](domain::trade::Trade);
//! [`session`] decides what to send when. Nothing here does input or output.

pub mod approval;
mod cipher;
mod control;
mod frame;
mod layout;
pub mod request;
pub mod session;
mod trade;

pub use cipher::Seal;
pub use control::{Action, Code, Control, Reply};
pub use frame::{Frame, Message, Record, Sealed, parse};
pub use layout::{Content, Field, Kind, LAYOUTS, Layout, trade_at};
pub use trade::{Essence, trade};

/// Why a frame or a record was refused. `cause` is a short stable word for grouping dead letters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FrameError {
    /// For example `wrong_width`, `bad_utf8`, `bad_number`, `unknown_tr_id`, `truncated`.
    pub cause: &'static str,
    /// What is wrong, with the place (field number and name).
    pub message: String,
}

/// Builds a plain data frame: `0|{tr_id}|{count:03}|{records joined by ^}`.
pub fn encode(tr_id: &str, records: &[Vec<String>]) -> String {
    let payload = records.iter().map(|r| r.join("^")).collect::<Vec<_>>().join("^");
    format!("0|{tr_id}|{:03}|{payload}", records.len())
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
