//! `sink/objects`: the log's records as gzip JSON lines, one open file per partition.
//!
//! Every object holds a stretch of offsets that starts where its predecessor ended, and its key follows from
//! the stretch's first record alone. A key can be written once ([`Objects::put_if_absent`]): when it exists,
//! an earlier life of this sink (or an owner that lost the partition) wrote it, its `end_offset` says how
//! far, and the lane goes on after it. So two writers that start from the same commit cannot both store a
//! record, and a lost reply is found out by the same path.
//!
//! A stretch in which every record was a duplicate or a dead letter becomes an object without lines: it keeps
//! the chain whole.
//!
//! Records that were sent again to a topic that was made anew ([`REFILL`]) begin a chain of their own. Their
//! folder follows from the time of receipt, as it did the first time, so what is there already is found by
//! reading the folder's objects ([`super::folder`]).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flate2::{Compression, GzBuilder};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::contents::{Again, Contents, Scope, Visit};
use super::core::{self, Sink};
use super::folder;
use super::lane::{Due, Flushed, Lane, Pushed, Target};
use crate::envelope::{Envelope, REFILL, with_place};
use crate::log_search;
use crate::programs::{GROUP, REMEMBER, TOPIC};
use crate::{Context, StepError};
use backends::log::{Log, Partition, Stored};
use backends::objects::{Metadata, Objects, Put};
use backends::{BackendError, ErrorKind, Result};
use clock::Clock;
use domain::dag::StepKind;
use domain::hop::Hop;
use domain::parameters::Parameters;
use domain::program::{Parameter, Program, Role, Shape, Store};
use domain::recent::RecentIds;

/// Where its objects begin.
pub(crate) const PREFIX: Parameter =
    Parameter::new("prefix", Shape::Text, "first part of the object keys").or_as("topic");
/// The zone of its folders.
pub(crate) const TIMEZONE: Parameter =
    Parameter::new("timezone", Shape::Text, "zone of the date parts of object keys")
        .or_else("the schedule's");

const ROTATE: &[Parameter] = &[
    Parameter::new("size", Shape::Size, "largest object, of lines before compression").or("64MiB"),
    Parameter::new("every", Shape::Duration, "longest time one object stays open").or("1m"),
];

/// Its row in the table of programs.
pub const PROGRAM: Program = Program {
    name: "sink/objects",
    kinds: &[StepKind::Service],
    role: Role::Hop(Store::Objects),
    about: "writes a topic into objects, one open file a partition",
    parameters: &[
        TOPIC,
        GROUP,
        Parameter::new("rotate", Shape::Table(ROTATE), "when an object is closed and the next begun"),
        PREFIX,
        TIMEZONE,
        Parameter { shape: Shape::Count(0), ..REMEMBER },
    ],
    secrets: &[],
    replicas: true,
};

/// Runs the step until it is stopped.
///
/// # Errors
/// See [`core::run`].
pub async fn run(context: Context) -> Result<serde_json::Value, StepError> {
    let p = Parameters::of(&PROGRAM, &context.spec.step.with);
    let rotate = p.table("rotate", "rotate.")?;
    let zone = object_zone(&p, &context)?;
    let target = ObjectsTarget {
        objects: Arc::clone(&context.backends.objects),
        log: Arc::clone(&context.backends.log),
        clock: context.clock.clone(),
        prefix: p.text("prefix")?.trim_matches('/').to_owned(),
        zone,
        size: rotate.bytes("size")?,
        every: rotate.duration("every")?,
        remember: p.size("remember")?,
    };
    let sink = Sink::of(&PROGRAM, &p, &context, target)?;
    core::run(context, sink).await
}

/// The zone of object keys that `timezone` names, else the schedule's.
///
/// # Errors
/// When there is no such zone.
pub(crate) fn object_zone(p: &Parameters<'_>, context: &Context) -> std::result::Result<TimeZone, StepError> {
    let name = p.optional_text("timezone")?.unwrap_or_else(|| context.spec.timezone.clone());
    TimeZone::get(&name).map_err(|e| {
        p.wrong(
            "timezone",
            format!("\"{name}\" is not a time zone ({e}); write for example Asia/Seoul or UTC"),
        )
        .into()
    })
}

