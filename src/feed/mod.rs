//! Floor 1: the feeds. Everything above knows a feed through [`Feed`] alone.
//!
//! A feed is a folder here with its codec, its session machine, the identity of its trades and its rule of
//! completeness; nothing in it does input or output, reads a clock or logs. **Adding a feed is one folder
//! here, one in `simulate/`, one line in [`FEEDS`] and one DAG.**
//!
//! ```text
//! collector ──Input──▶ Session ──Output──▶ collector      Data::Trade ──▶ spool ──▶ log, raw ──▶ sinks
//!   socket, HTTP, clock                                   Data::Total ──▶ spool ──▶ Completeness
//! ```

mod completeness;
pub mod kis;
mod session;
mod setup;
pub mod upbit;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

pub use completeness::{Completeness, Received};
pub use domain::program::{Parameter, SecretName, Shape};
pub use session::{Answer, Connect, Data, Input, Malformed, Method, Outgoing, Output, Request, Session};
pub use setup::{Address, Configured, Parameters, Setup, SetupError, addresses, check_addresses};

use domain::trade::Trade;

/// An exchange's or a broker's stream of trades.
pub trait Feed: Send + Sync {
    /// Its name: `collect/{name}`, `simulate {name}`, `feeds.{name}` in the configuration, and the first part
    /// of event ids.
    fn name(&self) -> &'static str;

    /// Its name for people.
    fn title(&self) -> &'static str;

    /// What its collector does, in one line.
    fn about(&self) -> &'static str;

    /// Where it is reached: the keys of `feeds: { name: { key: URL } }`.
    fn addresses(&self) -> &'static [Address];

    /// Parameters of `collect/{name}` beside the collector's own (`topic`, `collection`).
    fn parameters(&self) -> &'static [Parameter];

    /// Secrets of `collect/{name}`.
    fn secrets(&self) -> &'static [SecretName];

    /// Topic of its trades where a step names none; also the raw collection.
    fn default_topic(&self) -> &'static str;

    /// Zone of its trade times and session dates.
    fn zone(&self) -> TimeZone;

    /// How long before the close of its market's session orders are only collected (the closing auction), so
    /// that nothing trades; zero where trade goes on until the close.
    fn auction(&self) -> SignedDuration {
        SignedDuration::ZERO
    }

    /// The symbols that a step asks for.
    ///
    /// # Errors
    /// When the parameter is missing or wrong, or its file cannot be read.
    fn symbols(&self, with: &Parameters<'_>) -> Result<Vec<String>, SetupError>;

    /// Checks a step's parameters and secrets, and makes the machine that connects at its first
    /// [`Input::Tick`].
    ///
    /// # Errors
    /// What is wrong with a parameter or a secret, and what to write instead.
    fn session(&self, setup: &Setup<'_>) -> Result<Box<dyn Session>, SetupError>;

    /// All trades of a message, as it came over the wire: for dead letters that are sent again. One bad
    /// record refuses the whole message.
    ///
    /// # Errors
    /// What is wrong with it; also when it holds no trades by its kind.
    fn trades(&self, message: &[u8], received_at: Timestamp) -> Result<Vec<Trade>, Refused>;

    /// The trade of a record that a spool of an older version holds as wire text, or what is wrong with it.
    /// `None` from feeds that such a version did not know.
    fn decode(&self, wire: &[u8], received_at: Timestamp) -> Option<Result<Trade, Refused>> {
        let _ = (wire, received_at);
        None
    }

    /// A fresh rule of completeness for one session date (of one venue: of the trades with the same
    /// [`Trade::feed`]).
    fn completeness(&self) -> Box<dyn Completeness>;

    /// The day's first price as the exchange tells it with a trade, if it does.
    fn open(&self, trade: &Trade) -> Option<Decimal> {
        let _ = trade;
        None
    }
}

/// Why a message or a record is not taken. `cause` is a short stable word for grouping dead letters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// For example `wrong_width`, `bad_utf8`, `bad_number`, `truncated`.
    pub cause: &'static str,
    /// What is wrong, with the place (number and name of the field); never more of the input than names and
    /// numbers.
    pub message: String,
}

/// The feeds: the one list of them.
pub const FEEDS: &[&dyn Feed] = &[&kis::Kis, &upbit::Upbit];

/// The feed of this name.
pub fn find(name: &str) -> Option<&'static dyn Feed> {
    FEEDS.iter().copied().find(|feed| feed.name() == name)
}

/// The feed of a trade, by [`Trade::feed`]: `{name}` or `{name}-{venue}`.
pub fn of_trade(feed: &str) -> Option<&'static dyn Feed> {
    FEEDS
        .iter()
        .copied()
        .find(|f| feed.strip_prefix(f.name()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
}

/// The trade of a record that a spool of an older version holds as wire text; whose it is, the text says.
///
/// # Errors
/// What is wrong with it.
pub fn decode(wire: &[u8], received_at: Timestamp) -> Result<Trade, Refused> {
    let none = || Err(Refused { cause: "unknown_record", message: "no feed knows such a record".into() });
    FEEDS.iter().find_map(|feed| feed.decode(wire, received_at)).unwrap_or_else(none)
}

/// The names of all feeds, for people.
pub fn names() -> String {
    FEEDS.iter().map(|feed| feed.name()).collect::<Vec<_>>().join(", ")
}
