//! Spool → raw documents. Inserting an id that is there is a success, so the cursor file may lag behind.

use std::sync::Arc;

use async_trait::async_trait;

use super::forward::Target;
use super::status::Facts;
use crate::spooled::Spooled;
use backends::Result;
use backends::raw::{Document, Raw};
use backends::spool::Entry;

/// See the module.
pub(super) struct ToRaw {
    pub(super) raw: Arc<dyn Raw>,
    pub(super) collection: String,
}

#[async_trait]
impl Target for ToRaw {
    fn name(&self) -> &'static str {
        "raw"
    }

    async fn prepare(&mut self, cursor: u64) -> Result<u64> {
        Ok(cursor)
    }

    async fn deliver(&mut self, entries: &[Entry]) -> Result<()> {
        // An entry that is no trade becomes a dead letter on its way to the log, and no document.
        let document = |entry: &Entry| {
            let trade = Spooled::of(entry)?.ok()?;
            Some(Document {
                id: trade.id.into_owned(),
                body: trade.json.into_owned(),
                received_at: entry.received_at,
            })
        };
        let documents: Vec<_> = entries.iter().filter_map(document).collect();
        if !documents.is_empty() {
            self.raw.insert(&self.collection, documents).await?;
        }
        Ok(())
    }

    fn note(facts: &mut Facts, seq: u64) {
        facts.raw_seq = seq;
    }
}
