//! The spool against crashes, damage, full disks and company.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::ErrorKind;
use crate::segments::{Disk, RealDisk};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).expect("in range")
}

fn entry(n: u64, size: usize) -> NewEntry {
    use Kind::*;
    let kind = [Record, Malformed, SessionUp, SessionDown, Trade, Total][n as usize % 6];
    let mut body = format!("entry {n} ").into_bytes();
    body.resize(body.len().max(size), b'.');
    NewEntry { kind, received_at: at(n as i64), body }
}

fn small(dir: &Path) -> (Writer, Recovered) {
    Writer::open_with(dir, 512, Box::new(RealDisk)).expect("opens")
}

fn read_all(dir: &Path) -> Vec<Entry> {
    let mut reader = Reader::open(dir, 1).expect("opens");
    let mut all = Vec::new();
    loop {
        let batch = reader.next(7).expect("reads");
        if batch.is_empty() {
            return all;
        }
        all.extend(batch);
    }
}

fn bodies(entries: &[Entry]) -> Vec<&[u8]> {
    entries.iter().map(|e| e.body.as_slice()).collect()
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "seg"));
    files.sort();
    files
}

/// Fills a spool with entries of these sizes; small segments, so that there are several.
fn filled(dir: &Path, sizes: &[usize]) -> Vec<NewEntry> {
    let entries: Vec<_> = sizes.iter().enumerate().map(|(i, size)| entry(i as u64 + 1, *size)).collect();
    let (mut writer, _) = small(dir);
    for some in entries.chunks(3) {
        writer.append(some).expect("appends");
        writer.sync().expect("syncs");
    }
    entries
}

#[test]
fn entries_come_back_as_written_across_segments_and_openings() {
    let dir = tempfile::tempdir().expect("a folder");
    let entries = filled(dir.path(), &[10; 50]);
    assert!(segment_files(dir.path()).len() > 3);
    let read = read_all(dir.path());
    assert_eq!(read.iter().map(|e| e.seq).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
    for (new, old) in entries.iter().zip(&read) {
        assert_eq!((new.kind, new.received_at, &new.body), (old.kind, old.received_at, &old.body));
    }
    let (mut writer, recovered) = small(dir.path());
    assert_eq!(recovered, Recovered { last_seq: 50, ..Recovered::default() });
    assert_eq!(*writer.watch().borrow(), 50);
    assert_eq!(writer.append(&[entry(51, 0)]).expect("appends"), 51);
    assert_eq!(writer.id(), id(dir.path()).expect("readable").expect("an id"));
    let mut from_middle = Reader::open(dir.path(), 33).expect("opens");
    assert_eq!(from_middle.next(2).expect("reads").iter().map(|e| e.seq).collect::<Vec<_>>(), [33, 34]);
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = Writer::open(dir.path()).expect("opens");
    let error = Writer::open(dir.path()).map(drop).expect_err("locked");
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.to_string().contains("another collector"), "{error}");
    drop(first);
    Writer::open(dir.path()).expect("opens");
}

