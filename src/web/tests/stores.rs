//! Topics, dead letters and the market over HTTP, in front of embedded stores.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::tests::Site;
use backends::index::{Item, ItemResult, Op};
use backends::log::{Committed, Consumer, Log, Partition, Polled, Record, Stored, Topic};
use backends::raw::Document;
use backends::{BackendError, Backends, ErrorKind, Result};
use config::Config;
use daemon::testing::{self, at};
use steps::dead_letters::{PREFIX, Refusal, Refuser, Stage, dead_letter};
use steps::replay::EDITED;
use steps::testing::fixtures::{record, trade};

/// What must never reach a browser as markup.
const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'";

fn safe(path: &str, html: &str) {
    assert!(
        !html.contains("<script>") && !html.contains("<img"),
        "{path} carries markup of a stranger: {html}"
    );
    assert!(
        html.contains("&#60;script&#62;"),
        "{path} does not show what was hostile, so it proves nothing: {html}"
    );
}

fn header(name: &str, value: &str) -> (String, Vec<u8>) {
    (format!("{PREFIX}{name}"), value.as_bytes().to_vec())
}

fn stored(record: Record) -> Stored {
    Stored { partition: Partition { topic: "kis.trades".into(), number: 0 }, offset: 0, record }
}

/// Embedded stores with two trades, a group that read one, a rejected trade and a hostile frame as dead
/// letters.
pub(crate) async fn filled(folder: &std::path::Path) -> Backends {
    let backends = backends::open(&Config::default(), folder).expect("opened");
    let log = backends.log.as_ref();
    log.create_topic("kis.trades", 1).await.expect("created");
    log.create_topic("kis.trades.dlq", 1).await.expect("created");
    let hostile = Record {
        key: Some(HOSTILE.as_bytes().to_vec()),
        value: HOSTILE.as_bytes().to_vec(),
        headers: vec![(HOSTILE.to_owned(), HOSTILE.as_bytes().to_vec())],
        timestamp: at("13:00:00"),
    };
    let trades = vec![record(&trade("005930", 1)), hostile.clone()];
    log.append("kis.trades", trades).await.expect("appended");
    let group = "kis-trading-day.sink-index".to_owned();
    let mut member = log.join(&group, &["kis.trades".into()], None).await.expect("joined");
    while !matches!(member.poll(Duration::from_secs(20)).await.expect("polled"), Polled::Assigned(_)) {}
    let partition = Partition { topic: "kis.trades".into(), number: 0 };
    member.commit(&[Committed { partition, next: 1 }]).await.expect("committed");
    member.leave().await.expect("left");

    let refuser = Refuser { connector: "kis-trading-day/sink-index".into(), program: "sink/index".into() };
    let refusal = Refusal::new(Stage::TaskPut, "rejected", "the index refused it: price is no number");
    let rejected = dead_letter(&refuser, stored(record(&trade("005930", 7))), &refusal, at("13:01:00"));
    let mut bytes = HOSTILE.as_bytes().to_vec();
    bytes.extend_from_slice(b"\xff\x1b");
    let frame = Record {
        key: None,
        value: bytes,
        headers: vec![
            ("openbell.spool".into(), b"s:1".to_vec()),
            (HOSTILE.to_owned(), HOSTILE.as_bytes().to_vec()),
            header("connector.name", HOSTILE),
            header("stage", HOSTILE),
            header("exception.class.name", HOSTILE),
            header("exception.message", HOSTILE),
        ],
        timestamp: at("13:02:00"),
    };
    log.append("kis.trades.dlq", vec![rejected, frame]).await.expect("appended");
    backends
}

fn put(index: &str, id: &str, source: Value) -> Item {
    Item { index: index.into(), id: id.into(), op: Op::Put, source: source.to_string().into_bytes() }
}

fn session(symbol: &str, volume: i64) -> Value {
    json!({ "kind": "session", "feed": "kis", "symbol": symbol, "vwap": 71_150.5, "volume": volume, "value": 1.0, "trades": 2,
        "min_price": 71_000, "max_price": 71_300, "exchange_volume": 1_250, "exchange_value": 89_000_000, "exchange_equal": false,
        "trade_time": "2026-11-20T13:10:50+09:00" })
}

fn window(symbol: &str, minute: u32) -> Value {
    json!({ "kind": "window", "feed": "kis", "symbol": symbol, "vwap": 71_000 + minute, "volume": 100, "value": 7_100_000, "trades": 3,
        "window_start": format!("2026-11-20T10:{minute:02}:00+09:00"), "window_end": format!("2026-11-20T10:{minute:02}:30+09:00"),
        "min_price": 71_000, "max_price": 71_300 })
}

