//! A running simulator: an exchange behind a port.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::event_log::{SimEvent, Why};
use super::pacing::{self, Paced};
use super::port::{Handler, Port};
use super::script::Script;
use super::{BoxFuture, Running, Traded};
use clock::Clock;

/// What an exchange plays.
pub struct Played<F, T> {
    pub(crate) clock: Clock,
    /// What goes wrong.
    pub(crate) script: Script<F>,
    /// What decides the market.
    pub(crate) seed: u64,
    /// The day.
    pub(crate) date: Date,
    pub(crate) ledger: Arc<[T]>,
    /// When it started: it goes on from there.
    pub(crate) started: Timestamp,
}

/// An exchange that a simulator plays.
pub trait Simulated: Paced<Trade: Serialize> {
    /// The path of its WebSocket.
    const WEBSOCKET: &'static str;

    /// See [`Simulator::was_sent`].
    fn was_sent(&self, index: usize) -> bool;

    /// See [`Simulator::journal`].
    fn journal(&self) -> Vec<SimEvent<Self::Fault>>;

    /// The sessions that are up.
    fn sessions(&self) -> Vec<u64>;

    /// Ends one.
    fn end(&self, session: u64, why: Why);

    /// How many recorded frames it plays, if it plays those instead of a day.
    fn replayed(&self) -> Option<usize> {
        None
    }

    /// A trade as others know it.
    fn traded(trade: &Self::Trade) -> Traded;
}

/// A running simulator. Dropping it ends it without waiting; [`stop`](Self::stop) waits.
pub struct Simulator<E> {
    exchange: Arc<E>,
    port: Port,
}

impl<E: Simulated> Simulator<E> {
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
        format!("ws://{}{}", self.local_addr(), E::WEBSOCKET)
    }

    /// Every trade of the day, in the order in which the exchange sends them. Where it never closes, those of
    /// an hour on each side of the day are among them.
    pub fn ledger(&self) -> Arc<[E::Trade]> {
        Arc::clone(&self.exchange.played().ledger)
    }

    /// Whether the trade with this index in the ledger was handed to a session, by this simulator since its
    /// start.
    pub fn was_sent(&self, index: usize) -> bool {
        self.exchange.was_sent(index)
    }

    /// What goes wrong, and when.
    pub fn script(&self) -> &Script<E::Fault> {
        &self.exchange.played().script
    }

    /// What it did since its start.
    pub fn journal(&self) -> Vec<SimEvent<E::Fault>> {
        self.exchange.journal()
    }

    /// Drops every session, closes the port and waits until all is down.
    pub async fn stop(self) {
        for session in self.exchange.sessions() {
            self.exchange.end(session, Why::Stopped);
        }
        self.port.close().await;
    }
}

/// Opens the port of an exchange, which is made when it is open, and sends its day.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) async fn open<E>(listen: SocketAddr, exchange: impl FnOnce() -> Arc<E>) -> io::Result<Simulator<E>>
where
    E: Simulated + Handler,
{
    let (port, exchange) = Port::open(listen, exchange).await?;
    port.spawn(pacing::run(exchange.clone()));
    Ok(Simulator { exchange, port })
}

impl<E> Simulator<E> {
    /// Starts something more that ends with it.
    pub(crate) fn spawn<W>(&self, work: impl FnOnce(Arc<E>) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        self.port.spawn(work(Arc::clone(&self.exchange)));
    }
}

/// A simulator that starts, as those know it who know no exchange.
pub(crate) fn running<E: Simulated>(
    start: impl Future<Output = io::Result<Simulator<E>>> + Send + 'static,
) -> BoxFuture<io::Result<Box<dyn Running>>> {
    Box::pin(async move { Ok(Box::new(start.await?) as Box<dyn Running>) })
}

impl<E: Simulated> Running for Simulator<E> {
    fn addresses(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([("rest", self.rest_url()), ("websocket", self.websocket_url())])
    }

    fn listens_on(&self) -> SocketAddr {
        self.local_addr()
    }

    fn plays(&self) -> String {
        if let Some(frames) = self.exchange.replayed() {
            return format!("replays {frames} frames");
        }
        let Played { date, ledger, seed, .. } = self.exchange.played();
        format!("plays {date}, {} trades, seed {seed}", ledger.len())
    }

    fn date(&self) -> Date {
        self.exchange.played().date
    }

    fn traded(&self) -> Vec<Traded> {
        self.exchange.played().ledger.iter().map(E::traded).collect()
    }

    fn malformed_frames(&self) -> Vec<(Timestamp, Vec<u8>)> {
        self.script().malformed_frames()
    }

    fn write_ledger(&self, out: &mut dyn Write) -> io::Result<()> {
        self.exchange.played().ledger.iter().try_for_each(|trade| {
            serde_json::to_writer(&mut *out, trade)?;
            out.write_all(b"\n")
        })
    }

    fn stop(self: Box<Self>) -> BoxFuture<()> {
        Box::pin((*self).stop())
    }
}
