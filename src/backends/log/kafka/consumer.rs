//! The runtime's side of a member: questions go to the member's thread, answers come back.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::member::{Command, Poll};
use crate::log::{Committed, Consumer, Partition, Polled};
use crate::{BackendError, ErrorKind, Result};

/// Longest wait for an answer of the member's thread; beyond all its own waits for the cluster.
const CALL: Duration = Duration::from_secs(25);
/// How much later than asked for a poll may end, so that as a rule the thread is free again when it does.
const SLACK: Duration = Duration::from_millis(100);

/// Longest wait of a poll.
const LONGEST: Duration = Duration::from_secs(86_400);

/// See the module. A dropped poll goes on in the thread; what it brings is kept for the next one.
pub(super) struct KafkaConsumer {
    place: String,
    commands: mpsc::Sender<Command>,
    running: Option<oneshot::Receiver<Result<Polled>>>,
    ready: VecDeque<Result<Polled>>,
}

impl KafkaConsumer {
    pub(super) fn new(place: String, commands: mpsc::Sender<Command>) -> Self {
        Self { place, commands, running: None, ready: VecDeque::new() }
    }

    fn over(&self) -> BackendError {
        BackendError::new(ErrorKind::Unavailable, &self.place, "the member's thread has ended")
            .remedy("join the group anew")
    }

    fn late(&self) -> BackendError {
        BackendError::new(
            ErrorKind::Unavailable,
            &self.place,
            format!("no answer within {} s", CALL.as_secs()),
        )
        .remedy("see whether the brokers run and can be reached from here")
    }

    fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| self.over())
    }

    async fn ask<T>(&mut self, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        let answer = timeout(CALL, answer).await.map_err(|_| self.late())?.map_err(|_| self.over())?;
        self.collect();
        answer
    }

    /// Takes what a poll brought that nobody waited for. The thread has answered it before any later
    /// question.
    fn collect(&mut self) {
        if let Some(running) = &mut self.running
            && let Ok(brought) = running.try_recv()
        {
            self.running = None;
            if brought != Ok(Polled::Nothing) {
                self.ready.push_back(brought);
            }
        }
    }

    /// Takes records of a partition out of what waits for the next poll; returns the first offset.
    fn take_back(&mut self, partition: &Partition) -> Option<u64> {
        let mut first = None;
        for ready in &mut self.ready {
            if let Ok(Polled::Records(records)) = ready {
                for stored in records.iter().filter(|s| s.partition == *partition) {
                    first = Some(first.unwrap_or(stored.offset).min(stored.offset));
                }
                records.retain(|s| s.partition != *partition);
            }
        }
        self.ready.retain(|r| !matches!(r, Ok(Polled::Records(records)) if records.is_empty()));
        first
    }
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn poll(&mut self, wait: Duration) -> Result<Polled> {
        let deadline = Instant::now() + wait.min(LONGEST);
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return ready;
            }
            if self.running.is_none() {
                let (reply, answer) = oneshot::channel();
                self.send(Command::Poll(Poll { until: deadline.into_std(), reply }))?;
                self.running = Some(answer);
            }
            let Some(running) = &mut self.running else { continue };
            match timeout_at(deadline + SLACK, running).await {
                Err(_) => return Ok(Polled::Nothing),
                Ok(answer) => {
                    self.running = None;
                    match answer.map_err(|_| self.over())? {
                        // Of an earlier poll that was to end sooner.
                        Ok(Polled::Nothing) if Instant::now() < deadline => {}
                        answer => return answer,
                    }
                }
            }
        }
    }

    async fn commit(&mut self, offsets: &[Committed]) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let offsets = offsets.to_vec();
        self.ask(|reply| Command::Commit { offsets, reply }).await
    }

    async fn seek(&mut self, partition: &Partition, offset: u64) -> Result<()> {
        let of = partition.clone();
        self.ask(|reply| Command::Seek { partition: of, offset, reply }).await?;
        self.take_back(partition);
        Ok(())
    }

    async fn pause(&mut self, partition: &Partition, paused: bool) -> Result<()> {
        let of = partition.clone();
        self.ask(|reply| Command::Pause { partition: of, paused, reply }).await?;
        if paused && let Some(first) = self.take_back(partition) {
            let of = partition.clone();
            self.ask(|reply| Command::Seek { partition: of, offset: first, reply }).await?;
        }
        Ok(())
    }

    async fn leave(mut self: Box<Self>) -> Result<()> {
        // Dropping leaves too; this waits until the group knows.
        self.ask(|reply| Command::Leave { reply }).await
    }
}
