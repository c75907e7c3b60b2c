use std::time::Duration;

use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::Request;
use domain::trade::Total;

/// A machine with its clock and what it said.
pub(super) struct Bench {
    pub(super) machine: Machine,
    pub(super) now: Timestamp,
    pub(super) out: Vec<Output>,
}

pub(super) fn code(n: usize) -> String {
    format!("KRW-C{n}")
}

/// Ten in the morning of the day that candles are asked for from midnight on.
pub(super) fn start() -> Timestamp {
    "2026-11-20T01:00:00Z".parse().expect("a time")
}

pub(super) fn settings(markets: usize) -> Settings {
    let mut settings = Settings::new(Channel::Trade, (0..markets).map(code).collect(), date(2026, 11, 20));
    settings.websocket = "wss://host/websocket/v1".into();
    settings.rest = "https://host".into();
    settings.backoff.jitter = false;
    settings
}

/// Settings without candles.
pub(super) fn quiet(markets: usize) -> Settings {
    Settings { day: date(2027, 1, 1), ..settings(markets) }
}

pub(super) fn record(code: &str, number: u64, at: Timestamp) -> String {
    json!({"type": "trade", "code": code, "trade_price": 100, "trade_volume": 1, "ask_bid": "BID", "sequential_id": number,
           "trade_timestamp": at.as_millisecond(), "timestamp": at.as_millisecond(), "stream_type": "REALTIME"})
    .to_string()
}

impl Bench {
    pub(super) fn new(settings: Settings) -> Self {
        let mut bench = Self { machine: Machine::new(settings, 7, start()), now: start(), out: Vec::new() };
        bench.input(Input::Tick);
        bench
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        self.machine.handle(input, self.now, &mut self.out);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.input(Input::Tick);
    }

    pub(super) fn message(&mut self, text: &str) {
        self.input(Input::Message(text.as_bytes()));
    }

    fn data(&mut self, market: usize) {
        let text = record(&code(market), self.now.as_millisecond() as u64 * 10_000 + market as u64, self.now);
        self.message(&text);
    }

    pub(super) fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        self.input(Input::Answer(Ok(Answer { status, headers, body: body.to_owned() })));
    }

    /// Everything said since the last look.
    fn said(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    fn sent(&mut self) -> Vec<Value> {
        let text = |output| match output {
            Output::Send(Outgoing::Text(text)) => {
                serde_json::from_str(&text).ok().or(Some(Value::from(text)))
            }
            _ => None,
        };
        self.said().into_iter().filter_map(text).collect()
    }

    fn calls(&mut self) -> Vec<String> {
        let url = |output| match output {
            Output::Request(Request { url, .. }) => Some(url),
            _ => None,
        };
        self.said().into_iter().filter_map(url).collect()
    }

    fn totals(&mut self) -> Vec<Total> {
        let total = |output| match output {
            Output::Data(Data::Total(total)) => Some(total),
            _ => None,
        };
        self.said().into_iter().filter_map(total).collect()
    }

    /// Lets time pass until the machine has something to do, and lets it.
    fn wait(&mut self) {
        self.now = self.machine.wake_at().expect("it waits for something").max(self.now);
        self.input(Input::Tick);
    }
}

fn up(markets: usize) -> Bench {
    let mut bench = Bench::new(quiet(markets));
    bench.input(Input::Opened);
    (0..markets).for_each(|market| bench.data(market));
    assert!(bench.machine.is_up());
    bench.said();
    bench
}

#[test]
fn it_connects_subscribes_once_and_is_up_when_every_market_has_sent_something() {
    let mut bench = Bench::new(quiet(3));
    let [Output::Connect(connect)] = &bench.said()[..] else { panic!() };
    assert_eq!((connect.url.as_str(), connect.headers.len()), ("wss://host/websocket/v1", 0), "no Origin");
    bench.input(Input::Opened);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][1], json!({"type": "trade", "codes": ["KRW-C0", "KRW-C1", "KRW-C2"]}));
    assert!(sent[0][0]["ticket"].as_str().is_some_and(|ticket| ticket.len() == 36));
    bench.data(0);
    bench.data(2);
    assert!(!bench.machine.is_up());
    bench.data(1);
    let said = bench.said();
    assert!(said.contains(&Output::Up { number: 1, active: 3 }));
    assert_eq!(
        said.iter().filter(|o| matches!(o, Output::Data(Data::Trade(_)))).count(),
        3,
        "a snapshot's trade is a trade"
    );
    assert_eq!((bench.machine.active(), bench.machine.degraded()), (3, None));
}

