//! The collector with a feed that is nothing like KIS: it polls over HTTP, trades in fractions and is told
//! totals.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::read_all;
use crate::testing::fakes::Stores;
use crate::testing::fixtures::context;
use backends::spool::{Kind, TradeBody};
use clock::Clock;
use domain::gaps::Gap;
use domain::trade::{EventId, Side, Total, Trade};
use feed::Shape;
use feed::{
    Address, Answer, Completeness, Data, Feed, Input, Malformed, Method, Output, Parameter, Parameters,
    Received, Refused, Request, SecretName, Session, Setup, SetupError,
};

/// Trades of fractions of a coin, from an exchange that is asked once.
struct Coins;

/// Asks two questions at once; the answers say a trade or a total.
struct Polling {
    base: String,
    symbols: Vec<String>,
    answers: usize,
    ended: bool,
}

/// Sums of what came against the totals.
#[derive(Default)]
struct Sums {
    received: Decimal,
    told: Decimal,
}

fn trade(number: u64, quantity: &str, now: Timestamp) -> Trade {
    let date = now.to_zoned(Coins.zone()).date();
    Trade {
        id: EventId::new("coins", date, "KRW-BTC", number),
        feed: "coins".into(),
        channel: "trade".into(),
        symbol: "KRW-BTC".into(),
        session_date: date,
        trade_time: now.to_string(),
        received_at: now.to_string(),
        price: Decimal::from(106_691_000),
        quantity: quantity.parse().expect("a decimal"),
        side: Some(Side::Sell),
        accumulated_volume: None,
        accumulated_value: None,
        fields: [("trade_volume".to_owned(), quantity.to_owned())].into(),
    }
}

impl Feed for Coins {
    fn name(&self) -> &'static str {
        "coins"
    }
    fn title(&self) -> &'static str {
        "Coins"
    }
    fn about(&self) -> &'static str {
        "collects coins"
    }
    fn addresses(&self) -> &'static [Address] {
        &[Address { key: "rest", default: "http://127.0.0.1:1", help: "where it is asked" }]
    }
    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("symbols", Shape::NAMES, "markets")] }
    }
    fn secrets(&self) -> &'static [SecretName] {
        &[]
    }
    fn default_topic(&self) -> &'static str {
        "coins.trades"
    }
    fn zone(&self) -> TimeZone {
        TimeZone::UTC
    }
    fn symbols(&self, with: &Parameters<'_>) -> Result<Vec<String>, SetupError> {
        with.codes("symbols", "write symbols: [KRW-BTC]")
    }
    fn session(&self, setup: &Setup<'_>) -> Result<Box<dyn Session>, SetupError> {
        let (base, symbols) = (setup.address("rest").to_owned(), self.symbols(&setup.with)?);
        Ok(Box::new(Polling { base, symbols, answers: 0, ended: false }))
    }
    fn trades(&self, _message: &[u8], _received_at: Timestamp) -> Result<Vec<Trade>, Refused> {
        Err(Refused { cause: "nothing", message: "it has none".into() })
    }
    fn completeness(&self) -> Box<dyn Completeness> {
        Box::new(Sums::default())
    }
}

impl Session for Polling {
    fn handle(&mut self, input: Input<'_>, now: Timestamp, out: &mut Vec<Output>) {
        match input {
            Input::Tick if self.answers == 0 => {
                for path in ["slow", "fast", "nowhere"] {
                    out.push(Output::Request(Request {
                        method: Method::Get,
                        url: format!("{}/{path}?secret=s3cret", self.base),
                        headers: vec![("x-asked".into(), path.into())],
                        body: None,
                        within: Duration::from_secs(5),
                    }));
                }
                self.answers = 1;
            }
            Input::Answer(answer) => {
                let said = match &answer {
                    Ok(Answer { status, body, .. }) => {
                        format!("{status} {body} {:?}", answer.as_ref().ok().and_then(|a| a.header("X-Path")))
                    }
                    Err(why) => format!("none: {why}"),
                };
                out.push(Output::Note(format!("answer {}: {said}", self.answers)));
                match self.answers {
                    1 => out.push(Output::Data(Data::Trade(Box::new(trade(
                        17_883_351_803_770_004,
                        "0.00009372",
                        now,
                    ))))),
                    2 => {
                        let feed = "coins".to_owned();
                        let (session_date, volume) =
                            (now.to_zoned(Coins.zone()).date(), Decimal::new(19_372, 8));
                        let (from, to) = (now, now + Duration::from_secs(60));
                        let symbol = "KRW-BTC".to_owned();
                        let total =
                            Total { feed, symbol, session_date, from, to, volume, value: None, trades: None };
                        out.push(Output::Data(Data::Total(total)));
                    }
                    _ => {
                        let refused = Refused { cause: "no_answer", message: "two\nlines".into() };
                        out.push(Output::Data(Data::Malformed(Malformed {
                            refused,
                            bytes: b"none".to_vec(),
                        })));
                        out.push(Output::Up { number: 1, active: 1 });
                    }
                }
                self.answers += 1;
            }
            Input::Stop => self.ended = true,
            _ => {}
        }
    }
    fn wake_at(&self) -> Option<Timestamp> {
        None
    }
    fn is_up(&self) -> bool {
        self.answers > 3
    }
    fn has_ended(&self) -> bool {
        self.ended
    }
    fn number(&self) -> u64 {
        1
    }
    fn reconnects(&self) -> u64 {
        0
    }
    fn active(&self) -> usize {
        1
    }
    fn degraded(&self) -> Option<String> {
        None
    }
    fn waits(&self) -> Option<(Timestamp, &str)> {
        None
    }
    fn symbols(&self) -> &[String] {
        &self.symbols
    }
}

