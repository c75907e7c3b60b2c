//! Whether what was received is what was traded: each feed has its own rule for it.

use rust_decimal::Decimal;

use domain::gaps::Gap;
use domain::trade::{Total, Trade};

/// What a rule of completeness learns from.
#[derive(Debug, Clone, Copy)]
pub enum Received<'a> {
    /// A trade was received.
    Trade(&'a Trade),
    /// The exchange said what was traded.
    Total(&'a Total),
}

/// Keeps book of one session date of one feed (and venue): what was traded that was never received, computed
/// from what was received alone. The order of receipt does not matter, and neither do repetitions.
pub trait Completeness: Send {
    /// Takes in what was received.
    fn see(&mut self, received: Received<'_>);

    /// Takes a symbol's day as complete up to this trade: for counting from the middle of a day. Has no
    /// effect once the symbol was seen.
    fn start_after(&mut self, received: Received<'_>);

    /// All gaps: by symbol, in the order of the day.
    fn gaps(&self) -> Vec<Gap>;

    /// Shares or units missing in all gaps.
    fn missing(&self) -> Decimal;

    /// Number of gaps.
    fn count(&self) -> usize;
}
