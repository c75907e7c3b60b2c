//! The proof of a demo day: the exchange's own ledger against what every hop holds, read back from the stores themselves
//! by other code than the day's `reconcile` step.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Arguments;
use super::report::{Alert, DeadLetters, Gap, Hop, Report, Step};
use crate::exit::Failure;
use crate::serve::House;
use backends::log::Partition;
use backends::spool::{self, Kind, MalformedBody};
use domain::dag::Dag;
use domain::gaps;
use domain::run::Run;
use domain::trade::{EventId, rfc3339};
use simulate::Simulator;

/// Where the shipped DAG puts things.
const TOPIC: &str = "kis.trades";
const DEAD_LETTERS: &str = "kis.trades.dlq";
const COLLECTION: &str = "kis.trades";
const INDEX_PREFIX: &str = "kis-trades-";
const OBJECT_PREFIX: &str = "kis.trades/";
const PAGE: usize = 5000;

/// Reads every hop back and compares.
///
/// # Errors
/// When a hop cannot be read at all.
pub async fn prove(
    arguments: &Arguments,
    house: &House,
    simulator: &Simulator,
    dag: &Dag,
    data: &Path,
) -> Result<Report, Failure> {
    let snapshot = house.handle.snapshot();
    let run = snapshot
        .runs
        .iter()
        .map(|v| &v.run)
        .find(|r| r.dag.name == dag.name && r.session_date == arguments.date)
        .ok_or_else(|| Failure::fault("the day's run is not there any more"))?;
    let zone = dag.schedule.as_ref().and_then(|s| TimeZone::get(&s.timezone).ok()).unwrap_or(TimeZone::UTC);
    let at = |t: Timestamp| rfc3339(t, &zone);

    let spooled = read_spool(&data.join("spool").join(dag.name.as_str()).join("collector"))?;
    let ledger = simulator.ledger();
    let place: HashMap<String, usize> = ledger.iter().enumerate().map(|(n, t)| (t.id().to_string(), n)).collect();
    let held: BTreeSet<&str> = spooled.ids.iter().map(|(_, id)| id.as_str()).collect();
    let undelivered: Vec<usize> = (0..ledger.len()).filter(|n| !held.contains(ledger[*n].id().as_str())).collect();
    let mut by_symbol: BTreeMap<String, i64> = BTreeMap::new();
    for n in &undelivered {
        *by_symbol.entry(ledger[*n].symbol.to_string()).or_default() += ledger[*n].quantity;
    }
    let strangers = held.iter().filter(|id| !place.contains_key(**id)).count();

    let mut hops = BTreeMap::new();
    let mut spool_hop = count(spooled.ids.iter().map(|(_, id)| id.clone()), &BTreeSet::new());
    spool_hop.missing = lost_inside_sessions(&spooled, &place, &undelivered, |n| ledger[n].symbol.to_string());
    hops.insert("spool".to_owned(), spool_hop);
    let prefix = EventId::date_prefix("kis", arguments.date);
    let stores = &house.backends;
    let unreadable = |e: backends::BackendError| Failure::unusable(e);
    hops.insert("log".to_owned(), count(log_ids(house).await.map_err(unreadable)?.into_iter(), &held));
    let raw = pages(|after| {
        let (raw, prefix) = (stores.raw.clone(), prefix.clone());
        async move { raw.ids(COLLECTION, &prefix, after.as_deref(), PAGE).await }
    });
    hops.insert("raw".to_owned(), count(raw.await.map_err(unreadable)?.into_iter(), &held));
    let mut indexed = Vec::new();
    for index in stores.index.indices(INDEX_PREFIX).await.map_err(unreadable)? {
        let ids = pages(|after| {
            let (store, index) = (stores.index.clone(), index.clone());
            async move { store.ids(&index, "", after.as_deref(), PAGE).await }
        });
        indexed.extend(ids.await.map_err(unreadable)?);
    }
    hops.insert("index".to_owned(), count(indexed.into_iter(), &held));
    hops.insert("objects".to_owned(), count(object_ids(house).await?.into_iter(), &held));

    let (expected, mangled_held) = expected_dead_letters(simulator, &spooled);
    let actual = dead_letters(house).await.map_err(unreadable)?;
    let mut report = Report {
        session_date: arguments.date,
        speed: arguments.speed,
        seed: arguments.seed,
        exchange_records: ledger.len() as u64,
        undelivered: undelivered.len() as u64,
        undelivered_shares: by_symbol.values().sum(),
        hops,
        dead_letters: DeadLetters { expected, actual },
        alerts: alerts(&snapshot, run, &at),
        steps: dag.steps().iter().map(|step| step_line(run, step, &at)).collect(),
        gaps: gap_ledger(&spooled),
        faults: Vec::new(),
        ok: false,
    };
    report.judge(&by_symbol, run.state.as_str());
    if strangers > 0 {
        report.faults.push(format!("spool: {strangers} records that the exchange never traded"));
    }
    if mangled_held as u64 != actual {
        report.faults.push(format!("dead letters: the spool holds {mangled_held} malformed frames, the topic {actual}"));
    }
    report.ok = report.faults.is_empty();
    Ok(report)
}

