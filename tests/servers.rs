//! Sinks and dead letters on real servers, with the real binary; what is there is asked of Elasticsearch by
//! its own API. Skipped where `OPENBELL_KAFKA` and so on are not set; see `scripts/services`.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use openbell::backends::log::{Partition, Record, Stored};
use openbell::backends::{self, Backends};
use openbell::config::Config;
use openbell::domain::trade::Trade;
use openbell::feed::kis;
use openbell::steps::dead_letters;
use serde_json::{Value, json};
use support::{Daemon, run, server, wait_for};
use tokio::runtime::Runtime;

const DAG: &str = "
name: sinks
steps:
  topics: { uses: topics, with: { create: [kis.trades], partitions: 3 } }
  sink-raw: { kind: service, uses: sink/raw, needs: [topics] }
  sink-index: { kind: service, uses: sink/index, needs: [topics] }
  sink-objects: { kind: service, uses: sink/objects, needs: [topics], with: { rotate: { size: 1MiB, every: 1s } } }
";

/// A daemon that runs the sinks on servers, under names of its own.
struct Place {
    daemon: Daemon,
    data: tempfile::TempDir,
    _dags: tempfile::TempDir,
    stores: Backends,
    runtime: Runtime,
    search: String,
    prefix: String,
}

impl Place {
    fn new(test: &str) -> Option<Self> {
        let variable = |name: &str| server(name, test);
        let search = variable("OPENBELL_ELASTICSEARCH")?;
        let prefix = format!("t{:016x}", fastrand::u64(..));
        let (s3, query) = variable("OPENBELL_S3")
            .map(|a| a.split_once('?').map(|(a, q)| (a.to_owned(), q.to_owned())))??;
        let mongo = variable("OPENBELL_MONGO")?;
        let config = Config {
            log: format!("{}?prefix={prefix}.", variable("OPENBELL_KAFKA")?),
            raw: format!("{}/{prefix}", mongo.rsplit_once('/').expect("a database").0),
            index: format!("{search}?prefix={prefix}-"),
            objects: format!("{s3}/{prefix}?{query}"),
            ..Config::default()
        };
        let (data, dags) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        std::fs::write(dags.path().join("sinks.yaml"), DAG).expect("written");
        let file = data.path().join("openbell.yaml");
        let addresses =
            json!({ "log": config.log, "raw": config.raw, "index": config.index, "objects": config.objects });
        std::fs::write(&file, addresses.to_string()).expect("written");
        let daemon =
            Daemon::start(data.path(), dags.path(), &["--config", file.to_str().expect("a plain path")]);
        let answer = daemon.post("/api/v1/runs", &json!({ "dag": "sinks", "until": "2099-01-01T00:00:00Z" }));
        assert!(answer["run"].is_string(), "{answer}\n{}", daemon.output());
        let runtime = Runtime::new().expect("a runtime");
        let stores = runtime.block_on(async { backends::open(&config, data.path()) }).expect("addresses");
        let place = Self { daemon, data, _dags: dags, stores, runtime, search, prefix };
        wait_for("the topic", || place.runtime.block_on(place.stores.log.topic("kis.trades")).ok()?);
        Some(place)
    }

    fn append(&self, topic: &str, records: Vec<Record>) -> Vec<(u32, u64)> {
        self.runtime.block_on(self.stores.log.append(topic, records)).expect("appended")
    }

    fn records(&self, topic: &str) -> Vec<Stored> {
        self.runtime.block_on(async {
            let mut all = Vec::new();
            let Some(topic) = self.stores.log.topic(topic).await.expect("asked") else { return all };
            for (number, range) in (0u32..).zip(topic.partitions) {
                let partition = Partition { topic: topic.name.clone(), number };
                let mut offset = range.start;
                while offset < range.end {
                    let more = self.stores.log.read(&partition, offset, 1_000).await.expect("read");
                    offset = more.last().expect("records").offset + 1;
                    all.extend(more);
                }
            }
            all
        })
    }

