//! Upbit's collector against its simulator: a cut at midnight, where one day's collector hands the spool to
//! the next one's, and a stretch of a day with everything that goes wrong.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, date};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use openbell::backends::spool::Entry;
use openbell::backends::{self, Backends};
use openbell::clock::Clock;
use openbell::config::Config;
use openbell::domain::gaps::Gap;
use openbell::feed::upbit::Upbit;
use openbell::feed::{Feed, Received};
use openbell::simulate::upbit::{Fault, LedgerTrade, Mangling, Script, Simulator, SimulatorOptions};
use openbell::steps::{StepError, spooled};
use support::PATIENCE;
use support::collector::{Place, Told, context, id, records, spool};

const DAY: Date = date(2026, 11, 20);

fn at(text: &str) -> Timestamp {
    format!("{text}+09:00").parse().expect("a time")
}

/// Where collectors work.
struct House {
    folder: tempfile::TempDir,
    backends: Backends,
    clock: Clock,
    simulator: Simulator,
}

/// A collector that runs.
struct Collector {
    told: Arc<Told>,
    stop: CancellationToken,
    task: JoinHandle<Result<Value, StepError>>,
}

impl House {
    async fn new(options: SimulatorOptions) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let backends = backends::open(&Config::default(), folder.path()).expect("embedded stores");
        backends.log.create_topic("upbit.trades", 3).await.expect("a topic");
        let clock = options.clock.clone();
        let simulator = Simulator::start(options).await.expect("a simulator");
        Self { folder, backends, clock, simulator }
    }

    fn data(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the collector of a date's run.
    fn collect(&self, session_date: Date, with: &Value) -> Collector {
        let told = Arc::new(Told::default());
        let place = Place {
            data: self.data(),
            clock: &self.clock,
            backends: self.backends.clone(),
            addresses: [self.simulator.rest_url(), self.simulator.websocket_url()],
            told: Arc::clone(&told),
        };
        let mut context = context(place, "upbit", "upbit", session_date, with);
        context.spec.step.drain = Some(Duration::from_secs(300));
        let stop = context.stop.clone();
        let task = tokio::spawn(async move { openbell::steps::run("collect/upbit", context).await });
        Collector { told, stop, task }
    }

    fn spool(&self) -> Vec<Entry> {
        spool(self.data(), "upbit")
    }

    /// Ids on the topic, in no order.
    async fn log(&self) -> Vec<String> {
        records(self.backends.log.as_ref(), "upbit.trades").await.iter().map(id).collect()
    }
}

impl Collector {
    async fn finish(self) -> Value {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await.expect("in time").expect("no panic");
        ended.unwrap_or_else(|error| panic!("{error}:\n{}", self.told.text()))
    }
}

/// What the feed's rule says is missing of a date, of what a spool holds.
fn gaps(spool: &[Entry], date: Date) -> Vec<Gap> {
    let mut rule = Upbit.completeness();
    for entry in spool {
        if let Some(trade) =
            spooled::trade(entry).map(|read| read.expect("a trade")).filter(|t| t.session_date == date)
        {
            rule.see(Received::Trade(&trade));
        }
        if let Some(total) = spooled::total(entry).filter(|total| total.session_date == date) {
            rule.see(Received::Total(&total));
        }
    }
    rule.gaps()
}

