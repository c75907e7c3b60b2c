//! What every log must do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use openbell::backends::ErrorKind;
use openbell::backends::log::{Committed, Consumer, Log, Partition, Polled, Record, Stored, partition_for};

use crate::places::Place;

crate::contract!(
    kafka;
    records_come_back_in_order_per_partition,
    topics_are_created_once_and_described,
    offsets_survive_reopening_and_are_never_reused,
    a_recreated_topic_is_another_one,
    reads_out_of_range_are_refused,
    missing_topics_are_not_found,
    records_of_two_megabytes_pass,
    an_append_wakes_a_waiting_poll,
    a_group_goes_on_where_it_committed,
    two_members_share_without_loss_or_double_work,
    a_commit_after_the_loss_of_a_partition_is_fenced,
    seek_and_pause_steer_reading,
    a_dropped_poll_loses_nothing,
    appends_at_once_keep_their_order,
);

/// Only how long a failure takes.
pub const LONG: Duration = Duration::from_secs(300);

fn record(key: &str, value: impl Into<Vec<u8>>) -> Record {
    Record {
        key: Some(key.as_bytes().to_vec()),
        value: value.into(),
        headers: vec![("openbell.id".into(), b"x".to_vec()), ("n".into(), vec![]), ("n".into(), vec![0xff])],
        timestamp: Timestamp::from_nanosecond(1_795_000_000_123_456_789).expect("in range"),
    }
}

pub fn partition(topic: &str, number: u32) -> Partition {
    Partition { topic: topic.into(), number }
}

pub async fn fill(log: &dyn Log, topic: &str, count: usize) -> Vec<(u32, u64)> {
    let records = (0..count).map(|n| record(&format!("key{n}"), format!("value {n}"))).collect();
    log.append(topic, records).await.expect("appends")
}

pub async fn read_all(log: &dyn Log, partition: &Partition) -> Vec<Stored> {
    let mut all = Vec::new();
    let mut next = 0;
    loop {
        let some = log.read(partition, next, 100).await.expect("reads");
        let Some(last) = some.last() else { return all };
        next = last.offset + 1;
        all.extend(some);
    }
}

