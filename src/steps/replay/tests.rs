use std::sync::Arc;

use super::*;
use crate::dead_letters::{DeadLetterList, Refuser, by_cause, dead_letter};
use crate::testing::fakes::Stores;
use crate::testing::fixtures::{at, poison, record, trade, wire};

/// A rejected document, a poisoned record, and a frame of two trades that the collector could not read at the
/// time.
async fn filled() -> (Arc<Stores>, Backends) {
    let stores = Arc::new(Stores::default());
    let backends = stores.backends();
    backends.log.create_topic("kis.trades", 3).await.expect("created");
    backends.log.create_topic("kis.trades.dlq", 1).await.expect("created");
    let refuser = Refuser { connector: "day/sink-index".into(), program: "sink/index".into() };
    let good = record(&trade("005930", 1));
    backends.log.append("kis.trades", vec![good.clone(), poison("005930", 2)]).await.expect("appended");
    for (stored, cause) in stores.records("kis.trades").into_iter().zip(["rejected", "undecodable"]) {
        let refusal = Refusal::new(Stage::TaskPut, cause, "a reason");
        let dead = dead_letter(&refuser, stored, &refusal, at("09:10:00"));
        // The first append's reply was lost, so it is there twice.
        backends.log.append("kis.trades.dlq", vec![dead.clone(), dead]).await.expect("appended");
    }
    let wires = [wire(&trade("000660", 5)), wire(&trade("000660", 6))]
        .map(|w| w.split_once('|').expect("a wire").1.to_owned());
    let header = |n: &str, v: &str| (format!("{PREFIX}{n}"), v.as_bytes().to_vec());
    let frame = Record {
        key: None,
        value: format!("0|H0STCNT0|002|{}", wires.join("^")).into_bytes(),
        headers: vec![
            ("openbell.spool".into(), b"s:9".to_vec()),
            header("topic", "kis.trades"),
            header("offset", ""),
            header("connector.name", "day/collector"),
            header("exception.class.name", "wrong_width"),
        ],
        timestamp: at("09:11:00"),
    };
    backends.log.append("kis.trades.dlq", vec![frame]).await.expect("appended");
    (stores, backends)
}

#[tokio::test]
async fn letters_are_grouped_by_cause_and_repeats_folded() {
    let (_, backends) = filled().await;
    let letters = read_all(backends.log.as_ref(), "kis.trades").await.expect("letters");
    let groups: Vec<_> = by_cause(letters.iter().map(DeadLetter::summary))
        .into_iter()
        .map(|g| (g.cause, g.connector, g.count))
        .collect();
    let group = |cause: &str, connector: &str| (cause.to_owned(), connector.to_owned(), 1);
    assert_eq!(
        groups,
        [
            group("rejected", "day/sink-index"),
            group("undecodable", "day/sink-index"),
            group("wrong_width", "day/collector")
        ]
    );
    let error = read_all(backends.log.as_ref(), "nothing").await.expect_err("no topic");
    assert!(error.to_string().contains("--topic"), "{error}");
}

#[tokio::test]
async fn a_replay_sends_what_can_be_read_once() {
    let (stores, backends) = filled().await;
    let first =
        replay(&backends, "kis.trades", "kis.trades", &Which::Cause("rejected".into()), at("09:20:00"))
            .await
            .expect("replayed");
    assert_eq!((first.letters, first.sent, first.records), (1, 1, 1));
    let again =
        stores.records("kis.trades").into_iter().find(|r| r.record.header(REPLAY).is_some()).expect("sent");
    let original = record(&trade("005930", 1));
    assert_eq!((again.record.key, again.record.value), (original.key, original.value), "the original bytes");
    assert!(again.record.headers.iter().all(|(n, _)| !n.starts_with(PREFIX)));
    assert_eq!(stores.committed(GROUP), BTreeMap::from([(0, 2)]), "up to the letter that was not replayed");
    let second =
        replay(&backends, "kis.trades", "kis.trades", &Which::All, at("09:21:00")).await.expect("replayed");
    assert_eq!((second.letters, second.before, second.sent, second.records), (3, 1, 1, 2));
    assert_eq!(second.refused, BTreeMap::from([("bad_utf8".to_owned(), 1)]));
    assert_eq!(stores.raw_ids("kis.trades"), ["kis:2026-11-20:000660:5", "kis:2026-11-20:000660:6"]);
    let third =
        replay(&backends, "kis.trades", "kis.trades", &Which::All, at("09:22:00")).await.expect("replayed");
    assert_eq!((third.before, third.sent), (2, 0), "a second time does nothing");
    assert_eq!(stores.records("kis.trades").len(), 5);
}

