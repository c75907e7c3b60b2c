//! `collect/{feed}`: a feed into the spool, and from there into the log and the raw store. One collector for
//! all feeds.
//!
//! ```text
//! socket task ──batches──▶ spool thread (append, one fsync a group) ──▶ log forwarder ──▶ log, dead letters
//!  the feed's session                                              └──▶ raw forwarder ──▶ raw documents
//! ```
//!
//! What came is judged once, by the feed's session at receipt; the spool holds trades as every store does.
//!
//! The parts share nothing but the spool: an outage of one store never stops the other, and neither stops the
//! socket. What the socket gave is durable before anybody forwards it. A full disk stops the reading of the
//! socket instead of filling memory.
//!
//! Where the runs of two days overlap, the spool is handed from one collector to the next ([`hand_over`]).

mod dedup;
mod forward;
mod hand_over;
mod parameters;
mod recorder;
mod socket;
mod spooler;
mod status;
#[cfg(test)]
mod tests;
mod text_as_binary;
mod to_log;
mod to_raw;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Context, StepError, spooled};
use backends::spool::{self, Entry, Kind, NewEntry, Reader, Recovered, Writer};
use backends::{BackendError, ErrorKind};
use clock::Clock;
use domain::finding::Finding;
use domain::retry::hash;
use feed::Feed;
use forward::{Forwarder, blocking};
use hand_over::{HandOver, Handed, Written};
use parameters::Plan;
use recorder::Recorder;
use socket::Socket;
use spooler::Spooler;
use status::CollectorStatus;
use to_log::ToLog;
use to_raw::ToRaw;

pub use parameters::{program, symbols};

/// Entries of the spool's end that are read on start, to know what was received before.
const REMEMBERED: u64 = 50_000;

/// Least real time that forwarding gets after a stop, however fast the clock.
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// Real time a forwarder gets to finish its call once the time to stop is over.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Forwarded entries older than this are removed from the spool on start.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// An earlier attempt may need a moment to let go of the spool.
const LOCK_TRIES: u32 = 20;

fn client() -> Result<reqwest::Client, StepError> {
    reqwest::Client::builder()
        .build()
        .map_err(|e| StepError::Failed(format!("the HTTP client cannot be made: {e}")))
}

/// Runs the step.
///
/// # Errors
/// A wrong parameter or secret, a spool that cannot be opened, credentials that the feed refuses.
pub async fn run(feed: &'static dyn Feed, context: Context) -> Result<Value, StepError> {
    let connector = format!("{}/{}", context.spec.id.run.dag(), context.spec.id.step);
    let plan = Plan::read(feed, &context, hash(&format!("{connector}/{}", context.clock.now())))?;
    let dir = context.data.join("spool").join(context.spec.id.run.dag()).join(context.spec.id.step.as_str());
    let status = Arc::new(CollectorStatus::new(super::zone(&context.spec), Arc::clone(&context.reporter)));
    // Cancelled in any case when this future goes away: the spool's thread is not a task and would stay.
    let abandon = CancellationToken::new();
    let _abandoned = abandon.clone().drop_guard();
    let shared = Shared::of(&context, &dir, &status, &abandon);
    let opened = shared.open(plan.take_over).await?;
    let mut recorder = match &opened {
        Opened::Free(_, recovered) => remember(feed, &dir, recovered.last_seq).await?,
        // What stands in the spool is somebody else's until it is handed over.
        Opened::Taken(_) => Recorder::new(feed),
    };
    recorder.expect(plan.session.symbols());

    let (http, stop) = (client()?, context.stop.child_token());
    let (spool, mut batches) = mpsc::channel(spooler::WAITING);
    let mut parts = JoinSet::new();
    parts.spawn(end_in_time(context.clone(), stop.clone(), abandon.clone()));
    parts.spawn(Arc::clone(&status).keep_reported(context.clock.clone()));
    let socket = Socket {
        session: plan.session,
        clock: context.clock.clone(),
        http,
        recorder,
        spool,
        status: Arc::clone(&status),
        stop: stop.clone(),
        abandon: abandon.clone(),
    };
    let mut listening = JoinSet::new();
    listening.spawn(socket.run());

    let Handed { writer, recovered, held, written } = opened.handed(&mut batches).await?;
    tell_set_aside(&recovered, &dir, &status);
    prune(&context, &dir, &status).await;
    let (writer, last_seq) =
        close_old_session(writer, recovered.last_seq, context.clock.now(), &status).await?;
    status.update(|f| f.spool_seq = last_seq);
    let (synced, forwarded) = watch::channel(last_seq);
    let source =
        to_log::Source { connector, program: plan.program, spool: writer.id().to_owned(), dir: dir.clone() };
    let log = Arc::clone(&context.backends.log);
    let to_log = ToLog::new(log, &plan.topic, source, context.clock.clone(), Arc::clone(&status));
    let to_raw = ToRaw { raw: Arc::clone(&context.backends.raw), collection: plan.collection };
    let mut forwarders = JoinSet::new();
    forwarders.spawn(shared.forwarder(to_log, forwarded.clone()).run());
    forwarders.spawn(shared.forwarder(to_raw, forwarded).run());
    let unwritten = shared.spool(writer, (held, written), batches, synced)?;
    let ended = listening.join_next().await.and_then(Result::ok);
    let result = ended.ok_or_else(|| broke_off("socket's task"))?;
    // The socket is gone; from here on the time to stop runs, whoever ended it.
    stop.cancel();
    let unwritten = unwritten.await.map_err(|_| broke_off("spool's thread"))?;
    join(forwarders, &abandon).await?;
    parts.abort_all();
    status.report();
    result.map_err(|fatal| StepError::Failed(fatal.0))?;
    if unwritten > 0 {
        let when = "before the time to stop was over";
        return Err(StepError::Failed(format!(
            "{unwritten} received entries could not be written to the spool {when}"
        )));
    }
    leave(&status, dir).await
}

