//! The exchange's end of a WebSocket connection: what is waiting for it, and how it is written, silenced and
//! ended.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::event_log::Why;
use clock::Clock;

/// Messages that may wait for one session.
pub(crate) const QUEUE: usize = 8192;
/// Messages written between two flushes at most.
pub(crate) const BATCH: usize = 512;
/// The longest message that a client may send.
const LONGEST: usize = 64 * 1024;
/// How long (real) a client may take to notice that it has been dropped before its socket is closed under it.
const LINGER: Duration = Duration::from_millis(500);

/// What a session is told to do.
#[derive(Debug, Clone)]
pub(crate) enum Outgoing {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A text message whatever its bytes.
    RawText(Bytes),
    /// Fall silent until then, and be gone.
    HalfOpen(Timestamp),
}

/// What came from the client.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message; one that is no text is empty.
    Text(Utf8Bytes),
    Pong(Bytes),
    /// Nothing to answer.
    Life,
}

/// A connection whose handshake is done.
pub(crate) struct Connection<S> {
    socket: WebSocketStream<S>,
    session: u64,
    clock: Clock,
    /// Real time that a client has to take what is written to it.
    patience: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) async fn new(stream: S, session: u64, clock: Clock, patience: Duration) -> Self {
        let config = WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        Self { socket, session, clock, patience }
    }

    /// Waits for the client. The wait can be given up and begun again; what is to be done about the message
    /// is in [`Connection::heard`].
    pub(crate) async fn next(&mut self) -> Option<Result<Message, Error>> {
        self.socket.next().await
    }

    /// What a message means; a goodbye is answered.
    ///
    /// # Errors
    /// Why the connection is over.
    pub(crate) async fn receive(&mut self, message: Option<Result<Message, Error>>) -> Result<Incoming, Why> {
        match message {
            Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
            Some(Ok(Message::Binary(bytes))) => {
                Ok(Incoming::Text(Utf8Bytes::try_from(bytes).unwrap_or_default()))
            }
            Some(Ok(Message::Pong(payload))) => Ok(Incoming::Pong(payload)),
            // The answer to a protocol ping is queued by the library and leaves with the next read.
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => Ok(Incoming::Life),
            Some(Ok(Message::Close(_))) => {
                // The library answers the close frame while it is read to its end.
                let read = async { while let Some(Ok(_)) = self.socket.next().await {} };
                if tokio::time::timeout(LINGER, read).await.is_err() {
                    tracing::debug!(
                        session = self.session,
                        "the client closed its session and left the socket open"
                    );
                }
                Err(Why::ClientClosed)
            }
            Some(Err(error)) => {
                tracing::debug!(session = self.session, %error, "the connection broke");
                Err(Why::ClientLost)
            }
            None => Err(Why::ClientLost),
        }
    }

    /// Writes what waited in the queue.
    ///
    /// # Errors
    /// Why the connection is over.
    pub(crate) async fn write_batch(&mut self, batch: &mut Vec<Outgoing>) -> Result<(), Why> {
        let mut messages = Vec::with_capacity(batch.len());
        let mut silent = None;
        for outgoing in batch.drain(..) {
            messages.push(match outgoing {
                Outgoing::Text(text) => Message::Text(text),
                Outgoing::Binary(bytes) => Message::Binary(bytes),
                Outgoing::RawText(bytes) => {
                    Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true))
                }
                Outgoing::HalfOpen(until) => {
                    silent = Some(until);
                    break;
                }
            });
        }
        self.write(messages).await?;
        let Some(until) = silent else { return Ok(()) };
        // Neither reads nor writes: to the client the line is up and dead.
        self.clock.sleep_until(until).await;
        Err(Why::HalfOpen)
    }

    /// Writes messages and flushes once; a client that does not take them in time is too slow.
    ///
    /// # Errors
    /// Why the connection is over.
    pub(crate) async fn write(&mut self, messages: Vec<Message>) -> Result<(), Why> {
        let socket = &mut self.socket;
        let work = async move {
            for message in messages {
                socket.feed(message).await?;
            }
            socket.flush().await
        };
        match tokio::time::timeout(self.patience, work).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::debug!(session = self.session, %error, "the connection broke");
                Err(Why::ClientLost)
            }
            Err(_) => Err(Why::Slow),
        }
    }

    /// Ends the connection as exchanges do: no close frame, just the end of the stream. What was written
    /// before arrives, so the socket is read until the client has noticed; closing it with unread bytes would
    /// tear away the last message.
    pub(crate) async fn hang_up(&mut self) {
        let stream = self.socket.get_mut();
        let work = async {
            stream.shutdown().await?;
            let mut scrap = [0; 4096];
            while stream.read(&mut scrap).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        match tokio::time::timeout(LINGER, work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(session = self.session, %error, "the client closed its side first")
            }
            Err(_) => {
                tracing::debug!(session = self.session, "the client has not noticed that it was dropped")
            }
        }
    }
}

/// Waits, for a limited time, until every queue has room again; says whose has none.
pub(crate) async fn without_room(queues: Vec<(u64, mpsc::Sender<Outgoing>)>, patience: Duration) -> Vec<u64> {
    let mut full = Vec::new();
    for (session, queue) in queues.into_iter().filter(|(_, queue)| queue.capacity() < QUEUE / 2) {
        let room = tokio::time::timeout(patience, queue.reserve_many(QUEUE / 2)).await;
        if !matches!(room, Ok(Ok(_))) {
            full.push(session);
        }
    }
    full
}
