//! Topics that are deleted and made anew under a collector.

use super::{Bench, Fault, Running, frame};
use crate::envelope::REFILL;

/// The sequence and mark of each record of a topic, checked to hold each trade once.
fn refilled(bench: &Bench, trades: usize) -> usize {
    let ids = bench.ids();
    let mut unique = ids.clone();
    unique.dedup();
    assert_eq!(ids, unique, "an id is twice on the log");
    assert_eq!(ids.len(), trades);
    bench.stores.records("kis.trades").iter().filter(|r| r.record.header(REFILL).is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_gets_everything_again() {
    let bench = Bench::new().await;
    let log = bench.stores.backends().log;
    let collector = bench.start().await;
    for n in 1..=50 {
        bench.exchange.text(&frame("005930", n));
    }
    bench.exchange.text("0|H0STCNT0|001|too^short");
    bench.has_records(50).await;
    bench.stores.wait_until("the dead letter", |s| s.records("kis.trades.dlq").len() == 1).await;
    // While it runs, with appends that succeed before and after.
    log.delete_topic("kis.trades").await.expect("deleted");
    log.create_topic("kis.trades", 3).await.expect("created");
    for n in 51..=60 {
        bench.exchange.text(&frame("005930", n));
        bench.exchange.text(&frame("000660", n));
    }
    bench.has_records(70).await;
    collector
        .wait_until("it says so", |r| r.heard.text().contains("50 records were sent a second time"))
        .await;
    let told =
        |r: &Running| r.heard.status.lock().notice.clone().is_some_and(|n| n.text.contains("50 records"));
    collector.wait_until("people are told", told).await;
    assert_eq!(refilled(&bench, 70), 50);
    // While it is down, and nothing new comes.
    collector.stop().await;
    log.delete_topic("kis.trades").await.expect("deleted");
    log.create_topic("kis.trades", 3).await.expect("created");
    let collector = bench.start().await;
    bench.has_records(70).await;
    collector
        .wait_until("it says so", |r| r.heard.text().contains("70 records were sent a second time"))
        .await;
    collector.kill().await;
    assert_eq!(refilled(&bench, 70), 70);
    // While it is quiet; then it is killed in the middle of the refill, and the letters' topic goes as well.
    let collector = bench.start().await;
    for topic in ["kis.trades", "kis.trades.dlq"] {
        log.delete_topic(topic).await.expect("deleted");
    }
    log.create_topic("kis.trades", 3).await.expect("created");
    bench.stores.fail("append", Fault::LostReply);
    bench.stores.wait_until("the first half", |s| !s.records("kis.trades").is_empty()).await;
    collector.kill().await;
    let collector = bench.start().await;
    bench.exchange.text(&frame("005930", 61));
    bench.has_records(71).await;
    bench.stores.wait_until("the dead letter", |s| s.records("kis.trades.dlq").len() == 1).await;
    collector.stop().await;
    assert_eq!(refilled(&bench, 71), 70);
    assert_eq!(bench.stores.raw_ids("kis.trades"), bench.ids());
    assert!(bench.stores.records("kis.trades.dlq")[0].record.header(REFILL).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_topic_that_was_never_noted_is_filled_too() {
    let bench = Bench::new().await;
    let log = bench.stores.backends().log;
    let collector = bench.start().await;
    for n in 1..=20 {
        bench.exchange.text(&frame("005930", n));
    }
    bench.has_records(20).await;
    collector.stop().await;
    std::fs::remove_file(bench.spool().join("log.topics")).expect("an older version noted nothing");
    log.delete_topic("kis.trades").await.expect("deleted");
    log.create_topic("kis.trades", 3).await.expect("created");
    let collector = bench.start().await;
    bench.has_records(20).await;
    collector.stop().await;
    assert_eq!(refilled(&bench, 20), 20);
}