/// The spool at the start.
enum Opened {
    /// It is this collector's.
    Free(Writer, Recovered),
    /// Another run's collector writes it, for a while.
    Taken(HandOver),
}

impl Opened {
    /// The spool, once it is this collector's.
    async fn handed(self, batches: &mut mpsc::Receiver<Vec<NewEntry>>) -> Result<Handed, StepError> {
        match self {
            Self::Free(writer, recovered) => {
                Ok(Handed { writer, recovered, held: Vec::new(), written: Written::default() })
            }
            Self::Taken(hand_over) => hand_over.wait(batches).await,
        }
    }
}

fn broke_off(part: &str) -> StepError {
    StepError::Failed(format!("the {part} broke off; see the log of the daemon"))
}

/// What the parts behind the spool have in common.
struct Shared {
    dir: PathBuf,
    status: Arc<CollectorStatus>,
    clock: Clock,
    abandon: CancellationToken,
}

impl Shared {
    fn of(context: &Context, dir: &Path, status: &Arc<CollectorStatus>, abandon: &CancellationToken) -> Self {
        let (clock, abandon) = (context.clock.clone(), abandon.clone());
        Self { dir: dir.to_owned(), status: Arc::clone(status), clock, abandon }
    }

    /// Opens the spool. `take_over`: how long it may be another run's collector's.
    async fn open(&self, take_over: Option<Duration>) -> Result<Opened, StepError> {
        // Each try is patient by itself; where the spool may be another run's, the feed is not kept waiting
        // for more of them.
        let tries = if take_over.is_some() { 1 } else { LOCK_TRIES };
        match (open(&self.dir, tries).await, take_over) {
            (Err(error), Some(within)) if error.kind == ErrorKind::Busy => {
                let Self { dir, status, clock, abandon } = self;
                let (dir, status, clock, abandon) =
                    (dir.clone(), Arc::clone(status), clock.clone(), abandon.clone());
                let until = clock.now().checked_add(within).unwrap_or(jiff::Timestamp::MAX);
                let hand_over = HandOver { dir, clock, status, until, abandon };
                hand_over.announce();
                Ok(Opened::Taken(hand_over))
            }
            (opened, _) => {
                let (writer, recovered) = opened?;
                Ok(Opened::Free(writer, recovered))
            }
        }
    }

