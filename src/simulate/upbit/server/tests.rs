//! What arrives is what the ledger says; what is asked is answered as the exchange answers it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jiff::civil::{Date, date, time};
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;
use crate::upbit::{Event, Fault, Mangling};
use feed::Feed;

const DAY: Date = date(2026, 11, 20);

/// Nothing here takes this long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(20);

fn at(hour: i8, minute: i8) -> Timestamp {
    instant(DAY, time(hour, minute, 0, 0))
}

/// A small market on a clock that stands at `start`.
fn manual(start: Timestamp) -> SimulatorOptions {
    let mut options = SimulatorOptions::new(Clock::manual(start), 1, DAY);
    options.codes.truncate(4);
    SimulatorOptions { target_trades: 3_000, ..options }
}

fn move_to(clock: &Clock, to: Timestamp) {
    clock.advance(Duration::try_from(to.duration_since(clock.now())).expect("clocks move forward"));
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(simulator: &Simulator) -> Self {
        Self(connect_async(simulator.websocket_url()).await.expect("connected").0)
    }

    async fn subscribed(simulator: &Simulator, codes: &[&str]) -> Self {
        let mut client = Self::connect(simulator).await;
        client.ask(&json!([{"ticket": "t"}, {"type": "trade", "codes": codes}])).await;
        client
    }

    async fn ask(&mut self, request: &Value) {
        self.say(&request.to_string()).await;
    }

    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.expect("sent");
    }

    /// The next message, and whether it is a text one; nothing at the end of the connection.
    async fn hear(&mut self) -> Option<(Vec<u8>, bool)> {
        loop {
            match tokio::time::timeout(DEADLINE, self.0.next()).await.expect("a message in time") {
                Some(Ok(Message::Text(text))) => return Some((text.as_bytes().to_vec(), true)),
                Some(Ok(Message::Binary(bytes))) => return Some((bytes.to_vec(), false)),
                Some(Ok(_)) => {}
                Some(Err(Error::Protocol(_) | Error::Io(_) | Error::ConnectionClosed)) | None => return None,
                Some(Err(error)) => panic!("{error}"),
            }
        }
    }

    async fn json(&mut self) -> Value {
        let (bytes, _) = self.hear().await.expect("a message");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// So many trades, as a collector reads them.
    async fn trades(&mut self, count: usize) -> Vec<domain::trade::Trade> {
        let mut trades = Vec::new();
        while trades.len() < count {
            let (bytes, text) = self.hear().await.expect("a trade");
            assert!(!text, "data come in binary messages");
            trades.extend(feed::upbit::Upbit.trades(&bytes, at(12, 0)).expect("a trade"));
        }
        trades
    }
}

async fn get(simulator: &Simulator, path: &str) -> (u16, Value, Option<String>) {
    let answer = reqwest::get(simulator.rest_url() + path).await.expect("an answer");
    let left = answer.headers().get("remaining-req").and_then(|value| value.to_str().ok()).map(str::to_owned);
    (answer.status().as_u16(), answer.json().await.expect("JSON"), left)
}

#[tokio::test]
async fn a_subscription_brings_the_last_trade_of_each_market_and_then_every_one() {
    let options = manual(at(9, 0));
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    let codes = ["KRW-BTC", "KRW-ETH", "KRW-NONE"];
    let mut client = Client::subscribed(&simulator, &codes).await;
    let snapshots = client.trades(2).await;
    let ledger = simulator.ledger();
    let of = |code: &str| {
        let code = code.to_owned();
        ledger.iter().filter(move |t| codes.contains(&&*t.code) && (code.is_empty() || *t.code == *code))
    };
    for snapshot in &snapshots {
        let last = of(&snapshot.symbol).rfind(|t| t.at < at(9, 0)).expect("a trade before");
        assert_eq!((&snapshot.id, snapshot.fields["stream_type"].as_str()), (&last.id(), "SNAPSHOT"));
        assert_eq!(
            (snapshot.price, snapshot.quantity),
            (Decimal::new(last.price, 4).normalize(), last.quantity())
        );
    }
    move_to(&clock, at(11, 0));
    let expected: Vec<_> =
        of("").filter(|t| t.at >= at(9, 0) && t.at <= at(11, 0)).map(LedgerTrade::id).collect();
    assert!(expected.len() > 100);
    let trades = client.trades(expected.len()).await;
    assert_eq!(trades.iter().map(|t| t.id.clone()).collect::<Vec<_>>(), expected);
    assert!(trades.iter().all(|t| t.fields["stream_type"] == "REALTIME"));
    let registered =
        |symbol: &str| Event::Registered { session: 1, channel: "trade".into(), symbol: symbol.into() };
    assert!(simulator.journal().iter().any(|e| e.what == registered("KRW-ETH")));
    assert!(
        simulator.journal().iter().all(|e| e.what != registered("KRW-NONE")),
        "a market that does not exist"
    );
    simulator.stop().await;
}

