//! A small day on the embedded stores: what the collector does by hand, everything after it by the steps.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::testing::fixtures::{at, context, fast_clock, record, spool, trade};
use crate::{StepError, run};
use backends::raw::Document;
use backends::{Backends, address, socket};
use clock::Clock;
use config::Config;
use domain::trade::Trade;

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<Value, StepError>>,
}

struct Day {
    folder: tempfile::TempDir,
    backends: Backends,
}

impl Day {
    fn begin(&self, program: &'static str, name: &str, with: Value) -> Running {
        let (context, _) = context(name, with, self.backends.clone(), fast_clock(), self.folder.path());
        Running { stop: context.stop.clone(), task: tokio::spawn(run(program, context)) }
    }
    async fn once(&self, program: &'static str, with: Value) -> Value {
        let (context, _) = context(
            program.rsplit('/').next().expect("a name"),
            with,
            self.backends.clone(),
            Clock::manual(at("15:59:00")),
            self.folder.path(),
        );
        run(program, context).await.expect("a result")
    }
    async fn arrive(&self, trades: &[Trade]) {
        spool(self.folder.path(), trades);
        self.backends.log.append("kis.trades", trades.iter().map(record).collect()).await.expect("appended");
        let document = |t: &Trade| Document {
            id: t.id.as_str().to_owned(),
            body: serde_json::to_vec(t).expect("JSON"),
            received_at: t.received().expect("a time"),
        };
        self.backends
            .raw
            .insert("kis.trades", trades.iter().map(document).collect())
            .await
            .expect("inserted");
    }
}

impl Running {
    async fn drain(self) -> Value {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(120), self.task)
            .await
            .expect("in time")
            .expect("no panic")
            .expect("drained")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_with_killed_sinks_reconciles_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let backends = address::open(&Config::default(), folder.path()).expect("opened");
    let day = Day { folder, backends };
    day.once("topics", json!({"create": ["kis.trades", "kis.anomalies"], "partitions": 3})).await;
    let objects = json!({"rotate": {"size": "64KiB", "every": "30s"}});
    let begin = |day: &Day| {
        [
            day.begin("sink/index", "sink-index", json!({})),
            day.begin("sink/objects", "sink-objects", objects.clone()),
            day.begin("vwap", "vwap", json!({"anomalies": "kis.anomalies", "checkpoint": "10s"})),
            day.begin("sink/raw", "sink-raw", json!({})),
        ]
    };
    let mut running = begin(&day);
    let symbols = ["005930", "000660", "035720", "009150", "005380"];
    for round in 0..30 {
        let trades: Vec<_> =
            (round * 20 + 1..=round * 20 + 20).flat_map(|n| symbols.map(|s| trade(s, n))).collect();
        day.arrive(&trades).await;
        if round % 7 == 3 {
            for step in running {
                step.task.abort();
                drop(step.task.await);
            }
            running = begin(&day);
        }
    }
    for step in running {
        step.drain().await;
    }
    let result = day.once("reconcile", json!({})).await;
    assert_eq!(result["ok"], true, "{result}");
    for hop in ["spool", "log", "raw", "index", "objects"] {
        assert_eq!(result["hops"][hop]["unique"], 3_000, "{hop}: {result}");
    }
    assert_eq!(result["vwap"], json!({"checked": 5, "equal": 5, "different": []}));
    let finding = day.once("freshness", json!({})).await;
    let newest: Vec<_> = finding["hops"]
        .as_array()
        .expect("hops")
        .iter()
        .map(|h| h["newest"].as_str().expect("a time"))
        .collect();
    assert_eq!(newest, ["2026-11-20T09:10:00+09:00"; 5], "{finding}");
    let session = day
        .backends
        .index
        .get("kis-vwap-2026.11.20", "005930|session")
        .await
        .expect("read")
        .expect("a document");
    let session: Value = serde_json::from_slice(&session).expect("JSON");
    assert_eq!((&session["volume"], &session["exchange_equal"]), (&json!(600), &json!(true)));
    let Day { folder, backends } = day;
    drop(backends);
    let day =
        Day { backends: address::open(&Config::default(), folder.path()).expect("opened again"), folder };
    assert_eq!(day.once("reconcile", json!({})).await, result, "the proof is on disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_the_partitions_and_both_drain() {
    let folder = tempfile::tempdir().expect("a folder");
    let backends = address::open(&Config::default(), folder.path()).expect("opened");
    let day = Arc::new(Day { folder, backends });
    day.once("topics", json!({"create": ["kis.trades"], "partitions": 3})).await;
    let first = day.begin("sink/index", "sink-index", json!({}));
    day.arrive(&(1..=200).map(|n| trade("005930", n)).collect::<Vec<_>>()).await;
    let second = day.begin("sink/index", "sink-index-too", json!({"group": "day.sink-index"}));
    day.arrive(&(1..=200).flat_map(|n| ["000660", "035720"].map(|s| trade(s, n))).collect::<Vec<_>>()).await;
    first.stop.cancel();
    second.stop.cancel();
    first.drain().await;
    second.drain().await;
    let ids = day.backends.index.ids("kis-trades-2026.11.20", "", None, 10_000).await.expect("ids");
    assert_eq!(ids.len(), 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_in_other_processes_survive_a_restart_of_the_daemon() {
    let folder = tempfile::tempdir().expect("a folder");
    let stores = address::open(&Config::default(), folder.path()).expect("opened");
    let path = folder.path().join("openbell.sock");
    let serve = |stores: &Backends| {
        drop(std::fs::remove_file(&path));
        let listener = tokio::net::UnixListener::bind(&path).expect("bound");
        let stop = CancellationToken::new();
        (stop.clone(), tokio::spawn(socket::serve(listener, stores.clone(), stop)))
    };
    let (mut stop, mut server) = serve(&stores);
    let day = Day { folder, backends: socket::connect(&path) };
    day.once("topics", json!({"create": ["kis.trades"], "partitions": 3})).await;
    let running = [
        day.begin("sink/index", "sink-index", json!({})),
        day.begin("sink/objects", "sink-objects", json!({"rotate": {"every": "30s"}})),
        day.begin("vwap", "vwap", json!({})),
    ];
    for round in 0..12 {
        let trades: Vec<_> = (round * 20 + 1..=round * 20 + 20)
            .flat_map(|n| ["005930", "000660", "035720"].map(|s| trade(s, n)))
            .collect();
        day.arrive(&trades).await;
        if round % 4 == 2 {
            stop.cancel();
            server.await.expect("no panic");
            (stop, server) = serve(&stores);
        }
    }
    for step in running {
        step.drain().await;
    }
    let result = day.once("reconcile", json!({})).await;
    assert_eq!(result["ok"], true, "{result}");
    assert_eq!(result["hops"]["objects"]["unique"], 720);
}
