//! A member of a group: a thread that owns the library's consumer.
//!
//! The library tells of gains and losses of partitions inside of its poll, and takes the end of that call as
//! the member's consent. So the thread answers the member's own poll from within ([`Membership::tell_all`]),
//! goes on serving commits and seeks, and lets the library have its consent when the member polls again.
//! Partitions that stay are never interrupted, since the hand-over is cooperative: it takes from a member
//! only what another one is to get.

mod offsets;
mod place;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::oneshot;

use super::cluster::Cluster;
use super::errors::{self, LastError};
use super::names::Name;
use super::reader::BATCH_BYTES;
use super::records;
use super::settings::HAND_OVER;
use super::watch::Watch;
use crate::log::{Committed, Partition, Polled, Stored};
use crate::{BackendError, ErrorKind, Result};

/// Most records of one poll.
const BATCH_RECORDS: usize = 1000;
/// How late a question that interrupts a poll, or a fault, is noticed.
const SLICE: Duration = Duration::from_millis(50);

/// A poll that waits for its answer.
pub(super) struct Poll {
    pub(super) until: Instant,
    pub(super) reply: oneshot::Sender<Result<Polled>>,
}

/// What the runtime's side asks.
pub(super) enum Command {
    Poll(Poll),
    Commit { offsets: Vec<Committed>, reply: oneshot::Sender<Result<()>> },
    Seek { partition: Partition, offset: u64, reply: oneshot::Sender<Result<()>> },
    Pause { partition: Partition, paused: bool, reply: oneshot::Sender<Result<()>> },
    Leave { reply: oneshot::Sender<Result<()>> },
}

/// A partition that is this member's.
pub(super) struct Position {
    /// Offset after the last record handed out.
    pub(super) next: u64,
    /// The topic's id when the partition was assigned; empty if there is none.
    pub(super) id: String,
}

/// What the thread knows, also from within the library's calls.
#[derive(Default)]
pub(super) struct State {
    pub(super) owned: BTreeMap<Partition, Position>,
    poll: Option<Poll>,
    /// Records that no poll has been given yet.
    batch: Vec<Stored>,
    /// News that no poll has been given yet.
    told: VecDeque<Polled>,
    /// When the library was last polled.
    polled: Option<Instant>,
    /// This membership is of no use any more.
    broken: Option<BackendError>,
    /// The member wants to leave, or is gone.
    leaving: Option<oneshot::Sender<Result<()>>>,
    gone: bool,
    /// The membership is to begin anew.
    renew: bool,
}

impl State {
    /// What no poll has been given yet, in order: the library moves partitions only after the records it
    /// brought before.
    fn news(&mut self) -> Option<Polled> {
        if self.batch.is_empty() {
            self.told.pop_front()
        } else {
            Some(Polled::Records(std::mem::take(&mut self.batch)))
        }
    }
}

/// What the library's calls back are given.
#[derive(Clone)]
pub(super) struct Membership(Arc<Inner>);

pub(super) struct Inner {
    pub(super) place: String,
    pub(super) cluster: Arc<Cluster>,
    group: String,
    topics: Vec<String>,
    name: Option<Name>,
    watch: Arc<Watch>,
    pub(super) last_error: LastError,
    commands: Mutex<Receiver<Command>>,
    state: Mutex<State>,
    /// The library's consumer is being closed: nobody is asked any more.
    closing: AtomicBool,
}

pub(super) type Client = BaseConsumer<Membership>;

impl std::ops::Deref for Membership {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What is fatal to the client is told by the next poll.
        let level = if facility == "FATAL" { RDKafkaLogLevel::Warning } else { level };
        errors::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.last_error.record(&error, reason);
    }
}