#[tokio::test]
async fn a_new_subscription_replaces_the_old_one_and_the_list_says_so() {
    let simulator = Simulator::start(manual(at(9, 0))).await.expect("started");
    let mut client = Client::subscribed(&simulator, &["KRW-BTC", "KRW-XRP"]).await;
    client.trades(2).await;
    client.ask(&json!([{"ticket": "t"}, {"type": "trade", "codes": ["KRW-ETH"]}, {"type": "ticker", "codes": ["KRW-ETH"]}, {"format": "SIMPLE"}])).await;
    assert_eq!(client.trades(1).await[0].symbol, "KRW-ETH");
    let ticker = client.json().await;
    assert_eq!((&ticker["ty"], &ticker["cd"]), (&json!("ticker"), &json!("KRW-ETH")));
    client.ask(&json!([{"ticket": "mine"}, {"method": "LIST_SUBSCRIPTIONS"}, {"format": "SIMPLE"}])).await;
    let list = client.json().await;
    assert_eq!(
        list["rslt"],
        json!([{"ty": "trade", "cds": ["KRW-ETH"]}, {"ty": "ticker", "cds": ["KRW-ETH"]}])
    );
    assert_eq!(list["tckt"], "mine");
    client.say("PING").await;
    assert_eq!(client.json().await, json!({"status": "UP"}));
    simulator.stop().await;
}

#[tokio::test]
async fn requests_that_are_wrong_are_refused_by_name_and_the_session_lives() {
    let simulator =
        Simulator::start(SimulatorOptions { strict: true, ..manual(at(9, 0)) }).await.expect("started");
    let mut client = Client::subscribed(&simulator, &["KRW-BTC"]).await;
    client.trades(1).await;
    client.ask(&json!([{"ticket": "t"}, {"type": "trade", "codes": ["KRW-NONE"]}])).await;
    assert_eq!(client.json().await["error"]["name"], "INVALID_PARAM");
    client.say("{").await;
    assert_eq!(client.json().await["error"]["name"], "WRONG_FORMAT");
    client.ask(&json!([{"ticket": "t"}, {"method": "LIST_SUBSCRIPTIONS"}])).await;
    assert_eq!(
        client.json().await["result"][0]["codes"],
        json!(["KRW-BTC"]),
        "what was subscribed before is"
    );
    // More messages than are allowed end it.
    for _ in 0..6 {
        client.say("PING").await;
    }
    while client.hear().await.is_some() {}
    assert!(
        simulator
            .journal()
            .iter()
            .any(|e| matches!(&e.what, Event::Refused { code, .. } if code == "TOO_MANY_MESSAGES"))
    );
    simulator.stop().await;
}

