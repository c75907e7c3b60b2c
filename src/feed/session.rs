//! A feed's session as a state machine without input and output: what the collector tells it, and what it has
//! to do.
//!
//! The collector owns the socket, the HTTP client and the clock. It carries out every [`Output`] in order,
//! feeds back what happens as [`Input`], and wakes the machine at [`Session::wake_at`]. REST polling is a
//! session whose outputs are requests.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::Refused;
use domain::trade::{Total, Trade};

/// A session machine. All times are the clock's.
pub trait Session: Send {
    /// Takes in what happened and appends what to do, in order. For a message, `now` is its time of receipt;
    /// it never goes back.
    fn handle(&mut self, input: Input<'_>, now: Timestamp, out: &mut Vec<Output>);

    /// When it wants an [`Input::Tick`], if nothing else happens.
    fn wake_at(&self) -> Option<Timestamp>;

    /// Whether everything that can be had is subscribed and confirmed: from here on a trade that does not
    /// come was lost, not refused.
    fn is_up(&self) -> bool;

    /// Whether the machine has ended: stopped, or given up with [`Output::Fatal`].
    fn has_ended(&self) -> bool;

    /// Number of the current or last session; 0 before the first.
    fn number(&self) -> u64;

    /// Connections lost or refused so far.
    fn reconnects(&self) -> u64;

    /// Subscriptions that are confirmed.
    fn active(&self) -> usize;

    /// What is not as wanted, in one line: no session, or instruments left out.
    fn degraded(&self) -> Option<String>;

    /// Until when it keeps silent for something outside of it, and what that is.
    fn waits(&self) -> Option<(Timestamp, &str)>;

    /// The instruments it asks for.
    fn symbols(&self) -> &[String];
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time passed.
    Tick,
    /// The connection is open.
    Opened,
    /// The connection could not be opened: why, with the HTTP status where there was one.
    NotOpened(String),
    /// A message came, text or binary.
    Message(&'a [u8]),
    /// Something without content came, for example a pong: a sign of life.
    Traffic,
    /// The answer to the oldest [`Output::Request`] that had none, or why there is none.
    Answer(Result<Answer, String>),
    /// The connection ended: how.
    Closed(String),
    /// Nobody wants the session any more.
    Stop,
}

/// An HTTP answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body as text.
    pub body: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open the connection; [`Input::Opened`] or [`Input::NotOpened`] follows, unless it is closed before.
    Connect(Connect),
    /// Send over the connection.
    Send(Outgoing),
    /// Call over HTTP; [`Input::Answer`] follows. Several may be on their way; answers come in the order of
    /// the requests, also after the connection was closed.
    Request(Request),
    /// Close the connection, or stop opening it; no [`Input::Closed`] follows.
    Close(String),
    /// Data came.
    Data(Data),
    /// The session [is up](Session::is_up).
    Up {
        /// Number of the session, from 1.
        number: u64,
        /// Subscriptions that are confirmed.
        active: usize,
    },
    /// A session that was up is over.
    Down {
        /// Its number.
        number: u64,
        /// Why.
        reason: String,
        /// When the last message came: silence before the end belongs to the outage.
        last_message_at: Timestamp,
    },
    /// A line for people.
    Note(String),
    /// Nothing helps but a person; the machine has ended.
    Fatal {
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
}

/// A connection to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// WebSocket address, path included. No secret may be in it.
    pub url: String,
    /// Further headers of the handshake.
    pub headers: Vec<(String, String)>,
    /// Text messages that are not UTF-8 are handed on too, instead of ending the connection. Not possible
    /// over TLS.
    pub accept_bad_text: bool,
}

/// What is sent over a connection. Its content may hold keys, so it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping; its pong comes as [`Input::Traffic`].
    Ping,
}

/// An HTTP call. Headers and body may hold keys, so they are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Address with its query.
    pub url: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body as text.
    pub body: Option<String>,
    /// It is given up after this, in real time.
    pub within: Duration,
}

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Send.
    Post,
}

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// A trade, judged: nobody after this decodes it again.
    Trade(Box<Trade>),
    /// What the exchange says was traded.
    Total(Total),
    /// A message, or a part of it, that cannot be read. One for a message at most: its good trades are kept,
    /// and a replay folds into them.
    Malformed(Malformed),
}

/// What cannot be read.
#[derive(Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Why.
    pub refused: Refused,
    /// The message as it came; something in its place where it may hold a key.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer(HTTP {}, {} bytes)", self.status, self.body.len())
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
            Self::Ping => f.write_str("Ping"),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.url.split('?').next().unwrap_or_default();
        write!(f, "Request({:?} {address}, {} bytes)", self.method, self.body.as_ref().map_or(0, String::len))
    }
}

impl fmt::Debug for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Malformed({}: {}, {} bytes)", self.refused.cause, self.refused.message, self.bytes.len())
    }
}
