//! The watchdog of a built-in program that runs as a task of a swarm: a thread beside it that reads its
//! attempt's folder.
//!
//! It asks the program to stop when the folder says so, ends it when its time is up, and ends it at once when
//! it is fenced: the swarm has lost its node, and a successor waits for it to be gone. If the folder cannot
//! be read for [`LONGEST_UNREADABLE`], nobody could tell it so, and it ends by itself. Whoever starts the
//! successor waits longer than that, so the two never run at once.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::deadline::is_due;
use crate::folder::{self, Durability, StopOrder};
use clock::Clock;

/// Environment variable with the task's id, in tasks of a swarm.
pub const TASK: &str = "OPENBELL_TASK";
/// Environment variable with the number of the copy, from 1 on, if the step has several.
pub const REPLICA: &str = "OPENBELL_REPLICA";

/// Real time after which a program that cannot read its folder ends.
pub(super) const LONGEST_UNREADABLE: Duration = Duration::from_secs(10);
/// Real time between reads.
const PAUSE: Duration = Duration::from_millis(50);
/// The exit code of a program that was killed.
const KILLED: i32 = 128 + 9;

/// File name of the order to end at once.
pub(super) fn fence_file(task: &str) -> String {
    format!("fence.{task}")
}

/// File name of a task's [`TaskEnd`].
fn end_file(task: &str) -> String {
    format!("gone.{task}")
}

/// How a task ended, in its own words: known also where its node can tell nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskEnd {
    /// The program came to its end with this exit code.
    Code(i32),
    /// Its watchdog ended it, for this reason.
    Killed(String),
}

/// Writes down how a task ended, before its process does.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_end(folder: &Path, task: &str, end: &TaskEnd) -> io::Result<()> {
    folder::write(&folder.join(end_file(task)), end, Durability::Volatile)
}

/// What a task wrote of its end; `None`: nothing yet.
pub(super) fn read_end(folder: &Path, task: &str) -> Option<TaskEnd> {
    folder::read_or_warn(&folder.join(end_file(task)))
}

/// What the folder asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FolderOrder {
    /// It cannot be read, for so long.
    Unreadable(Duration),
    Fence,
    Stop(StopOrder),
    Nothing,
}

/// What follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reaction {
    Continue,
    Stop,
    /// End now, without ceremony.
    End(&'static str),
}

fn decide(asked: &FolderOrder, now: Timestamp) -> Reaction {
    match asked {
        FolderOrder::Unreadable(since) if *since >= LONGEST_UNREADABLE => {
            Reaction::End("its folder cannot be read: it could not be told to end")
        }
        FolderOrder::Fence => {
            Reaction::End("it is fenced: the swarm has lost its node, and its successor waits")
        }
        FolderOrder::Stop(order) if is_due(order.kill_at, now) => Reaction::End("it did not stop in time"),
        FolderOrder::Stop(_) => Reaction::Stop,
        FolderOrder::Unreadable(_) | FolderOrder::Nothing => Reaction::Continue,
    }
}

/// Watches over this process from now on. `stop` asks the program to stop, and is called once.
///
/// # Errors
/// When the machine has no thread left.
pub fn start(
    folder: &Path,
    task: String,
    clock: Clock,
    stop: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let folder = folder.to_owned();
    let watch = move || {
        let mut stop = Some(stop);
        let mut last_read = Instant::now();
        loop {
            let asked = read(&folder, &task, last_read);
            if !matches!(asked, FolderOrder::Unreadable(_)) {
                last_read = Instant::now();
            }
            match decide(&asked, clock.now()) {
                Reaction::Continue => {}
                Reaction::Stop => {
                    if let Some(stop) = stop.take() {
                        stop();
                    }
                }
                Reaction::End(why) => end(&folder, &task, why),
            }
            std::thread::sleep(PAUSE);
        }
    };
    std::thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop)
}

fn read(folder: &Path, task: &str, last_read: Instant) -> FolderOrder {
    // The specification is always there: a folder without it is not the one that orders are written to.
    if std::fs::metadata(folder.join(folder::SPEC)).is_err() {
        return FolderOrder::Unreadable(last_read.elapsed());
    }
    if folder.join(fence_file(task)).exists() {
        return FolderOrder::Fence;
    }
    folder::read_stop(folder).map_or(FolderOrder::Nothing, FolderOrder::Stop)
}

#[expect(clippy::disallowed_methods, reason = "destructors could wait for what this process has lost")]
fn end(folder: &Path, task: &str, why: &str) -> ! {
    println!("ended by its watchdog: {why}");
    if let Err(error) = write_end(folder, task, &TaskEnd::Killed(why.to_owned())) {
        eprintln!("cannot write down that it ended: {error}");
    }
    std::process::exit(KILLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_ends_when_told_and_when_it_could_not_be_told() {
        let now: Timestamp = "2026-11-20T15:00:00Z".parse().expect("a time");
        let later = now + Duration::from_secs(1);
        assert_eq!(decide(&FolderOrder::Nothing, now), Reaction::Continue);
        assert_eq!(decide(&FolderOrder::Unreadable(LONGEST_UNREADABLE - PAUSE), now), Reaction::Continue);
        assert!(matches!(decide(&FolderOrder::Unreadable(LONGEST_UNREADABLE), now), Reaction::End(_)));
        assert!(matches!(decide(&FolderOrder::Fence, now), Reaction::End(_)));
        let order = |kill_at| FolderOrder::Stop(StopOrder { asked_at: now, kill_at });
        assert_eq!(decide(&order(later), now), Reaction::Stop);
        assert!(matches!(decide(&order(now), now), Reaction::End(_)));
        assert!(matches!(decide(&order(later), Timestamp::UNIX_EPOCH), Reaction::End(_)), "its day is over");
    }

    #[test]
    fn orders_are_found_in_the_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let asked = || read(dir.path(), "t1", Instant::now());
        assert!(
            matches!(asked(), FolderOrder::Unreadable(_)),
            "without a specification it is not the attempt's folder"
        );
        std::fs::write(dir.path().join(folder::SPEC), "{}").expect("written");
        assert_eq!(asked(), FolderOrder::Nothing);
        let order = StopOrder { asked_at: Timestamp::UNIX_EPOCH, kill_at: Timestamp::MAX };
        folder::write_stop(dir.path(), &order).expect("written");
        assert_eq!(asked(), FolderOrder::Stop(order.clone()));
        std::fs::write(dir.path().join(fence_file("t2")), "").expect("written");
        assert_eq!(asked(), FolderOrder::Stop(order), "another task is fenced");
        std::fs::write(dir.path().join(fence_file("t1")), "").expect("written");
        assert_eq!(asked(), FolderOrder::Fence);
        assert_eq!(read_end(dir.path(), "t1"), None);
        write_end(dir.path(), "t1", &TaskEnd::Code(3)).expect("written");
        assert_eq!((read_end(dir.path(), "t1"), read_end(dir.path(), "t2")), (Some(TaskEnd::Code(3)), None));
    }
}
