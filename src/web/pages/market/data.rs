//! The market as the day's own figures tell it: sessions, windows and anomalies that `vwap` put into the
//! index, and each symbol's newest trade from the raw store. Nothing is computed from trades here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::api::schemas;
use crate::cache::{Kept, Reading, Shared, Trouble};
use crate::pages::topics::records::{Shown, VALUE_BYTES};
use crate::view::findings;
use backends::index::Index;
use backends::{BackendError, Backends, ErrorKind, Result};
use daemon::snapshot::RunView;
use daemon::{Handle, Snapshot};
use domain::hop::{self, Kind};
use domain::message::Refused;
use domain::program::Store;
use domain::said;
use domain::trade::{EventId, Trade, quantity};

/// Documents asked for at a time.
const AT_ONCE: usize = 8;
/// Ids of one page of the index.
const PAGE: usize = 1_000;
/// Most symbols of a day.
const SYMBOLS: usize = 5_000;
/// Most windows of a symbol's day.
const WINDOWS: usize = 10_000;
/// How often the symbols of a day are looked for, and all its windows read again, in real time.
const THOROUGH: Duration = Duration::from_secs(30);
/// The newest windows may still change.
const UNSETTLED: usize = 10;
/// Most anomalies told of a symbol, and most original messages of each.
const ANOMALIES: usize = 50;
const MESSAGES: usize = 5;

/// Where the figures of a day are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sources {
    /// Prefix of the index with sessions and windows.
    pub index: String,
    /// Prefix of the index with anomalies.
    pub anomalies: String,
    /// Raw collection with the trades.
    pub collection: String,
}

impl Sources {
    /// As the steps of the newest run that averages say, or by their defaults.
    pub fn of(snapshot: &Snapshot) -> Self {
        let named = |key: &str, default: &str| {
            let find = |view: &RunView| {
                let (step, _) = findings::step_of(view, &steps::vwap::PROGRAM)?;
                Some(step.with.get(key).and_then(|v| v.as_str()).unwrap_or(default).to_owned())
            };
            snapshot.runs.iter().find_map(find).unwrap_or_else(|| default.to_owned())
        };
        let topic = named("topic", steps::default_topic());
        let collected = |view: &RunView| {
            let raw = hop::of_run(&view.run, steps::programs())
                .into_iter()
                .find(|hop| hop.kind == Kind::Store(Store::Raw))?;
            Some(raw.place)
        };
        Self {
            index: named("index", &steps::default_name(&topic, "vwap")),
            anomalies: named("anomaly_index", &steps::default_name(&topic, "anomalies")),
            collection: snapshot
                .runs
                .iter()
                .find_map(collected)
                .unwrap_or_else(|| steps::default_topic().to_owned()),
        }
    }
}

/// Name of a day's index.
fn daily(prefix: &str, date: Date) -> String {
    steps::sink::index::daily(prefix, date)
}

/// Days with figures, the newest first.
///
/// # Errors
/// What the index fails with.
pub async fn dates(index: &dyn Index, sources: &Sources) -> Result<Vec<Date>> {
    let prefix = format!("{}-", sources.index);
    let names = index.indices(&prefix).await?;
    let mut dates: Vec<Date> =
        names.iter().filter_map(|n| n.strip_prefix(&prefix)?.replace('.', "-").parse().ok()).collect();
    dates.sort_unstable_by(|a, b| b.cmp(a));
    dates.dedup();
    Ok(dates)
}

/// A symbol's session, as `vwap` stores it. Prices and values in KRW, quantities in shares.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, ToSchema)]
#[schema(as = Figures)]
pub struct Session {
    /// Feed prefix.
    pub feed: String,
    /// Instrument.
    pub symbol: String,
    /// Average of what was received.
    #[schema(required)]
    pub vwap: Option<f64>,
    /// Shares or units received.
    #[serde(with = "quantity")]
    #[schema(value_type = schemas::Quantity)]
    pub volume: Decimal,
    /// Trades received.
    pub trades: u64,
    /// Lowest price.
    pub min_price: f64,
    /// Highest price.
    pub max_price: f64,
    /// The exchange's own volume at the newest trade; below 0 without one, and where the feed does not say
    /// it.
    #[serde(default = "unsaid")]
    #[schema(required)]
    pub exchange_volume: i64,
    /// The exchange's own traded value at the newest trade.
    #[serde(default)]
    #[schema(required)]
    pub exchange_value: i64,
    /// Sums and the exchange's own are equal.
    #[serde(default)]
    #[schema(required)]
    pub exchange_equal: bool,
    /// Event id of the last trade; older documents do not say it.
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    pub last_id: Option<String>,
    /// Time of the newest trade.
    #[schema(required)]
    pub trade_time: Option<Timestamp>,
}