/// The folder of a receipt time: `year=YYYY/month=MM/day=DD/hour=HH` in a zone.
pub fn hive(at: Timestamp, zone: &TimeZone) -> String {
    let t = at.to_zoned(zone.clone());
    format!("year={:04}/month={:02}/day={:02}/hour={:02}", t.year(), t.month(), t.day(), t.hour())
}

/// The chain that an object of this key belongs to, and its first offset. A chain is of one partition of one
/// incarnation of the topic, in one folder; the keys of two chains do not follow each other in time.
pub fn place_of(key: &str) -> Option<(&str, u64)> {
    let (chain, start) = key.strip_suffix(".jsonl.gz")?.rsplit_once('+')?;
    Some((chain, start.parse().ok()?))
}

/// The objects of a hop.
pub(super) struct ObjectsContents {
    objects: Arc<dyn Objects>,
    prefix: String,
    zone: TimeZone,
}

pub(super) fn contents(context: &Context, hop: &Hop, zone: TimeZone) -> ObjectsContents {
    ObjectsContents { objects: Arc::clone(&context.backends.objects), prefix: hop.place.clone(), zone }
}

#[async_trait]
impl Contents for ObjectsContents {
    /// Looks into the newest hour that has any, at the last object of each chain.
    async fn newest(&self, since: Timestamp, scope: &Scope) -> Result<Option<Timestamp>> {
        let hour = SignedDuration::from_hours(1);
        let first = since.min(scope.now).checked_sub(hour).unwrap_or(Timestamp::MIN);
        let mut at = scope.now;
        loop {
            let path = format!("{}/{}/", self.prefix, hive(at, &self.zone));
            let mut last: BTreeMap<String, String> = BTreeMap::new();
            for key in folder::keys(self.objects.as_ref(), &path).await? {
                if let Some((chain, _)) = place_of(&key) {
                    last.insert(chain.to_owned(), key);
                }
            }
            let mut newest: Option<Timestamp> = None;
            for key in last.values() {
                let metadata = self.objects.head(key).await?.unwrap_or_default();
                newest = newest.max(metadata.get("newest_received_at").and_then(|t| t.parse().ok()));
            }
            if newest.is_some() {
                return Ok(newest);
            }
            at = match at.checked_sub(hour) {
                Ok(earlier) if earlier >= first => earlier,
                _ => return Ok(None),
            };
        }
    }

    async fn ids(&self, scope: &Scope, again: &Again<'_>, visit: &mut Visit<'_>) -> Result<()> {
        let (date, today) = (scope.date, scope.now.to_zoned(self.zone.clone()).date());
        // Receipt days: the session's, the day after (zones west of the exchange), and today, for a run that
        // is done again later.
        let days: BTreeSet<_> = [Some(date), date.yesterday().ok(), date.tomorrow().ok(), Some(today)]
            .into_iter()
            .flatten()
            .filter(|day| *day <= today.max(date))
            .collect();
        let objects = self.objects.as_ref();
        for day in days {
            let path = format!(
                "{}/year={:04}/month={:02}/day={:02}/",
                self.prefix,
                day.year(),
                day.month(),
                day.day()
            );
            for key in again.ask(|| folder::keys(objects, &path)).await? {
                let lines = again.ask(|| folder::lines(objects, &key)).await?;
                lines.iter().filter(|line| line.session_date == date).for_each(|line| visit(&line.id));
            }
        }
        Ok(())
    }
}

pub(super) struct ObjectsTarget {
    pub objects: Arc<dyn Objects>,
    pub log: Arc<dyn Log>,
    pub clock: Clock,
    pub prefix: String,
    pub zone: TimeZone,
    pub size: usize,
    pub every: Duration,
    /// Ids remembered over all partitions.
    pub remember: usize,
}

