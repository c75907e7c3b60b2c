//! What every log must do with members that have a name.

use std::time::Duration;

use openbell::backends::ErrorKind;
use openbell::backends::log::{Committed, Consumer, Log, Partition, Polled};

use crate::log::{LONG, assigned, fill, handed_over, partition, poll_until, records};
use crate::places::Place;

crate::contract!(
    kafka;
    the_next_of_a_name_takes_over_at_once_and_the_one_before_is_told,
    members_of_different_names_share_and_a_successor_disturbs_nobody,
    whoever_leaves_or_is_dropped_frees_its_place_at_once,
    a_recreated_topic_is_another_one_under_a_name_too,
    a_text_that_is_no_name_is_refused,
);

async fn join(log: &dyn Log, name: &str) -> Box<dyn Consumer> {
    log.join("g", &["t".into()], Some(name)).await.expect("joins")
}

/// What comes to a member, by partition. On the embedded log nobody is given up for being silent while a test
/// runs, so whoever gets a place here got it at once; `killed.rs` looks how long it takes on a cluster.
pub async fn assigned_in_order(consumer: &mut dyn Consumer) -> Vec<Committed> {
    let mut all = assigned(consumer).await;
    all.sort_by(|a, b| a.partition.cmp(&b.partition));
    all
}

fn commit(number: u32, next: u64) -> Committed {
    Committed { partition: partition("t", number), next }
}

/// The first member gives up one of its two partitions to the second, which gets it.
async fn share(first: &mut dyn Consumer, second: &mut dyn Consumer) -> Partition {
    let polled = poll_until(first, |p| matches!(p, Polled::Revoked(_))).await;
    let Some(Polled::Revoked(going)) = polled.last() else { panic!("{polled:?}") };
    assert_eq!(going.len(), 1);
    let came = handed_over(first, second).await;
    assert_eq!(came.iter().map(|c| &c.partition).collect::<Vec<_>>(), going.iter().collect::<Vec<_>>());
    going[0].clone()
}

async fn the_next_of_a_name_takes_over_at_once_and_the_one_before_is_told(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 2).await.expect("creates");
    let of_first = fill(&*log, "t", 20).await.iter().filter(|(number, _)| *number == 0).count() as u64;
    let mut before = join(&*log, "n").await;
    assert_eq!(assigned(&mut *before).await.len(), 2);
    records(&mut *before, 20).await;
    before.commit(&[commit(0, 1)]).await.expect("commits");
    // It never leaves, and does not take part in anything any more.
    let mut next = join(&*log, "n").await;
    assert_eq!(assigned_in_order(&mut *next).await, [commit(0, 1), commit(1, 0)]);
    assert_eq!(before.commit(&[commit(0, 2)]).await.expect_err("replaced").kind, ErrorKind::Replaced);
    let told = async {
        loop {
            match before.poll(Duration::from_millis(50)).await {
                Ok(polled) => assert!(!matches!(polled, Polled::Assigned(_)), "{polled:?}"),
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(LONG, told).await.expect("in time");
    assert_eq!(error.kind, ErrorKind::Replaced, "{error}");
    assert_eq!(before.poll(LONG).await.expect_err("for good").kind, ErrorKind::Replaced);
    assert_eq!(before.commit(&[commit(1, 1)]).await.expect_err("replaced").kind, ErrorKind::Replaced);
    // Leaving, it does not take its successor's place along.
    before.leave().await.expect("ends");
    assert_eq!(records(&mut *next, 19).await.len(), 19);
    next.commit(&[commit(0, of_first), commit(1, 20 - of_first)]).await.expect("its own");
    assert_eq!(next.poll(Duration::from_millis(50)).await.expect("polls"), Polled::Nothing);
    assert_eq!(
        log.groups().await.expect("lists"),
        [("g".to_owned(), vec![commit(0, of_first), commit(1, 20 - of_first)])]
    );
    // And so on.
    let mut third = join(&*log, "n").await;
    assert_eq!(assigned_in_order(&mut *third).await, [commit(0, of_first), commit(1, 20 - of_first)]);
}

async fn members_of_different_names_share_and_a_successor_disturbs_nobody(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 2).await.expect("creates");
    let mut first = join(&*log, "a").await;
    assert_eq!(assigned(&mut *first).await.len(), 2);
    let mut second = join(&*log, "b").await;
    let moved = share(&mut *first, &mut *second).await;
    let mut successor = join(&*log, "b").await;
    assert_eq!(assigned_in_order(&mut *successor).await, [commit(moved.number, 0)]);
    assert_eq!(
        second.commit(&[commit(moved.number, 0)]).await.expect_err("replaced").kind,
        ErrorKind::Replaced
    );
    successor.commit(&[commit(moved.number, 0)]).await.expect("its own");
    assert_eq!(first.poll(Duration::from_millis(100)).await.expect("polls"), Polled::Nothing);
    first.commit(&[commit(1 - moved.number, 0)]).await.expect("its own");
}

async fn whoever_leaves_or_is_dropped_frees_its_place_at_once(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 2).await.expect("creates");
    let mut stays = join(&*log, "stays").await;
    assert_eq!(assigned(&mut *stays).await.len(), 2);
    for leaves in [true, false, true] {
        let mut goes = join(&*log, "goes").await;
        let moved = share(&mut *stays, &mut *goes).await;
        if leaves {
            goes.leave().await.expect("leaves");
        } else {
            drop(goes);
        }
        assert_eq!(assigned_in_order(&mut *stays).await, [commit(moved.number, 0)], "leaves: {leaves}");
    }
    stays.leave().await.expect("leaves");
    let mut other = join(&*log, "other").await;
    assert_eq!(assigned_in_order(&mut *other).await.len(), 2);
}

async fn a_recreated_topic_is_another_one_under_a_name_too(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 1).await.expect("creates");
    let mut consumer = join(&*log, "n").await;
    assert_eq!(assigned(&mut *consumer).await, [commit(0, 0)]);
    consumer.commit(&[commit(0, 0)]).await.expect("commits");
    log.delete_topic("t").await.expect("deletes");
    log.create_topic("t", 3).await.expect("creates");
    // All of its partitions, also those that the one before did not have.
    let mut came = Vec::new();
    let polled = poll_until(&mut *consumer, |polled| {
        if let Polled::Assigned(some) = polled {
            came.extend(some.iter().cloned());
        }
        came.len() >= 3
    })
    .await;
    assert!(polled.contains(&Polled::Revoked(vec![partition("t", 0)])), "{polled:?}");
    came.sort_by(|a, b| a.partition.cmp(&b.partition));
    assert_eq!(came, [commit(0, 0), commit(1, 0), commit(2, 0)]);
    fill(&*log, "t", 30).await;
    assert_eq!(records(&mut *consumer, 30).await.len(), 30);
    let mut next = join(&*log, "n").await;
    assert_eq!(assigned_in_order(&mut *next).await.len(), 3);
}

async fn a_text_that_is_no_name_is_refused(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 1).await.expect("creates");
    for bad in ["", "..", "a b", "a/b", "day@2026-11-20", &"x".repeat(250)] {
        let refused =
            log.join("g", &["t".into()], Some(bad)).await.err().unwrap_or_else(|| panic!("{bad} was taken"));
        assert_eq!(refused.kind, ErrorKind::Rejected, "{refused}");
    }
    let longest = "x".repeat(200);
    assert_eq!(assigned_in_order(&mut *join(&*log, &longest).await).await, [commit(0, 0)]);
}