impl Session {
    /// The exchange's own average.
    pub fn exchange_vwap(&self) -> Option<f64> {
        (self.exchange_volume > 0).then(|| self.exchange_value as f64 / self.exchange_volume as f64)
    }

    /// Shares the exchange traded that were not received.
    pub fn missing(&self) -> i64 {
        let missing = Decimal::from(self.exchange_volume).saturating_sub(self.volume).max(Decimal::ZERO);
        missing.to_i64().unwrap_or(i64::MAX)
    }

    /// Event id of the last trade: in older documents the one whose accumulated volume is the exchange's.
    fn last_id(&self, day: Date) -> String {
        let said = || EventId::new(&self.feed, day, &self.symbol, self.exchange_volume).to_string();
        self.last_id.clone().unwrap_or_else(said)
    }
}

fn unsaid() -> i64 {
    -1
}

/// A symbol's newest trade.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Last {
    /// Its price.
    pub price: Decimal,
    /// The day's first price, as the exchange says it.
    pub open: Option<Decimal>,
}

impl Last {
    fn of(body: &[u8]) -> Option<Self> {
        let trade: Trade = serde_json::from_slice(body).ok()?;
        let open = feed::of_trade(&trade.feed).and_then(|feed| feed.open(&trade));
        Some(Self { price: trade.price, open })
    }

    /// Change since the open, in KRW and percent.
    pub fn change(&self) -> Option<(Decimal, Decimal)> {
        let open = self.open?;
        let change = self.price.checked_sub(open)?;
        Some((change, change.checked_mul(Decimal::ONE_HUNDRED)?.checked_div(open)?.round_dp(2)))
    }
}

/// A symbol's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SymbolFacts {
    /// Its name in addresses: the symbol, behind its feed and a colon unless that is the first feed.
    pub name: String,
    /// The session.
    pub session: Session,
    /// The newest trade, once the raw store has it.
    pub last: Option<Last>,
}

/// A day.
#[derive(Debug, Clone, PartialEq)]
pub struct Market {
    /// Which.
    pub date: Option<Date>,
    /// All days with figures, the newest first.
    pub dates: Vec<Date>,
    /// By name.
    pub symbols: Vec<SymbolFacts>,
}

/// What is remembered of a day between looks.
#[derive(Default)]
pub struct Quotes {
    date: Option<Date>,
    names: Vec<String>,
    named: Option<Instant>,
    /// Newest trades, by event id.
    last: BTreeMap<String, Last>,
}

impl Quotes {
    /// Reads the day, or the newest there is.
    ///
    /// # Errors
    /// `NotFound` for a day without figures; what a store fails with.
    pub async fn look(
        &mut self,
        backends: &Backends,
        sources: &Sources,
        date: Option<Date>,
    ) -> Result<Market> {
        let index = backends.index.as_ref();
        let dates = dates(index, sources).await?;
        let Some(day) = date.or_else(|| dates.first().copied()) else {
            return Ok(Market { date: None, dates, symbols: Vec::new() });
        };
        if !dates.contains(&day) {
            return Err(no_day(day));
        }
        let name = daily(&sources.index, day);
        if self.date != Some(day) || self.named.is_none_or(|at| at.elapsed() > THOROUGH) {
            self.names = names(index, &name).await?;
            (self.date, self.named) = (Some(day), Some(Instant::now()));
        }
        let mut symbols = Vec::with_capacity(self.names.len());
        let ids = self.names.iter().map(|n| format!("{n}|session")).collect::<Vec<_>>();
        for (symbol, session) in self.names.iter().zip(documents::<Session>(index, &name, &ids).await?) {
            let Some(session) = session else { continue };
            symbols.push(SymbolFacts { name: symbol.clone(), session, last: None });
        }
        self.last_trades(backends, sources, day, &mut symbols).await?;
        Ok(Market { date: Some(day), dates, symbols })
    }

