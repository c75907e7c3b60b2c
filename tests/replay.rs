//! Recorded KIS frames, served over a real WebSocket, reach every hop with the right fields. Real clock, real
//! sockets, the real binary at both ends.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};

use openbell::backends::log::Partition;
use openbell::backends::socket;
use serde_json::{Value, json};
use support::{Daemon, openbell, wait_for};

const DAG: &str = "
name: replay
schedule: { timezone: Asia/Seoul, calendar: krx, open: \"50 8 * * MON-FRI\", close: \"0 16 * * MON-FRI\" }
enabled: false
steps:
  topics: { uses: topics, with: { create: [kis.trades], partitions: 3 } }
  collector:
    kind: service
    uses: collect/kis
    needs: [topics]
    with: { symbols: [\"005930\"] }
    secrets: { app_key: \"file:KEYFILE\", app_secret: \"file:KEYFILE\" }
  sink-index: { kind: service, uses: sink/index, needs: [collector], drain: 30s }
  sink-objects: { kind: service, uses: sink/objects, needs: [collector], drain: 30s, with: { rotate: { size: 1MiB, every: 1s } } }
";

/// Event id, price, quantity and three wire fields of each recorded trade; from the recordings themselves.
type Expected = (&'static str, &'static str, i64, [(&'static str, &'static str); 3]);

const EXPECTED: &[Expected] = &[
    (
        "kis:2026-09-22:005930:11955000",
        "277750",
        5,
        [("STCK_CNTG_HOUR", "140610"), ("WGHN_AVRG_STCK_PRC", "280395.69"), ("MARKET_CLS_CODE", "2")],
    ),
    (
        "kis:2025-07-30:005930:8305216",
        "71950",
        1,
        [("STCK_CNTG_HOUR", "094751"), ("ACML_TR_PBMN", "595403999350"), ("CTTR", "136.06")],
    ),
    (
        "kis:2025-07-30:005930:8305218",
        "71900",
        2,
        [("STCK_CNTG_HOUR", "094751"), ("ACML_TR_PBMN", "595404143150"), ("LWPR_HOUR", "090030")],
    ),
    (
        "kis:2025-07-30:005930:8305293",
        "72000",
        75,
        [("STCK_CNTG_HOUR", "094751"), ("CCLD_DVSN", "1"), ("VI_STND_PRC", "71000")],
    ),
    (
        "kis:2023-06-12:005930:3052507",
        "71900",
        1,
        [("STCK_CNTG_HOUR", "093354"), ("PRDY_CTRT", "-0.14"), ("PRDY_VRSS_SIGN", "5")],
    ),
];

struct Exchange(Child);

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

fn exchange() -> (Exchange, Value) {
    let frames = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kis-frames.txt");
    let mut child = openbell()
        .args(["simulate", "kis", "--port", "0", "--json", "--replay"])
        .arg(frames)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the simulator starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its addresses");
    let addresses = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
    (Exchange(child), addresses)
}

#[test]
fn recorded_frames_reach_every_hop_with_the_right_fields() {
    let (_exchange, addresses) = exchange();
    let (data, dags) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let key = data.path().join("key");
    std::fs::write(&key, "a-key-for-the-simulator").expect("written");
    let dag = DAG.replace("KEYFILE", key.to_str().expect("a plain path"));
    std::fs::write(dags.path().join("replay.yaml"), dag).expect("written");
    std::fs::create_dir(dags.path().join("calendars")).expect("made");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("dags/calendars/krx.csv");
    std::fs::copy(shipped, dags.path().join("calendars/krx.csv")).expect("copied");
    let config = data.path().join("openbell.yaml");
    let feeds =
        json!({ "feeds": { "kis": { "rest": addresses["rest"], "websocket": addresses["websocket"] } } });
    std::fs::write(&config, feeds.to_string()).expect("written");
    let daemon =
        Daemon::start(data.path(), dags.path(), &["--config", config.to_str().expect("a plain path")]);

    let answer = daemon.post("/api/v1/runs", &json!({ "dag": "replay", "until": "2099-01-01T00:00:00Z" }));
    let id = answer["run"].as_str().unwrap_or_else(|| panic!("{answer}\n{}", daemon.output())).to_owned();

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let stores = runtime.block_on(async { socket::connect(data.path().join("openbell.sock")) });
    let found = |what: &str, check: &dyn Fn() -> Option<Vec<Value>>| {
        wait_for(&format!("{what}, of run {}", daemon.run_view(&id).unwrap_or_default()), || {
            check().filter(|all| all.len() == EXPECTED.len())
        })
    };

    let log = found("the log", &|| {
        runtime.block_on(async {
            let topic = stores.log.topic("kis.trades").await.ok()??;
            let mut all = Vec::new();
            for (number, range) in (0u32..).zip(topic.partitions) {
                let partition = Partition { topic: "kis.trades".into(), number };
                for stored in stores.log.read(&partition, range.start, 100).await.ok()? {
                    all.push(serde_json::from_slice(&stored.record.value).ok()?);
                }
            }
            Some(all)
        })
    });
    check("log", &log);

    let raw = found("the raw store", &|| {
        runtime.block_on(async {
            let mut all = Vec::new();
            for id in stores.raw.ids("kis.trades", "kis:", None, 100).await.ok()? {
                all.push(serde_json::from_slice(&stores.raw.get("kis.trades", &id).await.ok()??.body).ok()?);
            }
            Some(all)
        })
    });
    check("raw", &raw);

    let index = found("the index", &|| {
        runtime.block_on(async {
            let mut all = Vec::new();
            for name in stores.index.indices("kis-trades-").await.ok()? {
                for id in stores.index.ids(&name, "", None, 100).await.ok()? {
                    // The index of a trade is that of its own date, whenever it arrives.
                    assert!(
                        id.contains(&name.trim_start_matches("kis-trades-").replace('.', "-")),
                        "{id} in {name}"
                    );
                    all.push(serde_json::from_slice(&stores.index.get(&name, &id).await.ok()??).ok()?);
                }
            }
            Some(all)
        })
    });
    check("index", &index);

    let objects = found("the objects", &|| {
        runtime.block_on(async {
            let mut all = Vec::new();
            for key in stores.objects.list("kis.trades/", None, 100).await.ok()? {
                let body = stores.objects.get(&key).await.ok()??;
                let mut text = String::new();
                flate2::read::MultiGzDecoder::new(body.as_slice()).read_to_string(&mut text).ok()?;
                all.extend(text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()));
            }
            Some(all)
        })
    });
    check("objects", &objects);
}

fn check(hop: &str, all: &[Value]) {
    for (id, price, quantity, fields) in EXPECTED {
        let trade =
            all.iter().find(|t| t["id"] == *id).unwrap_or_else(|| panic!("{hop}: {id} is not in {all:#?}"));
        assert_eq!(trade["symbol"], "005930", "{hop} {id}");
        assert_eq!(
            trade["price"].as_str().map(str::to_owned).unwrap_or_else(|| trade["price"].to_string()),
            *price,
            "{hop} {id}"
        );
        assert_eq!(trade["quantity"], *quantity, "{hop} {id}");
        for (name, value) in fields {
            assert_eq!(trade["fields"][name], *value, "{hop} {id} {name}");
        }
        let time = trade["trade_time"].as_str().expect("a time");
        assert!(time.starts_with(&id[4..14]) && time.ends_with("+09:00"), "{hop} {id} {time}");
    }
}
