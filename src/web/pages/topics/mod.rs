//! Topics, their records and their groups.

pub(crate) mod api;
pub(crate) mod data;
pub(crate) mod records;
pub(crate) mod view;

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::page::Frame;
use crate::http::query::{path, query};
use crate::http::reading::not_missing;
use crate::http::reply::{PageRefusal, Refusal};
use crate::locale::say;
use daemon::Handle;
use data::TopicReads;
use domain::message::Message;
use domain::said;
use records::{Look, MOST};

type Reads = State<Arc<TopicReads>>;

/// Records shown without a wish.
const SHOWN: usize = 20;

fn missing(name: &str) -> Refusal {
    Refusal::missing(said!("there is no topic \"{}\"", name), said!("the topics page lists those there are"))
}

/// All topics.
pub(crate) async fn list(State(reads): Reads, State(handle): State<Handle>, frame: Frame) -> Response {
    let reading = reads.topics().await;
    frame
        .page("topics", say!("Topics"), None, view::list(&handle.snapshot(), &reading, &frame.reader))
        .refreshing()
        .into_response()
}

/// Which records are asked for. Fields of forms may be empty.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Partition of the topic.
    #[param(value_type = Option<u32>, minimum = 0, maximum = 4294967295u32, default = 0)]
    partition: Option<String>,
    /// First offset; the newest records without it.
    #[param(value_type = Option<u64>, minimum = 0, maximum = 18446744073709551615u64)]
    from: Option<String>,
    /// Offset before the first.
    #[param(value_type = Option<u64>, minimum = 0, maximum = 18446744073709551615u64)]
    after: Option<String>,
    /// How many at most.
    #[param(value_type = Option<usize>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
}

fn number<T: std::str::FromStr>(name: &str, text: Option<&str>) -> Result<Option<T>, Refusal> {
    match text.map(str::trim).filter(|t| !t.is_empty()) {
        None => Ok(None),
        Some(text) => {
            let wrong =
                |_| Refusal::bad(said!("{} is \"{}\"", name, text), said!("give {} as a whole number", name));
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
        Ok(Look {
            topic,
            partition: number("partition", self.partition.as_deref())?.unwrap_or(0),
            from,
            limit,
        })
    }
}

const RECORDS: Message = said!("ask for partition=N, from=OFFSET, limit=N");

/// One topic, with records of a partition.
pub(crate) async fn one(
    State(reads): Reads,
    State(handle): State<Handle>,
    frame: Frame,
    name: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let name = path(name)?;
    let look = query(wanted, RECORDS)?.look(name.clone())?;
    let reading = reads.topics().await;
    let snapshot = handle.snapshot();
    let fragments = match &reading.value {
        None => view::list(&snapshot, &reading, &frame.reader),
        Some((_, topics)) => {
            let facts = topics.find(&name).ok_or_else(|| missing(&name))?;
            let peek = reads.peek(look.clone()).await;
            not_missing(&peek)?;
            view::one(&snapshot, &reading, topics, facts, &look, &peek, &frame.reader)
        }
    };
    Ok(frame.page("topics", &name, None, fragments).refreshing().into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_records_is_checked() {
        let wanted = |from: &str, limit: &str| Wanted {
            from: Some(from.into()),
            limit: Some(limit.into()),
            ..Wanted::default()
        };
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
