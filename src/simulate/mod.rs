//! Floor 3: exchange simulators with a seed, a virtual clock and faults on demand, one folder an exchange.
//!
//! | file | what it decides |
//! |---|---|
//! | [`script`] | what goes wrong, and when |
//! | [`event_log`] | what was sent, and what was not |
//! | `pacing` | what is due when: a ledger and a script on the clock |
//! | `port`, `connection` | HTTP and WebSocket on one port; one connection |
//! | `simulator` | the exchange behind the port, as it runs |
//! | [`arguments`] | what every `openbell simulate` takes |
//! | [`kis`], … | the exchanges |
//!
//! Everything that is decided is decided by the seed, the script and the clock, so that a test can compute
//! what a client must have received. In one session delivery is in ledger order and without holes for the
//! symbols that are registered.
//!
//! Everybody else knows an exchange as an [`Exchange`] of the table [`EXCHANGES`]: the commands, and the
//! demo's proof, which compares what was traded with what arrived.

pub mod arguments;
mod connection;
pub mod event_log;
pub mod kis;
pub mod korea;
mod pacing;
mod port;
pub mod script;
mod simulator;
pub mod upbit;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;

use arguments::ArgumentError;
use clock::Clock;
use domain::calendar::TradingSession;
use domain::trade::EventId;

/// The exchanges that can be simulated: the one list of them.
pub const EXCHANGES: &[&dyn Exchange] = &[&kis::Kis, &upbit::Upbit];

/// The exchange of a feed.
pub fn find(feed: &str) -> Option<&'static dyn Exchange> {
    EXCHANGES.iter().copied().find(|exchange| exchange.feed() == feed)
}

/// Something that takes its time.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An exchange that can be simulated.
pub trait Exchange: fmt::Debug + Sync {
    /// The name of the feed that it serves.
    fn feed(&self) -> &'static str;

    /// Its name for people.
    fn title(&self) -> &'static str;

    /// The command `openbell simulate {feed}`.
    fn command(&self) -> clap::Command;

    /// What a command line asks for.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    fn planned(&self, line: &clap::ArgMatches) -> Result<Planned, ArgumentError>;

    /// The DAG that shows it, with the files it needs: paths below the DAG folder, and texts.
    fn shipped(&self) -> &'static [(&'static str, &'static str)];

    /// The demo's day, with its incidents.
    ///
    /// # Errors
    /// When the port cannot be opened.
    fn demo(&self, day: Day) -> BoxFuture<io::Result<Box<dyn Running>>>;
}

/// A day to be played.
#[derive(Debug, Clone)]
pub struct Day {
    /// Its time.
    pub clock: Clock,
    /// Decides the market and the incidents.
    pub seed: u64,
    /// From open to close.
    pub session: TradingSession,
    /// The market's symbols, the busiest first.
    pub symbols: Vec<String>,
    /// Port on the loopback address; 0 takes a free one.
    pub port: u16,
}

/// A simulator that a command line asks for.
pub struct Planned {
    /// The address it will listen on.
    pub listen: SocketAddr,
    /// Decides the market.
    pub seed: u64,
    /// Where its ledger is to be written.
    pub ledger: Option<PathBuf>,
    /// Whether programs read what it says.
    pub json: bool,
    /// Starts it.
    pub start: BoxFuture<io::Result<Box<dyn Running>>>,
}

/// A simulator that runs.
pub trait Running: Send + Sync {
    /// Where it is reached, by the keys of `feeds: { {feed}: { key: URL } }`.
    fn addresses(&self) -> BTreeMap<&'static str, String>;

    /// The address it listens on.
    fn listens_on(&self) -> SocketAddr;

    /// What it plays: a day, or a recording. For people.
    fn plays(&self) -> String;

    /// The day it plays.
    fn date(&self) -> Date;

    /// Every trade of its ledger, in the order in which they are sent. Where an exchange never closes, the
    /// ledger has some of the days around.
    fn traded(&self) -> Vec<Traded>;

    /// When which bytes that are no good frame are due.
    fn malformed_frames(&self) -> Vec<(Timestamp, Vec<u8>)>;

    /// Writes the ledger, as JSON lines.
    ///
    /// # Errors
    /// The writer's own.
    fn write_ledger(&self, out: &mut dyn io::Write) -> io::Result<()>;

    /// Drops every session, closes the port and waits until all is down.
    fn stop(self: Box<Self>) -> BoxFuture<()>;
}

/// A trade of an exchange's own ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traded {
    /// The id that a collector gives it.
    pub id: EventId,
    /// Instrument.
    pub symbol: Arc<str>,
    /// The session it belongs to.
    pub session_date: Date,
    /// Shares or units.
    pub quantity: Decimal,
}
