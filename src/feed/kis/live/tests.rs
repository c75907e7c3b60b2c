//! The session as a collector sees it: no order of events makes it panic, speak out of turn, lose a trade or
//! print a secret.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use crate::kis::{Kis, encode};
use crate::*;
use domain::trade::EventId;

const SECRETS: [&str; 3] = ["k3y-of-the-app", "s3cret-of-the-app", "the-approval-key"];

fn now() -> Timestamp {
    "2026-11-20T09:00:00+09:00".parse().expect("a time")
}

fn session(with: serde_json::Value, secrets: &[(&str, &str)]) -> Result<Box<dyn Session>, SetupError> {
    let file = |path: &str| match path {
        "two.txt" => Ok("# big ones\n005930  Samsung\r\n\n000660, SK # memory\n005930\n".to_owned()),
        _ => Err(format!("{path} cannot be read")),
    };
    Kis.session(&Setup {
        session_date: jiff::civil::date(2026, 11, 20),
        with: Parameters::new(&Kis, with.as_object().expect("a table"), &file),
        secrets: secrets.iter().copied().collect(),
        addresses: addresses(&Kis, &BTreeMap::new()),
        speed: 1.0,
        seed: 7,
        now: now(),
    })
}

const GIVEN: [(&str, &str); 2] = [("app_key", SECRETS[0]), ("app_secret", SECRETS[1])];

/// A record of a trade of one share; a bad one has no price.
fn record(symbol: &str, n: i64, good: bool) -> Vec<String> {
    let mut fields = vec![String::new(); 47];
    let price = if good { "70000" } else { "seventy" };
    for (at, text) in [(0, symbol), (1, "093000"), (2, price), (12, "1"), (33, "20261120")] {
        fields[at] = text.to_owned();
    }
    (fields[13], fields[14]) = (n.to_string(), (n * 70_000).to_string());
    fields
}

#[derive(Debug, Clone)]
enum Event {
    Pass(u32),
    OnTime,
    Opened(bool),
    Records(Vec<bool>),
    Reply(&'static str, usize),
    Ping,
    Noise(Vec<u8>),
    Answer(u8),
    Traffic,
    Closed,
}

const SYMBOLS: [&str; 2] = ["005930", "000660"];

fn event() -> impl Strategy<Value = Event> {
    let codes =
        vec!["OPSP0000", "OPSP0002", "OPSP0008", "OPSP0011", "OPSP8992", "OPSP8996", "OPSP0007", "OPSP0017"];
    prop_oneof![
        2 => (0..30_000u32).prop_map(Event::Pass),
        6 => Just(Event::OnTime),
        5 => proptest::bool::weighted(0.8).prop_map(Event::Opened),
        4 => prop::collection::vec(proptest::bool::weighted(0.8), 1..4).prop_map(Event::Records),
        6 => (prop::sample::select(codes), 0..2usize).prop_map(|(code, symbol)| Event::Reply(code, symbol)),
        1 => Just(Event::Ping),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Event::Noise),
        5 => (0..10u8).prop_map(Event::Answer),
        1 => Just(Event::Traffic),
        1 => Just(Event::Closed),
    ]
}

/// What the collector knows of the connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Line {
    None,
    Opening,
    Open,
}