    fn forwarder<T: forward::Target>(&self, target: T, synced: watch::Receiver<u64>) -> Forwarder<T> {
        let Self { dir, status, clock, abandon } = self;
        let (dir, status, clock, abandon) = (dir.clone(), Arc::clone(status), clock.clone(), abandon.clone());
        Forwarder { target, dir, synced, status, clock, abandon }
    }

    /// Starts the spool's thread. It answers with the number of entries it could not write.
    fn spool(
        &self,
        writer: Writer,
        (held, written): (Vec<NewEntry>, Written),
        batches: mpsc::Receiver<Vec<NewEntry>>,
        synced: watch::Sender<u64>,
    ) -> Result<oneshot::Receiver<usize>, StepError> {
        let (dir, status, abandon) = (self.dir.clone(), Arc::clone(&self.status), self.abandon.clone());
        let spooler = Spooler { dir, writer: Some(writer), held, written, batches, synced, status, abandon };
        let (ended, unwritten) = oneshot::channel();
        let work = move || {
            if ended.send(spooler.run()).is_err() {
                tracing::debug!("the spool's thread outlived its step");
            }
        };
        match std::thread::Builder::new().name("spool".into()).spawn(work) {
            Ok(_) => Ok(unwritten),
            Err(error) => Err(StepError::Failed(format!("the spool's thread cannot be started: {error}"))),
        }
    }
}

/// What the step returns. Trades that are in the spool alone fail it: somebody has to know that the day is
/// not complete.
async fn leave(status: &CollectorStatus, dir: PathBuf) -> Result<Value, StepError> {
    let (mut facts, f) = (status.object(), status.facts());
    facts.insert("last_seq".into(), f.spool_seq.into());
    let mut left = Vec::new();
    for (name, done) in [("log", f.log_seq), ("raw", f.raw_seq)] {
        let folder = dir.clone();
        let (first, waiting) = blocking(move || waiting(&folder, name, done)).await?;
        if waiting == 0 {
            continue;
        }
        facts.insert(format!("{name}_unforwarded"), waiting.into());
        let why = f.troubles.get(name).cloned();
        let found = Finding::NotForwarded { hop: name.to_owned(), records: waiting, from: first, why };
        status.line(&found.to_string());
        left.push(found);
    }
    if left.is_empty() {
        return Ok(Value::Object(facts));
    }
    Err(StepError::Unmet { what: Box::new(Finding::LeftInSpool { left }), result: Value::Object(facts) })
}

/// The first entry that a forwarder has not delivered, and how many records wait from there on. `done` is how
/// far it came in this life; one that could not even begin goes by its cursor file.
fn waiting(dir: &Path, name: &str, done: u64) -> Result<(u64, u64), BackendError> {
    let first = if done > 0 { done + 1 } else { spool::load_cursor(dir, name)?.unwrap_or(1) };
    let mut reader = Reader::open(dir, first)?;
    let mut waiting = 0;
    loop {
        let entries = reader.next(1000)?;
        if entries.is_empty() {
            return Ok((first, waiting));
        }
        let counts = |e: &&Entry| spooled::is_trade(e) || e.kind == Kind::Malformed && name == "log";
        waiting += entries.iter().filter(counts).count() as u64;
    }
}

/// Waits for the forwarders. One that is in the middle of a call when the time is over is left behind.
async fn join(mut forwarders: JoinSet<u64>, abandon: &CancellationToken) -> Result<(), StepError> {
    let over = async {
        abandon.cancelled().await;
        tokio::time::sleep(LAST_WORD).await;
    };
    tokio::pin!(over);
    loop {
        tokio::select! {
            ended = forwarders.join_next() => match ended {
                Some(ended) => ended.map_err(|e| StepError::Failed(format!("a forwarder broke off: {e}")))?,
                None => return Ok(()),
            },
            () = &mut over => return Ok(()),
        };
    }
}