    /// Asks Elasticsearch itself.
    fn ask(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/{}-kis-trades-*/{path}", self.search, self.prefix);
        self.runtime.block_on(async {
            let answer = reqwest::Client::new().post(url).json(&body).send().await.expect("answers");
            answer.json().await.expect("JSON")
        })
    }

    /// Ids of the documents that a query finds; an index that is just being made is asked again.
    fn indexed(&self, query: &Value) -> BTreeSet<String> {
        wait_for("an answer of the index", || self.found(query))
    }

    fn found(&self, query: &Value) -> Option<BTreeSet<String>> {
        self.ask("_refresh", json!({}));
        let found = self
            .ask("_search?size=1000&ignore_unavailable=true", json!({ "query": query, "_source": false }));
        assert!(found["error"].is_null() || found["status"] == 503, "{found}");
        let hits = found["hits"]["hits"].as_array()?;
        Some(hits.iter().map(|h| h["_id"].as_str().expect("an id").to_owned()).collect())
    }

    fn raw(&self) -> BTreeSet<String> {
        self.runtime
            .block_on(self.stores.raw.ids("kis.trades", "", None, 1_000))
            .expect("listed")
            .into_iter()
            .collect()
    }

    /// Ids of all lines in objects, with repeats.
    fn lines(&self) -> Vec<String> {
        self.runtime.block_on(async {
            let mut ids = Vec::new();
            for key in self.stores.objects.list("kis.trades/", None, 1_000).await.expect("listed") {
                let body = self.stores.objects.get(&key).await.expect("read").expect("there");
                let mut text = String::new();
                flate2::read::MultiGzDecoder::new(body.as_slice()).read_to_string(&mut text).expect("gzip");
                ids.extend(
                    text.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON")["id"].to_string()),
                );
            }
            ids
        })
    }

    fn dlq(&self, words: &[&str]) -> (Value, i32) {
        let data = self.data.path().to_str().expect("a plain path");
        let done = run(&[&["dlq"], words, &["--json", "--data", data]].concat());
        let text = String::from_utf8_lossy(&done.stdout);
        let answer = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&done.stderr)));
        (answer, done.status.code().expect("an exit code"))
    }

    /// Leaves the servers as they were.
    fn clear(mut self) {
        self.daemon.kill();
        self.runtime.block_on(async {
            for topic in self.stores.log.topics().await.expect("listed") {
                self.stores.log.delete_topic(&topic.name).await.expect("deleted");
            }
            let indices = format!("{}/{}-kis-trades-2026.11.20", self.search, self.prefix);
            reqwest::Client::new().delete(indices).send().await.expect("answers");
        });
    }
}

fn frames() -> Vec<Trade> {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kis-frames.txt"))
            .expect("frames");
    let received = "2026-11-20T00:00:00Z".parse().expect("a time");
    let wire = text.lines().next().expect("a frame").splitn(4, '|').collect::<Vec<_>>();
    vec![kis::trade(&format!("{}|{}", wire[1], wire[3]), received).expect("a recorded trade")]
}

/// A trade a minute from 09:00 KST on, made from a recorded one.
fn trades(count: i64) -> Vec<Value> {
    let recorded = serde_json::to_value(&frames()[0]).expect("JSON");
    let open: jiff::civil::DateTime = "2026-11-20T09:00:00".parse().expect("a time");
    let trade = |n: i64| {
        let at = format!("{}+09:00", open + jiff::SignedDuration::from_mins(n));
        let mut trade = recorded.clone();
        trade["id"] = format!("kis:2026-11-20:005930:{}", 1_000 + n).into();
        trade["session_date"] = "2026-11-20".into();
        trade["trade_time"] = at.clone().into();
        trade["received_at"] = at.into();
        trade
    };
    (0..count).map(trade).collect()
}