fn bytes(event: &Event, n: &mut i64) -> Option<Vec<u8>> {
    match event {
        Event::Records(records) => {
            let mut next = || {
                *n += 1;
                *n
            };
            let records: Vec<_> = records.iter().map(|good| record(SYMBOLS[0], next(), *good)).collect();
            Some(encode("H0STCNT0", &records).into_bytes())
        }
        Event::Reply(code, symbol) => Some(
            json!({"header": {"tr_id": "H0STCNT0", "tr_key": SYMBOLS[*symbol], "encrypt": "N"},
                   "body": {"rt_cd": if *code == "OPSP0000" { "0" } else { "9" }, "msg_cd": code, "msg1": "said"}})
            .to_string()
            .into_bytes(),
        ),
        Event::Ping => Some(br#"{"header":{"tr_id":"PINGPONG","datetime":"20261120093000"}}"#.to_vec()),
        Event::Noise(noise) => Some(noise.clone()),
        _ => None,
    }
}

fn answer(which: u8) -> std::result::Result<Answer, String> {
    let answer = |status, body: String| Ok(Answer { status, headers: Vec::new(), body });
    match which {
        0 => Err("no route".into()),
        1 => answer(500, "<html>".into()),
        2 => answer(403, json!({"error_code": "EGW00133", "error_description": "often"}).to_string()),
        _ => answer(200, json!({"approval_key": SECRETS[2]}).to_string()),
    }
}

/// What a message's data must be: every good record in order, and the whole message where one is bad.
fn check_data(event: &Event, message: &[u8], last: i64, data: &[Data]) -> Result<(), TestCaseError> {
    let Event::Records(records) = event else {
        prop_assert!(data.iter().all(|d| matches!(d, Data::Malformed(_))), "{event:?}: {data:?}");
        return Ok(());
    };
    let date = now().to_zoned(Kis.zone()).date();
    let first = last - records.len() as i64 + 1;
    let expected: Vec<_> = (first..)
        .zip(records)
        .filter(|(_, good)| **good)
        .map(|(n, _)| EventId::new("kis", date, SYMBOLS[0], n))
        .collect();
    let trades: Vec<_> =
        data.iter().filter_map(|d| if let Data::Trade(trade) = d { Some(trade) } else { None }).collect();
    prop_assert_eq!(trades.iter().map(|t| t.id.clone()).collect::<Vec<_>>(), expected);
    let malformed: Vec<_> =
        data.iter().filter_map(|d| if let Data::Malformed(m) = d { Some(m) } else { None }).collect();
    prop_assert_eq!(malformed.len(), usize::from(records.iter().any(|good| !good)));
    prop_assert!(malformed.iter().all(|m| m.bytes == message && m.refused.cause == "bad_number"));
    // What came alone is what a replay makes of it.
    let replayed = Kis.trades(message, now());
    prop_assert_eq!(replayed.is_ok(), malformed.is_empty());
    let replayed = replayed.unwrap_or_default();
    prop_assert!(replayed.iter().zip(&trades).all(|(r, t)| r.id == t.id && r.fields == t.fields));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_order_of_events_makes_it_speak_out_of_turn(events in prop::collection::vec(event(), 0..150)) {
        let mut session = session(json!({"symbols": SYMBOLS}), &GIVEN).expect("a session");
        let (mut at, mut line, mut calls, mut n) = (now(), Line::None, 0, 0);
        for event in std::iter::once(Event::OnTime).chain(events) {
            let message = bytes(&event, &mut n);
            let input = match &event {
                Event::Pass(ms) => {
                    at += std::time::Duration::from_millis(u64::from(*ms));
                    Input::Tick
                }
                Event::OnTime => {
                    at = session.wake_at().map_or(at, |wake| wake.max(at));
                    Input::Tick
                }
                Event::Opened(_) if line != Line::Opening => continue,
                Event::Opened(true) => { line = Line::Open; Input::Opened }
                Event::Opened(false) => { line = Line::None; Input::NotOpened("refused".into()) }
                Event::Answer(_) if calls == 0 => continue,
                Event::Answer(which) => { calls -= 1; Input::Answer(answer(*which)) }
                _ if line != Line::Open => continue,
                Event::Traffic => Input::Traffic,
                Event::Closed => { line = Line::None; Input::Closed("gone".into()) }
                _ => Input::Message(message.as_deref().unwrap_or_default()),
            };
            let mut out = Vec::new();
            session.handle(input, at, &mut out);
            let printed = format!("{out:?}");
            prop_assert!(SECRETS.iter().all(|secret| !printed.contains(secret)), "{printed}");
            let mut data = Vec::new();
            for output in out {
                match output {
                    Output::Connect(connect) => {
                        prop_assert_eq!(line, Line::None);
                        prop_assert!(connect.accept_bad_text && connect.url.ends_with("/tryitout"));
                        line = Line::Opening;
                    }
                    Output::Send(_) => prop_assert_eq!(line, Line::Open),
                    Output::Close(_) => {
                        // The connection that just ended by itself is closed once more.
                        line = Line::None;
                    }
                    Output::Request(request) => {
                        calls += 1;
                        prop_assert!(calls == 1 && request.method == Method::Post && request.url.ends_with("/oauth2/Approval"));
                    }
                    Output::Data(one) => data.push(one),
                    Output::Up { .. } => prop_assert!(session.is_up() || session.has_ended()),
                    Output::Down { .. } | Output::Note(_) => {}
                    Output::Fatal { .. } => prop_assert!(session.has_ended()),
                }
            }
            match &message {
                Some(message) => check_data(&event, message, n, &data)?,
                None => prop_assert!(data.is_empty(), "{event:?}: {data:?}"),
            }
            if session.has_ended() {
                prop_assert_eq!(session.wake_at(), None);
                let mut more = Vec::new();
                session.handle(Input::Tick, at, &mut more);
                prop_assert!(more.is_empty());
                break;
            }
        }
        let mut out = Vec::new();
        session.handle(Input::Stop, at, &mut out);
        prop_assert!(session.has_ended());
        prop_assert_eq!(session.symbols(), SYMBOLS);
    }
}

#[test]
fn a_bad_control_message_is_not_kept() {
    let mut session = session(json!({"symbols": SYMBOLS}), &GIVEN).expect("a session");
    let mut out = Vec::new();
    session.handle(Input::Message(br#"{"header":{"key":"abc"#), now(), &mut out);
    let [Output::Note(note), Output::Data(Data::Malformed(kept)), ..] = &out[..] else { panic!("{out:?}") };
    assert!(note.contains("cannot be read") && kept.bytes == b"[control message not kept]", "{note}");
}

#[test]
fn parameters_and_secrets_are_checked_before_anything_is_opened() {
    let refused = |with, secrets: &[(&str, &str)]| match session(with, secrets) {
        Err(SetupError::Parameter { name, why } | SetupError::Secret { name, why }) => {
            format!("{name}: {why}")
        }
        Ok(_) => panic!("taken"),
    };
    for (with, parts) in [
        (json!({}), ["symbols", "missing"]),
        (json!({"symbols": [5930]}), ["symbols", "not a text"]),
        (json!({"symbols": []}), ["symbols", "none"]),
        (json!({"symbols": "file:no.txt"}), ["symbols", "no.txt"]),
        (json!({"symbols": ["5930"]}), ["\"5930\"", "in quotes"]),
        (json!({"symbols": SYMBOLS, "tr_ids": "H0STASP0"}), ["H0STASP0", "H0STCNT0"]),
        (json!({"symbols": SYMBOLS, "limit": 0}), ["limit", "at least 1"]),
        (json!({"symbols": SYMBOLS, "pace": 5}), ["pace", "5s"]),
        (json!({"symbols": SYMBOLS, "stale_after": "soon"}), ["stale_after", "500ms"]),
    ] {
        let text = refused(with, &GIVEN);
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
    let with = || json!({"symbols": SYMBOLS});
    assert!(refused(with(), &GIVEN[..1]).contains("env:KIS_APP_SECRET"));
    assert!(refused(with(), &[("app_key", " "), GIVEN[1]]).contains("empty"));
    assert!(refused(with(), &[("app_key", "k\n"), GIVEN[1]]).contains("line break"));
    let file = session(json!({"symbols": "file:two.txt"}), &GIVEN).expect("a session");
    assert_eq!(file.symbols(), ["005930", "000660"]);
}

#[test]
fn addresses_are_the_configurations_or_the_feeds_own() {
    let configured = |text: &str| serde_json::from_str::<Configured>(text).expect("a table");
    let some = configured(r#"{"kis": {"rest": "http://127.0.0.1:1"}}"#);
    let found = addresses(&Kis, &some);
    assert_eq!(
        (found["rest"].as_str(), found["websocket"].as_str()),
        ("http://127.0.0.1:1", Kis.addresses()[1].default)
    );
    assert_eq!(check_addresses(&some), Ok(()));
    for (text, part) in
        [(r#"{"kiss": {}}"#, "there are kis"), (r#"{"kis": {"ws": "x"}}"#, "write rest, websocket")]
    {
        let error = check_addresses(&configured(text)).expect_err("refused");
        assert!(error.contains(part), "{error}");
    }
}
