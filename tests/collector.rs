//! The collector against the exchange simulator: a stretch of a day with a disconnect and malformed frames,
//! on a fast clock.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use parking_lot::Mutex;

use openbell::backends::index::{Index, Item, ItemResult, Template};
use openbell::backends::log::Log;
use openbell::backends::log::embedded::EmbeddedLog;
use openbell::backends::objects::{Metadata, Objects, Put};
use openbell::backends::raw::{Document, Inserted, Raw};
use openbell::backends::spool::Kind;
use openbell::backends::{BackendError, Backends, ErrorKind, Result};
use openbell::clock::Clock;
use openbell::domain::gaps::{Fill, VolumeGaps};
use openbell::domain::schedule::Window;
use openbell::domain::trade::Trade;
use openbell::simulate::kis::{Event, Fault, KRX41, Script, Simulator, SimulatorOptions};
use openbell::steps::{Context, Secret, spooled};
use support::collector::{self, Place, Told, spool};

const DAY: Date = jiff::civil::date(2026, 11, 20);

fn at(time: &str) -> Timestamp {
    format!("{DAY}T{time}+09:00").parse().expect("a time")
}

/// Documents in memory.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Document>>);

#[async_trait]
impl Raw for Memory {
    async fn insert(&self, _: &str, documents: Vec<Document>) -> Result<Inserted> {
        let mut held = self.0.lock();
        let before = held.len();
        let sent = documents.len();
        for document in documents {
            held.entry(document.id.clone()).or_insert(document);
        }
        let new = held.len() - before;
        Ok(Inserted { new, existing: sent - new })
    }
    async fn ids(&self, _: &str, _: &str, _: Option<&str>, _: usize) -> Result<Vec<String>> {
        unused()
    }
    async fn get(&self, _: &str, _: &str) -> Result<Option<Document>> {
        unused()
    }
    async fn latest(&self, _: &str) -> Result<Option<Timestamp>> {
        unused()
    }
}

/// Stores that a collector has no business with.
struct Nothing;

fn unused<T>() -> Result<T> {
    Err(BackendError::new(ErrorKind::Rejected, "test", "a collector does not use this"))
}

#[async_trait]
impl Index for Nothing {
    async fn put_template(&self, _: &Template) -> Result<()> {
        unused()
    }
    async fn bulk(&self, _: Vec<Item>) -> Result<Vec<ItemResult>> {
        unused()
    }
    async fn indices(&self, _: &str) -> Result<Vec<String>> {
        unused()
    }
    async fn ids(&self, _: &str, _: &str, _: Option<&str>, _: usize) -> Result<Vec<String>> {
        unused()
    }
    async fn get(&self, _: &str, _: &str) -> Result<Option<Vec<u8>>> {
        unused()
    }
    async fn latest(&self, _: &str, _: &str) -> Result<Option<String>> {
        unused()
    }
}