/// Polls until a condition holds, within a deadline; returns everything polled.
pub async fn poll_until(consumer: &mut dyn Consumer, mut done: impl FnMut(&Polled) -> bool) -> Vec<Polled> {
    let mut all = Vec::new();
    let polls = async {
        loop {
            let polled = consumer.poll(LONG).await.expect("polls");
            let stop = done(&polled);
            all.push(polled);
            if stop {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, polls).await.expect("in time");
    all
}

pub async fn assigned(consumer: &mut dyn Consumer) -> Vec<Committed> {
    let polled = poll_until(consumer, |p| matches!(p, Polled::Assigned(_))).await;
    match polled.into_iter().next_back() {
        Some(Polled::Assigned(partitions)) => partitions,
        other => panic!("{other:?}"),
    }
}

/// What a member that was told of a loss hands over to another one. It takes part by polling: the first poll
/// gives it up, and a cluster may want more of them before the other one gets it.
pub async fn handed_over(from: &mut dyn Consumer, to: &mut dyn Consumer) -> Vec<Committed> {
    let polls = async {
        loop {
            from.poll(Duration::from_millis(1)).await.expect("polls");
            if let Polled::Assigned(came) = to.poll(Duration::from_millis(20)).await.expect("polls") {
                return came;
            }
        }
    };
    tokio::time::timeout(LONG, polls).await.expect("in time")
}

pub async fn records(consumer: &mut dyn Consumer, count: usize) -> Vec<Stored> {
    let mut all = Vec::new();
    poll_until(consumer, |polled| {
        if let Polled::Records(some) = polled {
            all.extend(some.iter().cloned());
        }
        all.len() >= count
    })
    .await;
    all
}

async fn records_come_back_in_order_per_partition(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 3).await.expect("creates");
    let placed = fill(&*log, "t", 300).await;
    let mut expected: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (n, (number, offset)) in placed.iter().enumerate() {
        assert_eq!(*number, partition_for(Some(format!("key{n}").as_bytes()), 3));
        let of_partition = expected.entry(*number).or_default();
        assert_eq!(*offset, of_partition.len() as u64);
        of_partition.push(format!("value {n}"));
    }
    assert_eq!(expected.len(), 3);
    for (number, values) in expected {
        let read = read_all(&*log, &partition("t", number)).await;
        assert_eq!(
            read.iter().map(|s| String::from_utf8_lossy(&s.record.value).into_owned()).collect::<Vec<_>>(),
            values
        );
        assert_eq!(
            read.iter().map(|s| s.offset).collect::<Vec<_>>(),
            (0..values.len() as u64).collect::<Vec<_>>()
        );
        let first = &read[0].record;
        assert_eq!((&first.headers, first.timestamp), (&record("", "").headers, record("", "").timestamp));
        assert_eq!(first.header("n"), Some(&[0xff][..]));
    }
    let keyless = Record { key: None, ..record("", "keyless") };
    assert_eq!(log.append("t", vec![keyless.clone()]).await.expect("appends")[0].0, 0);
    assert_eq!(read_all(&*log, &partition("t", 0)).await.pop().map(|s| s.record), Some(keyless));
    assert_eq!(log.append("t", vec![]).await.expect("appends nothing"), []);
}

async fn topics_are_created_once_and_described(place: &dyn Place) {
    let log = place.log().await;
    assert!(log.create_topic("b.topic", 2).await.expect("creates"));
    assert!(!log.create_topic("b.topic", 2).await.expect("exists"));
    assert!(log.create_topic("a.topic", 1).await.expect("creates"));
    assert_eq!(log.create_topic("a.topic", 5).await.expect_err("differs").kind, ErrorKind::Rejected);
    assert_eq!(log.create_topic("c", 0).await.expect_err("none").kind, ErrorKind::Rejected);
    for bad in ["", "..", "a/b", "a b", "~x"] {
        assert_eq!(
            log.create_topic(bad, 1).await.expect_err("a bad name").kind,
            ErrorKind::Rejected,
            "{bad}"
        );
    }
    fill(&*log, "b.topic", 10).await;
    let topics = log.topics().await.expect("lists");
    assert_eq!(topics.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a.topic", "b.topic"]);
    assert_eq!(topics[1].partitions.iter().map(|r| r.end - r.start).sum::<u64>(), 10);
    assert_eq!(log.topic("b.topic").await.expect("describes").as_ref(), Some(&topics[1]));
    assert_eq!(log.topic("nope").await.expect("describes"), None);
}

async fn offsets_survive_reopening_and_are_never_reused(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 2).await.expect("creates");
    fill(&*log, "t", 50).await;
    let before = log.topic("t").await.expect("describes").expect("exists");
    let mut seen = Vec::new();
    for number in 0..2 {
        seen.push(read_all(&*log, &partition("t", number)).await);
    }
    drop(log);
    let log = place.log().await;
    assert_eq!(log.topic("t").await.expect("describes"), Some(before.clone()));
    for number in 0..2 {
        assert_eq!(read_all(&*log, &partition("t", number)).await, seen[number as usize]);
    }
    for (number, offset) in fill(&*log, "t", 50).await {
        assert!(offset >= before.partitions[number as usize].end, "{number} {offset}");
    }
}

async fn a_recreated_topic_is_another_one(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 1).await.expect("creates");
    fill(&*log, "t", 5).await;
    let mut consumer = log.join("g", &["t".into()], None).await.expect("joins");
    assigned(&mut *consumer).await;
    consumer.commit(&[Committed { partition: partition("t", 0), next: 3 }]).await.expect("commits");
    let first = log.topic("t").await.expect("describes").expect("exists");
    log.delete_topic("t").await.expect("deletes");
    log.delete_topic("t").await.expect("deletes nothing");
    assert_eq!(log.topic("t").await.expect("describes"), None);
    assert_eq!(log.append("t", vec![record("k", "v")]).await.expect_err("gone").kind, ErrorKind::NotFound);
    let late = consumer.commit(&[Committed { partition: partition("t", 0), next: 4 }]).await;
    assert_eq!(late.expect_err("gone").kind, ErrorKind::Fenced);
    log.create_topic("t", 1).await.expect("creates");
    let second = log.topic("t").await.expect("describes").expect("exists");
    assert_ne!(first.incarnation, second.incarnation);
    assert_eq!(second.partitions[0].end, 0);
    let polled = poll_until(&mut *consumer, |p| matches!(p, Polled::Assigned(_))).await;
    assert!(polled.contains(&Polled::Revoked(vec![partition("t", 0)])), "{polled:?}");
    assert_eq!(
        polled.last(),
        Some(&Polled::Assigned(vec![Committed { partition: partition("t", 0), next: 0 }]))
    );
}

