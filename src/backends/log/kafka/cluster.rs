//! Topics and their offsets. What is not async here blocks, and is called off the runtime.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::detached::Detached;
use super::errors::LastError;
use super::link::Links;
use super::names::{Name, Names};
use super::settings::{MAX_MESSAGE, PATIENCE, Settings};
use crate::log::{Partition, Range, Topic};
use crate::{BackendError, ErrorKind, Result, blocking};

/// How long a topic's partition count is believed without asking again.
const BELIEVED: Duration = Duration::from_secs(10);
/// Between looks at a change that spreads through the cluster.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// Kafka's own topics.
const INTERNAL: [&str; 4] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];
/// How often topics are listed before one that vanishes in between is an error.
const LISTS: usize = 5;

/// Topics with their partition counts.
type Counts = Vec<(String, u32)>;

/// A cluster as one sees it from outside of groups.
pub(super) struct Cluster {
    pub(super) settings: Arc<Settings>,
    /// Where connections of our own are possible.
    pub(super) links: Option<Links>,
    names: Names,
    asking: Mutex<Option<Arc<Detached<BaseConsumer<LastError>>>>>,
    counts: Mutex<HashMap<String, (u32, Instant)>>,
}

impl Cluster {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            links: Links::new(&settings),
            names: Names::default(),
            settings,
            asking: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// Takes a member's name in a group. `None` where it could not be given back: a member that left would
    /// hold its partitions until its session runs out.
    pub(super) fn take_name(&self, group: &str, name: &str) -> Option<Name> {
        self.links.as_ref().map(|_| self.names.take(group, name))
    }

    /// Removes the member of a name that nobody has taken since.
    pub(super) fn give_back(&self, group: &str, name: &Name) -> Result<()> {
        self.links
            .as_ref()
            .map_or(Ok(()), |links| name.give_back(|| links.remove_member(group, name.as_str())))
    }

    /// For messages.
    pub(super) fn topic_place(&self, topic: &str) -> String {
        format!("{} topic {topic}", self.settings.place)
    }

    pub(super) fn partition_place(&self, partition: &Partition) -> String {
        format!("{} topic {} partition {}", self.settings.place, partition.topic, partition.number)
    }

    /// The client that asks.
    fn asking(&self) -> Result<Arc<Detached<BaseConsumer<LastError>>>> {
        let mut kept = self.asking.lock();
        if let Some(client) = &*kept {
            // Nobody else takes what the library wants to say.
            (0..100).for_each(|_| drop(client.poll(Duration::ZERO)));
            return Ok(Arc::clone(client));
        }
        let client = BaseConsumer::from_config_and_context(&self.settings.asking()?, LastError::default());
        let client = client.map_err(|e| LastError::default().explain(&self.settings.place, &e))?;
        Ok(Arc::clone(kept.insert(Arc::new(Detached::new(client)))))
    }

    fn explained<T>(
        &self,
        place: &str,
        client: &BaseConsumer<LastError>,
        outcome: Result<T, KafkaError>,
    ) -> Result<T> {
        match outcome {
            Ok(value) => {
                client.context().forget();
                Ok(value)
            }
            Err(error) => {
                (0..100).for_each(|_| drop(client.poll(Duration::ZERO)));
                Err(client.context().explain(place, &error))
            }
        }
    }