#[test]
fn a_reader_beyond_the_end_or_of_no_spool_waits() {
    let dir = tempfile::tempdir().expect("a folder");
    let spool = dir.path().join("not/yet");
    let mut early = Reader::open(&spool, 3).expect("opens");
    assert_eq!(early.next(10).expect("empty"), []);
    let (mut writer, _) = small(&spool);
    writer.append(&[entry(1, 0), entry(2, 0)]).expect("appends");
    writer.sync().expect("syncs");
    assert_eq!(early.next(10).expect("empty"), []);
    writer.append(&[entry(3, 0), entry(4, 0)]).expect("appends");
    writer.sync().expect("syncs");
    assert_eq!(early.next(10).expect("reads").iter().map(|e| e.seq).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(early.position(), 5);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// A crash that leaves any beginning of the newest file keeps exactly the whole entries of that
    /// beginning.
    #[test]
    fn any_truncation_keeps_a_prefix(sizes in prop::collection::vec(0usize..90, 1..30), cut: prop::sample::Index) {
        let dir = tempfile::tempdir().expect("a folder");
        let entries = filled(dir.path(), &sizes);
        let newest = segment_files(dir.path()).pop().expect("a segment");
        let length = fs::metadata(&newest).expect("a file").len();
        let keep = cut.index(length as usize + 1) as u64;
        OpenOptions::new().write(true).open(&newest).and_then(|f| f.set_len(keep)).expect("cuts");

        let before = read_all(dir.path());
        let (mut writer, recovered) = small(dir.path());
        let after = read_all(dir.path());
        prop_assert_eq!(&before, &after);
        prop_assert_eq!(bodies(&after), entries[..after.len()].iter().map(|e| e.body.as_slice()).collect::<Vec<_>>());
        prop_assert_eq!(recovered.last_seq, after.len() as u64);
        let lost_any = (after.len() as u64) < entries.len() as u64;
        prop_assert!(lost_any || keep == length);
        // Every byte is in an entry or set aside.
        let aside = recovered.set_aside.as_ref().map_or(0, |p| fs::metadata(p).expect("kept").len());
        prop_assert_eq!(aside, recovered.set_aside_bytes);
        let left: u64 = segment_files(dir.path()).iter().filter(|p| **p == newest).map(|p| fs::metadata(p).expect("a file").len()).sum();
        prop_assert_eq!(left + aside, keep);

        let seq = writer.append(&[entry(999, 0)]).expect("appends");
        writer.sync().expect("syncs");
        prop_assert!(seq > recovered.last_seq);
        drop(writer);
        let (_, again) = small(dir.path());
        prop_assert_eq!(again, Recovered { last_seq: seq, ..Recovered::default() });
        let all = read_all(dir.path());
        prop_assert_eq!(all.len(), after.len() + 1);
        prop_assert_eq!(all.last().map(|e| e.seq), Some(seq));
    }

    /// Any damaged byte costs the entry it is in and no other, and numbers never return.
    #[test]
    fn any_flipped_byte_costs_one_entry(sizes in prop::collection::vec(0usize..90, 2..30), file: prop::sample::Index, byte: prop::sample::Index, flip in 1u8..) {
        let dir = tempfile::tempdir().expect("a folder");
        let entries = filled(dir.path(), &sizes);
        let whole = read_all(dir.path());
        let files = segment_files(dir.path());
        let path = &files[file.index(files.len())];
        let mut bytes = fs::read(path).expect("readable");
        let at = byte.index(bytes.len());
        bytes[at] ^= flip;
        fs::write(path, &bytes).expect("writable");

        // A reader gets everything before the damage, then learns of it, or sees a torn tail.
        let mut reader = Reader::open(dir.path(), 1).expect("opens");
        let mut seen = Vec::new();
        let told = loop {
            match reader.next(5) {
                Ok(batch) if batch.is_empty() => break None,
                Ok(batch) => seen.extend(batch),
                Err(error) => break Some(error),
            }
        };
        prop_assert_eq!(&seen[..], &whole[..seen.len()]);
        let hit_last = seen.len() + 1 == entries.len();
        match &told {
            None => prop_assert!(hit_last, "lost {} of {} silently", entries.len() - seen.len(), entries.len()),
            Some(error) => {
                prop_assert_eq!(error.kind, ErrorKind::Corrupt);
                prop_assert!(error.to_string().contains(path.to_str().expect("text")) && error.to_string().contains("byte"), "{}", error);
            }
        }

        let (mut writer, recovered) = small(dir.path());
        let after = read_all(dir.path());
        let expected: Vec<_> = whole.iter().filter(|e| e.seq != seen.len() as u64 + 1).cloned().collect();
        prop_assert_eq!(&after, &expected);
        prop_assert!(recovered.set_aside_bytes > 0);
        prop_assert!(recovered.set_aside.expect("kept").exists());
        // The reader that met the damage goes on behind it.
        let behind = reader.next(1).expect("repaired").pop().map(|e| e.seq);
        prop_assert_eq!(behind, expected.iter().map(|e| e.seq).find(|s| *s > seen.len() as u64));
        let seq = writer.append(&[entry(999, 0)]).expect("appends");
        prop_assert!(seq > whole.len() as u64, "{} was given before", seq);
    }

    /// Anything at all behind the last entry is set aside, and what was written is kept.
    #[test]
    fn garbage_behind_the_end_is_set_aside(count in 0usize..12, garbage in prop::collection::vec(any::<u8>(), 1..200), zeros in 0usize..5000) {
        let dir = tempfile::tempdir().expect("a folder");
        filled(dir.path(), &vec![20; count]);
        drop(small(dir.path()));
        let whole = read_all(dir.path());
        let newest = segment_files(dir.path()).pop().expect("a segment");
        let mut bytes = fs::read(&newest).expect("readable");
        bytes.extend(&garbage);
        bytes.resize(bytes.len() + zeros, 0);
        fs::write(&newest, bytes).expect("writable");
        prop_assert_eq!(&read_all(dir.path()), &whole);
        let (mut writer, recovered) = small(dir.path());
        prop_assert_eq!(recovered.set_aside_bytes, (garbage.len() + zeros) as u64);
        prop_assert!(fs::read(recovered.set_aside.expect("kept")).expect("readable").starts_with(&garbage));
        writer.append(&[entry(1, 5)]).expect("appends");
        writer.sync().expect("syncs");
        prop_assert_eq!(read_all(dir.path()).len(), whole.len() + 1);
    }
}

#[test]
fn damage_before_what_is_wanted_does_not_matter() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path(), &[40; 6]);
    let first = segment_files(dir.path()).remove(0);
    File::options().write(true).open(&first).and_then(|f| f.write_all_at(b"XXXX", 30)).expect("damages");
    let mut reader = Reader::open(dir.path(), 2).expect("opens");
    assert_eq!(reader.next(10).expect("reads").iter().map(|e| e.seq).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
}

