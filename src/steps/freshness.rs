//! `freshness`: one look at every hop. The finding is the result; the step itself succeeds also when a hop is stalled.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::asking::ask_again;
use super::programs::TOPIC;
use super::sink::folder;
use super::sink::index::INDEX;
use super::sink::objects::{PREFIX, TIMEZONE, hive, object_zone, place_of};
use super::sink::raw::COLLECTION;
use super::spool_tail::{self, COLLECTOR, Tail};
use super::{Context, StepError, log_search};
use backends::log::{Partition, Topic};
use backends::{BackendError, ErrorKind};
use domain::calendar::Session;
use domain::dag::StepKind;
use domain::freshness::{Limits, Observation, Verdict, culprit, human, judge, name, silent};
use domain::ledger::Hop;
use domain::parameters::Parameters;
use domain::program::{Parameter, Program, Role, Shape};
use domain::trade::rfc3339;

/// A store has this long to answer (real time), and when it is asked again. One lost answer must wake nobody.
const ANSWER_WITHIN: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(3), Duration::from_secs(3)];
/// Waits before it is asked again.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// All questions of one look together take at most this long (real time): the stores are asked side by side, and the log once
/// more for each partition that lags.
const LOOK_WITHIN: Duration = Duration::from_secs(45);
/// Silent symbols listed.
const LISTED: usize = 50;
/// The closing auction before the close, in which nothing trades (KRX: 15:20–15:30).
const AUCTION: SignedDuration = SignedDuration::from_mins(10);

