//! What a store holds of a run, read back for checks and reconciliation. How, is written beside each store's
//! sink.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{index, objects, raw};
use crate::retry::retry;
use crate::{Context, StepError};
use backends::Result;
use domain::hop::Hop;
use domain::program::Store;

/// Which records are meant.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// Exchange's business date.
    pub(crate) date: Date,
    /// Feeds whose trades they are.
    pub(crate) feeds: Vec<String>,
    /// Now: nothing was written later.
    pub(crate) now: Timestamp,
}

/// Who is handed ids.
pub(crate) type Visit<'a> = dyn FnMut(&str) + Send + 'a;

/// The place of a hop in its store.
#[async_trait]
pub(crate) trait Contents: Send + Sync {
    /// Receipt time of the newest record. One that was received before `since` need not be found.
    ///
    /// # Errors
    /// What the store fails with.
    async fn newest(&self, since: Timestamp, scope: &Scope) -> Result<Option<Timestamp>>;

    /// Hands the id of each record to `visit`, as often as it is there.
    ///
    /// # Errors
    /// What the store still fails with after it was asked again.
    async fn ids(&self, scope: &Scope, again: &Again<'_>, visit: &mut Visit<'_>) -> Result<()>;
}

/// The contents of a hop; `None` for a hop that is in no store.
///
/// # Errors
/// A zone of its keys that there is not.
pub(crate) fn contents(
    context: &Context,
    hop: &Hop,
) -> std::result::Result<Option<Box<dyn Contents>>, StepError> {
    let Some(store) = hop.store() else { return Ok(None) };
    Ok(Some(match store {
        Store::Raw => Box::new(raw::contents(context, hop)),
        Store::Index => Box::new(index::contents(context, hop)),
        Store::Objects => Box::new(objects::contents(context, hop, zone(context, hop)?)),
    }))
}

/// The zone of the dates in a hop's keys.
fn zone(context: &Context, hop: &Hop) -> std::result::Result<TimeZone, StepError> {
    let name = hop.timezone.as_deref().unwrap_or(&context.spec.timezone);
    TimeZone::get(name).map_err(|e| {
        let what =
            format!("the zone of the keys of step \"{}\", \"{name}\", is not a time zone ({e})", hop.step);
        StepError::Failed(format!("{what}; write for example Asia/Seoul"))
    })
}

/// Asks a store up to six times: the proof of a whole day should not fail on a few lost answers.
pub(crate) struct Again<'a>(pub(crate) &'a Context);

/// Waits before a store is asked again.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
    Duration::from_millis(3_200),
];

/// Ids of one page of a store.
pub(crate) const PAGE: usize = 5_000;

impl Again<'_> {
    /// Asks; each failure that another try follows is told in the step's output.
    ///
    /// # Errors
    /// What the last try failed with.
    pub(crate) async fn ask<T, F: Future<Output = Result<T>>>(&self, call: impl Fn() -> F) -> Result<T> {
        retry(&PAUSES, |error| self.0.reporter.line(&format!("asks again: {error}")), |_| call()).await
    }

    /// Reads a sorted list page by page, and hands each entry to `visit`; `page` gives what follows an entry.
    ///
    /// # Errors
    /// What the last try failed with.
    pub(crate) async fn pages<F: Future<Output = Result<Vec<String>>>>(
        &self,
        page: impl Fn(Option<String>) -> F,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let entries = self.ask(|| page(after.clone())).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = Some(last.clone());
            entries.iter().for_each(|entry| visit(entry));
        }
    }
}
