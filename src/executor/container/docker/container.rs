//! One attempt's container.

use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::models::{ContainerState, ContainerStateStatusEnum, HealthStatusEnum};
use bollard::query_parameters::KillContainerOptions;
use futures_util::StreamExt;

use crate::attempts::Attempt;
use crate::container::Contained;
use crate::container::attempt::Workload;
use crate::container::engine::{ASK_AGAIN, explain, http_status};
use crate::container::exits::{self, Known};
use crate::container::output::Source;
use crate::folder::{self, StopOrder};
use crate::{News, Status};
use domain::dag::StopSignal;
use domain::run::Exit;

/// Real time between tries of a keeper, which has time.
const ASK_RARELY: Duration = Duration::from_secs(2);
/// Real time after which a container that was made and not started has been left by whoever made it.
const LEFT: Duration = Duration::from_secs(300);
/// Real time between reads of a health check.
const HEALTH_POLL: Duration = Duration::from_millis(500);

/// A container of an engine.
pub(crate) struct Container;

type Watched = Attempt<Contained<Container>>;

/// What a container came to.
pub(crate) enum End {
    /// The engine says how; whether it was away meanwhile.
    Known { state: Box<ContainerState>, unseen: bool },
    /// The engine has no such container.
    Gone,
}

impl Workload for Container {
    type End = End;
    const NAME_FILE: &'static str = folder::CONTAINER;
    const KILLED_LINE: &'static str = "sent SIGKILL";
    const KILLS_BY_ITSELF: bool = false;

    fn source(name: String) -> Source {
        Source::Container(name)
    }

    async fn until_ended(attempt: &Watched) -> End {
        attempt.started();
        tokio::select! {
            end = attempt.ended() => end,
            never = attempt.report_health() => match never {},
        }
    }

    fn has_output(_: &End) -> bool {
        true
    }

    async fn exit(attempt: &Watched, end: End) -> Exit {
        match end {
            End::Gone => Exit::Lost("its container is gone; somebody removed it".into()),
            End::Known { state, unseen } => {
                exit_of(&attempt.folder, &state, Some(attempt.detail.terms.signal), unseen)
            }
        }
    }

    fn status(attempt: &Watched) -> Option<Status> {
        folder::read_status(&attempt.folder)
    }

    async fn ask(attempt: &Watched, signal: StopSignal, order: &StopOrder) {
        tokio::select! {
            () = attempt.signal(signal.name()) => {}
            () = attempt.detail.clock.sleep_until(order.kill_at) => {}
        }
    }

    async fn kill(attempt: &Watched) {
        attempt.signal("SIGKILL").await;
    }

    async fn until_gone(attempt: &Watched) {
        let since = Instant::now();
        loop {
            match attempt.detail.engine.inspect(&attempt.detail.name).await {
                Ok(None) => return,
                Ok(Some(state)) if exits::has_ended(&state) => return,
                Ok(Some(state)) if state.status == Some(ContainerStateStatusEnum::CREATED) => {
                    if since.elapsed() >= LEFT {
                        return;
                    }
                }
                Ok(Some(_)) => {
                    if attempt.waited().await {
                        continue;
                    }
                }
                Err(error) => {
                    tracing::debug!(attempt = %attempt.id, error = explain(&error), "the engine does not answer")
                }
            }
            tokio::time::sleep(ASK_RARELY).await;
        }
    }
}

impl Watched {
    /// Waits for the end of the container, through outages of the engine.
    async fn ended(&self) -> End {
        let mut unseen = false;
        let mut silent = false;
        loop {
            match self.detail.engine.inspect(&self.detail.name).await {
                Ok(Some(state)) if exits::has_ended(&state) => {
                    return End::Known { state: Box::new(state), unseen };
                }
                Ok(Some(_)) => {
                    if std::mem::take(&mut silent) {
                        tracing::info!(attempt = %self.id, "the engine answers again");
                    }
                    unseen = !self.waited().await;
                }
                Ok(None) => return End::Gone,
                Err(error) => {
                    unseen = true;
                    if !std::mem::replace(&mut silent, true) {
                        let engine = self.detail.engine.host();
                        tracing::warn!(attempt = %self.id, engine, error = explain(&error), "the engine does not answer; its containers are waited for");
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    /// Waits until the engine says that the container does not run; false if it broke off.
    async fn waited(&self) -> bool {
        let Ok(client) = self.detail.engine.client().await else { return false };
        let mut answers = std::pin::pin!(client.wait_container(&self.detail.name, None));
        match answers.next().await {
            Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. })) => true,
            Some(Err(error)) => {
                // An answer that takes long is no fault.
                let patience = matches!(error, bollard::errors::Error::RequestTimeoutError);
                if !patience {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                patience
            }
            None => false,
        }
    }

    /// Reports once that a health check says that it can serve; never ends.
    async fn report_health(&self) -> Infallible {
        loop {
            match self.detail.engine.inspect(&self.detail.name).await {
                Ok(Some(state)) => match state.health.and_then(|h| h.status) {
                    Some(HealthStatusEnum::HEALTHY) => {
                        self.report(News::Status(Status { ready: true, ..Status::default() }));
                        break;
                    }
                    Some(HealthStatusEnum::STARTING | HealthStatusEnum::UNHEALTHY) => {}
                    // It has none.
                    _ => break,
                },
                Ok(None) => break,
                Err(_silent) => {} // told by who waits for the end
            }
            tokio::time::sleep(HEALTH_POLL).await;
        }
        std::future::pending().await
    }

    /// Sends a signal, however often the engine has to be asked.
    async fn signal(&self, signal: &str) {
        let options = || Some(KillContainerOptions { signal: signal.to_owned() });
        while !self.has_ended() {
            let sent = match self.detail.engine.client().await {
                Ok(client) => client.kill_container(&self.detail.name, options()).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(()) => return,
                // Not there, or not running: it has ended.
                Err(error) if matches!(http_status(&error), Some(404 | 409)) => return,
                Err(error) => {
                    tracing::debug!(attempt = %self.id, error = explain(&error), signal, "a signal could not be sent yet");
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

/// How the attempt in `folder` ended, whose container the engine says has. `signal`: what it is stopped with.
/// `unseen`: the engine was away, or nobody watched.
pub(super) fn exit_of(
    folder: &Path,
    state: &ContainerState,
    signal: Option<StopSignal>,
    unseen: bool,
) -> Exit {
    let known = Known {
        asked: folder::read_stop(folder).and(signal).map(|signal| i64::from(signal.number())),
        killed: folder.join(folder::KILLED).exists(),
        unseen: unseen && !folder.join(folder::RESULT).exists(),
    };
    exits::of(folder, state, known)
}
