//! The proof of a demo day: the exchange's own ledger against what every hop holds, read back from the stores
//! themselves by other code than the day's `reconcile` step.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use super::Arguments;
use super::play::DemoDay;
use super::report::{Alert, DeadLetters, Found, Report, Step};
use crate::exit::Failure;
use crate::serve::RunningDaemon;
use backends::log::Partition;
use backends::spool::{self, Kind, MalformedBody};
use domain::gaps::Gap;
use domain::hop::{self, Hop, Kind as HopKind};
use domain::program::Store;
use domain::run::Run;
use domain::trade::{EventId, rfc3339};
use feed::{Feed, Received};
use simulate::{Running, Traded};

const PAGE: usize = 5000;

/// Reads every hop back and compares.
///
/// # Errors
/// When a hop cannot be read at all.
pub(super) async fn prove(
    arguments: &Arguments,
    daemon: &RunningDaemon,
    demo: &DemoDay<'_>,
) -> Result<Report, Failure> {
    let (snapshot, date) = (daemon.handle.snapshot(), arguments.date);
    let run = snapshot
        .runs
        .iter()
        .map(|v| &v.run)
        .find(|r| r.dag.name == demo.dag.name && r.session_date == date)
        .ok_or_else(|| Failure::fault("the day's run is not there any more"))?;
    let zone =
        demo.dag.schedule.as_ref().and_then(|s| TimeZone::get(&s.timezone).ok()).unwrap_or(TimeZone::UTC);
    let at = |t: Timestamp| rfc3339(t, &zone);

    let way = hop::of_run(run, steps::programs());
    let folder = demo.data.join("spool").join(demo.dag.name.as_str());
    let mut spools = BTreeMap::new();
    for hop in way.iter().filter(|hop| hop.is_spool()) {
        spools.insert(&hop.name, read_spool(&folder.join(hop.step.as_str()), demo.feed, date)?);
    }
    // Where an exchange never closes, its ledger and the spool have some of the days around.
    let ledger: Vec<Traded> =
        demo.simulator.traded().into_iter().filter(|t| t.session_date == date).collect();
    let index: HashMap<&str, usize> = ledger.iter().enumerate().map(|(n, t)| (t.id.as_str(), n)).collect();
    let held: BTreeSet<&str> = spools.values().flat_map(Spooled::held).collect();
    let undelivered: Vec<usize> =
        (0..ledger.len()).filter(|n| !held.contains(ledger[*n].id.as_str())).collect();
    let mut by_symbol: BTreeMap<String, Decimal> = BTreeMap::new();
    for n in &undelivered {
        *by_symbol.entry(ledger[*n].symbol.to_string()).or_default() += ledger[*n].quantity;
    }
    let strangers = held.iter().filter(|id| !index.contains_key(**id)).count();

    let lost =
        |own: &Spooled| lost_inside_sessions(own, &index, &undelivered, |n| ledger[n].symbol.to_string());
    let hops = found(daemon, &way, &spools, date, lost).await?;
    let actual = dead_letters(daemon, &way).await.map_err(Failure::unusable)?;
    let spooled = Spooled::joined(spools.into_values());
    let (expected, mangled_held) = expected_dead_letters(demo.simulator, &spooled);
    let mut report = Report {
        session_date: date,
        speed: arguments.speed,
        seed: arguments.seed,
        exchange_records: ledger.len() as u64,
        undelivered: undelivered.len() as u64,
        undelivered_shares: by_symbol.values().sum(),
        hops,
        dead_letters: DeadLetters { expected, actual },
        alerts: alerts(&snapshot, run, &at),
        steps: demo.dag.steps().iter().map(|step| step_line(run, step, &at)).collect(),
        gaps: spooled.gaps.clone(),
        faults: Vec::new(),
        ok: false,
    };
    report.judge(&by_symbol, run.state.as_str());
    if strangers > 0 {
        report.faults.push(format!("spool: {strangers} records that the exchange never traded"));
    }
    if mangled_held as u64 != actual {
        report.faults.push(format!(
            "dead letters: the spool holds {mangled_held} malformed frames, the topic {actual}"
        ));
    }
    report.ok = report.faults.is_empty();
    Ok(report)
}

