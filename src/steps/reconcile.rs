//! `reconcile`: proves, after the day, that every trade that was received is in every store, once.
//!
//! The sinks have drained before teardown, so one pass over each hop is the truth. The spool is what was
//! received; the exchange's own accumulated volumes say what was not (gaps); Σ price·quantity against the
//! exchange's totals says whether prices are right.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::hops::{self, Watched};
use super::sink::contents::{Again, Scope, contents};
use super::{Context, StepError, dead_letters, envelope, log_search, spool_tail, spooled};
use backends::log::{Partition, Record};
use backends::spool::Entry;
use backends::{BackendError, ErrorKind, Result};
use domain::dag::StepKind;
use domain::finding::Finding;
use domain::gaps::Gap;
use domain::hop::{self, Hop, Kind as HopKind};
use domain::id_counts::{Account, IdCounts};
use domain::parameters::Parameters;
use domain::program::{Parameter, Program, Role, Shape};
use domain::trade::{Trade, quantity};
use domain::vwap::Sums;
use feed::{Completeness, Received as Came};

/// Its row in the table of programs.
pub const PROGRAM: Program = Program {
    name: "reconcile",
    kinds: &[StepKind::Teardown, StepKind::Task],
    role: Role::Reconcile,
    about: "compares every store with the spool, id by id, and reports gaps",
    parameters: &[
        hops::COLLECTOR,
        hops::TOPIC,
        hops::COLLECTION,
        hops::INDEX,
        hops::PREFIX,
        hops::TIMEZONE,
        Parameter::new("listed", Shape::Count(0), "most missing ids listed for a store")
            .or("100")
            .counting("ids"),
    ],
    secrets: &[],
    replicas: false,
};

/// Compares the hops of the session date.
///
/// # Errors
/// A wrong parameter, a store that fails, or a day that does not reconcile (with everything that was found):
/// somebody must look, so the run fails and says so.
pub async fn run(context: Context) -> std::result::Result<Value, StepError> {
    let p = Parameters::of(&PROGRAM, &context.spec.step.with);
    let mut watched = Watched::of(&context, &p)?;
    // What no collecting step of the run feeds has nothing to be compared with.
    let all = watched.hops.clone();
    watched.hops.retain(|hop| !hop::spools_of(&all, hop).is_empty());
    if watched.hops.is_empty() {
        let why = "no step of this run collects data, so nothing says what should be in the stores; remove this step, or add one that collects";
        return Err(StepError::Failed(why.to_owned()));
    }
    let day = Day { watched, listed: p.size("listed")?, zone: super::zone(&context.spec), context };
    let (result, because) = day.reconcile().await?;
    if because.is_empty() {
        return Ok(result);
    }
    let date = day.context.spec.session_date;
    Err(StepError::Unmet { what: Box::new(Finding::NotReconciled { date, because }), result })
}

struct Day {
    context: Context,
    watched: Watched,
    zone: TimeZone,
    listed: usize,
}

/// What the spools say about a day, and what the other hops hold of it.
struct Received {
    ledger: IdCounts,
    /// Position of the spool that is read.
    spool: usize,
    /// Positions of the spools that were read before.
    read: Vec<usize>,
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
    fn new(hops: usize) -> Self {
        Self {
            ledger: IdCounts::new(hops),
            spool: 0,
            read: Vec::new(),
            feeds: BTreeSet::new(),
            gaps: BTreeMap::new(),
            symbols: BTreeMap::new(),
            undecodable: 0,
        }
    }

