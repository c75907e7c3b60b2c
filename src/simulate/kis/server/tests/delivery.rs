//! What arrives is what the ledger says, in its order, without holes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::client::*;
use crate::kis::{
    Event, Fault, KRX41, Mangling, Replay, Script, Simulator, SimulatorOptions, TARGET_TRADES, Why,
};
use clock::Clock;

#[tokio::test]
async fn a_whole_day_of_41_symbols_arrives_in_order_without_holes() {
    let options = SimulatorOptions { symbols: krx41(), target_trades: TARGET_TRADES, ..manual(at(8, 50)) };
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    let mut client = Client::registered(&simulator, &krx41()).await;
    clock.advance(Duration::from_secs(8 * 3600));
    let expected = expected(&simulator, &krx41(), at(0, 0), at(23, 59));
    assert!(expected.len() >= 20_000);
    let records = client.records(expected.len()).await;
    assert!(records == expected);
    assert!((0..expected.len()).all(|index| simulator.was_sent(index)));
    simulator.stop().await;
}

#[tokio::test]
async fn a_fast_clock_is_kept_up_with_through_the_opening_burst() {
    let clock = Clock::virtual_owner(at(8, 59), 0.0, None).expect("a clock");
    let options = SimulatorOptions {
        clock,
        symbols: krx41(),
        target_trades: TARGET_TRADES,
        script: Script::quiet(1, DAY),
        ..manual(at(8, 59))
    };
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    let mut client = Client::registered(&simulator, &krx41()).await;
    clock.set_speed(600.0);
    let expected = expected(&simulator, &krx41(), at(8, 59), at(9, 10));
    let mut records = Vec::new();
    while records.len() < expected.len() {
        let frame = client.frame().await;
        // Never before its time.
        assert!(simulator.ledger()[records.len()].at <= clock.now());
        records.extend(frame.records);
    }
    assert!(records[..expected.len()] == expected);
    simulator.stop().await;
}

#[tokio::test]
async fn what_is_not_registered_is_not_delivered_and_records_can_be_46_wide() {
    let options = SimulatorOptions { width: 46, ..manual(at(10, 0)) };
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    let symbols = &krx41()[1..3];
    let mut client = Client::registered(&simulator, symbols).await;
    move_to(&clock, at(11, 0));
    let first = expected(&simulator, symbols, at(10, 0), at(11, 0));
    for (record, expected) in client.records(first.len()).await.iter().zip(&first) {
        assert_eq!((record.len(), &record[..]), (46, &expected[..46]));
    }
    assert_eq!(client.request("2", "H0STCNT0", &symbols[0]).await, "OPSP0001");
    move_to(&clock, at(12, 0));
    let second = expected(&simulator, &symbols[1..], at(11, 0), at(12, 0));
    for (record, expected) in client.records(second.len()).await.iter().zip(&second) {
        assert_eq!(record[..], expected[..46]);
    }
    simulator.stop().await;
}

#[tokio::test]
async fn a_simulator_started_in_the_afternoon_goes_on_there() {
    let script = Script::quiet(1, DAY).with(at(13, 0), Fault::Malformed { what: Mangling::WrongWidth });
    let options = SimulatorOptions { script, ..manual(at(14, 0)) };
    let (clock, symbols) = (options.clock.clone(), options.symbols.clone());
    let simulator = Simulator::start(options).await.expect("started");
    let mut client = Client::registered(&simulator, &symbols).await;
    move_to(&clock, at(15, 0));
    let expected = expected(&simulator, &symbols, at(14, 0), at(15, 0));
    assert_eq!(client.records(expected.len()).await, expected);
    assert!(!simulator.was_sent(0));
    let malformed =
        |what: &Event| matches!(what, Event::MalformedSent { .. } | Event::MalformedSkipped { .. });
    assert!(!simulator.journal().iter().any(|event| malformed(&event.what)));
    simulator.stop().await;
}

