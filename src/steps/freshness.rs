//! `freshness`: one look at every hop. The finding is the result; the step itself succeeds also when a hop is
//! stalled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::{join, join_all};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::hops::{self, Watched};
use super::retry::retry;
use super::sink::contents::{Contents, Scope, contents};
use super::spool_tail::Tail;
use super::{Context, StepError, log_search};
use backends::log::{Committed, Partition, Topic};
use backends::{BackendError, ErrorKind};
use domain::calendar::TradingSession;
use domain::dag::StepKind;
use domain::finding::Finding;
use domain::freshness::{Activity, Limits, Observation, Verdict, culprit, found, judge, silent};
use domain::hop::{Hop, Kind};
use domain::parameters::Parameters;
use domain::program::{Parameter, Program, Role, Shape};
use domain::trade::rfc3339;
use feed::Feed;

/// A store has this long to answer (real time), and when it is asked again. One lost answer must wake nobody.
const ANSWER_WITHIN: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(3), Duration::from_secs(3)];
/// Waits before it is asked again.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// All questions of one look together take at most this long (real time): the stores are asked side by side,
/// and the log once more for each partition that lags.
const LOOK_WITHIN: Duration = Duration::from_secs(45);
/// Silent symbols listed.
const LISTED: usize = 50;

/// Its row in the table of programs.
pub const PROGRAM: Program = Program {
    name: "freshness",
    kinds: &[StepKind::Check, StepKind::Task],
    role: Role::Check,
    about: "checks that data still arrives at every hop",
    parameters: &[
        Parameter::new("stale_after", Shape::Duration, "age at which a hop is stalled").or("5m"),
        Parameter::new(
            "grace",
            Shape::Duration,
            "how long after the open, or a start of what fills a hop, nothing counts as stalled",
        )
        .or("1m"),
        hops::COLLECTOR,
        hops::TOPIC,
        hops::COLLECTION,
        hops::INDEX,
        hops::PREFIX,
        hops::TIMEZONE,
    ],
    secrets: &[],
    replicas: false,
};

/// Looks once.
///
/// # Errors
/// A wrong parameter. A stalled hop or an unreachable store is a finding, not an error.
pub async fn run(context: Context) -> Result<Value, StepError> {
    let p = Parameters::of(&PROGRAM, &context.spec.step.with);
    let watched = Watched::of(&context, &p)?;
    let stores = watched.hops.iter().map(|hop| contents(&context, hop)).collect::<Result<_, _>>()?;
    let look = Look {
        limits: Limits {
            stale_after: signed(p.duration("stale_after")?),
            grace: signed(p.duration("grace")?),
        },
        watched: &watched,
        stores,
        zone: super::zone(&context.spec),
        until: Instant::now() + LOOK_WITHIN,
        time_out: time_out(context.spec.step.timeout, context.clock.now()),
        context: &context,
    };
    Ok(look.run().await)
}

/// When questions are given up on the clock of the day, as the check's own timeout runs on it: at half of
/// that.
fn time_out(timeout: Option<Duration>, now: Timestamp) -> Timestamp {
    timeout.and_then(|timeout| now.checked_add(timeout / 2).ok()).unwrap_or(Timestamp::MAX)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// The closing auction of the market that a hop's feed brings trades of.
fn auction(hop: &Hop) -> SignedDuration {
    hop.feed.as_deref().and_then(feed::find).map_or(SignedDuration::ZERO, Feed::auction)
}

fn no_answer(number: usize, began: Instant) -> BackendError {
    let message = format!("no answer within {:.1} s", began.elapsed().as_secs_f64());
    BackendError::new(ErrorKind::Unavailable, format!("try {} of 3", number + 1), message)
}

struct Look<'a> {
    context: &'a Context,
    /// No question is waited for any longer than this, of real time, as a server's troubles are.
    until: Instant,
    /// Nor any longer than this on the clock of the day.
    time_out: Timestamp,
    limits: Limits,
    watched: &'a Watched,
    /// What the hops' stores hold, in their order; nothing for a hop that is in none.
    stores: Vec<Option<Box<dyn Contents>>>,
    zone: TimeZone,
}

type Asked<T> = Result<T, String>;