#[async_trait]
impl Objects for Nothing {
    async fn put_if_absent(&self, _: &str, _: Vec<u8>, _: &Metadata) -> Result<Put> {
        unused()
    }
    async fn head(&self, _: &str) -> Result<Option<Metadata>> {
        unused()
    }
    async fn get(&self, _: &str) -> Result<Option<Vec<u8>>> {
        unused()
    }
    async fn list(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<String>> {
        unused()
    }
}

/// Keeps a fast clock slow while the collector comes up, which takes real time: however busy the machine is,
/// it is there for most of the day. With its first word it has read how fast the day will be, and for how
/// long it waits for answers.
async fn slow_start(clock: Clock, told: Arc<Told>, speed: f64) {
    told.until("a word", |_| true).await;
    clock.set_speed(speed.min(10.0));
    told.until("ready", |status| status.ready).await;
    clock.set_speed(speed);
}

/// A collector of 41 symbols that ends itself at `deadline`.
fn context(
    clock: &Clock,
    simulator: &Simulator,
    backends: Backends,
    data: &Path,
    deadline: Timestamp,
    told: Arc<Told>,
) -> Context {
    let addresses = [simulator.rest_url(), simulator.websocket_url()];
    let with = serde_json::json!({"symbols": KRX41.as_slice(), "limit": 41});
    let place = Place { data, clock, backends, addresses, told };
    let mut context = collector::context(place, "kis", "day", DAY, &with);
    context.spec.window = Window { open_at: at("08:50:00"), close_at: Some(at("16:00:00")) };
    context.spec.deadline = Some(deadline);
    let secret = |name: &str| (name.to_owned(), Secret::new(format!("the-{name}")));
    context.secrets = ["app_key", "app_secret"].map(secret).into();
    context
}

/// Plays `from..to` at `speed` and proves that every trade is in every store once, or is explained by a gap.
async fn play(script: Script, seed: u64, from: &str, to: &str, speed: f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::virtual_owner(at(from), speed, None).expect("a clock");
    let symbols: Vec<String> = KRX41.iter().map(ToString::to_string).collect();
    let options = SimulatorOptions { script, ..SimulatorOptions::new(clock.clone(), seed, DAY, symbols) };
    let simulator = Simulator::start(options).await.expect("started");
    let log = Arc::new(EmbeddedLog::open(&folder.path().join("log")).expect("a log"));
    log.create_topic("kis.trades", 3).await.expect("a topic");
    let raw = Arc::new(Memory::default());
    let backends =
        Backends { log: log.clone(), raw: raw.clone(), index: Arc::new(Nothing), objects: Arc::new(Nothing) };
    let told = Arc::new(Told::default());
    let context = context(&clock, &simulator, backends, folder.path(), at(to), told.clone());
    let starting = tokio::spawn(slow_start(clock.clone(), told.clone(), speed));
    let result =
        tokio::time::timeout(Duration::from_secs(900), openbell::steps::run("collect/kis", context)).await;
    starting.abort();
    let result = result.expect("it ends at its deadline").unwrap_or_else(|e| panic!("{e}\n{}", told.text()));

    // What the spool holds; and of each session since when it was up, by its own account, and the last of the
    // exchange's trades it brought.
    let place: BTreeMap<String, usize> =
        simulator.ledger().iter().enumerate().map(|(index, trade)| (trade.id().to_string(), index)).collect();
    let (mut spooled, mut up): (BTreeMap<String, Trade>, Vec<(Timestamp, Option<usize>)>) =
        Default::default();
    let (mut since, mut last, mut malformed, mut records) = (None, None, 0, 0);
    let mut gaps = VolumeGaps::new();
    for entry in spool(folder.path(), "day") {
        match entry.kind {
            Kind::Trade => {
                records += 1;
                let trade = spooled::trade(&entry).expect("its kind").expect("a trade");
                gaps.see(Fill {
                    symbol: &trade.symbol,
                    traded_at: &trade.trade_time,
                    quantity: trade.quantity.to_string().parse().expect("shares"),
                    accumulated: trade.accumulated_volume.expect("a volume"),
                });
                last = last.max(place.get(trade.id.as_str()).copied());
                spooled.insert(trade.id.to_string(), trade);
            }
            Kind::Malformed => malformed += 1,
            Kind::Record | Kind::Total => panic!("the feed sends none: {entry:?}"),
            Kind::SessionUp => since = Some(entry.received_at),
            Kind::SessionDown => up.push((since.take().expect("it was up"), last.take())),
        }
    }
    assert_eq!(spooled.len(), records, "the spool holds each trade once");
    assert!(spooled.len() > 100, "{result}\n{}", told.text());

    // The exchange's own ledger against it.
    let (mut not_received, mut last_received): (BTreeMap<String, Vec<i64>>, BTreeMap<String, i64>) =
        Default::default();
    for (index, trade) in simulator.ledger().iter().enumerate() {
        let symbol = trade.symbol.to_string();
        match spooled.get(trade.id().as_str()) {
            Some(found) => {
                assert_eq!(
                    (found.quantity, found.accumulated_value),
                    (trade.quantity.into(), Some(trade.accumulated_value)),
                    "{}",
                    trade.id()
                );
                last_received.insert(symbol, trade.accumulated_volume);
            }
            None => {
                let released = simulator.script().release(trade.at);
                // The exchange sends in its ledger's order. A reset throws away what the receiver had not
                // read yet, which is the end of it.
                let lost =
                    up.iter().any(|(since, last)| released > *since && last.is_some_and(|last| index < last));
                assert!(!lost, "{} released {released} was lost, up {up:?}\n{}", trade.id(), told.text());
                not_received.entry(symbol).or_default().push(trade.accumulated_volume);
            }
        }
    }
    let ledger = simulator.ledger();
    for (symbol, last) in &last_received {
        let missing: i64 = ledger
            .iter()
            .filter(|t| {
                *t.symbol == **symbol
                    && t.accumulated_volume < *last
                    && !spooled.contains_key(t.id().as_str())
            })
            .map(|t| t.quantity)
            .sum();
        let explained =
            gaps.gaps().into_iter().filter(|g| g.symbol == *symbol).map(|g| g.quantity).reduce(|a, b| a + b);
        assert_eq!(explained.unwrap_or_default(), missing.into(), "gaps of {symbol}");
    }

    // Every store holds what the spool holds, once.
    let ids: BTreeSet<&String> = spooled.keys().collect();
    let on_log = collector::records(&*log, "kis.trades").await;
    let log_ids: BTreeSet<String> = on_log.iter().map(collector::id).collect();
    assert_eq!(on_log.len(), log_ids.len(), "the log holds an id twice");
    assert_eq!(log_ids.iter().collect::<BTreeSet<_>>(), ids);
    let documents = raw.0.lock().clone();
    assert_eq!(documents.keys().collect::<BTreeSet<_>>(), ids);
    let sent = simulator.journal().iter().filter(|e| matches!(e.what, Event::MalformedSent { .. })).count();
    let dead = collector::records(&*log, "kis.trades.dlq").await.len();
    assert_eq!((malformed, dead), (sent, sent), "dead letters\n{}", told.text());
    assert_eq!(result["log_seq"], result["spool_seq"]);
    assert_eq!(result["raw_seq"], result["spool_seq"]);
    println!("{result}\n{}", told.text());
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_and_broken_frames_cost_nothing_that_was_sent() {
    let mut script = Script::quiet(7, DAY);
    for fault in [
        "disconnect=60s@10:05",
        "malformed=wrong-width@09:58",
        "malformed=invalid-utf8-text@09:59",
        "malformed=truncated@10:10",
        "malformed=oversize@10:12",
        "duplicate-frame@10:13",
        "out-of-order@10:14",
    ] {
        script = script.with_text(fault).expect("a fault");
    }
    play(script, 7, "09:55:00", "10:20:00", 300.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "plays whole days: about a minute each"]
async fn whole_days_reconcile() {
    for seed in 1..=3 {
        play(Script::demo(seed, DAY), seed, "08:50:00", "16:00:00", 600.0).await;
    }
    let harsh = Script::demo(9, DAY)
        .with(at("09:30:00"), Fault::HalfOpen { lasts: Duration::from_secs(300) })
        .with(at("11:00:00"), Fault::NoAck)
        .with(at("11:00:00"), Fault::Disconnect { hold_slot: Duration::from_secs(30) })
        .with(at("14:00:00"), Fault::HandshakeRefused { status: 503, lasts: Duration::from_secs(120) })
        .with(at("14:00:30"), Fault::Disconnect { hold_slot: Duration::from_secs(10) });
    play(harsh, 9, "08:50:00", "16:00:00", 600.0).await;
}
