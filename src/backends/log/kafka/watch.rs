//! Looks after the cluster for all members of groups: whether it answers, and whether a topic was made anew.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::cluster::Cluster;
use crate::{BackendError, ErrorKind, Result};

/// Between looks.
const EVERY: Duration = Duration::from_secs(1);
/// A cluster that has not answered for this long is reported.
const SILENCE: Duration = Duration::from_secs(10);

/// See the module. Its thread ends with the last member.
pub(super) struct Watch {
    cluster: Arc<Cluster>,
    topics: Mutex<BTreeSet<String>>,
    seen: Mutex<ClusterView>,
}

struct ClusterView {
    ids: HashMap<String, String>,
    answered: Instant,
    fault: Option<BackendError>,
}

impl Watch {
    pub(super) fn start(cluster: &Arc<Cluster>) -> Result<Arc<Self>> {
        let seen = ClusterView { ids: HashMap::new(), answered: Instant::now(), fault: None };
        let watch =
            Arc::new(Self { cluster: Arc::clone(cluster), topics: Mutex::default(), seen: Mutex::new(seen) });
        let weak = Arc::downgrade(&watch);
        let started = thread::Builder::new().name("kafka-watch".into()).spawn(move || keep_looking(&weak));
        started.map_err(|e| {
            BackendError::new(ErrorKind::Unavailable, &cluster.settings.place, format!("no thread: {e}"))
        })?;
        Ok(watch)
    }

    pub(super) fn add(&self, topics: &[String]) {
        self.topics.lock().extend(topics.iter().cloned());
    }

    fn look(&self) {
        let topics: Vec<_> = self.topics.lock().iter().cloned().collect();
        let looked = match &self.cluster.links {
            Some(links) => links.topic_ids(Some(&topics)),
            // Without ids it is still told whether anybody answers.
            None => {
                topics.first().map_or(Ok(()), |t| self.cluster.exists(t).map(drop)).map(|()| HashMap::new())
            }
        };
        let mut seen = self.seen();
        match looked {
            Ok(ids) => *seen = ClusterView { ids, answered: Instant::now(), fault: None },
            Err(error) => seen.fault = Some(error),
        }
    }

    fn seen(&self) -> MutexGuard<'_, ClusterView> {
        self.seen.lock()
    }

    /// The fault of a cluster that has been silent for too long.
    pub(super) fn fault(&self) -> Option<BackendError> {
        let seen = self.seen();
        seen.fault.clone().filter(|_| seen.answered.elapsed() > SILENCE)
    }

    /// Whether a topic that had this id has another one now.
    pub(super) fn remade(&self, topic: &str, id: &str) -> bool {
        self.seen().ids.get(topic).is_some_and(|now| !id.is_empty() && !now.is_empty() && now != id)
    }
}

fn keep_looking(watch: &Weak<Watch>) {
    while let Some(watch) = watch.upgrade() {
        watch.look();
        drop(watch);
        thread::sleep(EVERY);
    }
}
