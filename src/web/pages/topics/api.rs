//! Topics and their records, for programs.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::data::{TopicFacts, Topics};
use super::records::Seen;
use super::{RECORDS, Reads, Wanted, missing};
use crate::api::answers::{Missing, Unavailable};
use crate::http::parts::{Asked, part_of};
use crate::http::query::{path, query};
use crate::http::reading::{Stamp, known, stamp};
use crate::http::reply::{Refusal, Reply};
use daemon::{Handle, Snapshot};
use domain::said;

/// A topic in a list.
#[derive(Debug, Serialize, ToSchema)]
struct TopicLine<'a> {
    name: &'a str,
    /// How many there are.
    partitions: usize,
    /// Records it holds.
    records: u64,
    #[schema(required)]
    rate_per_second: Option<f64>,
    /// Time of the newest record.
    #[schema(required)]
    newest: Option<Timestamp>,
    /// Dead letters held of it; null without a topic for them.
    #[schema(required)]
    dead_letters: Option<u64>,
    groups: Vec<GroupLine<'a>>,
}

/// A consumer group.
#[derive(Debug, Serialize, ToSchema)]
struct GroupLine<'a> {
    group: &'a str,
    /// How far it is behind the end, in records.
    lag: u64,
}

/// A part of the topics.
#[derive(Debug, Serialize, ToSchema)]
struct TopicList<'a> {
    /// By name.
    topics: Vec<TopicLine<'a>>,
    /// The `after` of the next part, a name; null at the end.
    #[schema(required)]
    next: Option<String>,
    /// IANA zone to show times in.
    timezone: &'a str,
    #[serde(flatten)]
    stamp: Stamp,
}

/// A topic with the offsets of its partitions and groups.
#[derive(Debug, Serialize, ToSchema)]
struct TopicDetail<'a> {
    name: &'a str,
    partitions: Vec<PartitionLine>,
    /// Records it holds.
    records: u64,
    #[schema(required)]
    rate_per_second: Option<f64>,
    /// Time of the newest record.
    #[schema(required)]
    newest: Option<Timestamp>,
    /// Dead letters held of it; null without a topic for them.
    #[schema(required)]
    dead_letters: Option<u64>,
    groups: Vec<GroupDetail<'a>>,
    /// IANA zone to show times in.
    timezone: &'a str,
    #[serde(flatten)]
    stamp: Stamp,
}

/// A partition.
#[derive(Debug, Serialize, ToSchema)]
struct PartitionLine {
    partition: usize,
    /// Offset of the first record.
    start: u64,
    /// Offset behind the last one.
    end: u64,
    /// Time of the newest record.
    #[schema(required)]
    newest: Option<Timestamp>,
}

/// A consumer group in each partition.
#[derive(Debug, Serialize, ToSchema)]
struct GroupDetail<'a> {
    group: &'a str,
    /// How far it is behind the end, in records.
    lag: u64,
    partitions: Vec<Position>,
}

/// Where a group stands in a partition.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupPosition)]
struct Position {
    partition: usize,
    /// Offset that it reads next; null if it never said.
    #[schema(required)]
    next: Option<u64>,
    /// How far it is behind the end, in records.
    lag: u64,
}

/// Records of a partition.
#[derive(Debug, Serialize, ToSchema)]
struct RecordList<'a> {
    topic: &'a str,
    partition: u32,
    /// Offset of the partition's first record.
    start: u64,
    /// Offset behind its last one.
    end: u64,
    /// In the order of their offsets.
    records: &'a [Seen],
    /// The `after` of the next part, an offset; null at the end.
    #[schema(required)]
    next: Option<u64>,
    /// IANA zone to show times in.
    timezone: &'a str,
    #[serde(flatten)]
    stamp: Stamp,
}

fn brief<'a>(snapshot: &Snapshot, topics: &Topics, facts: &'a TopicFacts) -> TopicLine<'a> {
    let name = &facts.topic.name;
    let groups = facts.groups.iter().map(|(group, at)| GroupLine { group, lag: facts.total_lag(at) });
    TopicLine {
        name,
        partitions: facts.topic.partitions.len(),
        records: facts.records(),
        rate_per_second: snapshot.gauges.rates.get(name).copied(),
        newest: facts.newest(),
        dead_letters: topics.dead_letters(name),
        groups: groups.collect(),
    }
}