impl Look<'_> {
    /// Asks a store, and again; a store that fails or is silent each time becomes a text.
    async fn ask<T, F: Future<Output = Result<T, BackendError>>>(&self, call: impl Fn() -> F) -> Asked<T> {
        let answered = retry(
            &PAUSES,
            |error| tracing::debug!(%error, "a store is asked again"),
            |number| {
                let call = call();
                async move {
                    let began = Instant::now();
                    let until = self.until.min(began + ANSWER_WITHIN[number]);
                    tokio::select! {
                        answer = call => answer,
                        () = tokio::time::sleep_until(until) => Err(no_answer(number, began)),
                        () = self.context.clock.sleep_until(self.time_out) => Err(no_answer(number, began)),
                    }
                }
            },
        );
        answered.await.map_err(|error| error.to_string())
    }

    async fn run(&self) -> Value {
        // What is judged is this moment: a store that takes its time to answer must not make the feed look
        // silent.
        let now = self.context.clock.now();
        let spools = self.spools().await;
        let (logs, newest) = join(self.logs(), self.newest(now)).await;
        // After the stores were read: a record that arrives meanwhile must not look as if it had been
        // waiting.
        let commits = self.commits(&logs).await;
        let mut seen = Vec::new();
        for (hop, stored) in self.watched.hops.iter().zip(newest) {
            let newest = match hop.kind {
                Kind::Spool => spools.newest(hop),
                Kind::Log => logs
                    .get(hop.topic.as_str())
                    .map_or(Ok(None), |log| log.as_ref().map(|(_, newest)| *newest).map_err(Clone::clone)),
                Kind::Store(_) => stored,
            };
            let waiting_since = match (&newest, hop.group.as_deref(), logs.get(hop.topic.as_str())) {
                _ if hop.is_spool() => None,
                (Ok(newest), None, _) => spools.waiting(hop, *newest),
                (Ok(newest), Some(group), Some(Ok((Some(topic), _)))) => {
                    let committed = commits.as_ref().map(|all| all.get(group));
                    self.waiting_on_log(topic, committed, *newest).await
                }
                _ => None,
            };
            let (life, auction) = (self.watched.life(self.context, hop), auction(hop));
            seen.push(Observation { hop, life, auction, newest, waiting_since });
        }
        let session = self.session();
        let verdicts = judge(now, session.as_ref(), self.context.spec.window.open_at, &self.limits, &seen);
        let symbols = spools.activity();
        let expected = session.is_some_and(|s| now >= s.open && now < s.close);
        let quiet = if expected { silent(now, self.limits.stale_after, &symbols) } else { Vec::new() };
        let quiet = quiet
            .iter()
            .take(LISTED)
            .map(|(a, silence)| json!({"symbol": a.symbol, "last": self.text(a.last), "silent_seconds": silence.as_secs()}));
        let mut report = self.report(now, &verdicts, &spools, quiet.collect());
        report["trades_expected"] = json!(expected);
        report
    }

    /// The newest record of each hop that is in a store, asked side by side.
    async fn newest(&self, now: Timestamp) -> Vec<Asked<Option<Timestamp>>> {
        let (scope, since) = (
            Scope { date: self.context.spec.session_date, feeds: Vec::new(), now },
            self.context.spec.window.open_at,
        );
        let scope = &scope;
        let asked = self.stores.iter().map(|store| async move {
            match store {
                Some(store) => self.ask(|| store.newest(since, scope)).await,
                None => Ok(None),
            }
        });
        join_all(asked).await
    }

    /// The topics of the hops, and the receipt time of each one's newest record, asked side by side.
    async fn logs(&self) -> BTreeMap<&str, Asked<(Option<Topic>, Option<Timestamp>)>> {
        let topics: BTreeSet<&str> = self.watched.hops.iter().map(|hop| hop.topic.as_str()).collect();
        let asked =
            topics.into_iter().map(|topic| async move { (topic, self.ask(|| self.log_end(topic)).await) });
        join_all(asked).await.into_iter().collect()
    }

    fn text(&self, at: Timestamp) -> String {
        rfc3339(at, &self.zone)
    }

    fn session(&self) -> Option<TradingSession> {
        let date = self.context.spec.session_date;
        match &self.context.calendar {
            Some(calendar) => calendar.session(date),
            // Without a calendar every day has one session, from midnight to midnight.
            None => {
                let open = date.to_zoned(self.zone.clone()).ok()?.timestamp();
                let close = date.tomorrow().ok()?.to_zoned(self.zone.clone()).ok()?.timestamp();
                Some(TradingSession { date, open, close })
            }
        }
    }

    /// Reads the spools on from where the last round was.
    async fn spools(&self) -> Spools<'_> {
        let spec = &self.context.spec;
        let memories = self.context.data.join("steps").join(spec.id.run.dag()).join(spec.id.step.as_str());
        let mut spools = BTreeMap::new();
        for (hop, dir) in self.watched.spools(self.context) {
            let memory = memories.join(format!("spool.{}.json", hop.step));
            let (date, zone, folder) = (spec.session_date, self.zone.clone(), dir.clone());
            let read = tokio::task::spawn_blocking(move || read_on(&folder, &memory, date, &zone)).await;
            let tail = read.map_err(|e| e.to_string()).and_then(|tail| tail.map_err(|e| e.to_string()));
            spools.insert(hop.step.as_str(), (dir, tail));
        }
        Spools(spools)
    }

    /// A topic, and the receipt time of its newest record.
    async fn log_end(&self, name: &str) -> Result<(Option<Topic>, Option<Timestamp>), BackendError> {
        let log = &self.context.backends.log;
        let Some(topic) = log.topic(name).await? else { return Ok((None, None)) };
        let mut newest: Option<Timestamp> = None;
        for (number, range) in topic.partitions.iter().enumerate() {
            if range.end > range.start {
                let partition = Partition { topic: name.to_owned(), number: number as u32 };
                let last = log.read(&partition, range.end - 1, 1).await?;
                newest = newest.max(last.first().map(|r| r.record.timestamp));
            }
        }
        Ok((Some(topic), newest))
    }

    /// How far each consumer group has committed in each partition; `None` when the log does not say.
    async fn commits(
        &self,
        logs: &BTreeMap<&str, Asked<(Option<Topic>, Option<Timestamp>)>>,
    ) -> Option<Commits> {
        // A log that did not answer just now is not asked for more.
        if logs.values().all(Result::is_err) {
            return None;
        }
        match self.ask(|| self.context.backends.log.groups()).await {
            Ok(groups) => {
                let by_partition =
                    |commits: Vec<Committed>| commits.into_iter().map(|c| (c.partition, c.next)).collect();
                Some(groups.into_iter().map(|(group, commits)| (group, by_partition(commits))).collect())
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the groups' commits; lags are told by times alone");
                None
            }
        }
    }

    /// Receipt time of the oldest record on the log that a hop has not. Its group's commits tell exactly,
    /// also when the hop stands still in one partition alone: where the group has none, it has taken nothing.
    /// Where commits are unknown, records later than the hop's newest count as waiting.
    async fn waiting_on_log(
        &self,
        topic: &Topic,
        committed: Option<Option<&BTreeMap<Partition, u64>>>,
        newest: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let log = self.context.backends.log.as_ref();
        let after = newest.unwrap_or(Timestamp::MIN);
        let mut oldest: Option<Timestamp> = None;
        for (number, range) in topic.partitions.iter().enumerate() {
            let partition = Partition { topic: topic.name.clone(), number: number as u32 };
            let found = self.ask(|| async {
                let offset = match committed {
                    Some(group) => group
                        .and_then(|g| g.get(&partition))
                        .map_or(range.start, |next| (*next).max(range.start)),
                    None => log_search::first_after(log, &partition, range.start..range.end, after).await?,
                };
                if offset >= range.end {
                    Ok(None)
                } else {
                    Ok(log.read(&partition, offset, 1).await?.first().map(|r| r.record.timestamp))
                }
            });
            match found.await {
                Ok(Some(at)) => oldest = Some(oldest.map_or(at, |o| o.min(at))),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%partition, %error, "cannot look up on the log since when a hop lags")
                }
            }
        }
        oldest
    }

    fn report(
        &self,
        now: Timestamp,
        verdicts: &[Verdict<'_>],
        spools: &Spools<'_>,
        silent: Vec<Value>,
    ) -> Value {
        let culprit = culprit(verdicts);
        let named = culprit.filter(|v| v.hop.is_spool());
        let of_day = |at: Timestamp| at.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string();
        let down = named.and_then(|v| spools.tail(v.hop)?.down_for(now));
        let finding = found(verdicts, named.and_then(|v| v.newest).map(of_day), down);
        self.context.reporter.line(&finding.to_string());
        let last = spools.last().map(|(at, symbol)| json!({"received_at": self.text(*at), "symbol": symbol}));
        let hops = verdicts.iter().map(|v| {
            json!({
                "hop": v.hop.checked_as(),
                "newest": v.newest.map(|at| self.text(at)),
                "age_seconds": v.age.map(|a| a.as_secs()),
                "lag_seconds": v.lag.as_secs(),
                "stale": v.state.is_stale(),
                "state": v.state.as_str(),
                "detail": v.finding.to_string(),
                "finding": v.finding,
            })
        });
        let mut report = json!({
            "stalled": culprit.is_some(),
            "hop": culprit.map(|v| v.hop.checked_as()),
            "since": culprit.and_then(|v| v.since).map(|at| self.text(at)),
            "last": last,
            "hops": hops.collect::<Vec<_>>(),
            "summary": finding.to_string(),
            "finding": finding,
            "silent_symbols": silent,
        });
        if matches!(finding, Finding::Settling { .. }) {
            report["settling"] = json!(true);
        }
        report
    }
}

