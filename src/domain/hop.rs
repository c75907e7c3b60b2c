//! The hops of a run: the places that a trade has to reach, as the run's own steps say.
//!
//! A collecting step ([`Role::Source`]) has three: its spool, the topic it writes, and its collection of raw
//! documents. Each step that writes a topic's records into a store ([`Role::Hop`]) is one more. Nothing here
//! goes by the name of a step: a DAG without an objects sink has no such hop, and two index sinks are two.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::dag::{Dag, Step};
use super::ids::{DagName, StepName};
use super::program::{self, Program, Role, Store};
use super::run::{Run, StepState};

/// What a hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Kind {
    /// A collector's write-ahead log: what was received.
    Spool,
    /// The topic that a collector writes.
    Log,
    /// A store.
    Store(Store),
}

impl Kind {
    /// The word used in reports, pages, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spool => "spool",
            Self::Log => "log",
            Self::Store(store) => store.as_str(),
        }
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let stores = Store::ALL.into_iter().map(Self::Store);
        let found = [Self::Spool, Self::Log].into_iter().chain(stores).find(|kind| kind.as_str() == word);
        found.ok_or_else(|| format!("\"{word}\" is no kind of hop that this version knows"))
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.as_str().to_owned()
    }
}

/// A hop of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// What it is called in results, mails, metrics, API and pages; no two hops of a run share it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The step that fills it.
    pub step: StepName,
    /// That step's program.
    pub program: String,
    /// The feed, where a collecting step fills it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<String>,
    /// The consumer group through which a sink fills it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The topic that a collecting step writes, or that a sink reads.
    pub topic: String,
    /// Where it is: the topic, the collection, the name of the index before the date, the first part of the
    /// keys; nothing for a spool.
    pub place: String,
    /// Zone of the dates in its keys, where the step names one; else that of the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

impl Hop {
    /// The store it is in, if it is one.
    pub fn store(&self) -> Option<Store> {
        match self.kind {
            Kind::Store(store) => Some(store),
            Kind::Spool | Kind::Log => None,
        }
    }

    /// Whether it is a spool.
    pub fn is_spool(&self) -> bool {
        self.kind == Kind::Spool
    }

    /// What a freshness check calls it: a spool stands for the feed.
    pub fn checked_as(&self) -> String {
        match self.name.strip_suffix(Kind::Spool.as_str()) {
            Some(of) if self.is_spool() => format!("{of}feed"),
            _ => self.name.clone(),
        }
    }

    /// Whether what is in `spool` has to arrive here.
    pub fn is_fed_by(&self, spool: &Self) -> bool {
        spool.is_spool()
            && if self.group.is_none() { self.step == spool.step } else { self.topic == spool.topic }
    }
}

/// The positions of the spools whose trades have to arrive at a hop; for a spool, its own.
pub fn spools_of(hops: &[Hop], hop: &Hop) -> Vec<usize> {
    (0..hops.len()).filter(|at| hop.is_fed_by(&hops[*at])).collect()
}

/// Whether a step takes in data.
pub fn collects(programs: &[Program], step: &Step) -> bool {
    program::of(programs, step).is_some_and(|p| matches!(p.role, Role::Source(_)))
}

/// The hops of a DAG: those of each collecting step, then the sinks, each in the order of the steps.
pub fn of(dag: &Dag, programs: &[Program]) -> Vec<Hop> {
    of_steps(&dag.name, dag.steps().iter(), programs)
}

/// The hops of a run: those of its steps, without the ones that its parameters leave out, and what was
/// skipped because of those.
pub fn of_run(run: &Run, programs: &[Program]) -> Vec<Hop> {
    let mut left_out: BTreeSet<&StepName> = BTreeSet::new();
    for step in run.dag.steps() {
        let wanted = step.when.as_ref().is_none_or(|when| run.params.get(&when.param) == Some(&when.equals));
        let skipped = run.steps.get(&step.name).is_some_and(|s| s.state == StepState::Skipped);
        if !wanted || skipped && step.needs.iter().any(|need| left_out.contains(&need.step)) {
            left_out.insert(&step.name);
        }
    }
    of_steps(&run.dag.name, run.dag.steps().iter().filter(|step| !left_out.contains(&step.name)), programs)
}

/// The hops of some steps of a DAG; see [`of`].
pub fn of_steps<'a>(dag: &DagName, steps: impl Iterator<Item = &'a Step>, programs: &[Program]) -> Vec<Hop> {
    let (mut hops, mut sinks) = (Vec::new(), Vec::new());
    for step in steps {
        let Some(program) = program::of(programs, step) else { continue };
        match program.role {
            Role::Source(feed) => hops.extend(collected(step, program, feed)),
            Role::Hop(store) => sinks.extend(stored(dag, step, program, store)),
            Role::Transform | Role::Check | Role::Reconcile | Role::Task => {}
        }
    }
    let several = hops.iter().filter(|h| h.is_spool()).count() > 1;
    hops.append(&mut sinks);
    name(&mut hops, several);
    hops
}

fn collected(step: &Step, program: &Program, feed: &str) -> Vec<Hop> {
    let text = |name| program.text(&step.with, name).map(Cow::into_owned);
    let raw = Kind::Store(Store::Raw);
    let (Some(topic), Some(collection)) = (text("topic"), text(Store::Raw.place())) else {
        return Vec::new();
    };
    let places = [(Kind::Spool, String::new()), (Kind::Log, topic.clone()), (raw, collection)];
    let hop = |(kind, place): (Kind, String)| Hop {
        name: String::new(),
        kind,
        step: step.name.clone(),
        program: program.name.to_owned(),
        feed: Some(feed.to_owned()),
        group: None,
        topic: topic.clone(),
        place,
        timezone: None,
    };
    places.into_iter().map(hop).collect()
}