#[test]
fn an_interrupted_repair_is_finished_by_the_next_opening() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path(), &[40; 8]);
    let newest = segment_files(dir.path()).pop().expect("a segment");
    let mut bytes = fs::read(&newest).expect("readable");
    let end = bytes.len();
    bytes[end - 10] ^= 1;
    fs::write(&newest, &bytes).expect("writable");
    let (writer, first) = small(dir.path());
    drop(writer);
    // As if the machine had stopped before the cut: the damaged file is back, and the new one exists already.
    fs::write(&newest, &bytes).expect("writable");
    let (mut writer, second) = small(dir.path());
    assert_eq!((first.last_seq, second.last_seq), (7, 7));
    assert_eq!(first.set_aside, second.set_aside);
    assert!(writer.append(&[entry(1, 0)]).expect("appends") > 8);
    writer.sync().expect("syncs");
    assert_eq!(read_all(dir.path()).len(), 8);
}

/// A disk with so much room left; writes what fits, as real ones do.
struct Cramped(Arc<AtomicU64>);

impl Disk for Cramped {
    fn write(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let room = self.0.load(Ordering::SeqCst).min(bytes.len() as u64);
        file.write_all_at(&bytes[..room as usize], at)?;
        self.0.fetch_sub(room, Ordering::SeqCst);
        if room < bytes.len() as u64 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[test]
fn readers_in_the_writers_process_see_what_is_synced_and_no_more() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = small(dir.path());
    let mut reader = Reader::open(dir.path(), 1).expect("opens");
    writer.append(&[entry(1, 0), entry(2, 0)]).expect("appends");
    assert_eq!(reader.next(10).expect("reads"), []);
    writer.sync().expect("syncs");
    writer.append(&[entry(3, 0)]).expect("appends");
    assert_eq!(reader.next(10).expect("reads").len(), 2);
    // With the writer gone, what it left unsynced is made durable by the reader.
    drop(writer);
    assert_eq!(reader.next(10).expect("reads").len(), 1);
    let (mut writer, _) = small(dir.path());
    writer.append(&[entry(4, 0)]).expect("appends");
    assert_eq!(reader.next(10).expect("reads"), []);
    writer.sync().expect("syncs");
    assert_eq!(reader.next(10).expect("reads").len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_full_disk_keeps_nothing_of_the_call_and_the_call_can_be_repeated(room in 0u64..2000) {
        let dir = tempfile::tempdir().expect("a folder");
        let left = Arc::new(AtomicU64::new(room));
        let (mut writer, _) = Writer::open_with(dir.path(), 512, Box::new(Cramped(Arc::clone(&left)))).expect("opens");
        let mut reader = Reader::open(dir.path(), 1).expect("opens").foreign();
        let mut got = Vec::new();
        let mut was_full = false;
        for call in 0..12u64 {
            let entries = [entry(call * 2, 60), entry(call * 2 + 1, 60)];
            if let Err(error) = writer.append(&entries) {
                was_full = true;
                prop_assert_eq!(error.kind, ErrorKind::Full);
                prop_assert!(error.is_transient() && error.to_string().contains("free some space"), "{}", error);
                got.extend(reader.next(100).expect("reads"));
                left.store(u64::MAX / 2, Ordering::SeqCst);
                writer.append(&entries).expect("room again");
            }
            writer.sync().expect("syncs");
            got.extend(reader.next(100).expect("reads"));
        }
        prop_assert!(was_full);
        let expected: Vec<_> = (0..24).map(|n| entry(n, 60).body).collect();
        prop_assert_eq!(got.iter().map(|e| e.body.clone()).collect::<Vec<_>>(), expected);
        drop(writer);
        let (_, recovered) = small(dir.path());
        prop_assert_eq!(recovered.set_aside_bytes, 0);
    }
}

/// The real thing: a file system with no room. Needs the right to mount one.
#[test]
fn a_really_full_disk_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mount = |args: &[&str]| std::process::Command::new(args[0]).args(&args[1..]).arg(dir.path()).output();
    let mounted = mount(&["mount", "-t", "tmpfs", "-o", "size=256k", "openbell-test"]);
    if !mounted.as_ref().is_ok_and(|o| o.status.success()) {
        eprintln!("SKIPPED: no right to mount a tmpfs here ({mounted:?})");
        return;
    }
    struct Unmount<'a>(&'a Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let done = std::process::Command::new("umount").arg("-l").arg(self.0).status();
            assert!(
                done.is_ok_and(|s| s.success()),
                "the test's tmpfs stays mounted at {}",
                self.0.display()
            );
        }
    }
    let _unmount = Unmount(dir.path());
    let ballast = dir.path().join("ballast");
    fs::write(&ballast, vec![1; 100 << 10]).expect("fits");
    let spool = dir.path().join("spool");
    let (mut writer, _) = Writer::open(&spool).expect("opens");
    let mut accepted = 0;
    let error = loop {
        match writer.append(&[entry(accepted + 1, 3000)]) {
            Ok(seq) => accepted = seq,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::Full, "{error}");
    assert!(accepted > 10);
    fs::remove_file(ballast).expect("removes");
    writer.append(&[entry(accepted + 1, 3000)]).expect("room again");
    writer.sync().expect("syncs");
    drop(writer);
    let (_, recovered) = Writer::open(&spool).expect("opens");
    assert_eq!(recovered.set_aside_bytes, 0);
    let read = read_all(&spool);
    assert_eq!(bodies(&read), (1..=accepted + 1).map(|n| entry(n, 3000).body).collect::<Vec<_>>());
}

