//! A member's place in its group: how it is lost to a successor of the same name, and how it is given up.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::{Client, Membership};
use crate::log::kafka::names::Name;
use crate::log::kafka::settings::POLL_INTERVAL;
use crate::{BackendError, ErrorKind, Result};

const TAKEN: &str = "another member joined under this one's name and has its place";

impl Membership {
    /// The error of a member whose place another one has taken.
    pub(super) fn replaced(&self, client: &Client) -> Option<BackendError> {
        let fenced = matches!(client.client().fatal_error(), Some((Code::FencedInstanceId, _)));
        fenced.then(|| self.displaced(TAKEN.to_owned()))
    }

    /// The same, of a member that is about to join anew and would take the place back from one that it does
    /// not know of yet.
    pub(super) fn replaced_meanwhile(&self, client: &Client) -> Option<BackendError> {
        let held = self.name.as_ref().is_none_or(Name::is_held);
        self.replaced(client).or_else(|| (!held).then(|| self.displaced(TAKEN.to_owned())))
    }

    fn displaced(&self, message: String) -> BackendError {
        BackendError::new(ErrorKind::Replaced, &self.place, message)
            .remedy("end this one; the other goes on from the last commit")
    }

    /// Nothing is handed out any more: every poll says why.
    pub(super) fn end(&self, error: BackendError) {
        let mut state = self.state();
        state.batch.clear();
        state.told.clear();
        state.broken = Some(error);
    }

    /// To be asked right before and after the library is polled. A named member that was silent for longer
    /// than the group allows is out, and may have a successor. The library would join anew, and as it forgets
    /// who it was, take the place back from it.
    pub(super) fn was_silent(&self) -> bool {
        let silence = self.state().polled.replace(Instant::now()).map_or(Duration::ZERO, |at| at.elapsed());
        let out = self.name.is_some() && silence > POLL_INTERVAL;
        if out {
            self.put_out();
        }
        out
    }

    /// Ends a named member that the group has given up.
    pub(super) fn put_out(&self) {
        let limit = POLL_INTERVAL.as_secs();
        self.end(self.displaced(format!(
            "it was silent for more than {limit} s, and another member may have its place"
        )));
    }

    /// Ends the client and leaves the group; this waits for brokers, and is why there is a thread.
    pub(super) fn close(&self, client: Client) -> Result<()> {
        self.closing.store(true, Ordering::Relaxed);
        let replaced = self.replaced(&client).is_some()
            || self.state().broken.as_ref().is_some_and(|e| e.kind == ErrorKind::Replaced);
        drop(client);
        match &self.name {
            // The library leaves a named member behind.
            Some(name) if !replaced => self.cluster.give_back(&self.group, name),
            _ => Ok(()),
        }
    }

    /// Answers whoever waits for the end.
    pub(super) fn left(&self, outcome: Result<()>) {
        let waits = self.state().leaving.take();
        match (waits, outcome) {
            (Some(reply), outcome) => reply.send(outcome).unwrap_or_default(), // whoever left may not wait for it
            (None, Ok(())) => {}
            (None, Err(error)) => {
                tracing::debug!(%error, "a member's place is free only when its session has run out")
            }
        }
    }
}