    /// Notes a trade of the spool that is read; returns whether no spool had it before.
    fn is_new(&mut self, id: &str) -> bool {
        self.ledger.see(self.spool, id) && !self.read.iter().any(|spool| self.ledger.has(*spool, id))
    }

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
        if !self.is_new(trade.id.as_str()) {
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
    /// The result, and what is wrong with the day.
    async fn reconcile(&self) -> std::result::Result<(Value, Vec<Finding>), StepError> {
        let mut received = self.received().await?;
        self.logs(&mut received).await?;
        let (total, by_cause) = self.dead_letters(&mut received).await?;
        self.stores(&mut received).await?;
        Ok(self.report(&received, total, &by_cause))
    }

    /// The hops, by their positions.
    fn hops(&self) -> impl Iterator<Item = (usize, &Hop)> {
        self.watched.hops.iter().enumerate()
    }

    async fn received(&self) -> Result<Received> {
        let folders = self.watched.spools(&self.context);
        let folder =
            |hop: &Hop| folders.iter().find(|(spool, _)| spool.step == hop.step).map(|(_, dir)| dir.clone());
        let spools: Vec<_> = self
            .hops()
            .filter(|(_, h)| h.is_spool())
            .filter_map(|(at, hop)| Some((at, folder(hop)?)))
            .collect();
        let (date, hops) = (self.context.spec.session_date, self.watched.hops.len());
        let read = tokio::task::spawn_blocking(move || {
            let mut received = Received::new(hops);
            for (at, dir) in spools {
                received.spool = at;
                if backends::spool::id(&dir)?.is_some() {
                    spool_tail::for_each(&dir, 1, |entry| {
                        received.entry(&entry, date);
                        true
                    })?;
                }
                received.read.push(at);
            }
            Ok(received)
        });
        read.await.map_err(|e| BackendError::new(ErrorKind::Unavailable, "spool", e.to_string()))?
    }

    fn midnight(&self) -> Timestamp {
        self.context.spec.session_date.to_zoned(self.zone.clone()).map_or(Timestamp::MIN, |z| z.timestamp())
    }

    /// Reads each topic once. A record counts for the collecting step whose spool it came from; one that does
    /// not say, for each.
    async fn logs(&self, received: &mut Received) -> Result<()> {
        let spools = self.watched.spools(&self.context);
        let mut ids = BTreeMap::new();
        for (hop, dir) in &spools {
            ids.insert(&hop.step, backends::spool::id(dir)?);
        }
        let mut topics: BTreeMap<&str, Vec<(usize, Option<&str>)>> = BTreeMap::new();
        for (at, hop) in self.hops().filter(|(_, hop)| hop.kind == HopKind::Log) {
            topics.entry(&hop.topic).or_default().push((at, ids.get(&hop.step).and_then(Option::as_deref)));
        }
        for (topic, hops) in topics {
            self.log(topic, &hops, received).await?;
        }
        Ok(())
    }

    /// Reads a topic for some hops, each with the id of its spool.
    async fn log(&self, name: &str, hops: &[(usize, Option<&str>)], received: &mut Received) -> Result<()> {
        let log = self.context.backends.log.as_ref();
        let Some(topic) = Again(&self.context).ask(|| log.topic(name)).await? else { return Ok(()) };
        let part = format!(":{}:", self.context.spec.session_date);
        for (number, range) in topic.partitions.iter().enumerate() {
            let partition = Partition { topic: name.to_owned(), number: number as u32 };
            let start =
                log_search::first_after(log, &partition, range.start..range.end, self.midnight()).await?;
            log_search::for_each(log, &partition, start..range.end, |record| {
                let Some(id) = envelope::event_id(&record).filter(|id| id.contains(&part)) else { return };
                // A replayed dead letter stands on the log a second time on purpose; the sinks fold it.
                let again = record.record.header(dead_letters::REPLAY).is_some();
                let from = record.record.header(envelope::SPOOL).and_then(|h| std::str::from_utf8(h).ok());
                let from = from.and_then(|from| Some(from.rsplit_once(':')?.0));
                let known = hops.iter().any(|(_, spool)| spool.is_some() && *spool == from);
                for (at, spool) in hops {
                    if (!known || *spool == from) && !(again && received.ledger.has(*at, &id)) {
                        received.ledger.see(*at, &id);
                    }
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Counts the day's dead letters by cause, each once, and marks the ids they keep.
    async fn dead_letters(&self, received: &mut Received) -> Result<(u64, BTreeMap<String, u64>)> {
        let log = self.context.backends.log.as_ref();
        let (mut total, mut by_cause) = (0, BTreeMap::new());
        let topics: BTreeSet<String> =
            self.watched.hops.iter().map(|hop| dead_letters::topic_of(&hop.topic)).collect();
        let date = self.context.spec.session_date;
        for name in topics {
            let Some(topic) = Again(&self.context).ask(|| log.topic(&name)).await? else { continue };
            let mut known = BTreeSet::new();
            for (number, range) in topic.partitions.iter().enumerate() {
                let partition = Partition { topic: name.clone(), number: number as u32 };
                log_search::for_each(log, &partition, range.start..range.end, |letter| {
                    let its_day = letter.record.timestamp.to_zoned(self.zone.clone()).date() == date;
                    if !its_day || !known.insert(dead_letters::identity(&letter)) {
                        return;
                    }
                    total += 1;
                    *by_cause.entry(dead_letters::cause(&letter.record).to_owned()).or_insert(0) += 1;
                    if let (Some(hop), Some(id)) = (self.refuser(&letter.record), envelope::event_id(&letter))
                    {
                        received.ledger.mark_refused(hop, &id);
                    }
                })
                .await?;
            }
        }
        Ok((total, by_cause))
    }

    /// Position of the hop that refused a record: its step's, as the dead letter says; for a step that has
    /// another name by now, that of the only hop with its program.
    fn refuser(&self, letter: &Record) -> Option<usize> {
        let (dag, step) = dead_letters::error_header(letter, "connector.name")?.split_once('/')?;
        if dag != self.context.spec.id.run.dag() {
            return None;
        }
        let sinks = || self.hops().filter(|(_, hop)| hop.group.is_some());
        if let Some((at, _)) = sinks().find(|(_, hop)| hop.step.as_str() == step) {
            return Some(at);
        }
        let program = dead_letters::error_header(letter, "class.name")?;
        let mut same = sinks().filter(|(_, hop)| hop.program == program);
        same.next().filter(|_| same.next().is_none()).map(|(at, _)| at)
    }

    /// Reads each place in a store once, for all hops that are there.
    async fn stores(&self, received: &mut Received) -> std::result::Result<(), StepError> {
        let declared = self.watched.hops.iter().filter_map(|hop| hop.feed.clone());
        let feeds: BTreeSet<String> = declared.chain(received.feeds.iter().cloned()).collect();
        let (date, now) = (self.context.spec.session_date, self.context.clock.now());
        let scope = Scope { date, feeds: feeds.into_iter().collect(), now };
        let mut places: BTreeMap<(HopKind, &str, Option<&str>), Vec<usize>> = BTreeMap::new();
        for (at, hop) in self.hops() {
            places.entry((hop.kind, &hop.place, hop.timezone.as_deref())).or_default().push(at);
        }
        for hops in places.into_values() {
            let Some(contents) = contents(&self.context, &self.watched.hops[hops[0]])? else { continue };
            let mut visit = |id: &str| {
                for at in &hops {
                    received.ledger.see(*at, id);
                }
            };
            contents.ids(&scope, &Again(&self.context), &mut visit).await?;
        }
        Ok(())
    }

    /// What each hop holds against the spools that feed it, and what is wrong there.
    fn accounts(&self, received: &Received) -> (Vec<Finding>, serde_json::Map<String, Value>) {
        let (mut because, mut hops) = (Vec::new(), serde_json::Map::new());
        for (at, hop) in self.hops() {
            let account = received.ledger.account(at, &hop::spools_of(&self.watched.hops, hop), self.listed);
            // What the feed sent twice is in the spool twice, which is no fault.
            let repeated = if hop.is_spool() { 0 } else { account.duplicates };
            because.extend(Finding::of_counts(&hop.name, account.missing, repeated));
            self.context.reporter.line(&sentence(hop, &account));
            hops.insert(
                hop.name.clone(),
                json!({
                    "unique": account.unique,
                    "duplicates": account.duplicates,
                    "missing": account.missing,
                    "missing_ids": account.missing_ids,
                    "extra": account.extra,
                }),
            );
        }
        (because, hops)
    }

    fn report(
        &self,
        received: &Received,
        dead_total: u64,
        by_cause: &BTreeMap<String, u64>,
    ) -> (Value, Vec<Finding>) {
        let date = self.context.spec.session_date;
        let line = |text: String| self.context.reporter.line(&text);
        line(format!("reconciliation of {date}"));
        let (mut because, hops) = self.accounts(received);
        let mut gaps: Vec<Gap> = Vec::new();
        let mut with_gaps: BTreeSet<(&str, String)> = BTreeSet::new();
        for (feed, rule) in &received.gaps {
            let its = rule.gaps();
            with_gaps.extend(its.iter().map(|gap| (feed.as_str(), gap.symbol.clone())));
            gaps.extend(its);
        }
        let gap_shares = gaps.iter().fold(Decimal::ZERO, |sum, gap| sum.saturating_add(gap.quantity));
        let (checked, equal, different) = totals(received, &with_gaps);
        if !different.is_empty() {
            because.push(Finding::TotalsDiffer { symbols: different.len() as u64 });
        }
        line(format!(
            "dead letters: {dead_total}{}",
            by_cause.iter().map(|(c, n)| format!(" · {c} {n}")).collect::<String>()
        ));
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
        line(if because.is_empty() {
            "every trade received is in every store, once".to_owned()
        } else {
            "the day does NOT reconcile".to_owned()
        });
        let result = json!({
            "session_date": date,
            "ok": because.is_empty(),
            "findings": because,
            "hops": hops,
            "dead_letters": { "total": dead_total, "by_cause": by_cause },
            "gaps": gaps,
            "gap_shares": quantity::value(&gap_shares),
            "vwap": { "checked": checked, "equal": equal, "different": different },
            "undecodable": received.undecodable,
        });
        (result, because)
    }
}

/// Sums of symbols without gaps against those of the exchange: how many were compared, how many are equal,
/// and the others.
fn totals(received: &Received, with_gaps: &BTreeSet<(&str, String)>) -> (u64, u64, Vec<Value>) {
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
    (checked, equal, different)
}

fn sentence(hop: &Hop, account: &Account) -> String {
    let mut text = format!(
        "{:<8} {:>9} trades, {} repeated, {} missing",
        hop.name, account.unique, account.duplicates, account.missing
    );
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

#[cfg(test)]
mod tests;
