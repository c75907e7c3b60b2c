//! Every fault of the script, seen from the client.

use std::time::Duration;

use super::client::*;
use crate::kis::{Event, Fault, Mangling, Script, Simulator, SimulatorOptions, Why};

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// A quiet day with these faults, from `start`, and a client for all its symbols.
async fn with(
    start: jiff::Timestamp,
    faults: &[(jiff::Timestamp, Fault)],
) -> (Simulator, clock::Clock, Vec<String>) {
    let script =
        faults.iter().cloned().fold(Script::quiet(1, DAY), |script, (at, fault)| script.with(at, fault));
    let options = SimulatorOptions { script, ..manual(start) };
    let (clock, symbols) = (options.clock.clone(), options.symbols.clone());
    (Simulator::start(options).await.expect("started"), clock, symbols)
}

#[tokio::test]
async fn a_disconnect_delivers_what_was_before_it_and_holds_the_slot() {
    let (simulator, clock, symbols) =
        with(at(10, 0), &[(at(10, 17), Fault::Disconnect { hold_slot: minutes(1) })]).await;
    let mut client = Client::registered(&simulator, &symbols).await;
    move_to(&clock, at(10, 17));
    let (frames, end) = client.until_end().await;
    assert_eq!(end, Heard::Abrupt);
    let records: Vec<_> = frames.into_iter().flat_map(|f| f.records).collect();
    assert_eq!(records, expected(&simulator, &symbols, at(10, 0), at(10, 17)));
    assert!(happened(&simulator, &Event::SessionDown { session: 1, why: Why::Disconnect }));

    let mut early = Client::new(&simulator, &client.key).await;
    assert_eq!(early.request("1", "H0STCNT0", "005930").await, "OPSP8996");
    move_to(&clock, at(10, 18));
    let mut again = Client::new(&simulator, &client.key).await;
    for symbol in &symbols {
        assert_eq!(again.request("1", "H0STCNT0", symbol).await, "OPSP0000");
    }
    move_to(&clock, at(10, 30));
    let after = expected(&simulator, &symbols, at(10, 18), at(10, 30));
    assert_eq!(
        again.records(after.len()).await,
        after,
        "what was traded meanwhile is lost, and nothing else"
    );
    let unsent = simulator
        .ledger()
        .iter()
        .enumerate()
        .filter(|(i, t)| !simulator.was_sent(*i) && t.at >= at(10, 0) && t.at < at(10, 30))
        .count();
    assert_eq!(unsent, expected(&simulator, &symbols, at(10, 17), at(10, 18)).len());
    simulator.stop().await;
}

#[tokio::test]
async fn a_stall_is_silent_but_alive_and_lets_everything_go_at_its_end() {
    let script = Script::quiet(1, DAY).with(at(13, 2), Fault::Stall { lasts: minutes(12) });
    let options = SimulatorOptions { script, pingpong: Duration::from_secs(10), ..manual(at(13, 0)) };
    let (clock, symbols) = (options.clock.clone(), options.symbols.clone());
    let simulator = Simulator::start(options).await.expect("started");
    let mut client = Client::registered(&simulator, &symbols).await;
    move_to(&clock, at(13, 2));
    let before = expected(&simulator, &symbols, at(13, 0), at(13, 2));
    let mut records = Vec::new();
    // Signs of life come between the data.
    while records.len() < before.len() {
        match client.hear().await {
            Heard::Text(text) if text.contains("PINGPONG") => client.say(&text).await,
            Heard::Text(text) => records.extend(Frame::read(&text).records),
            end => panic!("{end:?}"),
        }
    }
    for minute in 3..14 {
        move_to(&clock, at(13, minute));
        loop {
            let Heard::Text(text) = client.hear().await else { panic!("the session ended") };
            assert!(text.contains("PINGPONG"), "data in a stall: {text}");
            client.say(&text).await;
            if text.contains(&format!("2026112013{minute:02}")) {
                break;
            }
        }
    }
    move_to(&clock, at(13, 14));
    let stalled = expected(&simulator, &symbols, at(13, 2), at(13, 14));
    let mut late = Vec::new();
    while late.len() < stalled.len() {
        match client.hear().await {
            Heard::Text(text) if text.contains("PINGPONG") => {}
            Heard::Text(text) => late.extend(Frame::read(&text).records),
            end => panic!("{end:?}"),
        }
    }
    assert!(!stalled.is_empty());
    assert_eq!(late, stalled);
    simulator.stop().await;
}

