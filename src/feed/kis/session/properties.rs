//! No order of events makes the machine panic, hurry or exceed its limit.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::tests::{Bench, settings, symbol};
use super::*;
use crate::kis::request::Type;

/// What the outside world can do to the machine.
#[derive(Debug, Clone)]
enum Event {
    Pass(u32),
    WakeOnTime,
    Key(bool),
    Opened,
    NotOpened,
    Reply(usize, usize),
    StrangeReply(usize),
    Ping,
    Tick(usize),
    Traffic,
    Closed,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0u32..20_000).prop_map(Event::Pass),
        6 => Just(Event::WakeOnTime),
        2 => proptest::bool::weighted(0.9).prop_map(Event::Key),
        3 => Just(Event::Opened),
        1 => Just(Event::NotOpened),
        8 => (0usize..8, 0usize..12).prop_map(|(s, c)| Event::Reply(s, c)),
        1 => (0usize..12).prop_map(Event::StrangeReply),
        1 => Just(Event::Ping),
        2 => (0usize..8).prop_map(Event::Tick),
        1 => Just(Event::Traffic),
        1 => Just(Event::Closed),
    ]
}

const CODES: [&str; 12] = [
    "OPSP0000", "OPSP0001", "OPSP0002", "OPSP0003", "OPSP0007", "OPSP0008", "OPSP0011", "OPSP0017",
    "OPSP8992", "OPSP8996", "OPSP9999", "OPSP0000",
];

/// Lets it happen; `registered` are the registrations the server may hold.
fn happen(bench: &mut Bench, event: Event, registered: &mut BTreeSet<String>) -> Vec<Output> {
    match event {
        Event::Pass(ms) => {
            bench.now += Duration::from_millis(u64::from(ms));
            bench.input(Input::Wake)
        }
        Event::WakeOnTime => {
            if let Some(at) = bench.session.wake_at() {
                bench.now = bench.now.max(at);
            }
            bench.input(Input::Wake)
        }
        Event::Key(good) => {
            bench.input(Input::Key(if good { Ok("key".into()) } else { Err(Refusal::Failed("no".into())) }))
        }
        Event::Opened => bench.input(Input::Opened),
        Event::NotOpened => bench.input(Input::NotOpened("refused".into())),
        Event::Reply(s, c) => {
            if !matches!(CODES[c], "OPSP0000" | "OPSP0002") {
                registered.remove(&symbol(s));
            }
            bench.reply(&symbol(s), "1", CODES[c])
        }
        Event::StrangeReply(c) => bench.reply("", "1", CODES[c]),
        Event::Tick(s) => {
            bench.tick(&symbol(s));
            Vec::new()
        }
        Event::Ping | Event::Traffic => bench.input(Input::Traffic),
        Event::Closed => {
            registered.clear();
            bench.input(Input::Closed("gone".into()))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_sequence_breaks_pace_or_limit(limit in 1usize..6, events in proptest::collection::vec(event(), 0..200)) {
        let mut settings = settings(6);
        settings.limit = limit;
        let mut bench = Bench::new(settings);
        let mut registered: BTreeSet<String> = BTreeSet::new();
        let mut last_request: Option<Timestamp> = None;
        let mut open = false;
        for event in events {
            let outputs = happen(&mut bench, event, &mut registered);
            for output in &outputs {
                match output {
                    Output::Open => open = true,
                    Output::Close(_) => {
                        prop_assert!(open, "closes what is not open");
                        open = false;
                        registered.clear();
                    }
                    _ => {}
                }
            }
            // Ticks go through `input` too; take what they brought from the record.
            for output in bench.out.drain(..) {
                let Output::Request(request) = output else { continue };
                if let Some(last) = last_request {
                    prop_assert!(bench.now >= last + Duration::from_millis(100), "two requests within the pace");
                }
                last_request = Some(bench.now);
                if request.kind == Type::Subscribe {
                    registered.insert(request.tr_key);
                }
                prop_assert!(registered.len() <= limit, "{} registrations, the limit is {limit}", registered.len());
            }
            if bench.session.has_ended() {
                prop_assert_eq!(bench.session.wake_at(), None);
                break;
            }
        }
    }
}