impl Completeness for Sums {
    fn see(&mut self, received: Received<'_>) {
        match received {
            Received::Trade(trade) => self.received += trade.quantity,
            Received::Total(total) => self.told = total.volume,
        }
    }
    fn start_after(&mut self, _received: Received<'_>) {}
    fn gaps(&self) -> Vec<Gap> {
        Vec::new()
    }
    fn missing(&self) -> Decimal {
        (self.told - self.received).max(Decimal::ZERO)
    }
    fn count(&self) -> usize {
        usize::from(self.missing() > Decimal::ZERO)
    }
}

/// Answers the slow question late.
async fn server() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let answered = std::sync::Arc::new(AtomicUsize::new(0));
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answered = std::sync::Arc::clone(&answered);
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                let n = stream.read(&mut buffer).await.expect("asked");
                let asked = String::from_utf8_lossy(&buffer[..n]).into_owned();
                let path = asked.split(['/', '?']).nth(1).unwrap_or_default().to_owned();
                assert!(asked.contains(&format!("x-asked: {path}")), "{asked}");
                if path == "nowhere" {
                    return;
                }
                while path == "slow" && answered.load(Ordering::SeqCst) == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nX-Path: {path}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]"
                );
                stream.write_all(answer.as_bytes()).await.expect("answered");
                answered.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_order_and_fractions_and_totals_are_kept() {
    let (base, task) = server().await;
    let stores = std::sync::Arc::new(Stores::default());
    stores.backends().log.create_topic("coins.trades", 1).await.expect("a topic");
    let folder = tempfile::tempdir().expect("a folder");
    let with = json!({"symbols": "KRW-BTC"});
    let (mut context, heard) = context("collector", with, stores.backends(), Clock::system(), folder.path());
    context.feeds.insert("coins".into(), [("rest".to_owned(), base)].into());
    let running = tokio::spawn(crate::collect::run(&Coins, context.clone()));
    stores.wait_until("the trade is on the log", |s| s.records("coins.trades").len() == 1).await;
    stores.wait_until("the trade is in the raw store", |s| s.raw_ids("coins.trades").len() == 1).await;
    stores.wait_until("the dead letter", |s| s.records("coins.trades.dlq").len() == 1).await;
    context.stop.cancel();
    let result = running.await.expect("no panic").expect("it ends well");
    task.abort();

    let text = heard.text();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("answer ")).collect();
    assert_eq!(lines[0], "answer 1: 200 [] Some(\"slow\")", "{text}");
    assert_eq!(lines[1], "answer 2: 200 [] Some(\"fast\")", "{text}");
    assert!(lines[2].contains("/nowhere: ") && !text.contains("s3cret"), "{text}");

    let record = &stores.records("coins.trades")[0].record;
    let value: Value = serde_json::from_slice(&record.value).expect("JSON");
    assert_eq!((&value["quantity"], &value["side"]), (&json!("0.00009372"), &json!("sell")));
    assert!(value.get("accumulated_volume").is_none());
    let letter = &stores.records("coins.trades.dlq")[0].record;
    let header = |name: &str| letter.header(&format!("__connect.errors.{name}")).map(String::from_utf8_lossy);
    assert_eq!(
        (header("class.name").as_deref(), header("exception.message").as_deref()),
        (Some("collect/coins"), Some("two lines"))
    );

    let entries = read_all(&folder.path().join("spool/day/collector"));
    assert_eq!(
        entries.iter().map(|e| e.kind).collect::<Vec<_>>(),
        [Kind::Trade, Kind::Total, Kind::Malformed, Kind::SessionUp]
    );
    let body = TradeBody::parse(&entries[0].body).expect("a trade");
    assert_eq!((body.symbol, body.json), ("KRW-BTC", &*record.value), "the log has the spool's own bytes");
    assert!(body.id.ends_with(":KRW-BTC:17883351803770004"), "{}", body.id);
    for (name, value) in
        [("frames", json!(3)), ("records", json!(1)), ("gaps", json!(1)), ("gap_shares", json!("0.00010000"))]
    {
        assert_eq!(result[name], value, "{name}: {result}");
    }
}