fn stored(dag: &DagName, step: &Step, program: &Program, store: Store) -> Option<Hop> {
    let text = |name| program.text(&step.with, name).map(Cow::into_owned);
    Some(Hop {
        name: String::new(),
        kind: Kind::Store(store),
        step: step.name.clone(),
        program: program.name.to_owned(),
        feed: None,
        group: Some(text("group").unwrap_or_else(|| format!("{dag}.{}", step.name))),
        topic: text("topic")?,
        place: placed(store, &text(store.place())?),
        timezone: text("timezone"),
    })
}

/// A place as a step writes it, as it is in the store: keys do not begin with a slash.
fn placed(store: Store, written: &str) -> String {
    match store {
        Store::Objects => written.trim_matches('/').to_owned(),
        Store::Raw | Store::Index => written.to_owned(),
    }
}

/// Gives each hop a name of its own. With one collecting step its hops are called by their kind, with several
/// the step's name stands before it. A sink is called by its store where it is the only one of that kind,
/// else by its step.
fn name(hops: &mut [Hop], several: bool) {
    let kinds: Vec<Kind> = hops.iter().map(|h| h.kind).collect();
    let words = [Kind::Spool, Kind::Log]
        .into_iter()
        .chain(Store::ALL.map(Kind::Store))
        .map(|k| k.as_str().to_owned());
    let mut taken: BTreeSet<String> = words.chain(["feed".to_owned()]).collect();
    for hop in hops {
        let word = hop.kind.as_str();
        hop.name = match (hop.group.is_none(), several) {
            (true, false) => word.to_owned(),
            (true, true) => format!("{}.{word}", hop.step),
            (false, _) if kinds.iter().filter(|kind| **kind == hop.kind).count() == 1 => word.to_owned(),
            (false, _) => {
                let mut name = hop.step.to_string();
                while taken.contains(&name) {
                    name = format!("{name}.{word}");
                }
                name
            }
        };
        taken.extend([hop.name.clone(), hop.checked_as()]);
    }
}

/// The parameters of a check or a reconciliation that say what follows from the steps.
pub const OVERRIDES: [&str; 6] = ["collector", "topic", "collection", "index", "prefix", "timezone"];

/// An override that names something no step of the run has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no collecting step of this run has it; there {}", match known.as_slice() { [] => "is none".to_owned(), all => format!("are {}", all.join(", ")) })]
pub struct Unmatched {
    /// The override.
    pub parameter: &'static str,
    /// What it could say.
    pub known: Vec<String>,
}

/// The hops that a check or a reconciliation looks at, where its [`OVERRIDES`] narrow the run's list to some
/// of them. A place that no step fills becomes a hop as well: something else may write it.
///
/// # Errors
/// When there is no such collecting step, or none that writes such a topic.
pub fn narrowed(mut hops: Vec<Hop>, with: &Map<String, Value>) -> Result<Vec<Hop>, Unmatched> {
    let given = |name: &str| with.get(name).and_then(Value::as_str);
    let overrides: [(&'static str, fn(&Hop) -> &str); 2] =
        [("collector", |h| h.step.as_str()), ("topic", |h| &h.topic)];
    for (parameter, of) in overrides {
        let Some(wanted) = given(parameter) else { continue };
        let spools: Vec<Hop> = hops.iter().filter(|h| h.is_spool()).cloned().collect();
        if !spools.iter().any(|s| of(s) == wanted) {
            return Err(Unmatched { parameter, known: spools.iter().map(|s| of(s).to_owned()).collect() });
        }
        hops.retain(|h| spools.iter().any(|s| of(s) == wanted && h.is_fed_by(s)));
    }
    for store in Store::ALL {
        let Some(place) = given(store.place()).map(|written| placed(store, written)) else { continue };
        let kind = Kind::Store(store);
        if hops.iter().any(|h| h.kind == kind && h.place == place) {
            hops.retain(|h| h.kind != kind || h.place == place);
        } else if let Some(spool) = hops.iter().find(|h| h.is_spool()).cloned() {
            hops.retain(|h| h.kind != kind);
            hops.push(Hop { name: kind.as_str().to_owned(), kind, place, ..spool });
        }
    }
    if let Some(zone) = given("timezone") {
        hops.iter_mut().for_each(|h| h.timezone = Some(zone.to_owned()));
    }
    Ok(hops)
}

/// Names of hops in the order of the data's way, where only the names are known: the hops of a collecting
/// step, then the sinks.
pub fn in_order<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let words = [Kind::Spool, Kind::Log].into_iter().chain(Store::ALL.map(Kind::Store)).map(Kind::as_str);
    let words: Vec<&str> = words.collect();
    let rank = |word: &str| words.iter().position(|w| *w == word).unwrap_or(words.len());
    let place = |name: &&'a str| {
        let (step, word) = name.rsplit_once('.').unwrap_or(("", *name));
        let collected = rank(word) <= rank(Store::Raw.as_str());
        if collected {
            (false, step.to_owned(), rank(word), *name)
        } else {
            (true, String::new(), rank(name), *name)
        }
    };
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_by_key(place);
    names
}

#[cfg(test)]
mod tests;