/// Stops the step at its deadline, and gives up once the time to stop is over: until then what is spooled is
/// forwarded.
async fn end_in_time(context: Context, stop: CancellationToken, abandon: CancellationToken) {
    let deadline = async {
        match context.spec.deadline {
            Some(deadline) => context.clock.sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let by_itself = tokio::select! {
        () = context.stop.cancelled() => false,
        () = deadline => false,
        () = stop.cancelled() => !context.stop.is_cancelled(),
    };
    stop.cancel();
    let now = context.clock.now();
    let until = if by_itself {
        // A collector that cannot go on says so soon: nobody waits for its stores.
        now.checked_add(context.spec.step.stop.grace.mul_f64(0.8)).unwrap_or(now)
    } else {
        context.end_of_stop()
    };
    let least = now.checked_add(LEAST_GRACE.mul_f64(context.clock.speed().max(1.0))).unwrap_or(now);
    context.clock.sleep_until(until.max(least)).await;
    abandon.cancel();
}

fn tell_set_aside(recovered: &Recovered, dir: &Path, status: &CollectorStatus) {
    if recovered.set_aside_bytes > 0 {
        let place = recovered.set_aside.as_deref().unwrap_or(dir);
        status.line(&format!(
            "{} damaged bytes of the spool were set aside in {}",
            recovered.set_aside_bytes,
            place.display()
        ));
    }
}

async fn open(dir: &Path, most: u32) -> Result<(Writer, Recovered), BackendError> {
    let mut tries = 1;
    loop {
        let folder = dir.to_owned();
        match blocking(move || Writer::open(&folder)).await {
            Err(error) if error.kind == ErrorKind::Busy && tries < most => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            result => return result,
        }
    }
}

/// Notes in a spool with a past that whatever session was up is over: a collector that was killed could not
/// say so, and whoever reads the spool must not take the trades on both sides for one session. A disk that is
/// full just now lets the note go; the spool itself waits for room.
async fn close_old_session(
    mut writer: Writer,
    last_seq: u64,
    now: jiff::Timestamp,
    status: &CollectorStatus,
) -> Result<(Writer, u64), BackendError> {
    if last_seq == 0 {
        return Ok((writer, 0));
    }
    let facts =
        serde_json::json!({"session": 0, "reason": "the collector starts; what was before it is over"});
    let note = NewEntry { kind: Kind::SessionDown, received_at: now, body: facts.to_string().into_bytes() };
    let (writer, written) = blocking(move || {
        let written = writer.append(&[note]).and_then(|_| writer.sync());
        Ok((writer, written))
    })
    .await?;
    match written {
        Ok(seq) => Ok((writer, seq)),
        Err(error) if error.kind == ErrorKind::Full => {
            status.line(&format!("the start could not be noted in the spool: {error}"));
            Ok((writer, last_seq))
        }
        Err(error) => Err(error),
    }
}

/// Reads the spool's end into a fresh recorder.
async fn remember(feed: &'static dyn Feed, dir: &Path, last_seq: u64) -> Result<Recorder, BackendError> {
    let dir = dir.to_owned();
    blocking(move || {
        let mut recorder = Recorder::new(feed);
        let from = last_seq.saturating_sub(REMEMBERED).max(1);
        let mut reader = Reader::open(&dir, from)?;
        let mut whole = None;
        loop {
            let entries = reader.next(1000)?;
            if entries.is_empty() {
                return Ok(recorder);
            }
            let whole = *whole.get_or_insert(entries[0].seq == 1);
            recorder.remember(&entries, whole);
        }
    })
    .await
}

/// Removes what both stores have and nobody asks for any more; a failure costs only room.
async fn prune(context: &Context, dir: &Path, status: &CollectorStatus) {
    let (folder, before) = (dir.to_owned(), context.clock.now() - KEPT);
    let pruned = blocking(move || {
        let cursor = |name| spool::load_cursor(&folder, name).map(|c| c.unwrap_or(1));
        let next = cursor("log")?.min(cursor("raw")?);
        spool::prune(&folder, next, before)
    })
    .await;
    match pruned {
        Ok(0) => {}
        Ok(files) => status.line(&format!("{files} old files of the spool were removed")),
        Err(error) => status.line(&format!("old files of the spool cannot be removed: {error}")),
    }
}
