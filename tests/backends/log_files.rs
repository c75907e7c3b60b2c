//! What only the embedded log can get wrong: its files, and members that fall silent.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use openbell::backends::ErrorKind;
use openbell::backends::log::embedded::EmbeddedLog;
use openbell::backends::log::{Committed, Log, Polled};

use crate::log::{LONG, assigned, fill, partition, read_all, records};

fn newest_segment(dir: &Path) -> std::path::PathBuf {
    let files = fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path());
    files.filter(|p| p.extension().is_some_and(|e| e == "seg")).max().expect("a segment")
}

async fn with_records(root: &Path, count: usize) -> std::path::PathBuf {
    let log = EmbeddedLog::open(root).expect("opens");
    log.create_topic("t", 1).await.expect("creates");
    fill(&log, "t", count).await;
    newest_segment(&root.join("t/0"))
}

#[tokio::test]
async fn a_torn_write_costs_nothing_that_was_acknowledged_and_no_offset() {
    let dir = tempfile::tempdir().expect("a folder");
    let segment = with_records(dir.path(), 20).await;
    let bytes = fs::read(&segment).expect("reads");
    // A write of the next record that never finished, as a kill leaves it.
    let next = [&bytes[..8], &20u64.to_le_bytes(), &[7; 10]].concat();
    for cut in [1, 8, 15, 17, next.len()] {
        OpenOptions::new()
            .append(true)
            .open(&segment)
            .and_then(|mut f| f.write_all(&next[..cut]))
            .expect("writes");
        let log = EmbeddedLog::open(dir.path()).expect("opens");
        assert_eq!(read_all(&log, &partition("t", 0)).await.len(), 20, "cut at {cut}");
        drop(log);
        assert_eq!(fs::read(&segment).expect("reads"), bytes, "cut at {cut}");
    }
    let log = EmbeddedLog::open(dir.path()).expect("opens");
    assert_eq!(fill(&log, "t", 1).await, [(0, 20)]);
}

#[tokio::test]
async fn a_damaged_record_costs_itself_and_its_offset_is_not_given_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let segment = with_records(dir.path(), 20).await;
    let mut bytes = fs::read(&segment).expect("reads");
    let last = bytes.len() - 3;
    bytes[last] ^= 0xff;
    fs::write(&segment, &bytes).expect("writes");
    let log = EmbeddedLog::open(dir.path()).expect("opens");
    // The end is where the readable records end, so that nobody waits for what is gone.
    assert_eq!(log.topic("t").await.expect("describes").expect("exists").partitions[0].end, 19);
    let placed = fill(&log, "t", 2).await;
    assert!(placed[0].1 > 19 && placed[1].1 == placed[0].1 + 1, "{placed:?}");
    let mut consumer = log.join("g", &["t".into()], None).await.expect("joins");
    let read: Vec<_> = records(&mut *consumer, 21).await.iter().map(|s| s.offset).collect();
    assert_eq!(read, (0..19).chain(placed.iter().map(|p| p.1)).collect::<Vec<_>>());
    assert!(
        dir.path().join("t/0/aside").read_dir().expect("a folder").next().is_some(),
        "the damaged bytes were not kept"
    );
}

#[tokio::test]
async fn files_that_make_no_sense_are_named_with_a_remedy() {
    let dir = tempfile::tempdir().expect("a folder");
    with_records(dir.path(), 1).await;
    let groups = dir.path().join("~groups/g.json");
    for (file, was) in [(dir.path().join("t/topic.json"), Some(())), (groups, None)] {
        let good = was.map(|()| fs::read(&file).expect("reads"));
        fs::write(&file, "{").expect("writes");
        let error = EmbeddedLog::open(dir.path()).map(drop).expect_err("damaged");
        assert_eq!(error.kind, ErrorKind::Corrupt);
        assert!(
            error.place.contains(&file.display().to_string()) && error.remedy.contains("move"),
            "{error}"
        );
        match good {
            Some(good) => fs::write(&file, good).expect("restores"),
            None => fs::remove_file(&file).expect("removes"),
        }
    }
    EmbeddedLog::open(dir.path()).expect("opens");
    let _open = EmbeddedLog::open(dir.path()).expect("opens");
    assert_eq!(EmbeddedLog::open(dir.path()).map(drop).expect_err("locked").kind, ErrorKind::Busy);
}

#[tokio::test]
async fn interrupted_creations_and_deletions_are_cleared_away() {
    let dir = tempfile::tempdir().expect("a folder");
    with_records(dir.path(), 1).await;
    fs::create_dir_all(dir.path().join("~new-half/0")).expect("creates");
    fs::rename(dir.path().join("t"), dir.path().join("~gone-t-1")).expect("renames");
    let log = EmbeddedLog::open(dir.path()).expect("opens");
    assert_eq!(log.topics().await.expect("lists"), []);
    assert!(!dir.path().join("~new-half").exists() && !dir.path().join("~gone-t-1").exists());
}

#[tokio::test]
async fn a_silent_member_is_put_out_and_learns_of_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = EmbeddedLog::open_with(dir.path(), Duration::from_millis(100)).expect("opens");
    log.create_topic("t", 1).await.expect("creates");
    let mut silent = log.join("g", &["t".into()], None).await.expect("joins");
    assigned(&mut *silent).await;
    let mut heir = log.join("g", &["t".into()], None).await.expect("joins");
    // One long poll: the log itself notices that the other's time is up.
    assert!(matches!(heir.poll(LONG).await.expect("polls"), Polled::Assigned(_)));
    let late = silent.commit(&[Committed { partition: partition("t", 0), next: 0 }]).await;
    assert_eq!(late.expect_err("put out").kind, ErrorKind::Fenced);
    assert_eq!(silent.poll(LONG).await.expect("polls"), Polled::Revoked(vec![partition("t", 0)]));
    heir.leave().await.expect("leaves");
    assigned(&mut *silent).await;
}
