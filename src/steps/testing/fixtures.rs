//! Contexts and trades for the tests of the steps.

#![expect(missing_docs, reason = "doubles whose names say what they do")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{Context, Reporter};
use backends::Backends;
use backends::log::Record;
use backends::spool::{Kind, NewEntry, TradeBody, Writer};
use clock::Clock;
use config::Feeds;
use domain::calendar::Calendar;
use domain::dag::fixtures::{dag, step};
use domain::dag::{Program, Step, StepKind};
use domain::freshness::Life;
use domain::hop::{self, Hop};
use domain::ids::{AttemptId, RunId};
use domain::schedule::Window;
use domain::trade::{EventId, Trade};
use executor::{AttemptSpec, Status};

/// What a step reported.
#[derive(Default)]
pub struct RecordingReporter {
    pub status: Mutex<Status>,
    pub lines: Mutex<Vec<String>>,
}

impl RecordingReporter {
    pub fn degraded(&self) -> Option<String> {
        self.status.lock().degraded.clone()
    }
    pub fn text(&self) -> String {
        self.lines.lock().join("\n")
    }
}

impl Reporter for RecordingReporter {
    fn status(&self, status: Status) {
        *self.status.lock() = status;
    }
    fn line(&self, line: &str) {
        self.lines.lock().push(line.to_owned());
    }
}

pub fn at(time: &str) -> Timestamp {
    format!("2026-11-20T{time}+09:00").parse().expect("a time")
}

/// A clock that runs 600 times as fast from 09:00.
pub fn fast_clock() -> Clock {
    Clock::virtual_owner(at("09:00:00"), 600.0, None).expect("a clock")
}

pub fn krx() -> Calendar {
    Calendar {
        name: "krx".into(),
        timezone: "Asia/Seoul".into(),
        regular: ("09:00".parse().expect("a time"), "15:30".parse().expect("a time")),
        days: BTreeMap::new(),
    }
}

/// The hops of the DAG `day` with these steps (name, program and parameters), which live since 08:50.
pub fn hops(steps: &[(&str, &str, serde_json::Value)]) -> Vec<(Hop, Life)> {
    let steps: Vec<Step> = steps
        .iter()
        .map(|(name, program, with)| Step {
            program: Program::Uses((*program).to_owned()),
            with: with.as_object().expect("parameters are a table").clone(),
            ..step(name, StepKind::Service, &[])
        })
        .collect();
    let life = Life { began: at("08:50:00"), before: None, up: Some(at("08:50:00")) };
    hop::of(&dag("day", steps), crate::programs()).into_iter().map(|hop| (hop, life)).collect()
}

/// A step of the DAG `day` on 2026-11-20; what the DAG has beside it are a collector and two sinks.
pub fn context(
    name: &str,
    with: serde_json::Value,
    backends: Backends,
    clock: Clock,
    data: &Path,
) -> (Context, Arc<RecordingReporter>) {
    let heard = Arc::new(RecordingReporter::default());
    let mut step = step(name, StepKind::Service, &[]);
    step.with = with.as_object().expect("parameters are a table").clone();
    // Also on the fast clock it is longer than any test waits.
    step.drain = Some(std::time::Duration::from_secs(360_000));
    let run: RunId = "day@2026-11-20".parse().expect("a run");
    let context = Context {
        spec: AttemptSpec {
            id: AttemptId { run, step: step.name.clone(), attempt: 1 },
            step,
            session_date: "2026-11-20".parse().expect("a date"),
            timezone: "Asia/Seoul".into(),
            calendar: Some("krx".into()),
            window: Window { open_at: at("08:50:00"), close_at: Some(at("16:00:00")) },
            deadline: None,
            params: BTreeMap::new(),
            folder: data.join("runs"),
            replica: 0,
            hops: hops(&[
                ("collector", "collect/kis", json!({})),
                ("sink-index", "sink/index", json!({})),
                ("sink-objects", "sink/objects", json!({})),
            ]),
        },
        clock,
        backends,
        feeds: Feeds::default(),
        calendar: Some(krx()),
        secrets: BTreeMap::new(),
        data: data.to_owned(),
        dags: data.join("dags"),
        stop: CancellationToken::new(),
        reporter: Arc::clone(&heard) as Arc<dyn Reporter>,
    };
    (context, heard)
}

