//! What only the socket can get wrong: lost connections, a daemon that is away, garbage.

use jiff::Timestamp;
use openbell::backends::log::{Committed, Partition, Polled, Record};
use openbell::backends::socket::connect;
use openbell::backends::{BackendError, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::log::LONG;
use crate::places::Daemon;

const HELLO: &[u8; 16] = b"openbell stores\x02";

fn record(value: &str) -> Record {
    Record { key: None, value: value.into(), headers: vec![], timestamp: Timestamp::UNIX_EPOCH }
}

/// Repeats a call while the daemon is away, within a deadline.
async fn retried<T>(mut call: impl AsyncFnMut() -> Result<T, BackendError>) -> T {
    let retries = async {
        loop {
            match call().await {
                Ok(value) => return value,
                Err(error) => assert_eq!(error.kind, ErrorKind::Unavailable, "{error}"),
            }
        }
    };
    tokio::time::timeout(LONG, retries).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_away_is_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let stores = connect(dir.path().join("sock"));
    let error = stores.log.topics().await.expect_err("nobody there");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.is_transient() && error.to_string().contains("openbell up"), "{error}");
    let first = Daemon::start(dir.path()).await;
    assert!(retried(async || stores.log.create_topic("t", 1).await).await);
    first.stop().await;
    assert_eq!(stores.log.topics().await.expect_err("gone").kind, ErrorKind::Unavailable);
    let second = Daemon::start(dir.path()).await;
    assert_eq!(retried(async || stores.log.topics().await).await.len(), 1);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_joins_again_after_its_connection_died() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path()).await;
    let stores = connect(dir.path().join("sock"));
    stores.log.create_topic("t", 1).await.expect("creates");
    let partition = Partition { topic: "t".into(), number: 0 };
    let committed = |next| vec![Committed { partition: partition.clone(), next }];
    let mut consumer = stores.log.join("g", &["t".into()], None).await.expect("joins");
    assert_eq!(consumer.poll(LONG).await.expect("polls"), Polled::Assigned(committed(0)));
    stores.log.append("t", vec![record("a"), record("b")]).await.expect("appends");
    assert!(matches!(consumer.poll(LONG).await.expect("polls"), Polled::Records(some) if some.len() == 2));
    consumer.commit(&committed(1)).await.expect("commits");
    daemon.stop().await;
    let lost = consumer.poll(LONG).await.expect_err("lost");
    assert_eq!(lost.kind, ErrorKind::Unavailable);
    // Repeating the commit cannot succeed, and says so.
    assert_eq!(consumer.commit(&committed(2)).await.expect_err("lost").kind, ErrorKind::Fenced);
    let daemon = Daemon::start(dir.path()).await;
    assert_eq!(retried(async || consumer.poll(LONG).await).await, Polled::Revoked(vec![partition.clone()]));
    assert_eq!(consumer.poll(LONG).await.expect("polls"), Polled::Assigned(committed(1)));
    assert!(
        matches!(consumer.poll(LONG).await.expect("polls"), Polled::Records(some) if some[0].offset == 1)
    );
    consumer.commit(&committed(2)).await.expect("commits");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_its_groups() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path()).await;
    let (first, second) = (connect(dir.path().join("sock")), connect(dir.path().join("sock")));
    // The second one creates, so that the first one's connection comes about in its own runtime.
    second.log.create_topic("t", 1).await.expect("creates");
    // In a process of its own, as far as the daemon can tell: its runtime is shut down, and its connection
    // with it.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let consumer = runtime.block_on(async {
                let mut consumer = first.log.join("g", &["t".into()], None).await.expect("joins");
                assert!(matches!(consumer.poll(LONG).await.expect("polls"), Polled::Assigned(_)));
                consumer
            });
            drop(runtime);
            std::mem::forget(consumer);
        });
    });
    let mut heir = second.log.join("g", &["t".into()], None).await.expect("joins");
    let inherited = tokio::time::timeout(LONG, heir.poll(LONG)).await.expect("in time").expect("polls");
    assert!(matches!(inherited, Polled::Assigned(_)), "{inherited:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_own_connection_and_no_other() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path()).await;
    let stores = connect(dir.path().join("sock"));
    stores.log.create_topic("t", 1).await.expect("creates");
    let mut consumer = stores.log.join("g", &["t".into()], None).await.expect("joins");
    assert!(matches!(consumer.poll(LONG).await.expect("polls"), Polled::Assigned(_)));
    let huge = u32::MAX.to_be_bytes();
    let nonsense = [&5u32.to_be_bytes()[..], &[0xff; 5]].concat();
    for (hello, garbage) in
        [(false, &b"GET / HTTP/1.1\r\n\r\n"[..]), (true, &huge[..]), (true, &nonsense[..])]
    {
        let mut stream = UnixStream::connect(dir.path().join("sock")).await.expect("connects");
        if hello {
            stream.write_all(HELLO).await.expect("writes");
        }
        stream.write_all(garbage).await.expect("writes");
        let mut answer = Vec::new();
        // Ends, orderly or not, because the daemon closes it.
        let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.expect("in time");
        assert!(ended.is_err() || answer == HELLO, "{answer:?}");
    }
    // Silent and half-finished ones do no harm either.
    let _silent = UnixStream::connect(dir.path().join("sock")).await.expect("connects");
    stores.log.append("t", vec![record("a")]).await.expect("appends");
    assert!(matches!(consumer.poll(LONG).await.expect("polls"), Polled::Records(_)));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_listens_may_be_another_program_or_version() {
    let dir = tempfile::tempdir().expect("a folder");
    let listener = tokio::net::UnixListener::bind(dir.path().join("sock")).expect("binds");
    let other = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        stream.write_all(b"openbell stores\x01").await.expect("writes");
        stream.read_to_end(&mut Vec::new()).await.map(drop)
    });
    let error = connect(dir.path().join("sock")).log.topics().await.expect_err("another version");
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(error.to_string().contains("same openbell binary"), "{error}");
    drop(other.await.expect("no panic"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_large_is_refused_before_it_is_sent() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path()).await;
    let stores = connect(dir.path().join("sock"));
    stores.log.create_topic("t", 1).await.expect("creates");
    let records = (0..6).map(|_| record(&"x".repeat(12 << 20))).collect();
    let error = stores.log.append("t", records).await.expect_err("too large");
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(error.to_string().contains("fewer at once"), "{error}");
    stores.log.append("t", vec![record("fits")]).await.expect("appends");
    daemon.stop().await;
}
