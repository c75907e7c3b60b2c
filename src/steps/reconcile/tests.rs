use std::sync::Arc;

use super::*;
use crate::testing::fakes::Stores;
use crate::testing::fixtures::{at, context, hops, poison, record, spool, spool_of, trade};
use backends::log::Record;
use clock::Clock;

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
    for (program, name) in
        [("sink/raw", "sink-raw"), ("sink/index", "sink-index"), ("sink/objects", "sink-objects")]
    {
        let (context, _) =
            context(name, json!({}), backends.clone(), Clock::manual(at("09:30:00")), folder.path());
        context.stop.cancel();
        super::super::run(program, context).await.expect("drained");
    }
    let mut letter = poison("005930", 1);
    letter.headers.push((format!("{}exception.class.name", dead_letters::PREFIX), b"wrong_width".to_vec()));
    letter.headers.push(("openbell.spool".into(), b"s:77".to_vec()));
    backends.log.append("kis.trades.dlq", vec![letter.clone(), letter]).await.expect("appended");
    (stores, folder)
}

async fn reconciled(stores: &Arc<Stores>, folder: &tempfile::TempDir) -> (Value, String) {
    let (context, heard) =
        context("reconcile", json!({}), stores.backends(), Clock::manual(at("16:00:00")), folder.path());
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
        assert_eq!(
            (&result["hops"][hop]["unique"], &result["hops"][hop]["missing"]),
            (&json!(79), &json!(0)),
            "{hop}"
        );
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
    assert!(
        error.contains("raw misses 1 record; objects holds ") && error.ends_with(" records twice"),
        "{error}"
    );
    let found = Finding::read(result.get("finding"), None).expect("a finding");
    assert_eq!(found.to_string(), error);
    let Finding::NotReconciled { date, because } = found else { panic!("{found:?}") };
    assert_eq!((date.to_string().as_str(), json!(because)), ("2026-11-20", result["findings"].clone()));
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
    let header = |n: &str, v: &str| (format!("{}{n}", dead_letters::PREFIX), v.as_bytes().to_vec());
    let refusers =
        [("sink/raw", "sink-raw"), ("sink/index", "sink-index"), ("sink/objects", "an-older-name")];
    for (n, (program, step)) in refusers.into_iter().enumerate() {
        let mut letter: Record = record(&wrong);
        letter.headers.extend([
            header("class.name", program),
            header("connector.name", &format!("day/{step}")),
            header("exception.class.name", "rejected"),
            header("offset", &n.to_string()),
        ]);
        backends.log.append("kis.trades.dlq", vec![letter]).await.expect("appended");
    }
    let (result, _) = reconciled(&stores, &folder).await;
    for (hop, missing) in [("raw", 1), ("index", 0), ("objects", 0)] {
        assert_eq!(
            result["hops"][hop]["missing"], missing,
            "{hop}: what a step refuses that is no hop of the run excuses none of them"
        );
    }
    assert_eq!(result["vwap"]["different"][0]["symbol"], "035720");
    assert_eq!(result["ok"], false);
}

/// Runs sinks to the log's end.
async fn drained(stores: &Arc<Stores>, folder: &tempfile::TempDir, steps: &[(&str, &str, Value)]) {
    for (name, program, with) in steps {
        let (context, _) =
            context(name, with.clone(), stores.backends(), Clock::manual(at("09:30:00")), folder.path());
        context.stop.cancel();
        crate::run(program, context).await.expect("drained");
    }
}

/// Reconciles a day of these steps.
async fn compared(
    stores: &Arc<Stores>,
    folder: &tempfile::TempDir,
    steps: &[(&str, &str, Value)],
    with: Value,
) -> (Value, String) {
    let (mut context, _) =
        context("reconcile", with, stores.backends(), Clock::manual(at("16:00:00")), folder.path());
    context.spec.hops = hops(steps);
    match super::run(context).await {
        Ok(result) => (result, String::new()),
        Err(error) => (error.result(), error.to_string()),
    }
}

