//! The market: what each symbol did today, and one symbol's day.

use askama::Template;
use jiff::Timestamp;
use jiff::civil::Date;

use super::chart::{Drawing, HEIGHT, LOW, WIDTH, draw};
use super::data::{Anomaly, Chart, Market, SymbolFacts, Window};
use crate::cache::Reading;
use crate::locale::{Reader, Text, ToText, filters, say};
use crate::pages::topics::records::Format;
use crate::view::format::{Zone, amount, count, krw, part, quantity, shares, signed, span};
use crate::view::reading::head;
use crate::view::{Fragment, Pair};
use daemon::Snapshot;

/// A symbol without a trade for longer is quiet.
const QUIET_SECONDS: i64 = 300;
/// Windows in the table.
const WINDOWS: usize = 20;

/// The list of symbols.
#[derive(Debug, Template)]
#[template(path = "pages/market/market.html")]
struct List {
    days: Vec<Day>,
    rows: Vec<Row>,
    totals: Vec<Pair>,
    zone: String,
    read: bool,
}

#[derive(Debug)]
struct Day {
    date: String,
    shown: bool,
}

#[derive(Debug)]
struct Row {
    name: String,
    address: String,
    last: String,
    change: String,
    percent: String,
    way: &'static str,
    vwap: String,
    exchange: String,
    equal: bool,
    volume: String,
    trades: String,
    at: String,
    age: Text,
    light: &'static str,
    missing: Text,
    gap: bool,
}

fn or_none(amount: Option<f64>) -> String {
    amount.map_or_else(|| "–".to_owned(), krw)
}

/// How long ago the last trade was, and the style class of its light. A day that is over has no age.
fn age(at: Option<Timestamp>, date: Date, now: Timestamp, zone: &Zone) -> (Text, &'static str) {
    match at {
        Some(_) if zone.date(now) != date => (say!("day over"), "quiet"),
        Some(at) => {
            let seconds = now.duration_since(at).as_secs();
            (say!("{} ago", span(seconds)), if seconds <= QUIET_SECONDS { "good" } else { "quiet" })
        }
        None => (Text::plain("–"), "quiet"),
    }
}

fn row(facts: &SymbolFacts, date: Date, now: Timestamp, zone: &Zone) -> Row {
    let session = &facts.session;
    let change =
        facts.last.as_ref().and_then(|l| l.change()).map(|(won, percent)| (amount(won), amount(percent)));
    let (age, light) = age(session.trade_time, date, now, zone);
    Row {
        name: facts.name.clone(),
        address: format!("/market/{}?date={date}", part(&facts.name)),
        last: or_none(facts.last.as_ref().map(|l| amount(l.price))),
        change: change.map_or_else(|| "–".to_owned(), |(won, _)| signed(won)),
        percent: change.map_or_else(String::new, |(_, percent)| format!("{} %", signed(percent))),
        way: match change {
            Some((won, _)) if won > 0.0 => "up",
            Some((won, _)) if won < 0.0 => "down",
            _ => "",
        },
        vwap: or_none(session.vwap),
        exchange: or_none(session.exchange_vwap()),
        equal: session.exchange_equal,
        volume: quantity(session.volume),
        trades: count(session.trades),
        at: session.trade_time.map_or_else(|| "–".to_owned(), |at| zone.time(at)),
        age,
        light,
        missing: if session.missing() > 0 { Text::plain(shares(session.missing())) } else { say!("none") },
        gap: session.missing() > 0,
    }
}

/// The page of all symbols.
pub(crate) fn list(snapshot: &Snapshot, reading: &Reading<Market>, reader: &Reader) -> Vec<Fragment> {
    let zone = Zone::new(&snapshot.timezone);
    let mut page = List {
        days: Vec::new(),
        rows: Vec::new(),
        totals: Vec::new(),
        zone: zone.label(snapshot.now),
        read: reading.value.is_some(),
    };
    let (mut title, mut address) = (say!("Market"), "/market".to_owned());
    if let Some((_, market)) = &reading.value
        && let Some(date) = market.date
    {
        title = say!("Market, {}", date);
        address = format!("/market?date={date}");
        page.days =
            market.dates.iter().take(15).map(|d| Day { date: d.to_string(), shown: *d == date }).collect();
        page.rows = market.symbols.iter().map(|s| row(s, date, snapshot.now, &zone)).collect();
        let sum = |of: fn(&SymbolFacts) -> i64| market.symbols.iter().map(of).sum::<i64>();
        page.totals = vec![
            Pair::new(say!("symbols"), count(market.symbols.len() as u64)),
            Pair::new(say!("trades"), shares(sum(|s| i64::try_from(s.session.trades).unwrap_or(i64::MAX)))),
            Pair::new(say!("shares"), quantity(market.symbols.iter().map(|s| s.session.volume).sum())),
            Pair::new(say!("shares in gaps"), shares(sum(|s| s.session.missing()))),
        ];
    }
    vec![head(&title, Vec::new(), address, reading, &zone, reader), Fragment::new("market", &page, reader)]
}

