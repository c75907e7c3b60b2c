//! One partition of a sink: takes records in order, writes them in batches, and tells the core up to where it
//! is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::dead_letters::{Refusal, Refuser, dead_letter, topic_of};
use backends::log::{Log, Partition, Record, Stored};
use backends::{BackendError, ErrorKind, Result};
use clock::Clock;
use domain::retry::{Backoff, hash};

/// What became of a record handed to a lane.
#[derive(Debug)]
pub enum Pushed {
    /// Buffered.
    Taken,
    /// Known already; nothing to write.
    Duplicate,
    /// What is buffered must be written first; then the record is handed over again.
    FlushFirst(Box<Stored>),
    /// It can never be written.
    Refused(Box<Stored>, Refusal),
}

/// When what is buffered wants to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing is buffered, everything taken so far is done.
    Idle,
    /// As soon as no more records are waiting.
    Quiet,
    /// At this time of the clock.
    At(Timestamp),
    /// Before anything else is taken.
    Now,
}

/// What a flush did.
#[derive(Debug, Default)]
pub struct Flushed {
    /// Records the store has now that it did not have before.
    pub written: u64,
    /// Records the store had already.
    pub existing: u64,
    /// Records it can never take.
    pub refused: Vec<(Stored, Refusal)>,
    /// What is left in the buffer.
    pub left: Left,
}

/// What a flush left in the buffer.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Left {
    /// Nothing: every record taken is done.
    #[default]
    Nothing,
    /// More, to be written at once.
    More,
    /// Records the store refuses for now, and its reason.
    Later(String),
}

/// One partition's way into a store.
#[async_trait]
pub trait Lane: Send {
    /// Takes the partition's next record. Never waits.
    fn push(&mut self, record: Stored) -> Pushed;

    /// When the buffer wants to be written.
    fn due(&self) -> Due;

    /// Writes what is buffered, or a part of it. After an error the buffer is as before, and the call can be
    /// repeated.
    async fn flush(&mut self) -> Result<Flushed>;

    /// The last flush is next: nothing more will be pushed.
    fn finish(&mut self) {}
}

/// Makes the lanes of a sink.
#[async_trait]
pub trait Target: Send + Sync {
    /// What is needed before the first record, for example an index template.
    async fn prepare(&self) -> Result<()>;

    /// The lane of a partition of which everything before `next` is done, and the offset it wants to start
    /// from.
    async fn lane(&self, partition: &Partition, next: u64) -> Result<(Box<dyn Lane>, u64)>;
}

/// To a lane's task.
#[derive(Debug)]
pub(super) enum Command {
    /// Take these, in order.
    Records(Vec<Stored>),
    /// Write what is buffered and end.
    Finish,
}

/// From a lane's task. `epoch` fences off news of a partition that was taken away since.
#[derive(Debug)]
pub(super) struct News {
    pub partition: u32,
    pub epoch: u64,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// It is ready for records from this offset on.
    Opened(u64),
    /// Everything before `next` is done.
    Progress { next: u64, counts: Counts },
    /// A store does not answer (or answers again: `None`).
    Trouble(Option<String>),
    /// It wrote everything it was given.
    Finished,
    /// It can do nothing more until a person acts.
    Stopped(BackendError),
}

/// What a lane did since its last news.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read from the log.
    pub records: u64,
    /// Written.
    pub written: u64,
    /// Already there, or seen before.
    pub duplicates: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.written += other.written;
        self.duplicates += other.duplicates;
        self.dead_letters += other.dead_letters;
    }
}

/// A batch goes out when no record has arrived for this long. Real time: it hides how the log hands records
/// out, and must not add to the lag of a day that is played fast.
const LINGER: Duration = Duration::from_millis(4);

/// Bytes a record holds while it waits.
pub(super) fn weight(record: &Stored) -> usize {
    let r = &record.record;
    r.value.len()
        + r.key.as_ref().map_or(0, Vec::len)
        + r.headers.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
        + 128
}

/// What a lane's task works with.
pub(super) struct Worker {
    pub partition: Partition,
    pub epoch: u64,
    pub next: u64,
    pub target: Arc<dyn Target>,
    pub log: Arc<dyn Log>,
    pub clock: Clock,
    pub backoff: Backoff,
    pub refuser: Refuser,
    pub commands: UnboundedReceiver<Command>,
    pub news: UnboundedSender<News>,
    /// Bytes handed over and not yet taken.
    pub queued: Arc<AtomicUsize>,
}

impl Worker {
    fn tell(&self, kind: Kind) {
        // The core is gone only when the whole step is: then nobody is left to tell.
        self.news
            .send(News { partition: self.partition.number, epoch: self.epoch, kind })
            .unwrap_or_default();
    }

    /// Lives until it is told to finish, its store refuses for good, or the core is gone.
    pub(super) async fn run(mut self) {
        match self.live().await {
            Ok(()) => self.tell(Kind::Finished),
            Err(error) => self.tell(Kind::Stopped(error)),
        }
    }

