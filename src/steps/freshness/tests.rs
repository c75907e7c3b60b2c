//! The check on stores that lag, stand still, refuse and are silent.

use super::*;
use crate::testing::fakes::{Fault, Stores};
use crate::testing::fixtures::{at, context, hops, record, spool, trade};
use crate::{run, spool_tail};
use backends::spool::Kind;
use clock::Clock;
use domain::freshness::Life;
use executor::AttemptSpec;
use std::sync::Arc;

struct Day {
    stores: Arc<Stores>,
    folder: tempfile::TempDir,
    clock: Clock,
}

impl Day {
    async fn new() -> Self {
        let stores = Arc::new(Stores::default());
        stores.backends().log.create_topic("kis.trades", 3).await.expect("created");
        Self { stores, folder: tempfile::tempdir().expect("a folder"), clock: Clock::manual(at("09:00:00")) }
    }
    fn until(&self, time: &str) {
        self.clock.advance(at(time).duration_since(self.clock.now()).unsigned_abs());
    }
    /// Trades `from..=to` (one a second from 09:00) reach the spool and the first `hops` of log, raw, index
    /// and objects.
    async fn arrive(&self, from: i64, to: i64, hops: usize) {
        let trades: Vec<_> = (from..=to).map(|n| trade("005930", n)).collect();
        spool(self.folder.path(), &trades);
        let backends = self.stores.backends();
        if hops > 0 {
            backends.log.append("kis.trades", trades.iter().map(record).collect()).await.expect("appended");
        }
        for (program, name) in
            [("sink/raw", "sink-raw"), ("sink/index", "sink-index"), ("sink/objects", "sink-objects")]
                .into_iter()
                .take(hops.saturating_sub(1))
        {
            let (context, _) =
                context(name, json!({}), backends.clone(), Clock::manual(at("09:00:00")), self.folder.path());
            context.stop.cancel();
            run(program, context).await.expect("drained");
        }
    }
    async fn look(&self) -> Value {
        self.look_at(|_| {}).await
    }
    /// Looks with an attempt that was told something else.
    async fn look_at(&self, change: impl FnOnce(&mut AttemptSpec)) -> Value {
        let (mut context, _) =
            context("freshness", json!({}), self.stores.backends(), self.clock.clone(), self.folder.path());
        change(&mut context.spec);
        run("freshness", context).await.expect("a finding")
    }
    /// A step takes what is on the log, and ends.
    async fn take(&self, name: &str, program: &str, with: Value) {
        let (context, _) =
            context(name, with, self.stores.backends(), Clock::manual(at("09:00:00")), self.folder.path());
        context.stop.cancel();
        run(program, context).await.expect("drained");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_is_fresh_then_stalls_then_recovers() {
    let day = Day::new().await;
    day.until("09:00:30");
    assert_eq!(day.look().await["stalled"], false, "nothing is expected yet");
    day.arrive(1, 60, 4).await;
    day.until("09:01:10");
    let finding = day.look().await;
    assert_eq!(finding["stalled"], false, "{finding}");
    assert_eq!(
        finding["hops"]
            .as_array()
            .expect("hops")
            .iter()
            .map(|h| h["hop"].as_str().expect("a name"))
            .collect::<Vec<_>>(),
        ["feed", "log", "raw", "index", "objects"]
    );
    assert!(
        finding["hops"].as_array().expect("hops").iter().all(|h| h["newest"] == "2026-11-20T09:01:00+09:00"),
        "{finding}"
    );
    day.until("09:07:00");
    let finding = day.look().await;
    assert_eq!(
        (&finding["stalled"], &finding["hop"], &finding["since"]),
        (&json!(true), &json!("feed"), &json!("2026-11-20T09:01:00+09:00"))
    );
    assert_eq!(finding["summary"], "feed: no trade for 6m00s (last at 09:01:00)");
    let silent = json!({"code": "no_trade", "seconds": 360});
    assert_eq!(
        finding["finding"],
        json!({"code": "stalled", "hop": "feed", "what": silent, "last": "09:01:00"})
    );
    assert_eq!(
        (&finding["hops"][0]["finding"], &finding["hops"][0]["detail"]),
        (&silent, &json!("no trade for 6m00s"))
    );
    assert_eq!(
        finding["hops"].as_array().expect("hops").iter().filter(|h| h["stale"] == true).count(),
        1,
        "{finding}"
    );
    day.arrive(420, 421, 4).await;
    day.until("09:07:05");
    assert_eq!(day.look().await["stalled"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_closing_auction_is_that_of_the_feed() {
    let day = Day::new().await;
    // The last trade is of 15:19, and nothing comes any more.
    day.arrive(22_700, 22_740, 4).await;
    day.until("15:28:00");
    let sinks = [("sink-index", "sink/index", json!({})), ("sink-objects", "sink/objects", json!({}))];
    for (program, code) in [("collect/kis", "closing_auction"), ("collect/upbit", "no_trade")] {
        let steps = [vec![("collector", program, json!({"topic": "kis.trades"}))], sinks.to_vec()].concat();
        let finding = day.look_at(|spec| spec.hops = hops(&steps)).await;
        let (found, stalled) = (&finding["hops"][0]["finding"]["code"], &finding["stalled"]);
        assert_eq!((found, stalled), (&json!(code), &json!(program == "collect/upbit")), "{finding}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_stands_still_is_named() {
    let day = Day::new().await;
    day.arrive(1, 60, 4).await;
    day.arrive(61, 400, 2).await;
    day.until("09:06:45");
    let finding = day.look().await;
    assert_eq!(
        (&finding["hop"], &finding["since"]),
        (&json!("index"), &json!("2026-11-20T09:01:01+09:00")),
        "{finding}"
    );
    let lags = |f: &Value| {
        f["hops"]
            .as_array()
            .expect("hops")
            .iter()
            .map(|h| h["lag_seconds"].as_i64().expect("a number"))
            .collect::<Vec<_>>()
    };
    assert_eq!(lags(&finding), [0, 0, 0, 344, 344]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_compared_with_the_spool() {
    let day = Day::new().await;
    day.arrive(1, 60, 4).await;
    day.arrive(61, 400, 0).await;
    day.until("09:06:45");
    let finding = day.look().await;
    assert_eq!(
        (&finding["hop"], &finding["since"]),
        (&json!("log"), &json!("2026-11-20T09:01:01+09:00")),
        "{finding}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_answer_is_unreachable() {
    let day = Day::new().await;
    day.arrive(1, 60, 4).await;
    day.until("09:01:10");
    (0..3).for_each(|_| day.stores.fail("latest document", Fault::Before(ErrorKind::Unavailable)));
    let finding = day.look().await;
    assert_eq!(
        (&finding["stalled"], &finding["hop"], &finding["since"]),
        (&json!(true), &json!("raw"), &Value::Null)
    );
    assert_eq!(finding["hops"][2]["state"], "unreachable");
    assert!(
        finding["hops"].as_array().expect("hops").iter().filter(|h| h["state"] == "unreachable").count() == 1,
        "{finding}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_or_two_lost_answers_wake_nobody() {
    let day = Day::new().await;
    day.arrive(1, 60, 4).await;
    day.until("09:01:10");
    day.stores.fail("latest document", Fault::Before(ErrorKind::Unavailable));
    day.stores.fail("latest document", Fault::LostReply);
    day.stores.fail("latest", Fault::LostReply);
    day.stores.fail("head", Fault::Before(ErrorKind::Unavailable));
    let finding = day.look().await;
    assert_eq!(finding["stalled"], false, "{finding}");
    assert!(finding["hops"].as_array().expect("hops").iter().all(|h| h["state"] == "fresh"), "{finding}");
}

#[test]
fn a_look_ends_well_within_the_timeout_of_its_check() {
    let one = ANSWER_WITHIN.iter().chain(&PAUSES).sum::<Duration>();
    assert!(
        one < LOOK_WITHIN,
        "dead stores, asked side by side, are told apart from a check that ran out of time"
    );
    assert_eq!(
        time_out(Some(Duration::from_secs(600)), at("09:00:00")),
        at("09:05:00"),
        "and has the other half to say so"
    );
    assert_eq!(time_out(None, at("09:00:00")), Timestamp::MAX);
}

#[test]
fn a_spool_is_read_on_from_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let trades: Vec<_> = (1..=300).map(|n| trade("005930", n)).collect();
    spool(folder.path(), &trades[..200]);
    let (dir, zone) =
        (spool_tail::folder(folder.path(), "day", "collector"), TimeZone::get("Asia/Seoul").expect("a zone"));
    let date = "2026-11-20".parse().expect("a date");
    let first = Tail::read(&dir, date, &zone, None).expect("read").expect("a spool");
    spool(folder.path(), &trades[200..]);
    let second = Tail::read(&dir, date, &zone, Some(first)).expect("read");
    assert_eq!(second, Tail::read(&dir, date, &zone, None).expect("read"), "reading on equals reading all");
    let second = second.expect("a spool");
    for n in [0, 1, 59, 60, 150, 299] {
        assert_eq!(
            second.first_after(&dir, Some(at("09:00:00") + SignedDuration::from_secs(n))).expect("read"),
            Some(at("09:00:01") + SignedDuration::from_secs(n))
        );
    }
    assert_eq!(second.first_after(&dir, Some(at("09:05:00"))).expect("read"), None);
    let mut kinds = Vec::new();
    spool_tail::for_each(&dir, 299, |e| {
        kinds.push(e.kind);
        true
    })
    .expect("read");
    assert_eq!(kinds, [Kind::Trade, Kind::Trade]);
}

fn states(finding: &Value) -> Vec<(String, String)> {
    let word = |hop: &Value, key: &str| hop[key].as_str().expect("a word").to_owned();
    finding["hops"]
        .as_array()
        .expect("hops")
        .iter()
        .map(|hop| (word(hop, "hop"), word(hop, "state")))
        .collect()
}

fn stale(finding: &Value) -> Vec<String> {
    states(finding).into_iter().filter(|(_, state)| state == "stale").map(|(hop, _)| hop).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_step_is_taken_for_a_sink_by_its_name() {
    for (sink, average) in [("sink-index", "vwap-index"), ("search", "index"), ("vwap", "sink-index")] {
        let day = Day::new().await;
        day.arrive(1, 400, 2).await;
        // The averages are up to date and the sink has taken nothing.
        day.take(average, "vwap", json!({})).await;
        day.until("09:06:45");
        let steps = [
            ("collector", "collect/kis", json!({})),
            (sink, "sink/index", json!({})),
            (average, "vwap", json!({})),
        ];
        let finding = day.look_at(|spec| spec.hops = hops(&steps)).await;
        assert_eq!(
            (&finding["hop"], &finding["since"]),
            (&json!("index"), &json!("2026-11-20T09:00:01+09:00")),
            "{sink}: {finding}"
        );
        day.take(sink, "sink/index", json!({})).await;
        let finding = day.look_at(|spec| spec.hops = hops(&steps)).await;
        assert_eq!(stale(&finding), [] as [&str; 0], "{sink}: {finding}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sink_is_a_hop_and_what_there_is_not_is_none() {
    let day = Day::new().await;
    day.arrive(1, 400, 2).await;
    day.until("09:06:45");
    let collector = ("collector", "collect/kis", json!({}));
    let finding = day.look_at(|spec| spec.hops = hops(std::slice::from_ref(&collector))).await;
    assert_eq!(
        (&finding["stalled"], states(&finding).len()),
        (&json!(false), 3),
        "a day without sinks is whole without one: {finding}"
    );
    // Two sinks write the same index: what the one stored says nothing about the other.
    let (one, two) =
        (("one", "sink/index", json!({})), ("two", "sink/index", json!({"group": "of-its-own"})));
    let steps = [collector, one, two];
    day.take("one", "sink/index", json!({})).await;
    let finding = day.look_at(|spec| spec.hops = hops(&steps)).await;
    assert_eq!(stale(&finding), ["two"], "{finding}");
    day.take("two", "sink/index", json!({"group": "of-its-own"})).await;
    let finding = day.look_at(|spec| spec.hops = hops(&steps)).await;
    assert_eq!((&finding["stalled"], states(&finding).len()), (&json!(false), 5), "{finding}");
    // A sink of another topic is judged by that topic.
    day.stores.backends().log.create_topic("other", 1).await.expect("created");
    let steps = [("sink", "sink/index", json!({"topic": "other"}))];
    let look = || day.look_at(|spec| spec.hops = hops(&steps));
    assert_eq!(states(&look().await), [("index".to_owned(), "fresh".to_owned())]);
    day.stores.backends().log.append("other", vec![record(&trade("005930", 1))]).await.expect("appended");
    assert_eq!(stale(&look().await), ["index"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_join_is_not_stalled_by_what_came_before() {
    let day = Day::new().await;
    // Trades of the morning, received before the daemon went down; a sink had not taken all of them.
    day.arrive(1, 60, 4).await;
    day.arrive(61, 120, 2).await;
    day.until("10:00:02");
    let lives = |up: &str, before: Option<&str>, began: &str| {
        let life = Life { began: at(began), before: before.map(at), up: Some(at(up)) };
        move |spec: &mut AttemptSpec| spec.hops.iter_mut().for_each(|(_, l)| *l = life)
    };
    let finding = day.look_at(lives("10:00:01", None, "10:00:00")).await;
    assert_eq!((&finding["stalled"], finding.get("settling")), (&json!(false), None), "{finding}");
    assert_eq!(finding["hops"][0]["detail"], "collection has just begun");
    // The same after a restart inside the run: nobody can say yet, and soon somebody can.
    let restarted = || lives("10:00:01", Some("08:50:00"), "08:50:00");
    let finding = day.look_at(restarted()).await;
    assert_eq!((&finding["stalled"], &finding["settling"]), (&json!(false), &json!(true)), "{finding}");
    assert_eq!(finding["summary"], "feed: no trade for 58m02s, and collector was started only just now");
    day.until("10:01:01");
    let finding = day.look_at(restarted()).await;
    assert_eq!(
        (&finding["stalled"], stale(&finding)),
        (&json!(true), vec!["feed".to_owned(), "index".into(), "objects".into()]),
        "{finding}"
    );
    day.until("10:05:01");
    let finding = day.look_at(lives("10:00:01", None, "10:00:00")).await;
    assert_eq!(finding["hops"][0]["detail"], "no trade since collection began 5m01s ago", "{finding}");
    let (context, _) =
        context("freshness", json!({}), day.stores.backends(), day.clock.clone(), day.folder.path());
    let spec = AttemptSpec { hops: Vec::new(), ..context.spec.clone() };
    let error = run("freshness", Context { spec, ..context }).await.expect_err("nothing to look at");
    assert!(error.to_string().contains("there is nothing to look at"), "{error}");
}
