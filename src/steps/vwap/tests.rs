use super::*;
use crate::testing::fixtures::trade;

#[tokio::test]
async fn a_checkpoint_of_another_version_is_no_checkpoint_and_ones_own_keeps_every_digit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoint-0.json");
    // As version 0.1 wrote it.
    let old = r#"{"version":1,"topic":"kis.trades","incarnation":"a","partition":0,"window_seconds":30,"next":7,"symbols":[
            {"date":"2026-11-20","feed":"kis","symbol":"005930","session":{"value":10000,"volume":1,"trades":1,"prices":10000,"low":10000,
            "high":10000},"exchange":[1,100],"newest":1,"windows":[],"too_late":0}]}"#;
    std::fs::write(&path, old).expect("written");
    assert!(load(&path).await.expect("read").is_none());

    let mut book = Averages::new(Duration::from_secs(30), Duration::from_secs(60), 10);
    let coin = Trade {
        price: "0.00001234".parse().expect("a price"),
        quantity: "0.00009372".parse().expect("a quantity"),
        accumulated_volume: None,
        accumulated_value: None,
        ..trade("KRW-BTC", 1)
    };
    book.fold(&coin).expect("counted");
    let symbols: Vec<_> = book.symbols().collect();
    let (topic, incarnation) = ("kis.trades".to_owned(), "a".to_owned());
    let own = Checkpoint {
        version: VERSION,
        topic,
        incarnation,
        partition: 0,
        window_seconds: 30,
        next: 7,
        symbols,
    };
    std::fs::write(&path, serde_json::to_vec(&own).expect("JSON")).expect("written");
    let read = load(&path).await.expect("read").expect("a checkpoint");
    assert_eq!(read.symbols.iter().collect::<Vec<_>>(), own.symbols);
    assert_eq!(read.symbols[0].session.value.to_string(), "0.0000000011565048");
    assert_eq!(sums(&read.symbols[0].session)["volume"], json!("0.00009372"));
}
