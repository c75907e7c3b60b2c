//! The collector at the close, when a store does not take what is spooled. The clock stands still until the
//! test moves it.

use std::time::Duration;

use serde_json::Value;

use super::{Bench, Running, frame};
use crate::StepError;
use crate::testing::fakes::Fault;
use crate::testing::fixtures::at;
use backends::ErrorKind;
use clock::Clock;
use executor::folder::{StopOrder, write_stop};

/// Lets the clock run, a step each few milliseconds, until something is done.
async fn running<T>(clock: &Clock, step: Duration, done: impl Future<Output = T>) -> T {
    let moving = async {
        loop {
            clock.advance(step);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! { done = done => done, () = moving => unreachable!("it moves for ever") }
}

/// Twenty trades are in the spool and on the log, and the raw store takes none; the collector, which has this
/// drain time, is asked to stop.
async fn stopped_with_raw_down(bench: &Bench, clock: &Clock, drain: Duration) -> Running {
    (0..100_000).for_each(|_| bench.stores.fail("insert", Fault::Before(ErrorKind::Unavailable)));
    let collector = bench.begin(|context| {
        context.clock = clock.clone();
        context.spec.step.drain = Some(drain);
    });
    running(clock, Duration::from_millis(1), collector.until_ready()).await;
    for n in 1..=20 {
        bench.exchange.text(&frame("005930", n));
    }
    bench.stores.wait_until("the trades are on the log", |s| s.records("kis.trades").len() == 20).await;
    collector.wait_until("raw is in trouble", |r| r.heard.text().contains("raw: ")).await;
    let (asked_at, spec) = (clock.now(), &collector.context.spec);
    std::fs::create_dir_all(&spec.folder).expect("a folder");
    let order = StopOrder { asked_at, kill_at: asked_at + spec.step.stop_time() };
    write_stop(&spec.folder, &order).expect("written");
    collector.context.stop.cancel();
    collector
        .wait_until("the socket is closed at once", |r| r.heard.text().contains("session 1 is down: stopped"))
        .await;
    collector
}

async fn end(
    ended: impl Future<Output = Result<Result<Value, StepError>, tokio::task::JoinError>>,
) -> Result<Value, StepError> {
    tokio::time::timeout(Duration::from_secs(120), ended).await.expect("it ends in time").expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_comes_back_within_the_drain_time_gets_everything() {
    let bench = Bench::new().await;
    let clock = Clock::manual(at("16:00:00"));
    // So long that it is not over while a busy machine gets round to what the store takes again.
    let collector = stopped_with_raw_down(&bench, &clock, Duration::from_secs(36_000)).await;
    // Longer than the grace alone, and less than the drain time.
    let much_later = clock.now() + Duration::from_secs(60);
    running(&clock, Duration::from_secs(1), clock.sleep_until(much_later)).await;
    assert!(!collector.task.is_finished(), "{}", collector.heard.text());
    bench.stores.mend("insert");
    let result = end(running(&clock, Duration::from_secs(1), collector.task)).await.expect("it ends well");
    assert_eq!(bench.stores.raw_ids("kis.trades").len(), 20);
    assert_eq!((&result["raw_seq"], &result["raw_unforwarded"]), (&result["last_seq"], &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_when_the_drain_time_is_over_fails_the_step_and_waits_for_the_next_start() {
    let bench = Bench::new().await;
    let clock = Clock::manual(at("16:00:00"));
    let drain = Duration::from_secs(300);
    let collector = stopped_with_raw_down(&bench, &clock, drain).await;
    // Its time is over. From here on the clock all but stands still: what is asserted of it below needs a
    // minute of this machine's.
    clock.advance(collector.context.spec.step.stop_time());
    let error =
        end(running(&clock, Duration::from_millis(10), collector.task)).await.expect_err("something is left");
    let text = error.to_string();
    for part in [
        "nothing is lost, the next start forwards the rest",
        "raw: 20 records from entry",
        "a fault of the test",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let result = error.result();
    assert_eq!((&result["raw_unforwarded"], &result["log_unforwarded"]), (&Value::from(20), &Value::Null));
    assert!(result["error"].as_str().is_some_and(|e| e == text), "{result}");
    assert!(clock.now() < at("16:10:00"), "it gave up by its time: {}", clock.now());

    bench.stores.mend("insert");
    // The next attempt has a folder of its own, without an order in it.
    std::fs::remove_dir_all(&collector.context.spec.folder).expect("removed");
    let again = bench.start().await;
    bench.has_records(20).await;
    again.stop().await;
    assert_eq!(bench.ids().len(), 20);
}