#[tokio::test]
async fn books_come_as_a_snapshot_and_with_every_trade() {
    let options = manual(at(10, 0));
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    let key = approval(&simulator, "a").await;
    let mut client = Client::new(&simulator, &key).await;
    assert_eq!(client.request("1", "H0STASP0", "005930").await, "OPSP0000");
    let snapshot = client.frame().await;
    assert_eq!(
        (snapshot.tr_id.as_str(), snapshot.records.len(), snapshot.records[0].len()),
        ("H0STASP0", 1, 63)
    );
    let before = simulator
        .ledger()
        .iter()
        .rfind(|t| &*t.symbol == "005930" && t.at < at(10, 0))
        .map(|t| t.book_fields());
    assert_eq!(Some(&snapshot.records[0]), before.as_ref());
    move_to(&clock, at(10, 30));
    assert_eq!(client.frame().await.tr_id, "H0STASP0");
    simulator.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_the_feed_goes_on() {
    let options = SimulatorOptions {
        symbols: krx41(),
        target_trades: 120_000,
        patience: Duration::from_millis(300),
        ..manual(at(8, 50))
    };
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    let _asleep = Client::registered(&simulator, &krx41()).await;
    clock.advance(Duration::from_secs(7 * 3600));
    wait_until("the slow session is dropped", || {
        happened(&simulator, &Event::SessionDown { session: 1, why: Why::Slow })
    })
    .await;
    let key = approval(&simulator, "another").await;
    let mut awake = Client::new(&simulator, &key).await;
    assert_eq!(awake.request("1", "H0STCNT0", KRX41[0]).await, "OPSP0000");
    // By 15:50 only the last prints are left, and they come.
    clock.advance(Duration::from_secs(3600));
    awake.frame().await;
    simulator.stop().await;
}

#[tokio::test]
async fn recorded_frames_are_replayed_byte_for_byte() {
    let trade = |symbol: &str| format!("0|H0STCNT0|001|{symbol}^140610^277750^2^3750^1.37");
    let mut frames: Vec<Vec<u8>> = ["005930", "000660"].map(|symbol| trade(symbol).into_bytes()).to_vec();
    frames.push(b"0|H0STCNT0|001|005930^\xc3\x28".to_vec());
    frames.push(b"not a frame at all".to_vec());
    for after in [None, Some(3)] {
        let replay = Replay { frames: frames.clone(), after, interval: Duration::ZERO };
        // The clock stands still, so nobody is taken for quiet between two registrations.
        let simulator = Simulator::start(SimulatorOptions { replay: Some(replay), ..manual(at(9, 0)) })
            .await
            .expect("started");
        let symbols = ["005930", "000660", "005380"].map(str::to_owned);
        let mut client = Client::registered(&simulator, &symbols[..2]).await;
        if after.is_some() {
            assert_eq!(client.request("1", "H0STCNT0", "005380").await, "OPSP0000");
        }
        let mut heard = Vec::new();
        while heard.len() < frames.len() {
            match client.hear().await {
                Heard::Text(text) => heard.push(text.into_bytes()),
                Heard::Binary(bytes) => heard.push(bytes),
                end => panic!("{end:?}"),
            }
        }
        assert_eq!(heard, frames);
        wait_until("the replay is noted", || happened(&simulator, &Event::Replayed { frames: 4 })).await;
        simulator.stop().await;
    }
}

#[tokio::test]
async fn a_replay_starts_for_a_client_that_wants_only_a_part_of_it() {
    let frames =
        ["0|H0STCNT0|001|005930^1", "0|H0STASP0|001|000660^1"].map(|f| f.as_bytes().to_vec()).to_vec();
    let replay = Some(Replay { frames: frames.clone(), after: None, interval: Duration::from_millis(1) });
    let simulator = Simulator::start(SimulatorOptions { replay, clock: Clock::system(), ..manual(at(9, 0)) })
        .await
        .expect("started");
    let mut client = Client::registered(&simulator, &krx41()[..1]).await;
    let heard: BTreeSet<_> = [client.frame().await.tr_id, client.frame().await.tr_id].into();
    assert_eq!(heard.into_iter().collect::<Vec<_>>(), ["H0STASP0", "H0STCNT0"]);
    simulator.stop().await;
}

/// What a client heard that comes back when it is dropped, as the collector does.
#[derive(Default)]
struct Collected {
    records: Vec<Vec<String>>,
    malformed: Vec<Vec<u8>>,
}

async fn collect(simulator: &Simulator, clock: &Clock, speed: f64, end: jiff::Timestamp) -> Collected {
    let mut collected = Collected::default();
    let wrong: Vec<Vec<u8>> =
        simulator.script().malformed_frames().into_iter().map(|(_, bytes)| bytes).collect();
    let sent = || (0..simulator.ledger().len()).filter(|index| simulator.was_sent(*index)).count();
    let key = approval(simulator, "a").await;
    let mut ended = false;
    loop {
        let mut client = Client::new(simulator, &key).await;
        for symbol in krx41() {
            client.ask("1", "H0STCNT0", &symbol).await;
        }
        clock.set_speed(speed);
        loop {
            if ended && collected.records.len() >= sent() {
                return collected;
            }
            let heard = tokio::select! {
                heard = client.hear() => heard,
                () = clock.sleep_until(end), if !ended => {
                    // Time stands still while the last frames arrive.
                    clock.set_speed(0.0);
                    ended = true;
                    continue;
                }
            };
            match heard {
                Heard::Text(text) if text.contains("PINGPONG") => client.say(&text).await,
                Heard::Text(text) if text.starts_with('{') => {}
                Heard::Text(text) if !wrong.contains(&text.clone().into_bytes()) => {
                    collected.records.extend(Frame::read(&text).records)
                }
                Heard::Text(text) => collected.malformed.push(text.into_bytes()),
                Heard::Binary(bytes) => collected.malformed.push(bytes),
                _ => break,
            }
        }
        clock.sleep(Duration::from_secs(30)).await;
    }
}

/// Plays the demo's day and accounts for every trade and every malformed frame.
async fn play_the_demo(speed: f64, from: jiff::Timestamp, to: jiff::Timestamp) {
    let clock = Clock::virtual_owner(from, 0.0, None).expect("a clock");
    let options = SimulatorOptions {
        symbols: krx41(),
        target_trades: TARGET_TRADES,
        script: Script::demo(1, DAY),
        pingpong: Duration::from_secs(10),
        clock: clock.clone(),
        ..manual(from)
    };
    let simulator = Simulator::start(options).await.expect("started");
    let collected = collect(&simulator, &clock, speed, to).await;
    let ledger = simulator.ledger();
    let sent: Vec<Vec<String>> =
        (0..ledger.len()).filter(|i| simulator.was_sent(*i)).map(|i| ledger[i].fields(47)).collect();
    assert!(collected.records == sent, "{} of {}", collected.records.len(), sent.len());
    let journal = simulator.journal();
    let frames = simulator.script().malformed_frames();
    let (mut expected, mut skipped) = (Vec::new(), 0);
    for event in &journal {
        match event.what {
            Event::MalformedSent { index } => expected.push(frames[index].1.clone()),
            Event::MalformedSkipped { .. } => skipped += 1,
            _ => {}
        }
    }
    assert_eq!(collected.malformed, expected);
    assert_eq!(expected.len() + skipped, frames.iter().filter(|(at, _)| *at >= from && *at < to).count());
    let down = |whys: &[Why]| {
        journal
            .iter()
            .filter(|e| matches!(e.what, Event::SessionDown { why, .. } if whys.contains(&why)))
            .count()
    };
    assert_eq!((down(&[Why::Disconnect]), down(&[Why::Silent, Why::Slow])), (1, 0));
    simulator.stop().await;
}

#[tokio::test]
async fn every_trade_of_the_demo_morning_is_accounted_for_at_high_speed() {
    play_the_demo(3_600.0, at(9, 40), at(11, 30)).await;
}

#[tokio::test]
#[ignore = "plays the whole day at the demo's speed: 43 s"]
async fn every_trade_of_the_demo_day_is_accounted_for() {
    play_the_demo(600.0, at(8, 50), at(16, 0)).await;
}
