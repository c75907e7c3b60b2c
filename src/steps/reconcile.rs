//! `reconcile`: proves, after the day, that every trade that was received is in every store, once.
//!
//! The sinks have drained before teardown, so one pass over each hop is the truth. The spool is what was received; the exchange's own
//! accumulated volumes say what was not (gaps); Σ price·quantity against the exchange's totals says whether prices are right.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::asking::ask_again;
use super::programs::TOPIC;
use super::sink::folder;
use super::sink::index::{INDEX, daily};
use super::sink::objects::{PREFIX, TIMEZONE, object_zone};
use super::sink::raw::COLLECTION;
use super::spool_tail::COLLECTOR;
use super::{Context, StepError, dead_letter, envelope, log_search, spool_tail, spooled};
use backends::log::Partition;
use backends::spool::Entry;
use backends::{BackendError, ErrorKind, Result};
use domain::dag::StepKind;
use domain::gaps::Gap;
use domain::ledger::{Account, Hop, Ledger};
use domain::parameters::Parameters;
use domain::program::{Parameter, Program, Role, Shape};
use domain::trade::{EventId, Trade, quantity};
use domain::vwap::Sums;
use feed::{Completeness, Received as Came};

/// Waits before a store is asked again.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
    Duration::from_millis(3_200),
];

/// Ids of one page of a store.
const PAGE: usize = 5_000;

/// Its row in the table of programs.
pub const PROGRAM: Program = Program {
    name: "reconcile",
    kinds: &[StepKind::Teardown, StepKind::Task],
    role: Role::Reconcile,
    about: "compares every store with the spool, id by id, and reports gaps",
    parameters: &[
        COLLECTOR,
        TOPIC,
        COLLECTION,
        INDEX,
        PREFIX,
        TIMEZONE,
        Parameter::new("listed", Shape::Count(0), "most missing ids listed for a store").or("100").counting("ids"),
    ],
    secrets: &[],
    replicas: false,
};

/// Compares the hops of the session date.
///
/// # Errors
/// A wrong parameter, a store that fails, or a day that does not reconcile (with everything that was found): somebody must
/// look, so the run fails and says so.
pub async fn run(context: Context) -> std::result::Result<Value, StepError> {
    let p = Parameters::of(&PROGRAM, &context.spec.step.with);
    let day = Day {
        collector: p.text("collector")?,
        collection: p.text("collection")?,
        index: p.text("index")?,
        prefix: p.text("prefix")?.trim_matches('/').to_owned(),
        object_zone: object_zone(&p, &context)?,
        listed: p.size("listed")?,
        zone: super::zone(&context.spec),
        topic: p.text("topic")?,
        context,
    };
    let result = day.reconcile().await?;
    match unmet(&result) {
        None => Ok(result),
        Some(what) => Err(StepError::Unmet { what, result }),
    }
}

/// What is wrong with a day, in one line; `None` for one that reconciles.
fn unmet(result: &Value) -> Option<String> {
    if result["ok"] == true {
        return None;
    }
    let mut wrong = Vec::new();
    for hop in Hop::ALL {
        let account = &result["hops"][hop.as_str()];
        let count = |what: &str| account[what].as_u64().unwrap_or_default();
        match (count("missing"), if hop == Hop::Spool { 0 } else { count("duplicates") }) {
            (0, 0) => {}
            (missing, duplicates) => wrong.push(format!("{} misses {missing} and repeats {duplicates}", hop.as_str())),
        }
    }
    let different = result["vwap"]["different"].as_array().map_or(0, Vec::len);
    if different > 0 {
        wrong.push(format!("the totals of {different} symbols differ from the exchange's"));
    }
    Some(format!("{} does not reconcile: {}", result["session_date"].as_str().unwrap_or("the day"), wrong.join("; ")))
}

struct Day {
    context: Context,
    topic: String,
    collector: String,
    collection: String,
    index: String,
    prefix: String,
    object_zone: TimeZone,
    zone: TimeZone,
    listed: usize,
}

