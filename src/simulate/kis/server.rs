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
use crate::event_log::Why;
use crate::pacing;
use crate::port::Port;
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

/// A running simulator. Dropping it ends it without waiting; [`stop`](Self::stop) waits.
pub struct Simulator {
    exchange: Arc<Exchange>,
    port: Port,
}

impl Simulator {
    /// Makes the day and opens the port. The feed goes on at the clock's present: what lies before it is not sent.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(options: SimulatorOptions) -> io::Result<Self> {
        let replay = options.replay.clone();
        let (port, exchange) = Port::open(options.listen, || {
            let make = if options.after_market { Market::generate_with_after_market } else { Market::generate };
            let ledger: Arc<[LedgerTrade]> = match &options.replay {
                Some(_) => Arc::new([]),
                None => make(options.seed, &options.session, &options.symbols, options.target_trades).into(),
            };
            Arc::new(Exchange::new(options, ledger))
        })
        .await?;
        port.spawn(pacing::run(exchange.clone()));
        if let Some(replay) = replay {
            port.spawn(replay::run(exchange.clone(), replay));
        }
        Ok(Self { exchange, port })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.port.address()
    }

    /// Base of the REST calls.
    pub fn rest_url(&self) -> String {
        format!("http://{}", self.local_addr())
    }

    /// Address of the WebSocket.
    pub fn websocket_url(&self) -> String {
        format!("ws://{}/tryitout", self.local_addr())
    }

    /// Every trade of the day, in the order in which the exchange sends them.
    pub fn ledger(&self) -> Arc<[LedgerTrade]> {
        self.exchange.ledger.clone()
    }

    /// Whether the trade with this index in the ledger was handed to a session, by this simulator since its start.
    pub fn was_sent(&self, index: usize) -> bool {
        self.exchange.was_sent(index)
    }

    /// What goes wrong, and when.
    pub fn script(&self) -> &Script {
        &self.exchange.script
    }

    /// What it did since its start.
    pub fn journal(&self) -> Vec<SimEvent> {
        self.exchange.state().journal.events()
    }

    /// Drops every session, closes the port and waits until all is down.
    pub async fn stop(self) {
        let sessions: Vec<u64> = self.exchange.state().live.keys().copied().collect();
        for session in sessions {
            self.exchange.end(session, Why::Stopped);
        }
        self.port.close().await;
    }
}

#[cfg(test)]
mod tests;
