//! The promises of the sink core, on stores that fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use serde_json::json;

use crate::envelope::REFILL;
use crate::testing::fakes::{Fault, Stores};
use crate::testing::fixtures::{RecordingReporter, at, context, fast_clock, poison, record, trade};
use crate::{Context, StepError, dead_letters, run};
use backends::index::ItemResult;
use backends::log::Committed;
use backends::{Backends, ErrorKind};
use clock::Clock;
use executor::folder::{StopOrder, write_stop};

const SYMBOLS: [&str; 6] = ["005930", "000660", "035720", "009150", "005380", "035420"];
const INDEX: &str = "kis-trades-2026.11.20";

async fn filled(stores: &Arc<Stores>, each: i64) -> Backends {
    let backends = stores.backends();
    backends.log.create_topic("kis.trades", 3).await.expect("created");
    backends.log.create_topic("kis.trades.dlq", 1).await.expect("created");
    fill(&backends, 1, each).await;
    backends
}

async fn fill(backends: &Backends, from: i64, to: i64) {
    for n in from..=to {
        let records = SYMBOLS.iter().map(|s| record(&trade(s, n))).collect();
        backends.log.append("kis.trades", records).await.expect("appended");
    }
}

fn expected(each: i64) -> BTreeSet<String> {
    (1..=each).flat_map(|n| SYMBOLS.iter().map(move |s| trade(s, n).id.to_string())).collect()
}

/// Exactly the first `each` trades of every symbol are there, repeats aside.
#[track_caller]
fn same(found: impl IntoIterator<Item = String>, each: i64) {
    let (found, expected) = (found.into_iter().collect::<BTreeSet<_>>(), expected(each));
    let missing: Vec<_> = expected.difference(&found).take(5).collect();
    let extra: Vec<_> = found.difference(&expected).take(5).collect();
    assert!(
        found == expected,
        "{} of {} ids; missing {missing:?}, extra {extra:?}",
        found.len(),
        expected.len()
    );
}

struct Step {
    context: Context,
    heard: Arc<RecordingReporter>,
    task: tokio::task::JoinHandle<Result<serde_json::Value, StepError>>,
    _folder: tempfile::TempDir,
}

fn start(program: &'static str, name: &str, with: serde_json::Value, backends: &Backends) -> Step {
    let folder = tempfile::tempdir().expect("a folder");
    let (context, heard) = context(name, with, backends.clone(), fast_clock(), folder.path());
    let task = tokio::spawn(run(program, context.clone()));
    Step { context, heard, task, _folder: folder }
}

impl Step {
    async fn drain(self) -> Result<serde_json::Value, StepError> {
        self.context.stop.cancel();
        tokio::time::timeout(std::time::Duration::from_secs(120), self.task)
            .await
            .expect("drains in time")
            .expect("does not panic")
    }
    async fn kill(self) {
        self.task.abort();
        let _ended = self.task.await;
    }
}

