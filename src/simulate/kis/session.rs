//! One WebSocket connection: reads what the client says, writes what the exchange has for it, and asks for
//! signs of life.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::exchange::Exchange;
use super::protocol;
use crate::connection::{BATCH, Connection, Incoming, Outgoing, QUEUE};
use crate::event_log::Why;
use crate::korea::korean;

/// PINGPONGs whose answer may still come.
const OUTSTANDING: usize = 1024;
struct Session<S> {
    exchange: Arc<Exchange>,
    id: u64,
    connection: Connection<S>,
    /// Handed over when the session takes its app key's slot.
    sender: Option<mpsc::Sender<Outgoing>>,
    queue: mpsc::Receiver<Outgoing>,
    next_ping: Timestamp,
    /// PINGPONGs without an answer, the oldest first.
    outstanding: VecDeque<Ping>,
    /// Acknowledgements that are late, the earliest first.
    late: Vec<(Timestamp, Utf8Bytes)>,
}

struct Ping {
    text: Utf8Bytes,
    /// When it was sent: on the clock, and in real time.
    sent: (Timestamp, Instant),
}

/// Serves a connection whose handshake is done, until it ends.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(exchange: Arc<Exchange>, stream: S) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let id = exchange.next_session();
    let clock = exchange.played.clock.clone();
    let mut session = Session {
        id,
        connection: Connection::new(stream, id, clock.clone(), exchange.options.patience).await,
        sender: Some(sender),
        queue,
        next_ping: clock.now(),
        outstanding: VecDeque::new(),
        late: Vec::new(),
        exchange,
    };
    session.schedule_ping();
    tracing::debug!(session = id, "a client connected");
    let why = session.run().await;
    session.exchange.end(id, why);
    tracing::debug!(session = id, ?why, "a client is gone");
    if !matches!(why, Why::ClientClosed | Why::ClientLost) {
        session.connection.hang_up().await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn run(&mut self) -> Why {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let wake = self.late.first().map_or(self.next_ping, |(at, _)| self.next_ping.min(*at));
            let result = tokio::select! {
                message = self.connection.next() => self.hear(message).await,
                count = self.queue.recv_many(&mut batch, BATCH) => match count {
                    // The pacer ended this session.
                    0 => Err(Why::Disconnect),
                    _ => self.connection.write_batch(&mut batch).await,
                },
                () = self.exchange.played.clock.sleep_until(wake) => self.wake_up().await,
            };
            if let Err(why) = result {
                return why;
            }
        }
    }

    async fn hear(&mut self, message: Option<Result<Message, Error>>) -> Result<(), Why> {
        match self.connection.receive(message).await? {
            Incoming::Text(text) => self.hear_text(&text).await,
            Incoming::Pong(payload) => {
                self.answered(&payload);
                Ok(())
            }
            Incoming::Life => Ok(()),
        }
    }

    async fn hear_text(&mut self, text: &str) -> Result<(), Why> {
        if self.answered(text.as_bytes()) || protocol::is_echo(text) {
            return Ok(());
        }
        let reply = self.exchange.handle(self.id, &mut self.sender, text);
        match (reply.text, reply.late) {
            (Some(text), Some(by)) => {
                self.late.push((self.exchange.played.clock.now() + by, text.into()));
                self.late.sort_by_key(|(at, _)| *at);
            }
            (Some(text), None) => self.connection.write(vec![Message::Text(text.into())]).await?,
            (None, _) => {}
        }
        if let Some(then) = reply.then {
            self.connection.write(vec![Message::Text(then.into())]).await?;
        }
        if reply.drop { Err(Why::Refused) } else { Ok(()) }
    }

    async fn wake_up(&mut self) -> Result<(), Why> {
        let now = self.exchange.played.clock.now();
        let due = self.late.partition_point(|(at, _)| *at <= now);
        let late: Vec<Message> = self.late.drain(..due).map(|(_, text)| Message::Text(text)).collect();
        if !late.is_empty() {
            self.connection.write(late).await?;
        }
        if now < self.next_ping {
            return Ok(());
        }
        let options = &self.exchange.options;
        if let Some(Ping { sent: (at, really), .. }) = self.outstanding.front()
            && now.duration_since(*at) >= SignedDuration::try_from(options.answer_within).unwrap_or(SignedDuration::MAX)
            // However fast the clock runs, a client needs real time to answer.
            && really.elapsed() >= options.patience.min(options.answer_within)
        {
            return Err(Why::Silent);
        }
        let ping: Utf8Bytes = protocol::pingpong(&korean(now)).into();
        if self.outstanding.len() == OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(Ping { text: ping.clone(), sent: (now, Instant::now()) });
        self.schedule_ping();
        self.connection.write(vec![Message::Text(ping)]).await
    }

    /// Whether this is the answer to a PINGPONG; it also answers for the older ones.
    fn answered(&mut self, answer: &[u8]) -> bool {
        let place = self.outstanding.iter().position(|ping| ping.text.as_bytes() == answer);
        if let Some(place) = place {
            self.outstanding.drain(..=place);
        }
        place.is_some()
    }

    fn schedule_ping(&mut self) {
        let every = self.exchange.options.pingpong;
        let now = self.exchange.played.clock.now();
        let next = if every.is_zero() { None } else { now.checked_add(every).ok() };
        self.next_ping = next.unwrap_or(Timestamp::MAX);
    }
}