/// What the spool holds, in order.
#[derive(Default)]
struct Spooled {
    /// Session number and event id of every record.
    ids: Vec<(u32, String)>,
    /// For the gap ledger: symbol, trade time, quantity, accumulated volume.
    fills: Vec<(String, String, i64, i64)>,
    /// Session and frame bytes of every malformed frame.
    malformed: Vec<(u32, Vec<u8>)>,
    /// First and last receipt in each session.
    spans: BTreeMap<u32, (Timestamp, Timestamp)>,
}

fn read_spool(folder: &Path) -> Result<Spooled, Failure> {
    let mut reader = spool::Reader::open(folder, 1).map_err(Failure::unusable)?;
    let mut all = Spooled::default();
    let mut session = 0;
    loop {
        let batch = reader.next(PAGE).map_err(Failure::unusable)?;
        if batch.is_empty() {
            return Ok(all);
        }
        for entry in batch {
            match entry.kind {
                Kind::SessionUp | Kind::SessionDown => {
                    session += 1;
                    continue;
                }
                Kind::Trade | Kind::Record => {
                    let Some(read) = steps::spooled::trade(&entry) else { continue };
                    let trade = read.map_err(|e| Failure::fault(format!("spool entry {}: {e}", entry.seq)))?;
                    all.ids.push((session, trade.id.to_string()));
                    all.fills.push((
                        trade.symbol,
                        trade.trade_time,
                        i64::try_from(trade.quantity.trunc().mantissa()).unwrap_or_default(),
                        trade.accumulated_volume.unwrap_or(-1),
                    ));
                }
                Kind::Malformed => all.malformed.push((session, MalformedBody::parse(&entry.body).bytes.to_vec())),
                Kind::Total => continue,
            }
            let span = all.spans.entry(session).or_insert((entry.received_at, entry.received_at));
            span.1 = entry.received_at;
        }
    }
}

fn count(ids: impl Iterator<Item = String>, wanted: &BTreeSet<&str>) -> Hop {
    let mut total = 0;
    let unique: BTreeSet<String> = ids.inspect(|_| total += 1).collect();
    let missing = wanted.iter().filter(|id| !unique.contains(**id)).count() as u64;
    Hop { unique: unique.len() as u64, duplicates: total - unique.len() as u64, missing }
}

/// Trades lost although a session was up. The exchange sends in ledger order and TCP keeps it, so within one session nothing
/// of a symbol may be missing between its first record and the session's last.
fn lost_inside_sessions(
    spooled: &Spooled,
    place: &HashMap<String, usize>,
    undelivered: &[usize],
    symbol: impl Fn(usize) -> String,
) -> u64 {
    let mut last: BTreeMap<u32, usize> = BTreeMap::new();
    let mut first: HashMap<(u32, String), usize> = HashMap::new();
    for (session, id) in &spooled.ids {
        let Some(n) = place.get(id).copied() else { continue };
        let end = last.entry(*session).or_insert(n);
        *end = (*end).max(n);
        let start = first.entry((*session, symbol(n))).or_insert(n);
        *start = (*start).min(n);
    }
    let inside = |n: &&usize| {
        let name = symbol(**n);
        last.iter().any(|(session, end)| **n < *end && first.get(&(*session, name.clone())).is_some_and(|start| *start < **n))
    };
    undelivered.iter().filter(inside).count() as u64
}

/// Malformed frames that were sent into a session: those that fell inside one, and any other that arrived.
fn expected_dead_letters(simulator: &Simulator, spooled: &Spooled) -> (u64, usize) {
    let arrived: BTreeSet<&[u8]> = spooled.malformed.iter().map(|(_, frame)| frame.as_slice()).collect();
    let frames = simulator.script().malformed_frames();
    let expected = frames
        .iter()
        .filter(|(at, bytes)| arrived.contains(bytes.as_slice()) || spooled.spans.values().any(|(from, to)| from < at && at < to))
        .count();
    (expected as u64, spooled.malformed.len())
}