impl ConsumerContext for Membership {
    fn rebalance(&self, client: &Client, news: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let gain = news == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if !self.closing.load(Ordering::Relaxed) {
            if gain { self.gained(client, list) } else { self.losing(client, list) }
        }
        let cooperative = matches!(client.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = match (gain, cooperative) {
            (true, true) => client.incremental_assign(list),
            (true, false) => client.assign(list),
            (false, true) => client.incremental_unassign(list),
            (false, false) => client.unassign(),
        };
        if let Err(error) = done {
            tracing::debug!(%error, group = self.group, "kafka did not take a change of partitions");
        }
    }
}

impl Membership {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        watch: Arc<Watch>,
        group: &str,
        topics: &[String],
        name: Option<Name>,
        commands: Receiver<Command>,
    ) -> Self {
        Self(Arc::new(Inner {
            place: format!("{} group {group}", cluster.settings.place),
            cluster,
            group: group.to_owned(),
            topics: topics.to_vec(),
            name,
            watch,
            last_error: LastError::default(),
            commands: Mutex::new(commands),
            state: Mutex::default(),
            closing: AtomicBool::new(false),
        }))
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// A consumer that is about to join.
    pub(super) fn client(&self) -> Result<Client> {
        let fail = |e: KafkaError| self.last_error.explain(&self.place, &e);
        let settings = self.cluster.settings.joining(&self.group, self.name.as_ref().map(Name::as_str))?;
        let client = Client::from_config_and_context(&settings, self.clone()).map_err(fail)?;
        let topics: Vec<_> = self.topics.iter().map(String::as_str).collect();
        client.subscribe(&topics).map_err(fail)?;
        Ok(client)
    }

    /// The thread.
    pub(super) fn run(self, mut client: Client) {
        loop {
            while !self.state().renew && self.attend(&client) {}
            if !self.state().renew {
                break;
            }
            let replaced = self.replaced_meanwhile(&client);
            // Under a name too it joins as a new member, since partitions of another topic are to be spread.
            if let Err(error) = self.close(client) {
                tracing::warn!(%error, "a member that joins anew could not leave first");
            }
            self.closing.store(false, Ordering::Relaxed);
            let fresh = replaced.map_or_else(|| self.client(), Err);
            let mut state = self.state();
            state.renew = false;
            state.polled = None;
            let lost: Vec<_> = std::mem::take(&mut state.owned).into_keys().collect();
            state.batch.clear();
            if !lost.is_empty() {
                state.told.push_back(Polled::Revoked(lost));
            }
            match fresh {
                Ok(fresh) => client = fresh,
                Err(error) => {
                    state.broken = Some(error);
                    drop(state);
                    while self.serve_without_client() {}
                    return self.left(Ok(()));
                }
            }
        }
        let outcome = self.close(client);
        self.left(outcome);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    fn over(&self) -> bool {
        let state = self.state();
        state.gone || state.leaving.is_some()
    }

    /// Takes the next question and sees to it. False when there will be no more.
    fn attend(&self, client: &Client) -> bool {
        if self.state().poll.is_none() {
            match self.next(None) {
                Some(command) => self.serve(client, command),
                None => self.state().gone = true,
            }
        }
        if !self.over() && self.state().poll.is_some() {
            self.poll(client);
        }
        !self.over()
    }

    /// After a failure to begin anew: every poll says so.
    fn serve_without_client(&self) -> bool {
        let error = self
            .state()
            .broken
            .clone()
            .unwrap_or_else(|| BackendError::new(ErrorKind::Unavailable, &self.place, "left"));
        if let Some(poll) = self.state().poll.take() {
            poll.reply.send(Err(error.clone())).unwrap_or_default(); // a dropped poll
        }
        match self.next(None) {
            Some(Command::Poll(poll)) => self.state().poll = Some(poll),
            Some(
                Command::Commit { reply, .. } | Command::Seek { reply, .. } | Command::Pause { reply, .. },
            ) => {
                reply.send(Err(error)).unwrap_or_default(); // a dropped call
            }
            Some(Command::Leave { reply }) => self.state().leaving = Some(reply),
            None => return false,
        }
        !self.over()
    }

    /// The next question; `None` when the member is gone, or has not asked in time.
    fn next(&self, deadline: Option<Instant>) -> Option<Command> {
        let commands = self.commands.lock();
        match deadline {
            None => commands.recv().ok(),
            Some(deadline) => match commands.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    self.state().gone = true;
                    None
                }
            },
        }
    }

    fn serve(&self, client: &Client, command: Command) {
        // A dropped call has nobody waiting for its answer.
        match command {
            Command::Poll(poll) => self.state().poll = Some(poll),
            Command::Commit { offsets, reply } => {
                reply.send(self.commit(client, &offsets)).unwrap_or_default()
            }
            Command::Seek { partition, offset, reply } => {
                reply.send(self.seek(client, &partition, offset)).unwrap_or_default();
            }
            Command::Pause { partition, paused, reply } => {
                reply.send(self.pause(client, &partition, paused)).unwrap_or_default();
            }
            Command::Leave { reply } => self.state().leaving = Some(reply),
        }
    }

    fn answer(&self, answer: Result<Polled>) {
        if let Some(poll) = self.state().poll.take() {
            // The other side keeps its end until it is answered, whatever becomes of the caller.
            poll.reply.send(answer).unwrap_or_default();
        }
    }