/// One symbol's day.
#[derive(Debug, Template)]
#[template(path = "pages/market/symbol.html")]
struct One {
    name: String,
    /// Where programs find all of it.
    data: String,
    facts: Vec<Pair>,
    way: &'static str,
    last: String,
    change: String,
    drawing: Drawing,
    width: f64,
    height: f64,
    low: f64,
    windows: Vec<WindowRow>,
    more: usize,
    anomalies: Vec<AnomalyRow>,
    zone: String,
}

#[derive(Debug)]
struct WindowRow {
    span: String,
    vwap: String,
    low: String,
    high: String,
    volume: String,
    trades: String,
}

#[derive(Debug)]
struct AnomalyRow {
    rule: Text,
    window: WindowRow,
    trades: usize,
    messages: Vec<MessageRow>,
}

#[derive(Debug)]
struct MessageRow {
    id: String,
    text: String,
    cut: bool,
}

fn window(w: &Window, zone: &Zone) -> WindowRow {
    WindowRow {
        span: format!("{}–{}", zone.time(w.window_start), zone.time(w.window_end)),
        vwap: or_none(w.vwap),
        low: krw(w.min_price),
        high: krw(w.max_price),
        volume: quantity(w.volume),
        trades: count(w.trades),
    }
}

fn anomaly(told: &Anomaly, zone: &Zone) -> AnomalyRow {
    let rule = match told.rule.as_str() {
        "range" => say!("range: span at least 5 %, highest at least 3 % above the average"),
        other => Text::plain(other.to_owned()),
    };
    let messages = told.messages.iter().map(|(id, shown)| MessageRow {
        id: id.clone(),
        text: if shown.format == Format::Hex { format!("hex {}", shown.text) } else { shown.pretty() },
        cut: shown.cut,
    });
    AnomalyRow {
        rule,
        window: window(&told.window, zone),
        trades: told.event_ids.len(),
        messages: messages.collect(),
    }
}

/// The page of a symbol.
pub(crate) fn one(
    snapshot: &Snapshot,
    name: &str,
    reading: &Reading<Chart>,
    reader: &Reader,
) -> Vec<Fragment> {
    let zone = Zone::new(&snapshot.timezone);
    let Some((_, chart)) = &reading.value else {
        let back = vec![Pair::new(say!("Market"), "/market")];
        return vec![head(&name.to_text(), back, format!("/market/{}", part(name)), reading, &zone, reader)];
    };
    let line = row(&chart.facts, chart.date, snapshot.now, &zone);
    let told = chart.anomalies.iter().map(|a| &a.window);
    let session = &chart.facts.session;
    let page = One {
        name: name.to_owned(),
        data: format!("/api/v1/market/{name}"),
        facts: vec![
            Pair::new(
                say!("open##price"),
                or_none(chart.facts.last.as_ref().and_then(|l| l.open).map(amount)),
            ),
            Pair::new(say!("low"), krw(session.min_price)),
            Pair::new(say!("high"), krw(session.max_price)),
            Pair::new(say!("VWAP received"), line.vwap),
            Pair::new(
                say!("VWAP of the exchange"),
                if line.equal { say!("{}, equal", line.exchange) } else { Text::plain(line.exchange) },
            ),
            Pair::new(say!("volume"), say!("{} shares", line.volume)),
            Pair::new(say!("trades"), line.trades),
            Pair::new(say!("shares in gaps"), line.missing),
            Pair::new(say!("last trade"), Text::joined(" · ", vec![Text::plain(line.at), line.age])),
        ],
        way: line.way,
        last: line.last,
        change: format!("{} {}", line.change, line.percent).trim().to_owned(),
        drawing: draw(&chart.windows, told, &zone),
        width: WIDTH,
        height: HEIGHT,
        low: LOW,
        windows: chart.windows.iter().rev().take(WINDOWS).map(|w| window(w, &zone)).collect(),
        more: chart.windows.len().saturating_sub(WINDOWS),
        anomalies: chart.anomalies.iter().map(|a| anomaly(a, &zone)).collect(),
        zone: zone.label(snapshot.now),
    };
    let back = vec![Pair::new(say!("Market"), format!("/market?date={}", chart.date))];
    let address = format!("/market/{}?date={}", part(name), chart.date);
    let title = Text::plain(format!("{name}, {}", chart.date));
    vec![head(&title, back, address, reading, &zone, reader), Fragment::new("symbol", &page, reader)]
}