async fn reads_out_of_range_are_refused(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 1).await.expect("creates");
    assert_eq!(log.read(&partition("t", 0), 0, 10).await.expect("empty"), []);
    fill(&*log, "t", 5).await;
    assert_eq!(log.read(&partition("t", 0), 5, 10).await.expect("the end"), []);
    assert_eq!(log.read(&partition("t", 0), 4, 10).await.expect("reads").len(), 1);
    let error = log.read(&partition("t", 0), 6, 10).await.expect_err("beyond");
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(error.to_string().contains("0..=5"), "{error}");
}

async fn missing_topics_are_not_found(place: &dyn Place) {
    let log = place.log().await;
    assert_eq!(log.append("t", vec![record("k", "v")]).await.expect_err("missing").kind, ErrorKind::NotFound);
    assert_eq!(log.read(&partition("t", 0), 0, 1).await.expect_err("missing").kind, ErrorKind::NotFound);
    log.create_topic("t", 1).await.expect("creates");
    assert_eq!(log.read(&partition("t", 1), 0, 1).await.expect_err("missing").kind, ErrorKind::NotFound);
    // A group may wait for a topic that somebody is about to create.
    let mut consumer = log.join("g", &["later".into()], None).await.expect("joins");
    let waiting = tokio::spawn(async move { assigned(&mut *consumer).await });
    log.create_topic("later", 1).await.expect("creates");
    assert_eq!(waiting.await.expect("no panic"), [Committed { partition: partition("later", 0), next: 0 }]);
}

async fn records_of_two_megabytes_pass(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 1).await.expect("creates");
    let large: Vec<_> = (0..6u8).map(|n| record("k", vec![n; 2 << 20])).collect();
    log.append("t", large.clone()).await.expect("appends");
    let read = read_all(&*log, &partition("t", 0)).await;
    assert!(read.iter().map(|s| &s.record).eq(&large));
    let mut consumer = log.join("g", &["t".into()], None).await.expect("joins");
    assert!(records(&mut *consumer, 6).await.iter().map(|s| &s.record).eq(&large));
    let error = log
        .append("t", vec![record("k", "fits"), record("k", vec![0; 17 << 20])])
        .await
        .expect_err("too large");
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert_eq!(log.topic("t").await.expect("describes").expect("exists").partitions[0].end, 6);
}

async fn an_append_wakes_a_waiting_poll(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 1).await.expect("creates");
    let mut consumer = log.join("g", &["t".into()], None).await.expect("joins");
    assigned(&mut *consumer).await;
    assert_eq!(consumer.poll(Duration::from_millis(1)).await.expect("polls"), Polled::Nothing);
    let waiting = tokio::spawn(async move { consumer.poll(Duration::from_secs(3600)).await });
    fill(&*log, "t", 1).await;
    let polled = tokio::time::timeout(LONG, waiting).await.expect("woken").expect("no panic").expect("polls");
    assert!(matches!(polled, Polled::Records(some) if some.len() == 1));
}

async fn a_group_goes_on_where_it_committed(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 1).await.expect("creates");
    fill(&*log, "t", 10).await;
    let mut consumer = log.join("g", &["t".into()], None).await.expect("joins");
    assert_eq!(records(&mut *consumer, 10).await.len(), 10);
    let commit = |next| vec![Committed { partition: partition("t", 0), next }];
    consumer.commit(&commit(4)).await.expect("commits");
    assert_eq!(consumer.commit(&commit(11)).await.expect_err("beyond the end").kind, ErrorKind::Rejected);
    consumer.commit(&commit(7)).await.expect("commits");
    consumer.leave().await.expect("leaves");
    assert_eq!(log.groups().await.expect("lists"), [("g".to_owned(), commit(7))]);
    drop(log);
    let log = place.log().await;
    assert_eq!(log.groups().await.expect("lists"), [("g".to_owned(), commit(7))]);
    let mut consumer = log.join("g", &["t".into()], None).await.expect("joins");
    assert_eq!(assigned(&mut *consumer).await, commit(7));
    assert_eq!(records(&mut *consumer, 3).await.iter().map(|s| s.offset).collect::<Vec<_>>(), [7, 8, 9]);
    let mut other = log.join("other", &["t".into()], None).await.expect("joins");
    assert_eq!(assigned(&mut *other).await, commit(0));
}

