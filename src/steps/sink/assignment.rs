//! Who has what: partitions come and go, records are handed to their lanes, lanes report back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::core::Core;
use super::lane::{Command, Kind, News, Worker, weight};
use backends::BackendError;
use backends::log::{Committed, Consumer, Partition, Stored};

/// Real time a lane has to finish when its partition is about to be someone else's.
const HAND_OVER: Duration = Duration::from_secs(5);

/// The core's side of a lane.
pub(super) struct LaneHandle {
    pub(super) epoch: u64,
    pub(super) commands: UnboundedSender<Command>,
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) task: tokio::task::AbortHandle,
    /// Offset after the last record handed over.
    pub(super) position: u64,
    /// Everything before is done.
    pub(super) done: u64,
    /// Everything before is committed.
    pub(super) committed: u64,
    pub(super) opened: bool,
    pub(super) paused: bool,
    /// Where the drain ends.
    pub(super) target: Option<u64>,
    pub(super) finishing: bool,
    pub(super) finished: bool,
    pub(super) stopped: Option<BackendError>,
    pub(super) trouble: Option<(Timestamp, String)>,
}

impl LaneHandle {
    pub(super) fn over(&self) -> bool {
        self.finished || self.stopped.is_some()
    }
    pub(super) fn idle(&self) -> bool {
        self.position == self.done
    }
}

impl Core {
    pub(super) async fn assigned(
        &mut self,
        consumer: &mut dyn Consumer,
        assigned: Committed,
    ) -> Result<(), BackendError> {
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
            LaneHandle {
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

    /// Lets the lanes finish, commits, and gives the partitions up; what is not done in time is the next
    /// owner's.
    pub(super) async fn revoked(
        &mut self,
        consumer: &mut dyn Consumer,
        partitions: &[Partition],
    ) -> Result<(), BackendError> {
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

    pub(super) fn hand_out(&mut self, records: Vec<Stored>) {
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
                // A lane that ended took its receiver with it; its news says why, and nothing it was sent is
                // committed.
                lane.commands.send(Command::Records(batch)).unwrap_or_default();
            }
        }
    }

    pub(super) fn read_news(&mut self) {
        while let Ok(news) = self.news.try_recv() {
            self.hear(news);
        }
    }

    pub(super) fn hear(&mut self, news: News) {
        let Some(lane) = self.lanes.get_mut(&news.partition).filter(|l| l.epoch == news.epoch) else {
            return;
        };
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
    pub(super) async fn flow(&mut self, consumer: &mut dyn Consumer) -> Result<(), BackendError> {
        let share = self.sink.in_flight / self.lanes.len().max(1);
        let topic = self.sink.topic.clone();
        for (number, lane) in &mut self.lanes {
            if !lane.opened {
                continue;
            }
            let waiting = lane.queued.load(Ordering::Relaxed);
            let held_back = lane.over()
                || lane.finishing
                || if lane.paused { waiting > share / 2 } else { waiting > share };
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
}