/// What `vwap` and the collector leave behind, with a symbol that is none.
pub(crate) async fn market(folder: &std::path::Path) -> Backends {
    let backends = backends::open(&Config::default(), folder).expect("opened");
    let day = "kis-vwap-2026.11.20";
    let mut items = Vec::new();
    for symbol in ["005930", HOSTILE] {
        items.push(put(day, &format!("{symbol}|session"), session(symbol, 1_200)));
        for minute in 0..12 {
            items.push(put(
                day,
                &format!("{symbol}|2026-11-20T10:{minute:02}:00+09:00"),
                window(symbol, minute),
            ));
        }
        let mut told = window(symbol, 3);
        (told["rule"], told["event_ids"]) = (json!("range"), json!(["kis:2026-11-20:005930:1250", "gone"]));
        items.push(put(
            "kis-anomalies-2026.11.20",
            &format!("range|{symbol}|2026-11-20T10:03:00+09:00"),
            told,
        ));
    }
    let results = backends.index.bulk(items).await.expect("stored");
    assert!(results.iter().all(|r| *r == ItemResult::Stored), "{results:?}");
    let mut last = trade("005930", 1);
    last.price = rust_decimal::Decimal::from(71_300);
    last.fields.insert("STCK_OPRC".into(), "71000".into());
    last.fields.insert("MKSC_SHRN_ISCD".into(), HOSTILE.into());
    let body = serde_json::to_vec(&last).expect("JSON");
    let document = Document { id: "kis:2026-11-20:005930:1250".into(), body, received_at: at("13:10:50") };
    backends.raw.insert("kis.trades", vec![document]).await.expect("stored");
    backends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_show_offsets_groups_and_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = Site::over(testing::snapshot(), filled(folder.path()).await).await;
    let (_, page) = site.get("/topics").await;
    for text in [
        "kis.trades.dlq",
        "kis-trading-day.sink-index",
        "2026-11-20 13:00:00 KST",
        "read at 2026-11-20 13:11:02 KST",
    ] {
        assert!(page.contains(text), "{text} is missing in {page}");
    }
    let (_, page) = site.get("/topics/kis.trades").await;
    assert!(
        page.contains("sink-index")
            && page.contains("/dead-letters/kis.trades")
            && page.contains("kis:2026-11-20"),
        "{page}"
    );
    safe("/topics/kis.trades", &page);
    let one = site.json("/api/v1/topics/kis.trades").await;
    assert_eq!(
        (&one["partitions"][0]["end"], &one["groups"][0]["lag"], &one["dead_letters"]),
        (&json!(2), &json!(1), &json!(2))
    );
    assert_eq!(one["groups"][0]["partitions"][0], json!({ "partition": 0, "next": 1, "lag": 1 }));
    let list = site.json("/api/v1/topics?limit=1").await;
    assert_eq!((&list["topics"][0]["name"], &list["next"]), (&json!("kis.trades"), &json!("kis.trades")));
    assert_eq!(
        site.json("/api/v1/topics?limit=1&after=kis.trades").await["topics"][0]["name"],
        "kis.trades.dlq"
    );
    let records = site.json("/api/v1/topics/kis.trades/records?from=0&limit=1").await;
    assert_eq!((&records["records"][0]["value"]["format"], &records["next"]), (&json!("json"), &json!(0)));
    let records = site.json("/api/v1/topics/kis.trades/records?after=0").await;
    assert_eq!((&records["records"][0]["offset"], &records["next"]), (&json!(1), &Value::Null));
    for (path, status) in [
        ("/topics/none", 404),
        ("/topics/kis.trades?partition=9", 404),
        ("/topics/kis.trades?from=x", 400),
        ("/api/v1/topics/none", 404),
        ("/api/v1/topics/none/records", 404),
        ("/api/v1/topics/kis.trades/records?limit=1000", 400),
        ("/api/v1/topics?limit=0", 400),
        ("/api/v1/topics?after=none", 404),
    ] {
        assert_eq!(site.get(path).await.0.as_u16(), status, "{path}");
    }
    site.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_shown_by_cause_and_one_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = Site::over(testing::snapshot(), filled(folder.path()).await).await;
    let (_, page) = site.get("/dead-letters").await;
    assert!(page.contains("2 dead letters, 2 not sent again") && page.contains("record stored"), "{page}");
    safe("/dead-letters", &page);
    for path in ["/dead-letters/kis.trades", "/dead-letters/kis.trades/0/1"] {
        safe(path, &site.get(path).await.1);
    }
    let (_, page) = site.get("/dead-letters/kis.trades/0/0").await;
    for text in [
        "price is no number",
        "exception.class.name",
        "7b 22 69 64",
        "2026-11-20 13:01:00 KST",
        "An edited copy",
    ] {
        assert!(page.contains(text), "{text} is missing in {page}");
    }
    let (_, page) = site.get("/dead-letters/kis.trades/0/1").await;
    assert!(page.contains("Bytes that are no text"), "{page}");
    let all = site.json("/api/v1/dead-letters").await;
    assert_eq!((&all["topics"][0]["letters"], &all["topics"][0]["replayed"]), (&json!(2), &json!(0)));
    let some = site.json("/api/v1/dead-letters/kis.trades?limit=1").await;
    assert_eq!((&some["letters"][0]["offset"], &some["next"]), (&json!(1), &json!("0/1")));
    assert_eq!(
        site.json("/api/v1/dead-letters/kis.trades?cause=rejected&limit=1").await["letters"][0]["offset"],
        0
    );
    let one = site.json("/api/v1/dead-letters/kis.trades/0/1").await;
    assert_eq!(
        (&one["record"]["value"]["format"], &one["letter"]["cause"]),
        (&json!("hex"), &json!(HOSTILE))
    );
    for path in [
        "/dead-letters/none",
        "/dead-letters/kis.trades/0/9",
        "/dead-letters/kis.trades/7/0",
        "/api/v1/dead-letters/none",
    ] {
        assert_eq!(site.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    site.down().await;
}

async fn form(site: &Site, fields: &[(&str, &str)]) -> (StatusCode, String) {
    let address = format!("{}/dead-letters/replay", site.base);
    let reply = site.client.post(address).form(fields).send().await.expect("an answer");
    (reply.status(), reply.text().await.expect("a body"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_wants_token_and_confirmation_and_says_what_it_did() {
    let folder = tempfile::tempdir().expect("a folder");
    let backends = filled(folder.path()).await;
    let log = Arc::clone(&backends.log);
    let site = Site::over(testing::snapshot(), backends).await;
    let token = site.csrf().await;
    let one =
        [("topic", "kis.trades"), ("which", "one"), ("partition", "0"), ("offset", "0"), ("sure", "yes")];
    assert_eq!(form(&site, &one).await.0, StatusCode::FORBIDDEN, "no token");
    let with = |fields: &[(&'static str, &'static str)]| {
        [&[("csrf", token.clone().leak() as &str)], fields].concat()
    };
    let (status, page) = form(&site, &with(&one[..4])).await;
    assert!(status == StatusCode::BAD_REQUEST && page.contains("not confirmed"), "{page}");
    let end = async || log.topic("kis.trades").await.expect("asked").expect("there").partitions[0].end;
    assert_eq!(end().await, 2, "nothing was sent so far");

    let edited = [
        ("topic", "kis.trades"),
        ("which", "edited"),
        ("partition", "0"),
        ("offset", "1"),
        ("value", HOSTILE),
        ("sure", "yes"),
    ];
    let (status, page) = form(&site, &with(&edited)).await;
    assert!(status == StatusCode::OK && page.contains("Nothing could be sent"), "{page}");
    assert!(!page.contains("<script>"), "{page}");
    let (status, page) = form(&site, &with(&one)).await;
    assert!(status == StatusCode::OK && page.contains("1 dead letter was sent again"), "{page}");
    assert_eq!(end().await, 3);
    let (_, page) = form(&site, &with(&one)).await;
    assert!(page.contains("Nothing was to be sent"), "{page}");
    let (_, page) = site.get("/dead-letters").await;
    assert!(page.contains("2 dead letters, 1 not sent again"), "{page}");

    let mended = serde_json::to_string(&trade("005930", 9)).expect("JSON");
    let body = json!({ "topic": "kis.trades", "partition": 0, "offset": 1, "value": mended });
    let reply = site
        .client
        .post(format!("{}/api/v1/dead-letters/replay", site.base))
        .json(&body)
        .send()
        .await
        .expect("an answer");
    let done: Value = reply.json().await.expect("JSON");
    assert_eq!((&done["sent"], &done["records"]), (&json!(1), &json!(1)), "{done}");
    let partition = Partition { topic: "kis.trades".into(), number: 0 };
    let sent = log.read(&partition, 3, 1).await.expect("read");
    assert_eq!(
        (sent[0].record.header(EDITED), sent[0].record.value.as_slice()),
        (Some(b"1".as_slice()), mended.as_bytes())
    );
    let original =
        log.read(&Partition { topic: "kis.trades.dlq".into(), number: 0 }, 1, 1).await.expect("read");
    assert!(original[0].record.value.ends_with(b"\xff\x1b"), "the original stays");
    for body in [
        json!({ "topic": "kis.trades" }),
        json!({ "topic": "kis.trades", "all": true, "cause": "x" }),
        json!({ "all": true }),
    ] {
        let reply =
            site.client.post(format!("{}/api/v1/dead-letters/replay", site.base)).json(&body).send().await;
        assert_eq!(reply.expect("an answer").status(), StatusCode::BAD_REQUEST, "{body}");
    }
    site.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_market_shows_symbols_a_day_and_anomalies() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = Site::over(testing::snapshot(), market(folder.path()).await).await;
    let (_, page) = site.get("/market").await;
    for text in
        ["71,300", "+300", "+0.42 %", "71,150.50", "71,200", "1,200", "13:10:50", "12 s ago", "times in KST"]
    {
        assert!(page.contains(text), "{text} is missing in {page}");
    }
    safe("/market", &page);
    let (_, page) = site.get("/market/005930").await;
    for text in ["polyline", "NaN"] {
        assert!(!page.contains(text), "{text} in {page}");
    }
    assert!(
        page.contains("class=\"c-line\"")
            && page.contains("71,000 to 71,300 KRW")
            && page.contains("The first 1 of 2"),
        "{page}"
    );
    safe("/market/005930", &page);
    let path = format!("/market/{}", crate::view::format::part(HOSTILE));
    safe(&path, &site.get(&path).await.1);
    let list = site.json("/api/v1/market?date=2026-11-20").await;
    let samsung = &list["symbols"]
        .as_array()
        .expect("symbols")
        .iter()
        .find(|s| s["symbol"] == "005930")
        .expect("it is there");
    assert_eq!((&samsung["gap_shares"], &samsung["exchange_vwap"]), (&json!(50), &json!(71_200.0)));
    let one = site.json("/api/v1/market/005930?limit=5").await;
    assert_eq!(
        (one["windows"].as_array().map(Vec::len), &one["next"]),
        (Some(5), &json!("2026-11-20T01:04:00Z"))
    );
    let rest = site.json("/api/v1/market/005930?limit=50&after=2026-11-20T01:04:00Z").await;
    assert_eq!((rest["windows"].as_array().map(Vec::len), &rest["next"]), (Some(7), &Value::Null));
    for (path, status) in [
        ("/market/none", 404),
        ("/market?date=2001-01-01", 404),
        ("/market?date=x", 400),
        ("/api/v1/market/none", 404),
    ] {
        assert_eq!(site.get(path).await.0.as_u16(), status, "{path}");
    }
    site.down().await;
}

#[tokio::test]
async fn empty_stores_say_what_to_do() {
    let site = Site::over(testing::snapshot(), steps::testing::fakes::empty()).await;
    for (path, text) in [
        ("/topics", "There are no topics yet"),
        ("/dead-letters", "No topic has a place for dead letters"),
        ("/market", "There are no figures yet"),
    ] {
        let (status, page) = site.get(path).await;
        assert!(status == StatusCode::OK && page.contains(text), "{path}: {page}");
    }
    site.down().await;
}

/// A log nobody is behind.
struct Gone;

fn gone<T>() -> Result<T> {
    Err(BackendError::new(ErrorKind::Unavailable, "log kafka://broker", "nobody answers <script>")
        .remedy("start it"))
}

#[async_trait]
impl Log for Gone {
    async fn create_topic(&self, _: &str, _: u32) -> Result<bool> {
        gone()
    }
    async fn delete_topic(&self, _: &str) -> Result<()> {
        gone()
    }
    async fn topic(&self, _: &str) -> Result<Option<Topic>> {
        gone()
    }
    async fn topics(&self) -> Result<Vec<Topic>> {
        gone()
    }
    async fn append(&self, _: &str, _: Vec<Record>) -> Result<Vec<(u32, u64)>> {
        gone()
    }
    async fn read(&self, _: &Partition, _: u64, _: usize) -> Result<Vec<Stored>> {
        gone()
    }
    async fn join(&self, _: &str, _: &[String], _: Option<&str>) -> Result<Box<dyn Consumer>> {
        gone()
    }
    async fn groups(&self) -> Result<Vec<(String, Vec<Committed>)>> {
        gone()
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_named_on_the_page() {
    let backends = Backends { log: Arc::new(Gone), ..steps::testing::fakes::empty() };
    let site = Site::over(testing::snapshot(), backends).await;
    for path in [
        "/topics",
        "/topics/kis.trades",
        "/dead-letters",
        "/dead-letters/kis.trades",
        "/dead-letters/kis.trades/0/1",
    ] {
        let (status, page) = site.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        let said =
            "Since 2026-11-20 13:11:02 KST: log kafka://broker: nobody answers &#60;script&#62;; start it.";
        assert!(page.contains(said), "{path}: {page}");
    }
    let (status, body) = site.get("/api/v1/topics").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let error: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(error["remedy"], "start it");
    assert_eq!(site.get("/market").await.0, StatusCode::OK, "other stores go on");
    site.down().await;
}
