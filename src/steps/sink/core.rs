//! The core of every sink: group membership, hand-out to lanes, back-pressure, commits, drain.
//!
//! One task owns the consumer; each partition's lane is a task of its own, so a slow store holds up its partition only.
//! The consumer is polled in short waits and never dropped in the middle of one: a poll may already hold records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lane::{Command, Counts, Kind, News, Target, Worker, weight};
use crate::backends::log::{Committed, Consumer, Partition, Polled, Stored};
use crate::backends::{BackendError, ErrorKind};
use crate::domain::retry::{Backoff, hash};
use crate::executor::Status;
use crate::steps::dead_letter::Refuser;
use crate::steps::{Context, StepError};

/// What to run.
pub struct Sink {
    /// The program's name (`sink/index`).
    pub program: &'static str,
    /// Topic read.
    pub topic: String,
    /// Consumer group.
    pub group: String,
    /// The store.
    pub target: Arc<dyn Target>,
    /// Bytes that may wait in front of the lanes, over all partitions.
    pub in_flight: usize,
    /// Waits between tries at a store that does not answer, in the clock's time.
    pub backoff: Backoff,
}

impl Sink {
    /// Default of [`Sink::in_flight`].
    pub const IN_FLIGHT: usize = 16 << 20;
    /// Default of [`Sink::backoff`].
    pub const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(30), jitter: true };
}

/// Real time a lane has to finish when its partition is about to be someone else's.
const HAND_OVER: Duration = Duration::from_secs(5);
/// Commits are at least this far apart while records keep coming (real time).
const COMMIT_EVERY: Duration = Duration::from_millis(20);
/// Longest real wait of a poll; it bounds how late a stop and a lane's news are noticed.
const LONGEST_POLL: Duration = Duration::from_millis(200);
/// The same while records are being written.
const BUSY_POLL: Duration = Duration::from_millis(20);
/// Status is not reported more often than this (real time) unless it changes in kind.
const STATUS_EVERY: Duration = Duration::from_millis(250);

/// Runs a sink until its context is stopped, then drains to the end the log had at that moment.
///
/// # Errors
/// When the target cannot be prepared, when a lane had to stop for good, or when the drain time passed before everything
/// was written. Everything written is committed in each case; nothing is skipped.
pub async fn run(context: Context, sink: Sink) -> Result<serde_json::Value, StepError> {
    let (sender, news) = unbounded_channel();
    let mut core = Core {
        refuser: Refuser {
            connector: format!("{}/{}", context.spec.id.run.dag(), context.spec.id.step),
            program: sink.program.to_owned(),
        },
        context,
        sink,
        sender,
        news,
        lanes: BTreeMap::new(),
        tasks: JoinSet::new(),
        epoch: 0,
        totals: Counts::default(),
        trouble: None,
        ready: false,
        told: None,
        committed_at: None,
        drain: None,
    };
    core.prepare().await?;
    core.live().await
}

struct Lane {
    epoch: u64,
    commands: UnboundedSender<Command>,
    queued: Arc<AtomicUsize>,
    task: tokio::task::AbortHandle,
    /// Offset after the last record handed over.
    position: u64,
    /// Everything before is done.
    done: u64,
    /// Everything before is committed.
    committed: u64,
    opened: bool,
    paused: bool,
    /// Where the drain ends.
    target: Option<u64>,
    finishing: bool,
    finished: bool,
    stopped: Option<BackendError>,
    trouble: Option<(Timestamp, String)>,
}

impl Lane {
    fn over(&self) -> bool {
        self.finished || self.stopped.is_some()
    }
    fn idle(&self) -> bool {
        self.position == self.done
    }
}

struct Drain {
    /// When it is given up, in the clock's time.
    until: Timestamp,
    /// Polls that brought nothing since the stop, while no partition was assigned.
    quiet: u32,
}

struct Core {
    context: Context,
    sink: Sink,
    refuser: Refuser,
    sender: UnboundedSender<News>,
    news: UnboundedReceiver<News>,
    lanes: BTreeMap<u32, Lane>,
    tasks: JoinSet<()>,
    epoch: u64,
    totals: Counts,
    /// The log itself does not answer.
    trouble: Option<(Timestamp, String)>,
    ready: bool,
    told: Option<(Instant, bool, Option<String>)>,
    committed_at: Option<Instant>,
    drain: Option<Drain>,
}