    /// The sessions say which trade was the last.
    async fn last_trades(
        &mut self,
        backends: &Backends,
        sources: &Sources,
        day: Date,
        symbols: &mut [SymbolFacts],
    ) -> Result<()> {
        let wanted: Vec<String> =
            symbols.iter().map(|s| s.session.last_id(day)).filter(|id| !self.last.contains_key(id)).collect();
        let mut last = BTreeMap::new();
        for some in wanted.chunks(AT_ONCE) {
            let reads: Vec<_> = some.iter().map(|id| backends.raw.get(&sources.collection, id)).collect();
            for (id, document) in some.iter().zip(try_join_all(reads).await?) {
                if let Some(trade) = document.and_then(|d| Last::of(&d.body)) {
                    last.insert(id.clone(), trade);
                }
            }
        }
        for symbol in symbols {
            let id = symbol.session.last_id(day);
            if let Some(known) = self.last.remove(&id) {
                last.insert(id.clone(), known);
            }
            symbol.last = last.get(&id).cloned();
        }
        self.last = last;
        Ok(())
    }
}

fn no_day(day: Date) -> BackendError {
    BackendError::new(ErrorKind::NotFound, "index", format!("there are no figures of {day}"))
        .remedy("the market page lists the days there are")
}

/// Names of a day's symbols. Ids are `{name}|{window}`, so the next name begins after this one's last.
async fn names(index: &dyn Index, name: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut after: Option<String> = None;
    while names.len() < SYMBOLS {
        let Some(id) = index.ids(name, "", after.as_deref(), 1).await?.pop() else { break };
        match id.split_once('|') {
            Some((symbol, _)) => {
                // '}' follows '|'.
                after = Some(format!("{symbol}}}"));
                names.push(symbol.to_owned());
            }
            None => after = Some(id),
        }
    }
    Ok(names)
}

/// Documents by id, in the order of the ids; what is not there or not as expected is `None`.
async fn documents<T: DeserializeOwned>(
    index: &dyn Index,
    name: &str,
    ids: &[String],
) -> Result<Vec<Option<T>>> {
    let mut found = Vec::with_capacity(ids.len());
    for some in ids.chunks(AT_ONCE) {
        let reads: Vec<_> = some.iter().map(|id| index.get(name, id)).collect();
        let sources = try_join_all(reads).await?.into_iter();
        found.extend(sources.map(|source| source.and_then(|bytes| serde_json::from_slice(&bytes).ok())));
    }
    Ok(found)
}

/// A window of a symbol, as `vwap` stores it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, ToSchema)]
#[schema(as = PriceWindow)]
pub struct Window {
    /// Start.
    pub window_start: Timestamp,
    /// End.
    pub window_end: Timestamp,
    /// Average price by volume.
    #[schema(required)]
    pub vwap: Option<f64>,
    /// Shares or units.
    #[serde(with = "quantity")]
    #[schema(value_type = schemas::Quantity)]
    pub volume: Decimal,
    /// Traded value, KRW.
    pub value: f64,
    /// Trades.
    pub trades: u64,
    /// Lowest price.
    pub min_price: f64,
    /// Highest price.
    pub max_price: f64,
}

/// A window that broke a rule, with what was received in it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Anomaly {
    /// The rule.
    pub rule: String,
    /// The window.
    pub window: Window,
    /// Ids of its trades; the first 500.
    pub event_ids: Vec<String>,
    /// The first messages as they are in the raw store.
    pub messages: Vec<(String, Shown)>,
}

#[derive(Deserialize)]
struct AnomalyDocument {
    rule: String,
    #[serde(flatten)]
    window: Window,
    #[serde(default)]
    event_ids: Vec<String>,
}

/// A symbol's day.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Which day.
    pub date: Date,
    /// Its figures.
    pub facts: SymbolFacts,
    /// Windows, by start.
    pub windows: Vec<Window>,
    /// What broke a rule, the newest first.
    pub anomalies: Vec<Anomaly>,
}

/// What is remembered of a symbol's day between looks.
#[derive(Default)]
pub struct Windows {
    known: BTreeMap<String, Window>,
    thorough: Option<Instant>,
}

impl Windows {
    /// Reads the day of `facts`.
    ///
    /// # Errors
    /// What a store fails with.
    pub async fn look(
        &mut self,
        backends: &Backends,
        sources: &Sources,
        date: Date,
        facts: SymbolFacts,
    ) -> Result<Chart> {
        let index = backends.index.as_ref();
        let name = daily(&sources.index, date);
        let ids = all_ids(index, &name, &format!("{}|2", facts.name), WINDOWS).await?;
        let thorough = self.thorough.is_none_or(|at| at.elapsed() > THOROUGH);
        let settled = if thorough { 0 } else { ids.len().saturating_sub(UNSETTLED) };
        let wanted: Vec<String> = ids
            .iter()
            .enumerate()
            .filter(|(at, id)| *at >= settled || !self.known.contains_key(*id))
            .map(|(_, id)| id.clone())
            .collect();
        for (id, window) in wanted.iter().zip(documents::<Window>(index, &name, &wanted).await?) {
            if let Some(window) = window {
                self.known.insert(id.clone(), window);
            }
        }
        if thorough {
            self.thorough = Some(Instant::now());
        }
        let mut windows: Vec<Window> = self.known.values().cloned().collect();
        windows.sort_by_key(|w| w.window_start);
        let anomalies = anomalies(backends, sources, date, &facts.name).await?;
        Ok(Chart { date, facts, windows, anomalies })
    }
}