/// Offsets that consumer groups have committed.
type Commits = BTreeMap<String, BTreeMap<Partition, u64>>;

/// What the spools of the run hold, by their collecting step.
struct Spools<'a>(BTreeMap<&'a str, (PathBuf, Asked<Option<Tail>>)>);

impl Spools<'_> {
    fn of(&self, hop: &Hop) -> Option<&(PathBuf, Asked<Option<Tail>>)> {
        self.0.get(hop.step.as_str())
    }

    fn tail(&self, hop: &Hop) -> Option<&Tail> {
        self.of(hop)?.1.as_ref().ok()?.as_ref()
    }

    fn tails(&self) -> impl Iterator<Item = &Tail> {
        self.0.values().filter_map(|(_, tail)| tail.as_ref().ok()?.as_ref())
    }

    /// The newest record of all.
    fn last(&self) -> Option<&(Timestamp, String)> {
        self.tails().filter_map(|t| t.newest.as_ref()).max_by_key(|(at, _)| *at)
    }

    /// Receipt time of the newest record in a spool.
    fn newest(&self, hop: &Hop) -> Asked<Option<Timestamp>> {
        let Some((_, tail)) = self.of(hop) else { return Ok(None) };
        let newest = |tail: &Option<Tail>| tail.as_ref().and_then(|t| t.newest.as_ref()).map(|(at, _)| *at);
        tail.as_ref().map(newest).map_err(Clone::clone)
    }

    /// Receipt time of the oldest record in the hop's spool that is later than the newest in the hop.
    fn waiting(&self, hop: &Hop, newest: Option<Timestamp>) -> Option<Timestamp> {
        let (dir, tail) = (&self.of(hop)?.0, self.tail(hop)?);
        let (spooled, _) = tail.newest.as_ref()?;
        if newest.is_some_and(|n| n >= *spooled) {
            return None;
        }
        tail.first_after(dir, newest).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot look up in the spool since when a hop lags");
            Some(*spooled)
        })
    }

    /// Activity of every symbol on the day, whichever collecting step received it.
    fn activity(&self) -> Vec<Activity> {
        let mut all: BTreeMap<String, Activity> = BTreeMap::new();
        for found in self.tails().flat_map(Tail::activity) {
            match all.get_mut(&found.symbol) {
                Some(known) => {
                    (known.first, known.last) = (known.first.min(found.first), known.last.max(found.last));
                    known.trades += found.trades;
                }
                None => {
                    all.insert(found.symbol.clone(), found);
                }
            }
        }
        all.into_values().collect()
    }
}

/// Reads a spool on from where `memory` says that the last round was.
fn read_on(
    dir: &Path,
    memory: &Path,
    date: jiff::civil::Date,
    zone: &TimeZone,
) -> Result<Option<Tail>, BackendError> {
    // A memory that is missing or damaged costs one longer read.
    let saved = std::fs::read(memory).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let tail = Tail::read(dir, date, zone, saved)?;
    if let Some(tail) = &tail
        && let Err(error) = serde_json::to_vec(tail)
            .map_err(std::io::Error::from)
            .and_then(|bytes| files::replace_in_new_folder(memory, &bytes))
    {
        tracing::warn!(path = %memory.display(), %error, "cannot remember how far the spool was read; the next round reads it again");
    }
    Ok(tail)
}

#[cfg(test)]
mod tests;
