//! No order of events makes the machine panic, hurry or lose a record.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::tests::{Bench, code, record, settings};
use super::*;

/// What the outside world can do to the machine.
#[derive(Debug, Clone)]
enum Event {
    Pass(u32),
    WakeOnTime,
    Opened,
    NotOpened,
    Record(usize),
    Bad,
    Status,
    List(u8),
    Fault(usize),
    Answer(u16, u8),
    NoAnswer,
    Traffic,
    Closed,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0u32..120_000).prop_map(Event::Pass),
        8 => Just(Event::WakeOnTime),
        3 => Just(Event::Opened),
        1 => Just(Event::NotOpened),
        6 => (0usize..8).prop_map(Event::Record),
        1 => Just(Event::Bad),
        2 => Just(Event::Status),
        2 => any::<u8>().prop_map(Event::List),
        1 => (0usize..6).prop_map(Event::Fault),
        5 => (prop_oneof![Just(200u16), Just(404), Just(418), Just(429), Just(500)], any::<u8>()).prop_map(|(s, k)| Event::Answer(s, k)),
        1 => Just(Event::NoAnswer),
        1 => Just(Event::Traffic),
        1 => Just(Event::Closed),
    ]
}

const FAULTS: [&str; 6] =
    ["INVALID_PARAM", "NO_CODES", "WRONG_FORMAT", "NO_TICKET", "NEW_ONE", "WRONG_FORMAT"];

fn happen(bench: &mut Bench, event: Event) {
    match event {
        Event::Pass(ms) => bench.pass(Duration::from_millis(ms.into())),
        Event::WakeOnTime => {
            if let Some(at) = bench.machine.wake_at() {
                bench.now = bench.now.max(at);
            }
            bench.input(Input::Tick);
        }
        Event::Opened => bench.input(Input::Opened),
        Event::NotOpened => bench.input(Input::NotOpened("refused".into())),
        Event::Record(market) => {
            let text = record(&code(market), 1, bench.now);
            bench.message(&text);
        }
        Event::Bad => bench.message("{\"type\":"),
        Event::Status => bench.message(r#"{"status":"UP"}"#),
        Event::List(bits) => {
            let codes: Vec<String> =
                (0..6).filter(|n| bits & (1 << n) != 0).map(|n| format!("\"{}\"", code(n))).collect();
            let text = format!(
                r#"{{"method":"LIST_SUBSCRIPTIONS","result":[{{"type":"trade","codes":[{}]}}]}}"#,
                codes.join(",")
            );
            bench.message(&text);
        }
        Event::Fault(n) => bench.message(&format!(r#"{{"error":{{"name":"{}","message":"m"}}}}"#, FAULTS[n])),
        Event::Answer(status, kind) => {
            let body = match kind % 4 {
                0 => "[]".to_owned(),
                1 => "nonsense".to_owned(),
                2 => format!(r#"[{{"market":"{}"}},{{"market":"{}"}}]"#, code(0), code(1)),
                _ => r#"[{"candle_date_time_utc":"2026-11-20T00:30:00","candle_acc_trade_volume":1.5}]"#
                    .to_owned(),
            };
            bench.answer(status, &[("remaining-req", "group=candles; min=600; sec=3")], &body);
        }
        Event::NoAnswer => bench.input(Input::Answer(Err("timeout".into()))),
        Event::Traffic => bench.input(Input::Traffic),
        Event::Closed => bench.input(Input::Closed("gone".into())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_sequence_breaks_a_rule(events in proptest::collection::vec(event(), 0..200)) {
        let mut bench = Bench::new(settings(6));
        // It connects at its first tick.
        let first = bench.out.drain(..).filter(|o| matches!(o, Output::Connect(_))).count();
        prop_assert_eq!(first, 1);
        let (mut open, mut opened) = (true, false);
        let (mut last_send, mut last_call): (Option<Timestamp>, Option<Timestamp>) = (None, Some(bench.now));
        let (mut asked, mut minutes) = (1usize, Vec::<(String, i64, i64)>::new());
        for event in events {
            let records = usize::from(matches!(event, Event::Record(_) | Event::Bad));
            let (ended, was_open) = (bench.machine.has_ended(), matches!(event, Event::Opened));
            asked = asked.saturating_sub(usize::from(matches!(event, Event::Answer(..) | Event::NoAnswer)));
            happen(&mut bench, event);
            if was_open && open && !opened {
                opened = true;
                last_send = None;
            }
            let mut data = 0;
            for output in bench.out.drain(..) {
                match output {
                    Output::Connect(_) => {
                        prop_assert!(!open, "two connections at a time");
                        open = true;
                    }
                    Output::Close(_) => {
                        prop_assert!(open, "closes what is not open");
                        (open, opened) = (false, false);
                    }
                    Output::Send(_) => {
                        prop_assert!(opened, "sends over nothing");
                        if let Some(last) = last_send {
                            prop_assert!(bench.now >= last + Duration::from_millis(700), "two messages within the pace");
                        }
                        last_send = Some(bench.now);
                    }
                    Output::Request(call) if call.url.contains("candles") => {
                        if let Some(last) = last_call {
                            prop_assert!(bench.now >= last + Duration::from_millis(125), "two calls within the pace");
                        }
                        last_call = Some(bench.now);
                        asked += 1;
                    }
                    Output::Request(_) => asked += 1,
                    Output::Data(Data::Total(total)) => {
                        minutes.push((total.symbol, total.from.as_second() / 60, total.to.as_second() / 60));
                    }
                    Output::Data(_) => data += 1,
                    _ => {}
                }
            }
            // A connection that the machine lost by itself is closed by it; one that the world ended is gone.
            open = open && !matches!(bench.machine.phase, Phase::Idle { .. } | Phase::Ended);
            opened = opened && open;
            prop_assert_eq!(data, if ended { 0 } else { records }, "every message of data brings one piece of it");
            prop_assert!(asked <= 6, "calls pile up");
            if bench.machine.has_ended() {
                prop_assert_eq!(bench.machine.wake_at(), None);
                break;
            }
            prop_assert!(bench.machine.wake_at().is_some() || matches!(bench.machine.phase, Phase::Opening));
        }
        // Of each market the minutes are told without a hole.
        for n in 0..6 {
            let mut known: Option<i64> = None;
            for (_, from, to) in minutes.iter().filter(|(symbol, ..)| *symbol == code(n)) {
                prop_assert!(known.is_none_or(|known| *from == known || *from == known - 1), "a hole before {from}");
                known = Some(*to);
            }
        }
    }
}
