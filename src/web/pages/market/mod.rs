//! The market.

pub(crate) mod api;
mod chart;
pub(crate) mod data;
pub(crate) mod view;

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use jiff::civil::Date;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::schemas;
use crate::http::page::Frame;
use crate::http::query::{path, query};
use crate::http::reading::not_missing;
use crate::http::reply::{PageRefusal, Refusal};
use crate::locale::say;
use daemon::Handle;
use data::{MarketReads, Sources};
use domain::message::Message;
use domain::said;

type Reads = State<Arc<MarketReads>>;

/// Which day is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Session date; the newest with figures without it.
    #[param(value_type = Option<schemas::WantedDate>, inline)]
    date: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<usize>,
    /// Go on after this: the `next` of the part before (a name, or a window's start).
    after: Option<String>,
}

const ASK: Message = said!("ask for date=YYYY-MM-DD, limit=N, after=NAME");

impl Wanted {
    fn date(&self) -> Result<Option<Date>, Refusal> {
        let text = self.date.as_deref().filter(|t| !t.is_empty());
        let wrong =
            |text: &str| Refusal::bad(said!("\"{}\" is not a date", text), said!("write it as 2026-11-20"));
        text.map(|t| t.parse().map_err(|_| wrong(t))).transpose()
    }
}

/// All symbols.
pub(crate) async fn list(
    State(reads): Reads,
    State(handle): State<Handle>,
    frame: Frame,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let date = query(wanted, ASK)?.date()?;
    let snapshot = handle.snapshot();
    let reading = reads.market(Sources::of(&snapshot), date).await;
    not_missing(&reading)?;
    Ok(frame
        .page("market", say!("Market"), None, view::list(&snapshot, &reading, &frame.reader))
        .refreshing()
        .into_response())
}

/// One symbol.
pub(crate) async fn one(
    State(reads): Reads,
    State(handle): State<Handle>,
    frame: Frame,
    symbol: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let (symbol, date) = (path(symbol)?, query(wanted, ASK)?.date()?);
    let snapshot = handle.snapshot();
    let reading = reads.chart(Sources::of(&snapshot), date, &symbol).await;
    not_missing(&reading)?;
    Ok(frame
        .page("market", &symbol, None, view::one(&snapshot, &symbol, &reading, &frame.reader))
        .refreshing()
        .into_response())
}
