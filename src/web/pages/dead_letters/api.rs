//! Dead letters, for programs.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::data::Sent;
use super::{ASK, Place, Reads, TOPICS, TopicState, Wanted, chosen, find, letters_of, place, send, topics};
use crate::api::answers::{Broken, Missing, Unavailable};
use crate::api::parameters::Key;
use crate::api::schemas;
use crate::http::body::{Body, body, whole};
use crate::http::caller::Caller;
use crate::http::command::by;
use crate::http::idempotency;
use crate::http::parts::{Asked, part_of};
use crate::http::problem::Kind;
use crate::http::query::{path, query};
use crate::http::reading::{Stamp, known, stamp};
use crate::http::reply::{Acted, Refusal, Reply};
use crate::pages::topics::records::Seen;
use daemon::Handle;
use domain::said;
use steps::dead_letters::{CauseGroup, Summary, by_cause};
use steps::replay::Which;

/// The dead letters of a topic, by cause.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetterTopic {
    /// Topic the records were on.
    topic: String,
    /// How many there are.
    letters: u64,
    /// How many of those that were looked at were sent again.
    replayed: usize,
    /// How many are older than those that were looked at.
    older: u64,
    #[schema(value_type = Vec<schemas::DeadLetterGroup>)]
    groups: Vec<CauseGroup>,
    #[serde(flatten)]
    stamp: Stamp,
}

/// A part of the topics with dead letters.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetterTopics<'a> {
    topics: Vec<DeadLetterTopic>,
    /// The `after` of the next part, a topic; null at the end.
    #[schema(required)]
    next: Option<String>,
    /// IANA zone to show times in.
    timezone: &'a str,
    #[serde(flatten)]
    stamp: Stamp,
}

/// A part of the dead letters of a topic.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetterList<'a> {
    topic: &'a str,
    #[schema(value_type = Vec<schemas::DeadLetter>)]
    letters: &'a [Summary],
    /// The `after` of the next part, `partition/offset`; null at the end.
    #[schema(required)]
    next: Option<String>,
    /// IANA zone to show times in.
    timezone: &'a str,
    #[serde(flatten)]
    stamp: Stamp,
}

/// A dead letter with its bytes.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetterDetail<'a> {
    topic: &'a str,
    #[schema(value_type = schemas::DeadLetter)]
    letter: Summary,
    record: &'a Seen,
    /// IANA zone to show times in.
    timezone: &'a str,
    #[serde(flatten)]
    stamp: Stamp,
}

/// Which topics are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AskedTopics {
    /// How many topics at most; each is read by itself.
    #[param(minimum = 1, maximum = 12, default = 12)]
    limit: Option<usize>,
    /// Go on after this: the `next` of the part before (a topic).
    after: Option<String>,
}

/// Dead letters of all topics, grouped by cause, refuser and stage.
#[utoipa::path(
    get,
    path = "/dead-letters",
    tag = "log",
    params(AskedTopics),
    responses(
        (
            status = 200,
            description = "`topics` with `letters`, `replayed`, `groups`; `next`. Also `read_at`, and \
                `trouble` (`since`, `text`) when the store does not answer and the figures are older.",
            body = DeadLetterTopics,
        ),
        Missing, Unavailable,
    ),
)]
pub(crate) async fn dead_letters(
    State(reads): Reads,
    State(log): TopicState,
    State(handle): State<Handle>,
    asked: Result<Query<AskedTopics>, QueryRejection>,
) -> Reply {
    let asked = query(asked, said!("ask for limit=N and after=TOPIC"))?;
    // Each topic is read by itself.
    let limit = asked.limit.unwrap_or(TOPICS);
    if !(1..=TOPICS).contains(&limit) {
        return Err(Refusal::bad(
            said!("limit is {}", limit.to_string()),
            said!("ask for 1 to {} topics", TOPICS.to_string()),
        )
        .into());
    }
    let asked = Asked { limit: Some(limit), after: asked.after };
    let (reading, names) = topics(&log).await;
    known(&reading)?;
    let (part, next) = part_of(&names, &asked, Clone::clone)?;
    let mut topics = Vec::new();
    for (topic, letters) in letters_of(&reads, part.to_vec()).await {
        let found = known(&letters)?;
        let replayed = found.lines.iter().filter(|l| l.replayed).count();
        topics.push(DeadLetterTopic {
            topic,
            letters: found.lines.len() as u64 + found.older,
            replayed,
            older: found.older,
            groups: by_cause(&found.lines),
            stamp: stamp(&letters),
        });
    }
    let timezone = &handle.snapshot().timezone;
    Ok(Json(json!(DeadLetterTopics { topics, next, timezone, stamp: stamp(&reading) })))
}

