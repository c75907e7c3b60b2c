//! The core of every sink: group membership, hand-out to lanes, back-pressure, commits, drain.
//!
//! One task owns the consumer; each partition's lane is a task of its own, so a slow store holds up its
//! partition only. The consumer is polled in short waits and never dropped in the middle of one: a poll may
//! already hold records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::assignment::LaneHandle;
use super::lane::{Command, Counts, News, Target};
use crate::dead_letters::Refuser;
use crate::{Context, StepError};
use backends::log::{Committed, Consumer, Partition, Polled, Range};
use backends::{BackendError, ErrorKind};
use domain::parameters::Parameters;
use domain::program::Program;
use domain::retry::{Backoff, hash};

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
    const IN_FLIGHT: usize = 16 << 20;
    /// Default of [`Sink::backoff`].
    const BACKOFF: Backoff =
        Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(30), jitter: true };

    /// The sink of a step whose parameters have the topic and the group.
    ///
    /// # Errors
    /// When one of the two cannot be read.
    pub(crate) fn of(
        program: &Program,
        parameters: &Parameters<'_>,
        context: &Context,
        target: impl Target + 'static,
    ) -> Result<Self, StepError> {
        let group = parameters.optional_text("group")?;
        Ok(Self {
            program: program.name,
            topic: parameters.text("topic")?,
            group: group.unwrap_or_else(|| crate::group(&context.spec)),
            target: Arc::new(target),
            in_flight: Self::IN_FLIGHT,
            backoff: Self::BACKOFF,
        })
    }
}

/// Commits are at least this far apart while records keep coming (real time).
const COMMIT_EVERY: Duration = Duration::from_millis(20);
/// Longest real wait of a poll; it bounds how late a stop and a lane's news are noticed.
const LONGEST_POLL: Duration = Duration::from_millis(200);
/// The same while records are being written.
const BUSY_POLL: Duration = Duration::from_millis(20);

/// Runs a sink until its context is stopped, then drains to the end the log had at that moment.
///
/// # Errors
/// When the target cannot be prepared, when a lane had to stop for good, when the drain time passed before
/// everything was written, or when another attempt of the step has taken over. What is written is committed,
/// or written again by whoever goes on; nothing is skipped.
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

pub(super) struct Drain {
    /// When it is given up, in the clock's time.
    pub(super) until: Timestamp,
    /// Per partition of the topic, the offsets it held when the stop arrived: where the drain ends.
    pub(super) ends: Option<Vec<Range>>,
    /// The group has committed up to there.
    pub(super) complete: bool,
}

pub(super) struct Core {
    pub(super) context: Context,
    pub(super) sink: Sink,
    pub(super) refuser: Refuser,
    pub(super) sender: UnboundedSender<News>,
    pub(super) news: UnboundedReceiver<News>,
    pub(super) lanes: BTreeMap<u32, LaneHandle>,
    pub(super) tasks: JoinSet<()>,
    pub(super) epoch: u64,
    pub(super) totals: Counts,
    /// The log itself does not answer.
    pub(super) trouble: Option<(Timestamp, String)>,
    pub(super) ready: bool,
    pub(super) told: Option<(Instant, bool, Option<String>)>,
    pub(super) committed_at: Option<Instant>,
    pub(super) drain: Option<Drain>,
}