async fn all_ids(index: &dyn Index, name: &str, prefix: &str, most: usize) -> Result<Vec<String>> {
    let mut ids: Vec<String> = Vec::new();
    while ids.len() < most {
        let page = index.ids(name, prefix, ids.last().map(String::as_str), PAGE).await?;
        let last = page.len() < PAGE;
        ids.extend(page);
        if last {
            break;
        }
    }
    Ok(ids)
}

async fn anomalies(backends: &Backends, sources: &Sources, date: Date, symbol: &str) -> Result<Vec<Anomaly>> {
    let index = backends.index.as_ref();
    let name = daily(&sources.anomalies, date);
    let mut ids = all_ids(index, &name, &format!("range|{symbol}|"), WINDOWS).await?;
    let mut ids = ids.split_off(ids.len().saturating_sub(ANOMALIES));
    ids.reverse();
    let mut told = Vec::new();
    for document in documents::<AnomalyDocument>(index, &name, &ids).await?.into_iter().flatten() {
        let mut messages = Vec::new();
        for id in document.event_ids.iter().take(MESSAGES) {
            if let Some(found) = backends.raw.get(&sources.collection, id).await? {
                messages.push((id.clone(), Shown::of(&found.body, VALUE_BYTES)));
            }
        }
        told.push(Anomaly {
            rule: document.rule,
            window: document.window,
            event_ids: document.event_ids,
            messages,
        });
    }
    Ok(told)
}

type Day = (Sources, Option<Date>);

/// The market's figures as they were read last.
pub(crate) struct MarketReads {
    backends: Backends,
    handle: Handle,
    quotes: Shared<Day, Quotes>,
    market: Kept<Day, Market>,
    windows: Shared<(Sources, Date, String), Windows>,
    charts: Kept<(Sources, Date, String), Chart>,
}

impl MarketReads {
    /// Reads the index, where there is room, by the daemon's clock.
    pub(crate) fn new(backends: Backends, handle: Handle, room: &Arc<Semaphore>) -> Self {
        Self {
            backends,
            handle,
            quotes: Shared::default(),
            market: Kept::new("the index", 8, room),
            windows: Shared::default(),
            charts: Kept::new("the index", 8, room),
        }
    }

    fn now(&self) -> impl Fn() -> Timestamp + Send + use<> {
        let handle = self.handle.clone();
        move || handle.snapshot().now
    }

    /// A day of the market; without a date the newest.
    pub(crate) async fn market(&self, sources: Sources, date: Option<Date>) -> Reading<Market> {
        let backends = self.backends.clone();
        let key = (sources.clone(), date);
        let quotes = self.quotes.of(&key, Quotes::default);
        let work = async move { quotes.lock().await.look(&backends, &sources, date).await };
        self.market.get(self.now(), &key, work).await
    }

    /// A symbol's day.
    pub(crate) async fn chart(&self, sources: Sources, date: Option<Date>, symbol: &str) -> Reading<Chart> {
        let market = self.market(sources.clone(), date).await;
        let gone = |said: Refused| Reading {
            value: None,
            trouble: Some(Trouble { since: self.handle.snapshot().now, said, missing: true }),
        };
        let Some((_, found)) = &market.value else { return Reading { value: None, trouble: market.trouble } };
        let Some(day) = found.date else {
            return gone(Refused::bare(said!("there are no figures of any day yet")));
        };
        let Some(facts) = found.symbols.iter().find(|s| s.name == symbol).cloned() else {
            let why = said!("there is no symbol \"{}\" on {}", symbol, day);
            return gone(Refused::new(why, said!("the market page lists those there are")));
        };
        let key = (sources.clone(), day, symbol.to_owned());
        let windows = self.windows.of(&key, Windows::default);
        let backends = self.backends.clone();
        let work = async move { windows.lock().await.look(&backends, &sources, day, facts).await };
        let reading = self.charts.get(self.now(), &key, work).await;
        Reading { trouble: reading.trouble.or(market.trouble), ..reading }
    }
}
