//! The socket task: carries out what the feed's session says, stamps what comes in, and hands it to the
//! spool. Nothing else.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, SinkExt, StreamExt};
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message as Ws};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use super::status::CollectorStatus;
use super::text_as_binary::TextAsBinary;
use backends::spool::{Kind, NewEntry};
use clock::Clock;
use executor::Wait;
use feed::{Answer, Connect, Data, Input, Malformed, Method, Outgoing, Output, Refused, Request, Session};

/// A connection and its handshake take at most this long, in real time.
const ANSWER: Duration = Duration::from_secs(10);

/// A message that cannot be sent within this, in real time, means that the connection is gone.
const SEND: Duration = Duration::from_secs(5);

/// How long a polite close may take, in real time.
const CLOSE: Duration = Duration::from_millis(250);

/// Largest message or answer taken; a trade is a few hundred bytes.
const LARGEST: usize = 4 << 20;

/// Messages and bytes taken from the socket in one go.
const GO: (usize, usize) = (128, 1 << 20);

type Connection = WebSocketStream<MaybeTlsStream<TextAsBinary<TcpStream>>>;
type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Why the socket task ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fatal(pub(super) String);

/// What woke the task.
enum Event {
    Stop,
    Tick,
    Answer(Result<Answer, String>),
    Opened(Result<Box<Connection>, String>),
    Came(Option<Result<Ws, tungstenite::Error>>),
}

/// See the module.
pub(super) struct Socket {
    pub(super) clock: Clock,
    pub(super) http: reqwest::Client,
    pub(super) session: Box<dyn Session>,
    pub(super) recorder: Recorder,
    pub(super) spool: mpsc::Sender<Vec<NewEntry>>,
    pub(super) status: Arc<CollectorStatus>,
    pub(super) stop: CancellationToken,
    pub(super) abandon: CancellationToken,
}

