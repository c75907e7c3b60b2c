//! What the manager says of all services, tasks and nodes, asked for every attempt at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::query_parameters::{ListServicesOptions, ListTasksOptions};
use tokio::sync::{Notify, watch};

use super::service;
use super::tasks::{NodeView, TaskView};
use crate::container::definition;
use crate::container::engine::{ASK_AGAIN, Engine, explain};

/// Real time between polls.
const POLL: Duration = Duration::from_millis(250);

/// A service of this installation.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceView {
    pub(super) labels: HashMap<String, String>,
    /// It was given nowhere to run.
    pub(super) evicted: bool,
    pub(super) tasks: Vec<TaskView>,
}

/// What one poll showed.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// When it began: what was made after that it does not show.
    pub(super) began: Instant,
    /// By name.
    pub(super) services: HashMap<String, ServiceView>,
    pub(super) nodes: HashMap<String, NodeView>,
}

/// Polls the manager while somebody has subscribed.
pub(crate) struct Poller {
    engine: Arc<Engine>,
    installation: String,
    latest: watch::Sender<Option<Arc<Snapshot>>>,
    wanted: Notify,
}

impl Poller {
    pub(super) fn new(engine: Arc<Engine>, installation: String) -> Self {
        Self { engine, installation, latest: watch::Sender::new(None), wanted: Notify::new() }
    }

    /// The newest snapshot, renewed for as long as somebody holds what this gives.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let receiver = self.latest.subscribe();
        self.wanted.notify_one();
        receiver
    }

    /// Polls again and again; never ends.
    pub(super) async fn run(&self) {
        let mut silent = false;
        loop {
            if self.latest.receiver_count() == 0 {
                self.wanted.notified().await;
                continue;
            }
            match self.poll().await {
                Ok(snapshot) => {
                    if std::mem::take(&mut silent) {
                        tracing::info!(engine = self.engine.host(), "the swarm's manager answers again");
                    }
                    self.latest.send_replace(Some(Arc::new(snapshot)));
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut silent, true) {
                        let (engine, error) = (self.engine.host(), explain(&error));
                        tracing::warn!(
                            engine,
                            error,
                            "the swarm's manager does not answer; what runs is taken to run on"
                        );
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    /// Polls once, now.
    ///
    /// # Errors
    /// When the manager does not answer, or is none.
    pub(super) async fn poll(&self) -> Result<Snapshot, Error> {
        let began = Instant::now();
        let client = self.engine.client().await?;
        let ours = || definition::filter(&self.installation);
        let listed = client
            .list_services(Some(ListServicesOptions { filters: ours(), ..ListServicesOptions::default() }))
            .await?;
        let mut tasks: HashMap<String, Vec<TaskView>> = HashMap::new();
        for task in client.list_tasks(Some(ListTasksOptions { filters: ours() })).await? {
            tasks.entry(task.service_id.clone().unwrap_or_default()).or_default().push(task.into());
        }
        let nodes = client.list_nodes(None).await?;
        let services = listed.into_iter().filter_map(|service| {
            let spec = service.spec?;
            let view = ServiceView {
                evicted: service::is_evicted(&spec),
                tasks: tasks.remove(&service.id?).unwrap_or_default(),
                labels: spec.labels.unwrap_or_default(),
            };
            Some((spec.name?, view))
        });
        let services = services.collect();
        let nodes = nodes.into_iter().filter_map(|node| Some((node.id.clone()?, node.into()))).collect();
        Ok(Snapshot { began, services, nodes })
    }
}