fn missing(result: &Value) -> BTreeMap<String, u64> {
    let hops = result["hops"].as_object().expect("hops").iter();
    hops.map(|(name, account)| (name.clone(), account["missing"].as_u64().expect("a count"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_and_several_sinks_of_a_kind_are_judged_as_they_are() {
    let (stores, folder) = (Arc::new(Stores::default()), tempfile::tempdir().expect("a folder"));
    let backends = stores.backends();
    backends.log.create_topic("trades", 3).await.expect("created");
    let trades: Vec<_> = (1..=40).map(|n| trade("005930", n)).collect();
    let spool = spool_of(folder.path(), "krx", &trades);
    let sent = |t| {
        let mut record = record(t);
        record.headers.push((envelope::SPOOL.to_owned(), format!("{spool}:1").into_bytes()));
        record
    };
    backends.log.append("trades", trades.iter().map(sent).collect()).await.expect("appended");
    let topic = |more: Value| {
        let mut with = json!({"topic": "trades"});
        with.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        with
    };
    let collector = ("krx", "collect/kis", topic(json!({"collection": "krx"})));
    let raw = ("copy", "sink/raw", topic(json!({"collection": "krx"})));
    let days = ("days", "sink/index", topic(json!({"index": "by-day", "group": "some.group"})));
    let years = ("vwap-index", "sink/index", topic(json!({"index": "by-day-2"})));
    drained(&stores, &folder, &[raw.clone(), days.clone()]).await;

    let (result, _) = compared(&stores, &folder, std::slice::from_ref(&collector), json!({})).await;
    assert_eq!(
        (&result["ok"], missing(&result).into_keys().collect::<Vec<_>>()),
        (&json!(true), vec!["log".to_owned(), "raw".into(), "spool".into()])
    );
    let (result, _) = compared(&stores, &folder, &[collector.clone(), days.clone()], json!({})).await;
    assert_eq!((&result["ok"], missing(&result).get("index")), (&json!(true), Some(&0)));
    let steps = [collector.clone(), days.clone(), years.clone()];
    let (result, error) = compared(&stores, &folder, &steps, json!({})).await;
    assert_eq!(
        (&result["ok"], missing(&result).get("days"), missing(&result).get("vwap-index")),
        (&json!(false), Some(&0), Some(&40))
    );
    assert!(error.ends_with("does not reconcile: vwap-index misses 40 records"), "{error}");
    let (result, _) = compared(&stores, &folder, &steps, json!({"index": "by-day"})).await;
    assert_eq!(result["ok"], true, "an override narrows the list: {result}");
    drained(&stores, &folder, std::slice::from_ref(&years)).await;
    let (result, _) = compared(&stores, &folder, &[collector.clone(), days, years, raw], json!({})).await;
    assert_eq!((&result["ok"], missing(&result).len()), (&json!(true), 6), "{result}");

    let (_, error) = compared(&stores, &folder, &[("vwap", "vwap", json!({}))], json!({})).await;
    assert!(error.contains("there is nothing to look at"), "{error}");
    let (_, error) = compared(&stores, &folder, &[("days", "sink/index", json!({}))], json!({})).await;
    assert!(error.contains("no step of this run collects data"), "{error}");
    let (_, error) = compared(&stores, &folder, &[collector], json!({"topic": "kis.trades"})).await;
    assert!(error.contains("parameter \"topic\"") && error.contains("there are trades"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_collectors_of_one_topic_are_told_apart() {
    let (stores, folder) = (Arc::new(Stores::default()), tempfile::tempdir().expect("a folder"));
    let backends = stores.backends();
    backends.log.create_topic("kis.trades", 3).await.expect("created");
    let all: Vec<_> = (1..=40).map(|n| trade("005930", n)).collect();
    // Side by side they receive the same trades, but for what either loses.
    for (collector, got) in [("one", &all[..30]), ("two", &all[10..])] {
        let spool = spool_of(folder.path(), collector, got);
        let sent = |t| {
            let mut record = record(t);
            record.headers.push((envelope::SPOOL.to_owned(), format!("{spool}:1").into_bytes()));
            record
        };
        backends.log.append("kis.trades", got.iter().map(sent).collect()).await.expect("appended");
    }
    let steps = [
        ("one", "collect/kis", json!({})),
        ("two", "collect/kis", json!({})),
        ("sink-raw", "sink/raw", json!({})),
        ("sink-index", "sink/index", json!({})),
    ];
    drained(&stores, &folder, &steps[2..]).await;
    let (result, error) = compared(&stores, &folder, &steps, json!({})).await;
    assert_eq!((&result["ok"], &result["gap_shares"]), (&json!(true), &json!(0)), "{error} {result}");
    let count = |hop: &str, what: &str| result["hops"][hop][what].as_u64().expect("a count");
    for (hop, unique, extra) in [
        ("one.spool", 30, 0),
        ("one.log", 30, 0),
        ("two.log", 30, 0),
        ("one.raw", 40, 10),
        ("sink-raw", 40, 0),
        ("index", 40, 0),
    ] {
        assert_eq!(
            (count(hop, "unique"), count(hop, "extra"), count(hop, "duplicates")),
            (unique, extra, 0),
            "{hop}: {result}"
        );
    }
}