/// Dead letters of a topic, newest first, without their bytes.
#[utoipa::path(
    get,
    path = "/dead-letters/{topic}",
    tag = "log",
    params(
        ("topic" = String, Path, description = "Topic the records were on (not the dead-letter topic)."),
        Wanted,
    ),
    responses(
        (
            status = 200,
            description = "`letters`, `next`. Also `read_at`, and `trouble` (`since`, `text`) when the store \
                does not answer and the figures are older.",
            body = DeadLetterList,
        ),
        Missing, Unavailable,
    ),
)]
pub(crate) async fn dead_letters_of(
    State(reads): Reads,
    State(handle): State<Handle>,
    topic: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Reply {
    let (topic, wanted) = (path(topic)?, query(wanted, ASK)?);
    let reading = reads.letters(&topic).await;
    let all = chosen(known(&reading)?, wanted.cause.as_deref());
    let (lines, next) = part_of(&all, &Asked { limit: wanted.limit, after: wanted.after }, place)?;
    let timezone = &handle.snapshot().timezone;
    Ok(Json(json!(DeadLetterList { topic: &topic, letters: lines, next, timezone, stamp: stamp(&reading) })))
}

/// One dead letter with headers and bytes.
#[utoipa::path(
    get,
    path = "/dead-letters/{topic}/{partition}/{offset}",
    tag = "log",
    params(
        ("topic" = String, Path, description = "Topic the records were on (not the dead-letter topic)."),
        (
            "partition" = u32,
            Path,
            minimum = 0,
            maximum = 4294967295u32,
            description = "Partition of the dead-letter topic.",
        ),
        ("offset" = u64, Path, minimum = 0, maximum = 18446744073709551615u64, description = "Offset there."),
    ),
    responses(
        (
            status = 200,
            description = "`letter` and `record`. Also `read_at`, and `trouble` (`since`, `text`) when the \
                store does not answer and the figures are older.",
            body = DeadLetterDetail,
        ),
        Missing, Unavailable,
    ),
)]
pub(crate) async fn dead_letter(State(reads): Reads, State(handle): State<Handle>, place: Place) -> Reply {
    let (topic, reading, replayed) = find(&reads, place).await?;
    let facts = known(&reading)?;
    let letter = Summary { replayed, ..facts.line.clone() };
    let timezone = &handle.snapshot().timezone;
    Ok(Json(json!(DeadLetterDetail {
        topic: &topic,
        letter,
        record: &facts.seen,
        timezone,
        stamp: stamp(&reading)
    })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Again {
    topic: String,
    #[serde(default)]
    all: bool,
    cause: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    partition: Option<u32>,
    #[serde(default, deserialize_with = "whole")]
    offset: Option<u64>,
    value: Option<String>,
}

/// Send dead letters to the topic they came from: all, those of a cause, or one, as it was or as an edited
/// copy. Once is enough: what was sent before is passed over.
#[utoipa::path(
    post,
    path = "/dead-letters/replay",
    tag = "log",
    params(Key),
    request_body = schemas::Replay,
    responses(
        (status = 200, description = "What was done.", body = schemas::Replayed),
        Missing, Broken, Unavailable,
    ),
)]
pub(crate) async fn replay(State(reads): Reads, caller: Caller, headers: HeaderMap, sent: Body) -> Acted {
    let (Again { topic, all, cause, partition, offset, value }, sent) = body(&headers, sent)?;
    let which = match (all, cause, partition, offset, value) {
        (true, None, None, None, None) => Which::All,
        (false, Some(cause), None, None, None) => Which::Cause(cause),
        (false, None, Some(partition), Some(offset), value) => {
            Which::One { partition, offset, edited: value.map(String::into_bytes) }
        }
        _ => {
            return Err(Refusal::bad(
                said!("it does not say which dead letters"),
                said!("send one of: \"all\": true; a \"cause\"; \"partition\" and \"offset\", with a \"value\" to send an edited copy"),
            )
            .kind(Kind::BadBody)
            .into());
        }
    };
    let by = caller.by(by(&headers));
    let once = idempotency::once(&headers, &by, "replay", &topic, &sent)?;
    match send(&reads, &by, &topic, which, once).await? {
        Sent::Now(done) => Ok(idempotency::answer(json!(done), false)),
        Sent::Again(answer) => {
            Ok(idempotency::answer(serde_json::from_str(&answer).unwrap_or_default(), true))
        }
        Sent::KeyTaken => Err(idempotency::taken().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_whole_numbers_however_they_are_written() {
        let read = |partition: &str, offset: &str| {
            let text = format!("{{\"topic\": \"t\", \"partition\": {partition}, \"offset\": {offset}}}");
            serde_json::from_str::<Again>(&text).map(|again| (again.partition, again.offset)).ok()
        };
        assert_eq!(read("3", "18446744073709551615"), Some((Some(3), Some(u64::MAX))));
        assert_eq!(read("3.0", "1e3"), Some((Some(3), Some(1_000))));
        assert_eq!(read("null", "null"), Some((None, None)));
        for bad in ["-1", "0.5", "4294967296", "1e300", "\"3\"", "-0.5", "[3]"] {
            assert_eq!(read(bad, "0"), None, "{bad}");
        }
        assert_eq!(read("0", "9007199254740993.0"), None);
    }
}
