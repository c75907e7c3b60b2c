//! The market: pages and API.

mod chart;
pub(crate) mod data;
pub(crate) mod view;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::parts::{Asked, part_of};
use crate::http::query::{path, query};
use crate::http::reading::{known, not_missing, stamp};
use crate::http::reply::{Page, PageRefusal, Refusal, Reply};
use crate::locale::say;
use crate::server::App;
use data::{Sources, SymbolFacts};
use domain::message::Message;
use domain::said;

/// Which day is asked for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wanted {
    date: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

const ASK: Message = said!("ask for date=YYYY-MM-DD, limit=N, after=NAME");

impl Wanted {
    fn date(&self) -> Result<Option<Date>, Refusal> {
        let text = self.date.as_deref().filter(|t| !t.is_empty());
        let wrong = |text: &str| Refusal::bad(said!("\"{}\" is not a date", text), said!("write it as 2026-11-20"));
        text.map(|t| t.parse().map_err(|_| wrong(t))).transpose()
    }
}

/// All symbols.
pub(crate) async fn list(State(app): State<App>, wanted: Result<Query<Wanted>, QueryRejection>) -> Result<Response, PageRefusal> {
    let date = query(wanted, ASK)?.date()?;
    let snapshot = app.handle.snapshot();
    let reading = app.stores.market(Sources::of(&snapshot), date).await;
    not_missing(&reading)?;
    Ok(Page::new("market", say!("Market"), None, view::list(&snapshot, &reading, &app.reader)).refreshing().into_response())
}

/// One symbol.
pub(crate) async fn one(
    State(app): State<App>,
    symbol: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let (symbol, date) = (path(symbol)?, query(wanted, ASK)?.date()?);
    let snapshot = app.handle.snapshot();
    let reading = app.stores.chart(Sources::of(&snapshot), date, &symbol).await;
    not_missing(&reading)?;
    Ok(Page::new("market", &symbol, None, view::one(&snapshot, &symbol, &reading, &app.reader)).refreshing().into_response())
}

fn line(facts: &SymbolFacts) -> Value {
    let mut line = json!(facts.session);
    let change = facts.last.as_ref().and_then(|l| l.change());
    line["name"] = json!(facts.name);
    line["exchange_vwap"] = json!(facts.session.exchange_vwap());
    line["gap_shares"] = json!(facts.session.missing());
    line["last_price"] = json!(facts.last.as_ref().map(|l| l.price));
    line["open_price"] = json!(facts.last.as_ref().and_then(|l| l.open));
    line["change"] = json!(change.map(|(won, _)| won));
    line["change_percent"] = json!(change.map(|(_, percent)| percent));
    line
}

/// All symbols, for programs.
pub(crate) async fn api_list(State(app): State<App>, wanted: Result<Query<Wanted>, QueryRejection>) -> Reply {
    let wanted = query(wanted, ASK)?;
    let snapshot = app.handle.snapshot();
    let reading = app.stores.market(Sources::of(&snapshot), wanted.date()?).await;
    let market = known(&reading)?;
    let (part, next) = part_of(&market.symbols, &Asked { limit: wanted.limit, after: wanted.after }, |s| s.name.clone())?;
    let symbols: Vec<_> = part.iter().map(line).collect();
    let answer = json!({
        "date": market.date,
        "dates": market.dates,
        "symbols": symbols,
        "next": next,
        "timezone": snapshot.timezone,
    });
    Ok(Json(stamp(&reading, answer)))
}

/// One symbol, for programs.
pub(crate) async fn api_one(
    State(app): State<App>,
    symbol: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Reply {
    let (symbol, wanted) = (path(symbol)?, query(wanted, ASK)?);
    let snapshot = app.handle.snapshot();
    let reading = app.stores.chart(Sources::of(&snapshot), wanted.date()?, &symbol).await;
    let chart = known(&reading)?;
    let asked = Asked { limit: wanted.limit, after: wanted.after };
    let (windows, next) = part_of(&chart.windows, &asked, |w| w.window_start.to_string())?;
    let answer = json!({
        "date": chart.date,
        "symbol": line(&chart.facts),
        "windows": windows,
        "anomalies": chart.anomalies,
        "next": next,
        "timezone": snapshot.timezone,
    });
    Ok(Json(stamp(&reading, answer)))
}
