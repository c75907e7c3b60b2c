//! A consumer whose group is in the daemon.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::connection::{Connection, Link, Sent};
use super::protocol::{Reply, Request};
use crate::log::{Committed, Consumer, Partition, Polled, Stored};
use crate::{BackendError, ErrorKind, Result};

/// Real time that the daemon's own end of a poll may be late.
const GRACE: Duration = Duration::from_secs(5);

/// See the module. Dropping an unfinished poll loses nothing: its answer is kept for the next one.
pub(super) struct RemoteConsumer {
    link: Arc<Link>,
    group: String,
    topics: Vec<String>,
    name: Option<String>,
    /// The connection that the consumer lives on, and its number there; `None` between its loss and the next
    /// poll.
    seat: Option<JoinedConsumer>,
    owned: BTreeSet<Partition>,
    /// A poll that was sent and not answered.
    polling: Option<Polling>,
    /// What an interrupted poll brought.
    brought: Option<Result<Polled>>,
}

struct JoinedConsumer {
    connection: Arc<Connection>,
    number: u64,
}

struct Polling {
    sent: Sent,
    /// When the daemon is going to end it at the latest.
    until: Instant,
}

impl Drop for JoinedConsumer {
    fn drop(&mut self) {
        if !self.connection.is_dead()
            && let Err(error) = self.connection.send_and_forget(Request::Leave { consumer: self.number })
        {
            tracing::debug!(%error, "a consumer left with its connection");
        }
    }
}

impl RemoteConsumer {
    pub(super) async fn join(
        link: Arc<Link>,
        group: &str,
        topics: &[String],
        name: Option<&str>,
    ) -> Result<Self> {
        let mut joined = Self {
            link,
            group: group.to_owned(),
            topics: topics.to_vec(),
            name: name.map(str::to_owned),
            seat: None,
            owned: BTreeSet::new(),
            polling: None,
            brought: None,
        };
        joined.enter().await?;
        Ok(joined)
    }

    async fn enter(&mut self) -> Result<()> {
        let connection = self.link.connection().await?;
        // The seat exists before the daemon answers, so that giving up meanwhile leaves the group again.
        let seat = JoinedConsumer { number: connection.number(), connection };
        let request = Request::Join {
            consumer: seat.number,
            group: self.group.clone(),
            topics: self.topics.clone(),
            name: self.name.clone(),
        };
        match seat.connection.call(request).await? {
            Reply::Done => self.seat = Some(seat),
            _ => return Connection::unexpected(&self.link.place),
        }
        Ok(())
    }

    /// The seat is gone when its connection is.
    fn lost_if_dead(&mut self) {
        if self.seat.as_ref().is_some_and(|s| s.connection.is_dead()) {
            self.seat = None;
            self.polling = None;
        }
    }

    /// Ends a poll that is under way, keeping what it brings, so that another call can have its turn.
    async fn settle(&mut self) -> Result<()> {
        let Some(seat) = &self.seat else { return Ok(()) };
        let Some(polling) = &mut self.polling else { return Ok(()) };
        seat.connection
            .send_and_forget(Request::Interrupt { consumer: seat.number, poll: polling.sent.id })?;
        let answer = seat.connection.answer(&mut polling.sent).await;
        self.polling = None;
        match answer {
            Ok(Reply::Polled(Polled::Nothing)) => {}
            Ok(Reply::Polled(polled)) => self.brought = Some(Ok(polled)),
            Ok(_) => return Connection::unexpected(&self.link.place),
            Err(error) if seat.connection.is_dead() => return Err(error),
            Err(error) => self.brought = Some(Err(error)),
        }
        Ok(())
    }

    /// Carries out a call other than a poll.
    async fn steer(&mut self, request: impl FnOnce(u64) -> Request) -> Result<()> {
        self.settle().await.inspect_err(|_| self.lost_if_dead())?;
        let Some(seat) = &self.seat else {
            // The group has put this member out; saying "unavailable" would make the caller repeat what
            // cannot succeed.
            let message = format!(
                "group {}: this member lost its partitions with the connection to the daemon",
                self.group
            );
            return Err(BackendError::new(ErrorKind::Fenced, &self.link.place, message)
                .remedy("poll again: that joins the group again"));
        };
        let outcome = seat.connection.call(request(seat.number)).await;
        self.lost_if_dead();
        match outcome? {
            Reply::Done => Ok(()),
            _ => Connection::unexpected(&self.link.place),
        }
    }