    async fn live(&mut self) -> Result<()> {
        let mut lane = self.open().await?;
        let mut state = Progress { reached: self.next, counts: Counts::default() };
        loop {
            let command = match lane.due() {
                Due::Now => None,
                Due::Idle => {
                    self.report(&mut state);
                    match self.commands.recv().await {
                        Some(command) => Some(command),
                        None => return Ok(()),
                    }
                }
                Due::Quiet => match tokio::time::timeout(LINGER, self.commands.recv()).await {
                    Ok(Some(command)) => Some(command),
                    Ok(None) => return Ok(()),
                    Err(_quiet) => None,
                },
                Due::At(at) => tokio::select! {
                    command = self.commands.recv() => match command {
                        Some(command) => Some(command),
                        None => return Ok(()),
                    },
                    () = self.clock.sleep_until(at) => None,
                },
            };
            match command {
                None => self.flush(lane.as_mut(), &mut state).await?,
                Some(Command::Records(records)) => {
                    for record in records {
                        self.take(lane.as_mut(), &mut state, record).await?;
                    }
                }
                Some(Command::Finish) => {
                    lane.finish();
                    self.flush(lane.as_mut(), &mut state).await?;
                    return Ok(());
                }
            }
        }
    }

    async fn open(&mut self) -> Result<Box<dyn Lane>> {
        let mut failures = 0;
        loop {
            match self.target.lane(&self.partition, self.next).await {
                Ok((lane, start)) => {
                    self.next = start;
                    self.tell(Kind::Trouble(None));
                    self.tell(Kind::Opened(start));
                    return Ok(lane);
                }
                Err(error) => self.wait_out(error, &mut failures).await?,
            }
        }
    }

    async fn take(&mut self, lane: &mut dyn Lane, state: &mut Progress, record: Stored) -> Result<()> {
        let (offset, size) = (record.offset, weight(&record));
        let mut record = record;
        loop {
            match lane.push(record) {
                Pushed::Taken => break,
                Pushed::Duplicate => {
                    state.counts.duplicates += 1;
                    break;
                }
                Pushed::Refused(refused, refusal) => {
                    self.write_dead_letter(state, *refused, &refusal).await?;
                    break;
                }
                Pushed::FlushFirst(back) => {
                    self.flush(lane, state).await?;
                    record = *back;
                }
            }
        }
        state.counts.records += 1;
        state.reached = offset + 1;
        self.queued.fetch_sub(size, Ordering::Relaxed);
        if lane.due() == Due::Now {
            self.flush(lane, state).await?;
        }
        Ok(())
    }

    /// Writes everything buffered, however often the store has to be asked.
    async fn flush(&mut self, lane: &mut dyn Lane, state: &mut Progress) -> Result<()> {
        let mut failures = 0;
        loop {
            match lane.flush().await {
                Ok(flushed) => {
                    state.counts.written += flushed.written;
                    state.counts.duplicates += flushed.existing;
                    let some = flushed.written + flushed.existing > 0 || !flushed.refused.is_empty();
                    for (record, refusal) in flushed.refused {
                        self.write_dead_letter(state, record, &refusal).await?;
                    }
                    match flushed.left {
                        Left::Nothing => break,
                        Left::More => {}
                        Left::Later(reason) => {
                            if some {
                                failures = 0;
                            }
                            self.wait_out(
                                BackendError::new(ErrorKind::Busy, self.refuser.program.clone(), reason),
                                &mut failures,
                            )
                            .await?;
                        }
                    }
                }
                Err(error) => self.wait_out(error, &mut failures).await?,
            }
        }
        if failures > 0 {
            self.tell(Kind::Trouble(None));
        }
        self.report(state);
        Ok(())
    }

    /// Writes a dead letter; returns when it is acknowledged.
    async fn write_dead_letter(
        &mut self,
        state: &mut Progress,
        record: Stored,
        refusal: &Refusal,
    ) -> Result<()> {
        let topic = topic_of(&self.partition.topic);
        let place = format!("{} offset {}", self.partition, record.offset);
        let letter: Record = dead_letter(&self.refuser, record, refusal, self.clock.now());
        let mut failures = 0;
        loop {
            match self.log.append(&topic, vec![letter.clone()]).await {
                Ok(_) => break,
                Err(error) if error.kind == ErrorKind::NotFound => {
                    // Without its dead-letter topic a record could only be skipped or block the partition for
                    // ever.
                    if let Err(error) = self.log.create_topic(&topic, 1).await {
                        self.wait_out(error, &mut failures).await?;
                    }
                }
                Err(error) => self.wait_out(error, &mut failures).await?,
            }
        }
        if failures > 0 {
            self.tell(Kind::Trouble(None));
        }
        tracing::warn!(record = %place, cause = %refusal.cause, reason = %refusal.message, "dead letter");
        state.counts.dead_letters += 1;
        Ok(())
    }

    /// Says what is wrong and waits before the next try.
    ///
    /// # Errors
    /// Gives the error back when trying again is useless.
    async fn wait_out(&self, error: BackendError, failures: &mut u32) -> Result<()> {
        if !error.is_transient() {
            return Err(error);
        }
        *failures += 1;
        self.tell(Kind::Trouble(Some(error.to_string())));
        let spread =
            hash(&self.refuser.connector) ^ u64::from(self.partition.number) << 32 ^ u64::from(*failures);
        self.clock.sleep(self.backoff.delay(*failures, spread)).await;
        Ok(())
    }

    fn report(&self, state: &mut Progress) {
        let counts = std::mem::take(&mut state.counts);
        if counts != Counts::default() {
            self.tell(Kind::Progress { next: state.reached, counts });
        }
    }
}

struct Progress {
    /// Offset after the last record taken.
    reached: u64,
    /// What happened since the last report.
    counts: Counts,
}
