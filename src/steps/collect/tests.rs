//! The collector against an exchange of a few lines, on stores that fail on demand.

mod closing;
mod older;
mod other_feed;
mod refill;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message as Ws;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as WsFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::testing::fakes::{Fault, Stores};
use crate::testing::fixtures::{RecordingReporter, context};
use crate::{Context, Secret, StepError};
use backends::ErrorKind;
use backends::log::Stored;
use backends::spool::{self, Entry, Kind, Reader};
use clock::Clock;
use domain::trade::Trade;
use feed::kis::{Kis, encode};

/// The recorded frame of three trades (2025-07-30).
const RECORDED: &str = "0|H0STCNT0|003|005930^094751^71950^2^1350^1.91^71690.50^71000^72300^70600^72000^71900^1^8305216^595403999350^21115^28170^7055^136.06^3060313^4163762^5^0.51^29.46^090014^2^950^090708^5^-350^090030^2^1350^20250730^20^N^93994^113056^1668973^822214^0.14^10584139^78.47^0^^71000^005930^094751^71900^2^1300^1.84^71690.50^71000^72300^70600^72000^71900^2^8305218^595404143150^21116^28170^7054^136.06^3060315^4163762^5^0.51^29.46^090014^2^900^090708^5^-400^090030^2^1300^20250730^20^N^93985^112986^1668973^822144^0.14^10584139^78.47^0^^71000^005930^094751^72000^2^1400^1.98^71690.50^71000^72300^70600^72000^71900^75^8305293^595409543150^21116^28171^7055^136.06^3060315^4163837^1^0.51^29.46^090014^2^1000^090708^5^-300^090030^2^1400^20250730^20^N^93985^112986^1668973^822144^0.14^10584139^78.47^0^^71000";

/// Gives keys, acknowledges everything, and sends what the test says to whoever is connected.
pub(super) struct Exchange {
    rest: String,
    websocket: String,
    connections: Arc<AtomicU32>,
    /// Another session holds the app key's slot.
    pub(super) taken: Arc<AtomicBool>,
    line: Arc<Mutex<Option<mpsc::UnboundedSender<Ws>>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Exchange {
    async fn start(approval: (u16, &'static str)) -> Self {
        let rest = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let websocket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = |l: &TcpListener| l.local_addr().expect("an address");
        let (connections, line) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(None)));
        let taken = Arc::new(AtomicBool::new(false));
        let mut exchange = Self {
            rest: format!("http://{}", address(&rest)),
            websocket: format!("ws://{}/tryitout", address(&websocket)),
            connections: Arc::clone(&connections),
            taken: Arc::clone(&taken),
            line: Arc::clone(&line),
            tasks: Vec::new(),
        };
        exchange.tasks.push(tokio::spawn(async move {
            while let Ok((stream, _)) = rest.accept().await {
                tokio::spawn(approve(stream, approval));
            }
        }));
        exchange.tasks.push(tokio::spawn(async move {
            while let Ok((stream, _)) = websocket.accept().await {
                let (sender, messages) = mpsc::unbounded_channel();
                *line.lock() = Some(sender);
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(talk(stream, messages, Arc::clone(&taken)));
            }
        }));
        exchange
    }

    fn send(&self, message: Ws) {
        self.line.lock().as_ref().expect("connected").send(message).expect("still connected");
    }

    pub(super) fn text(&self, text: &str) {
        self.send(Ws::text(text.to_owned()));
    }

    /// Ends the connection without a close frame.
    fn hang_up(&self) {
        *self.line.lock() = None;
    }

    fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn approve(mut stream: TcpStream, (status, body): (u16, &str)) {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&request).contains("grant_type") {
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request);
    assert!(text.starts_with("POST /oauth2/Approval ") && text.contains(r#""secretkey":"s3cret""#), "{text}");
    let answer =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.expect("answered");
}

async fn talk(stream: TcpStream, mut messages: mpsc::UnboundedReceiver<Ws>, taken: Arc<AtomicBool>) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(message) => if socket.send(message).await.is_err() { return },
                None => return,
            },
            came = socket.next() => match came {
                Some(Ok(Ws::Text(text))) => {
                    let value: Value = serde_json::from_str(&text).expect("JSON");
                    assert_eq!(value["header"]["approval_key"], "the-key");
                    let input = &value["body"]["input"];
                    if taken.load(Ordering::SeqCst) {
                        let refusal = r#"{"header":{"tr_id":"(null)","tr_key":"","encrypt":"N"},"body":{"rt_cd":"9","msg_cd":"OPSP8996","msg1":"ALREADY IN USE appkey"}}"#;
                        socket.send(Ws::text(refusal)).await.unwrap_or_default(); // a client that is gone needs no refusal
                        return;
                    }
                    let reply = json!({
                        "header": {"tr_id": input["tr_id"], "tr_key": input["tr_key"], "encrypt": "N"},
                        "body": {"rt_cd": "0", "msg_cd": "OPSP0000", "msg1": "SUBSCRIBE SUCCESS",
                                 "output": {"iv": "0123456789abcdef", "key": "abcdefghijklmnopabcdefghijklmnop"}},
                    });
                    if socket.send(Ws::text(reply.to_string())).await.is_err() {
                        return;
                    }
                }
                Some(Ok(_)) => {}
                _ => return,
            },
        }
    }
}

/// A collector of two symbols under test.
pub(super) struct Bench {
    pub(super) exchange: Exchange,
    pub(super) stores: Arc<Stores>,
    folder: tempfile::TempDir,
}

pub(super) struct Running {
    pub(super) context: Context,
    pub(super) heard: Arc<RecordingReporter>,
    pub(super) task: JoinHandle<Result<Value, StepError>>,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let stores = Arc::new(Stores::default());
        stores.backends().log.create_topic("kis.trades", 3).await.expect("a topic");
        let exchange = Exchange::start((200, r#"{"approval_key":"the-key"}"#)).await;
        Self { exchange, stores, folder: tempfile::tempdir().expect("a folder") }
    }

    pub(super) fn context(&self) -> (Context, Arc<RecordingReporter>) {
        let with = json!({"symbols": ["005930", "000660"], "pace": "1ms"});
        let (mut context, heard) =
            context("collector", with, self.stores.backends(), Clock::system(), self.folder.path());
        let addresses = [("rest", &self.exchange.rest), ("websocket", &self.exchange.websocket)];
        context.feeds.insert("kis".into(), addresses.map(|(key, url)| (key.into(), url.clone())).into());
        for (name, value) in [("app_key", "k3y"), ("app_secret", "s3cret")] {
            context.secrets.insert(name.into(), Secret::new(value.into()));
        }
        (context, heard)
    }

    pub(super) fn begin(&self, change: impl FnOnce(&mut Context)) -> Running {
        let (mut context, heard) = self.context();
        change(&mut context);
        let task = tokio::spawn(super::run(&Kis, context.clone()));
        Running { context, heard, task }
    }

    pub(super) async fn start(&self) -> Running {
        let running = self.begin(|_| {});
        running.until_ready().await;
        running
    }

    pub(super) fn spool(&self) -> std::path::PathBuf {
        self.folder.path().join("spool/day/collector")
    }

    fn entries(&self) -> Vec<Entry> {
        read_all(&self.spool())
    }

    pub(super) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.stores.records("kis.trades").iter().map(id).collect();
        ids.sort();
        ids
    }

    pub(super) async fn has_records(&self, records: usize) {
        self.stores
            .wait_until("the trades are on the log", |s| s.records("kis.trades").len() >= records)
            .await;
        self.stores
            .wait_until("the trades are in the raw store", |s| s.raw_ids("kis.trades").len() >= records)
            .await;
    }
}

impl Running {
    pub(super) async fn until_ready(&self) {
        self.wait_until("the collector is ready", |r| r.heard.status.lock().ready).await;
    }

    pub(super) async fn wait_until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(120), async {
            while !done(self) && !self.task.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok() && done(self), "{what}: not yet; output:\n{}", self.heard.text());
    }

    pub(super) async fn stop(self) -> Value {
        self.context.stop.cancel();
        let ended =
            tokio::time::timeout(Duration::from_secs(120), self.task).await.expect("it stops in time");
        ended.expect("it does not panic").expect("it ends well")
    }

    /// The end that a killed process has: no goodbye to anybody.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|e| e.is_cancelled()));
    }
}

