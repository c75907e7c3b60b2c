use super::*;
use feed::kis::{Kis, encode};
use feed::{Input, Output, Parameters, Setup};

fn record(symbol: &str, quantity: i64, accumulated: i64) -> Vec<String> {
    let mut fields = vec![String::new(); 47];
    for (at, text) in [(0, symbol), (1, "093000"), (2, "70000"), (33, "20261120")] {
        fields[at] = text.to_owned();
    }
    (fields[12], fields[13], fields[14]) =
        (quantity.to_string(), accumulated.to_string(), (accumulated * 70_000).to_string());
    fields
}

fn fresh() -> Recorder {
    Recorder::new(&Kis)
}

/// What the feed's session makes of a message, recorded.
fn take_at(recorder: &mut Recorder, text: &str, now: Timestamp) -> Vec<NewEntry> {
    let with = serde_json::json!({"symbols": ["005930"]});
    let setup = Setup {
        session_date: jiff::civil::date(2026, 11, 20),
        with: Parameters::new(&Kis, with.as_object().expect("a table"), &|path| Err(path.to_owned())),
        secrets: BTreeMap::from([("app_key", "k"), ("app_secret", "s")]),
        addresses: BTreeMap::new(),
        speed: 1.0,
        seed: 1,
        now,
    };
    let (mut outputs, mut entries) = (Vec::new(), Vec::new());
    Kis.session(&setup).expect("a session").handle(Input::Message(text.as_bytes()), now, &mut outputs);
    recorder.frame();
    for output in outputs {
        if let Output::Data(data) = output {
            recorder.data(data, now, &mut entries);
        }
    }
    entries
}

fn take(recorder: &mut Recorder, text: &str) -> Vec<NewEntry> {
    take_at(recorder, text, Timestamp::UNIX_EPOCH)
}

fn stored(entries: Vec<NewEntry>) -> Vec<Entry> {
    let entry = |(n, e): (usize, NewEntry)| Entry {
        seq: n as u64 + 1,
        kind: e.kind,
        received_at: e.received_at,
        body: e.body,
    };
    entries.into_iter().enumerate().map(entry).collect()
}

#[test]
fn every_good_record_is_kept_once_also_across_a_restart() {
    let mut recorder = fresh();
    let text = encode("H0STCNT0", &[record("A", 5, 5), record("B", 1, 1), record("A", 2, 7)]);
    let entries = take(&mut recorder, &text);
    assert_eq!(entries.len(), 3);
    let body = TradeBody::parse(&entries[2].body).expect("a trade");
    assert_eq!((body.id, body.symbol), ("kis:2026-11-20:A:7", "A"));
    assert!(entries.iter().all(|e| e.kind == Kind::Trade));
    assert_eq!(take(&mut recorder, &text), []);
    assert_eq!(recorder.counts(), Counts { frames: 2, records: 3, malformed: 0, duplicates: 3 });

    let mut restarted = fresh();
    restarted.remember(&stored(entries), true);
    assert_eq!(take(&mut restarted, &text), []);
    assert_eq!(take(&mut restarted, &encode("H0STCNT0", &[record("A", 3, 20)])).len(), 1);
    assert_eq!(restarted.gaps(), (1, 10.into()));
}

#[test]
fn a_rebuild_from_the_middle_invents_no_gap() {
    let mut recorder = fresh();
    let entries = take(&mut recorder, &encode("H0STCNT0", &[record("A", 1, 500)]));
    assert_eq!(recorder.gaps(), (1, 499.into()));
    let mut restarted = fresh();
    restarted.remember(&stored(entries), false);
    take(&mut restarted, &encode("H0STCNT0", &[record("A", 1, 501)]));
    assert_eq!(restarted.gaps(), (0, Decimal::ZERO));
}

#[test]
fn a_bad_record_costs_neither_its_neighbours_nor_its_bytes() {
    let mut recorder = fresh();
    let mut bad = record("B", 1, 1);
    bad[2] = "seventy".into();
    let text = encode("H0STCNT0", &[record("A", 5, 5), bad, record("A", 2, 7)]);
    let entries = take(&mut recorder, &text);
    assert_eq!(
        entries.iter().map(|e| e.kind).collect::<Vec<_>>(),
        [Kind::Trade, Kind::Trade, Kind::Malformed]
    );
    let body = String::from_utf8(entries[2].body.clone()).expect("text");
    let expected =
        format!("bad_number\nrecord 2: field 2 STCK_PRPR is \"seventy\", expected a number\n{text}");
    assert_eq!(body, expected);
    let entries = take(&mut recorder, "0|H0STCNT0|001|1^2");
    assert!(
        entries.len() == 1
            && entries[0].body.starts_with(b"wrong_width\n")
            && entries[0].body.ends_with(b"\n0|H0STCNT0|001|1^2")
    );
    assert_eq!(recorder.counts(), Counts { frames: 2, records: 2, malformed: 2, duplicates: 0 });
}

#[test]
fn the_newest_trade_of_each_instrument_is_known() {
    let mut recorder = fresh();
    recorder.expect(&["005930".into(), "373220".into()]);
    let text = encode("H0STCNT0", &[record("005930", 1, 1), record("000660", 1, 1)]);
    let at = Timestamp::from_second(90).expect("a time");
    let out = take_at(&mut recorder, &text, at);
    assert_eq!(recorder.latest().get("005930"), Some(&Some(at)));
    assert_eq!(
        (recorder.latest().get("000660"), recorder.latest().get("373220")),
        (Some(&Some(at)), Some(&None))
    );
    // After a restart the spool tells it.
    let mut again = fresh();
    again.remember(&stored(out), true);
    assert_eq!(again.latest().get("000660"), Some(&Some(at)));
}

#[test]
fn a_record_older_than_the_window_counts_as_new() {
    let mut recorder = fresh();
    for n in 1..=2000 {
        assert_eq!(take(&mut recorder, &encode("H0STCNT0", &[record("A", 1, n)])).len(), 1);
    }
    assert_eq!(take(&mut recorder, &encode("H0STCNT0", &[record("A", 1, 1990)])), []);
    assert_eq!(take(&mut recorder, &encode("H0STCNT0", &[record("A", 1, 3)])).len(), 1);
}
