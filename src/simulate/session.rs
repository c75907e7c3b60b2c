//! One WebSocket connection: reads what the client says, writes what the exchange has for it, and asks for signs of life.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::exchange::{Exchange, Outgoing, QUEUE};
use super::journal::Why;
use super::ledger::korean;
use super::protocol;

/// The longest message that a client may send.
const LONGEST: usize = 64 * 1024;
/// Messages written between two flushes at most.
const BATCH: usize = 512;
/// PINGPONGs whose answer may still come.
const OUTSTANDING: usize = 1024;
/// How long (real) a client may take to notice that it has been dropped before its socket is closed under it.
const LINGER: Duration = Duration::from_millis(500);

struct Session<S> {
    exchange: Arc<Exchange>,
    id: u64,
    socket: WebSocketStream<S>,
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
    let config = WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
    let (sender, queue) = mpsc::channel(QUEUE);
    let mut session = Session {
        id: exchange.next_session(),
        socket: WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await,
        sender: Some(sender),
        queue,
        next_ping: exchange.clock.now(),
        outstanding: VecDeque::new(),
        late: Vec::new(),
        exchange,
    };
    session.schedule_ping();
    let id = session.id;
    tracing::debug!(session = id, "a client connected");
    let why = session.run().await;
    session.exchange.end(id, why);
    tracing::debug!(session = id, ?why, "a client is gone");
    if !matches!(why, Why::ClientClosed | Why::ClientLost) {
        session.hang_up().await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn run(&mut self) -> Why {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let wake = self.late.first().map_or(self.next_ping, |(at, _)| self.next_ping.min(*at));
            let result = tokio::select! {
                message = self.socket.next() => self.hear(message).await,
                count = self.queue.recv_many(&mut batch, BATCH) => match count {
                    // The pacer ended this session.
                    0 => Err(Why::Disconnect),
                    _ => self.write_batch(&mut batch).await,
                },
                () = self.exchange.clock.sleep_until(wake) => self.wake_up().await,
            };
            if let Err(why) = result {
                return why;
            }
        }
    }

    async fn hear(&mut self, message: Option<Result<Message, Error>>) -> Result<(), Why> {
        match message {
            Some(Ok(Message::Text(text))) => self.hear_text(&text).await,
            Some(Ok(Message::Binary(bytes))) => match std::str::from_utf8(&bytes) {
                Ok(text) => self.hear_text(text).await,
                Err(_) => self.hear_text("").await,
            },
            Some(Ok(Message::Pong(payload))) => {
                self.answered(&payload);
                Ok(())
            }
            // The answer to a protocol ping is queued by the library and leaves with the next read.
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => {
                // The library answers the close frame while it is read to its end.
                let read = async { while let Some(Ok(_)) = self.socket.next().await {} };
                if tokio::time::timeout(LINGER, read).await.is_err() {
                    tracing::debug!(session = self.id, "the client closed its session and left the socket open");
                }
                Err(Why::ClientClosed)
            }
            Some(Err(error)) => {
                tracing::debug!(session = self.id, %error, "the connection broke");
                Err(Why::ClientLost)
            }
            None => Err(Why::ClientLost),
        }
    }

    async fn hear_text(&mut self, text: &str) -> Result<(), Why> {
        if self.answered(text.as_bytes()) || protocol::is_echo(text) {
            return Ok(());
        }
        let reply = self.exchange.handle(self.id, &mut self.sender, text);
        match (reply.text, reply.late) {
            (Some(text), Some(by)) => {
                self.late.push((self.exchange.clock.now() + by, text.into()));
                self.late.sort_by_key(|(at, _)| *at);
            }
            (Some(text), None) => self.write(vec![Message::Text(text.into())]).await?,
            (None, _) => {}
        }
        if let Some(then) = reply.then {
            self.write(vec![Message::Text(then.into())]).await?;
        }
        if reply.drop { Err(Why::Refused) } else { Ok(()) }
    }

    async fn wake_up(&mut self) -> Result<(), Why> {
        let now = self.exchange.clock.now();
        let due = self.late.partition_point(|(at, _)| *at <= now);
        let late: Vec<Message> = self.late.drain(..due).map(|(_, text)| Message::Text(text)).collect();
        if !late.is_empty() {
            self.write(late).await?;
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
        self.write(vec![Message::Text(ping)]).await
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
        let next = if every.is_zero() { None } else { self.exchange.clock.now().checked_add(every).ok() };
        self.next_ping = next.unwrap_or(Timestamp::MAX);
    }

    async fn write_batch(&mut self, batch: &mut Vec<Outgoing>) -> Result<(), Why> {
        let mut messages = Vec::with_capacity(batch.len());
        let mut silent = None;
        for outgoing in batch.drain(..) {
            messages.push(match outgoing {
                Outgoing::Text(text) => Message::Text(text),
                Outgoing::Binary(bytes) => Message::Binary(bytes),
                Outgoing::RawText(bytes) => raw_text(bytes),
                Outgoing::HalfOpen(until) => {
                    silent = Some(until);
                    break;
                }
            });
        }
        self.write(messages).await?;
        let Some(until) = silent else { return Ok(()) };
        // Neither reads nor writes: to the client the line is up and dead.
        self.exchange.clock.sleep_until(until).await;
        Err(Why::HalfOpen)
    }

    /// Writes messages and flushes once; a client that does not take them in time is too slow.
    async fn write(&mut self, messages: Vec<Message>) -> Result<(), Why> {
        let socket = &mut self.socket;
        let work = async move {
            for message in messages {
                socket.feed(message).await?;
            }
            socket.flush().await
        };
        match tokio::time::timeout(self.exchange.options.patience, work).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::debug!(session = self.id, %error, "the connection broke");
                Err(Why::ClientLost)
            }
            Err(_) => Err(Why::Slow),
        }
    }

    /// Ends the connection as KIS does: no close frame, just the end of the stream. What was written before arrives, so the
    /// socket is read until the client has noticed; closing it with unread bytes would tear away the last message.
    async fn hang_up(&mut self) {
        let stream = self.socket.get_mut();
        let work = async {
            stream.shutdown().await?;
            let mut scrap = [0; 4096];
            while stream.read(&mut scrap).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        match tokio::time::timeout(LINGER, work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(session = self.id, %error, "the client closed its side first"),
            Err(_) => tracing::debug!(session = self.id, "the client has not noticed that it was dropped"),
        }
    }
}

/// A text message, UTF-8 or not.
fn raw_text(bytes: Bytes) -> Message {
    Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true))
}
