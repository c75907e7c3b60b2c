//! Korea Investment & Securities' real-time WebSocket.

use jiff::Timestamp;

use crate::domain::trade::Trade;

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

/// Decodes one trade record from its wire text `{tr_id}|{field^field^…}` (the form in which the spool keeps it).
///
/// # Errors
/// What is wrong with it.
pub fn trade(_wire: &str, _received_at: Timestamp) -> Result<Trade, FrameError> {
    unimplemented!()
}
