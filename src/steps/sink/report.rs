//! What a sink says about itself: its status while it lives, its result when it ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::core::Core;
use crate::StepError;
use backends::BackendError;
use backends::log::Consumer;
use executor::Status;

/// Status is not reported more often than this (real time) unless it changes in kind.
const STATUS_EVERY: Duration = Duration::from_millis(250);

impl Core {
    pub(super) async fn leave(
        &mut self,
        consumer: Box<dyn Consumer>,
    ) -> Result<serde_json::Value, StepError> {
        if let Err(error) = consumer.leave().await {
            // Everything is committed; the others take over a little later.
            tracing::warn!(%error, group = %self.sink.group, "could not leave the group");
        }
        self.tell(true);
        let stopped =
            self.lanes.iter().find_map(|(n, l)| l.stopped.as_ref().map(|e| (*n, l.done, e.clone())));
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
        if self.drain.as_ref().is_none_or(|d| !d.complete) {
            return Err(StepError::Failed(format!(
                "the drain time passed while another member of group {} holds partitions that are not read to the end; stop that member, and the next \
                 start goes on from there",
                self.sink.group
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

    /// Ends the lanes of an attempt whose place another one has.
    pub(super) fn replaced(&mut self, error: &BackendError) -> StepError {
        self.forget_lanes();
        let spec = &self.context.spec;
        StepError::Failed(format!(
            "another attempt of step {} has taken over, so attempt {} ends; nothing is lost, the other goes on from the last commit ({}: {})",
            spec.id.step, spec.id.attempt, error.place, error.message
        ))
    }

    pub(super) fn tell(&mut self, now: bool) {
        let zone = crate::zone(&self.context.spec);
        let at = |since: &Timestamp| domain::trade::rfc3339(*since, &zone);
        let degraded = self
            .lanes
            .iter()
            .find_map(|(n, l)| l.stopped.as_ref().map(|e| format!("{} stopped: {e}", self.partition(*n))))
            .or_else(|| self.trouble.as_ref().map(|(since, m)| format!("since {}: {m}", at(since))))
            .or_else(|| {
                self.lanes
                    .values()
                    .find_map(|l| l.trouble.as_ref().map(|(since, m)| format!("since {}: {m}", at(since))))
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
        self.context.reporter.status(Status {
            ready: self.ready,
            degraded,
            facts,
            waits: None,
            notice: None,
        });
    }
}
