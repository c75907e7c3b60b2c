//! `sink/raw`: the log's records as raw documents, one per event id.

use std::sync::Arc;

use async_trait::async_trait;

use super::batch::Batch;
use super::core::{self, Sink};
use super::lane::{Due, Flushed, Lane, Left, Pushed, Target};
use backends::log::{Partition, Stored};
use backends::raw::{Document, Raw};
use backends::{ErrorKind, Result};
use crate::dead_letter::{Refusal, Stage};
use crate::parameters::Parameters;
use crate::{Context, StepError};

/// Documents of one insert.
const DOCUMENTS: u64 = 2_000;
/// Bytes of one insert.
const BYTES: u64 = 5 << 20;

/// Runs the step until it is stopped; parameters `topic`, `group`, `collection` (default: the topic), `documents`, `bytes`.
///
/// # Errors
/// See [`core::run`].
pub async fn run(context: Context) -> Result<serde_json::Value, StepError> {
    let p = Parameters::new("sink/raw", &context.spec.step.with);
    let topic = p.text_or("topic", crate::default_topic())?;
    let target = RawTarget {
        raw: Arc::clone(&context.backends.raw),
        collection: p.text_or("collection", &topic)?,
        documents: usize::try_from(p.count("documents", DOCUMENTS, 1)?).unwrap_or(usize::MAX),
        bytes: usize::try_from(p.bytes("bytes", BYTES)?).unwrap_or(usize::MAX),
    };
    let sink = Sink {
        program: "sink/raw",
        group: p.text_or("group", &crate::group(&context.spec))?,
        topic,
        target: Arc::new(target),
        in_flight: Sink::IN_FLIGHT,
        backoff: Sink::BACKOFF,
    };
    core::run(context, sink).await
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
            chunk: usize::MAX,
        };
        Ok((Box::new(lane), next))
    }
}

struct RawLane {
    raw: Arc<dyn Raw>,
    collection: String,
    batch: Batch,
    /// Documents of the next insert: halved while the store refuses whole inserts, to find the one it means.
    chunk: usize,
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
        let count = self.chunk.min(self.batch.records.len());
        if count == 0 {
            return Ok(Flushed::default());
        }
        let documents = self.batch.records[..count]
            .iter()
            .map(|(r, e)| Document { id: e.id.clone(), body: r.record.value.clone(), received_at: e.received_at })
            .collect();
        let mut flushed = Flushed::default();
        match self.raw.insert(&self.collection, documents).await {
            Ok(inserted) => {
                (flushed.written, flushed.existing) = (inserted.new as u64, inserted.existing as u64);
                self.chunk = self.chunk.saturating_mul(2);
            }
            Err(error) if error.kind == ErrorKind::Rejected && count > 1 => {
                self.chunk = count / 2;
                return Ok(Flushed { left: Left::More, ..flushed });
            }
            Err(error) if error.kind == ErrorKind::Rejected => {
                flushed
                    .refused
                    .push((self.batch.records[0].0.clone(), Refusal::new(Stage::TaskPut, "rejected", error.to_string())));
                self.chunk = 2;
            }
            Err(error) => return Err(error),
        }
        self.batch.records.drain(..count);
        self.batch.weigh();
        flushed.left = if self.batch.records.is_empty() { Left::Nothing } else { Left::More };
        Ok(flushed)
    }
}