/// Ids of all object lines, with repeats.
fn lines(stores: &Stores) -> Vec<String> {
    let mut ids = Vec::new();
    for (body, _) in stores.objects().values() {
        let mut text = String::new();
        flate2::read::GzDecoder::new(body.as_slice()).read_to_string(&mut text).expect("gzip");
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            ids.push(line["id"].as_str().expect("an id").to_owned());
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_drains_to_the_end_and_commits_it() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 50).await;
    for (program, name) in
        [("sink/index", "sink-index"), ("sink/raw", "sink-raw"), ("sink/objects", "sink-objects")]
    {
        let step = start(program, name, json!({}), &backends);
        let result = step.drain().await.expect("drained");
        assert_eq!(result["written"], 300, "{program}");
        assert_eq!(stores.committed(&format!("day.{name}")).values().sum::<u64>(), 300, "{program}");
    }
    same(stores.documents(INDEX).into_keys(), 50);
    same(stores.raw_ids("kis.trades"), 50);
    same(lines(&stores), 50);
    let document: serde_json::Value =
        serde_json::from_slice(stores.documents(INDEX).values().next().expect("a document")).expect("JSON");
    assert!(
        document["topic_partition"].is_u64()
            && document["topic_offset"].is_u64()
            && document["fields"].is_object(),
        "{document}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_flow_without_a_stop_and_restarts_go_on() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 1).await;
    let step = start("sink/index", "sink-index", json!({}), &backends);
    stores.wait_until("the first trades", |s| s.documents(INDEX).len() == 6).await;
    fill(&backends, 2, 30).await;
    stores.wait_until("all trades", |s| s.documents(INDEX).len() == 180).await;
    stores.wait_until("the commit", |s| s.committed("day.sink-index").values().sum::<u64>() == 180).await;
    step.drain().await.expect("drained");
    let again = start("sink/index", "sink-index", json!({}), &backends);
    assert_eq!(again.drain().await.expect("drained")["records"], 0, "what is committed is not read again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_and_refused_documents_become_dead_letters_untouched() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 10).await;
    let bad = poison("005930", 11);
    backends.log.append("kis.trades", vec![bad.clone()]).await.expect("appended");
    let refused = trade("000660", 5);
    stores.answer(refused.id.as_str(), ItemResult::Rejected { status: 400, reason: "mapping".into() });
    let result = start("sink/index", "sink-index", json!({}), &backends).drain().await.expect("drained");
    assert_eq!((&result["written"], &result["dead_letters"]), (&json!(59), &json!(2)));
    assert_eq!(stores.committed("day.sink-index").values().sum::<u64>(), 61, "dead letters count as done");
    let letters = stores.records("kis.trades.dlq");
    let undecodable =
        letters.iter().find(|l| dead_letters::cause(&l.record) == "undecodable").expect("a letter");
    assert_eq!((&undecodable.record.key, &undecodable.record.value), (&bad.key, &bad.value));
    assert_eq!(dead_letters::error_header(&undecodable.record, "connector.name"), Some("day/sink-index"));
    assert_eq!(dead_letters::error_header(&undecodable.record, "topic"), Some("kis.trades"));
    let rejected = letters.iter().find(|l| dead_letters::cause(&l.record) == "rejected").expect("a letter");
    assert_eq!(rejected.record.value, record(&refused).value);
    assert!(
        dead_letters::error_header(&rejected.record, "exception.message")
            .expect("a reason")
            .contains("mapping")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_stores_are_asked_again_and_nothing_is_lost_or_doubled() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 60).await;
    backends.log.append("kis.trades", vec![poison("005930", 1)]).await.expect("appended");
    for operation in ["bulk", "insert", "put", "append", "head", "commit", "poll", "join", "template"] {
        for fault in [
            Fault::Before(ErrorKind::Unavailable),
            Fault::LostReply,
            Fault::Before(ErrorKind::Busy),
            Fault::LostReply,
            Fault::Before(ErrorKind::Full),
        ] {
            stores.fail(operation, fault);
        }
    }
    for n in 1..=20 {
        let retry = ItemResult::Retry { status: 429, reason: "too many requests".into() };
        stores.answer(trade("005930", n).id.as_str(), retry.clone());
        stores.answer(trade("005930", n).id.as_str(), retry);
    }
    let (index, raw, objects) = (
        start("sink/index", "sink-index", json!({"documents": 7}), &backends),
        start("sink/raw", "sink-raw", json!({"documents": 7}), &backends),
        start("sink/objects", "sink-objects", json!({"rotate": {"size": "4KiB", "every": "10s"}}), &backends),
    );
    for step in [index, raw, objects] {
        step.drain().await.expect("drained");
    }
    same(stores.documents(INDEX).into_keys(), 60);
    same(stores.raw_ids("kis.trades"), 60);
    let lines = lines(&stores);
    same(lines.clone(), 60);
    assert_eq!(lines.len(), 360, "an object line was written twice");
    // A lost reply of the dead-letter topic may repeat a letter; its identity folds it.
    let letters: BTreeSet<_> = stores.records("kis.trades.dlq").iter().map(dead_letters::identity).collect();
    assert_eq!(letters.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_loses_and_doubles_nothing() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 0).await;
    let mut random = fastrand::Rng::with_seed(7);
    let with = json!({"rotate": {"size": "3KiB", "every": "5s"}, "documents": 5});
    for round in 0..25i64 {
        let steps = [
            start("sink/index", "sink-index", json!({"documents": 5}), &backends),
            start("sink/raw", "sink-raw", json!({"documents": 5}), &backends),
            start("sink/objects", "sink-objects", with.clone(), &backends),
        ];
        fill(&backends, round * 4 + 1, round * 4 + 4).await;
        // A duplicate on the log, as two collectors side by side make them.
        backends
            .log
            .append("kis.trades", vec![record(&trade("005930", round * 4 + 1))])
            .await
            .expect("appended");
        let (documents, objects) = (stores.documents(INDEX).len(), stores.objects().len());
        match random.usize(0..3) {
            0 => {}
            1 => {
                let some = documents.max(round as usize * 24 + random.usize(0..24));
                stores.wait_until("some documents", |s| s.documents(INDEX).len() >= some).await;
            }
            _ => stores.wait_until("an object", |s| s.objects().len() > objects).await,
        }
        for _ in 0..random.usize(0..300) {
            tokio::task::yield_now().await;
        }
        for step in steps {
            step.kill().await;
        }
    }
    for (program, name) in
        [("sink/index", "sink-index"), ("sink/raw", "sink-raw"), ("sink/objects", "sink-objects")]
    {
        start(program, name, json!({}), &backends).drain().await.expect("drained");
    }
    same(stores.documents(INDEX).into_keys(), 100);
    same(stores.raw_ids("kis.trades"), 100);
    let lines = lines(&stores);
    same(lines.clone(), 100);
    assert_eq!(lines.len(), 600, "an object line was written twice");
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for (key, (_, metadata)) in stores.objects() {
        let (chain, start) = super::objects::place_of(&key).expect("a key");
        assert_eq!(
            start,
            next.get(chain).copied().unwrap_or(0),
            "every object starts where its predecessor ended: {key}"
        );
        next.insert(chain.to_owned(), metadata["end_offset"].parse::<u64>().expect("an offset") + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_object_is_gone_on_after() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 20).await;
    // An owner that lost the partition wrote the first five offsets of each partition, and never committed.
    let writer = start(
        "sink/objects",
        "sink-objects",
        json!({"group": "zombie", "rotate": {"every": "1s"}}),
        &backends,
    );
    stores.wait_until("the zombie's objects", |s| s.objects().len() >= 3).await;
    writer.kill().await;
    let before = stores.objects();
    let result = start("sink/objects", "sink-objects", json!({}), &backends).drain().await.expect("drained");
    assert_eq!(lines(&stores).len(), 120);
    assert!(result["duplicates"].as_u64().expect("a count") > 0);
    for (key, object) in before {
        assert_eq!(stores.objects().get(&key), Some(&object), "an object was replaced");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_to_a_topic_made_anew_is_written_once() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 50).await;
    let programs = [("sink/index", "sink-index"), ("sink/objects", "sink-objects"), ("vwap", "vwap")];
    for (program, name) in programs {
        start(program, name, json!({}), &backends).drain().await.expect("drained");
    }
    let averages = |stores: &Stores| stores.documents("kis-vwap-2026.11.20");
    let before = averages(&stores);
    backends.log.delete_topic("kis.trades").await.expect("deleted");
    backends.log.create_topic("kis.trades", 3).await.expect("created");
    // Newer ones got there before anybody noticed.
    fill(&backends, 51, 52).await;
    for n in 1..=50 {
        let mut records: Vec<_> = SYMBOLS.iter().map(|s| record(&trade(s, n))).collect();
        records.iter_mut().for_each(|r| r.headers.push((REFILL.to_owned(), b"s".to_vec())));
        backends.log.append("kis.trades", records).await.expect("appended");
    }
    fill(&backends, 53, 60).await;
    for (program, name) in programs {
        // Killed in the middle, and again from the start.
        let step = start(program, name, json!({}), &backends);
        stores
            .wait_until("a beginning", |s| s.committed(&format!("day.{name}")).values().sum::<u64>() > 0)
            .await;
        step.kill().await;
        start(program, name, json!({}), &backends).drain().await.expect("drained");
    }
    same(stores.documents(INDEX).into_keys(), 60);
    same(lines(&stores), 60);
    assert_eq!(lines(&stores).len(), 360, "a line is there twice");
    let whole = Arc::new(Stores::default());
    let plain = filled(&whole, 60).await;
    start("vwap", "vwap", json!({}), &plain).drain().await.expect("drained");
    assert_eq!(averages(&stores), averages(&whole));
    assert_ne!(averages(&stores), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_object_of_unknown_make_stops_the_lane() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 5).await;
    for number in 0..3 {
        let key =
            format!("kis.trades/year=2026/month=11/day=20/hour=09/kis.trades+i1+{number}+{:020}.jsonl.gz", 0);
        stores.put_object(&key, Vec::new(), BTreeMap::new());
    }
    let error =
        start("sink/objects", "sink-objects", json!({}), &backends).drain().await.expect_err("cannot go on");
    assert!(error.to_string().contains("end_offset"), "{error}");
    assert_eq!(stores.committed("day.sink-objects").values().sum::<u64>(), 0, "nothing was skipped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forbidden_stops_the_lane_and_says_so() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 5).await;
    (0..3).for_each(|_| stores.fail("bulk", Fault::Before(ErrorKind::Forbidden)));
    let step = start("sink/index", "sink-index", json!({}), &backends);
    let heard = Arc::clone(&step.heard);
    stores.wait_until("the trouble", |_| heard.degraded().is_some_and(|d| d.contains("stopped"))).await;
    assert!(step.drain().await.is_err());
    assert_eq!(stores.committed("day.sink-index").values().sum::<u64>(), 0);
    assert!(heard.text().contains("stopped at offset 0"), "{}", heard.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_moves_is_finished_first_and_a_late_commit_is_dropped() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 30).await;
    let first = start("sink/index", "sink-index", json!({}), &backends);
    stores.wait_until("the first member's trades", |s| s.documents(INDEX).len() == 180).await;
    stores.fail("commit", Fault::Before(ErrorKind::Fenced));
    let second = start("sink/index", "sink-index-too", json!({"group": "day.sink-index"}), &backends);
    fill(&backends, 31, 60).await;
    stores.wait_until("all trades", |s| s.documents(INDEX).len() == 360).await;
    first.drain().await.expect("drained");
    fill(&backends, 61, 70).await;
    second.drain().await.expect("drained");
    same(stores.documents(INDEX).into_keys(), 70);
    assert_eq!(stores.committed("day.sink-index").values().sum::<u64>(), 420);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_attempt_takes_over_and_the_one_before_ends_with_the_reason() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 30).await;
    for (program, name) in [("sink/index", "sink-index"), ("sink/objects", "sink-objects"), ("vwap", "vwap")]
    {
        let ghost = start(program, name, json!({}), &backends);
        let heard = Arc::clone(&ghost.heard);
        stores.wait_until("the first attempt", |_| heard.status.lock().ready).await;
        let next = start(program, name, json!({}), &backends);
        // Nobody stops it, and it does not come back to take its place again.
        let ended = tokio::time::timeout(std::time::Duration::from_secs(120), ghost.task)
            .await
            .expect("ends by itself");
        let error = ended.expect("does not panic").expect_err("replaced").to_string();
        assert!(error.contains(&format!("another attempt of step {name} has taken over")), "{error}");
        next.drain().await.expect("drained");
        assert_eq!(stores.committed(&format!("day.{name}")).values().sum::<u64>(), 180, "{program}");
    }
    same(stores.documents(INDEX).into_keys(), 30);
    same(lines(&stores), 30);
    assert_eq!(lines(&stores).len(), 180, "an object line was written twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_never_answers_ends_the_drain_with_what_is_left() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 5).await;
    (0..100_000).for_each(|_| stores.fail("bulk", Fault::Before(ErrorKind::Unavailable)));
    let mut step = start("sink/index", "sink-index", json!({}), &backends);
    step.task.abort();
    step.context.spec.step.drain = Some(std::time::Duration::from_secs(60));
    step.task = tokio::spawn(run("sink/index", step.context.clone()));
    let error = step.drain().await.expect_err("not drained");
    assert!(error.to_string().contains("the drain time passed"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_grants_less_than_the_drain_time_ends_in_order_within_it() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 5).await;
    (0..100_000).for_each(|_| stores.fail("bulk", Fault::Before(ErrorKind::Unavailable)));
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::manual(at("09:00:00"));
    let (mut context, heard) =
        context("sink-index", json!({}), backends.clone(), clock.clone(), folder.path());
    context.spec.step.drain = Some(std::time::Duration::from_secs(7_200));
    assert_eq!(context.end_of_stop(), at("11:00:24"), "without a word, its drain and most of its grace");
    let task = tokio::spawn(run("sink/index", context.clone()));
    stores.wait_until("it waits for the store", |_| heard.degraded().is_some()).await;
    std::fs::create_dir_all(&context.spec.folder).expect("a folder");
    let order = StopOrder { asked_at: at("09:00:00"), kill_at: at("09:00:30") };
    write_stop(&context.spec.folder, &order).expect("written");
    assert_eq!(context.end_of_stop(), at("09:00:24"));
    context.stop.cancel();
    let moving = async {
        while !task.is_finished() {
            clock.advance(std::time::Duration::from_secs(1));
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), moving)
        .await
        .expect("it ends, long before its drain time");
    let error = task.await.expect("no panic").expect_err("not drained");
    assert!(error.to_string().contains("the drain time passed"), "{error}");
    assert!(clock.now() < at("11:00:00"), "{}", clock.now());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_beyond_the_objects_never_happens() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 5).await;
    let step = start("sink/objects", "sink-objects", json!({"rotate": {"every": "10h"}}), &backends);
    let heard = Arc::clone(&step.heard);
    stores.wait_until("a status", |_| heard.status.lock().ready).await;
    assert!(stores.committed("day.sink-objects").is_empty(), "records in an open file are not done");
    step.kill().await;
    assert!(stores.objects().is_empty());
    start("sink/objects", "sink-objects", json!({}), &backends).drain().await.expect("drained");
    assert_eq!(lines(&stores).len(), 30);
}

#[tokio::test]
async fn topics_are_made_once_and_a_mismatch_is_named() {
    let stores = Arc::new(Stores::default());
    let backends = stores.backends();
    let folder = tempfile::tempdir().expect("a folder");
    let topics = |partitions: u64| {
        let with = json!({"create": ["kis.trades"], "partitions": partitions});
        run("topics", context("topics", with, backends.clone(), fast_clock(), folder.path()).0)
    };
    assert_eq!(topics(3).await.expect("created")["created"], json!(["kis.trades", "kis.trades.dlq"]));
    assert_eq!(topics(3).await.expect("fine")["existing"], json!(["kis.trades", "kis.trades.dlq"]));
    let error = topics(4).await.expect_err("another count").to_string();
    assert!(error.contains("exists with 3 partitions, not 4") && error.contains("partitions: 3"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn averages_survive_kills_and_lost_replies() {
    let stores = Arc::new(Stores::default());
    let backends = filled(&stores, 0).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = fastrand::Rng::with_seed(11);
    let with = json!({"emit": "1s", "checkpoint": "3s", "anomalies": "kis.anomalies"});
    let begin = || {
        let (context, _) = context("vwap", with.clone(), backends.clone(), fast_clock(), folder.path());
        (context.stop.clone(), tokio::spawn(run("vwap", context)))
    };
    for round in 0..12i64 {
        stores.fail("bulk", Fault::LostReply);
        let (_, task) = begin();
        fill(&backends, round * 10 + 1, round * 10 + 10).await;
        backends
            .log
            .append("kis.trades", vec![record(&trade("005930", round * 10 + 1))])
            .await
            .expect("appended");
        for _ in 0..random.usize(0..600) {
            tokio::task::yield_now().await;
        }
        task.abort();
        let _ended = task.await;
    }
    // A jump of 10 % inside one window.
    let mut jump = trade("005930", 121);
    jump.price = "110".parse().expect("a price");
    jump.accumulated_value = Some(100 * 120 + 110);
    backends.log.append("kis.trades", vec![record(&jump)]).await.expect("appended");
    let (stop, task) = begin();
    stop.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(120), task)
        .await
        .expect("in time")
        .expect("no panic")
        .expect("drained");
    let documents = stores.documents("kis-vwap-2026.11.20");
    let session: serde_json::Value = serde_json::from_slice(&documents["005930|session"]).expect("JSON");
    assert_eq!(
        (&session["volume"], &session["trades"], &session["value"]),
        (&json!(121), &json!(121), &json!(12_110))
    );
    assert_eq!(session["exchange_equal"], true);
    let window: serde_json::Value =
        serde_json::from_slice(&documents["000660|2026-11-20T09:00:30+09:00"]).expect("JSON");
    assert_eq!(
        (&window["volume"], &window["vwap"], &window["window_end"]),
        (&json!(30), &json!(100.0), &json!("2026-11-20T09:01:00+09:00"))
    );
    let anomalies = stores.records("kis.anomalies");
    assert!(!anomalies.is_empty());
    let anomaly: serde_json::Value = serde_json::from_slice(&anomalies[0].record.value).expect("JSON");
    assert_eq!(anomaly["id"], "range|005930|2026-11-20T09:02:00+09:00");
    assert!(anomaly["event_ids"].as_array().expect("ids").contains(&json!("kis:2026-11-20:005930:121")));
    assert_eq!(
        backends.log.groups().await.expect("groups")[0].1.iter().map(|c: &Committed| c.next).sum::<u64>(),
        733
    );
}