/// A member that commits after every batch, until everything is committed; returns what it committed.
async fn work(
    mut consumer: Box<dyn Consumer>,
    log: Arc<dyn Log>,
    total: u64,
    until: impl Fn(usize) -> bool,
) -> Vec<(Partition, u64)> {
    let mut committed = Vec::new();
    loop {
        if until(committed.len()) {
            consumer.leave().await.expect("leaves");
            return committed;
        }
        match consumer.poll(Duration::from_millis(20)).await.expect("polls") {
            Polled::Records(some) => {
                let mut next: BTreeMap<Partition, u64> = BTreeMap::new();
                for stored in &some {
                    next.insert(stored.partition.clone(), stored.offset + 1);
                }
                let offsets: Vec<_> =
                    next.into_iter().map(|(partition, next)| Committed { partition, next }).collect();
                match consumer.commit(&offsets).await {
                    Ok(()) => committed.extend(some.into_iter().map(|s| (s.partition, s.offset))),
                    Err(error) => assert_eq!(error.kind, ErrorKind::Fenced),
                }
            }
            Polled::Nothing => {
                let groups = log.groups().await.expect("lists");
                let done: u64 = groups.iter().flat_map(|(_, c)| c).map(|c| c.next).sum();
                if done == total {
                    return committed;
                }
            }
            Polled::Assigned(_) | Polled::Revoked(_) => {}
        }
    }
}

async fn two_members_share_without_loss_or_double_work(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 3).await.expect("creates");
    const TOTAL: u64 = 3000;
    let writer = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            for _ in 0..TOTAL / 50 {
                fill(&*log, "t", 50).await;
            }
        }
    });
    let topics = ["t".to_owned()];
    let join = || log.join("g", &topics, None);
    let first = tokio::spawn(work(join().await.expect("joins"), Arc::clone(&log), TOTAL, |_| false));
    // The second comes while the first works, the third comes and goes.
    let second = tokio::spawn(work(join().await.expect("joins"), Arc::clone(&log), TOTAL, |_| false));
    let third = tokio::spawn(work(join().await.expect("joins"), Arc::clone(&log), TOTAL, |done| done > 50));
    let all = async {
        writer.await.expect("no panic");
        let mut all = first.await.expect("no panic");
        all.extend(second.await.expect("no panic"));
        all.extend(third.await.expect("no panic"));
        all
    };
    let all = tokio::time::timeout(3 * LONG, all).await.expect("in time");
    assert_eq!(all.len() as u64, TOTAL, "something was committed twice, or never");
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len() as u64, TOTAL);
}

async fn a_commit_after_the_loss_of_a_partition_is_fenced(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 2).await.expect("creates");
    fill(&*log, "t", 20).await;
    let mut first = log.join("g", &["t".into()], None).await.expect("joins");
    assert_eq!(assigned(&mut *first).await.len(), 2);
    let mut second = log.join("g", &["t".into()], None).await.expect("joins");
    let polled = poll_until(&mut *first, |p| matches!(p, Polled::Revoked(_))).await;
    let Some(Polled::Revoked(going)) = polled.last() else { panic!("{polled:?}") };
    assert_eq!(going.len(), 1);
    let (gone, kept) = (going[0].clone(), partition("t", 1 - going[0].number));
    // Told, but not given up yet: what was begun may be finished, and nobody else has it.
    first.commit(&[Committed { partition: gone.clone(), next: 2 }]).await.expect("still its own");
    assert_eq!(second.poll(Duration::from_millis(1)).await.expect("polls"), Polled::Nothing);
    // The next poll gives it up.
    assert_eq!(
        handed_over(&mut *first, &mut *second).await,
        [Committed { partition: gone.clone(), next: 2 }]
    );
    let both =
        [Committed { partition: kept.clone(), next: 1 }, Committed { partition: gone.clone(), next: 3 }];
    assert_eq!(first.commit(&both).await.expect_err("not its own").kind, ErrorKind::Fenced);
    let committed = log.groups().await.expect("lists");
    assert_eq!(
        committed,
        [("g".to_owned(), vec![Committed { partition: gone.clone(), next: 2 }])],
        "nothing of a fenced commit is kept"
    );
    assert_eq!(first.seek(&gone, 0).await.expect_err("not its own").kind, ErrorKind::Fenced);
    first.commit(&both[..1]).await.expect("its own");
    second.leave().await.expect("leaves");
    assert_eq!(assigned(&mut *first).await, [Committed { partition: gone, next: 2 }]);
}