/// The task's moving parts.
struct State {
    connection: Option<Box<Connection>>,
    /// A connection that is being opened.
    opening: Option<Call<Result<Box<Connection>, String>>>,
    /// HTTP calls on their way, in the order of asking.
    calls: FuturesOrdered<Call<Result<Answer, String>>>,
    /// The polite end of the connection before; the next one is opened after it, or its place would still be
    /// taken.
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
            opening: None,
            calls: FuturesOrdered::new(),
            closing: None,
            batch: Vec::new(),
            last_stamp: Timestamp::MIN,
            fatal: None,
        };
        self.tell(&mut state, Input::Tick).await;
        while !self.session.has_ended() {
            match self.wait(&mut state).await {
                Event::Stop => {
                    self.take_ready(&mut state).await;
                    self.tell(&mut state, Input::Stop).await;
                }
                Event::Tick => self.tell(&mut state, Input::Tick).await,
                Event::Answer(answer) => self.tell(&mut state, Input::Answer(answer)).await,
                Event::Opened(Ok(connection)) => {
                    state.connection = Some(connection);
                    self.tell(&mut state, Input::Opened).await;
                }
                Event::Opened(Err(why)) => self.tell(&mut state, Input::NotOpened(why)).await,
                Event::Came(first) => self.take(&mut state, first).await,
            }
            if !self.hand_over(&mut state).await {
                return Err(state.fatal.unwrap_or_else(|| {
                    Fatal("the spool could not be written before the time to stop was over".into())
                }));
            }
            self.publish();
        }
        // Without its sender the spool's thread ends; it and the forwarders need not wait for the server's
        // goodbye.
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

    async fn wait(&mut self, state: &mut State) -> Event {
        let (wake_at, clock) = (self.session.wake_at(), &self.clock);
        let tick = async {
            match wake_at {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let State { connection, opening, calls, .. } = state;
        let came = async {
            match connection {
                Some(connection) => connection.next().await,
                None => std::future::pending().await,
            }
        };
        let opened = async {
            match opening {
                Some(call) => call.await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            () = self.stop.cancelled() => Event::Stop,
            Some(answer) = calls.next(), if !calls.is_empty() => Event::Answer(answer),
            opened = opened => Event::Opened(opened),
            message = came => Event::Came(message),
            () = tick => Event::Tick,
        };
        if matches!(event, Event::Opened(_)) {
            state.opening = None;
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
                    self.tell(state, Input::Message(text.as_bytes())).await;
                }
                Some(Ok(Ws::Binary(data))) => {
                    bytes += data.len();
                    self.tell(state, Input::Message(&data)).await;
                }
                // The library answers pings; a close is followed by the end of the stream.
                Some(Ok(_)) => self.tell(state, Input::Traffic).await,
                Some(Err(error)) => {
                    if let Some(refused) = unreadable(&error) {
                        let at = self.stamp(state);
                        self.recorder.frame();
                        self.recorder.malformed(
                            &Malformed { refused, bytes: Vec::new() },
                            at,
                            &mut state.batch,
                        );
                    }
                    state.connection = None;
                    self.tell(state, Input::Closed(format!("the connection broke: {error}"))).await;
                }
                None => {
                    state.connection = None;
                    self.tell(state, Input::Closed("the server closed the connection".into())).await;
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

    /// Tells the session what happened and carries out what it says; what comes of that is told it until it
    /// is content.
    async fn tell(&mut self, state: &mut State, input: Input<'_>) {
        let at = self.stamp(state);
        let mut outputs = Vec::new();
        self.session.handle(input, at, &mut outputs);
        let mut with_data = false;
        loop {
            let mut broken = None;
            for output in outputs.drain(..) {
                if let Output::Data(data) = output {
                    if !std::mem::replace(&mut with_data, true) {
                        self.recorder.frame();
                    }
                    self.record(state, data, at);
                } else if let Err(why) = self.carry_out(state, output).await {
                    broken = Some(why);
                    break;
                }
            }
            let Some(why) = broken else { return };
            state.connection = None;
            let at = self.stamp(state);
            self.session.handle(Input::Closed(why), at, &mut outputs);
        }
    }

    fn record(&mut self, state: &mut State, data: Data, at: Timestamp) {
        if !matches!(data, Data::Malformed(_)) {
            self.status.update(|f| f.last_frame_at = Some(at));
        }
        self.recorder.data(data, at, &mut state.batch);
    }

    /// Carries out one thing; the error says how the connection ended over it.
    async fn carry_out(&mut self, state: &mut State, output: Output) -> Result<(), String> {
        match output {
            Output::Data(_) => {}
            Output::Connect(connect) => {
                let closing = state.closing.take();
                let call = async move {
                    if let Some(closing) = closing {
                        ended(closing).await;
                    }
                    open(connect).await
                };
                state.opening = Some(call.boxed());
            }
            Output::Send(outgoing) => return send(state, outgoing).await,
            Output::Request(request) => state.calls.push_back(call(&self.http, request)),
            Output::Close(_) => {
                state.opening = None;
                if let Some(connection) = state.connection.take() {
                    state.closing = Some(tokio::spawn(close(connection)));
                }
            }
            Output::Up { number, active } => {
                self.status.line(&format!("session {number} is up with {active} registrations"));
                self.status.update(|f| f.ready = true);
                self.mark(state, Kind::SessionUp, &json!({"session": number, "registrations": active}));
            }
            Output::Down { number, reason, last_message_at } => {
                self.status.line(&format!("session {number} is down: {reason}"));
                let facts = json!({"session": number, "reason": reason, "last_message_at": last_message_at.to_string()});
                self.mark(state, Kind::SessionDown, &facts);
            }
            Output::Note(note) => self.status.line(&note),
            Output::Fatal { reason, remedy } => state.fatal = Some(Fatal(format!("{reason}; {remedy}"))),
        }
        Ok(())
    }

    fn mark(&self, state: &mut State, kind: Kind, facts: &serde_json::Value) {
        let received_at = self.stamp(state);
        state.batch.push(NewEntry { kind, received_at, body: facts.to_string().into_bytes() });
    }

    /// Gives the batch to the spool's thread and waits while that is behind; false when there is no more time
    /// to wait.
    async fn hand_over(&mut self, state: &mut State) -> bool {
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
        let counts = self.recorder.counts();
        let (gaps, gap_shares) = self.recorder.gaps();
        self.status.update(|f| {
            f.counts = counts;
            f.last_trades.clone_from(self.recorder.latest());
            (f.gaps, f.gap_shares) = (gaps, gap_shares);
            f.session = self.session.number();
            f.active = self.session.active();
            f.reconnects = self.session.reconnects();
            f.waits = self.session.waits().map(|(until, why)| Wait { until, reason: why.to_owned() });
        });
        self.status.trouble("feed", self.session.degraded().filter(|_| !self.session.has_ended()));
    }
}

/// The cause of a message that the library could not give us, if it was about a message and not about the
/// connection.
fn unreadable(error: &tungstenite::Error) -> Option<Refused> {
    match error {
        tungstenite::Error::Utf8(_) => Some(Refused {
            cause: "bad_utf8",
            message: "a text message is not UTF-8; its bytes are lost".into(),
        }),
        tungstenite::Error::Capacity(why) => {
            Some(Refused { cause: "too_long", message: format!("{why}; its bytes are lost") })
        }
        _ => None,
    }
}

async fn open(connect: Connect) -> Result<Box<Connection>, String> {
    let opened = async {
        let Connect { url, headers, accept_bad_text } = connect;
        let mut request = url
            .as_str()
            .into_client_request()
            .map_err(|e| format!("{url} is not a WebSocket address: {e}"))?;
        for (name, value) in headers {
            let wrong = || format!("the header {name} cannot be sent");
            let value = HeaderValue::try_from(value).map_err(|_| wrong())?;
            request.headers_mut().insert(HeaderName::try_from(name.as_str()).map_err(|_| wrong())?, value);
        }
        let uri = request.uri().clone();
        let (Some(host), tls) = (uri.host(), uri.scheme_str() == Some("wss")) else {
            return Err(format!("{url} names no host"));
        };
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port))
            .await
            .map_err(|e| format!("{host}:{port}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| format!("{host}:{port}: {e}"))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(LARGEST))
            .max_frame_size(Some(LARGEST))
            .write_buffer_size(0);
        let stream = TextAsBinary::new(stream, accept_bad_text && !tls);
        match tokio_tungstenite::client_async_tls_with_config(request, stream, Some(config), None).await {
            Ok((connection, _)) => Ok(Box::new(connection)),
            Err(tungstenite::Error::Http(response)) => {
                Err(format!("{host}:{port} answered HTTP {}", response.status().as_u16()))
            }
            Err(error) => Err(format!("{host}:{port}: {error}")),
        }
    };
    tokio::time::timeout(ANSWER, opened)
        .await
        .unwrap_or_else(|_| Err(format!("no answer for {} s", ANSWER.as_secs())))
}

async fn send(state: &mut State, outgoing: Outgoing) -> Result<(), String> {
    // What was decided for a connection that broke meanwhile needs no sending.
    let Some(connection) = &mut state.connection else { return Ok(()) };
    let message = match outgoing {
        Outgoing::Text(text) => Ws::text(text),
        Outgoing::Binary(bytes) => Ws::binary(bytes),
        Outgoing::Ping => Ws::Ping(Vec::<u8>::new().into()),
    };
    match tokio::time::timeout(SEND, connection.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the connection broke: {error}")),
        Err(_) => Err(format!("nothing could be sent for {} s", SEND.as_secs())),
    }
}

/// Makes an HTTP call. Neither its headers nor its body are in what it says of a failure.
fn call(http: &reqwest::Client, request: Request) -> Call<Result<Answer, String>> {
    let Request { method, url, headers, body, within } = request;
    let address = url.split('?').next().unwrap_or_default().to_owned();
    let method = match method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
    };
    let mut call = http.request(method, url);
    for (name, value) in headers {
        call = call.header(name, value);
    }
    let call = if let Some(body) = body { call.body(body) } else { call };
    async move {
        match tokio::time::timeout(within, answer(call)).await {
            Ok(answer) => answer.map_err(|why| format!("{address}: {why}")),
            Err(_) => Err(format!("{address} had no answer for {} s", within.as_secs())),
        }
    }
    .boxed()
}

async fn answer(call: reqwest::RequestBuilder) -> Result<Answer, String> {
    let mut response = call.send().await.map_err(|e| chain(e.without_url()))?;
    let status = response.status().as_u16();
    let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers =
        response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| chain(e.without_url()))? {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST {
            return Err(format!("the answer has more than {LARGEST} bytes"));
        }
    }
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
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

/// An error and what caused it, in one line.
fn chain(error: reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
