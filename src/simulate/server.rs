//! The port: HTTP and WebSocket on one address, on any path, as a client of KIS expects them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::civil::Date;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exchange::Exchange;
use super::journal::{Happening, SimEvent, Why};
use super::ledger::LedgerTrade;
use super::market::{Market, TARGET_TRADES, regular_session};
use super::replay::Replay;
use super::script::Script;
use super::{pacing, replay, session};
use clock::Clock;
use domain::calendar::Session;

/// How a simulator behaves. [`SimulatorOptions::new`] gives every field a value; change what you need.
#[derive(Debug, Clone)]
pub struct SimulatorOptions {
    /// Its time.
    pub clock: Clock,
    /// Decides the market, the keys and the bytes of malformed frames.
    pub seed: u64,
    /// The day it plays.
    pub session: Session,
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
    address: SocketAddr,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Simulator {
    /// Makes the day and opens the port. The feed goes on at the clock's present: what lies before it is not sent.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(options: SimulatorOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let make = if options.after_market { Market::generate_with_after_market } else { Market::generate };
        let ledger: Arc<[LedgerTrade]> = match &options.replay {
            Some(_) => Arc::new([]),
            None => make(options.seed, &options.session, &options.symbols, options.target_trades).into(),
        };
        let replay = options.replay.clone();
        let exchange = Arc::new(Exchange::new(options, ledger));
        let simulator = Self { exchange, address, cancel: CancellationToken::new(), tasks: TaskTracker::new() };
        simulator.spawn(pacing::run(simulator.exchange.clone()));
        if let Some(replay) = replay {
            simulator.spawn(replay::run(simulator.exchange.clone(), replay));
        }
        let door =
            Door { exchange: simulator.exchange.clone(), cancel: simulator.cancel.clone(), tasks: simulator.tasks.clone() };
        simulator.spawn(door.accept(listener));
        Ok(simulator)
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            // Work that is cancelled has nothing to report.
            cancel.run_until_cancelled(work).await.unwrap_or_default();
        });
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Base of the REST calls.
    pub fn rest_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Address of the WebSocket.
    pub fn websocket_url(&self) -> String {
        format!("ws://{}/tryitout", self.address)
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
        self.exchange.state().journal.clone()
    }

    /// Drops every session, closes the port and waits until all is down.
    pub async fn stop(self) {
        let sessions: Vec<u64> = self.exchange.state().live.keys().copied().collect();
        for session in sessions {
            self.exchange.end(session, Why::Stopped);
        }
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// What a connection needs.
#[derive(Clone)]
struct Door {
    exchange: Arc<Exchange>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

/// The longest body of a REST call.
const LONGEST_BODY: usize = 64 * 1024;

impl Door {
    async fn accept(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (door, cancel) = (self.clone(), self.cancel.clone());
                    // Cut off when the simulator stops.
                    self.tasks.spawn(async move { cancel.run_until_cancelled(door.serve(stream)).await.unwrap_or_default() });
                }
                Err(error) => {
                    // Out of file descriptors, for example: give others time to close theirs.
                    tracing::warn!(%error, "the simulator cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it began");
            return;
        }
        let service = service_fn(move |request| {
            let door = self.clone();
            async move { Ok::<_, Infallible>(door.answer(request).await) }
        });
        let connection =
            hyper::server::conn::http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection broke");
        }
    }

    async fn answer(self, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        if header(UPGRADE).is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket")) {
            let key = header(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
            return self.upgrade(&mut request, key);
        }
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let body = match Limited::new(request.into_body(), LONGEST_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return plain(StatusCode::BAD_REQUEST, &format!("unreadable body: {error}")),
        };
        let (status, body) = self.exchange.rest(&method, &path, &body);
        let mut response = Response::new(Full::from(body.to_string()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json; charset=utf-8"));
        response
    }

    fn upgrade(self, request: &mut Request<Incoming>, accept: Option<String>) -> Response<Full<Bytes>> {
        let now = self.exchange.clock.now();
        if let Some(status) = self.exchange.script.handshake_refusal(now) {
            self.exchange.state().note(now, Happening::HandshakeRefused { status });
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            return plain(status, "the exchange takes no sessions");
        }
        let Some(accept) = accept.and_then(|accept| accept.parse().ok()) else {
            return plain(StatusCode::BAD_REQUEST, "a WebSocket handshake needs Sec-WebSocket-Key");
        };
        let upgrade = hyper::upgrade::on(request);
        let (exchange, cancel) = (self.exchange, self.cancel);
        let work = async move {
            match upgrade.await {
                Ok(stream) => session::serve(exchange, TokioIo::new(stream)).await,
                Err(error) => tracing::debug!(%error, "a handshake came to nothing"),
            }
        };
        // Cut off when the simulator stops.
        self.tasks.spawn(async move { cancel.run_until_cancelled(work).await.unwrap_or_default() });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, hyper::header::HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, hyper::header::HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{text}\n")));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
#[path = "server_tests/mod.rs"]
mod tests;
