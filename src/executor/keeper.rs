//! The keeper of a command in a container: a small process beside the daemon, which outlives it and holds the
//! attempt's deadline.
//!
//! Built-in programs end themselves and local processes have a shim. A command in a container has neither,
//! and an engine knows no deadlines. So the executors of containers start a keeper before they start the
//! container, and again when they adopt one whose keeper is gone. It acts as the daemon does, through the
//! same code, but only [`LAG`] after a daemon would have: where one lives there is nothing left to do. It
//! ends with its attempt. Signals that end other processes do not end it, as with the shim.

use std::fs;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::AttemptSpec;
use super::attempts::Attempt;
use super::container::docker::Container;
use super::container::swarm::Service;
use super::container::{Contained, Engine, PASSED, Terms, Workload};
use super::deadline::{is_due, pause};
use super::folder::{self, KEEPER_LOCK, KILLED, StopOrder};
use super::process::shim::ignore_signals;
use clock::Clock;

/// Real time by which a keeper acts later than a daemon.
const LAG: Duration = Duration::from_secs(3);
/// Shortest and longest real time between reads of the clock and the attempt's folder.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// Real time that an act gets beyond a stop's own; after that the folder is read again.
const LONGEST_ACT: Duration = Duration::from_secs(30);

/// What is known of an attempt.
#[derive(Debug, Clone, Default)]
struct AttemptFacts {
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

fn next(now: Timestamp, deadline: Timestamp, stop_time: Duration, known: &AttemptFacts) -> Next {
    if known.ended {
        return Next::End;
    }
    if known.vanished {
        return Next::Abandon;
    }
    if known.killed {
        return Next::KillAgain;
    }
    let Some(order) = &known.asked else {
        return if is_due(deadline, now) { Next::Stop } else { Next::Wait(deadline) };
    };
    // A stop that was asked for before the deadline grants no more time than the deadline does.
    let most = deadline.checked_add(stop_time).unwrap_or(Timestamp::MAX);
    let kill_at = if order.asked_at >= deadline { order.kill_at } else { order.kill_at.min(most) };
    if is_due(kill_at, now) { Next::Kill } else { Next::Wait(kill_at) }
}

/// One keeper.
struct Keeper<W> {
    attempt: Attempt<Contained<W>>,
    deadline: Timestamp,
    clock: Clock,
}

/// Keeps the attempt in `folder`, which is on the engine at `host`, until it has ended. `clock_file` is the
/// virtual clock of a demo.
///
/// # Errors
/// When the folder or the clock cannot be read, or the machine has no room for a runtime.
pub fn run(folder: &Path, host: &str, clock_file: Option<&Path>) -> io::Result<()> {
    ignore_signals()?;
    let spec = folder::read_spec(folder)?;
    let Some(deadline) = spec.deadline else { return Ok(()) };
    fs::write(folder.join(KEEPER_LOCK), format!("{}\n", std::process::id()))?;
    let clock = clock_file.map_or_else(|| Ok(Clock::system()), Clock::follow)?;
    let engine = Arc::new(Engine::new(Some(host)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if folder.join(Container::NAME_FILE).exists() {
        runtime.block_on(Keeper::of(&spec, folder, deadline, engine, clock, Container)?.keep());
    } else {
        let service = Service::unwatched(&engine);
        runtime.block_on(Keeper::of(&spec, folder, deadline, engine, clock, service)?.keep());
    }
    Ok(())
}

impl<W: Workload> Keeper<W> {
    fn of(
        spec: &AttemptSpec,
        folder: &Path,
        deadline: Timestamp,
        engine: Arc<Engine>,
        clock: Clock,
        workload: W,
    ) -> io::Result<Self> {
        let name = fs::read_to_string(folder.join(W::NAME_FILE))?.trim_end().to_owned();
        let contained = Contained { name, terms: Terms::of(spec), engine, clock: clock.clone(), workload };
        let attempt = Attempt::new(spec.id.clone(), folder.to_owned(), contained, None);
        Ok(Self { attempt, deadline, clock })
    }

    async fn keep(&self) {
        let mut gone = pin!(W::until_gone(&self.attempt));
        // What it did itself, even if that cannot be written down.
        let mut did = AttemptFacts::default();
        let mut due: Option<(Next, Instant)> = None;
        let stop_time = self.attempt.detail.terms.stop_time;
        let patience = LONGEST_ACT.saturating_add(stop_time);
        loop {
            let known = self.look(&did);
            let now = self.clock.now();
            let next = next(now, self.deadline, stop_time, &known);
            let pause = match next {
                Next::End => return,
                Next::Wait(at) => {
                    due = None;
                    pause(at.duration_since(now), self.clock.speed(), PAUSES)
                }
                _ => {
                    let since = due
                        .filter(|(before, _)| *before == next)
                        .map_or_else(Instant::now, |(_, since)| since);
                    due = Some((next, since));
                    LAG.saturating_sub(since.elapsed())
                }
            };
            tokio::select! {
                () = &mut gone => return,
                () = tokio::time::sleep(pause.min(PAUSES[1])) => {}
            }
            if pause.is_zero() && due.is_some() {
                tokio::select! {
                    () = &mut gone => return,
                    done = tokio::time::timeout(patience, self.act(next, &known, &mut did)) => {
                        if next == Next::Abandon || (done.is_ok() && W::KILLS_BY_ITSELF) {
                            return;
                        }
                    }
                }
                due = None;
            }
        }
    }

    /// What the folder shows, and what this keeper did.
    fn look(&self, did: &AttemptFacts) -> AttemptFacts {
        let folder = &self.attempt.folder;
        let is_gone =
            |path: &Path| matches!(fs::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
        if is_gone(folder) {
            return AttemptFacts { vanished: true, ..did.clone() };
        }
        AttemptFacts {
            // Without its name it was not started.
            ended: folder.join(folder::EXIT).exists() || is_gone(&folder.join(W::NAME_FILE)),
            vanished: false,
            asked: folder::read_stop(folder).or_else(|| did.asked.clone()),
            killed: did.killed || folder.join(KILLED).exists(),
        }
    }

    async fn act(&self, next: Next, known: &AttemptFacts, did: &mut AttemptFacts) {
        let attempt = &self.attempt;
        match next {
            Next::Stop => {
                let Terms { signal, stop_time, .. } = attempt.detail.terms;
                attempt.line(&format!("the attempt's deadline {} has passed", self.deadline));
                let order = StopOrder::now(&self.clock, stop_time);
                did.asked = Some(order.clone());
                attempt.ask(signal, &order).await;
            }
            Next::Kill => {
                did.killed = true;
                let late = known.asked.as_ref().is_none_or(|order| is_due(self.deadline, order.asked_at));
                let why = if late { PASSED } else { "it was asked to stop" };
                attempt.kill(&format!("{why}, and it did not stop in time")).await;
            }
            Next::KillAgain | Next::Abandon => W::kill(attempt).await,
            Next::Wait(_) | Next::End => {}
        }
    }
}

#[cfg(test)]
mod tests;
