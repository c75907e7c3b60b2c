//! The guard of a built-in program that runs as a task of a swarm: a thread beside it that reads its attempt's folder.
//!
//! It asks the program to stop when the folder says so, ends it when its time is up, and ends it at once when it is fenced: the swarm has
//! lost its node, and a successor waits for it to be gone. If the folder cannot be read for [`BLIND`], nobody could tell it so, and
//! it ends by itself. Whoever starts the successor waits longer than that, so the two never run at once.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use clock::Clock;
use crate::folder::{self, Durability, StopOrder};

/// Environment variable with the task's id, in tasks of a swarm.
pub const TASK: &str = "OPENBELL_TASK";
/// Environment variable with the number of the copy, from 1 on, if the step has several.
pub const REPLICA: &str = "OPENBELL_REPLICA";

/// Real time after which a program that cannot read its folder ends.
pub(super) const BLIND: Duration = Duration::from_secs(10);
/// Real time between looks.
const LOOK: Duration = Duration::from_millis(50);
/// The exit code of a program that was killed.
const KILLED: i32 = 128 + 9;

/// File name of the order to end at once.
pub(super) fn fence(task: &str) -> String {
    format!("fence.{task}")
}

/// File name of the word that the task has ended.
fn gone(task: &str) -> String {
    format!("gone.{task}")
}

/// How a task ended, in its own words: known also where its node can tell nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gone {
    /// The program came to its end with this exit code.
    Code(i32),
    /// Its guard ended it, for this reason.
    Killed(String),
}

/// Says how a task ended, before its process does.
///
/// # Errors
/// When the folder cannot be written.
pub fn say_gone(folder: &Path, task: &str, gone_: &Gone) -> io::Result<()> {
    folder::write(&folder.join(gone(task)), gone_, Durability::Volatile)
}

/// What a task said of its end; `None`: nothing yet.
pub(super) fn read_gone(folder: &Path, task: &str) -> Option<Gone> {
    folder::read_or_warn(&folder.join(gone(task)))
}

/// What one look at the folder showed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// It cannot be read, for so long.
    Nothing(Duration),
    Fence,
    Stop(StopOrder),
    Peace,
}

/// What follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    GoOn,
    Stop,
    /// End now, without ceremony.
    End(&'static str),
}

fn decide(seen: &Seen, now: Timestamp) -> Order {
    match seen {
        Seen::Nothing(since) if *since >= BLIND => Order::End("its folder cannot be read: it could not be told to end"),
        Seen::Fence => Order::End("it is fenced: the swarm has lost its node, and its successor waits"),
        // The epoch is what a virtual clock reads once its file is gone: the day it belonged to is over.
        Seen::Stop(order) if now >= order.kill_at || now == Timestamp::UNIX_EPOCH => Order::End("it did not stop in time"),
        Seen::Stop(_) => Order::Stop,
        Seen::Nothing(_) | Seen::Peace => Order::GoOn,
    }
}

/// Guards this process from now on. `stop` asks the program to stop, and is called once.
///
/// # Errors
/// When the machine has no thread left.
pub fn keep(folder: &Path, task: String, clock: Clock, stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let folder = folder.to_owned();
    let watch = move || {
        let mut stop = Some(stop);
        let mut last_seen = Instant::now();
        loop {
            let seen = look(&folder, &task, last_seen);
            if !matches!(seen, Seen::Nothing(_)) {
                last_seen = Instant::now();
            }
            match decide(&seen, clock.now()) {
                Order::GoOn => {}
                Order::Stop => {
                    if let Some(stop) = stop.take() {
                        stop();
                    }
                }
                Order::End(why) => end(&folder, &task, why),
            }
            std::thread::sleep(LOOK);
        }
    };
    std::thread::Builder::new().name("guard".into()).spawn(watch).map(drop)
}

fn look(folder: &Path, task: &str, last_seen: Instant) -> Seen {
    // The specification is always there: a folder without it is not the one that orders are written to.
    if std::fs::metadata(folder.join(folder::SPEC)).is_err() {
        return Seen::Nothing(last_seen.elapsed());
    }
    if folder.join(fence(task)).exists() {
        return Seen::Fence;
    }
    folder::read_stop(folder).map_or(Seen::Peace, Seen::Stop)
}

#[expect(clippy::disallowed_methods, reason = "destructors could wait for what this process has lost")]
fn end(folder: &Path, task: &str, why: &str) -> ! {
    println!("ended by its guard: {why}");
    if let Err(error) = say_gone(folder, task, &Gone::Killed(why.to_owned())) {
        eprintln!("cannot say that it ended: {error}");
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
        assert_eq!(decide(&Seen::Peace, now), Order::GoOn);
        assert_eq!(decide(&Seen::Nothing(BLIND - LOOK), now), Order::GoOn);
        assert!(matches!(decide(&Seen::Nothing(BLIND), now), Order::End(_)));
        assert!(matches!(decide(&Seen::Fence, now), Order::End(_)));
        let order = |kill_at| Seen::Stop(StopOrder { asked_at: now, kill_at });
        assert_eq!(decide(&order(later), now), Order::Stop);
        assert!(matches!(decide(&order(now), now), Order::End(_)));
        assert!(matches!(decide(&order(later), Timestamp::UNIX_EPOCH), Order::End(_)), "its day is over");
    }

    #[test]
    fn orders_are_found_in_the_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let see = || look(dir.path(), "t1", Instant::now());
        assert!(matches!(see(), Seen::Nothing(_)), "without a specification it is not the attempt's folder");
        std::fs::write(dir.path().join(folder::SPEC), "{}").expect("written");
        assert_eq!(see(), Seen::Peace);
        let order = StopOrder { asked_at: Timestamp::UNIX_EPOCH, kill_at: Timestamp::MAX };
        folder::write_stop(dir.path(), &order).expect("written");
        assert_eq!(see(), Seen::Stop(order.clone()));
        std::fs::write(dir.path().join(fence("t2")), "").expect("written");
        assert_eq!(see(), Seen::Stop(order), "another task is fenced");
        std::fs::write(dir.path().join(fence("t1")), "").expect("written");
        assert_eq!(see(), Seen::Fence);
        assert_eq!(read_gone(dir.path(), "t1"), None);
        say_gone(dir.path(), "t1", &Gone::Code(3)).expect("written");
        assert_eq!((read_gone(dir.path(), "t1"), read_gone(dir.path(), "t2")), (Some(Gone::Code(3)), None));
    }
}