fn gap_ledger(spooled: &Spooled) -> Vec<Gap> {
    let mut ledger = gaps::Ledger::new();
    for (symbol, traded_at, quantity, accumulated) in &spooled.fills {
        ledger.see(gaps::Fill { symbol, traded_at, quantity: *quantity, accumulated: *accumulated });
    }
    let shares = |gap: &gaps::Gap| i64::try_from(gap.quantity.trunc().mantissa()).unwrap_or(i64::MAX);
    ledger.gaps().into_iter().map(|g| Gap { shares: shares(&g), symbol: g.symbol, from: g.from, to: g.to }).collect()
}

async fn log_ids(house: &House) -> Result<Vec<String>, backends::BackendError> {
    let mut ids = Vec::new();
    for record in read_topic(house, TOPIC).await? {
        ids.push(
            record
                .header("openbell.id")
                .map_or_else(|| "record without an id".to_owned(), |id| String::from_utf8_lossy(id).into_owned()),
        );
    }
    Ok(ids)
}

async fn dead_letters(house: &House) -> Result<u64, backends::BackendError> {
    Ok(read_topic(house, DEAD_LETTERS).await?.len() as u64)
}

async fn read_topic(house: &House, name: &str) -> Result<Vec<backends::log::Record>, backends::BackendError> {
    let log = &house.backends.log;
    let mut records = Vec::new();
    let Some(topic) = log.topic(name).await? else { return Ok(records) };
    for (number, range) in (0u32..).zip(topic.partitions) {
        let partition = Partition { topic: name.to_owned(), number };
        let mut offset = range.start;
        while offset < range.end {
            let batch = log.read(&partition, offset, PAGE).await?;
            let Some(last) = batch.last() else { break };
            offset = last.offset + 1;
            records.extend(batch.into_iter().map(|stored| stored.record));
        }
    }
    Ok(records)
}

async fn object_ids(house: &House) -> Result<Vec<String>, Failure> {
    let objects = &house.backends.objects;
    let keys = pages(|after| {
        let objects = objects.clone();
        async move { objects.list(OBJECT_PREFIX, after.as_deref(), PAGE).await }
    });
    let mut ids = Vec::new();
    for key in keys.await.map_err(Failure::unusable)? {
        let body = objects.get(&key).await.map_err(Failure::unusable)?.unwrap_or_default();
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(body.as_slice())
            .read_to_string(&mut text)
            .map_err(|e| Failure::fault(format!("object {key}: {e}")))?;
        for line in text.lines() {
            let value: serde_json::Value =
                serde_json::from_str(line).map_err(|e| Failure::fault(format!("object {key}: {e}")))?;
            ids.push(value["id"].as_str().unwrap_or("line without an id").to_owned());
        }
    }
    Ok(ids)
}

/// Reads a listing page by page.
async fn pages<F, R>(mut page: F) -> Result<Vec<String>, backends::BackendError>
where
    F: FnMut(Option<String>) -> R,
    R: Future<Output = Result<Vec<String>, backends::BackendError>>,
{
    let mut all: Vec<String> = Vec::new();
    loop {
        let more = page(all.last().cloned()).await?;
        if more.is_empty() {
            return Ok(all);
        }
        all.extend(more);
    }
}

fn alerts(snapshot: &daemon::Snapshot, run: &Run, at: &impl Fn(Timestamp) -> String) -> Vec<Alert> {
    let mailed = snapshot.alerts.iter().rev().filter(|a| a.run == run.id && a.mail != "not asked for");
    mailed.map(|a| Alert { rule: a.rule.clone(), state: a.kind.as_str().to_owned(), at: at(a.at) }).collect()
}

fn step_line(run: &Run, step: &domain::dag::Step, at: &impl Fn(Timestamp) -> String) -> Step {
    let now = run.steps.get(&step.name);
    Step {
        name: step.name.to_string(),
        kind: step.kind.as_str().to_owned(),
        attempts: now.map_or(0, |s| s.attempt),
        started_at: now.and_then(|s| s.started_at).map(at),
        ready_at: now.and_then(|s| s.ready_at).map(at),
        stopped_at: now.and_then(|s| s.stopped_at).map(at),
        outcome: now.map_or("pending", |s| s.state.as_str()).to_owned(),
    }
}
