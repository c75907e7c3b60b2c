use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};

use super::*;
use crate::ErrorKind;

/// A log on the real cluster and a prefix for names there.
fn real() -> Option<(Arc<KafkaLog>, String)> {
    let Ok(address) = std::env::var("OPENBELL_KAFKA") else {
        println!("skipped: kafka (OPENBELL_KAFKA is not set; scripts/services up)");
        return None;
    };
    Some((Arc::new(at(&address)), format!("test-{:016x}", fastrand::u64(..))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_commit_does_not_reach_into_a_recreated_topic() {
    let Some((log, topic)) = real() else { return };
    log.create_topic(&topic, 1).await.expect("creates");
    log.append(&topic, (0..5).map(|n| record("k", format!("old {n}"))).collect()).await.expect("appends");
    let mut member = log.join(&topic, std::slice::from_ref(&topic), None).await.expect("joins");
    until(&mut *member, |p| matches!(p, Polled::Records(_))).await;
    member.commit(&committed(&topic, 3)).await.expect("commits");
    log.delete_topic(&topic).await.expect("deletes");
    log.create_topic(&topic, 1).await.expect("creates");
    log.append(&topic, (0..6).map(|n| record("k", format!("new {n}"))).collect())
        .await
        .expect("appends to the new one");
    if let Err(error) = member.commit(&committed(&topic, 5)).await {
        assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    }
    let groups = log.groups().await.expect("lists");
    assert!(groups.iter().all(|(group, offsets)| *group != topic || offsets.is_empty()), "{groups:?}");
    let polled = until(&mut *member, is_assigned).await;
    assert!(polled.contains(&Polled::Revoked(vec![partition(&topic, 0)])), "{polled:?}");
    assert_eq!(polled.last(), Some(&Polled::Assigned(committed(&topic, 0))));
    let mut values = Vec::new();
    while values.len() < 6 {
        if let Polled::Records(some) = member.poll(LONG).await.expect("polls") {
            values.extend(some.into_iter().map(|s| String::from_utf8_lossy(&s.record.value).into_owned()));
        }
    }
    assert_eq!(values, (0..6).map(|n| format!("new {n}")).collect::<Vec<_>>());
    member.commit(&committed(&topic, 6)).await.expect("commits");
    member.leave().await.expect("leaves");
    // Both ways of asking for commits agree.
    let one_by_one = log.cluster.groups_one_by_one().expect("lists");
    let ours = one_by_one.into_iter().find(|(group, _)| *group == topic).expect("our group");
    assert_eq!(ours.1.into_iter().map(|(c, _)| c).collect::<Vec<_>>(), committed(&topic, 6));
    let groups = log.groups().await.expect("lists");
    assert!(groups.contains(&(topic.clone(), committed(&topic, 6))), "{groups:?}");
    log.delete_topic(&topic).await.expect("deletes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_refused_append_leaves_is_a_beginning() {
    let Some((log, topic)) = real() else { return };
    let admin: AdminClient<_> = log.cluster.settings.asking().expect("settings").create().expect("a client");
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "100000");
    admin.create_topics(&[new], &AdminOptions::new()).await.expect("creates");
    retried(async || log.append(&topic, vec![]).await.map(drop)).await;
    // Incompressible, so that it stays large.
    let mut random = fastrand::Rng::with_seed(3);
    let mut noise = |bytes: usize| (0..bytes).map(|_| random.u8(..)).collect::<Vec<_>>();
    for round in 0..10 {
        let before = log.topic(&topic).await.expect("describes").expect("exists").partitions[0].end;
        // Small ones in batches of their own before and after one that is too large.
        let small: Vec<_> = (0..30).map(|_| noise(60_000)).collect();
        let mut batch: Vec<_> = small.iter().map(|value| record("k", value.clone())).collect();
        let bad = (round * 3) % 30;
        batch.insert(bad, record("k", noise(300_000)));
        let error = log.append(&topic, batch).await.expect_err("refused");
        let kept: Vec<_> =
            read_all(&*log, &partition(&topic, 0)).await.into_iter().skip(before as usize).collect();
        assert!(kept.len() <= bad, "{} kept, though {bad} was refused: {error}", kept.len());
        assert!(kept.iter().map(|s| &s.record.value).eq(&small[..kept.len()]), "not a beginning");
        let kind = if kept.is_empty() { ErrorKind::Rejected } else { ErrorKind::Unavailable };
        assert_eq!(error.kind, kind, "{error}");
    }
    log.delete_topic(&topic).await.expect("deletes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_another_day_is_kept() {
    let Some((log, topic)) = real() else { return };
    log.create_topic(&topic, 1).await.expect("creates");
    let days: Vec<_> = [0, 4_000_000_000]
        .map(|second| Record { timestamp: Timestamp::new(second, 7).expect("in range"), ..record("k", "v") })
        .into();
    log.append(&topic, days.clone()).await.expect("appends");
    let read = read_all(&*log, &partition(&topic, 0)).await;
    assert!(read.iter().map(|s| &s.record).eq(&days), "{read:?}");
    log.delete_topic(&topic).await.expect("deletes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_forbidden() {
    let address = std::env::var("OPENBELL_KAFKA").unwrap_or_default();
    let Some((_, place)) = address.split_once('@') else {
        println!("skipped: kafka password (OPENBELL_KAFKA has no user)");
        return;
    };
    let log = at(&format!("kafka://nobody:wrong@{place}"));
    let record = vec![record("k", "v")];
    let (topics, groups, append, create) =
        tokio::join!(log.topics(), log.groups(), log.append("t", record), log.create_topic("t", 1));
    let errors = [topics.err(), groups.err(), append.err(), create.err()];
    for error in errors.map(|e| e.expect("wrong")) {
        assert_eq!(error.kind, ErrorKind::Forbidden, "{error}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
}

/// What the members of a storm did, and where each partition was committed to.
#[derive(Default)]
struct Ledger {
    done: BTreeSet<(u32, u64)>,
    committed: BTreeMap<u32, u64>,
}

/// One member: commits after every batch, for some polls, and goes one way or another.
async fn member(log: Arc<KafkaLog>, topic: String, polls: usize, orderly: bool, ledger: Arc<Mutex<Ledger>>) {
    let mut consumer = log.join(&topic, std::slice::from_ref(&topic), None).await.expect("joins");
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    for _ in 0..polls {
        match consumer.poll(Duration::from_millis(20)).await.expect("polls") {
            Polled::Nothing => {}
            Polled::Assigned(starts) => {
                for start in starts {
                    let known = ledger.lock().committed.get(&start.partition.number).copied().unwrap_or(0);
                    assert_eq!(start.next, known, "{start:?} is not where it was committed to");
                    next.insert(start.partition.number, start.next);
                }
            }
            Polled::Revoked(going) => next.retain(|number, _| going.iter().all(|p| p.number != *number)),
            Polled::Records(records) => {
                let mut offsets = BTreeMap::new();
                for stored in &records {
                    let expected = next.get_mut(&stored.partition.number).expect("an own partition");
                    assert_eq!(stored.offset, *expected, "a gap or a repetition in {}", stored.partition);
                    *expected += 1;
                    offsets.insert(stored.partition.clone(), *expected);
                }
                let commit: Vec<_> =
                    offsets.into_iter().map(|(partition, next)| Committed { partition, next }).collect();
                consumer.commit(&commit).await.expect("its own");
                let mut ledger = ledger.lock();
                for stored in &records {
                    assert!(
                        ledger.done.insert((stored.partition.number, stored.offset)),
                        "done twice: {stored:?}"
                    );
                }
                for Committed { partition, next } in commit {
                    let before = ledger.committed.insert(partition.number, next).unwrap_or(0);
                    assert!(before < next, "a late commit of {next} for {partition} after {before}");
                }
            }
        }
    }
    if orderly {
        consumer.leave().await.expect("leaves");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_hand_overs_loses_and_repeats_nothing() {
    let Some((log, topic)) = real() else { return };
    const TOTAL: usize = 4000;
    const PARTITIONS: u32 = 6;
    const STORM: usize = 20;
    log.create_topic(&topic, PARTITIONS).await.expect("creates");
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let writer = tokio::spawn({
        let (log, topic) = (Arc::clone(&log), topic.clone());
        async move {
            for round in 0..TOTAL / 20 {
                let some = (0..20).map(|n| record(&format!("k{}", round * 20 + n), "v")).collect();
                log.append(&topic, some).await.expect("appends");
            }
        }
    });
    let mut random = fastrand::Rng::with_seed(7);
    let storm = async {
        let mut members = tokio::task::JoinSet::new();
        let mut joined = 0;
        loop {
            // Two to four at a time, each for a while of its own.
            let done = ledger.lock().done.len() >= TOTAL && joined >= STORM;
            let wanted = if done { 0 } else { random.usize(2..5) };
            while members.len() < wanted {
                let (polls, orderly) = (random.usize(10..60), random.bool());
                members.spawn(member(Arc::clone(&log), topic.clone(), polls, orderly, Arc::clone(&ledger)));
                joined += 1;
            }
            match members.join_next().await {
                Some(ended) => ended.expect("no member failed"),
                None => return,
            }
        }
    };
    tokio::time::timeout(4 * LONG, storm).await.expect("in time");
    writer.await.expect("no panic");
    let ends: Vec<_> = log
        .topic(&topic)
        .await
        .expect("describes")
        .expect("exists")
        .partitions
        .iter()
        .map(|r| r.end)
        .collect();
    let ledger = ledger.lock().committed.clone();
    assert_eq!(ends.iter().sum::<u64>(), TOTAL as u64);
    assert_eq!((0..PARTITIONS).map(|n| ledger.get(&n).copied().unwrap_or(0)).collect::<Vec<_>>(), ends);
    log.delete_topic(&topic).await.expect("deletes");
}
