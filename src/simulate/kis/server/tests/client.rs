//! A client of the kind that the simulator is made for, and a simulator whose clock a test moves.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jiff::Timestamp;
use jiff::civil::{Date, date, time};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::kis::{Event, KRX41, Simulator, SimulatorOptions};
use crate::korea::instant;
use clock::Clock;

pub(super) const DAY: Date = date(2026, 11, 20);

/// Nothing here takes this long unless it is broken.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

pub(super) fn at(hour: i8, minute: i8) -> Timestamp {
    instant(DAY, time(hour, minute, 0, 0))
}

pub(super) fn krx41() -> Vec<String> {
    KRX41.iter().map(ToString::to_string).collect()
}

/// A small market on a clock that stands at `start`.
pub(super) fn manual(start: Timestamp) -> SimulatorOptions {
    let symbols = krx41().into_iter().take(5).collect();
    SimulatorOptions {
        target_trades: 2_000,
        pingpong: Duration::ZERO,
        patience: DEADLINE,
        ..SimulatorOptions::new(Clock::manual(start), 1, DAY, symbols)
    }
}

pub(super) fn move_to(clock: &Clock, to: Timestamp) {
    clock.advance(Duration::try_from(to.duration_since(clock.now())).expect("clocks move forward"));
}

/// Waits until `condition` holds.
pub(super) async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub(super) fn happened(simulator: &Simulator, what: &Event) -> bool {
    simulator.journal().iter().any(|event| event.what == *what)
}

pub(super) async fn post(simulator: &Simulator, path: &str, body: &Value) -> (u16, Value) {
    let answer =
        reqwest::Client::new().post(simulator.rest_url() + path).json(body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("json"))
}

pub(super) async fn approval(simulator: &Simulator, app_key: &str) -> String {
    let body = json!({"grant_type": "client_credentials", "appkey": app_key, "secretkey": "secret"});
    let (status, answer) = post(simulator, "/oauth2/Approval", &body).await;
    assert_eq!(status, 200, "{answer}");
    answer["approval_key"].as_str().expect("a key").to_owned()
}

/// One message as it arrived, as bytes; text and binary alike.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    Text(String),
    Binary(Vec<u8>),
    /// The end, with a close frame or without.
    Closed,
    Abrupt,
    /// The client's library refused a text message.
    NotUtf8,
}

pub(super) struct Client {
    pub(super) key: String,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    /// Connects with the approval key.
    pub(super) async fn new(simulator: &Simulator, key: &str) -> Self {
        Self::at_path(simulator, key, "/tryitout").await
    }

    pub(super) async fn at_path(simulator: &Simulator, key: &str, path: &str) -> Self {
        let (socket, _) =
            connect_async(format!("ws://{}{path}", simulator.local_addr())).await.expect("connected");
        Self { key: key.to_owned(), socket }
    }

    /// Gets an approval key for the app key "a", connects, and registers for trades of these symbols.
    pub(super) async fn registered(simulator: &Simulator, symbols: &[String]) -> Self {
        let key = approval(simulator, "a").await;
        let mut client = Self::new(simulator, &key).await;
        for symbol in symbols {
            assert_eq!(client.request("1", "H0STCNT0", symbol).await, "OPSP0000");
        }
        client
    }

