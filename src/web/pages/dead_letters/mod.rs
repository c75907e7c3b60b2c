//! Dead letters: pages and forms.

pub(crate) mod api;
pub(crate) mod data;
pub(crate) mod view;

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::cache::Reading;
use crate::http::form::Checked;
use crate::http::idempotency;
use crate::http::page::Frame;
use crate::http::parts::{Asked, part_of};
use crate::http::query::{path, query};
use crate::http::reading::not_missing;
use crate::http::reply::{PageRefusal, Refusal};
use crate::locale::say;
use crate::pages::topics::data::{TopicReads, Topics};
use backends::{BackendError, ErrorKind};
use daemon::Handle;
use daemon::idempotency::Idempotency;
use data::{LetterFacts, LetterReads, Letters, Sent};
use domain::message::Message;
use domain::said;
use steps::dead_letters::{Summary, topic_of};
use steps::replay::Which;
use view::Part;

type Reads = State<Arc<LetterReads>>;
type TopicState = State<Arc<TopicReads>>;

/// Messages on a page.
const ON_A_PAGE: usize = 50;
/// Topics whose dead letters are shown together.
const TOPICS: usize = 12;

const ASK: Message = said!("ask for cause=WORD, limit=N, after=PLACE");

/// Which messages are asked for. Not flattened: numbers of a query would come as text.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Only those of this cause.
    cause: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<usize>,
    /// Go on after this: the `next` of the part before (`partition/offset`).
    after: Option<String>,
}

/// Place of a letter on its topic.
fn place(line: &Summary) -> String {
    format!("{}/{}", line.partition, line.offset)
}

/// Topics that have a topic of dead letters, by name.
async fn topics(reads: &TopicReads) -> (Reading<Topics>, Vec<String>) {
    let reading = reads.topics().await;
    let suffix = topic_of("");
    let names = reading.value.iter().flat_map(|(_, topics)| &topics.topics);
    let names = names.filter_map(|t| t.topic.name.strip_suffix(&suffix)).map(str::to_owned).collect();
    (reading, names)
}

async fn letters_of(reads: &LetterReads, names: Vec<String>) -> Vec<(String, Reading<Letters>)> {
    let read = names.into_iter().map(|name| async move {
        let reading = reads.letters(&name).await;
        (name, reading)
    });
    futures_util::future::join_all(read).await
}

/// Dead letters of all topics, by cause.
pub(crate) async fn list(
    State(reads): Reads,
    State(log): TopicState,
    State(handle): State<Handle>,
    frame: Frame,
) -> Response {
    let (reading, mut names) = topics(&log).await;
    names.truncate(TOPICS);
    let letters = letters_of(&reads, names).await;
    let fragments = view::list(&handle.snapshot(), &reading, &letters, frame.csrf(), &frame.reader);
    frame.page("dead-letters", say!("Dead letters"), None, fragments).refreshing().into_response()
}

fn chosen(letters: &Letters, cause: Option<&str>) -> Vec<Summary> {
    letters.lines.iter().filter(|l| cause.is_none_or(|c| c == l.cause)).cloned().collect()
}

/// Messages of a topic, or of a cause.
pub(crate) async fn messages(
    State(reads): Reads,
    State(handle): State<Handle>,
    frame: Frame,
    topic: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let (topic, wanted) = (path(topic)?, query(wanted, ASK)?);
    let reading = reads.letters(&topic).await;
    not_missing(&reading)?;
    let cause = wanted.cause.as_deref().filter(|c| !c.is_empty());
    let all = reading.value.as_ref().map_or_else(Vec::new, |(_, letters)| chosen(letters, cause));
    let asked = Asked { limit: wanted.limit.or(Some(ON_A_PAGE)), after: wanted.after };
    let (lines, next) = part_of(&all, &asked, place)?;
    let part = Part { topic: &topic, cause, total: all.len(), lines, next };
    let fragments = view::messages(&handle.snapshot(), &reading, &part, frame.csrf(), &frame.reader);
    Ok(frame.page("dead-letters", &topic, None, fragments).refreshing().into_response())
}

