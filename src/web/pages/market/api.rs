//! Symbols and their sessions, for programs.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use jiff::civil::Date;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::data::{Anomaly, Session, Sources, SymbolFacts, Window};
use super::{ASK, Reads, Wanted};
use crate::api::answers::{Missing, Unavailable};
use crate::http::parts::{Asked, part_of};
use crate::http::query::{path, query};
use crate::http::reading::{Stamp, known, stamp};
use crate::http::reply::Reply;
use daemon::Handle;

/// A symbol's session. Prices and values in KRW.
#[derive(Debug, Serialize, ToSchema)]
struct SymbolLine<'a> {
    #[serde(flatten)]
    session: &'a Session,
    /// Its name in addresses: the symbol; behind its feed and a colon unless that is `kis`.
    name: &'a str,
    /// The exchange's own average.
    #[schema(required)]
    exchange_vwap: Option<f64>,
    /// Shares the exchange traded that were not received.
    gap_shares: i64,
    /// Price of the newest trade, once the raw store has it.
    #[schema(required)]
    last_price: Option<Decimal>,
    /// The day's first price, as the exchange says it.
    #[schema(required)]
    open_price: Option<Decimal>,
    /// Since the open.
    #[schema(required)]
    change: Option<Decimal>,
    #[schema(required)]
    change_percent: Option<Decimal>,
}

/// A part of the symbols of a day.
#[derive(Debug, Serialize, ToSchema)]
struct SymbolList<'a> {
    #[schema(required)]
    date: Option<Date>,
    /// All days with figures, the newest first.
    dates: &'a [Date],
    /// By name.
    symbols: Vec<SymbolLine<'a>>,
    /// The `after` of the next part, a name; null at the end.
    #[schema(required)]
    next: Option<String>,
    /// IANA zone to show times in.
    timezone: &'a str,
    #[serde(flatten)]
    stamp: Stamp,
}

/// A symbol's day.
#[derive(Debug, Serialize, ToSchema)]
struct SymbolDetail<'a> {
    date: Date,
    symbol: SymbolLine<'a>,
    /// By start.
    windows: &'a [Window],
    /// What broke a rule, the newest first, with the original messages.
    anomalies: &'a [Anomaly],
    /// The `after` of the next part, a window's start; null at the end.
    #[schema(required)]
    next: Option<String>,
    /// IANA zone to show times in.
    timezone: &'a str,
    #[serde(flatten)]
    stamp: Stamp,
}

fn line(facts: &SymbolFacts) -> SymbolLine<'_> {
    let change = facts.last.as_ref().and_then(|last| last.change());
    SymbolLine {
        session: &facts.session,
        name: &facts.name,
        exchange_vwap: facts.session.exchange_vwap(),
        gap_shares: facts.session.missing(),
        last_price: facts.last.as_ref().map(|last| last.price),
        open_price: facts.last.as_ref().and_then(|last| last.open),
        change: change.map(|(won, _)| won),
        change_percent: change.map(|(_, percent)| percent),
    }
}

/// Symbols of a session: last price, change since the open, averages, volume, trades, gaps.
#[utoipa::path(
    get,
    path = "/market",
    tag = "market",
    params(Wanted),
    responses(
        (
            status = 200,
            description = "`date`, `dates`, `symbols` by name, `next`. Prices in KRW. Also `read_at`, and \
                `trouble` (`since`, `text`) when the store does not answer and the figures are older.",
            body = SymbolList,
        ),
        Missing, Unavailable,
    ),
)]
pub(crate) async fn symbols(
    State(reads): Reads,
    State(handle): State<Handle>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Reply {
    let wanted = query(wanted, ASK)?;
    let snapshot = handle.snapshot();
    let reading = reads.market(Sources::of(&snapshot), wanted.date()?).await;
    let market = known(&reading)?;
    let (part, next) =
        part_of(&market.symbols, &Asked { limit: wanted.limit, after: wanted.after }, |s| s.name.clone())?;
    Ok(Json(json!(SymbolList {
        date: market.date,
        dates: &market.dates,
        symbols: part.iter().map(line).collect(),
        next,
        timezone: &snapshot.timezone,
        stamp: stamp(&reading),
    })))
}

/// A symbol's session: figures, windows, anomalies with original messages.
#[utoipa::path(
    get,
    path = "/market/{symbol}",
    tag = "market",
    params(
        ("symbol" = String, Path, description = "The symbol; behind its feed and a colon unless that is `kis`."),
        Wanted,
    ),
    responses(
        (
            status = 200,
            description = "`symbol`, `windows` by start, `anomalies` newest first, `next`. Also `read_at`, \
                and `trouble` (`since`, `text`) when the store does not answer and the figures are older.",
            body = SymbolDetail,
        ),
        Missing, Unavailable,
    ),
)]
pub(crate) async fn symbol(
    State(reads): Reads,
    State(handle): State<Handle>,
    symbol: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Reply {
    let (symbol, wanted) = (path(symbol)?, query(wanted, ASK)?);
    let snapshot = handle.snapshot();
    let reading = reads.chart(Sources::of(&snapshot), wanted.date()?, &symbol).await;
    let chart = known(&reading)?;
    let asked = Asked { limit: wanted.limit, after: wanted.after };
    let (windows, next) = part_of(&chart.windows, &asked, |w| w.window_start.to_string())?;
    Ok(Json(json!(SymbolDetail {
        date: chart.date,
        symbol: line(&chart.facts),
        windows,
        anomalies: &chart.anomalies,
        next,
        timezone: &snapshot.timezone,
        stamp: stamp(&reading),
    })))
}
