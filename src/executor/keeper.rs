//! The keeper of a command in a container: a small process beside the daemon, which outlives it and holds the attempt's deadline.
//!
//! Built-in programs end themselves and local processes have a shim. A command in a container has neither, and an engine knows no deadlines.
//! So the executor starts a keeper before it starts the container, and again when it adopts one whose keeper is gone. It acts as the
//! daemon does, through the same code, but only [`LAG`] after a daemon would have: where one lives there is nothing left to do. It ends
//! with its attempt. Signals that end other processes do not end it, as with the shim.
//!
//! | file | holds |
//! |---|---|
//! | `keeper.lock` | locked by a living keeper; its process id |
//! | `keeper.log` | its own trouble |

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::docker::engine::Engine;
use super::docker::executor::CONTAINER;
use super::docker::watch::{KILLED, PASSED};
use super::folder::{self, KEEPER_LOCK, KEEPER_LOG, StopOrder};
use super::process::shim::{ignore_signals, is_due};
use super::swarm::launch::SERVICE;
use super::swarm::watch::Terms;
use super::{AttemptSpec, docker, swarm};
use clock::Clock;
use domain::dag::Program;

/// Real time by which a keeper acts later than a daemon.
const LAG: Duration = Duration::from_secs(3);
/// Longest and shortest real time between looks at the clock and the attempt's folder.
const LOOKS: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(50)];
/// Real time that an act gets beyond a stop's own; after that the folder is looked at again.
const LONGEST_ACT: Duration = Duration::from_secs(30);

/// Starts keepers.
#[derive(Debug, Clone)]
pub(super) struct Keepers {
    /// The program whose `keep` is a keeper.
    pub(super) binary: PathBuf,
    /// Address of the engine.
    pub(super) host: String,
    pub(super) clock: Clock,
}

impl Keepers {
    /// Sees to it that the attempt in `folder` has a living keeper, if it needs one.
    pub(super) async fn ensure(&self, folder: &Path) {
        // Of a clock that no other process can read it would know nothing.
        if !self.clock.is_system() && self.clock.file().is_none() {
            return;
        }
        let (keepers, place) = (self.clone(), folder.to_owned());
        let started = tokio::task::spawn_blocking(move || keepers.start(&place)).await.map_err(io::Error::other).flatten();
        if let Err(error) = started {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "an attempt has no keeper; its deadline is held only while this daemon lives");
        }
    }

    fn start(&self, folder: &Path) -> io::Result<()> {
        if folder.join(folder::EXIT).exists() || !folder::read_spec(folder).is_ok_and(|spec| needs_one(&spec)) {
            return Ok(());
        }
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join(KEEPER_LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let log = File::options().create(true).append(true).open(folder.join(KEEPER_LOG))?;
        let mut command = Command::new(&self.binary);
        command.arg0("openbell").arg("keep").arg("--folder").arg(folder).arg("--host").arg(&self.host);
        command.env_remove("OPENBELL_CLOCK");
        if let Some(file) = self.clock.file() {
            command.arg("--clock").arg(file);
        }
        // The lock travels as standard input: held without a gap, and let go by the kernel when the keeper ends.
        command.stdin(Stdio::from(lock)).stdout(Stdio::null()).stderr(log).process_group(0);
        // The runtime takes its status when it ends.
        command.spawn().map(drop)
    }
}

/// Built-in programs end themselves.
fn needs_one(spec: &AttemptSpec) -> bool {
    spec.deadline.is_some() && matches!(spec.step.program, Program::Command { .. })
}

/// What is known of an attempt.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Its end is written down, or it was never started.
    ended: bool,
    /// Its folder is gone: nobody will ask for it any more.
    vanished: bool,
    asked: Option<StopOrder>,
    /// It was to be killed.
    killed: bool,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing before this time.
    Wait(Timestamp),
    /// Ask it to stop.
    Stop,
    /// Kill it, and say so.
    Kill,
    /// Kill it again: whoever was about to may have died over it.
    KillAgain,
    /// Kill it without a word, and end.
    Abandon,
    /// The keeper is not needed any more.
    End,
}

fn next(now: Timestamp, deadline: Timestamp, stop_time: Duration, seen: &Seen) -> Next {
    if seen.ended {
        return Next::End;
    }
    if seen.vanished {
        return Next::Abandon;
    }
    if seen.killed {
        return Next::KillAgain;
    }
    let Some(order) = &seen.asked else {
        return if is_due(deadline, now) { Next::Stop } else { Next::Wait(deadline) };
    };
    // A stop that was asked for before the deadline grants no more time than the deadline does.
    let most = deadline.checked_add(stop_time).unwrap_or(Timestamp::MAX);
    let kill_at = if order.asked_at >= deadline { order.kill_at } else { order.kill_at.min(most) };
    if is_due(kill_at, now) { Next::Kill } else { Next::Wait(kill_at) }
}

/// The attempt as the executor knows it.
enum Hand {
    Container(docker::watch::Watched),
    Service(swarm::watch::Watched),
}

/// One keeper.
struct Keeper {
    hand: Hand,
    spec: AttemptSpec,
    folder: PathBuf,
    deadline: Timestamp,
    clock: Clock,
}