impl Core {
    fn partition(&self, number: u32) -> Partition {
        Partition { topic: self.sink.topic.clone(), number }
    }

    async fn prepare(&mut self) -> Result<(), StepError> {
        let mut failures = 0;
        loop {
            match self.sink.target.prepare().await {
                Ok(()) => {
                    self.trouble = None;
                    return Ok(());
                }
                Err(error) if error.is_transient() && !self.past_drain() => self.wait_out(&error, &mut failures).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn live(&mut self) -> Result<serde_json::Value, StepError> {
        let mut failures = 0;
        loop {
            // Lanes of an earlier membership may still write; what they write is idempotent and they can commit nothing.
            self.forget_lanes();
            match self.context.backends.log.join(&self.sink.group, std::slice::from_ref(&self.sink.topic)).await {
                Ok(mut consumer) => {
                    if self.trouble.take().is_some() {
                        self.context.reporter.line("the log answers again");
                    }
                    match self.member(consumer.as_mut(), &mut failures).await {
                        Ok(()) => return self.leave(consumer).await,
                        Err(error) if self.past_drain() => return Err(error.into()),
                        Err(error) => self.wait_out(&error, &mut failures).await,
                    }
                }
                Err(error) if self.past_drain() => return Err(error.into()),
                Err(error) => self.wait_out(&error, &mut failures).await,
            }
        }
    }

    /// A membership, until it is drained (`Ok`) or lost.
    async fn member(&mut self, consumer: &mut dyn Consumer, failures: &mut u32) -> Result<(), BackendError> {
        let mut poll_failures = 0;
        loop {
            self.read_news();
            self.reap()?;
            self.start_drain();
            if self.drain.is_some() && self.lanes.values().any(|l| l.target.is_none()) {
                self.set_targets().await?;
            }
            self.commit(consumer).await?;
            self.finish_drained();
            self.tell(false);
            if self.drained() {
                return self.commit_all(consumer).await;
            }
            if self.past_drain() {
                self.commit_all(consumer).await?;
                return Ok(());
            }
            self.flow(consumer).await?;
            let wait = self.wait().await;
            match consumer.poll(wait).await {
                Ok(polled) => {
                    poll_failures = 0;
                    *failures = 0;
                    self.polled(consumer, polled).await?;
                }
                Err(error) if error.is_transient() && poll_failures < 2 => {
                    poll_failures += 1;
                    self.wait_out(&error, failures).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn polled(&mut self, consumer: &mut dyn Consumer, polled: Polled) -> Result<(), BackendError> {
        if let Some(drain) = &mut self.drain {
            drain.quiet = if matches!(polled, Polled::Nothing) { drain.quiet + 1 } else { 0 };
        }
        match polled {
            Polled::Nothing => {}
            Polled::Records(records) => self.hand_out(records),
            Polled::Assigned(offsets) => {
                for assigned in offsets {
                    self.assigned(consumer, assigned).await?;
                }
                self.ready = true;
            }
            Polled::Revoked(partitions) => self.revoked(consumer, &partitions).await?,
        }
        Ok(())
    }

    async fn assigned(&mut self, consumer: &mut dyn Consumer, assigned: Committed) -> Result<(), BackendError> {
        if assigned.partition.topic != self.sink.topic {
            return Ok(());
        }
        let number = assigned.partition.number;
        if let Some(old) = self.lanes.remove(&number) {
            old.task.abort();
        }
        self.epoch += 1;
        // Nothing is read before the lane says from where.
        consumer.pause(&assigned.partition, true).await?;
        let (commands, inbox) = unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            partition: assigned.partition,
            epoch: self.epoch,
            next: assigned.next,
            target: Arc::clone(&self.sink.target),
            log: Arc::clone(&self.context.backends.log),
            clock: self.context.clock.clone(),
            backoff: self.sink.backoff.clone(),
            refuser: self.refuser.clone(),
            commands: inbox,
            news: self.sender.clone(),
            queued: Arc::clone(&queued),
        };
        let task = self.tasks.spawn(worker.run());
        self.lanes.insert(
            number,
            Lane {
                epoch: self.epoch,
                commands,
                queued,
                task,
                position: assigned.next,
                done: assigned.next,
                committed: assigned.next,
                opened: false,
                paused: true,
                target: None,
                finishing: false,
                finished: false,
                stopped: None,
                trouble: None,
            },
        );
        Ok(())
    }

    /// Lets the lanes finish, commits, and gives the partitions up; what is not done in time is the next owner's.
    async fn revoked(&mut self, consumer: &mut dyn Consumer, partitions: &[Partition]) -> Result<(), BackendError> {
        let numbers: Vec<u32> = partitions.iter().map(|p| p.number).collect();
        for number in &numbers {
            if let Some(lane) = self.lanes.get_mut(number).filter(|l| l.opened && !l.finishing) {
                lane.finishing = true;
                lane.commands.send(Command::Finish).unwrap_or_default(); // a lane that ended has nothing to finish
            }
        }
        let deadline = Instant::now() + HAND_OVER;
        while numbers.iter().any(|n| self.lanes.get(n).is_some_and(|l| l.opened && !l.over())) {
            match tokio::time::timeout_at(deadline, self.news.recv()).await {
                Ok(Some(news)) => self.hear(news),
                Ok(None) | Err(_) => break,
            }
        }
        self.read_news();
        let committed = self.commit_all(consumer).await;
        for number in &numbers {
            if let Some(lane) = self.lanes.remove(number) {
                lane.task.abort();
            }
        }
        committed
    }

    fn hand_out(&mut self, records: Vec<Stored>) {
        let mut batches: BTreeMap<u32, Vec<Stored>> = BTreeMap::new();
        for record in records {
            let Some(lane) = self.lanes.get_mut(&record.partition.number) else { continue };
            let wanted = lane.opened && !lane.finishing && !lane.over() && record.offset >= lane.position;
            if !wanted || lane.target.is_some_and(|end| record.offset >= end) {
                continue;
            }
            lane.position = record.offset + 1;
            lane.queued.fetch_add(weight(&record), Ordering::Relaxed);
            batches.entry(record.partition.number).or_default().push(record);
        }
        for (number, batch) in batches {
            if let Some(lane) = self.lanes.get(&number) {
                // A lane that ended took its receiver with it; its news says why, and nothing it was sent is committed.
                lane.commands.send(Command::Records(batch)).unwrap_or_default();
            }
        }
    }

    fn read_news(&mut self) {
        while let Ok(news) = self.news.try_recv() {
            self.hear(news);
        }
    }

    fn hear(&mut self, news: News) {
        let Some(lane) = self.lanes.get_mut(&news.partition).filter(|l| l.epoch == news.epoch) else { return };
        match news.kind {
            Kind::Opened(start) => {
                lane.opened = true;
                lane.position = start;
                lane.done = start;
            }
            Kind::Progress { next, counts } => {
                lane.done = lane.done.max(next);
                self.totals.add(counts);
            }
            Kind::Trouble(message) => {
                let place = Partition { topic: self.sink.topic.clone(), number: news.partition };
                match (message, &lane.trouble) {
                    (None, None) => {}
                    (None, Some((since, _))) => {
                        self.context.reporter.line(&format!("{place} goes on; it waited since {since}"));
                        lane.trouble = None;
                    }
                    (Some(message), known) => {
                        if known.is_none() {
                            self.context.reporter.line(&format!("{place} waits: {message}"));
                        }
                        let since = known.as_ref().map_or(self.context.clock.now(), |(since, _)| *since);
                        lane.trouble = Some((since, message));
                    }
                }
            }
            Kind::Finished => lane.finished = true,
            Kind::Stopped(error) => {
                let place = Partition { topic: self.sink.topic.clone(), number: news.partition };
                tracing::error!(partition = %place, %error, "a sink stopped a partition");
                self.context.reporter.line(&format!("{place} stopped at offset {}: {error}", lane.done));
                lane.trouble = None;
                lane.stopped = Some(error);
            }
        }
    }

    /// Opens what may be read and holds back what has too much waiting.
    async fn flow(&mut self, consumer: &mut dyn Consumer) -> Result<(), BackendError> {
        let share = self.sink.in_flight / self.lanes.len().max(1);
        let topic = self.sink.topic.clone();
        for (number, lane) in &mut self.lanes {
            if !lane.opened {
                continue;
            }
            let waiting = lane.queued.load(Ordering::Relaxed);
            let held_back = lane.over() || lane.finishing || if lane.paused { waiting > share / 2 } else { waiting > share };
            if held_back == lane.paused {
                continue;
            }
            let partition = Partition { topic: topic.clone(), number: *number };
            if !held_back {
                // Also after a pause: what was read in between has been handed over up to the position.
                consumer.seek(&partition, lane.position).await?;
            }
            consumer.pause(&partition, held_back).await?;
            lane.paused = held_back;
        }
        Ok(())
    }

    /// How long the next poll may wait. Lanes that finish are waited for here, so that their end is noticed at once.
    async fn wait(&mut self) -> Duration {
        let finishing = self.lanes.values().any(|l| l.finishing && !l.over());
        let unopened = self.lanes.values().any(|l| !l.opened && !l.over());
        if finishing || unopened {
            if let Ok(Some(news)) = tokio::time::timeout(BUSY_POLL, self.news.recv()).await {
                self.hear(news);
            }
            return Duration::ZERO;
        }
        let most = LONGEST_POLL.div_f64(self.context.clock.speed().max(1.0)).max(Duration::from_millis(5));
        if self.lanes.values().all(Lane::idle) { most } else { most.min(BUSY_POLL) }
    }

    async fn commit(&mut self, consumer: &mut dyn Consumer) -> Result<(), BackendError> {
        if self.committed_at.is_some_and(|at| at.elapsed() < COMMIT_EVERY) {
            return Ok(());
        }
        self.commit_all(consumer).await
    }

    async fn commit_all(&mut self, consumer: &mut dyn Consumer) -> Result<(), BackendError> {
        let offsets: Vec<Committed> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.done > lane.committed)
            .map(|(number, lane)| Committed { partition: self.partition(*number), next: lane.done })
            .collect();
        if offsets.is_empty() {
            return Ok(());
        }
        self.committed_at = Some(Instant::now());
        match consumer.commit(&offsets).await {
            Ok(()) => offsets.iter().for_each(|o| self.committed(o)),
            // Nothing of the call counts then: find out which partition is no longer ours, and keep the others.
            Err(error) if error.kind == ErrorKind::Fenced => {
                for offset in &offsets {
                    match consumer.commit(std::slice::from_ref(offset)).await {
                        Ok(()) => self.committed(offset),
                        Err(error) if error.kind == ErrorKind::Fenced => {
                            tracing::info!(partition = %offset.partition, "a late commit was dropped: the partition has another owner");
                            if let Some(lane) = self.lanes.remove(&offset.partition.number) {
                                lane.task.abort();
                            }
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn committed(&mut self, offset: &Committed) {
        if let Some(lane) = self.lanes.get_mut(&offset.partition.number) {
            lane.committed = lane.committed.max(offset.next);
        }
    }

    fn asked_to_stop(&self) -> bool {
        self.context.stop.is_cancelled() || crate::steps::is_past(self.context.spec.deadline, self.context.clock.now())
    }

    fn start_drain(&mut self) {
        if self.drain.is_none() && self.asked_to_stop() {
            let step = &self.context.spec.step;
            // A little before the executor would kill the step, so that it can say what is left.
            let most = step.drain.unwrap_or_default() + step.stop.grace.mul_f64(0.8);
            let until = self.context.clock.now().checked_add(most).unwrap_or(Timestamp::MAX);
            self.drain = Some(Drain { until, quiet: 0 });
        }
    }

    fn past_drain(&self) -> bool {
        self.drain.as_ref().is_some_and(|d| self.context.clock.now() >= d.until)
    }

    /// Notices lanes that ended without a word; all partitions are then taken up again from their commits.
    fn reap(&mut self) -> Result<(), BackendError> {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                return Err(BackendError::new(ErrorKind::Unavailable, self.sink.program, format!("a lane broke: {error}"))
                    .remedy("this is a fault of openbell: report it with the step's output"));
            }
        }
        Ok(())
    }

    /// Reads where the drain ends: the log's end as it is now.
    async fn set_targets(&mut self) -> Result<(), BackendError> {
        let topic = self.context.backends.log.topic(&self.sink.topic).await?;
        let ends = topic.map(|t| t.partitions).unwrap_or_default();
        for (number, lane) in &mut self.lanes {
            if lane.target.is_none() {
                lane.target = Some(ends.get(*number as usize).map_or(0, |range| range.end));
            }
        }
        Ok(())
    }

    /// Tells lanes that have all they get to finish.
    fn finish_drained(&mut self) {
        for lane in self.lanes.values_mut() {
            let Some(end) = lane.target else { continue };
            if lane.opened && !lane.finishing && !lane.over() && lane.position >= end {
                lane.finishing = true;
                lane.commands.send(Command::Finish).unwrap_or_default(); // a lane that ended says so in its news
            }
        }
    }

    fn drained(&self) -> bool {
        let Some(drain) = &self.drain else { return false };
        if self.lanes.is_empty() {
            // Another member may own everything.
            return drain.quiet >= 3;
        }
        self.lanes.values().all(|l| l.target.is_some() && l.over())
    }

    async fn leave(&mut self, consumer: Box<dyn Consumer>) -> Result<serde_json::Value, StepError> {
        if let Err(error) = consumer.leave().await {
            // Everything is committed; the others take over a little later.
            tracing::warn!(%error, group = %self.sink.group, "could not leave the group");
        }
        self.tell(true);
        let stopped = self.lanes.iter().find_map(|(n, l)| l.stopped.as_ref().map(|e| (*n, l.done, e.clone())));
        if let Some((number, done, error)) = stopped {
            return Err(StepError::Failed(format!(
                "{} stopped at offset {done}: {error}; repair the store and start the step again, it goes on from there",
                self.partition(number)
            )));
        }
        if let Some((number, lane)) = self.lanes.iter().find(|(_, l)| !l.over()) {
            let why = lane.trouble.as_ref().map(|(_, m)| format!(": {m}")).unwrap_or_default();
            return Err(StepError::Failed(format!(
                "the drain time passed with {} at offset {} of {}{why}; nothing is lost, the next start goes on from there",
                self.partition(*number),
                lane.done,
                lane.target.unwrap_or(lane.position)
            )));
        }
        Ok(json!({
            "records": self.totals.records,
            "written": self.totals.written,
            "duplicates": self.totals.duplicates,
            "dead_letters": self.totals.dead_letters,
            "partitions": self.lanes.len(),
        }))
    }

    fn forget_lanes(&mut self) {
        for lane in std::mem::take(&mut self.lanes).into_values() {
            lane.task.abort();
        }
    }

    async fn wait_out(&mut self, error: &BackendError, failures: &mut u32) {
        *failures += 1;
        let since = self.trouble.as_ref().map_or_else(
            || {
                self.context.reporter.line(&format!("waits: {error}"));
                self.context.clock.now()
            },
            |(since, _)| *since,
        );
        self.trouble = Some((since, error.to_string()));
        self.start_drain();
        self.tell(true);
        let delay = self.sink.backoff.delay(*failures, hash(&self.refuser.connector) ^ u64::from(*failures));
        self.context.clock.sleep(delay).await;
    }

    fn tell(&mut self, now: bool) {
        let zone = crate::steps::zone(&self.context.spec);
        let at = |since: &Timestamp| crate::domain::trade::rfc3339(*since, &zone);
        let degraded = self
            .lanes
            .iter()
            .find_map(|(n, l)| l.stopped.as_ref().map(|e| format!("{} stopped: {e}", self.partition(*n))))
            .or_else(|| self.trouble.as_ref().map(|(since, m)| format!("since {}: {m}", at(since))))
            .or_else(|| {
                self.lanes.values().find_map(|l| l.trouble.as_ref().map(|(since, m)| format!("since {}: {m}", at(since))))
            });
        let recent = self.told.as_ref().is_some_and(|(when, ready, known)| {
            *ready == self.ready && known.is_some() == degraded.is_some() && when.elapsed() < STATUS_EVERY
        });
        if recent && !now {
            return;
        }
        let mut facts = serde_json::Map::new();
        let in_flight: usize = self.lanes.values().map(|l| l.queued.load(Ordering::Relaxed)).sum();
        for (name, value) in [
            ("records", self.totals.records),
            ("written", self.totals.written),
            ("duplicates", self.totals.duplicates),
            ("dead_letters", self.totals.dead_letters),
            ("partitions", self.lanes.len() as u64),
            ("waiting_bytes", in_flight as u64),
        ] {
            facts.insert(name.to_owned(), value.into());
        }
        facts.insert("group".to_owned(), self.sink.group.clone().into());
        self.told = Some((Instant::now(), self.ready, degraded.clone()));
        self.context.reporter.status(Status { ready: self.ready, degraded, facts });
    }
}