#[tokio::test]
async fn malformed_frames_come_on_top_byte_for_byte() {
    let kinds = [
        Mangling::WrongWidth,
        Mangling::InvalidUtf8,
        Mangling::Truncated,
        Mangling::NotANumber,
        Mangling::UnknownTr,
        Mangling::Oversize,
    ];
    let faults: Vec<_> = kinds
        .iter()
        .zip(5..)
        .map(|(what, minute)| (at(11, minute), Fault::Malformed { what: *what }))
        .collect();
    let (simulator, clock, symbols) = with(at(11, 0), &faults).await;
    let mut client = Client::registered(&simulator, &symbols).await;
    move_to(&clock, at(12, 0));
    let expected = expected(&simulator, &symbols, at(11, 0), at(12, 0));
    let wrong: Vec<Vec<u8>> =
        simulator.script().malformed_frames().into_iter().map(|(_, bytes)| bytes).collect();
    let (mut records, mut found) = (Vec::new(), Vec::new());
    while records.len() < expected.len() || found.len() < wrong.len() {
        match client.hear().await {
            Heard::Text(text) if wrong.contains(&text.clone().into_bytes()) => found.push(text.into_bytes()),
            Heard::Binary(bytes) => found.push(bytes),
            Heard::Text(text) => records.extend(Frame::read(&text).records),
            end => panic!("{end:?}"),
        }
    }
    assert_eq!((records, found), (expected, wrong));
    for index in 0..kinds.len() {
        assert!(happened(&simulator, &Event::MalformedSent { index }));
    }
    simulator.stop().await;
}

#[tokio::test]
async fn a_malformed_frame_that_nobody_hears_is_skipped() {
    let (simulator, clock, _) =
        with(at(11, 0), &[(at(11, 1), Fault::Malformed { what: Mangling::WrongWidth })]).await;
    move_to(&clock, at(11, 2));
    wait_until("it is skipped", || happened(&simulator, &Event::MalformedSkipped { index: 0 })).await;
    simulator.stop().await;
}

#[tokio::test]
async fn invalid_utf8_in_a_text_message_fails_a_strict_client() {
    let (simulator, clock, symbols) =
        with(at(11, 0), &[(at(11, 1), Fault::Malformed { what: Mangling::InvalidUtf8Text })]).await;
    let mut client = Client::registered(&simulator, &symbols).await;
    move_to(&clock, at(11, 2));
    let (_, end) = client.until_end().await;
    assert_eq!(end, Heard::NotUtf8);
    assert!(happened(&simulator, &Event::MalformedSent { index: 0 }));
    simulator.stop().await;
}

#[tokio::test]
async fn a_half_open_session_is_silent_then_gone_and_only_then_its_slot_free() {
    let (simulator, clock, symbols) =
        with(at(11, 0), &[(at(11, 5), Fault::HalfOpen { lasts: minutes(3) })]).await;
    let mut client = Client::registered(&simulator, &symbols).await;
    let before = expected(&simulator, &symbols, at(11, 0), at(11, 5));
    move_to(&clock, at(11, 7));
    assert_eq!(client.records(before.len()).await, before);
    client.ask("1", "H0STASP0", "005930").await;
    let mut second = Client::new(&simulator, &client.key).await;
    assert_eq!(second.request("1", "H0STCNT0", "005930").await, "OPSP8996");
    move_to(&clock, at(11, 8));
    assert_eq!(client.hear().await, Heard::Abrupt, "no data, no answer, only the end");
    let mut third = Client::new(&simulator, &client.key).await;
    assert_eq!(third.request("1", "H0STCNT0", "005930").await, "OPSP0000");
    simulator.stop().await;
}