#[async_trait]
impl Target for ObjectsTarget {
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    async fn lane(&self, partition: &Partition, next: u64) -> Result<(Box<dyn Lane>, u64)> {
        let missing = || {
            BackendError::new(
                ErrorKind::Unavailable,
                format!("log topic {}", partition.topic),
                "the topic is gone",
            )
        };
        let topic = self.log.topic(&partition.topic).await?.ok_or_else(missing)?;
        let range = topic.partitions.get(partition.number as usize).ok_or_else(missing)?;
        let window = self.remember / topic.partitions.len().max(1);
        let mut recent = RecentIds::new(window);
        log_search::ids_before(self.log.as_ref(), partition, range.start, next, window, |id| {
            recent.insert(id);
        })
        .await?;
        let lane = ObjectsLane {
            objects: Arc::clone(&self.objects),
            clock: self.clock.clone(),
            prefix: self.prefix.clone(),
            file: format!("{}+{}+{}", partition.topic, topic.incarnation, partition.number),
            zone: self.zone.clone(),
            size: self.size,
            every: self.every,
            recent,
            written: None,
            wanted: None,
            skip_before: next,
            open: None,
        };
        Ok((Box::new(lane), next))
    }
}

struct ObjectsLane {
    objects: Arc<dyn Objects>,
    clock: Clock,
    prefix: String,
    /// `{topic}+{incarnation}+{partition}`.
    file: String,
    zone: TimeZone,
    size: usize,
    every: Duration,
    recent: RecentIds,
    /// A folder, and the ids that its objects had when they were read.
    written: Option<(String, HashSet<String>)>,
    /// A folder to read before the next record can be judged.
    wanted: Option<String>,
    /// Offsets before this are in objects already.
    skip_before: u64,
    open: Option<Stretch>,
}

/// The records of the object being filled, also those without a line.
struct Stretch {
    folder: String,
    entries: Vec<Entry>,
    bytes: usize,
    due: Timestamp,
}

struct Entry {
    offset: u64,
    received_at: Timestamp,
    line: Option<Vec<u8>>,
}

impl ObjectsLane {
    fn key(&self, stretch: &Stretch) -> Option<String> {
        let start = stretch.entries.first()?.offset;
        Some(format!("{}/{}/{}+{start:020}.jsonl.gz", self.prefix, stretch.folder, self.file))
    }

    /// Somebody wrote the key: drops what that object covers.
    async fn go_on_after(&mut self, key: &str) -> Result<Flushed> {
        let Some(metadata) = self.objects.head(key).await? else {
            return Err(BackendError::new(
                ErrorKind::Unavailable,
                format!("object {key}"),
                "existed a moment ago and is gone now",
            ));
        };
        let Some(stretch) = &mut self.open else { return Ok(Flushed::default()) };
        let start = stretch.entries.first().map_or(0, |e| e.offset);
        let end: u64 = metadata
            .get("end_offset")
            .and_then(|t| t.parse().ok())
            .filter(|end| *end >= start)
            .ok_or_else(|| {
                BackendError::new(
                    ErrorKind::Corrupt,
                    format!("object {key}"),
                    "exists without a usable end_offset in its metadata",
                )
                .remedy("it was not written by this sink; move it away, and the records are written again")
            })?;
        let before = stretch.entries.len();
        stretch.entries.retain(|e| e.offset > end);
        stretch.bytes = stretch.entries.iter().filter_map(|e| e.line.as_ref()).map(Vec::len).sum();
        let existing = (before - stretch.entries.len()) as u64;
        self.skip_before = self.skip_before.max(end + 1);
        let left = if stretch.entries.is_empty() {
            self.open = None;
            super::lane::Left::Nothing
        } else {
            super::lane::Left::More
        };
        Ok(Flushed { existing, left, ..Flushed::default() })
    }
}