    /// Sees to a poll until it is answered.
    fn poll(&self, client: &Client) {
        loop {
            let (until, ready) = {
                let mut state = self.state();
                let Some(poll) = &state.poll else { return };
                let until = poll.until;
                (until, Self::ready(&mut state))
            };
            if let Some(answer) = ready {
                return self.answer(answer);
            }
            // A question while a poll waits: the poll's caller has dropped it.
            let asked = self.commands.lock().try_recv();
            match asked {
                Ok(command) => {
                    self.answer(Ok(Polled::Nothing));
                    return self.serve(client, command);
                }
                Err(TryRecvError::Disconnected) => {
                    self.state().gone = true;
                    return;
                }
                Err(TryRecvError::Empty) => {}
            }
            if self.renewal() {
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            let brought = self.fetch(client, left.min(SLICE));
            if self.state().renew || self.over() {
                return;
            }
            if !brought && left.is_zero() {
                // A silent cluster is told of at the end of the wait: whoever asks again at once must not
                // spin.
                return self.answer(self.watch.fault().map_or(Ok(Polled::Nothing), Err));
            }
        }
    }

    /// What can be told at once.
    fn ready(state: &mut State) -> Option<Result<Polled>> {
        if let Some(news) = state.news() {
            return Some(Ok(news));
        }
        state.broken.clone().map(Err)
    }

    /// Whether a topic was made anew, so that positions in it mean nothing any more.
    fn renewal(&self) -> bool {
        let mut state = self.state();
        state.renew |=
            state.owned.iter().any(|(partition, position)| self.watch.remade(&partition.topic, &position.id));
        state.renew
    }

    /// Takes what the library has, up to a batch; whether there was anything.
    fn fetch(&self, client: &Client, wait: Duration) -> bool {
        let mut bytes = 0;
        let mut count = 0;
        let mut wait = wait;
        while count < BATCH_RECORDS && bytes < BATCH_BYTES && !self.was_silent() {
            let polled = client.poll(wait);
            if self.was_silent() {
                break;
            }
            match polled {
                None => break,
                Some(Ok(message)) => match records::stored(&self.cluster.settings.place, &message) {
                    Ok(stored) => {
                        self.last_error.forget();
                        count += 1;
                        bytes += records::weight(&stored.record);
                        let mut state = self.state();
                        if let Some(position) =
                            state.owned.get_mut(&stored.partition).filter(|p| stored.offset >= p.next)
                        {
                            position.next = stored.offset + 1;
                            state.batch.push(stored);
                        }
                    }
                    Err(error) => {
                        self.state().broken = Some(error);
                        break;
                    }
                },
                Some(Err(error)) => {
                    self.failed(client, &error);
                    break;
                }
            }
            wait = Duration::ZERO;
        }
        count > 0
    }

    fn failed(&self, client: &Client, error: &KafkaError) {
        if let Some(replaced) = self.replaced(client) {
            return self.end(replaced);
        }
        let mut state = self.state();
        match error.rdkafka_error_code() {
            Some(Code::PollExceeded) if self.name.is_some() => {
                drop(state);
                self.put_out();
            }
            Some(code) if errors::passing(code) => {}
            // Retention went past this member, or the partition lost its end: where to go on is found out by
            // assigning anew.
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => {
                tracing::warn!(group = self.group, %error, "a position is out of range; the group is joined anew");
                state.renew = true;
            }
            _ => state.broken = Some(self.last_error.explain(&self.place, error)),
        }
    }

    /// Tells all there is to tell from within the library's call, and waits for the poll after it. False when
    /// the member does not poll in time; what it has not been told then, it is told later.
    fn tell_all(&self, client: &Client, deadline: Instant) -> bool {
        while self.asked(client, deadline) {
            let next = self.state().news();
            match next {
                Some(news) => self.answer(Ok(news)),
                None => return true,
            }
        }
        false
    }

    /// Serves questions until the member polls. False when it does not in time.
    fn asked(&self, client: &Client, deadline: Instant) -> bool {
        while self.state().poll.is_none() {
            match self.next(Some(deadline)) {
                Some(command) => self.serve(client, command),
                None => return false,
            }
            if self.over() {
                return false;
            }
        }
        true
    }

    fn losing(&self, client: &Client, list: &TopicPartitionList) {
        let partitions: Vec<_> = {
            let state = self.state();
            partitions_of(list).into_iter().filter(|p| state.owned.contains_key(p)).collect()
        };
        if partitions.is_empty() {
            return;
        }
        let forget = || {
            let mut state = self.state();
            for partition in &partitions {
                state.owned.remove(partition);
            }
            state.batch.retain(|stored| !partitions.contains(&stored.partition));
        };
        if client.assignment_lost() {
            // Others may have them already.
            forget();
            self.state().told.push_back(Polled::Revoked(partitions));
            return;
        }
        self.state().told.push_back(Polled::Revoked(partitions.clone()));
        // The poll after the news is the consent.
        if !self.tell_all(client, Instant::now() + HAND_OVER) {
            tracing::debug!(group = self.group, "a member did not give up its partitions in time");
        }
        forget();
    }
}

/// The partitions of a list.
pub(super) fn partitions_of(list: &TopicPartitionList) -> Vec<Partition> {
    let elements = list.elements();
    let known = elements.iter().filter_map(|e| {
        Some(Partition { topic: e.topic().to_owned(), number: u32::try_from(e.partition()).ok()? })
    });
    known.collect()
}