/// What the spool says about a day.
#[derive(Default)]
struct Received {
    ledger: Ledger,
    /// Feeds that sent something.
    feeds: BTreeSet<String>,
    gaps: BTreeMap<String, Box<dyn Completeness>>,
    symbols: BTreeMap<(String, String), SymbolDay>,
    /// Records that the codec refuses; the collector keeps them as dead letters.
    undecodable: u64,
}

#[derive(Default)]
struct SymbolDay {
    sums: Sums,
    /// Highest accumulated volume, and the value that came with it, where the feed says them.
    exchange: Option<(i64, i64)>,
    /// Trades beyond what the sums can hold.
    unpriced: u64,
}

impl Received {
    fn entry(&mut self, entry: &Entry, date: jiff::civil::Date) {
        match spooled::trade(entry) {
            Some(Ok(trade)) if trade.session_date == date => self.trade(&trade),
            Some(Ok(_)) => {}
            Some(Err(_)) => self.undecodable += 1,
            None => {
                if let Some(total) = spooled::total(entry).filter(|total| total.session_date == date) {
                    self.came(&total.feed, Came::Total(&total));
                }
            }
        }
    }

    /// Tells the feed's rule of completeness.
    fn came(&mut self, feed: &str, came: Came<'_>) {
        if !self.gaps.contains_key(feed)
            && let Some(its) = feed::of_trade(feed)
        {
            self.gaps.insert(feed.to_owned(), its.completeness());
        }
        if let Some(rule) = self.gaps.get_mut(feed) {
            rule.see(came);
        }
    }

    fn trade(&mut self, trade: &Trade) {
        self.feeds.insert(trade.feed.clone());
        if !self.ledger.see(Hop::Spool, trade.id.as_str()) {
            return;
        }
        self.came(&trade.feed, Came::Trade(trade));
        let day = self.symbols.entry((trade.feed.clone(), trade.symbol.clone())).or_default();
        match day.sums.with(trade.price, trade.quantity) {
            Some(sums) => day.sums = sums,
            None => day.unpriced += 1,
        }
        if let Some(volume) = trade.accumulated_volume
            && day.exchange.is_none_or(|(highest, _)| volume > highest)
        {
            day.exchange = Some((volume, trade.accumulated_value.unwrap_or_default()));
        }
    }
}

impl Day {
    async fn reconcile(&self) -> Result<Value> {
        let received = Arc::new(Mutex::new(self.received().await?));
        self.log(&received).await?;
        let (total, by_cause) = self.dead_letters(&received).await?;
        let feeds: Vec<String> = {
            let received = lock(&received);
            // A store may hold what another collector received.
            let none = received.feeds.is_empty();
            if none { vec![feed::FEEDS[0].name().to_owned()] } else { received.feeds.iter().cloned().collect() }
        };
        for feed in &feeds {
            self.pages(&received, Hop::Raw, &EventId::date_prefix(feed, self.context.spec.session_date)).await?;
        }
        self.pages(&received, Hop::Index, "").await?;
        self.objects(&received).await?;
        let received = lock(&received);
        Ok(self.report(&received, total, &by_cause))
    }

    async fn received(&self) -> Result<Received> {
        let spec = &self.context.spec;
        let dir = spool_tail::folder(&self.context.data, spec.id.run.dag(), &self.collector);
        let date = spec.session_date;
        let read = tokio::task::spawn_blocking(move || {
            let mut received = Received::default();
            if backends::spool::id(&dir)?.is_some() {
                spool_tail::for_each(&dir, 1, |entry| {
                    received.entry(&entry, date);
                    true
                })?;
            }
            Ok(received)
        });
        read.await.map_err(|e| BackendError::new(ErrorKind::Unavailable, "spool", e.to_string()))?
    }

    fn midnight(&self) -> Timestamp {
        self.context.spec.session_date.to_zoned(self.zone.clone()).map_or(Timestamp::MIN, |z| z.timestamp())
    }

