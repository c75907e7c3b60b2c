//! How an attempt's service is stopped: a swarm sends no signals, so a foreign program is evicted.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bollard::query_parameters::UpdateServiceOptions;
use jiff::Timestamp;

use super::service;
use super::watch::{ASK_AGAIN, Watched};
use crate::docker::engine::{explain, status};
use crate::docker::watch::{KILLED, PASSED};
use crate::folder::{self, StopOrder};

/// Real time between looks of a keeper, which has time.
const ASK_RARELY: Duration = Duration::from_secs(30);

impl Watched {
    /// Stops it at its deadline; never returns.
    pub(super) async fn hold(&self) -> Infallible {
        if let Some(deadline) = self.terms.deadline {
            self.clock.sleep_until(deadline).await;
            match folder::read_stop(&self.folder).filter(|order| order.asked_at >= deadline) {
                // By its keeper, when no daemon was there.
                Some(order) => self.enforce(order.kill_at, PASSED).await,
                None => {
                    self.line(&format!("the attempt's deadline {deadline} has passed"));
                    self.stop(self.terms.stop_time, PASSED).await;
                }
            }
        }
        std::future::pending().await
    }

    /// Asks it to stop, and kills it when it has not within `kill_after` of the clock.
    pub(super) async fn stop(&self, kill_after: Duration, why: &str) {
        let order = StopOrder::now(&self.clock, kill_after);
        self.ask(&order).await;
        self.enforce(order.kill_at, why).await;
    }

    /// Asks it to stop.
    pub(in crate) async fn ask(&self, order: &StopOrder) {
        order.clone().leave(self.folder.clone()).await;
        // One that reads its folder stops by itself, and says how it ended; several would be started again.
        if !self.terms.guarded || self.terms.replicas > 1 || !self.running.load(Ordering::Acquire) {
            self.evict().await;
        }
    }

    /// Kills it at `kill_at` if it has not ended by then.
    async fn enforce(&self, kill_at: Timestamp, why: &str) {
        tokio::select! {
            () = self.until_told() => {}
            () = self.clock.sleep_until(kill_at) => self.kill(&format!("{why}, and it did not stop in time")).await,
        }
    }

    /// Kills it. A foreign program gets the time of an orderly stop all the same: a swarm knows nothing faster.
    pub(in crate) async fn kill(&self, why: &str) {
        let marked = std::fs::write(self.folder.join(KILLED), why);
        if let Err(error) = marked {
            tracing::warn!(attempt = %self.id, %error, "cannot note that an attempt is killed; its end will look like its own");
        }
        self.line(&format!("is killed: {why}"));
        StopOrder::now(&self.clock, Duration::ZERO).leave(self.folder.clone()).await;
        self.evict().await;
    }

    async fn until_told(&self) {
        // The sender lives in self, so the wait cannot fail.
        self.ended.subscribe().wait_for(|ended| *ended).await.map(drop).unwrap_or_default();
    }

    /// Waits until the swarm has its service no longer.
    pub(in crate) async fn until_gone(&self) {
        let mut seen = false;
        loop {
            let found = match self.engine.client().await {
                Ok(client) => client.inspect_service(&self.name, None).await.map(drop),
                Err(error) => Err(error),
            };
            match found {
                Ok(()) => seen = true,
                // Before that it may not be made yet.
                Err(error) if seen && status(&error) == Some(404) => return,
                Err(_silent) => {} // its deadline is waited for
            }
            tokio::time::sleep(ASK_RARELY).await;
        }
    }

    /// Leaves the service nowhere to run: the swarm stops its tasks, and remembers how they ended.
    pub(in crate) async fn evict(&self) {
        while !self.has_ended() {
            let evicted = async {
                let client = self.engine.client().await?;
                let found = client.inspect_service(&self.name, None).await?;
                let version = found.version.and_then(|v| v.index).unwrap_or_default();
                let Some(spec) = found.spec.and_then(service::evicted) else { return Ok(()) };
                let options = UpdateServiceOptions {
                    version: i32::try_from(version).unwrap_or_default(),
                    ..UpdateServiceOptions::default()
                };
                client.update_service(&self.name, spec, options, None).await.map(drop)
            };
            match evicted.await {
                Ok(()) => return,
                Err(error) if status(&error) == Some(404) => return,
                Err(error) => tracing::debug!(attempt = %self.id, error = explain(&error), "a service cannot be stopped yet"),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}
