use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as ApiKey, RDKafkaRespErr as Fault};
use tokio::net::TcpListener;

use super::*;
use crate::ErrorKind;

type Mock = MockCluster<'static, DefaultProducerContext>;

fn mock(topic: &str) -> (Mock, KafkaLog) {
    let mock = MockCluster::new(1).expect("a mock");
    mock.create_topic(topic, 1, 1).expect("creates");
    let log = at(&format!("kafka://{}", mock.bootstrap_servers()));
    (mock, log)
}

fn values(records: &[Stored]) -> Vec<String> {
    records.iter().map(|s| String::from_utf8_lossy(&s.record.value).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_and_passing_refusals_neither_lose_nor_repeat_nor_reorder() {
    let (mock, log) = mock("t");
    let mut expected = Vec::new();
    for round in 0..5 {
        mock.request_errors(
            ApiKey::Produce,
            &[
                Fault::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
                Fault::RD_KAFKA_RESP_ERR__TRANSPORT,
                Fault::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
                Fault::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            ],
        );
        let batch: Vec<_> = (0..200).map(|n| format!("{round}:{n}")).collect();
        let placed = log
            .append("t", batch.iter().map(|v| record("k", v.as_bytes())).collect())
            .await
            .expect("appends");
        let offsets: Vec<_> = placed.iter().map(|(_, offset)| *offset).collect();
        assert_eq!(offsets, (expected.len() as u64..(expected.len() + 200) as u64).collect::<Vec<_>>());
        expected.extend(batch);
    }
    assert_eq!(values(&read_all(&log, &partition("t", 0)).await), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_record_is_named_and_what_comes_after_it_is_not_kept() {
    let (mock, log) = mock("t");
    let other = at(&format!("kafka://{}", mock.bootstrap_servers()));
    other.append("t", vec![record("k", "before")]).await.expect("appends");
    mock.request_errors(ApiKey::Produce, &[Fault::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    // Too much for one request, so that there are later ones.
    let batch = (0..40).map(|n| record("k", vec![n; 200 << 10])).collect();
    let error = log.append("t", batch).await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Rejected, "{error}");
    assert!(
        error.message.contains("record 0 of 40") && error.remedy.contains("max.message.bytes"),
        "{error}"
    );
    assert_eq!(values(&read_all(&log, &partition("t", 0)).await), ["before"]);
    log.append("t", vec![record("k", "after")]).await.expect("a new producer");
    assert_eq!(values(&read_all(&log, &partition("t", 0)).await), ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_is_told_in_time_and_found_again() {
    let (mock, _) = mock("t");
    let log = hasty(&format!("kafka://{}", mock.bootstrap_servers()));
    log.append("t", vec![record("k", "1")]).await.expect("appends");
    mock.broker_down(1).expect("goes down");
    let appended = tokio::time::timeout(LONG, log.append("t", vec![record("k", "2"), record("k", "3")]))
        .await
        .expect("in time");
    let error = appended.expect_err("nobody there");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    mock.broker_up(1).expect("comes back");
    // What was thrown away stays away.
    let tail = retried(async || log.read(&partition("t", 0), 0, 10).await).await;
    assert_eq!(values(&tail), ["1"]);
    retried(async || log.append("t", vec![record("k", "4")]).await).await;
    assert_eq!(values(&read_all(&log, &partition("t", 0)).await), ["1", "4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_told_at_once() {
    let (_mock, log) = mock("t");
    // Long before an append is given up.
    let told = async {
        for missing in ["nope", "not a name"] {
            assert_eq!(
                log.append(missing, vec![record("k", "v")]).await.expect_err("missing").kind,
                ErrorKind::NotFound
            );
            assert_eq!(
                log.read(&partition(missing, 0), 0, 1).await.expect_err("missing").kind,
                ErrorKind::NotFound
            );
        }
    };
    tokio::time::timeout(LONG, told).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_outlasts_the_hand_over_of_others_and_not_the_loss_of_its_own() {
    let (mock, log) = mock("t");
    log.append("t", (0..10).map(|n| record("k", n.to_string())).collect()).await.expect("appends");
    let mut member = log.join("g", &["t".into()], None).await.expect("joins");
    assert_eq!(until(&mut *member, is_assigned).await.pop(), Some(Polled::Assigned(committed("t", 0))));
    until(&mut *member, |p| matches!(p, Polled::Records(_))).await;
    mock.request_errors(
        ApiKey::OffsetCommit,
        &[Fault::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, Fault::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS],
    );
    member.commit(&committed("t", 3)).await.expect("in the end");
    mock.request_errors(ApiKey::OffsetCommit, &[Fault::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    assert_eq!(member.commit(&committed("t", 5)).await.expect_err("put out").kind, ErrorKind::Fenced);
    assert_eq!(member.commit(&committed("t", 6)).await.expect_err("put out").kind, ErrorKind::Fenced);
    // Read anew from the last commit that counted.
    let polled = until(&mut *member, is_assigned).await;
    assert!(polled.contains(&Polled::Revoked(vec![partition("t", 0)])), "{polled:?}");
    assert_eq!(polled.last(), Some(&Polled::Assigned(committed("t", 3))));
    let polled = until(&mut *member, |p| matches!(p, Polled::Records(_))).await;
    assert!(matches!(polled.last(), Some(Polled::Records(some)) if some[0].offset == 3), "{polled:?}");
    member.leave().await.expect("leaves");
}

/// Whichever answer of the cluster says it first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_name_another_one_has_is_told_so_for_good() {
    for request in [ApiKey::Heartbeat, ApiKey::OffsetCommit] {
        let (mock, log) = mock("t");
        log.append("t", vec![record("k", "v")]).await.expect("appends");
        let mut member = log.join("g", &["t".into()], Some("n")).await.expect("joins");
        until(&mut *member, |p| matches!(p, Polled::Records(_))).await;
        mock.request_errors(request, &[Fault::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID]);
        if request == ApiKey::OffsetCommit {
            assert_eq!(
                member.commit(&committed("t", 1)).await.expect_err("replaced").kind,
                ErrorKind::Replaced
            );
        }
        let told = async {
            loop {
                if let Err(error) = member.poll(Duration::from_millis(100)).await {
                    return error;
                }
            }
        };
        let error = tokio::time::timeout(LONG, told).await.expect("in time");
        assert_eq!(error.kind, ErrorKind::Replaced, "{error}");
        assert!(error.to_string().contains("name") && !error.is_transient(), "{error}");
        assert_eq!(member.poll(LONG).await.expect_err("for good").kind, ErrorKind::Replaced);
        assert_eq!(member.commit(&committed("t", 1)).await.expect_err("replaced").kind, ErrorKind::Replaced);
        // It has no place to give up, and asks nobody to.
        member.leave().await.expect("ends");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_or_closed_port_is_told_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let ports = [silent.local_addr().expect("bound").port(), closed.local_addr().expect("bound").port()];
    drop(closed);
    for port in ports {
        let log = hasty(&format!("kafka://127.0.0.1:{port}"));
        let kind = |e: crate::BackendError| {
            assert!(!e.remedy.is_empty(), "{e}");
            e.kind
        };
        let (place, read) = (partition("t", 0), vec![record("k", "v")]);
        let mut member = log.join("g", &["t".into()], None).await.expect("asks nobody");
        let polls = async {
            loop {
                match member.poll(Duration::from_millis(200)).await {
                    Ok(polled) => assert_eq!(polled, Polled::Nothing),
                    Err(error) => return error.kind,
                }
            }
        };
        let all = async {
            tokio::join!(
                async { kind(log.topics().await.expect_err("nobody")) },
                async { kind(log.create_topic("t", 1).await.expect_err("nobody")) },
                async { kind(log.append("t", read).await.expect_err("nobody")) },
                async { kind(log.read(&place, 0, 1).await.expect_err("nobody")) },
                async { kind(log.groups().await.expect_err("nobody")) },
                polls,
            )
        };
        let all = tokio::time::timeout(LONG, all).await.expect("in time");
        assert_eq!([all.0, all.1, all.2, all.3, all.4, all.5], [ErrorKind::Unavailable; 6], "port {port}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dropped_poll_brought_obeys_pause_and_seek() {
    let (_mock, log) = mock("t");
    log.append("t", (0..10).map(|n| record("k", n.to_string())).collect()).await.expect("appends");
    let mut member = log.join("g", &["t".into()], None).await.expect("joins");
    until(&mut *member, is_assigned).await;
    let place = partition("t", 0);
    for round in 0..40 {
        tokio::select! {
            biased;
            // Rarely at once.
            polled = member.poll(LONG) => drop(polled.expect("polls")),
            () = tokio::task::yield_now() => {}
        }
        member.pause(&place, true).await.expect("pauses");
        assert_eq!(member.poll(Duration::from_millis(10)).await.expect("polls"), Polled::Nothing);
        if round % 2 == 0 {
            member.seek(&place, round % 10).await.expect("seeks");
        }
        member.pause(&place, false).await.expect("resumes");
        let polled = until(&mut *member, |p| matches!(p, Polled::Records(_))).await;
        let Some(Polled::Records(records)) = polled.last() else { panic!("{polled:?}") };
        assert_eq!(records[0].offset, if round % 2 == 0 { round % 10 } else { 0 });
        member.seek(&place, 0).await.expect("seeks");
    }
    assert_eq!(member.seek(&place, 11).await.expect_err("beyond").kind, ErrorKind::Rejected);
    member.leave().await.expect("leaves");
}
