//! `sink/raw`: the log's records as raw documents, one per event id.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::batch::Batch;
use super::contents::{Again, Contents, PAGE, Scope, Visit};
use super::core::{self, Sink};
use super::lane::{Due, Flushed, Lane, Left, Pushed, Target};
use super::{BYTES, DOCUMENTS};
use crate::dead_letters::{Refusal, Stage};
use crate::envelope::Envelope;
use crate::programs::{GROUP, TOPIC};
use crate::{Context, StepError};
use backends::Result;
use backends::log::{Partition, Stored};
use backends::raw::{Document, Raw};
use domain::dag::StepKind;
use domain::hop::Hop;
use domain::parameters::Parameters;
use domain::program::{Parameter, Program, Role, Shape, Store};
use domain::trade::EventId;

/// The collection of its documents.
pub(crate) const COLLECTION: Parameter =
    Parameter::new("collection", Shape::Text, "collection of the raw store").or_as("topic");

/// Its row in the table of programs.
pub const PROGRAM: Program = Program {
    name: "sink/raw",
    kinds: &[StepKind::Service],
    role: Role::Hop(Store::Raw),
    about: "writes a topic into the raw store",
    parameters: &[TOPIC, GROUP, COLLECTION, DOCUMENTS, BYTES],
    secrets: &[],
    replicas: true,
};

/// Runs the step until it is stopped.
///
/// # Errors
/// See [`core::run`].
pub async fn run(context: Context) -> Result<serde_json::Value, StepError> {
    let p = Parameters::of(&PROGRAM, &context.spec.step.with);
    let target = RawTarget {
        raw: Arc::clone(&context.backends.raw),
        collection: p.text("collection")?,
        documents: p.size("documents")?,
        bytes: p.bytes("bytes")?,
    };
    let sink = Sink::of(&PROGRAM, &p, &context, target)?;
    core::run(context, sink).await
}

/// The documents of a hop.
pub(super) struct RawContents {
    raw: Arc<dyn Raw>,
    collection: String,
}

pub(super) fn contents(context: &Context, hop: &Hop) -> RawContents {
    RawContents { raw: Arc::clone(&context.backends.raw), collection: hop.place.clone() }
}

#[async_trait]
impl Contents for RawContents {
    async fn newest(&self, _since: Timestamp, _scope: &Scope) -> Result<Option<Timestamp>> {
        self.raw.latest(&self.collection).await
    }

    async fn ids(&self, scope: &Scope, again: &Again<'_>, visit: &mut Visit<'_>) -> Result<()> {
        for feed in &scope.feeds {
            let prefix = EventId::date_prefix(feed, scope.date);
            let page = |after: Option<String>| {
                let (raw, collection, prefix) = (&self.raw, &self.collection, &prefix);
                async move { raw.ids(collection, prefix, after.as_deref(), PAGE).await }
            };
            again.pages(page, visit).await?;
        }
        Ok(())
    }
}

struct RawTarget {
    raw: Arc<dyn Raw>,
    collection: String,
    documents: usize,
    bytes: usize,
}

#[async_trait]
impl Target for RawTarget {
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }
    async fn lane(&self, _partition: &Partition, next: u64) -> Result<(Box<dyn Lane>, u64)> {
        let lane = RawLane {
            raw: Arc::clone(&self.raw),
            collection: self.collection.clone(),
            batch: Batch::new(self.documents, self.bytes),
        };
        Ok((Box::new(lane), next))
    }
}

struct RawLane {
    raw: Arc<dyn Raw>,
    collection: String,
    batch: Batch,
}

#[async_trait]
impl Lane for RawLane {
    fn push(&mut self, record: Stored) -> Pushed {
        self.batch.push(record)
    }

    fn due(&self) -> Due {
        self.batch.due()
    }

    async fn flush(&mut self) -> Result<Flushed> {
        let documents: Vec<Document> = self.batch.head().iter().map(|(r, e)| document(r, e)).collect();
        if documents.is_empty() {
            return Ok(Flushed::default());
        }
        let answer = self.raw.insert(&self.collection, documents).await;
        let mut flushed = Flushed::default();
        let Some((settled, answer)) = self.batch.answered(answer)? else {
            return Ok(Flushed { left: Left::More, ..flushed });
        };
        match answer {
            Ok(inserted) => {
                (flushed.written, flushed.existing) = (inserted.new as u64, inserted.existing as u64);
            }
            Err(error) => {
                let refusal = || Refusal::new(Stage::TaskPut, "rejected", error.to_string());
                flushed.refused.extend(settled.into_iter().map(|(record, _)| (record, refusal())));
            }
        }
        flushed.left = self.batch.left();
        Ok(flushed)
    }
}

fn document(record: &Stored, envelope: &Envelope) -> Document {
    Document { id: envelope.id.clone(), body: record.record.value.clone(), received_at: envelope.received_at }
}
