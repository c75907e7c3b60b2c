//! `sink/index`: the log's records as documents of a daily index, `_id` = event id.
//!
//! A document is created, never replaced: what exists was written before and counts as done, so a replay of
//! any length changes nothing. The index follows from the trade's date, so a replay on another day meets the
//! same index.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::batch::Batch;
use super::contents::{Again, Contents, PAGE, Scope, Visit};
use super::core::{self, Sink};
use super::lane::{Due, Flushed, Lane, Left, Pushed, Target};
use super::{BYTES, DOCUMENTS};
use crate::dead_letters::{Refusal, Stage};
use crate::envelope::{Envelope, with_place};
use crate::programs::{GROUP, TOPIC};
use crate::{Context, StepError};
use backends::index::{Index, Item, ItemResult, Op, Template};
use backends::log::{Partition, Stored};
use backends::{BackendError, ErrorKind, Result};
use domain::dag::StepKind;
use domain::hop::Hop;
use domain::parameters::Parameters;
use domain::program::{Parameter, Program, Role, Shape, Store};

/// The name of its indices.
pub(crate) const INDEX: Parameter = Parameter::new("index", Shape::Text, "index name before the date")
    .or_made("topic", "FEED-trades", |topic| crate::default_name(topic, "trades"));

/// Its row in the table of programs.
pub const PROGRAM: Program = Program {
    name: "sink/index",
    kinds: &[StepKind::Service],
    role: Role::Hop(Store::Index),
    about: "writes a topic into the search index",
    parameters: &[TOPIC, GROUP, INDEX, DOCUMENTS, BYTES],
    secrets: &[],
    replicas: true,
};

/// Runs the step until it is stopped.
///
/// # Errors
/// See [`core::run`].
pub async fn run(context: Context) -> Result<serde_json::Value, StepError> {
    let p = Parameters::of(&PROGRAM, &context.spec.step.with);
    let target = IndexTarget {
        index: Arc::clone(&context.backends.index),
        prefix: p.text("index")?,
        documents: p.size("documents")?,
        bytes: p.bytes("bytes")?,
    };
    let sink = Sink::of(&PROGRAM, &p, &context, target)?;
    core::run(context, sink).await
}

/// The index of a day: `{prefix}-YYYY.MM.DD`.
pub fn daily(prefix: &str, date: jiff::civil::Date) -> String {
    format!("{prefix}-{:04}.{:02}.{:02}", date.year(), date.month(), date.day())
}

/// Explicit types for every field of a trade; wire fields are an object of texts.
pub fn template(prefix: &str) -> Template {
    let fields = [
        ("id", "keyword"),
        ("feed", "keyword"),
        ("channel", "keyword"),
        ("symbol", "keyword"),
        ("session_date", "date"),
        ("trade_time", "date"),
        ("received_at", "date_nanos"),
        ("price", "double"),
        // A double takes both forms of it: shares as numbers, units as texts.
        ("quantity", "double"),
        ("side", "keyword"),
        ("accumulated_volume", "long"),
        ("accumulated_value", "long"),
        ("fields", "object"),
        ("topic_partition", "integer"),
        ("topic_offset", "long"),
    ];
    Template {
        name: prefix.to_owned(),
        prefix: format!("{prefix}-"),
        fields: fields.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect(),
    }
}

/// The documents of a hop.
pub(super) struct IndexContents {
    index: Arc<dyn Index>,
    prefix: String,
}

pub(super) fn contents(context: &Context, hop: &Hop) -> IndexContents {
    IndexContents { index: Arc::clone(&context.backends.index), prefix: hop.place.clone() }
}

#[async_trait]
impl Contents for IndexContents {
    async fn newest(&self, _since: Timestamp, scope: &Scope) -> Result<Option<Timestamp>> {
        // With the year: another sink's name may begin as this one's does.
        for year in [scope.date.year(), scope.date.year() - 1] {
            let prefix = format!("{}-{year:04}.", self.prefix);
            if let Some(text) = self.index.latest(&prefix, "received_at").await? {
                let corrupt = |e| {
                    let why = format!("received_at \"{text}\" is no time: {e}");
                    BackendError::new(ErrorKind::Corrupt, format!("index {prefix}*"), why)
                };
                return text.parse().map(Some).map_err(corrupt);
            }
        }
        Ok(None)
    }

    async fn ids(&self, scope: &Scope, again: &Again<'_>, visit: &mut Visit<'_>) -> Result<()> {
        let name = daily(&self.prefix, scope.date);
        let page = |after: Option<String>| {
            let (index, name) = (&self.index, &name);
            async move { index.ids(name, "", after.as_deref(), PAGE).await }
        };
        again.pages(page, visit).await
    }
}

struct IndexTarget {
    index: Arc<dyn Index>,
    prefix: String,
    documents: usize,
    bytes: usize,
}

#[async_trait]
impl Target for IndexTarget {
    async fn prepare(&self) -> Result<()> {
        self.index.put_template(&template(&self.prefix)).await
    }
    async fn lane(&self, _partition: &Partition, next: u64) -> Result<(Box<dyn Lane>, u64)> {
        let lane = IndexLane {
            index: Arc::clone(&self.index),
            prefix: self.prefix.clone(),
            batch: Batch::new(self.documents, self.bytes),
        };
        Ok((Box::new(lane), next))
    }
}

struct IndexLane {
    index: Arc<dyn Index>,
    prefix: String,
    batch: Batch,
}

impl IndexLane {
    fn item(&self, record: &Stored, envelope: &Envelope) -> Item {
        Item {
            index: daily(&self.prefix, envelope.session_date),
            id: envelope.id.clone(),
            op: Op::Create,
            source: with_place(record),
        }
    }
}

#[async_trait]
impl Lane for IndexLane {
    fn push(&mut self, record: Stored) -> Pushed {
        self.batch.push(record)
    }

    fn due(&self) -> Due {
        self.batch.due()
    }

    async fn flush(&mut self) -> Result<Flushed> {
        let items: Vec<Item> = self.batch.head().iter().map(|(r, e)| self.item(r, e)).collect();
        let count = items.len();
        if count == 0 {
            return Ok(Flushed::default());
        }
        let answer = self.index.bulk(items).await.and_then(|results| {
            if results.len() == count {
                return Ok(results);
            }
            // Which items the answer is about is unknown; sending all again is harmless.
            let message = format!("the bulk answer has {} items for {count}", results.len());
            Err(BackendError::new(ErrorKind::Unavailable, "index", message))
        });
        let mut flushed = Flushed::default();
        let Some((settled, answer)) = self.batch.answered(answer)? else {
            return Ok(Flushed { left: Left::More, ..flushed });
        };
        let refused = |e: BackendError| vec![ItemResult::Rejected { status: 400, reason: e.to_string() }];
        let mut later = None;
        for ((record, envelope), result) in settled.into_iter().zip(answer.unwrap_or_else(refused)) {
            match result {
                ItemResult::Stored => flushed.written += 1,
                ItemResult::Exists => flushed.existing += 1,
                ItemResult::Rejected { status, reason } => {
                    let why = format!("the index answered {status}: {reason}");
                    flushed.refused.push((record, Refusal::new(Stage::TaskPut, "rejected", why)));
                }
                ItemResult::Retry { status, reason } => {
                    later = Some(format!("the index answered {status} for some documents: {reason}"));
                    self.batch.again(record, envelope);
                }
            }
        }
        flushed.left = later.map_or_else(|| self.batch.left(), Left::Later);
        Ok(flushed)
    }
}