/// Keeps the attempt in `folder`, which is on the engine at `host`, until it has ended. `clock_file` is the virtual clock of a demo.
///
/// # Errors
/// When the folder or the clock cannot be read, or the machine has no room for a runtime.
pub fn run(folder: &Path, host: &str, clock_file: Option<&Path>) -> io::Result<()> {
    ignore_signals()?;
    let spec = folder::read_spec(folder)?;
    let Some(deadline) = spec.deadline else { return Ok(()) };
    fs::write(folder.join(KEEPER_LOCK), format!("{}\n", std::process::id()))?;
    let clock = clock_file.map_or_else(|| Ok(Clock::system()), Clock::follow)?;
    let hand = Hand::of(&spec, folder, host, clock.clone())?;
    let keeper = Keeper { hand, spec, folder: folder.to_owned(), deadline, clock };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(keeper.keep());
    Ok(())
}

impl Hand {
    fn of(spec: &AttemptSpec, folder: &Path, host: &str, clock: Clock) -> io::Result<Self> {
        let note = |name| fs::read_to_string(folder.join(name)).map(|text| text.trim_end().to_owned());
        let (nobody, _) = mpsc::unbounded_channel();
        let (id, place, engine) = (spec.id.clone(), folder.to_owned(), Arc::new(Engine::new(Some(host))));
        match note(CONTAINER) {
            Ok(name) => Ok(Self::Container(docker::watch::Watched::new(id, name, place, engine, clock, nobody))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (name, terms) = (note(SERVICE)?, Terms::of(spec));
                Ok(Self::Service(swarm::watch::Watched::new(id, name, place, terms, engine, clock, nobody)))
            }
            Err(error) => Err(error),
        }
    }

    /// The file that names it; taken away from an attempt that was not started.
    fn note(&self) -> &'static str {
        match self {
            Self::Container(_) => CONTAINER,
            Self::Service(_) => SERVICE,
        }
    }

    fn line(&self, text: &str) {
        match self {
            Self::Container(watched) => watched.line(text),
            Self::Service(watched) => watched.line(text),
        }
    }

    async fn until_gone(&self) {
        match self {
            Self::Container(watched) => watched.until_gone().await,
            Self::Service(watched) => watched.until_gone().await,
        }
    }

    async fn ask(&self, spec: &AttemptSpec, order: &StopOrder) {
        match self {
            Self::Container(watched) => watched.ask(spec.step.stop.signal, order).await,
            Self::Service(watched) => watched.ask(order).await,
        }
    }

    async fn kill(&self, why: &str) {
        match self {
            Self::Container(watched) => watched.kill(why).await,
            Self::Service(watched) => watched.kill(why).await,
        }
    }

    async fn kill_again(&self) {
        match self {
            Self::Container(watched) => watched.signal("SIGKILL").await,
            Self::Service(watched) => watched.evict().await,
        }
    }
}

impl Keeper {
    async fn keep(&self) {
        let mut gone = pin!(self.hand.until_gone());
        // What it did itself, even if that cannot be written down.
        let mut did = Seen::default();
        let mut due: Option<(Next, Instant)> = None;
        let patience = LONGEST_ACT.saturating_add(self.spec.step.stop_time());
        loop {
            let seen = self.look(&did);
            let now = self.clock.now();
            let next = next(now, self.deadline, self.spec.step.stop_time(), &seen);
            let pause = match next {
                Next::End => return,
                Next::Wait(at) => {
                    due = None;
                    look_in(at.duration_since(now), self.clock.speed())
                }
                _ => {
                    let since = due.filter(|(before, _)| *before == next).map_or_else(Instant::now, |(_, since)| since);
                    due = Some((next, since));
                    LAG.saturating_sub(since.elapsed())
                }
            };
            tokio::select! {
                () = &mut gone => return,
                () = tokio::time::sleep(pause.min(LOOKS[0])) => {}
            }
            if pause.is_zero() && due.is_some() {
                tokio::select! {
                    () = &mut gone => return,
                    done = tokio::time::timeout(patience, self.act(next, &seen, &mut did)) => {
                        // One that is told to go does so by the swarm's own doing.
                        if next == Next::Abandon || (done.is_ok() && matches!(self.hand, Hand::Service(_))) {
                            return;
                        }
                    }
                }
                due = None;
            }
        }
    }

    fn look(&self, did: &Seen) -> Seen {
        let is_gone = |path: &Path| matches!(fs::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
        if is_gone(&self.folder) {
            return Seen { vanished: true, ..did.clone() };
        }
        Seen {
            ended: self.folder.join(folder::EXIT).exists() || is_gone(&self.folder.join(self.hand.note())),
            vanished: false,
            asked: folder::read_stop(&self.folder).or_else(|| did.asked.clone()),
            killed: did.killed || self.folder.join(KILLED).exists(),
        }
    }

    async fn act(&self, next: Next, seen: &Seen, did: &mut Seen) {
        match next {
            Next::Stop => {
                self.hand.line(&format!("the attempt's deadline {} has passed", self.deadline));
                let order = StopOrder::now(&self.clock, self.spec.step.stop_time());
                did.asked = Some(order.clone());
                self.hand.ask(&self.spec, &order).await;
            }
            Next::Kill => {
                did.killed = true;
                let late = seen.asked.as_ref().is_none_or(|order| is_due(self.deadline, order.asked_at));
                let why = if late { PASSED } else { "it was asked to stop" };
                self.hand.kill(&format!("{why}, and it did not stop in time")).await;
            }
            Next::KillAgain | Next::Abandon => self.hand.kill_again().await,
            Next::Wait(_) | Next::End => {}
        }
    }
}

/// Real time until the clock should be looked at again, when `left` of its time remains.
fn look_in(left: SignedDuration, speed: f64) -> Duration {
    let [longest, shortest] = LOOKS;
    left.unsigned_abs().div_f64(speed.max(1e-3)).clamp(shortest, longest)
}

#[cfg(test)]
mod tests;
