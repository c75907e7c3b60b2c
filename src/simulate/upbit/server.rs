//! A running Upbit simulator: REST and WebSocket on one port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, time};

use super::exchange::Exchange;
use super::ledger::LedgerTrade;
use super::market::{Market, TARGET_TRADES};
use super::script::Script;
use super::{SimEvent, markets};
use crate::Traded;
use crate::event_log::Why;
use crate::korea::instant;
use crate::simulator::{self, Simulated};
use clock::Clock;
use domain::calendar::TradingSession;

/// How a simulator behaves. [`SimulatorOptions::new`] gives every field a value; change what you need.
#[derive(Debug, Clone)]
pub struct SimulatorOptions {
    /// Its time.
    pub clock: Clock,
    /// Decides the market and the bytes of malformed messages.
    pub seed: u64,
    /// The day it plays: from midnight to midnight in Korea.
    pub day: TradingSession,
    /// The markets there are, the busiest first.
    pub codes: Vec<String>,
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What goes wrong, and when.
    pub script: Script,
    /// Whether a market that does not exist is an error; else it brings no data.
    pub strict: bool,
    /// Whether messages are text ones.
    pub text: bool,
    /// A session that says nothing for this long is dropped.
    pub idle: Duration,
    /// Real time that a client has to take what is written to it, and to show its life, however fast the
    /// clock runs.
    pub patience: Duration,
    /// About how many trades the day has.
    pub target_trades: usize,
}

/// A date from midnight to midnight in Korea.
pub fn whole_day(date: Date) -> TradingSession {
    let midnight = |date: Date| instant(date, time(0, 0, 0, 0));
    TradingSession { date, open: midnight(date), close: midnight(date.tomorrow().unwrap_or(date)) }
}

impl SimulatorOptions {
    /// A quiet day on a free port of this machine.
    pub fn new(clock: Clock, seed: u64, date: Date) -> Self {
        Self {
            clock,
            seed,
            day: whole_day(date),
            codes: markets::codes(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            script: Script::quiet(seed, date),
            strict: false,
            text: false,
            idle: Duration::from_secs(120),
            patience: Duration::from_secs(5),
            target_trades: TARGET_TRADES,
        }
    }
}

/// A running simulator of it.
pub type Simulator = simulator::Simulator<Exchange>;

impl Simulator {
    /// Makes the day and opens the port. The feed goes on at the clock's present: what lies before it is not
    /// sent.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(options: SimulatorOptions) -> io::Result<Self> {
        simulator::open(options.listen, || {
            let SimulatorOptions { seed, day, codes, target_trades, .. } = &options;
            let ledger: Arc<[LedgerTrade]> = Market::generate(*seed, day, codes, *target_trades).into();
            Arc::new(Exchange::new(options, ledger))
        })
        .await
    }
}

impl Simulated for Exchange {
    const WEBSOCKET: &'static str = "/websocket/v1";

    fn was_sent(&self, index: usize) -> bool {
        Self::was_sent(self, index)
    }

    fn journal(&self) -> Vec<SimEvent> {
        self.state().journal.events()
    }

    fn sessions(&self) -> Vec<u64> {
        self.state().live.keys().copied().collect()
    }

    fn end(&self, session: u64, why: Why) {
        Self::end(self, session, why);
    }

    fn traded(trade: &LedgerTrade) -> Traded {
        let (symbol, session_date) = (trade.code.clone(), trade.session_date());
        Traded { id: trade.id(), symbol, session_date, quantity: trade.quantity() }
    }
}

#[cfg(test)]
mod tests;