fn record(value: impl Into<Vec<u8>>) -> Record {
    Record {
        key: Some(b"005930".to_vec()),
        value: value.into(),
        headers: vec![("origin".into(), b"test".to_vec())],
        timestamp: "2026-11-20T00:00:00Z".parse().expect("a time"),
    }
}

#[test]
fn a_range_of_local_time_gives_exactly_its_trades() {
    let Some(place) = Place::new("a_range_of_local_time") else { return };
    let trades = trades(200);
    place.append("kis.trades", trades.iter().map(|t| record(t.to_string())).collect());
    wait_for("200 documents", || (place.indexed(&json!({ "match_all": {} })).len() == 200).then_some(()));
    let between = |from: &str, to: &str| {
        let range = json!({ "range": { "trade_time": {
            "gte": format!("2026-11-20T{from}"), "lt": format!("2026-11-20T{to}"), "time_zone": "Asia/Seoul" } } });
        place.indexed(&range)
    };
    let expected = |minutes: std::ops::Range<i64>| -> BTreeSet<String> {
        minutes.map(|n| format!("kis:2026-11-20:005930:{}", 1_000 + n)).collect()
    };
    assert_eq!(between("09:30:00", "10:15:00"), expected(30..75));
    assert_eq!(between("00:00:00", "09:00:00"), BTreeSet::new());
    assert_eq!(between("12:19:00", "23:59:59"), expected(199..200));
    let mapping = place.runtime.block_on(async {
        let url = format!("{}/{}-kis-trades-2026.11.20/_mapping", place.search, place.prefix);
        reqwest::get(url).await.expect("answers").json::<Value>().await.expect("JSON")
    });
    let fields = &mapping[format!("{}-kis-trades-2026.11.20", place.prefix)]["mappings"]["properties"];
    for (field, kind) in [
        ("trade_time", "date"),
        ("received_at", "date_nanos"),
        ("session_date", "date"),
        ("quantity", "double"),
    ] {
        assert_eq!(fields[field]["type"], kind, "{field}");
    }
    place.clear();
}