#[test]
fn readers_follow_a_working_writer() {
    let dir = tempfile::tempdir().expect("a folder");
    const COUNT: u64 = 3000;
    let (mut writer, _) = Writer::open_with(dir.path(), 20_000, Box::new(RealDisk)).expect("opens");
    let readers: Vec<_> = [false, true]
        .into_iter()
        .map(|foreign| {
            let mut synced = writer.watch();
            let reader = Reader::open(dir.path(), 1).expect("opens");
            let mut reader = if foreign { reader.foreign() } else { reader };
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                // Reads without waiting, so that the foreign one meets half-written entries; the watch only
                // says when to stop.
                while *synced.borrow_and_update() < COUNT || seen.len() < COUNT as usize {
                    seen.extend(reader.next(64).expect("never an error").into_iter().map(|e| e.seq));
                }
                seen
            })
        })
        .collect();
    for n in (1..=COUNT).step_by(10) {
        let entries: Vec<_> = (n..n + 10).map(|n| entry(n, (n as usize * 37) % 700)).collect();
        writer.append(&entries).expect("appends");
        if n % 50 == 1 {
            writer.sync().expect("syncs");
        }
    }
    writer.sync().expect("syncs");
    for reader in readers {
        assert_eq!(reader.join().expect("no panic"), (1..=COUNT).collect::<Vec<_>>());
    }
}

