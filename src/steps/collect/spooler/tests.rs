//! The spool's thread, where the disk does not take what it is given.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Spooler, WAITING};
use crate::collect::status::CollectorStatus;
use crate::collect::tests::read_all;
use crate::testing::fixtures::RecordingReporter;
use backends::spool::{self, Kind};

fn entry(n: i64) -> spool::NewEntry {
    let (received_at, body) = (jiff::Timestamp::UNIX_EPOCH, n.to_string().into_bytes());
    spool::NewEntry { kind: Kind::Trade, received_at, body }
}

#[test]
fn a_spool_that_cannot_be_written_is_tried_until_it_can() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("spool");
    // A file where the folder should be.
    std::fs::write(&dir, "").expect("written");
    let heard = Arc::new(RecordingReporter::default());
    let status = Arc::new(CollectorStatus::new(
        jiff::tz::TimeZone::UTC,
        Arc::clone(&heard) as Arc<dyn crate::Reporter>,
    ));
    let (sender, batches) = mpsc::channel(WAITING);
    let (synced, seen) = tokio::sync::watch::channel(0);
    let abandon = tokio_util::sync::CancellationToken::new();
    let spooler = Spooler {
        dir: dir.clone(),
        writer: None,
        held: Vec::new(),
        written: Default::default(),
        batches,
        synced,
        status: Arc::clone(&status),
        abandon: abandon.clone(),
    };
    let thread = std::thread::spawn(move || spooler.run());
    let mut sent = 0;
    // The channel fills up: whoever reads the socket has to wait.
    while sent < 1000 {
        match sender.try_send(vec![entry(sent)]) {
            Ok(()) => sent += 1,
            Err(mpsc::error::TrySendError::Full(_)) if !heard.text().is_empty() => break,
            Err(mpsc::error::TrySendError::Full(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < 1000);
    assert!(
        heard.text().contains("spool: ") && heard.text().contains("not read meanwhile"),
        "{}",
        heard.text()
    );
    std::fs::remove_file(&dir).expect("removed");
    drop(sender);
    assert_eq!(thread.join().expect("no panic"), 0);
    let bodies: Vec<_> = read_all(&dir).into_iter().map(|e| e.body).collect();
    assert_eq!(bodies, (0..sent).map(|n| n.to_string().into_bytes()).collect::<Vec<_>>());
    assert_eq!(*seen.borrow(), sent as u64);
    assert!(heard.text().contains("spool: works again"));

    // Without more time it says how many it could not write.
    std::fs::remove_dir_all(&dir).expect("removed");
    std::fs::write(&dir, "").expect("written");
    let (sender, batches) = mpsc::channel(WAITING);
    abandon.cancel();
    let spooler = Spooler {
        dir,
        writer: None,
        held: Vec::new(),
        written: Default::default(),
        batches,
        synced: tokio::sync::watch::channel(0).0,
        status,
        abandon,
    };
    sender.try_send(vec![entry(1), entry(2)]).expect("room");
    sender.try_send(vec![entry(3)]).expect("room");
    assert_eq!(std::thread::spawn(move || spooler.run()).join().expect("no panic"), 3);
}
