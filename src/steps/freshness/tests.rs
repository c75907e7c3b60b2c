//! The check on stores that lag, stand still, refuse and are silent.

use super::*;
use backends::spool::Kind;
use clock::Clock;
use crate::testing::fixtures::{at, context, record, spool, trade};
use crate::run;
use crate::testing::fakes::{Fault, Stores};
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
    /// Trades `from..=to` (one a second from 09:00) reach the spool and the first `hops` of log, raw, index and objects.
    async fn arrive(&self, from: i64, to: i64, hops: usize) {
        let trades: Vec<_> = (from..=to).map(|n| trade("005930", n)).collect();
        spool(self.folder.path(), &trades);
        let backends = self.stores.backends();
        if hops > 0 {
            backends.log.append("kis.trades", trades.iter().map(record).collect()).await.expect("appended");
        }
        for (program, name) in [("sink/raw", "sink-raw"), ("sink/index", "sink-index"), ("sink/objects", "sink-objects")]
            .into_iter()
            .take(hops.saturating_sub(1))
        {
            let (context, _) = context(name, json!({}), backends.clone(), Clock::manual(at("09:00:00")), self.folder.path());
            context.stop.cancel();
            run(program, context).await.expect("drained");
        }
    }
    async fn look(&self) -> Value {
        let (context, _) = context("freshness", json!({}), self.stores.backends(), self.clock.clone(), self.folder.path());
        run("freshness", context).await.expect("a finding")
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
        finding["hops"].as_array().expect("hops").iter().map(|h| h["hop"].as_str().expect("a name")).collect::<Vec<_>>(),
        ["feed", "log", "raw", "index", "objects"]
    );
    assert!(finding["hops"].as_array().expect("hops").iter().all(|h| h["newest"] == "2026-11-20T09:01:00+09:00"), "{finding}");
    day.until("09:07:00");
    let finding = day.look().await;
    assert_eq!(
        (&finding["stalled"], &finding["hop"], &finding["since"]),
        (&json!(true), &json!("feed"), &json!("2026-11-20T09:01:00+09:00"))
    );
    assert_eq!(finding["summary"], "feed: no trade for 6m00s (last at 09:01:00)");
    assert_eq!(finding["hops"].as_array().expect("hops").iter().filter(|h| h["stale"] == true).count(), 1, "{finding}");
    day.arrive(420, 421, 4).await;
    day.until("09:07:05");
    assert_eq!(day.look().await["stalled"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_stands_still_is_named() {
    let day = Day::new().await;
    day.arrive(1, 60, 4).await;
    day.arrive(61, 400, 2).await;
    day.until("09:06:45");
    let finding = day.look().await;
    assert_eq!((&finding["hop"], &finding["since"]), (&json!("index"), &json!("2026-11-20T09:01:01+09:00")), "{finding}");
    let lags = |f: &Value| {
        f["hops"].as_array().expect("hops").iter().map(|h| h["lag_seconds"].as_i64().expect("a number")).collect::<Vec<_>>()
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
    assert_eq!((&finding["hop"], &finding["since"]), (&json!("log"), &json!("2026-11-20T09:01:01+09:00")), "{finding}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_answer_is_unreachable() {
    let day = Day::new().await;
    day.arrive(1, 60, 4).await;
    day.until("09:01:10");
    (0..3).for_each(|_| day.stores.fail("latest document", Fault::Before(ErrorKind::Unavailable)));
    let finding = day.look().await;
    assert_eq!((&finding["stalled"], &finding["hop"], &finding["since"]), (&json!(true), &json!("raw"), &Value::Null));
    assert_eq!(finding["hops"][2]["state"], "unreachable");
    assert!(finding["hops"].as_array().expect("hops").iter().filter(|h| h["state"] == "unreachable").count() == 1, "{finding}");
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
    assert!(one < LOOK_WITHIN, "dead stores, asked side by side, are told apart from a check that ran out of time");
    assert_eq!(time_out(Some(Duration::from_secs(600)), at("09:00:00")), at("09:05:00"), "and has the other half to say so");
    assert_eq!(time_out(None, at("09:00:00")), Timestamp::MAX);
}

#[test]
fn a_spool_is_read_on_from_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let trades: Vec<_> = (1..=300).map(|n| trade("005930", n)).collect();
    spool(folder.path(), &trades[..200]);
    let (dir, zone) = (spool_tail::folder(folder.path(), "day", "collector"), TimeZone::get("Asia/Seoul").expect("a zone"));
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
