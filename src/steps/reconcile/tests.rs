use super::*;
use backends::log::Record;
use clock::Clock;
use crate::testing::fixtures::{at, context, poison, record, spool, trade};
use crate::testing::fakes::Stores;

/// A day on which one trade of 000660 (the 7th) was never received and one bad frame arrived.
async fn day() -> (Arc<Stores>, tempfile::TempDir) {
    let stores = Arc::new(Stores::default());
    let folder = tempfile::tempdir().expect("a folder");
    let backends = stores.backends();
    backends.log.create_topic("kis.trades", 3).await.expect("created");
    backends.log.create_topic("kis.trades.dlq", 1).await.expect("created");
    let trades: Vec<_> = (1..=40)
        .flat_map(|n| ["005930", "000660"].map(|s| trade(s, n)))
        .filter(|t| t.id.as_str() != "kis:2026-11-20:000660:7")
        .collect();
    spool(folder.path(), &trades);
    spool(folder.path(), &trades[..3]);
    backends.log.append("kis.trades", trades.iter().map(record).collect()).await.expect("appended");
    for (program, name) in [("sink/raw", "sink-raw"), ("sink/index", "sink-index"), ("sink/objects", "sink-objects")] {
        let (context, _) = context(name, json!({}), backends.clone(), Clock::manual(at("09:30:00")), folder.path());
        context.stop.cancel();
        super::super::run(program, context).await.expect("drained");
    }
    let mut letter = poison("005930", 1);
    letter.headers.push((format!("{}exception.class.name", dead_letter::PREFIX), b"wrong_width".to_vec()));
    letter.headers.push(("openbell.spool".into(), b"s:77".to_vec()));
    backends.log.append("kis.trades.dlq", vec![letter.clone(), letter]).await.expect("appended");
    (stores, folder)
}

async fn reconciled(stores: &Arc<Stores>, folder: &tempfile::TempDir) -> (Value, String) {
    let (context, heard) = context("reconcile", json!({}), stores.backends(), Clock::manual(at("16:00:00")), folder.path());
    let result = match super::run(context).await {
        Ok(result) => result,
        Err(error) => {
            assert!(error.to_string().starts_with("2026-11-20 does not reconcile: "), "{error}");
            assert!(matches!(error, StepError::Unmet { .. }), "{error}");
            error.result()
        }
    };
    (result, heard.text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_day_reconciles_and_its_gap_is_listed() {
    let (stores, folder) = day().await;
    let (result, text) = reconciled(&stores, &folder).await;
    assert_eq!(result["ok"], true, "{result}");
    for hop in ["spool", "log", "raw", "index", "objects"] {
        assert_eq!((&result["hops"][hop]["unique"], &result["hops"][hop]["missing"]), (&json!(79), &json!(0)), "{hop}");
        assert_eq!(result["hops"][hop]["duplicates"], if hop == "spool" { 3 } else { 0 }, "{hop}");
    }
    assert_eq!(
        (&result["gap_shares"], &result["gaps"][0]["symbol"], &result["gaps"][0]["shares"]),
        (&json!(1), &json!("000660"), &json!(1))
    );
    assert_eq!(result["dead_letters"], json!({"total": 1, "by_cause": {"wrong_width": 1}}));
    assert_eq!(result["vwap"], json!({"checked": 1, "equal": 1, "different": []}));
    assert!(text.contains("every trade received is in every store, once"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_and_a_doubled_trade_are_found() {
    let (stores, folder) = day().await;
    stores.forget_raw("kis.trades", "kis:2026-11-20:005930:9");
    let (_, (body, metadata)) = stores.objects().into_iter().next().expect("an object");
    stores.put_object(
        "kis.trades/year=2026/month=11/day=20/hour=09/kis.trades+i1+2+00000000000000009999.jsonl.gz",
        body,
        metadata,
    );
    let (result, text) = reconciled(&stores, &folder).await;
    assert_eq!(result["ok"], false);
    assert_eq!(result["hops"]["raw"]["missing"], 1);
    let error = result["error"].as_str().expect("an error");
    assert!(error.contains("raw misses 1 and repeats 0; objects misses 0 and repeats "), "{error}");
    assert_eq!(result["hops"]["raw"]["missing_ids"], json!({"005930": ["kis:2026-11-20:005930:9"]}));
    assert!(result["hops"]["objects"]["duplicates"].as_u64().expect("a count") > 0);
    assert!(text.contains("does NOT reconcile"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_price_is_found_and_a_buried_trade_is_not_missing() {
    let (stores, folder) = day().await;
    let mut wrong = trade("035720", 1);
    wrong.price = "101".parse().expect("a price");
    spool(folder.path(), std::slice::from_ref(&wrong));
    let backends = stores.backends();
    backends.log.append("kis.trades", vec![record(&wrong)]).await.expect("appended");
    let header = |n: &str, v: &str| (format!("{}{n}", dead_letter::PREFIX), v.as_bytes().to_vec());
    for (n, program) in ["sink/raw", "sink/index", "sink/objects"].into_iter().enumerate() {
        let mut letter: Record = record(&wrong);
        letter.headers.extend([
            header("class.name", program),
            header("connector.name", program),
            header("exception.class.name", "rejected"),
            header("offset", &n.to_string()),
        ]);
        backends.log.append("kis.trades.dlq", vec![letter]).await.expect("appended");
    }
    let (result, _) = reconciled(&stores, &folder).await;
    for hop in ["raw", "index", "objects"] {
        assert_eq!(result["hops"][hop]["missing"], 0, "{hop}");
    }
    assert_eq!(result["vwap"]["different"][0]["symbol"], "035720");
    assert_eq!(result["ok"], false);
}