    /// Takes a partition's records out of what an interrupted poll brought; returns the first one's offset.
    fn withhold(&mut self, partition: &Partition) -> Option<u64> {
        let Some(Ok(Polled::Records(records))) = &mut self.brought else { return None };
        let mut first = None;
        records.retain(|Stored { partition: of, offset, .. }| {
            if of == partition {
                first = first.or(Some(*offset));
            }
            of != partition
        });
        if records.is_empty() {
            self.brought = None;
        }
        first
    }

    fn note(&mut self, polled: &Polled) {
        match polled {
            Polled::Assigned(partitions) => self.owned.extend(partitions.iter().map(|c| c.partition.clone())),
            Polled::Revoked(partitions) => self.owned.retain(|p| !partitions.contains(p)),
            Polled::Nothing | Polled::Records(_) => {}
        }
    }
}

#[async_trait]
impl Consumer for RemoteConsumer {
    async fn poll(&mut self, wait: Duration) -> Result<Polled> {
        if let Some(brought) = self.brought.take() {
            return brought.inspect(|polled| self.note(polled));
        }
        if self.seat.is_none() {
            self.enter().await?;
            if !self.owned.is_empty() {
                return Ok(Polled::Revoked(std::mem::take(&mut self.owned).into_iter().collect()));
            }
        }
        let deadline = Instant::now() + wait;
        loop {
            // The seat is there: it is lost below only, and then this returns.
            let Some(seat) = &self.seat else { return Ok(Polled::Nothing) };
            if self.polling.is_none() {
                let left = deadline.saturating_duration_since(Instant::now());
                let wait_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                match seat.connection.send(Request::Poll { consumer: seat.number, wait_ms }) {
                    Ok(sent) => self.polling = Some(Polling { sent, until: deadline }),
                    Err(error) => {
                        self.lost_if_dead();
                        return Err(error);
                    }
                }
            }
            let Some(polling) = &mut self.polling else { continue };
            // A poll of an earlier call may be meant to wait for longer than this one.
            let patience = if polling.until <= deadline { deadline + GRACE } else { deadline };
            let Ok(answer) =
                tokio::time::timeout_at(patience, seat.connection.answer(&mut polling.sent)).await
            else {
                return Ok(Polled::Nothing);
            };
            self.polling = None;
            self.lost_if_dead();
            match answer? {
                Reply::Polled(Polled::Nothing) if Instant::now() < deadline => {}
                Reply::Polled(polled) => {
                    self.note(&polled);
                    return Ok(polled);
                }
                _ => return Connection::unexpected(&self.link.place),
            }
        }
    }

    async fn commit(&mut self, offsets: &[Committed]) -> Result<()> {
        let offsets = offsets.to_vec();
        self.steer(|consumer| Request::Commit { consumer, offsets }).await
    }

    async fn seek(&mut self, partition: &Partition, offset: u64) -> Result<()> {
        self.steer(|consumer| Request::Seek { consumer, partition: partition.clone(), offset }).await?;
        self.withhold(partition);
        Ok(())
    }

    async fn pause(&mut self, partition: &Partition, paused: bool) -> Result<()> {
        self.steer(|consumer| Request::Pause { consumer, partition: partition.clone(), paused }).await?;
        // What was read of it already is read again when it resumes.
        match self.withhold(partition).filter(|_| paused) {
            Some(offset) => {
                self.steer(|consumer| Request::Seek { consumer, partition: partition.clone(), offset }).await
            }
            None => Ok(()),
        }
    }

    async fn leave(mut self: Box<Self>) -> Result<()> {
        if let Some(seat) = self.seat.take()
            && !seat.connection.is_dead()
        {
            seat.connection.call(Request::Leave { consumer: seat.number }).await?;
        }
        Ok(())
    }
}