#[tokio::test]
async fn one_letter_is_sent_as_it_was_or_edited_and_stays_as_it_is() {
    let (stores, backends) = filled().await;
    let one = |offset, edited: Option<&str>| Which::One {
        partition: 0,
        offset,
        edited: edited.map(|e| e.as_bytes().to_vec()),
    };
    let send =
        async |which: Which| replay(&backends, "kis.trades", "kis.trades", &which, at("09:20:00")).await;
    let before = stores.records("kis.trades.dlq");
    assert_eq!(send(one(77, None)).await.expect_err("not there").kind, ErrorKind::NotFound);
    let torn = send(one(2, Some("{\"id\": 1}"))).await.expect("looked at");
    assert_eq!((torn.sent, torn.refused["undecodable"]), (0, 1));
    assert!(torn.message.expect("words").contains("not a trade"), "people are told why");

    let mended = trade("000660", 9);
    let text = serde_json::to_string(&mended).expect("JSON");
    let done = send(one(2, Some(&text))).await.expect("sent");
    assert_eq!((done.letters, done.sent, done.records), (1, 1, 1));
    let sent =
        stores.records("kis.trades").into_iter().find(|r| r.record.header(EDITED).is_some()).expect("sent");
    assert_eq!(sent.record.key.as_deref(), Some(b"000660".as_slice()));
    assert_eq!(sent.record.header("openbell.id"), Some(mended.id.as_str().as_bytes()));
    assert_eq!(stores.raw_ids("kis.trades"), [mended.id.as_str()]);
    assert_eq!(stores.records("kis.trades.dlq"), before, "the original stays");
    assert_eq!(send(one(2, None)).await.expect("looked at").before, 1, "once is enough");
}

#[tokio::test]
async fn a_list_reads_only_what_is_new_and_sees_replays() {
    let (_, backends) = filled().await;
    let log = backends.log.as_ref();
    let mut list = DeadLetterList::new("kis.trades");
    list.refresh(log).await.expect("refreshed");
    let seen: Vec<_> = list.newest_first().map(|l| (l.offset, l.cause.clone(), l.replayed)).collect();
    let line = |offset, cause: &str, replayed| (offset, cause.to_owned(), replayed);
    assert_eq!(
        seen,
        [line(4, "wrong_width", false), line(2, "undecodable", false), line(0, "rejected", false)]
    );
    replay(&backends, "kis.trades", "kis.trades", &Which::Cause("rejected".into()), at("09:20:00"))
        .await
        .expect("replayed");
    list.refresh(log).await.expect("refreshed");
    let seen: Vec<_> = list.newest_first().map(|l| (l.offset, l.replayed)).collect();
    assert_eq!(seen, [(4, false), (2, false), (0, true)]);
    log.delete_topic("kis.trades.dlq").await.expect("deleted");
    assert!(
        list.refresh(log).await.expect_err("it is gone").to_string().contains("no such dead-letter topic")
    );
    log.create_topic("kis.trades.dlq", 1).await.expect("created");
    list.refresh(log).await.expect("looked");
    assert_eq!((list.newest_first().count(), list.older()), (0, 0), "a topic made anew is another one");
}