    async fn log(&self, received: &Mutex<Received>) -> Result<()> {
        let log = self.context.backends.log.as_ref();
        let Some(topic) = retry(self, || log.topic(&self.topic)).await? else { return Ok(()) };
        let part = format!(":{}:", self.context.spec.session_date);
        for (number, range) in topic.partitions.iter().enumerate() {
            let partition = Partition { topic: self.topic.clone(), number: number as u32 };
            let start = log_search::first_after(log, &partition, range.start..range.end, self.midnight()).await?;
            log_search::for_each(log, &partition, start..range.end, |record| {
                if let Some(id) = envelope::event_id(&record).filter(|id| id.contains(&part)) {
                    let mut received = lock(received);
                    // A replayed dead letter stands on the log a second time on purpose; the sinks fold it.
                    if record.record.header(dead_letter::REPLAY).is_none() || !received.ledger.has(Hop::Log, &id) {
                        received.ledger.see(Hop::Log, &id);
                    }
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Counts the day's dead letters by cause, each once, and marks the ids they keep.
    async fn dead_letters(&self, received: &Mutex<Received>) -> Result<(u64, BTreeMap<String, u64>)> {
        let log = self.context.backends.log.as_ref();
        let name = dead_letter::topic_of(&self.topic);
        let (mut total, mut by_cause) = (0, BTreeMap::new());
        let Some(topic) = retry(self, || log.topic(&name)).await? else { return Ok((0, by_cause)) };
        let date = self.context.spec.session_date;
        let mut known = BTreeSet::new();
        for (number, range) in topic.partitions.iter().enumerate() {
            let partition = Partition { topic: name.clone(), number: number as u32 };
            log_search::for_each(log, &partition, range.start..range.end, |letter| {
                let its_day = letter.record.timestamp.to_zoned(self.zone.clone()).date() == date;
                if !its_day || !known.insert(dead_letter::identity(&letter)) {
                    return;
                }
                total += 1;
                *by_cause.entry(dead_letter::cause(&letter.record).to_owned()).or_insert(0) += 1;
                let hop = match dead_letter::error_header(&letter.record, "class.name") {
                    Some("sink/index") => Hop::Index,
                    Some("sink/objects") => Hop::Objects,
                    Some("sink/raw") => Hop::Raw,
                    _ => return,
                };
                if let Some(id) = envelope::event_id(&letter) {
                    lock(received).ledger.bury(hop, &id);
                }
            })
            .await?;
        }
        Ok((total, by_cause))
    }

    async fn pages(&self, received: &Mutex<Received>, hop: Hop, prefix: &str) -> Result<()> {
        let backends = &self.context.backends;
        let index = daily(&self.index, self.context.spec.session_date);
        let mut after: Option<String> = None;
        loop {
            let ids = match hop {
                Hop::Raw => retry(self, || backends.raw.ids(&self.collection, prefix, after.as_deref(), PAGE)).await?,
                _ => retry(self, || backends.index.ids(&index, prefix, after.as_deref(), PAGE)).await?,
            };
            let Some(last) = ids.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut received = lock(received);
            ids.iter().for_each(|id| {
                received.ledger.see(hop, id);
            });
        }
    }

    async fn objects(&self, received: &Mutex<Received>) -> Result<()> {
        let objects = &self.context.backends.objects;
        let date = self.context.spec.session_date;
        let today = self.context.clock.now().to_zoned(self.object_zone.clone()).date();
        // Receipt days: the session's, the day after (zones west of the exchange), and today, for a run that is done again later.
        let days: BTreeSet<_> = [Some(date), date.yesterday().ok(), date.tomorrow().ok(), Some(today)]
            .into_iter()
            .flatten()
            .filter(|d| *d <= today.max(date))
            .collect();
        for day in days {
            let path = format!("{}/year={:04}/month={:02}/day={:02}/", self.prefix, day.year(), day.month(), day.day());
            for key in retry(self, || folder::keys(objects.as_ref(), &path)).await? {
                let lines = retry(self, || folder::lines(objects.as_ref(), &key)).await?;
                let mut received = lock(received);
                lines.iter().filter(|line| line.session_date == date).for_each(|line| {
                    received.ledger.see(Hop::Objects, &line.id);
                });
            }
        }
        Ok(())
    }

    fn report(&self, received: &Received, dead_total: u64, by_cause: &BTreeMap<String, u64>) -> Value {
        let date = self.context.spec.session_date;
        let line = |text: String| self.context.reporter.line(&text);
        line(format!("reconciliation of {date}"));
        let mut ok = true;
        let mut hops = serde_json::Map::new();
        for hop in Hop::ALL {
            let account = received.ledger.account(hop, self.listed);
            ok &= account.missing == 0 && (hop == Hop::Spool || account.duplicates == 0);
            line(sentence(hop, &account));
            hops.insert(
                hop.as_str().to_owned(),
                json!({
                    "unique": account.unique,
                    "duplicates": account.duplicates,
                    "missing": account.missing,
                    "missing_ids": account.missing_ids,
                    "extra": account.extra,
                }),
            );
        }
        let mut gaps: Vec<Gap> = Vec::new();
        let mut with_gaps: BTreeSet<(&str, String)> = BTreeSet::new();
        for (feed, rule) in &received.gaps {
            let its = rule.gaps();
            with_gaps.extend(its.iter().map(|gap| (feed.as_str(), gap.symbol.clone())));
            gaps.extend(its);
        }
        let gap_shares = gaps.iter().fold(Decimal::ZERO, |sum, gap| sum.saturating_add(gap.quantity));
        let (mut checked, mut equal, mut different) = (0u64, 0u64, Vec::new());
        for ((feed, symbol), day) in &received.symbols {
            // Where the feed tells no totals with its trades, its rule of completeness has compared them.
            let Some((volume, value)) = day.exchange else { continue };
            if with_gaps.contains(&(feed.as_str(), symbol.clone())) {
                continue;
            }
            checked += 1;
            if day.unpriced == 0 && day.sums.volume == volume.into() && day.sums.value == value.into() {
                equal += 1;
            } else {
                different.push(json!({
                    "feed": feed, "symbol": symbol, "volume": day.sums.volume.to_string(), "exchange_volume": volume,
                    "value": day.sums.value.to_string(), "exchange_value": value, "unpriced": day.unpriced,
                }));
            }
        }
        ok &= different.is_empty();
        line(format!("dead letters: {dead_total}{}", by_cause.iter().map(|(c, n)| format!(" · {c} {n}")).collect::<String>()));
        line(format!("gaps: {} with {gap_shares} shares of {} symbols", gaps.len(), with_gaps.len()));
        for gap in gaps.iter().take(20) {
            line(format!(
                "  {} from {} to {}: {} shares",
                gap.symbol,
                gap.from.as_deref().unwrap_or("the open"),
                gap.to,
                gap.quantity
            ));
        }
        line(format!("session averages: {equal} of {checked} symbols without gaps equal the exchange's own"));
        if received.undecodable > 0 {
            line(format!("spool records that the codec refuses: {}", received.undecodable));
        }
        line(if ok {
            "every trade received is in every store, once".to_owned()
        } else {
            "the day does NOT reconcile".to_owned()
        });
        json!({
            "session_date": date,
            "ok": ok,
            "hops": hops,
            "dead_letters": { "total": dead_total, "by_cause": by_cause },
            "gaps": gaps,
            "gap_shares": quantity::value(&gap_shares),
            "vwap": { "checked": checked, "equal": equal, "different": different },
            "undecodable": received.undecodable,
        })
    }
}

fn sentence(hop: Hop, account: &Account) -> String {
    let mut text =
        format!("{:<8} {:>9} trades, {} repeated, {} missing", hop.as_str(), account.unique, account.duplicates, account.missing);
    if account.extra > 0 {
        text.push_str(&format!(", {} of another collector", account.extra));
    }
    for (symbol, ids) in account.missing_ids.iter().take(10) {
        text.push_str(&format!(
            "\n  {symbol} misses {}: {}",
            ids.len(),
            ids.iter().take(5).cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    text
}

fn lock(received: &Mutex<Received>) -> std::sync::MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Asks a store up to six times: the proof of a whole day should not fail on a few lost answers.
async fn retry<T, F: Future<Output = Result<T>>>(day: &Day, call: impl Fn() -> F) -> Result<T> {
    ask_again(&PAUSES, |error| day.context.reporter.line(&format!("asks again: {error}")), |_| call()).await
}

#[cfg(test)]
mod tests;