/// What every hop holds that a spool feeds. `lost` says what a spool lacks that it should have.
async fn found(
    daemon: &RunningDaemon,
    way: &[Hop],
    spools: &BTreeMap<&String, Spooled>,
    date: Date,
    lost: impl Fn(&Spooled) -> u64,
) -> Result<BTreeMap<String, Found>, Failure> {
    let feeds: BTreeSet<&String> = way.iter().filter_map(|hop| hop.feed.as_ref()).collect();
    let prefixes: Vec<String> = feeds.into_iter().map(|feed| EventId::date_prefix(feed, date)).collect();
    let mut hops = BTreeMap::new();
    for hop in way {
        let of: Vec<&Spooled> =
            way.iter().filter(|s| hop.is_fed_by(s)).filter_map(|s| spools.get(&s.name)).collect();
        let counts = match spools.get(&hop.name) {
            Some(own) => {
                Found { missing: lost(own), ..count(own.held().map(str::to_owned), &BTreeSet::new()) }
            }
            None if of.is_empty() => continue,
            None => {
                let day = ids(daemon, hop, &prefixes).await?.into_iter().filter(|id| is_of(id, date));
                count(day, &of.into_iter().flat_map(Spooled::held).collect())
            }
        };
        hops.insert(hop.name.clone(), counts);
    }
    Ok(hops)
}

/// Dead letters of all topics that are collected.
async fn dead_letters(daemon: &RunningDaemon, way: &[Hop]) -> Result<u64, backends::BackendError> {
    let topics: BTreeSet<&String> =
        way.iter().filter(|hop| hop.kind == HopKind::Log).map(|hop| &hop.topic).collect();
    let mut held = 0;
    for topic in topics {
        held += read_topic(daemon, &format!("{topic}.dlq")).await?.len() as u64;
    }
    Ok(held)
}

/// Whether an event id is of this date.
fn is_of(id: &str, date: Date) -> bool {
    id.split(':').nth(1).is_some_and(|word| word == date.to_string())
}

/// What the spool holds, in order.
#[derive(Default)]
struct Spooled {
    /// Session number and event id of every record.
    ids: Vec<(u32, String)>,
    /// What the feed's own rule says is missing.
    gaps: Vec<Gap>,
    /// Session and frame bytes of every malformed frame.
    malformed: Vec<(u32, Vec<u8>)>,
    /// First and last receipt in each session.
    spans: BTreeMap<u32, (Timestamp, Timestamp)>,
}

impl Spooled {
    /// The ids of what was received.
    fn held(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(|(_, id)| id.as_str())
    }

    /// Several spools as one; the sessions of each stay their own.
    fn joined(spools: impl Iterator<Item = Self>) -> Self {
        spools.fold(Self::default(), |mut all, spool| {
            let shift = all.spans.keys().next_back().map_or(0, |last| last + 1);
            all.ids.extend(spool.ids.into_iter().map(|(session, id)| (session + shift, id)));
            all.gaps.extend(spool.gaps);
            all.malformed
                .extend(spool.malformed.into_iter().map(|(session, frame)| (session + shift, frame)));
            all.spans.extend(spool.spans.into_iter().map(|(session, span)| (session + shift, span)));
            all
        })
    }
}

/// Reads the trades of a date, and every malformed message.
fn read_spool(folder: &Path, feed: &dyn Feed, date: Date) -> Result<Spooled, Failure> {
    let mut reader = spool::Reader::open(folder, 1).map_err(Failure::unusable)?;
    let mut all = Spooled::default();
    let mut rule = feed.completeness();
    let mut session = 0;
    loop {
        let batch = reader.next(PAGE).map_err(Failure::unusable)?;
        if batch.is_empty() {
            all.gaps = rule.gaps();
            return Ok(all);
        }
        for entry in batch {
            if matches!(entry.kind, Kind::SessionUp | Kind::SessionDown) {
                session += 1;
            } else if let Some(read) = steps::spooled::trade(&entry) {
                let trade = read.map_err(|e| Failure::fault(format!("spool entry {}: {e}", entry.seq)))?;
                if trade.session_date != date {
                    continue;
                }
                rule.see(Received::Trade(&trade));
                all.ids.push((session, trade.id.to_string()));
            } else if let Some(total) =
                steps::spooled::total(&entry).filter(|total| total.session_date == date)
            {
                rule.see(Received::Total(&total));
                continue;
            } else if entry.kind == Kind::Malformed {
                all.malformed.push((session, MalformedBody::parse(&entry.body).bytes.to_vec()));
            } else {
                continue;
            }
            let span = all.spans.entry(session).or_insert((entry.received_at, entry.received_at));
            span.1 = span.1.max(entry.received_at);
        }
    }
}