#[tokio::test]
async fn candles_are_sums_of_the_ledger_and_past_trades_have_the_same_numbers() {
    let options = manual(at(12, 0));
    let simulator = Simulator::start(options).await.expect("started");
    let ledger = simulator.ledger();
    let (status, rows, left) =
        get(&simulator, "/v1/candles/minutes/1?market=KRW-BTC&to=2026-11-20T03%3A00%3A00Z&count=180").await;
    assert_eq!((status, left.as_deref()), (200, Some("group=candles; min=600; sec=9")));
    let rows = rows.as_array().expect("rows");
    let volume =
        |row: &Value| row["candle_acc_trade_volume"].to_string().parse::<Decimal>().expect("a number");
    let minute = |row: &Value| row["candle_date_time_kst"].as_str().expect("a time").to_owned();
    let (newest, oldest) = (minute(&rows[0]), minute(rows.last().expect("a row")));
    assert!(newest < "2026-11-20T12:00:00".to_owned() && oldest < newest, "{oldest} {newest}");
    for row in rows {
        let kst = minute(row);
        let of = |t: &&LedgerTrade| {
            &*t.code == "KRW-BTC"
                && crate::korea::korean(t.traded).strftime("%Y-%m-%dT%H:%M:00").to_string() == kst
        };
        let sum: Decimal = ledger.iter().filter(of).map(LedgerTrade::quantity).sum();
        assert_eq!(volume(row), sum, "{kst}");
    }
    let (_, ticks, _) = get(&simulator, "/v1/trades/ticks?market=KRW-BTC&count=50").await;
    let numbers: Vec<u64> =
        ticks.as_array().expect("rows").iter().filter_map(|row| row["sequential_id"].as_u64()).collect();
    let known: BTreeSet<u64> =
        ledger.iter().filter(|t| &*t.code == "KRW-BTC").map(|t| t.sequential_id).collect();
    assert!(
        numbers.len() == 50
            && numbers.iter().all(|n| known.contains(n))
            && numbers.is_sorted_by(|a, b| a > b)
    );
    let (_, before, _) =
        get(&simulator, &format!("/v1/trades/ticks?market=KRW-BTC&count=1&cursor={}", numbers[49])).await;
    assert!(before[0]["sequential_id"].as_u64().is_some_and(|n| n < numbers[49]));
    let (_, markets, _) = get(&simulator, "/v1/market/all").await;
    assert_eq!(markets.as_array().map(Vec::len), Some(4));
    let (_, tickers, _) = get(&simulator, "/v1/ticker?markets=KRW-BTC,KRW-ETH").await;
    assert_eq!(tickers[1]["market"], "KRW-ETH");
    for (path, expected) in [
        ("/v1/candles/minutes/1?market=KRW-NONE", 404),
        ("/v1/candles/minutes/1?market=KRW-BTC&to=noon", 400),
        ("/v1/candles/minutes/1?market=KRW-BTC&count=201", 400),
        ("/v1/ticker?markets=KRW-NONE", 404),
        ("/v1/orders", 404),
    ] {
        assert_eq!(get(&simulator, path).await.0, expected, "{path}");
    }
    simulator.stop().await;
}

#[tokio::test]
async fn calls_beyond_the_budget_are_refused_with_what_to_do() {
    let script = Script::quiet(1, DAY).with(at(12, 0), Fault::Blocked { lasts: Duration::from_secs(300) });
    let options = SimulatorOptions { script, ..manual(at(11, 59)) };
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    for _ in 0..10 {
        assert_eq!(get(&simulator, "/v1/candles/minutes/1?market=KRW-BTC").await.0, 200);
    }
    let (status, _, left) = get(&simulator, "/v1/candles/minutes/1?market=KRW-BTC").await;
    assert_eq!((status, left.as_deref()), (429, Some("group=candles; min=600; sec=0")));
    move_to(&clock, at(12, 1));
    let answer = reqwest::get(simulator.rest_url() + "/v1/market/all").await.expect("an answer");
    let wait =
        answer.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    assert_eq!((answer.status().as_u16(), wait), (418, Some(241)));
    simulator.stop().await;
}