#[test]
fn it_shows_life_well_before_the_server_loses_patience() {
    let mut bench = up(1);
    for _ in 0..3 {
        bench.wait();
        assert_eq!(bench.sent(), [json!("PING")]);
        bench.message(r#"{"status":"UP"}"#);
    }
    assert!(bench.now.duration_since(start()) <= SignedDuration::from_secs(3 * 60));
    assert!(bench.machine.is_up());
    // Nothing answers any more.
    bench.wait();
    bench.wait();
    bench.wait();
    let said = bench.said();
    let silent = |o: &Output| matches!(o, Output::Down { number: 1, last_message_at, .. } if bench.now.duration_since(*last_message_at).as_secs() >= 75);
    assert!(said.iter().any(silent), "{said:?}");
    assert!(said.iter().any(|o| matches!(o, Output::Close(_))) && !bench.machine.is_up());
    assert!(bench.machine.degraded().is_some_and(|why| why.contains("no message")));
}

#[test]
fn markets_that_send_nothing_are_looked_for_in_the_list_and_told() {
    let mut bench = Bench::new(quiet(4));
    bench.input(Input::Opened);
    bench.data(0);
    bench.said();
    bench.wait();
    assert_eq!(bench.sent()[0][1], json!({"method": "LIST_SUBSCRIPTIONS"}));
    bench.message(r#"{"method":"LIST_SUBSCRIPTIONS","result":[{"type":"ticker","codes":["KRW-C2"]},{"type":"trade","codes":["KRW-C0","KRW-C1"]}],"ticket":"t"}"#);
    assert!(bench.said().contains(&Output::Up { number: 1, active: 2 }));
    let degraded = bench.machine.degraded().expect("two markets are not there");
    assert!(
        degraded.contains("not confirmed by Upbit: KRW-C2, KRW-C3")
            && degraded.contains("sends nothing: KRW-C1"),
        "{degraded}"
    );
    // What comes late is confirmed, and the rest is asked for again.
    bench.data(3);
    assert_eq!(bench.machine.active(), 3);
    for _ in 0..10 {
        bench.message(r#"{"status":"UP"}"#);
        bench.pass(Duration::from_secs(30));
    }
    let subscriptions = bench.sent().into_iter().filter(|sent| sent[1]["codes"].is_array()).count();
    assert_eq!(subscriptions, 1, "the whole list, once in five minutes");
}

#[test]
fn a_server_without_a_list_leaves_the_silent_ones_unconfirmed() {
    for refused in [true, false] {
        let mut bench = Bench::new(quiet(2));
        bench.input(Input::Opened);
        bench.data(0);
        bench.wait();
        if refused {
            bench.message(r#"{"error":{"name":"WRONG_FORMAT","message":"?"}}"#);
        } else {
            bench.wait();
        }
        assert!(bench.machine.is_up(), "refused: {refused}");
        assert!(bench.machine.degraded().is_some_and(|why| why.contains("not confirmed by Upbit: KRW-C1")));
    }
}

#[test]
fn without_any_market_it_connects_anew_and_waits_longer_each_time() {
    let mut bench = Bench::new(quiet(2));
    let mut waits = Vec::new();
    for _ in 0..4 {
        bench.input(Input::Opened);
        bench.wait();
        bench.message(r#"{"method":"LIST_SUBSCRIPTIONS","result":[],"ticket":"t"}"#);
        assert!(bench.said().iter().any(|o| matches!(o, Output::Close(_))));
        let down = bench.now;
        bench.wait();
        waits.push(bench.now.duration_since(down).as_secs());
        assert!(bench.said().iter().any(|o| matches!(o, Output::Connect(_))));
    }
    assert_eq!(waits, [1, 2, 4, 8]);
    assert_eq!(bench.machine.reconnects(), 4);
}

#[test]
fn a_refused_value_leads_to_the_markets_that_exist() {
    let mut bench = Bench::new(quiet(3));
    bench.input(Input::Opened);
    bench.said();
    bench.message(r#"{"error":{"name":"INVALID_PARAM","message":"지원하지 않는 코드"}}"#);
    assert_eq!(bench.calls(), ["https://host/v1/market/all"]);
    bench.answer(200, &[], r#"[{"market":"KRW-C0"},{"market":"KRW-C2"},{"market":"KRW-BTC"}]"#);
    bench.wait();
    let sent = bench.sent();
    assert_eq!(sent.last().expect("sent")[1]["codes"], json!(["KRW-C0", "KRW-C2"]));
    bench.data(0);
    bench.data(2);
    assert!(bench.machine.is_up());
    assert_eq!(bench.machine.degraded().as_deref(), Some("Upbit has no such market: KRW-C1"));
    // It stays out after a reconnect.
    bench.input(Input::Closed("gone".into()));
    bench.wait();
    bench.input(Input::Opened);
    assert_eq!(bench.sent().last().expect("sent")[1]["codes"], json!(["KRW-C0", "KRW-C2"]));
}

#[test]
fn refusals_that_a_person_must_look_at_end_the_session() {
    let mut none = Bench::new(quiet(1));
    none.input(Input::Opened);
    none.message(r#"{"error":{"name":"INVALID_PARAM","message":"?"}}"#);
    none.answer(200, &[], r#"[{"market":"KRW-BTC"}]"#);
    let mut auth = Bench::new(quiet(1));
    auth.input(Input::Opened);
    auth.message(r#"{"error":{"name":"INVALID_AUTH","message":"?"}}"#);
    let mut format = Bench::new(quiet(1));
    for _ in 0..3 {
        format.wait();
        format.input(Input::Opened);
        format.message(r#"{"error":{"name":"NO_TICKET","message":"?"}}"#);
    }
    for (bench, words) in
        [(&mut none, "symbols"), (&mut auth, "feeds.upbit.websocket"), (&mut format, "feeds.upbit.websocket")]
    {
        assert!(bench.machine.has_ended() && bench.machine.wake_at().is_none());
        let said = bench.said();
        assert!(
            said.iter().any(|o| matches!(o, Output::Fatal { remedy, .. } if remedy.contains(words))),
            "{said:?}"
        );
    }
}

#[test]
fn while_it_is_up_a_refusal_is_a_line() {
    let mut bench = up(1);
    bench.message(r#"{"error":{"name":"WRONG_FORMAT","message":"PING?"}}"#);
    assert!(matches!(&bench.said()[..], [Output::Note(note)] if note.contains("WRONG_FORMAT")));
    assert!(bench.machine.is_up());
}

#[test]
fn bad_messages_are_kept_and_good_ones_go_on() {
    let mut bench = up(2);
    let good = record("KRW-C0", 1, bench.now);
    for (text, cause) in [
        (r#"{"type":"orderbook","code":"KRW-C0"}"#.to_owned(), "unknown_type"),
        (good[..good.len() - 3].to_owned(), "truncated"),
        (r#"{"type":"ticker","code":"KRW-C0"}"#.to_owned(), "unexpected_type"),
        (format!("[{good},{{\"type\":\"trade\"}},{{\"type\":\"trade\"}},{good}]"), "missing_field"),
    ] {
        bench.message(&text);
        let data: Vec<Data> = bench
            .said()
            .into_iter()
            .filter_map(|o| if let Output::Data(d) = o { Some(d) } else { None })
            .collect();
        let kept = data.iter().filter(|d| matches!(d, Data::Trade(_))).count();
        assert_eq!(kept, text.matches(good.as_str()).count());
        let [Data::Malformed(malformed)] =
            data.iter().filter(|d| !matches!(d, Data::Trade(_))).collect::<Vec<_>>()[..]
        else {
            panic!("{data:?}")
        };
        assert_eq!((malformed.refused.cause, &malformed.bytes[..]), (cause, text.as_bytes()));
    }
    assert!(bench.machine.is_up());
}

#[test]
fn a_stop_ends_everything() {
    let mut bench = up(1);
    bench.input(Input::Stop);
    let said = bench.said();
    assert!(matches!(&said[..], [Output::Down { .. }, Output::Close(_)]), "{said:?}");
    assert!(bench.machine.has_ended() && bench.machine.wake_at().is_none());
    bench.data(0);
    assert!(bench.said().is_empty());
}

/// Candles as the server tells them: (minutes after midnight in Korea, volume).
fn candles(rows: &[(i64, &str)]) -> String {
    let rows: Vec<String> = rows
        .iter()
        .rev()
        .map(|(minute, volume)| {
            let at = midnight() + SignedDuration::from_mins(*minute);
            format!(
                r#"{{"market":"x","candle_date_time_utc":"{}","candle_acc_trade_volume":{volume}}}"#,
                at.strftime("%Y-%m-%dT%H:%M:%S")
            )
        })
        .collect();
    format!("[{}]", rows.join(","))
}

fn midnight() -> Timestamp {
    "2026-11-19T15:00:00Z".parse().expect("a time")
}

fn spans(totals: &[Total]) -> Vec<(i64, i64, String)> {
    let minute = |at: Timestamp| at.duration_since(midnight()).as_mins();
    totals.iter().map(|t| (minute(t.from), minute(t.to), t.volume.to_string())).collect()
}

#[test]
fn candles_are_asked_from_midnight_on_and_then_minute_by_minute() {
    let mut bench = Bench::new(settings(1));
    let calls = bench.calls();
    // 01:00 in London is ten in Korea: 600 minutes, in calls of 200.
    assert_eq!(
        calls,
        ["https://host/v1/candles/minutes/1?market=KRW-C0&to=2026-11-19T18%3A20%3A00Z&count=200"]
    );
    bench.answer(200, &[], &candles(&[(0, "1.5"), (2, "2E-8"), (199, "3")]));
    assert_eq!(
        spans(&bench.totals()),
        [
            (0, 1, "1.5".into()),
            (1, 2, "0".into()),
            (2, 3, "0.00000002".into()),
            (3, 199, "0".into()),
            (199, 200, "3".into())
        ]
    );
    bench.wait();
    assert!(
        bench.calls()[0].contains("to=2026-11-19T21%3A39%3A00Z&count=200"),
        "the last minute is read once more"
    );
    bench.answer(200, &[], &candles(&[(199, "3.25")]));
    assert_eq!(spans(&bench.totals()), [(199, 200, "3.25".into()), (200, 399, "0".into())]);
    bench.wait();
    bench.answer(200, &[], "[]");
    bench.wait();
    assert!(
        bench.calls().last().expect("a call").contains("count=2"),
        "up to the minute that has ended long enough"
    );
    bench.answer(200, &[], "[]");
    assert_eq!(spans(&bench.totals()).last(), Some(&(598, 599, "0".into())));
    bench.wait();
    assert_eq!(bench.now, start() + SignedDuration::from_secs(10));
    assert_eq!(bench.calls().len(), 1);
}

#[test]
fn an_outage_of_the_rest_side_is_waited_out_and_caught_up() {
    let mut bench = Bench::new(Settings { day: date(2026, 11, 20), ..settings(2) });
    // All that was before is known.
    for _ in 0..2 {
        for _ in 0..4 {
            bench.answer(200, &[], "[]");
            bench.wait();
        }
    }
    bench.said();
    bench.answer(429, &[("remaining-req", "group=candles; min=600; sec=0")], "");
    let before = bench.now;
    bench.wait();
    assert!(bench.now.duration_since(before) >= SignedDuration::from_secs(1));
    bench.answer(418, &[("retry-after", "1200")], "");
    let note = bench.said().iter().filter(|o| matches!(o, Output::Note(_))).count();
    assert_eq!(note, 1, "a line for the first failure in a row");
    assert_eq!(bench.machine.degraded(), None);
    let before = bench.now;
    // The connection has nothing to do with it: nobody opens it here.
    bench.now += SignedDuration::from_mins(15);
    bench.input(Input::Tick);
    assert!(bench.machine.degraded().is_some_and(|why| why.contains("blocks this address")));
    bench.wait();
    assert_eq!(bench.now.duration_since(before), SignedDuration::from_secs(1200));
    assert!(bench.calls()[0].contains("count=2"), "twenty minutes and the one before, in one call");
    bench.answer(404, &[], r#"{"error":{"name":404,"message":"Code not found"}}"#);
    bench.input(Input::Answer(Err("nobody asked".into())));
    assert!(
        bench.said().iter().any(|o| matches!(o, Output::Note(note) if note.contains("cannot be checked")))
    );
}

#[test]
fn totals_do_not_cross_the_day() {
    let mut settings = settings(1);
    settings.day = date(2026, 11, 19);
    let mut bench = Bench::new(settings);
    for _ in 0..10 {
        bench.answer(200, &[], "[]");
        bench.wait();
    }
    let totals = bench.totals();
    assert!(totals.iter().all(|t| {
        let date = |at: Timestamp| TimeZone::fixed(KOREA).to_datetime(at).date();
        date(t.from) == t.session_date && date(t.to - SignedDuration::from_secs(1)) == t.session_date
    }));
    assert!(totals.iter().any(|t| t.session_date == date(2026, 11, 20)));
}

#[test]
fn tickers_have_no_candles() {
    let bench = Bench::new(Settings { channel: Channel::Ticker, ..settings(1) });
    assert!(bench.out.iter().all(|o| !matches!(o, Output::Request(_))));
}