#[tokio::test]
async fn acknowledgements_can_be_late_missing_refused_or_empty() {
    let faults = [
        (at(8, 0), Fault::NoAck),
        (at(8, 0), Fault::RefuseNext { code: "OPSP0007".into() }),
        (at(9, 10), Fault::DelayedAck { by: Duration::from_secs(3) }),
        (at(9, 30), Fault::AckWithoutTicks { symbol: "000660".into() }),
    ];
    let (simulator, clock, _) = with(at(8, 50), &faults).await;
    let key = approval(&simulator, "a").await;
    let mut client = Client::new(&simulator, &key).await;
    assert_eq!(client.request("1", "H0STCNT0", "005930").await, "OPSP0007");
    client.ask("1", "H0STCNT0", "005930").await;
    assert_eq!(
        client.request("1", "H0STCNT0", "005930").await,
        "OPSP0002",
        "made without an answer, as the second try shows"
    );
    assert_eq!(client.request("2", "H0STCNT0", "005930").await, "OPSP0001");

    move_to(&clock, at(9, 10));
    client.ask("1", "H0STCNT0", "005380").await;
    assert_eq!(client.request("2", "H0STCNT0", "373220").await, "OPSP0003", "this answer overtakes");
    clock.advance(Duration::from_secs(3));
    assert_eq!(client.answer().await["body"]["msg_cd"], "OPSP0000");
    assert_eq!(client.request("2", "H0STCNT0", "005380").await, "OPSP0001");

    move_to(&clock, at(9, 30));
    let symbols = ["005930", "000660"].map(str::to_owned);
    for symbol in &symbols {
        assert_eq!(client.request("1", "H0STCNT0", symbol).await, "OPSP0000");
    }
    move_to(&clock, at(10, 0));
    let one = expected(&simulator, &symbols[..1], at(9, 30), at(10, 0));
    assert_eq!(client.records(one.len()).await, one, "the other symbol is acknowledged and dumb");
    assert_eq!(client.request("2", "H0STCNT0", "000660").await, "OPSP0001");
    assert_eq!(client.request("1", "H0STCNT0", "000660").await, "OPSP0000");
    move_to(&clock, at(10, 30));
    let both = expected(&simulator, &symbols, at(10, 0), at(10, 30));
    assert_eq!(client.records(both.len()).await, both, "a new registration heals it");
    simulator.stop().await;
}

#[tokio::test]
async fn frames_can_come_twice_out_of_order_or_short() {
    let faults = [
        (at(11, 0), Fault::DuplicateFrame),
        (at(11, 10), Fault::OutOfOrder),
        (at(11, 20), Fault::DropRecord),
    ];
    let (simulator, clock, symbols) = with(at(10, 59), &faults).await;
    let symbols = &symbols[..1];
    let mut client = Client::registered(&simulator, symbols).await;
    let ledger = simulator.ledger();
    let frames = |from, to| -> Vec<Vec<Vec<String>>> {
        let of_symbol: Vec<_> =
            ledger.iter().filter(|t| *t.symbol == *symbols[0] && t.at >= from && t.at < to).collect();
        of_symbol
            .chunk_by(|a, b| a.frame == b.frame)
            .map(|f| f.iter().map(|t| t.fields(47)).collect())
            .collect()
    };
    move_to(&clock, at(11, 0));
    let mut heard = Vec::new();
    let quiet = frames(at(10, 59), at(11, 0));
    while heard.len() < quiet.len() {
        heard.push(client.frame().await.records);
    }
    assert_eq!(heard, quiet);

    move_to(&clock, at(11, 10));
    let mut twice = frames(at(11, 0), at(11, 10));
    twice.insert(1, twice[0].clone());
    for expected in &twice {
        assert_eq!(client.frame().await.records, *expected);
    }
    move_to(&clock, at(11, 20));
    let mut swapped = frames(at(11, 10), at(11, 20));
    swapped.swap(0, 1);
    for expected in &swapped {
        assert_eq!(client.frame().await.records, *expected);
    }
    move_to(&clock, at(11, 30));
    let mut short = frames(at(11, 20), at(11, 30));
    short[0].pop();
    for expected in short.iter().filter(|f| !f.is_empty()) {
        assert_eq!(client.frame().await.records, *expected);
    }
    for (_, fault) in faults {
        assert!(happened(&simulator, &Event::Incident { fault }));
    }
    simulator.stop().await;
}