pub(super) fn read_all(dir: &Path) -> Vec<Entry> {
    let mut reader = Reader::open(dir, 1).expect("a spool");
    let mut all = Vec::new();
    loop {
        let entries = reader.next(1000).expect("entries");
        if entries.is_empty() {
            return all;
        }
        all.extend(entries);
    }
}

fn id(record: &Stored) -> String {
    String::from_utf8(record.record.header("openbell.id").expect("an id").to_vec()).expect("text")
}

/// A frame of one trade of one share.
pub(super) fn frame(symbol: &str, n: i64) -> String {
    let mut fields = vec![String::new(); 47];
    for (at, text) in [(0, symbol), (1, "093000"), (2, "70000"), (12, "1"), (33, "20261120")] {
        fields[at] = text.to_owned();
    }
    (fields[13], fields[14]) = (n.to_string(), (n * 70_000).to_string());
    encode("H0STCNT0", &[fields])
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_and_broken_frames_reach_every_store() {
    let bench = Bench::new().await;
    let collector = bench.start().await;
    bench.exchange.text(RECORDED);
    let broken = b"0|H0STCNT0|001|005930^\xff\xfe".to_vec();
    bench.exchange.send(Ws::Frame(WsFrame::message(broken.clone(), OpCode::Data(Data::Text), true)));
    bench.exchange.text("0|H0STCNT0|001|too^short");
    bench.exchange.send(Ws::binary(frame("000660", 1).into_bytes()));
    bench.has_records(4).await;
    bench.stores.wait_until("the dead letters are there", |s| s.records("kis.trades.dlq").len() == 2).await;
    let result = collector.stop().await;

    let records = bench.stores.records("kis.trades");
    let trades: BTreeMap<String, Trade> =
        records.iter().map(|r| (id(r), serde_json::from_slice(&r.record.value).expect("a trade"))).collect();
    let last = &trades["kis:2025-07-30:005930:8305293"];
    assert_eq!(
        (last.quantity, last.accumulated_value, last.trade_time.as_str()),
        (75.into(), Some(595_409_543_150), "2025-07-30T09:47:51+09:00")
    );
    assert_eq!(last.fields["SHNU_CNTG_CSNU"], "28171");
    assert_eq!(trades.len(), 4);
    let raw = bench
        .stores
        .backends()
        .raw
        .get("kis.trades", "kis:2025-07-30:005930:8305293")
        .await
        .expect("raw")
        .expect("there");
    assert_eq!(serde_json::from_slice::<Trade>(&raw.body).expect("a trade"), *last);
    assert!(
        records.iter().all(|r| r.record.key.as_deref().is_some_and(|k| k == b"005930" || k == b"000660"))
    );

    let letters = bench.stores.records("kis.trades.dlq");
    let header = |at: usize, name: &str| {
        letters[at].record.header(&format!("__connect.errors.{name}")).map(String::from_utf8_lossy)
    };
    assert_eq!(letters[0].record.value, broken);
    assert_eq!(header(0, "exception.class.name").as_deref(), Some("bad_utf8"));
    assert_eq!(header(1, "exception.class.name").as_deref(), Some("wrong_width"));
    assert_eq!(header(1, "connector.name").as_deref(), Some("day/collector"));
    assert_eq!(header(1, "stage").as_deref(), Some("collect"));
    assert_eq!(header(1, "topic").as_deref(), Some("kis.trades"));

    // The bad text cost no session.
    assert_eq!(bench.exchange.connections(), 1);
    let kinds: Vec<_> = bench.entries().iter().map(|e| e.kind).collect();
    use Kind::{Malformed, SessionDown, SessionUp, Trade as T};
    assert_eq!(kinds, [SessionUp, T, T, T, Malformed, Malformed, T, SessionDown]);
    for (name, value) in
        [("records", 4), ("malformed", 2), ("frames", 4), ("last_seq", 8), ("log_seq", 8), ("raw_seq", 8)]
    {
        assert_eq!(result[name], value, "{name}: {result}");
    }
    assert_eq!((result["gaps"].as_u64(), result["gap_shares"].as_i64()), (Some(1), Some(8_305_215)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_collector_goes_on_where_the_log_ends() {
    let bench = Bench::new().await;
    let collector = bench.start().await;
    for n in 1..=50 {
        bench.exchange.text(&frame("005930", n));
    }
    bench.has_records(50).await;
    // The next append happens and its reply is lost; before it can find out, the collector dies.
    bench.stores.fail("append", Fault::LostReply);
    for n in 51..=60 {
        bench.exchange.text(&frame("005930", n));
    }
    bench.stores.wait_until("the append with the lost reply", |s| s.records("kis.trades").len() > 50).await;
    collector.kill().await;
    let collector = bench.start().await;
    // The exchange sends some of them again, and more.
    for n in 41..=80 {
        bench.exchange.text(&frame("005930", n));
        bench.exchange.text(&frame("000660", n));
    }
    bench.has_records(120).await;
    let result = collector.stop().await;
    let ids = bench.ids();
    let mut unique = ids.clone();
    unique.dedup();
    assert_eq!(ids, unique, "an id is twice on the log");
    assert_eq!(ids.len(), 120);
    assert_eq!(bench.stores.raw_ids("kis.trades"), ids);
    let spooled = bench.entries().iter().filter(|e| e.kind == Kind::Trade).count();
    assert_eq!(spooled, 120, "the spool holds each trade once");
    // What the second life counts: 000660 began at 41.
    assert_eq!(result["gap_shares"], 40, "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_cursor_file_neither_loses_nor_repeats() {
    let bench = Bench::new().await;
    let collector = bench.start().await;
    for n in 1..=20 {
        bench.exchange.text(&frame("005930", n));
    }
    bench.has_records(20).await;
    collector.stop().await;
    spool::store_cursor(&bench.spool(), "log", 1).expect("stored");
    spool::store_cursor(&bench.spool(), "raw", 1).expect("stored");
    let collector = bench.start().await;
    bench.exchange.text(&frame("005930", 21));
    bench.has_records(21).await;
    collector.stop().await;
    assert_eq!(bench.ids().len(), 21);
    assert_eq!(bench.stores.raw_ids("kis.trades").len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_log_does_not_stop_the_raw_store() {
    let bench = Bench::new().await;
    for _ in 0..3 {
        bench.stores.fail("append", Fault::Before(ErrorKind::Unavailable));
        bench.stores.fail("append", Fault::LostReply);
    }
    let collector = bench.start().await;
    for n in 1..=30 {
        bench.exchange.text(&frame("005930", n));
    }
    bench.stores.wait_until("raw has all", |s| s.raw_ids("kis.trades").len() == 30).await;
    collector.wait_until("the outage is told", |r| r.heard.text().contains("log: ")).await;
    bench.has_records(30).await;
    collector.wait_until("it recovers", |r| r.heard.degraded().is_none()).await;
    collector.stop().await;
    let ids = bench.ids();
    assert_eq!(ids, bench.stores.raw_ids("kis.trades"), "each once, through lost replies");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_replaced_and_both_ends_are_noted() {
    let bench = Bench::new().await;
    let collector = bench.start().await;
    bench.exchange.text(&frame("005930", 1));
    bench.has_records(1).await;
    bench.exchange.hang_up();
    collector.wait_until("it is up again", |r| r.heard.text().contains("session 2 is up")).await;
    bench.exchange.text(&frame("005930", 5));
    bench.has_records(2).await;
    let result = collector.stop().await;
    let kinds: Vec<_> = bench.entries().iter().map(|e| e.kind).collect();
    use Kind::{SessionDown, SessionUp, Trade as T};
    assert_eq!(kinds, [SessionUp, T, SessionDown, SessionUp, T, SessionDown]);
    assert_eq!((result["reconnects"].as_u64(), result["gap_shares"].as_i64()), (Some(1), Some(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_slot_is_told_until_the_collector_was_ready_once() {
    let bench = Bench::new().await;
    bench.exchange.taken.store(true, Ordering::SeqCst);
    let before = Clock::system().now();
    let collector = bench.begin(|_| {});
    let waits = |r: &Running| r.heard.status.lock().waits.clone();
    collector.wait_until("the wait is told", |r| waits(r).is_some()).await;
    let wait = waits(&collector).expect("told");
    assert!(wait.reason.contains("OPSP8996 ALREADY IN USE appkey"), "{wait:?}");
    assert!(wait.until >= before + Duration::from_secs(60), "{wait:?}");
    assert!(!collector.heard.status.lock().ready);
    collector.stop().await;

    bench.exchange.taken.store(false, Ordering::SeqCst);
    let collector = bench.start().await;
    bench.exchange.taken.store(true, Ordering::SeqCst);
    bench.exchange.hang_up();
    collector
        .wait_until("the slot is taken", |r| r.heard.degraded().is_some_and(|d| d.contains("OPSP8996")))
        .await;
    assert_eq!(waits(&collector), None, "whoever was ready needs no more time to be");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_end_it_with_the_remedy() {
    let mut bench = Bench::new().await;
    bench.exchange =
        Exchange::start((403, r#"{"error_description":"invalid AppKey","error_code":"EGW00103"}"#)).await;
    let (context, _) = bench.context();
    let error = tokio::time::timeout(Duration::from_secs(120), super::run(&Kis, context))
        .await
        .expect("in time")
        .expect_err("refused");
    let text = error.to_string();
    assert!(text.contains("EGW00103") && text.contains("app_secret") && !text.contains("s3cret"), "{text}");
    assert_eq!(bench.exchange.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_ends_it_without_anybody() {
    let bench = Bench::new().await;
    let (mut context, _) = bench.context();
    context.spec.deadline = Some(context.clock.now() + Duration::from_millis(300));
    let result = tokio::time::timeout(Duration::from_secs(120), super::run(&Kis, context))
        .await
        .expect("in time")
        .expect("ends well");
    assert_eq!(result["malformed"], 0);
}

#[tokio::test]
async fn wrong_parameters_and_secrets_are_named_with_the_remedy() {
    let bench = Bench::new().await;
    let refused = async |change: &dyn Fn(&mut Context)| {
        let (mut context, _) = bench.context();
        change(&mut context);
        super::run(&Kis, context).await.expect_err("refused").to_string()
    };
    let with = |key: &'static str, value: Value| {
        move |c: &mut Context| drop(c.spec.step.with.insert(key.into(), value.clone()))
    };
    for (change, parts) in [
        (
            Box::new(|c: &mut Context| drop(c.spec.step.with.remove("symbols"))) as Box<dyn Fn(&mut Context)>,
            ["symbols", "missing"],
        ),
        (Box::new(with("symbols", json!([5930]))), ["symbols", "not a text"]),
        (Box::new(with("symbols", json!(["5930"]))), ["\"5930\"", "in quotes"]),
        (Box::new(with("symbols", json!("file:nowhere.txt"))), ["nowhere.txt", "DAG folder"]),
        (Box::new(with("tr_ids", json!(["H0STASP0"]))), ["H0STASP0", "H0STCNT0"]),
        (Box::new(with("limit", json!(0))), ["limit", "at least 1"]),
        (Box::new(with("pace", json!("soon"))), ["pace", "500ms"]),
        (
            Box::new(|c: &mut Context| drop(c.secrets.remove("app_secret"))),
            ["app_secret", "env:KIS_APP_SECRET"],
        ),
        (
            Box::new(|c: &mut Context| drop(c.secrets.insert("app_key".into(), Secret::new(String::new())))),
            ["app_key", "empty"],
        ),
    ] {
        let text = refused(&*change).await;
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

#[tokio::test]
async fn symbols_come_from_a_file_with_remarks() {
    let bench = Bench::new().await;
    let (mut context, _) = bench.context();
    std::fs::create_dir_all(context.dags.join("symbols")).expect("a folder");
    std::fs::write(
        context.dags.join("symbols/two.txt"),
        "# big ones\n005930  Samsung\r\n\n000660, SK # memory\n005930\n",
    )
    .expect("written");
    context.spec.step.with.insert("symbols".into(), json!("file:symbols/two.txt"));
    let plan = super::parameters::Plan::read(&Kis, &context, 1).expect("a plan");
    assert_eq!(plan.session.symbols(), ["005930", "000660"]);
    assert_eq!((plan.topic.as_str(), plan.collection.as_str()), ("kis.trades", "kis.trades"));
    assert_eq!(
        super::symbols(&Kis, &context.spec.step.with, &context.dags).expect("symbols"),
        ["005930", "000660"]
    );
}
