//! Topics, their records and their groups: pages and API.

pub(crate) mod data;
pub(crate) mod records;
pub(crate) mod view;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::parts::{Asked, part_of};
use crate::http::query::{path, query};
use crate::http::reading::{known, not_missing, stamp};
use crate::http::reply::{Page, PageRefusal, Refusal, Reply};
use crate::locale::say;
use crate::server::App;
use daemon::Snapshot;
use data::{TopicFacts, Topics};
use domain::message::Message;
use domain::said;
use records::{Look, MOST};

/// Records shown without a wish.
const SHOWN: usize = 20;

fn missing(name: &str) -> Refusal {
    Refusal::missing(said!("there is no topic \"{}\"", name), said!("the topics page lists those there are"))
}

/// All topics.
pub(crate) async fn list(State(app): State<App>) -> Response {
    let reading = app.stores.topics().await;
    Page::new("topics", say!("Topics"), None, view::list(&app.handle.snapshot(), &reading, &app.reader))
        .refreshing()
        .into_response()
}

/// Which records are asked for. Fields of forms may be empty.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wanted {
    partition: Option<String>,
    from: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

fn number<T: std::str::FromStr>(name: &str, text: Option<&str>) -> Result<Option<T>, Refusal> {
    match text.map(str::trim).filter(|t| !t.is_empty()) {
        None => Ok(None),
        Some(text) => {
            let wrong = |_| Refusal::bad(said!("{} is \"{}\"", name, text), said!("give {} as a whole number", name));
            text.parse().map(Some).map_err(wrong)
        }
    }
}

impl Wanted {
    fn look(&self, topic: String) -> Result<Look, Refusal> {
        let limit = number("limit", self.limit.as_deref())?.unwrap_or(SHOWN);
        if !(1..=MOST).contains(&limit) {
            return Err(Refusal::bad(
                said!("limit is {}", limit.to_string()),
                said!("ask for 1 to {} records", MOST.to_string()),
            ));
        }
        let after: Option<u64> = number("after", self.after.as_deref())?;
        let from = number("from", self.from.as_deref())?.or(after.map(|a| a.saturating_add(1)));
        Ok(Look { topic, partition: number("partition", self.partition.as_deref())?.unwrap_or(0), from, limit })
    }
}

const RECORDS: Message = said!("ask for partition=N, from=OFFSET, limit=N");

/// One topic, with records of a partition.
pub(crate) async fn one(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let name = path(name)?;
    let look = query(wanted, RECORDS)?.look(name.clone())?;
    let reading = app.stores.topics().await;
    let snapshot = app.handle.snapshot();
    let fragments = match &reading.value {
        None => view::list(&snapshot, &reading, &app.reader),
        Some((_, topics)) => {
            let facts = topics.find(&name).ok_or_else(|| missing(&name))?;
            let peek = app.stores.peek(look.clone()).await;
            not_missing(&peek)?;
            view::one(&snapshot, &reading, topics, facts, &look, &peek, &app.reader)
        }
    };
    Ok(Page::new("topics", &name, None, fragments).refreshing().into_response())
}

fn brief(snapshot: &Snapshot, topics: &Topics, facts: &TopicFacts) -> Value {
    let name = &facts.topic.name;
    let groups = facts.groups.iter().map(|(group, at)| json!({ "group": group, "lag": facts.total_lag(at) }));
    json!({
        "name": name,
        "partitions": facts.topic.partitions.len(),
        "records": facts.records(),
        "rate_per_second": snapshot.gauges.rates.get(name),
        "newest": facts.newest(),
        "dead_letters": topics.dead_letters(name),
        "groups": groups.collect::<Vec<_>>(),
    })
}

/// All topics, for programs.
pub(crate) async fn api_list(State(app): State<App>, asked: Result<Query<Asked>, QueryRejection>) -> Reply {
    let asked = query(asked, said!("ask for limit=N and after=NAME"))?;
    let reading = app.stores.topics().await;
    let (topics, snapshot) = (known(&reading)?, app.handle.snapshot());
    let (part, next) = part_of(&topics.topics, &asked, |t| t.topic.name.clone())?;
    let lines: Vec<_> = part.iter().map(|facts| brief(&snapshot, topics, facts)).collect();
    Ok(Json(stamp(&reading, json!({ "topics": lines, "next": next, "timezone": snapshot.timezone }))))
}

/// One topic, for programs.
pub(crate) async fn api_one(State(app): State<App>, name: Result<Path<String>, PathRejection>) -> Reply {
    let name = path(name)?;
    let reading = app.stores.topics().await;
    let (topics, snapshot) = (known(&reading)?, app.handle.snapshot());
    let facts = topics.find(&name).ok_or_else(|| missing(&name))?;
    let mut answer = brief(&snapshot, topics, facts);
    let ranges = facts.topic.partitions.iter().zip(&facts.newest).enumerate();
    let partitions =
        ranges.map(|(n, (range, newest))| json!({ "partition": n, "start": range.start, "end": range.end, "newest": newest }));
    answer["partitions"] = partitions.collect();
    let groups = facts.groups.iter().map(|(group, at)| {
        let each = at.iter().enumerate().map(|(n, next)| json!({ "partition": n, "next": next, "lag": facts.lag(n, *next) }));
        json!({ "group": group, "lag": facts.total_lag(at), "partitions": each.collect::<Vec<_>>() })
    });
    answer["groups"] = groups.collect();
    answer["timezone"] = json!(snapshot.timezone);
    Ok(Json(stamp(&reading, answer)))
}

/// Records of a partition, for programs.
pub(crate) async fn api_records(
    State(app): State<App>,
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
    let reading = app.stores.peek(look.clone()).await;
    let peek = known(&reading)?;
    let answer = json!({
        "topic": look.topic,
        "partition": look.partition,
        "start": peek.range.start,
        "end": peek.range.end,
        "records": peek.records,
        "next": peek.next().map(|next| next - 1),
        "timezone": app.handle.snapshot().timezone,
    });
    Ok(Json(stamp(&reading, answer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_records_is_checked() {
        let wanted = |from: &str, limit: &str| Wanted { from: Some(from.into()), limit: Some(limit.into()), ..Wanted::default() };
        let look = wanted("", "").look("t".into()).expect("empty fields are no wish");
        assert_eq!((look.from, look.limit, look.partition), (None, SHOWN, 0));
        assert_eq!(wanted("7", "100").look("t".into()).expect("fine").from, Some(7));
        let after = Wanted { after: Some("7".into()), ..Wanted::default() };
        assert_eq!(after.look("t".into()).expect("fine").from, Some(8));
        for (from, limit) in [("x", "1"), ("-1", "1"), ("", "0"), ("", "101")] {
            assert!(wanted(from, limit).look("t".into()).is_err(), "{from} {limit}");
        }
    }
}