/// Topics with partitions, records, rate, newest record, dead letters and lag by consumer group.
#[utoipa::path(
    get,
    path = "/topics",
    tag = "log",
    params(Asked),
    responses(
        (
            status = 200,
            description = "`topics` by name, `next`, `timezone`. Also `read_at`, and `trouble` (`since`, \
                `text`) when the store does not answer and the figures are older.",
            body = TopicList,
        ),
        Missing, Unavailable,
    ),
)]
pub(crate) async fn topics(
    State(reads): Reads,
    State(handle): State<Handle>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Reply {
    let asked = query(asked, said!("ask for limit=N and after=NAME"))?;
    let reading = reads.topics().await;
    let (known, snapshot) = (known(&reading)?, handle.snapshot());
    let (part, next) = part_of(&known.topics, &asked, |t| t.topic.name.clone())?;
    let topics = part.iter().map(|facts| brief(&snapshot, known, facts)).collect();
    Ok(Json(json!(TopicList { topics, next, timezone: &snapshot.timezone, stamp: stamp(&reading) })))
}

/// One topic: offsets of each partition, position and lag of each group.
#[utoipa::path(
    get,
    path = "/topics/{name}",
    tag = "log",
    params(("name" = String, Path, description = "Name of the topic.")),
    responses(
        (
            status = 200,
            description = "`partitions`, `groups`, and the figures of the list. Also `read_at`, and \
                `trouble` (`since`, `text`) when the store does not answer and the figures are older.",
            body = TopicDetail,
        ),
        Missing, Unavailable,
    ),
)]
pub(crate) async fn topic(
    State(reads): Reads,
    State(handle): State<Handle>,
    name: Result<Path<String>, PathRejection>,
) -> Reply {
    let name = path(name)?;
    let reading = reads.topics().await;
    let (topics, snapshot) = (known(&reading)?, handle.snapshot());
    let facts = topics.find(&name).ok_or_else(|| missing(&name))?;
    let TopicLine { name, records, rate_per_second, newest, dead_letters, .. } =
        brief(&snapshot, topics, facts);
    let ranges = facts.topic.partitions.iter().zip(&facts.newest).enumerate();
    let partitions = ranges.map(|(partition, (range, newest))| PartitionLine {
        partition,
        start: range.start,
        end: range.end,
        newest: *newest,
    });
    let groups = facts.groups.iter().map(|(group, at)| {
        let each = at.iter().enumerate();
        let each = each.map(|(partition, next)| Position {
            partition,
            next: *next,
            lag: facts.lag(partition, *next),
        });
        GroupDetail { group, lag: facts.total_lag(at), partitions: each.collect() }
    });
    Ok(Json(json!(TopicDetail {
        name,
        partitions: partitions.collect(),
        records,
        rate_per_second,
        newest,
        dead_letters,
        groups: groups.collect(),
        timezone: &snapshot.timezone,
        stamp: stamp(&reading),
    })))
}

/// Records of a partition: the newest, or those from an offset on. Of a value at most 64 KiB are shown.
#[utoipa::path(
    get,
    path = "/topics/{name}/records",
    tag = "log",
    params(("name" = String, Path, description = "Name of the topic."), Wanted),
    responses(
        (
            status = 200,
            description = "`records` in the order of their offsets, `start`, `end`, and `next` to give as \
                `after`. Bytes are `{format: json|text|hex, text, size_bytes, cut}`. Also `read_at`, and \
                `trouble` (`since`, `text`) when the store does not answer and the figures are older.",
            body = RecordList,
        ),
        Missing, Unavailable,
    ),
)]
pub(crate) async fn records(
    State(reads): Reads,
    State(handle): State<Handle>,
    name: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Reply {
    let (name, wanted) = (path(name)?, query(wanted, RECORDS)?);
    // Only fields of forms may be empty.
    let given = [&wanted.partition, &wanted.from, &wanted.after, &wanted.limit];
    if given.iter().any(|text| text.as_deref() == Some("")) {
        return Err(Refusal::bad(said!("a parameter has no value"), RECORDS).into());
    }
    let look = wanted.look(name)?;
    let reading = reads.peek(look.clone()).await;
    let peek = known(&reading)?;
    Ok(Json(json!(RecordList {
        topic: &look.topic,
        partition: look.partition,
        start: peek.range.start,
        end: peek.range.end,
        records: &peek.records,
        next: peek.next().map(|next| next - 1),
        timezone: &handle.snapshot().timezone,
        stamp: stamp(&reading),
    })))
}