/// Its row in the table of programs.
pub const PROGRAM: Program = Program {
    name: "freshness",
    kinds: &[StepKind::Check, StepKind::Task],
    role: Role::Check,
    about: "checks that data still arrives at every hop",
    parameters: &[
        Parameter::new("stale_after", Shape::Duration, "age at which a hop is stalled").or("5m"),
        Parameter::new("grace", Shape::Duration, "how long after the open nothing counts as stalled").or("1m"),
        COLLECTOR,
        TOPIC,
        COLLECTION,
        INDEX,
        PREFIX,
        TIMEZONE,
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
    let look = Look {
        limits: Limits {
            stale_after: signed(p.duration("stale_after")?),
            grace: signed(p.duration("grace")?),
            auction: AUCTION,
        },
        spool: spool_tail::folder(&context.data, context.spec.id.run.dag(), &p.text("collector")?),
        collection: p.text("collection")?,
        index: format!("{}-", p.text("index")?),
        prefix: p.text("prefix")?.trim_matches('/').to_owned(),
        object_zone: object_zone(&p, &context)?,
        zone: super::zone(&context.spec),
        topic: p.text("topic")?,
        until: Instant::now() + LOOK_WITHIN,
        time_out: time_out(context.spec.step.timeout, context.clock.now()),
        context: &context,
    };
    Ok(look.run().await)
}

/// When questions are given up on the clock of the day, as the check's own timeout runs on it: at half of that.
fn time_out(timeout: Option<Duration>, now: Timestamp) -> Timestamp {
    timeout.and_then(|timeout| now.checked_add(timeout / 2).ok()).unwrap_or(Timestamp::MAX)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
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
    spool: PathBuf,
    topic: String,
    collection: String,
    index: String,
    prefix: String,
    object_zone: TimeZone,
    zone: TimeZone,
}

type Found<T> = Result<T, String>;

impl Look<'_> {
    /// Asks a store, and again; a store that fails or is silent each time becomes a text.
    async fn ask<T, F: Future<Output = Result<T, BackendError>>>(&self, call: impl Fn() -> F) -> Found<T> {
        let answered = ask_again(
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
        // What is judged is this moment: a store that takes its time to answer must not make the feed look silent.
        let now = self.context.clock.now();
        let tail = self.tail().await;
        let (log, raw, index, objects) = tokio::join!(
            self.ask(|| self.log_end()),
            self.ask(|| self.context.backends.raw.latest(&self.collection)),
            self.ask(|| self.index_latest()),
            self.ask(|| self.objects_latest())
        );
        // After the stores were read: a record that arrives meanwhile must not look as if it had been waiting.
        let spooled = tail.as_ref().ok().and_then(Option::as_ref);
        let newest_log = log.as_ref().map(|(_, newest)| *newest).map_err(Clone::clone);
        let mut seen = vec![Observation {
            hop: Hop::Spool,
            newest: tail.as_ref().map(|t| t.as_ref().and_then(|t| t.newest.as_ref()).map(|(at, _)| *at)).map_err(Clone::clone),
            waiting_since: None,
        }];
        for (hop, newest) in [(Hop::Log, newest_log), (Hop::Raw, raw)] {
            let waiting_since = match (&newest, spooled) {
                (Ok(newest), Some(tail)) => self.waiting_in_spool(tail, *newest),
                _ => None,
            };
            seen.push(Observation { hop, newest, waiting_since });
        }
        // A log that did not answer just now is not asked for more.
        let reached = if log.is_ok() { self.commits().await } else { BTreeMap::new() };
        for (hop, newest) in [(Hop::Index, index), (Hop::Objects, objects)] {
            let waiting_since = match (&newest, &log) {
                (Ok(newest), Ok((Some(topic), _))) => self.waiting_on_log(topic, hop, *newest, &reached).await,
                _ => None,
            };
            seen.push(Observation { hop, newest, waiting_since });
        }
        let session = self.session();
        let verdicts = judge(now, session.as_ref(), self.context.spec.window.open_at, &self.limits, &seen);
        let symbols = spooled.map(Tail::activity).unwrap_or_default();
        let expected = session.is_some_and(|s| now >= s.open && now < s.close);
        let quiet = if expected { silent(now, self.limits.stale_after, &symbols) } else { Vec::new() };
        let quiet = quiet
            .iter()
            .take(LISTED)
            .map(|(a, silence)| json!({"symbol": a.symbol, "last": self.text(a.last), "silent_seconds": silence.as_secs()}));
        let mut report = self.report(now, &verdicts, spooled, quiet.collect());
        report["trades_expected"] = json!(expected);
        report
    }

    fn text(&self, at: Timestamp) -> String {
        rfc3339(at, &self.zone)
    }

    fn session(&self) -> Option<Session> {
        let date = self.context.spec.session_date;
        match &self.context.calendar {
            Some(calendar) => calendar.session(date),
            // Without a calendar every day has one session, from midnight to midnight.
            None => {
                let open = date.to_zoned(self.zone.clone()).ok()?.timestamp();
                let close = date.tomorrow().ok()?.to_zoned(self.zone.clone()).ok()?.timestamp();
                Some(Session { date, open, close })
            }
        }
    }

    /// Reads the spool on from where the last round was.
    async fn tail(&self) -> Found<Option<Tail>> {
        let spec = &self.context.spec;
        let memory = self.context.data.join("steps").join(spec.id.run.dag()).join(spec.id.step.as_str()).join("spool.json");
        let (dir, date, zone) = (self.spool.clone(), spec.session_date, self.zone.clone());
        let read = tokio::task::spawn_blocking(move || {
            // A memory that is missing or damaged costs one longer read.
            let saved = std::fs::read(&memory).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let tail = Tail::read(&dir, date, &zone, saved)?;
            if let Some(tail) = &tail
                && let Err(error) = serde_json::to_vec(tail)
                    .map_err(std::io::Error::from)
                    .and_then(|bytes| files::replace_in_new_folder(&memory, &bytes))
            {
                tracing::warn!(path = %memory.display(), %error, "cannot remember how far the spool was read; the next round reads it again");
            }
            Ok::<_, BackendError>(tail)
        });
        match read.await {
            Ok(tail) => tail.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The topic, and the receipt time of its newest record.
    async fn log_end(&self) -> Result<(Option<Topic>, Option<Timestamp>), BackendError> {
        let log = &self.context.backends.log;
        let Some(topic) = log.topic(&self.topic).await? else { return Ok((None, None)) };
        let mut newest: Option<Timestamp> = None;
        for (number, range) in topic.partitions.iter().enumerate() {
            if range.end > range.start {
                let partition = Partition { topic: self.topic.clone(), number: number as u32 };
                let last = log.read(&partition, range.end - 1, 1).await?;
                newest = newest.max(last.first().map(|r| r.record.timestamp));
            }
        }
        Ok((Some(topic), newest))
    }

    async fn index_latest(&self) -> Result<Option<Timestamp>, BackendError> {
        let text = self.context.backends.index.latest(&self.index, "received_at").await?;
        let parse = |t: String| {
            t.parse().map_err(|e| {
                BackendError::new(
                    ErrorKind::Corrupt,
                    format!("index {}*", self.index),
                    format!("received_at \"{t}\" is no time: {e}"),
                )
            })
        };
        text.map(parse).transpose()
    }

    /// The newest record in objects: looks into the newest hour that has any, at the last object of each chain.
    async fn objects_latest(&self) -> Result<Option<Timestamp>, BackendError> {
        let objects = &self.context.backends.objects;
        let now = self.context.clock.now();
        let first = self.context.spec.window.open_at.min(now);
        let mut hour = now;
        loop {
            let path = format!("{}/{}/", self.prefix, hive(hour, &self.object_zone));
            let mut last: BTreeMap<String, String> = BTreeMap::new();
            for key in folder::keys(objects.as_ref(), &path).await? {
                if let Some((chain, _)) = place_of(&key) {
                    last.insert(chain.to_owned(), key);
                }
            }
            let mut newest: Option<Timestamp> = None;
            for key in last.values() {
                let metadata = objects.head(key).await?.unwrap_or_default();
                newest = newest.max(metadata.get("newest_received_at").and_then(|t| t.parse().ok()));
            }
            if newest.is_some() {
                return Ok(newest);
            }
            hour = match hour.checked_sub(SignedDuration::from_hours(1)) {
                Ok(earlier) if earlier >= first.saturating_sub(SignedDuration::from_hours(1)).unwrap_or(first) => earlier,
                _ => return Ok(None),
            };
        }
    }

    fn waiting_in_spool(&self, tail: &Tail, newest: Option<Timestamp>) -> Option<Timestamp> {
        let (spooled, _) = tail.newest.as_ref()?;
        if newest.is_some_and(|n| n >= *spooled) {
            return None;
        }
        tail.first_after(&self.spool, newest).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot look up in the spool since when a hop lags");
            Some(*spooled)
        })
    }

    /// How far the sinks of a hop have committed. A group belongs to the hop that its step's name mentions (`sink-index`); of
    /// several the most advanced counts, so that the group of a step that was renamed, which stands still for ever, does not.
    async fn commits(&self) -> BTreeMap<(Hop, u32), u64> {
        let mut reached = BTreeMap::new();
        let prefix = format!("{}.", self.context.spec.id.run.dag());
        let groups = match self.ask(|| self.context.backends.log.groups()).await {
            Ok(groups) => groups,
            Err(error) => {
                tracing::warn!(%error, "cannot read the groups' commits; lags are told by times alone");
                return reached;
            }
        };
        for (group, committed) in groups {
            let Some(step) = group.strip_prefix(&prefix) else { continue };
            let Some(hop) = [Hop::Index, Hop::Objects].into_iter().find(|h| step.contains(h.as_str())) else { continue };
            for at in committed.into_iter().filter(|c| c.partition.topic == self.topic) {
                let next = reached.entry((hop, at.partition.number)).or_insert(0);
                *next = at.next.max(*next);
            }
        }
        reached
    }

    /// Receipt time of the oldest record on the log that a hop has not. A partition's commit tells exactly, also when the hop
    /// stands still in one partition alone; without a commit, records later than the hop's newest count as waiting.
    async fn waiting_on_log(
        &self,
        topic: &Topic,
        hop: Hop,
        newest: Option<Timestamp>,
        reached: &BTreeMap<(Hop, u32), u64>,
    ) -> Option<Timestamp> {
        let log = self.context.backends.log.as_ref();
        let after = newest.unwrap_or(Timestamp::MIN);
        let mut oldest: Option<Timestamp> = None;
        for (number, range) in topic.partitions.iter().enumerate() {
            let number = number as u32;
            let partition = Partition { topic: topic.name.clone(), number };
            let found = self.ask(|| async {
                let offset = match reached.get(&(hop, number)) {
                    Some(next) => (*next).max(range.start),
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
                Err(error) => tracing::warn!(%partition, %error, "cannot look up on the log since when a hop lags"),
            }
        }
        oldest
    }

    fn report(&self, now: Timestamp, verdicts: &[Verdict], tail: Option<&Tail>, silent: Vec<Value>) -> Value {
        let culprit = culprit(verdicts);
        let last =
            tail.and_then(|t| t.newest.as_ref()).map(|(at, symbol)| json!({"received_at": self.text(*at), "symbol": symbol}));
        let mut summary = match culprit {
            None => "data arrives at every hop".to_owned(),
            Some(v) => format!("{}: {}", name(v.hop), v.detail),
        };
        if let Some(v) = culprit.filter(|v| v.hop == Hop::Spool) {
            if let Some(newest) = v.newest {
                summary.push_str(&format!(" (last at {})", newest.to_zoned(self.zone.clone()).strftime("%H:%M:%S")));
            }
            if let Some(down) = tail.and_then(|t| t.down_for(now)) {
                summary.push_str(&format!("; the feed's session has been down for {}", human(down)));
            }
        }
        self.context.reporter.line(&summary);
        let hops = verdicts.iter().map(|v| {
            json!({
                "hop": name(v.hop),
                "newest": v.newest.map(|at| self.text(at)),
                "age_seconds": v.age.map(|a| a.as_secs()),
                "lag_seconds": v.lag.as_secs(),
                "stale": v.stale,
                "state": if v.unreachable.is_some() { "unreachable" } else if v.stale { "stale" } else { "fresh" },
                "detail": v.detail,
            })
        });
        json!({
            "stalled": culprit.is_some(),
            "hop": culprit.map(|v| name(v.hop)),
            "since": culprit.and_then(|v| v.since).map(|at| self.text(at)),
            "last": last,
            "hops": hops.collect::<Vec<_>>(),
            "summary": summary,
            "silent_symbols": silent,
        })
    }
}

#[cfg(test)]
mod tests;
