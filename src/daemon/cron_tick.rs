//! Wakes the loop at the wall clock's edges. It decides nothing: a late, lost or double tick only makes the
//! loop look, and looking twice changes nothing.
//!
//! Every edge of a five-field cron, in every zone in use, lies on a whole minute of UTC; so one job on the
//! minute reaches them all, whatever DAG files come and go. The loop's own timer (to the next instant that
//! planner or machine name) is finer; this one also fires when the machine slept or its clock was set, which
//! a timer on the monotonic clock misses.

use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// Ticks until it is dropped or [stopped](Self::stop).
pub struct CronTick {
    scheduler: JobScheduler,
}

impl CronTick {
    /// Starts ticking into `ticks`.
    ///
    /// # Errors
    /// When the scheduler cannot be set up.
    pub async fn start(ticks: mpsc::Sender<()>) -> Result<Self, JobSchedulerError> {
        let scheduler = JobScheduler::new().await?;
        scheduler
            .add(Job::new("0 * * * * *", move |_, _| {
                // A full channel means that the loop is about to look anyway; a closed one, that it has
                // ended.
                ticks.try_send(()).unwrap_or_default();
            })?)
            .await?;
        scheduler.start().await?;
        Ok(Self { scheduler })
    }

    /// Stops ticking.
    pub async fn stop(mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::debug!(%error, "cron scheduler did not shut down cleanly");
        }
    }
}