fn count(ids: impl Iterator<Item = String>, wanted: &BTreeSet<&str>) -> Found {
    let mut total = 0;
    let unique: BTreeSet<String> = ids.inspect(|_| total += 1).collect();
    let missing = wanted.iter().filter(|id| !unique.contains(**id)).count() as u64;
    Found { unique: unique.len() as u64, duplicates: total - unique.len() as u64, missing }
}

/// Trades lost although a session was up. The exchange sends in ledger order and TCP keeps it, so within one
/// session nothing of a symbol may be missing between its first record and the session's last.
fn lost_inside_sessions(
    spooled: &Spooled,
    demo: &HashMap<&str, usize>,
    undelivered: &[usize],
    symbol: impl Fn(usize) -> String,
) -> u64 {
    let mut last: BTreeMap<u32, usize> = BTreeMap::new();
    let mut first: HashMap<(u32, String), usize> = HashMap::new();
    for (session, id) in &spooled.ids {
        let Some(n) = demo.get(id.as_str()).copied() else { continue };
        let end = last.entry(*session).or_insert(n);
        *end = (*end).max(n);
        let start = first.entry((*session, symbol(n))).or_insert(n);
        *start = (*start).min(n);
    }
    let inside = |n: &&usize| {
        let name = symbol(**n);
        last.iter().any(|(session, end)| {
            **n < *end && first.get(&(*session, name.clone())).is_some_and(|start| *start < **n)
        })
    };
    undelivered.iter().filter(inside).count() as u64
}

/// Malformed frames that were sent into a session: those that fell inside one, and any other that arrived.
fn expected_dead_letters(simulator: &dyn Running, spooled: &Spooled) -> (u64, usize) {
    let arrived: BTreeSet<&[u8]> = spooled.malformed.iter().map(|(_, frame)| frame.as_slice()).collect();
    let frames = simulator.malformed_frames();
    let expected = frames
        .iter()
        .filter(|(at, bytes)| {
            arrived.contains(bytes.as_slice())
                || spooled.spans.values().any(|(from, to)| from < at && at < to)
        })
        .count();
    (expected as u64, spooled.malformed.len())
}

/// The ids in a hop; `prefixes` are those of the day's.
async fn ids(daemon: &RunningDaemon, hop: &Hop, prefixes: &[String]) -> Result<Vec<String>, Failure> {
    let stores = &daemon.backends;
    match hop.kind {
        HopKind::Spool => Ok(Vec::new()),
        HopKind::Log => {
            let records = read_topic(daemon, &hop.topic).await.map_err(Failure::unusable)?;
            let id = |record: &backends::log::Record| {
                let header = record.header("openbell.id").map(|id| String::from_utf8_lossy(id).into_owned());
                header.unwrap_or_else(|| "record without an id".to_owned())
            };
            Ok(records.iter().map(id).collect())
        }
        HopKind::Store(Store::Raw) => {
            let mut documents = Vec::new();
            for prefix in prefixes {
                let ids = pages(|after| {
                    let (raw, prefix, collection) = (stores.raw.clone(), prefix.clone(), hop.place.clone());
                    async move { raw.ids(&collection, &prefix, after.as_deref(), PAGE).await }
                });
                documents.extend(ids.await.map_err(Failure::unusable)?);
            }
            Ok(documents)
        }
        HopKind::Store(Store::Index) => {
            let mut indexed = Vec::new();
            let start = format!("{}-", hop.place);
            for index in stores.index.indices(&start).await.map_err(Failure::unusable)? {
                // Another sink's name may begin as this one's does.
                if !index[start.len()..].chars().all(|c| c.is_ascii_digit() || c == '.') {
                    continue;
                }
                let ids = pages(|after| {
                    let (store, index) = (stores.index.clone(), index.clone());
                    async move { store.ids(&index, "", after.as_deref(), PAGE).await }
                });
                indexed.extend(ids.await.map_err(Failure::unusable)?);
            }
            Ok(indexed)
        }
        HopKind::Store(Store::Objects) => object_ids(daemon, &format!("{}/year=", hop.place)).await,
    }
}

async fn read_topic(
    daemon: &RunningDaemon,
    name: &str,
) -> Result<Vec<backends::log::Record>, backends::BackendError> {
    let log = &daemon.backends.log;
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

async fn object_ids(daemon: &RunningDaemon, prefix: &str) -> Result<Vec<String>, Failure> {
    let objects = &daemon.backends.objects;
    let keys = pages(|after| {
        let (objects, prefix) = (objects.clone(), prefix.to_owned());
        async move { objects.list(&prefix, after.as_deref(), PAGE).await }
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