#[test]
fn poison_becomes_dead_letters_and_a_replay_after_the_fix_doubles_nothing() {
    let Some(place) = Place::new("poison_becomes_dead_letters") else { return };
    let good = trades(50);
    let with = |field: &str, value: Value| {
        let mut trade = good[0].clone();
        trade["id"] = format!("kis:2026-11-20:005930:wrong-{field}").into();
        trade[field] = value;
        trade.to_string().into_bytes()
    };
    // Refused by every sink, since nobody can tell what they are.
    let unreadable: Vec<Vec<u8>> = vec![
        b"not JSON".to_vec(),
        Vec::new(),
        br#"{"hello": "world"}"#.to_vec(),
        br#"["kis:2026-11-20:005930:1"]"#.to_vec(),
        b"0|H0STCNT0|001|005930^093354^71900".to_vec(),
        vec![b'x'; 2_000_000],
        b"\xff\xfe".to_vec(),
    ];
    // Refused by the index alone.
    let mistyped = vec![with("quantity", "many".into()), with("trade_time", "yesterday".into())];
    let mut records: Vec<Record> = good.iter().map(|t| record(t.to_string())).collect();
    for (n, poison) in unreadable.iter().chain(&mistyped).enumerate() {
        records.insert(n * 5, record(poison.clone()));
    }
    place.append("kis.trades", records);
    let wanted = 3 * unreadable.len() + mistyped.len();
    let letters = wait_for("the dead letters", || {
        let letters = place.records("kis.trades.dlq");
        (letters.len() >= wanted).then_some(letters)
    });
    wait_for("the good ones", || {
        (place.indexed(&json!({ "match_all": {} })).len() == good.len()).then_some(())
    });
    assert_eq!(letters.len(), wanted);
    for poison in &unreadable {
        let of: Vec<_> = letters.iter().filter(|l| &l.record.value == poison).collect();
        let programs: BTreeSet<_> =
            of.iter().filter_map(|l| dead_letters::error_header(&l.record, "class.name")).collect();
        assert_eq!(
            (of.len(), programs),
            (3, BTreeSet::from(["sink/index", "sink/objects", "sink/raw"])),
            "original bytes, once a sink"
        );
        for letter in of {
            let header =
                |name| dead_letters::error_header(&letter.record, name).unwrap_or_default().to_owned();
            assert_eq!(
                (header("topic").as_str(), header("exception.class.name").as_str()),
                ("kis.trades", "undecodable")
            );
            assert_eq!(
                (letter.record.header("origin"), letter.record.key.as_deref()),
                (Some(&b"test"[..]), Some(&b"005930"[..]))
            );
        }
    }
    let (list, _) = place.dlq(&["list"]);
    let groups: BTreeMap<(&str, &str), u64> = list["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .map(|g| {
            (
                (g["cause"].as_str().expect("text"), g["connector"].as_str().expect("text")),
                g["count"].as_u64().expect("a count"),
            )
        })
        .collect();
    let undecodable = unreadable.len() as u64;
    for sink in ["sinks/sink-index", "sinks/sink-objects", "sinks/sink-raw"] {
        assert_eq!(groups[&("undecodable", sink)], undecodable, "{list}");
    }
    let refused: u64 = groups
        .iter()
        .filter(|((cause, sink), _)| *cause != "undecodable" && *sink == "sinks/sink-index")
        .map(|(_, n)| n)
        .sum();
    assert_eq!(refused, mistyped.len() as u64, "{list}");

    // A frame that an older codec refused and this one reads.
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kis-frames.txt"))
            .expect("frames");
    let header = |n: &str, v: &str| (format!("{}{n}", dead_letters::PREFIX), v.as_bytes().to_vec());
    let frame = Record {
        key: None,
        value: text.lines().nth(1).expect("a frame of three trades").as_bytes().to_vec(),
        headers: vec![
            ("openbell.spool".into(), b"s:9".to_vec()),
            header("topic", "kis.trades"),
            header("offset", ""),
            header("connector.name", "sinks/collector"),
            header("exception.class.name", "wrong_width"),
        ],
        timestamp: "2026-11-20T00:00:00Z".parse().expect("a time"),
    };
    place.append("kis.trades.dlq", vec![frame]);
    let (first, code) = place.dlq(&["replay", "--cause", "wrong_width"]);
    assert_eq!((&first["sent"], &first["records"], code), (&json!(1), &json!(3), 0), "{first}");
    let (second, code) = place.dlq(&["replay", "--cause", "wrong_width"]);
    assert_eq!((&second["sent"], &second["before"], code), (&json!(0), &json!(1), 0), "{second}");
    // The mistyped ones are still wrong: sent again, they are refused again, and are in no store twice.
    let (third, _) = place.dlq(&["replay", "--cause", "rejected"]);
    assert_eq!(third["sent"], json!(mistyped.len()), "{third}");
    wait_for("the replayed trades", || {
        (place.indexed(&json!({ "match_all": {} })).len() == good.len() + 3).then_some(())
    });
    wait_for("the replayed records in every partition's store", || {
        let lag: u64 = place.daemon.get("/api/v1/snapshot")["gauges"]["group_lag"]
            .as_object()?
            .values()
            .filter_map(Value::as_u64)
            .sum();
        (lag == 0).then_some(())
    });
    let lines = wait_for("the lines", || {
        let lines = place.lines();
        (lines.len() >= good.len() + mistyped.len() + 3).then_some(lines)
    });
    let unique: BTreeSet<_> = lines.iter().collect();
    assert_eq!(
        (lines.len(), unique.len()),
        (good.len() + mistyped.len() + 3, good.len() + mistyped.len() + 3),
        "each line once"
    );
    assert_eq!(place.raw().len(), good.len() + mistyped.len() + 3);
    place.clear();
}