#[async_trait]
impl Lane for ObjectsLane {
    fn push(&mut self, record: Stored) -> Pushed {
        let envelope = Envelope::read(&record);
        if record.offset < self.skip_before {
            if let Ok(envelope) = &envelope {
                self.recent.insert(&envelope.id);
            }
            return Pushed::Duplicate;
        }
        // The path follows from the record alone, so that whoever starts a stretch at this offset makes the
        // same key.
        let received_at = envelope.as_ref().map_or(record.record.timestamp, |e| e.received_at);
        let folder = hive(received_at, &self.zone);
        if self.open.as_ref().is_some_and(|open| open.folder != folder) {
            return Pushed::FlushFirst(Box::new(record));
        }
        let again = envelope.is_ok() && record.record.header(REFILL).is_some();
        if again && self.written.as_ref().is_none_or(|(of, _)| *of != folder) {
            self.wanted = Some(folder);
            return Pushed::FlushFirst(Box::new(record));
        }
        let written = |id: &str| again && self.written.as_ref().is_some_and(|(_, ids)| ids.contains(id));
        let due = self.clock.now().checked_add(self.every).unwrap_or(Timestamp::MAX);
        let open = self.open.get_or_insert_with(|| Stretch { folder, entries: Vec::new(), bytes: 0, due });
        let mut entry = Entry { offset: record.offset, received_at, line: None };
        match envelope {
            Err(refusal) => {
                open.entries.push(entry);
                Pushed::Refused(Box::new(record), refusal)
            }
            Ok(envelope) if written(&envelope.id) || !self.recent.insert(&envelope.id) => {
                open.entries.push(entry);
                Pushed::Duplicate
            }
            Ok(_) => {
                let mut line = with_place(&record);
                line.push(b'\n');
                open.bytes += line.len();
                entry.line = Some(line);
                open.entries.push(entry);
                Pushed::Taken
            }
        }
    }

    fn due(&self) -> Due {
        match &self.open {
            None => Due::Idle,
            Some(open) if open.bytes >= self.size => Due::Now,
            Some(open) => Due::At(open.due),
        }
    }

    async fn flush(&mut self) -> Result<Flushed> {
        if let Some(folder) = self.wanted.clone() {
            let ids = folder::ids(self.objects.as_ref(), &format!("{}/{folder}/", self.prefix)).await?;
            self.written = Some((folder, ids));
            self.wanted = None;
        }
        let Some(stretch) = &self.open else { return Ok(Flushed::default()) };
        let (Some(key), Some(last)) = (self.key(stretch), stretch.entries.last()) else {
            return Ok(Flushed::default());
        };
        let end = last.offset;
        let start = stretch.entries.first().map_or(end, |e| e.offset);
        let lines = stretch.entries.iter().filter_map(|e| e.line.as_deref());
        let count = lines.clone().count() as u64;
        let text = lines.fold(Vec::with_capacity(stretch.bytes), |mut all, line| {
            all.extend_from_slice(line);
            all
        });
        let newest = stretch.entries.iter().map(|e| e.received_at).max().unwrap_or_default();
        let mut metadata = Metadata::new();
        for (name, value) in [
            ("start_offset", start.to_string()),
            ("end_offset", end.to_string()),
            ("count", count.to_string()),
            ("crc32", format!("{:08x}", crc32fast::hash(&text))),
            ("newest_received_at", domain::trade::rfc3339(newest, &self.zone)),
        ] {
            metadata.insert(name.to_owned(), value);
        }
        let body = compress(text).await?;
        match self.objects.put_if_absent(&key, body, &metadata).await? {
            Put::Created => {
                self.skip_before = end + 1;
                self.open = None;
                Ok(Flushed { written: count, ..Flushed::default() })
            }
            Put::Exists => self.go_on_after(&key).await,
        }
    }
}

/// Texts above this are compressed away from the tasks that serve sockets.
const COMPRESS_INLINE: usize = 256 << 10;

async fn compress(text: Vec<u8>) -> Result<Vec<u8>> {
    let failed = |message: String| BackendError::new(ErrorKind::Unavailable, "gzip", message);
    if text.len() <= COMPRESS_INLINE {
        return gzip(&text).map_err(|e| failed(e.to_string()));
    }
    match tokio::task::spawn_blocking(move || gzip(&text)).await {
        Ok(body) => body.map_err(|e| failed(e.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Same text, same bytes: no file name, no time in the header.
fn gzip(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder =
        GzBuilder::new().mtime(0).write(Vec::with_capacity(text.len() / 6 + 64), Compression::new(4));
    encoder.write_all(text)?;
    encoder.finish()
}