    /// Topics with their partition counts; `None` for a topic whose partitions are not ready.
    fn counts(&self, topic: Option<&str>) -> Result<Vec<(String, Option<u32>)>> {
        let client = self.asking()?;
        let place = topic.map_or_else(|| self.settings.place.clone(), |t| self.topic_place(t));
        let metadata = self.explained(&place, &client, client.fetch_metadata(topic, PATIENCE))?;
        let mut found = Vec::new();
        for topic in metadata.topics().iter().filter(|t| !INTERNAL.contains(&t.name())) {
            let ready = topic.partitions().iter().all(|p| p.leader() >= 0) && !topic.partitions().is_empty();
            match topic.error().map(Code::from) {
                None => {
                    found.push((topic.name().to_owned(), ready.then_some(topic.partitions().len() as u32)))
                }
                Some(Code::LeaderNotAvailable) => found.push((topic.name().to_owned(), None)),
                Some(Code::UnknownTopicOrPartition | Code::InvalidTopic) => {}
                Some(code) => {
                    let place = self.topic_place(topic.name());
                    return Err(client.context().explain(&place, &KafkaError::MetadataFetch(code)));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// `NotFound` if there is no such topic, `Unavailable` while it is being made.
    pub(super) fn partitions(&self, topic: &str) -> Result<u32> {
        if let Some((count, at)) = self.believed().get(topic)
            && at.elapsed() < BELIEVED
        {
            return Ok(*count);
        }
        self.forget(topic);
        let found = if usable(topic) { self.counts(Some(topic))?.pop() } else { None };
        match found {
            Some((_, Some(count))) => {
                self.believed().insert(topic.to_owned(), (count, Instant::now()));
                Ok(count)
            }
            Some((_, None)) => Err(self.leaderless(topic)),
            None => Err(BackendError::new(
                ErrorKind::NotFound,
                self.topic_place(topic),
                "the topic does not exist",
            )
            .remedy("create it with a topics step")),
        }
    }

    /// A partition's topic and itself exist.
    pub(super) fn check(&self, partition: &Partition) -> Result<()> {
        let count = self.partitions(&partition.topic)?;
        if partition.number < count {
            return Ok(());
        }
        let message = format!("there is no partition {}; there are {count}, from 0", partition.number);
        Err(BackendError::new(ErrorKind::NotFound, self.topic_place(&partition.topic), message))
    }

    /// Whether there is such a topic now.
    pub(super) fn exists(&self, topic: &str) -> Result<bool> {
        Ok(!self.counts(Some(topic))?.is_empty())
    }

    /// Names of the groups, and all topics with their partition counts.
    pub(super) fn group_names(&self) -> Result<(Vec<String>, Counts)> {
        let client = self.asking()?;
        let list = self.explained(&self.settings.place, &client, client.fetch_group_list(None, PATIENCE))?;
        let own = |g: &&rdkafka::groups::GroupInfo| ["", "consumer"].contains(&g.protocol_type());
        let names = list.groups().iter().filter(own).map(|g| g.name().to_owned()).collect();
        let counts = self.counts(None)?;
        Ok((names, counts.into_iter().filter_map(|(topic, count)| count.map(|c| (topic, c))).collect()))
    }

    fn leaderless(&self, topic: &str) -> BackendError {
        BackendError::new(ErrorKind::Unavailable, self.topic_place(topic), "a partition has no leader")
            .remedy("bring the missing brokers back")
    }

    fn believed(&self) -> MutexGuard<'_, HashMap<String, (u32, Instant)>> {
        self.counts.lock()
    }

    /// A topic may have changed.
    pub(super) fn forget(&self, topic: &str) {
        self.believed().remove(topic);
    }

    /// First and next offsets of partitions, in the order asked for; one request per broker and end.
    pub(super) fn ranges(&self, partitions: &[Partition]) -> Result<Vec<Range>> {
        let Some(first) = partitions.first() else { return Ok(Vec::new()) };
        let client = self.asking()?;
        let place =
            if partitions.len() == 1 { self.partition_place(first) } else { self.settings.place.clone() };
        let deadline = Instant::now() + PATIENCE;
        let once = |end: Offset| {
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for partition in partitions {
                list.add_partition_offset(&partition.topic, partition.number as i32, end)?;
            }
            let found = client.offsets_for_times(list, PATIENCE)?;
            partitions
                .iter()
                .map(|partition| {
                    let element = found.find_partition(&partition.topic, partition.number as i32);
                    let element = element.ok_or(KafkaError::MetadataFetch(Code::UnknownPartition))?;
                    element.error()?;
                    match element.offset() {
                        Offset::Offset(offset) => Ok(offset as u64),
                        _ => Err(KafkaError::MetadataFetch(Code::LeaderNotAvailable)),
                    }
                })
                .collect::<Result<Vec<_>, KafkaError>>()
        };
        // Leaders change, and a client hears of it from a refusal.
        let look = |end: Offset| loop {
            match once(end) {
                Err(error) if error.rdkafka_error_code().is_some_and(moved) && Instant::now() < deadline => {
                    tracing::debug!(%error, "asks again for offsets");
                    std::thread::sleep(LOOK_AGAIN);
                    client
                        .fetch_metadata((partitions.len() == 1).then_some(first.topic.as_str()), PATIENCE)?;
                }
                outcome => return outcome,
            }
        };
        let starts = self.explained(&place, &client, look(Offset::Beginning))?;
        let ends = self.explained(&place, &client, look(Offset::End))?;
        // What retention took between the two looks must not make a range that runs backwards.
        Ok(starts.into_iter().zip(ends).map(|(start, end)| Range { start, end: end.max(start) }).collect())
    }

    /// The ids of topics; empty where the cluster, or this kind of connection, gives none.
    pub(super) fn ids(&self, topics: Option<&[String]>) -> Result<HashMap<String, String>> {
        self.links.as_ref().map_or_else(|| Ok(HashMap::new()), |links| links.topic_ids(topics))
    }

    /// One topic, or all.
    pub(super) fn describe(&self, topic: Option<&str>) -> Result<Vec<Topic>> {
        // On a shared cluster somebody may delete a topic between our questions; the next list does not have
        // it any more.
        for _ in 1..LISTS {
            match self.describe_once(topic) {
                Err(error) if error.kind == ErrorKind::NotFound => {}
                answer => return answer,
            }
        }
        self.describe_once(topic)
    }

    fn describe_once(&self, topic: Option<&str>) -> Result<Vec<Topic>> {
        if topic.is_some_and(|t| !usable(t)) {
            return Ok(Vec::new());
        }
        let found = self.counts(topic)?;
        let mut partitions = Vec::new();
        let mut named = Vec::new();
        for (name, count) in found {
            let Some(count) = count else {
                match topic {
                    Some(topic) => return Err(self.leaderless(topic)),
                    // One topic in the making must not hide the others.
                    None => continue,
                }
            };
            partitions.extend((0..count).map(|number| Partition { topic: name.clone(), number }));
            named.push((name, count as usize));
        }
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let one = topic.map(|t| [t.to_owned()]);
        let ids = self.ids(one.as_ref().map(|t| t.as_slice()))?;
        let mut ranges = self.ranges(&partitions)?.into_iter();
        Ok(named
            .into_iter()
            .map(|(name, count)| Topic {
                incarnation: ids.get(&name).cloned().unwrap_or_default(),
                partitions: ranges.by_ref().take(count).collect(),
                name,
            })
            .collect())
    }

    fn admin(&self) -> Result<Detached<AdminClient<LastError>>> {
        let client = AdminClient::from_config_and_context(&self.settings.asking()?, LastError::default());
        client.map(Detached::new).map_err(|e| LastError::default().explain(&self.settings.place, &e))
    }

    /// Sees whether the cluster lets us in: calls of the administration only run out of time, and never say
    /// why.
    async fn reach(self: &Arc<Self>, topic: &str) -> Result<()> {
        let (cluster, name) = (Arc::clone(self), topic.to_owned());
        blocking::run(&self.settings.place, move || cluster.exists(&name).map(drop)).await
    }

    /// Makes a topic and waits until it can be used.
    pub(super) async fn create(self: &Arc<Self>, topic: &str, partitions: u32) -> Result<bool> {
        check_name(&self.settings.place, "topic", topic)?;
        let refuse = |message: String| BackendError::new(ErrorKind::Rejected, &self.settings.place, message);
        if partitions == 0 || partitions > 1000 {
            return Err(refuse(format!("topic \"{topic}\" cannot have {partitions} partitions"))
                .remedy("ask for 1 to 1000"));
        }
        self.reach(topic).await?;
        let created = self.ask_to_create(topic, partitions).await?;
        let deadline = Instant::now() + PATIENCE;
        let has = loop {
            let (cluster, name) = (Arc::clone(self), topic.to_owned());
            let looked = blocking::run(&self.settings.place, move || {
                cluster.forget(&name);
                cluster.partitions(&name)
            });
            match looked.await {
                Ok(count) => break count,
                Err(error)
                    if Instant::now() >= deadline
                        || !matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unavailable) =>
                {
                    return Err(error);
                }
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        };
        if has == partitions {
            return Ok(created);
        }
        Err(refuse(format!("topic \"{topic}\" has {has} partitions, not {partitions}"))
            .remedy(format!("ask for {has}, or use another topic name: keys would change their partition")))
    }

    async fn ask_to_create(&self, topic: &str, partitions: u32) -> Result<bool> {
        let replication = self.settings.replication.map_or(-1, |r| r as i32);
        let (size, insync) = (MAX_MESSAGE.to_string(), self.settings.min_insync.map(|n| n.to_string()));
        let mut new = NewTopic::new(topic, partitions as i32, TopicReplication::Fixed(replication));
        new = new.set("max.message.bytes", &size);
        if let Some(insync) = &insync {
            new = new.set("min.insync.replicas", insync);
        }
        let admin = self.admin()?;
        let options =
            AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE / 2));
        let outcome = admin.create_topics(&[new], &options).await;
        self.admitted(&admin, topic, outcome, Code::TopicAlreadyExists)
    }

    /// Whether an admin call did something; `fine` says that there was nothing to do.
    fn admitted(
        &self,
        admin: &AdminClient<LastError>,
        topic: &str,
        outcome: Result<Vec<TopicResult>, KafkaError>,
        fine: Code,
    ) -> Result<bool> {
        let fail = |e: &KafkaError| Err(admin.inner().context().explain(&self.topic_place(topic), e));
        match outcome {
            Err(error) => fail(&error),
            Ok(results) => match results.into_iter().next() {
                Some(Ok(_)) => Ok(true),
                Some(Err((_, code))) if code == fine => Ok(false),
                Some(Err((_, code))) => fail(&KafkaError::AdminOp(code)),
                None => fail(&KafkaError::Canceled),
            },
        }
    }

    /// Deletes a topic and waits until it is gone.
    pub(super) async fn delete(self: &Arc<Self>, topic: &str) -> Result<()> {
        if !usable(topic) {
            return Ok(());
        }
        self.reach(topic).await?;
        let admin = self.admin()?;
        let options =
            AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE / 2));
        let outcome = admin.delete_topics(&[topic], &options).await;
        self.admitted(&admin, topic, outcome, Code::UnknownTopicOrPartition)?;
        self.forget(topic);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (cluster, name) = (Arc::clone(self), topic.to_owned());
            if blocking::run(&self.settings.place, move || cluster.counts(Some(&name))).await?.is_empty() {
                self.forget(topic);
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(BackendError::new(
                    ErrorKind::Unavailable,
                    self.topic_place(topic),
                    "the topic is still being deleted",
                )
                .remedy("repeat the deletion later"));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Whether a partition's leader is another one than was thought.
fn moved(code: Code) -> bool {
    matches!(
        code,
        Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::UnknownLeaderEpoch
            | Code::FencedLeaderEpoch
            | Code::ReplicaNotAvailable
            | Code::OffsetNotAvailable
    )
}

/// Whether there can be a topic of this name.
fn usable(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 249
        && name != "."
        && name != ".."
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Kafka's rule for names of topics, kept for groups too so that they can be used in any store.
pub(super) fn check_name(place: &str, what: &str, name: &str) -> Result<()> {
    if usable(name) {
        return Ok(());
    }
    Err(BackendError::new(ErrorKind::Rejected, place, format!("\"{name}\" is not a {what} name"))
        .remedy("use 1 to 249 letters, digits, '.', '_' and '-'"))
}