    pub(super) async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("sent");
    }

    pub(super) async fn pong(&mut self, payload: &str) {
        self.socket.send(Message::Pong(payload.to_owned().into())).await.expect("sent");
    }

    pub(super) async fn ask(&mut self, tr_type: &str, tr_id: &str, tr_key: &str) {
        let text = json!({"header": {"approval_key": self.key, "custtype": "P", "tr_type": tr_type, "content-type": "utf-8"},
                          "body": {"input": {"tr_id": tr_id, "tr_key": tr_key}}});
        self.say(&text.to_string()).await;
    }

    /// Says something and gives back the code that it is answered with.
    pub(super) async fn request(&mut self, tr_type: &str, tr_id: &str, tr_key: &str) -> String {
        self.ask(tr_type, tr_id, tr_key).await;
        self.answer().await["body"]["msg_cd"].as_str().expect("a code").to_owned()
    }

    /// The next control message.
    pub(super) async fn answer(&mut self) -> Value {
        loop {
            match self.hear().await {
                Heard::Text(text) if text.starts_with('{') => {
                    return serde_json::from_str(&text).expect("json");
                }
                Heard::Text(_) | Heard::Binary(_) => {}
                end => panic!("{end:?} instead of an answer"),
            }
        }
    }

    pub(super) async fn hear(&mut self) -> Heard {
        loop {
            let message =
                tokio::time::timeout(DEADLINE, self.socket.next()).await.expect("a message in time");
            return match message {
                Some(Ok(Message::Text(text))) => Heard::Text(text.to_string()),
                Some(Ok(Message::Binary(bytes))) => Heard::Binary(bytes.to_vec()),
                Some(Ok(Message::Close(_))) => Heard::Closed,
                Some(Ok(_)) => continue,
                Some(Err(Error::Utf8(_))) => Heard::NotUtf8,
                Some(Err(Error::Capacity(error))) => panic!("the client refused a frame: {error}"),
                Some(Err(_)) | None => Heard::Abrupt,
            };
        }
    }

    /// The next frame of trades.
    pub(super) async fn frame(&mut self) -> Frame {
        match self.hear().await {
            Heard::Text(text) => Frame::read(&text),
            other => panic!("{other:?} instead of a frame"),
        }
    }

    /// Everything up to the end of the connection, and how it ended.
    pub(super) async fn until_end(&mut self) -> (Vec<Frame>, Heard) {
        let mut frames = Vec::new();
        loop {
            match self.hear().await {
                Heard::Text(text) => frames.push(Frame::read(&text)),
                Heard::Binary(_) => {}
                end => return (frames, end),
            }
        }
    }

    /// Frames until this many records have come.
    pub(super) async fn records(&mut self, count: usize) -> Vec<Vec<String>> {
        let mut records = Vec::new();
        while records.len() < count {
            records.extend(self.frame().await.records);
        }
        assert_eq!(records.len(), count);
        records
    }

    /// Says good-bye.
    pub(super) async fn close(mut self) {
        self.socket.close(None).await.expect("closed");
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    pub(super) async fn protocol_ping(&mut self) -> bool {
        self.socket.send(Message::Ping(b"are you there"[..].to_vec().into())).await.expect("sent");
        let answer = tokio::time::timeout(DEADLINE, self.socket.next()).await.expect("an answer in time");
        matches!(answer, Some(Ok(Message::Pong(payload))) if &*payload == b"are you there")
    }
}

/// A data frame.
#[derive(Debug, PartialEq, Clone)]
pub(super) struct Frame {
    pub(super) tr_id: String,
    pub(super) records: Vec<Vec<String>>,
}

impl Frame {
    pub(super) fn read(text: &str) -> Self {
        let [flag, tr_id, count, payload] = text.splitn(4, '|').collect::<Vec<_>>()[..] else {
            panic!("not a frame: {text}")
        };
        assert_eq!((flag, count.len()), ("0", 3));
        let fields: Vec<String> = payload.split('^').map(str::to_owned).collect();
        let count: usize = count.parse().expect("a count");
        assert_eq!(fields.len() % count, 0);
        Self {
            tr_id: tr_id.to_owned(),
            records: fields.chunks(fields.len() / count).map(<[String]>::to_vec).collect(),
        }
    }
}

/// What the ledger says was sent of these symbols in this time, as wire records.
pub(super) fn expected(
    simulator: &Simulator,
    symbols: &[String],
    from: Timestamp,
    to: Timestamp,
) -> Vec<Vec<String>> {
    let ledger = simulator.ledger();
    let wanted =
        ledger.iter().filter(|t| t.at >= from && t.at < to && symbols.iter().any(|s| **s == *t.symbol));
    wanted.map(|t| t.fields(47)).collect()
}