#[test]
fn pruning_removes_what_is_old_and_forwarded_and_never_the_end() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path(), &[40; 40]);
    let files = segment_files(dir.path());
    assert_eq!(prune(dir.path(), 1, at(1000)).expect("prunes"), 0);
    assert_eq!(prune(dir.path(), 41, at(0)).expect("prunes"), 0);
    let removed = prune(dir.path(), 20, at(1000)).expect("prunes");
    assert!(removed > 0 && removed < files.len() - 1, "{removed}");
    let left = read_all(dir.path());
    assert!(left[0].seq <= 20 && left.last().is_some_and(|e| e.seq == 40));
    prune(dir.path(), u64::MAX, at(1000)).expect("prunes");
    assert_eq!(segment_files(dir.path()).len(), 1);
    let (mut writer, _) = small(dir.path());
    assert_eq!(writer.append(&[entry(41, 0)]).expect("appends"), 41);
}

#[test]
fn cursors_are_checked() {
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(load_cursor(dir.path(), "log").expect("readable"), None);
    store_cursor(dir.path(), "log", 42).expect("stores");
    store_cursor(dir.path(), "log", 4711).expect("stores");
    assert_eq!(load_cursor(dir.path(), "log").expect("readable"), Some(4711));
    fs::write(dir.path().join("log.cursor"), "4712 00000000\n").expect("writes");
    let error = load_cursor(dir.path(), "log").expect_err("damaged");
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert_eq!(store_cursor(dir.path(), "../x", 1).expect_err("refused").kind, ErrorKind::Rejected);
    assert_eq!(id(dir.path()).expect("readable"), None);
}

#[test]
fn too_large_an_entry_is_refused_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = small(dir.path());
    let error = writer.append(&[entry(1, 0), entry(2, 17 << 20)]).expect_err("too large");
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert_eq!(writer.append(&[entry(1, 15 << 20)]).expect("fits"), 1);
    writer.sync().expect("syncs");
    assert_eq!(read_all(dir.path()).len(), 1);
}

proptest! {
    #[test]
    fn bodies_come_back_as_written(
        id in "[ -~]{1,60}",
        symbol in "[ -~]{1,20}",
        cause in "[a-z_]{0,20}",
        message in "[^\\n]{0,60}",
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let trade = TradeBody { id: &id, symbol: &symbol, json: &bytes };
        let encoded = trade.encode();
        prop_assert_eq!(TradeBody::parse(&encoded), Some(trade));
        let malformed = MalformedBody { cause: cause.as_str().into(), message: message.as_str().into(), bytes: &bytes };
        let encoded = malformed.encode();
        prop_assert_eq!(MalformedBody::parse(&encoded), malformed);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _read = MalformedBody::parse(&bytes);
        if let Some(trade) = TradeBody::parse(&bytes) {
            prop_assert_eq!(trade.encode(), bytes);
        }
    }
}