/// The `n`-th trade of a symbol (from 1): one share each, a second apart from 09:00.
pub fn trade(symbol: &str, n: i64) -> Trade {
    let date: jiff::civil::Date = "2026-11-20".parse().expect("a date");
    let time = domain::trade::rfc3339(
        at("09:00:00") + SignedDuration::from_secs(n),
        &jiff::tz::TimeZone::get("Asia/Seoul").expect("a zone"),
    );
    Trade {
        id: EventId::new("kis", date, symbol, n),
        feed: "kis".into(),
        channel: "H0STCNT0".into(),
        symbol: symbol.into(),
        session_date: date,
        trade_time: time.clone(),
        received_at: time,
        price: "100".parse().expect("a price"),
        quantity: 1.into(),
        side: None,
        accumulated_volume: Some(n),
        accumulated_value: Some(100 * n),
        fields: BTreeMap::from([("MKSC_SHRN_ISCD".to_owned(), symbol.to_owned())]),
    }
}

/// The log record of a trade.
pub fn record(trade: &Trade) -> Record {
    Record {
        key: Some(trade.symbol.clone().into_bytes()),
        value: serde_json::to_vec(trade).expect("a trade is JSON"),
        headers: vec![("openbell.id".to_owned(), trade.id.as_str().as_bytes().to_vec())],
        timestamp: trade.received().expect("a time"),
    }
}

/// The record's value is no trade.
pub fn poison(symbol: &str, n: i64) -> Record {
    Record { value: b"\xff not json".to_vec(), headers: Vec::new(), ..record(&trade(symbol, n)) }
}

/// The spool's wire text of a trade.
pub fn wire(trade: &Trade) -> String {
    let mut fields = vec!["0".to_owned(); 47];
    let time =
        trade.traded().expect("a time").to_zoned(jiff::tz::TimeZone::get("Asia/Seoul").expect("a zone"));
    for (at, value) in [
        (0, trade.symbol.clone()),
        (1, time.strftime("%H%M%S").to_string()),
        (2, trade.price.to_string()),
        (12, trade.quantity.to_string()),
        (13, trade.accumulated_volume.unwrap_or_default().to_string()),
        (14, trade.accumulated_value.unwrap_or_default().to_string()),
        (33, trade.session_date.strftime("%Y%m%d").to_string()),
        (34, "20".to_owned()),
        (35, "N".to_owned()),
        (44, String::new()),
        (46, "2".to_owned()),
    ] {
        fields[at] = value;
    }
    format!("H0STCNT0|{}", fields.join("^"))
}

/// Appends trades to the spool of the DAG `day`'s collector.
pub fn spool(data: &Path, trades: &[Trade]) {
    spool_of(data, "collector", trades);
}

/// Appends trades to the spool of a collecting step of the DAG `day`; gives its id.
pub fn spool_of(data: &Path, collector: &str, trades: &[Trade]) -> String {
    let (mut writer, _) = Writer::open(&crate::spool_tail::folder(data, "day", collector)).expect("a spool");
    let entry = |t: &Trade| {
        let json = serde_json::to_vec(t).expect("a trade is JSON");
        let body = TradeBody { id: t.id.as_str(), symbol: &t.symbol, json: &json }.encode();
        NewEntry { kind: Kind::Trade, received_at: t.received().expect("a time"), body }
    };
    writer.append(&trades.iter().map(entry).collect::<Vec<_>>()).expect("appended");
    writer.sync().expect("synced");
    writer.id().to_owned()
}
