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
use crate::event_log::Why;
use crate::korea::instant;
use crate::pacing;
use crate::port::Port;
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
    /// Real time that a client has to take what is written to it, and to show its life, however fast the clock runs.
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
        let (port, exchange) = Port::open(options.listen, || {
            let ledger: Arc<[LedgerTrade]> =
                Market::generate(options.seed, &options.day, &options.codes, options.target_trades).into();
            Arc::new(Exchange::new(options, ledger))
        })
        .await?;
        port.spawn(pacing::run(exchange.clone()));
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
        format!("ws://{}/websocket/v1", self.local_addr())
    }

    /// Every trade of the day and of an hour on each side of it, in the order in which the exchange sends them.
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
