//! The socket task: carries out what the session machine says, stamps what comes in, and hands it to the spool. Nothing else.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message as Ws};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::intake::Intake;
use super::relaxed::Relaxed;
use backends::spool::{Kind, NewEntry};
use clock::Clock;
use config;
use executor::Wait;
use feed::kis::approval::{self, Refusal};
use feed::kis::session::{Input, Output, Session};
use feed::kis::{Control, FrameError, Message, parse};
use crate::Secret;

/// A connection, a handshake or a call takes at most this long, in real time.
const ANSWER: Duration = Duration::from_secs(10);

/// A text that cannot be sent within this, in real time, means that the connection is gone.
const SEND: Duration = Duration::from_secs(5);

/// How long a polite close may take, in real time.
const CLOSE: Duration = Duration::from_millis(250);

/// Largest message taken; KIS's are a few hundred bytes a record.
const LARGEST: usize = 4 << 20;

/// Messages and bytes taken from the socket in one go.
const GO: (usize, usize) = (128, 1 << 20);

type Connection = WebSocketStream<MaybeTlsStream<Relaxed<TcpStream>>>;
type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Why the socket task ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fatal(pub(super) String);

/// What the session machine waits for.
enum Pending {
    Nothing,
    Key(Call<Result<String, Refusal>>),
    Open(Call<Result<Box<Connection>, String>>),
}

/// What woke the task.
enum Event {
    Stop,
    Wake,
    Key(Result<String, Refusal>),
    Opened(Result<Box<Connection>, String>),
    Came(Option<Result<Ws, tungstenite::Error>>),
}

/// See the module.
pub(super) struct Socket {
    pub(super) clock: Clock,
    pub(super) kis: config::Kis,
    pub(super) http: reqwest::Client,
    pub(super) app_key: Secret,
    pub(super) app_secret: Secret,
    pub(super) session: Session,
    pub(super) intake: Intake,
    pub(super) spool: mpsc::Sender<Vec<NewEntry>>,
    pub(super) board: Arc<Board>,
    pub(super) stop: CancellationToken,
    pub(super) abandon: CancellationToken,
}

/// The task's moving parts.
struct State {
    connection: Option<Box<Connection>>,
    pending: Pending,
    /// The polite end of the connection before; the next one is opened after it, or its slot would still be taken.
    closing: Option<JoinHandle<()>>,
    /// What the spool gets next.
    batch: Vec<NewEntry>,
    /// Receipt times never go back, whatever the clock does.
    last_stamp: Timestamp,
    fatal: Option<Fatal>,
}

impl Socket {
    /// Works until it is stopped or nothing helps any more.
    pub(super) async fn run(mut self) -> Result<(), Fatal> {
        let mut state = State {
            connection: None,
            pending: Pending::Nothing,
            closing: None,
            batch: Vec::new(),
            last_stamp: Timestamp::MIN,
            fatal: None,
        };
        self.feed(&mut state, Input::Wake).await;
        while !self.session.has_ended() {
            let event = self.wait(&mut state).await;
            match event {
                Event::Stop => {
                    self.take_ready(&mut state).await;
                    self.feed(&mut state, Input::Stop).await;
                }
                Event::Wake => self.feed(&mut state, Input::Wake).await,
                Event::Key(result) => self.feed(&mut state, Input::Key(result)).await,
                Event::Opened(Ok(connection)) => {
                    state.connection = Some(connection);
                    self.feed(&mut state, Input::Opened).await;
                }
                Event::Opened(Err(why)) => self.feed(&mut state, Input::NotOpened(why)).await,
                Event::Came(first) => self.take(&mut state, first).await,
            }
            if !self.hand_over(&mut state).await {
                return Err(state
                    .fatal
                    .unwrap_or_else(|| Fatal("the spool could not be written before the time to stop was over".into())));
            }
            self.publish();
        }
        // Without its sender the spool's thread ends; it and the forwarders need not wait for the server's goodbye.
        drop(self.spool);
        if let Some(closing) = state.closing {
            ended(closing).await;
        }
        state.fatal.map_or(Ok(()), Err)
    }

    /// Takes what arrived before a stop.
    async fn take_ready(&mut self, state: &mut State) {
        if let Some(connection) = &mut state.connection
            && let Some(message) = connection.next().now_or_never()
        {
            self.take(state, message).await;
        }
    }