impl Core {
    pub(super) fn partition(&self, number: u32) -> Partition {
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
                Err(error) if error.is_transient() && !self.past_drain() => {
                    self.wait_out(&error, &mut failures).await
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn live(&mut self) -> Result<serde_json::Value, StepError> {
        let mut failures = 0;
        let name = crate::member(&self.context.spec);
        loop {
            // Lanes of an earlier membership may still write; what they write is idempotent and they can
            // commit nothing.
            self.forget_lanes();
            match self
                .context
                .backends
                .log
                .join(&self.sink.group, std::slice::from_ref(&self.sink.topic), Some(&name))
                .await
            {
                Ok(mut consumer) => {
                    if self.trouble.take().is_some() {
                        self.context.reporter.line("the log answers again");
                    }
                    match self.member(consumer.as_mut(), &mut failures).await {
                        Ok(()) => return self.leave(consumer).await,
                        // Joining again would take the place back, and so on without an end.
                        Err(error) if error.kind == ErrorKind::Replaced => return Err(self.replaced(&error)),
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
        loop {
            self.read_news();
            self.reap()?;
            self.start_drain();
            self.set_targets().await?;
            self.commit(consumer).await?;
            self.finish_drained();
            self.tell(false);
            if self.drained(consumer).await? {
                return Ok(());
            }
            if self.past_drain() {
                self.commit_all(consumer).await?;
                return Ok(());
            }
            self.flow(consumer).await?;
            let wait = self.wait().await;
            // A poll whose reply was lost may have handed out records or moved partitions that nobody knows
            // of now: after any failure the group is joined anew, and reading starts from the commits.
            let polled = consumer.poll(wait).await?;
            *failures = 0;
            self.polled(consumer, polled).await?;
        }
    }

    async fn polled(&mut self, consumer: &mut dyn Consumer, polled: Polled) -> Result<(), BackendError> {
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

    /// How long the next poll may wait. Lanes that finish are waited for here, so that their end is noticed
    /// at once.
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
        if self.lanes.values().all(LaneHandle::idle) { most } else { most.min(BUSY_POLL) }
    }

    async fn commit(&mut self, consumer: &mut dyn Consumer) -> Result<(), BackendError> {
        if self.committed_at.is_some_and(|at| at.elapsed() < COMMIT_EVERY) {
            return Ok(());
        }
        self.commit_all(consumer).await
    }

    pub(super) async fn commit_all(&mut self, consumer: &mut dyn Consumer) -> Result<(), BackendError> {
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
            // Nothing of the call counts then: find out which partition is no longer ours, and keep the
            // others.
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
        self.context.stop.is_cancelled()
            || crate::is_past(self.context.spec.deadline, self.context.clock.now())
    }

    fn start_drain(&mut self) {
        if self.drain.is_none() && self.asked_to_stop() {
            self.drain = Some(Drain { until: self.context.end_of_stop(), ends: None, complete: false });
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
                return Err(BackendError::new(
                    ErrorKind::Unavailable,
                    self.sink.program,
                    format!("a lane broke: {error}"),
                )
                .remedy("this is a fault of openbell: report it with the step's output"));
            }
        }
        Ok(())
    }

    /// Reads, once, where the drain ends: the log's end as it is now.
    async fn set_targets(&mut self) -> Result<(), BackendError> {
        let Some(drain) = &mut self.drain else { return Ok(()) };
        let ends = match &drain.ends {
            Some(ends) => ends,
            None => {
                let topic = self.context.backends.log.topic(&self.sink.topic).await?;
                drain.ends.insert(topic.map(|t| t.partitions).unwrap_or_default())
            }
        };
        for (number, lane) in &mut self.lanes {
            lane.target = Some(ends.get(*number as usize).map_or(0, |range| range.end));
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

    /// Whether every partition of the topic is committed to where the drain ends. That may be the work of
    /// other members, or of ours once a member that died lets go: not having been given a partition is no
    /// reason to call it drained.
    async fn drained(&mut self, consumer: &mut dyn Consumer) -> Result<bool, BackendError> {
        if self.drain.as_ref().is_none_or(|d| d.ends.is_none()) || !self.lanes.values().all(LaneHandle::over)
        {
            return Ok(false);
        }
        self.commit_all(consumer).await?;
        let groups = self.context.backends.log.groups().await?;
        let commits = groups
            .into_iter()
            .find(|(group, _)| *group == self.sink.group)
            .map(|(_, commits)| commits)
            .unwrap_or_default();
        let committed = |number: usize| {
            commits
                .iter()
                .find(|c| c.partition.topic == self.sink.topic && c.partition.number as usize == number)
                .map_or(0, |c| c.next)
        };
        let Some(drain) = &mut self.drain else { return Ok(false) };
        let mut ends = drain.ends.iter().flatten().enumerate();
        drain.complete = ends.all(|(number, range)| committed(number).max(range.start) >= range.end);
        Ok(drain.complete || self.lanes.values().any(|l| l.stopped.is_some()))
    }

    pub(super) fn forget_lanes(&mut self) {
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
}
