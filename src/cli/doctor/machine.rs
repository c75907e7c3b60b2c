//! Data folder, stores, clock.

use std::path::{Path, PathBuf};

use domain::format::Zone;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{Access, access, statvfs};

use super::Finding;
use backends::address::{Address, Part, parse};
use config::Config;

/// A full day of 41 symbols with its stores stays below this many bytes.
const ROOM_FOR_A_DAY: u64 = 8 << 30;
/// Below this nothing should be started.
const NO_ROOM: u64 = 512 << 20;
/// Before this instant the clock is certainly wrong: the first release is younger.
const FIRST_RELEASE: i64 = 1_793_491_200;

/// The folder, or the nearest one above it that exists.
fn existing(path: &Path) -> PathBuf {
    let path = if path.is_absolute() { path.to_owned() } else { Path::new(".").join(path) };
    path.ancestors().find(|p| p.exists()).map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Whether the folder can be written, or made; and how much room it has.
pub(super) fn data_folder(data: &Path) -> Vec<Finding> {
    const CHECK: &str = "data folder";
    let at = existing(data);
    if data.exists() && !data.is_dir() {
        return vec![Finding::fail(
            CHECK,
            format!("{} is not a folder", data.display()),
            "remove it, or choose another with --data",
        )];
    }
    if let Err(errno) = access(&at, Access::WRITE_OK | Access::EXEC_OK) {
        let remedy = "give this user the right to write it, or choose another with --data";
        return vec![Finding::fail(CHECK, format!("{} cannot be written: {errno}", at.display()), remedy)];
    }
    let state = if data.exists() { "can be written" } else { "will be made at the first start" };
    vec![Finding::ok(CHECK, format!("{} {state}", data.display())), room(&at)]
}

fn room(at: &Path) -> Finding {
    const CHECK: &str = "free space";
    match statvfs(at) {
        Err(errno) => Finding::warn(CHECK, format!("{}: {errno}", at.display()), "look at the disk"),
        Ok(disk) => judge_room(disk.f_bavail.saturating_mul(disk.f_frsize)),
    }
}

fn judge_room(free: u64) -> Finding {
    const CHECK: &str = "free space";
    let has = format!("{} free", gigabytes(free));
    match free {
        0..NO_ROOM => Finding::fail(CHECK, has, "free some space before a day is started"),
        NO_ROOM..ROOM_FOR_A_DAY => {
            Finding::warn(CHECK, has, format!("a trading day may take up to {}", gigabytes(ROOM_FOR_A_DAY)))
        }
        _ => Finding::ok(CHECK, has),
    }
}

/// The parts with an address: their names here, and where they are.
pub(super) fn parts(config: &Config) -> [(Part, &'static str, &str); 5] {
    [
        (Part::Log, "log", &config.log),
        (Part::Raw, "raw store", &config.raw),
        (Part::Index, "index", &config.index),
        (Part::Objects, "objects", &config.objects),
        (Part::Mail, "mail", &config.mail),
    ]
}

/// Whether the addresses of the stores mean something, and the folders of those on this machine can be used.
/// Servers are asked by [`network::servers`](super::network::servers).
pub(super) fn stores(config: &Config, data: &Path) -> Vec<Finding> {
    parts(config).into_iter().filter_map(|(part, name, address)| store(part, name, address, data)).collect()
}

fn store(part: Part, name: &'static str, address: &str, data: &Path) -> Option<Finding> {
    match parse(part, address, data) {
        Ok(Address::Embedded(folder) | Address::Folder(folder)) => Some(local(name, &folder)),
        Ok(Address::Server(_)) => None,
        Err(error) => {
            Some(Finding::fail(name, error.to_string(), "correct the address in the configuration"))
        }
    }
}

fn local(name: &'static str, folder: &Path) -> Finding {
    let at = existing(folder);
    if !at.is_dir() {
        return Finding::fail(
            name,
            format!("{} is not a folder", at.display()),
            "remove it, or give the store another address",
        );
    }
    match access(&at, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if folder.exists() => Finding::ok(name, format!("{} can be used", folder.display())),
        Ok(()) => Finding::ok(name, format!("{} will be made at the first start", folder.display())),
        Err(errno) => Finding::fail(
            name,
            format!("{} cannot be used: {errno}", at.display()),
            "give this user the right to read and write it",
        ),
    }
}

/// Whether the clock can be right and zones are known.
pub(super) fn clock(now: Timestamp) -> Finding {
    const CHECK: &str = "clock";
    if now.as_second() < FIRST_RELEASE {
        return Finding::fail(
            CHECK,
            format!("it reads {now}, which is past"),
            "set the machine's clock, best by NTP",
        );
    }
    match TimeZone::get("Asia/Seoul") {
        Ok(_) => Finding::ok(CHECK, format!("it reads {}", Zone::new("Asia/Seoul").full(now))),
        Err(error) => Finding::fail(
            CHECK,
            format!("the zone Asia/Seoul is unknown: {error}"),
            "repair the machine's zone database (tzdata)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_folder_that_is_a_file_fails_and_one_that_is_not_there_is_fine() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("written");
        assert_eq!(data_folder(&file)[0].level, Level::Fail);
        let fresh = folder.path().join("a/b/c");
        assert_eq!(data_folder(&fresh)[0].level, Level::Ok);
        assert!(!fresh.exists(), "doctor makes nothing");
        assert_eq!(stores(&Config::default(), &file)[0].level, Level::Fail);
    }

    #[test]
    fn room_is_judged() {
        let levels: Vec<_> = [1 << 20, 1 << 30, 1 << 40].map(|free| judge_room(free).level).into();
        assert_eq!(levels, [Level::Fail, Level::Warn, Level::Ok]);
    }

    #[test]
    fn a_wrong_address_says_what_to_write() {
        let finding = store(Part::Log, "log", "mongodb://broker", Path::new("data")).expect("wrong");
        assert_eq!(finding.level, Level::Fail);
        assert!(finding.message.contains("kafka://"), "{finding:?}");
        assert_eq!(store(Part::Log, "log", "kafka://broker:9092", Path::new("data")), None);
    }

    #[test]
    fn a_clock_in_the_past_is_noticed() {
        assert_eq!(clock(Timestamp::UNIX_EPOCH).level, Level::Fail);
        assert_eq!(clock("2026-11-20T09:00:00+09:00".parse().expect("an instant")).level, Level::Ok);
    }
}
