//! A running KIS simulator: REST and WebSocket on one port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;

use super::exchange::Exchange;
use super::ledger::LedgerTrade;
use super::market::{Market, TARGET_TRADES, regular_session};
use super::replay::Replay;
use super::script::Script;
use super::{SimEvent, replay};
use crate::Traded;
use crate::event_log::Why;
use crate::simulator::{self, Simulated};
use clock::Clock;
use domain::calendar::TradingSession;

/// How a simulator behaves. [`SimulatorOptions::new`] gives every field a value; change what you need.
#[derive(Debug, Clone)]
pub struct SimulatorOptions {
    /// Its time.
    pub clock: Clock,
    /// Decides the market, the keys and the bytes of malformed frames.
    pub seed: u64,
    /// The day it plays.
    pub session: TradingSession,
    /// The market's symbols, the busiest first.
    pub symbols: Vec<String>,
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Fields of a trade record: 47, or 46 for the layout before 2026-09-14.
    pub width: usize,
    /// Registrations that a session may hold.
    pub limit: usize,
    /// App keys with their secrets; none: every non-empty pair is good.
    pub accounts: Vec<(String, String)>,
    /// What goes wrong, and when.
    pub script: Script,
    /// How long a slot stays taken after a session ended without a close frame.
    pub slot_hold: Duration,
    /// Time between two PINGPONGs; zero for none.
    pub pingpong: Duration,
    /// A session that answers no PINGPONG for this long is dropped.
    pub answer_within: Duration,
    /// Real time that a client has to take what is written to it, and to answer, however fast the clock runs.
    pub patience: Duration,
    /// About how many trades the day has.
    pub target_trades: usize,
    /// Whether trading goes on from 16:00 to 20:00.
    pub after_market: bool,
    /// Recorded frames instead of a market.
    pub replay: Option<Replay>,
}

impl SimulatorOptions {
    /// A quiet regular day on a free port of this machine.
    pub fn new(clock: Clock, seed: u64, date: Date, symbols: Vec<String>) -> Self {
        Self {
            clock,
            seed,
            session: regular_session(date),
            symbols,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            width: 47,
            limit: 41,
            accounts: Vec::new(),
            script: Script::quiet(seed, date),
            slot_hold: Duration::from_secs(30),
            pingpong: Duration::from_secs(10),
            answer_within: Duration::from_secs(100),
            patience: Duration::from_secs(5),
            target_trades: TARGET_TRADES,
            after_market: false,
            replay: None,
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
        let replay = options.replay.clone();
        let simulator = simulator::open(options.listen, || {
            let make =
                if options.after_market { Market::generate_with_after_market } else { Market::generate };
            let ledger: Arc<[LedgerTrade]> = match &options.replay {
                Some(_) => Arc::new([]),
                None => make(options.seed, &options.session, &options.symbols, options.target_trades).into(),
            };
            Arc::new(Exchange::new(options, ledger))
        })
        .await?;
        if let Some(replay) = replay {
            simulator.spawn(|exchange| replay::run(exchange, replay));
        }
        Ok(simulator)
    }
}

impl Simulated for Exchange {
    const WEBSOCKET: &'static str = "/tryitout";

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

    fn replayed(&self) -> Option<usize> {
        self.options.replay.as_ref().map(|replay| replay.frames.len())
    }

    fn traded(trade: &LedgerTrade) -> Traded {
        Traded {
            id: trade.id(),
            symbol: trade.symbol.clone(),
            session_date: trade.instrument.date,
            quantity: trade.quantity.into(),
        }
    }
}

#[cfg(test)]
mod tests;