#[tokio::test]
async fn faults_of_data_happen_once_each() {
    let script = Script::quiet(1, DAY)
        .with(at(10, 0), Fault::Duplicate)
        .with(at(10, 30), Fault::OutOfOrder)
        .with(at(11, 0), Fault::Drop)
        .with(at(11, 30), Fault::Malformed { what: Mangling::Binary })
        .with(at(11, 40), Fault::Error { name: "WRONG_FORMAT".into() });
    let options = SimulatorOptions { script, ..manual(at(9, 59)) };
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    let mut client = Client::subscribed(&simulator, &["KRW-BTC"]).await;
    client.trades(1).await;
    move_to(&clock, at(12, 0));
    let ledger = simulator.ledger();
    let expected: Vec<_> = ledger
        .iter()
        .filter(|t| &*t.code == "KRW-BTC" && t.at >= at(9, 59) && t.at <= at(12, 0))
        .map(LedgerTrade::id)
        .collect();
    let (mut heard, mut other) = (Vec::new(), Vec::new());
    // One twice, one not at all, and two messages that are none.
    while heard.len() + other.len() < expected.len() + 2 {
        let (bytes, _) = client.hear().await.expect("a message");
        match feed::upbit::Upbit.trades(&bytes, at(12, 0)) {
            Ok(trades) => heard.extend(trades.into_iter().map(|t| t.id)),
            Err(refused) => other.push(refused.cause),
        }
    }
    assert_eq!(other, ["bad_utf8", "not_a_trade"]);
    let unique: BTreeSet<_> = heard.iter().collect();
    assert_eq!((heard.len(), unique.len()), (expected.len(), expected.len() - 1));
    let lost: Vec<_> = expected.iter().filter(|id| !unique.contains(id)).collect();
    assert_eq!(lost.len(), 1);
    let order: Vec<_> = heard.iter().filter_map(|id| expected.iter().position(|e| e == id)).collect();
    assert_eq!(order.windows(2).filter(|pair| pair[0] > pair[1]).count(), 1, "one came after its successor");
    simulator.stop().await;
}

#[tokio::test]
async fn sessions_end_when_the_script_or_their_silence_says_so() {
    let script = Script::quiet(1, DAY).with(at(10, 0), Fault::Disconnect { lasts: Duration::from_secs(90) });
    let options = SimulatorOptions { script, patience: Duration::from_millis(50), ..manual(at(9, 59)) };
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    let mut client = Client::connect(&simulator).await;
    client.say("PING").await;
    client.hear().await.expect("an answer");
    move_to(&clock, at(10, 0));
    while client.hear().await.is_some() {}
    let refused = connect_async(simulator.websocket_url()).await.expect_err("refused");
    assert!(matches!(refused, Error::Http(response) if response.status() == 503));
    clock.advance(Duration::from_secs(91));
    let mut client = Client::connect(&simulator).await;
    client.say("PING").await;
    client.hear().await.expect("an answer");
    clock.advance(Duration::from_secs(121));
    while client.hear().await.is_some() {}
    let whys: Vec<_> = simulator
        .journal()
        .into_iter()
        .filter_map(|e| if let Event::SessionDown { why, .. } = e.what { Some(why) } else { None })
        .collect();
    assert_eq!(whys, [Why::Disconnect, Why::Silent]);
    simulator.stop().await;
}

#[tokio::test]
async fn a_stall_holds_back_and_lets_go_in_order() {
    let script = Script::quiet(1, DAY).with(at(10, 0), Fault::Stall { lasts: Duration::from_secs(720) });
    let options = SimulatorOptions { script, ..manual(at(9, 50)) };
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    let mut client = Client::subscribed(&simulator, &["KRW-BTC"]).await;
    client.trades(1).await;
    let ledger = simulator.ledger();
    let expected = |to: Timestamp| {
        ledger
            .iter()
            .filter(|t| &*t.code == "KRW-BTC" && t.at >= at(9, 50) && t.at < to)
            .map(LedgerTrade::id)
            .collect::<Vec<_>>()
    };
    move_to(&clock, at(10, 11));
    let before = client.trades(expected(at(10, 0)).len()).await;
    client.say("PING").await;
    assert_eq!(client.json().await, json!({"status": "UP"}), "nothing came meanwhile");
    move_to(&clock, at(10, 13));
    let all = expected(at(10, 12));
    let after = client.trades(all.len() - before.len()).await;
    assert_eq!(before.iter().chain(&after).map(|t| t.id.clone()).collect::<Vec<_>>(), all);
    assert!(after.len() > 3);
    assert!(at(10, 13).duration_since(at(10, 0)) > SignedDuration::from_mins(12));
    simulator.stop().await;
}