async fn seek_and_pause_steer_reading(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 2).await.expect("creates");
    let placed = fill(&*log, "t", 40).await;
    let of_first = placed.iter().filter(|(number, _)| *number == 0).count();
    let mut consumer = log.join("g", &["t".into()], None).await.expect("joins");
    assigned(&mut *consumer).await;
    consumer.pause(&partition("t", 1), true).await.expect("pauses");
    let read = records(&mut *consumer, of_first).await;
    assert!(read.len() == of_first && read.iter().all(|s| s.partition.number == 0));
    assert_eq!(consumer.poll(Duration::from_millis(1)).await.expect("polls"), Polled::Nothing);
    consumer.seek(&partition("t", 0), of_first as u64 - 2).await.expect("seeks");
    assert_eq!(records(&mut *consumer, 2).await[0].offset, of_first as u64 - 2);
    assert_eq!(consumer.seek(&partition("t", 0), 1000).await.expect_err("beyond").kind, ErrorKind::Rejected);
    consumer.pause(&partition("t", 1), false).await.expect("resumes");
    let read = records(&mut *consumer, 40 - of_first).await;
    assert_eq!(
        read.iter().map(|s| s.offset).collect::<Vec<_>>(),
        (0..40 - of_first as u64).collect::<Vec<_>>()
    );
}

async fn a_dropped_poll_loses_nothing(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 2).await.expect("creates");
    let mut consumer = log.join("g", &["t".into()], None).await.expect("joins");
    let mut seen = BTreeSet::new();
    let mut owned = BTreeSet::new();
    const TOTAL: usize = 400;
    let work = async {
        for round in 0.. {
            if round < 20 {
                fill(&*log, "t", TOTAL / 20).await;
            }
            // Now and then the poll is dropped as soon as it has to wait for anything.
            let polled = tokio::select! {
                biased;
                polled = consumer.poll(Duration::from_millis(50)) => Some(polled.expect("polls")),
                () = tokio::task::yield_now(), if round % 3 != 0 => None,
            };
            match polled {
                Some(Polled::Records(some)) => {
                    for stored in some {
                        assert!(seen.insert((stored.partition.clone(), stored.offset)), "twice");
                        let next = Committed { partition: stored.partition, next: stored.offset + 1 };
                        consumer.commit(&[next]).await.expect("commits");
                    }
                }
                Some(Polled::Assigned(new)) => owned.extend(new.into_iter().map(|c| c.partition)),
                _ => {}
            }
            if seen.len() == TOTAL {
                return;
            }
        }
    };
    tokio::time::timeout(2 * LONG, work).await.expect("in time");
    assert_eq!(owned.len(), 2);
}

async fn appends_at_once_keep_their_order(place: &dyn Place) {
    let log = place.log().await;
    log.create_topic("t", 2).await.expect("creates");
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                for call in 0..20 {
                    let records = (0..5)
                        .map(|n| record(&format!("k{n}"), format!("{writer}:{:03}", call * 5 + n)))
                        .collect();
                    log.append("t", records).await.expect("appends");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    let mut total = 0;
    for number in 0..2 {
        let read = read_all(&*log, &partition("t", number)).await;
        total += read.len();
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        for stored in read {
            let text = String::from_utf8(stored.record.value).expect("text");
            let (writer, count) = text.split_once(':').expect("a pair");
            let before = last.insert(writer.to_owned(), count.to_owned());
            assert!(before.is_none_or(|b| b.as_str() < count), "{text}");
        }
    }
    assert_eq!(total, 800);
}
