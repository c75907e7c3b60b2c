//! What the manager says of all services, tasks and nodes, looked at for every attempt at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::query_parameters::{ListServicesOptions, ListTasksOptions};
use tokio::sync::{Notify, watch};

use super::service;
use super::verdict::{NodeView, TaskView};
use crate::docker::container::label;
use crate::docker::engine::{Engine, explain};

/// Real time between looks.
const LOOK: Duration = Duration::from_millis(250);
/// Real time between looks at a manager that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A service of this installation.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceView {
    pub(super) labels: HashMap<String, String>,
    /// It was given nowhere to run.
    pub(super) evicted: bool,
    pub(super) tasks: Vec<TaskView>,
}

/// One look.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// When it began: what was made after that it does not show.
    pub(super) began: Instant,
    /// By name.
    pub(super) services: HashMap<String, ServiceView>,
    pub(super) nodes: HashMap<String, NodeView>,
}

/// Looks while somebody watches.
pub(super) struct Eyes {
    engine: Arc<Engine>,
    installation: String,
    sight: watch::Sender<Option<Arc<Sight>>>,
    wanted: Notify,
}

impl Eyes {
    pub(super) fn new(engine: Arc<Engine>, installation: String) -> Self {
        Self { engine, installation, sight: watch::Sender::new(None), wanted: Notify::new() }
    }

    /// Looks for as long as somebody holds what this gives.
    pub(super) fn open(&self) -> watch::Receiver<Option<Arc<Sight>>> {
        let receiver = self.sight.subscribe();
        self.wanted.notify_one();
        receiver
    }

    /// Looks at the manager again and again; never ends.
    pub(super) async fn keep_open(&self) {
        let mut silent = false;
        loop {
            if self.sight.receiver_count() == 0 {
                self.wanted.notified().await;
                continue;
            }
            match self.look().await {
                Ok(sight) => {
                    if std::mem::take(&mut silent) {
                        tracing::info!(engine = self.engine.place(), "the swarm's manager answers again");
                    }
                    self.sight.send_replace(Some(Arc::new(sight)));
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut silent, true) {
                        let (engine, error) = (self.engine.place(), explain(&error));
                        tracing::warn!(engine, error, "the swarm's manager does not answer; what runs is taken to run on");
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    /// One look, now.
    ///
    /// # Errors
    /// When the manager does not answer, or is none.
    pub(super) async fn look(&self) -> Result<Sight, Error> {
        let began = Instant::now();
        let client = self.engine.client().await?;
        let ours = || Some(HashMap::from([("label".to_owned(), vec![format!("{}={}", label::INSTALLATION, self.installation)])]));
        let listed =
            client.list_services(Some(ListServicesOptions { filters: ours(), ..ListServicesOptions::default() })).await?;
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
        Ok(Sight { began, services, nodes })
    }
}