type Place = Result<Path<(String, u32, u64)>, PathRejection>;

/// A letter, and whether it was sent again.
async fn find(reads: &LetterReads, place: Place) -> Result<(String, Reading<LetterFacts>, bool), Refusal> {
    let (topic, partition, offset) = path(place)?;
    let (reading, all) = tokio::join!(reads.letter(&topic, partition, offset), reads.letters(&topic));
    not_missing(&reading)?;
    let lines = all.value.iter().flat_map(|(_, l)| &l.lines);
    let mut same = lines.filter(|l| l.partition == partition && l.offset == offset);
    let replayed = same.next().is_some_and(|l| l.replayed);
    Ok((topic, reading, replayed))
}

/// One message.
pub(crate) async fn message(
    State(reads): Reads,
    State(handle): State<Handle>,
    frame: Frame,
    place: Place,
) -> Result<Response, PageRefusal> {
    let (topic, reading, replayed) = find(&reads, place).await?;
    let fragments =
        view::message(&handle.snapshot(), &topic, &reading, replayed, frame.csrf(), &frame.reader);
    Ok(frame.page("dead-letters", say!("Dead letter"), None, fragments).into_response())
}

/// A failed replay, for people.
fn failed(error: &BackendError) -> Refusal {
    let status = match error.kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Rejected => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let remedy = match error.remedy.as_str() {
        "" => said!("what was sent stays sent; try again"),
        remedy => Message::foreign(remedy),
    };
    Refusal::new(status, Message::foreign(format!("{}: {}", error.place, error.message)), remedy)
}

async fn send(
    reads: &LetterReads,
    by: &str,
    topic: &str,
    which: Which,
    once: Option<Idempotency>,
) -> Result<Sent, Refusal> {
    reads.replay(by, topic, which, once).await.map_err(|error| failed(&error))
}

/// Sends dead letters again, as a form says.
pub(crate) async fn replay(
    State(reads): Reads,
    frame: Frame,
    Checked(fields): Checked,
) -> Result<Response, PageRefusal> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let topic = field("topic")
        .filter(|t| !t.is_empty())
        .ok_or_else(|| Refusal::bad(said!("the form names no topic"), Message::none()))?;
    if field("sure") != Some("yes") {
        return Err(Refusal::bad(
            said!("the replay was not confirmed"),
            said!("go back and tick the box beside the button"),
        )
        .into());
    }
    let number = |name: &str| {
        let wrong =
            || Refusal::bad(said!("the form has no usable {}", name), said!("send the form of the page"));
        field(name).and_then(|t| t.parse::<u64>().ok()).ok_or_else(wrong)
    };
    let one = |edited| {
        let partition = u32::try_from(number("partition")?).unwrap_or(u32::MAX);
        Ok::<_, Refusal>(Which::One { partition, offset: number("offset")?, edited })
    };
    let which = match (field("which"), field("cause"), field("value")) {
        (Some("all"), _, _) => Which::All,
        (Some("cause"), Some(cause), _) => Which::Cause(cause.to_owned()),
        (Some("one"), _, _) => one(None)?,
        // Browsers send the line ends of a field as CR LF.
        (Some("edited"), _, Some(value)) => one(Some(value.replace("\r\n", "\n").into_bytes()))?,
        _ => {
            return Err(Refusal::bad(
                said!("the form does not say which dead letters"),
                said!("send the form of the page"),
            )
            .into());
        }
    };
    let Sent::Now(done) = send(&reads, &frame.caller.by("web"), topic, which, None).await? else {
        return Err(idempotency::taken().into());
    };
    Ok(frame
        .page("dead-letters", say!("Sent again"), None, view::replayed(topic, &done, &frame.reader))
        .into_response())
}