fn ids(spool: &[Entry]) -> Vec<String> {
    spool.iter().filter_map(|entry| Some(spooled::trade(entry)?.expect("a trade").id.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_day_is_handed_to_the_next_without_losing_or_repeating_a_trade() {
    let clock = Clock::virtual_owner(at("2026-11-20T23:57:00"), 5.0, None).expect("a clock");
    let house = House::new(SimulatorOptions {
        target_trades: 150_000,
        ..SimulatorOptions::new(clock.clone(), 1, DAY)
    })
    .await;
    let with =
        serde_json::json!({"symbols": openbell::simulate::upbit::markets::codes(), "take_over": "10m"});
    let old = house.collect(DAY, &with);
    old.told.until("ready", |status| status.ready).await;
    let from = clock.now();
    clock.set_speed(20.0);
    clock.sleep_until(at("2026-11-20T23:58:00")).await;
    clock.set_speed(5.0);
    let new = house.collect(DAY.tomorrow().expect("a day"), &with);
    new.told.until("listening", |status| status.waits.is_some() && status.facts["session"] == 1).await;
    assert!(clock.now() < at("2026-11-21T00:00:00"), "the new one listens before the cut");
    clock.set_speed(20.0);
    clock.sleep_until(at("2026-11-21T00:01:00")).await;
    assert!(new.told.status.lock().as_ref().is_some_and(|status| !status.ready));
    let told = old.finish().await;
    new.told.until("ready", |status| status.ready).await;
    let to = clock.now();
    clock.sleep_until(at("2026-11-21T00:03:00").max(to + Duration::from_secs(60))).await;
    new.finish().await;

    let spool = house.spool();
    let received = ids(&spool);
    let unique: BTreeSet<&str> = received.iter().map(String::as_str).collect();
    assert_eq!(received.len(), unique.len(), "a trade stands in the spool twice");
    let ledger = house.simulator.ledger();
    let lost: Vec<&LedgerTrade> =
        ledger.iter().filter(|t| t.at > from && t.at < to && !unique.contains(t.id().as_str())).collect();
    assert!(lost.is_empty(), "{} lost, the first {:?}", lost.len(), lost.first());
    let days: BTreeSet<Date> =
        ledger.iter().filter(|t| t.at > from && t.at < to).map(LedgerTrade::session_date).collect();
    assert_eq!(days.len(), 2, "there is a cut in what was looked at");
    let mut log = house.log().await;
    log.sort_unstable();
    assert!(log.windows(2).all(|pair| pair[0] != pair[1]), "a trade stands on the log twice");
    assert_eq!(log.len(), unique.len());
    // Of the minutes around the cut nothing is missing: those before the collector came are.
    let around = |gap: &Gap| gap.to.as_str() > "2026-11-20T23:58:00+09:00";
    let missing: Vec<Gap> = gaps(&spool, DAY).into_iter().filter(around).collect();
    assert_eq!(missing, [], "{told}");
    assert_eq!(gaps(&spool, DAY.tomorrow().expect("a day")), []);
    house.simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_disconnect_cost_is_named_exactly() {
    let day = |time: &str| at(&format!("{DAY}T{time}"));
    let script = Script::quiet(1, DAY)
        .with(day("00:08:00"), Fault::Duplicate)
        .with(day("00:09:00"), Fault::OutOfOrder)
        .with(day("00:10:30"), Fault::Malformed { what: Mangling::Truncated })
        .with(day("00:11:00"), Fault::Malformed { what: Mangling::Binary })
        .with(day("00:12:20"), Fault::Disconnect { lasts: Duration::from_secs(150) })
        .with(day("00:16:00"), Fault::TooMany { lasts: Duration::from_secs(60) })
        .with(day("00:18:00"), Fault::Drop)
        .with(day("00:20:00"), Fault::Error { name: "WRONG_FORMAT".into() });
    // The collector is there before the day begins, so that all of it is looked at.
    let clock = Clock::virtual_owner(at("2026-11-19T23:55:00"), 5.0, None).expect("a clock");
    let options =
        SimulatorOptions { script, target_trades: 60_000, ..SimulatorOptions::new(clock.clone(), 2, DAY) };
    let house = House::new(options).await;
    let mut symbols = openbell::simulate::upbit::markets::codes();
    symbols.push("KRW-NOBODY".to_owned());
    let collector = house.collect(DAY, &serde_json::json!({"symbols": symbols, "format": "simple_list"}));
    collector.told.until("ready", |status| status.ready).await;
    let degraded = collector.told.status.lock().as_ref().and_then(|s| s.degraded.clone());
    assert!(degraded.is_some_and(|why| why.contains("KRW-NOBODY")), "{}", collector.told.text());
    clock.set_speed(30.0);
    clock.sleep_until(day("00:24:30")).await;
    let told = collector.finish().await;
    assert_eq!(told["malformed"], 2);

    let spool = house.spool();
    let received: BTreeSet<String> = ids(&spool).into_iter().collect();
    // In units of 10^-8, as the ledger has them.
    let mut lost: BTreeMap<String, i128> = BTreeMap::new();
    let until = day("00:23:00");
    for trade in house.simulator.ledger().iter().filter(|t| t.session_date() == DAY && t.traded < until) {
        if !received.contains(trade.id().as_str()) {
            *lost.entry(trade.code.to_string()).or_default() += i128::from(trade.volume);
        }
    }
    assert!(lost.len() > 5, "a disconnect of two and a half minutes costs something: {lost:?}");
    let mut named: BTreeMap<String, i128> = BTreeMap::new();
    for gap in gaps(&spool, DAY).into_iter().filter(|gap| gap.to <= "2026-11-20T00:23:00+09:00".to_owned()) {
        let mut quantity = gap.quantity;
        quantity.rescale(8);
        *named.entry(gap.symbol).or_default() += quantity.mantissa();
    }
    assert_eq!(named, lost, "{told}");
    house.simulator.stop().await;
}