    async fn wait(&self, state: &mut State) -> Event {
        let wake = async {
            match self.session.wake_at() {
                Some(at) => self.clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let State { connection, pending, .. } = state;
        let came = async {
            match connection {
                Some(connection) => connection.next().await,
                None => std::future::pending().await,
            }
        };
        let answered = async {
            match pending {
                Pending::Nothing => std::future::pending().await,
                Pending::Key(call) => Event::Key(call.await),
                Pending::Open(call) => Event::Opened(call.await),
            }
        };
        let event = tokio::select! {
            biased;
            () = self.stop.cancelled() => Event::Stop,
            event = answered => event,
            message = came => Event::Came(message),
            () = wake => Event::Wake,
        };
        if matches!(event, Event::Key(_) | Event::Opened(_)) {
            state.pending = Pending::Nothing;
        }
        event
    }

    /// Takes a message and what is ready behind it.
    async fn take(&mut self, state: &mut State, first: Option<Result<Ws, tungstenite::Error>>) {
        let mut came = Some(first);
        let (mut messages, mut bytes) = (0, 0);
        while let Some(message) = came.take() {
            match message {
                Some(Ok(Ws::Text(text))) => {
                    bytes += text.len();
                    self.message(state, text.as_bytes()).await;
                }
                Some(Ok(Ws::Binary(data))) => {
                    bytes += data.len();
                    self.message(state, &data).await;
                }
                // The library answers pings; a close is followed by the end of the stream.
                Some(Ok(_)) => self.feed(state, Input::Traffic).await,
                Some(Err(error)) => {
                    let at = self.stamp(state);
                    if let Some(fault) = unreadable(&error) {
                        self.intake.malformed(b"", &fault, at, &mut state.batch);
                    }
                    state.connection = None;
                    self.feed(state, Input::Closed(format!("the connection broke: {error}"))).await;
                }
                None => {
                    state.connection = None;
                    self.feed(state, Input::Closed("the server closed the connection".into())).await;
                }
            }
            messages += 1;
            if messages < GO.0
                && bytes < GO.1
                && let Some(connection) = &mut state.connection
            {
                came = connection.next().now_or_never();
            }
        }
    }

    fn stamp(&self, state: &mut State) -> Timestamp {
        state.last_stamp = self.clock.now().max(state.last_stamp);
        state.last_stamp
    }

    async fn message(&mut self, state: &mut State, bytes: &[u8]) {
        let at = self.stamp(state);
        match parse(bytes) {
            Ok(Message::Data(frame)) => {
                self.intake.frame(bytes, &frame, at, &mut state.batch);
                self.board.update(|f| f.last_frame_at = Some(at));
                self.feed(state, Input::Data(&frame)).await;
            }
            Ok(Message::Control(control)) => {
                if let Control::Reply(reply) = &control
                    && reply.rt_cd != "0"
                {
                    let (tr_id, tr_key) = (reply.tr_id.as_deref().unwrap_or("-"), reply.tr_key.as_deref().unwrap_or("-"));
                    self.board.line(&format!("KIS says {} {} ({tr_id} {tr_key})", reply.code.as_str(), reply.text));
                }
                self.feed(state, Input::Control(control)).await;
            }
            Ok(Message::Sealed(sealed)) => {
                let message = format!("an encrypted frame of {} came, which this collector did not ask for", sealed.tr_id);
                let fault = FrameError { cause: "unexpected_encryption", message };
                self.intake.malformed(bytes, &fault, at, &mut state.batch);
                self.feed(state, Input::Traffic).await;
            }
            // A control message that cannot be read may hold a key: it is counted and described, not kept.
            Err(fault) if bytes.first() == Some(&b'{') => {
                self.board.line(&format!("a control message cannot be read: {fault}"));
                self.intake.malformed(b"[control message not kept]", &fault, at, &mut state.batch);
                self.feed(state, Input::Traffic).await;
            }
            Err(fault) => {
                self.intake.malformed(bytes, &fault, at, &mut state.batch);
                self.feed(state, Input::Traffic).await;
            }
        }
    }

    /// Feeds the machine and carries out what it says; what comes of that is fed back until it is content.
    async fn feed(&mut self, state: &mut State, input: Input<'_>) {
        let mut outputs: VecDeque<Output> = self.session.handle(input, self.clock.now()).into();
        while let Some(output) = outputs.pop_front() {
            let sent = match output {
                Output::AskKey => {
                    state.pending = Pending::Key(self.ask_key());
                    Ok(())
                }
                Output::Open => {
                    let (address, closing) = (self.kis.websocket.clone(), state.closing.take());
                    let call = async move {
                        if let Some(closing) = closing {
                            ended(closing).await;
                        }
                        open(address).await
                    };
                    state.pending = Pending::Open(call.boxed());
                    Ok(())
                }
                Output::Request(request) => match self.session.text(&request) {
                    Some(text) => send(state, text).await,
                    None => Ok(()),
                },
                Output::Echo(text) => send(state, text).await,
                Output::Close(_) => {
                    state.pending = Pending::Nothing;
                    if let Some(connection) = state.connection.take() {
                        state.closing = Some(tokio::spawn(close(connection)));
                    }
                    Ok(())
                }
                Output::Up { number, active } => {
                    self.board.line(&format!("session {number} is up with {active} registrations"));
                    self.board.update(|f| f.ready = true);
                    self.mark(state, Kind::SessionUp, json!({"session": number, "registrations": active}));
                    Ok(())
                }
                Output::Down { number, reason, last_message_at } => {
                    self.board.line(&format!("session {number} is down: {reason}"));
                    let facts = json!({"session": number, "reason": reason, "last_message_at": last_message_at.to_string()});
                    self.mark(state, Kind::SessionDown, facts);
                    Ok(())
                }
                Output::Note(note) => {
                    self.board.line(&note);
                    Ok(())
                }
                Output::Fatal { reason, remedy } => {
                    state.fatal = Some(Fatal(format!("{reason}; {remedy}")));
                    Ok(())
                }
            };
            if let Err(why) = sent {
                state.connection = None;
                outputs = self.session.handle(Input::Closed(why), self.clock.now()).into();
            }
        }
    }

    fn mark(&self, state: &mut State, kind: Kind, facts: serde_json::Value) {
        let received_at = self.stamp(state);
        state.batch.push(NewEntry { kind, received_at, body: facts.to_string().into_bytes() });
    }

    fn ask_key(&self) -> Call<Result<String, Refusal>> {
        let body = approval::body(self.app_key.reveal(), self.app_secret.reveal());
        let url = format!("{}{}", self.kis.rest.trim_end_matches('/'), approval::PATH);
        let call = self.http.post(url).json(&body);
        async move {
            let answer = async {
                let response = call.send().await?;
                let status = response.status().as_u16();
                Ok::<_, reqwest::Error>((status, response.text().await?))
            };
            match tokio::time::timeout(ANSWER, answer).await {
                Ok(Ok((status, text))) => approval::answer(status, &text),
                Ok(Err(error)) => Err(Refusal::Failed(format!("the approval call failed: {}", chain(&error)))),
                Err(_) => Err(Refusal::Failed(format!("the approval call had no answer for {} s", ANSWER.as_secs()))),
            }
        }
        .boxed()
    }

    /// Gives the batch to the spool's thread and waits while that is behind; false when there is no more time to wait.
    async fn hand_over(&self, state: &mut State) -> bool {
        if state.batch.is_empty() {
            return true;
        }
        let batch = std::mem::take(&mut state.batch);
        tokio::select! {
            sent = self.spool.send(batch) => sent.is_ok(),
            () = self.abandon.cancelled() => false,
        }
    }

    fn publish(&self) {
        let counts = self.intake.counts();
        let (gaps, gap_shares) = self.intake.gaps();
        self.board.update(|f| {
            f.counts = counts;
            f.last_trades.clone_from(self.intake.latest());
            (f.gaps, f.gap_shares) = (gaps, gap_shares);
            f.session = self.session.number();
            f.active = self.session.active();
            f.reconnects = self.session.reconnects();
            f.waits = self.session.waits().map(|(until, why)| Wait { until, reason: why.to_owned() });
        });
        self.board.trouble("feed", self.session.degraded().filter(|_| !self.session.has_ended()));
    }
}

/// The cause of a message that the library could not give us, if it was about a message and not about the connection.
fn unreadable(error: &tungstenite::Error) -> Option<FrameError> {
    match error {
        tungstenite::Error::Utf8(_) => {
            Some(FrameError { cause: "bad_utf8", message: "a text message is not UTF-8; its bytes are lost".into() })
        }
        tungstenite::Error::Capacity(why) => {
            Some(FrameError { cause: "too_long", message: format!("{why}; its bytes are lost") })
        }
        _ => None,
    }
}

async fn open(address: String) -> Result<Box<Connection>, String> {
    let connect = async {
        let request = address.as_str().into_client_request().map_err(|e| format!("{address} is not a WebSocket address: {e}"))?;
        let uri = request.uri().clone();
        let (Some(host), tls) = (uri.host(), uri.scheme_str() == Some("wss")) else {
            return Err(format!("{address} names no host"));
        };
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let stream =
            TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(|e| format!("{host}:{port}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| format!("{host}:{port}: {e}"))?;
        let config =
            WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST)).write_buffer_size(0);
        match tokio_tungstenite::client_async_tls_with_config(request, Relaxed::new(stream, !tls), Some(config), None).await {
            Ok((connection, _)) => Ok(Box::new(connection)),
            Err(tungstenite::Error::Http(response)) => Err(format!("{host}:{port} answered HTTP {}", response.status().as_u16())),
            Err(error) => Err(format!("{host}:{port}: {error}")),
        }
    };
    tokio::time::timeout(ANSWER, connect).await.unwrap_or_else(|_| Err(format!("no answer for {} s", ANSWER.as_secs())))
}

async fn send(state: &mut State, text: String) -> Result<(), String> {
    // What was decided for a connection that broke meanwhile needs no sending.
    let Some(connection) = &mut state.connection else { return Ok(()) };
    match tokio::time::timeout(SEND, connection.send(Ws::text(text))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the connection broke: {error}")),
        Err(_) => Err(format!("nothing could be sent for {} s", SEND.as_secs())),
    }
}

/// Says goodbye; a server that does not listen is left without.
async fn close(mut connection: Box<Connection>) {
    let goodbye = async {
        if WebSocketStream::close(&mut connection, None).await.is_ok() {
            while let Some(Ok(_)) = connection.next().await {}
        }
    };
    if tokio::time::timeout(CLOSE, goodbye).await.is_err() {
        tracing::debug!("the server did not confirm the close of the connection");
    }
}

/// Waits for the end of a close, which has a limit of its own.
async fn ended(closing: JoinHandle<()>) {
    if let Err(error) = closing.await {
        tracing::warn!(%error, "the close of a connection broke off");
    }
}

/// An error and what caused it, in one line, without the address's query.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
