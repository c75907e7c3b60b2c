//! The demo's hand on the clock: fast while the day only passes, slow while there is real work to do.
//!
//! Starting, draining and tearing down take real time, which does not get shorter when the clock runs faster;
//! and a machine that is busy with something else may fall behind the feed for a moment. So the clock races
//! only while everything that should be up is up and keeps up, and it slows down a little ahead of the close.
//! It stands still where the day is held.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use clock::Clock;
use daemon::snapshot::RunView;
use daemon::{Handle, Snapshot};
use domain::dag::StepKind;
use domain::ids::RunId;
use domain::run::{RunState, StepState};

/// Speeds while there is work to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speeds {
    /// While services come up, which have 30 s to be ready, and just before the close.
    starting: f64,
    /// While a store is behind the feed, or a check asks all of them.
    catching_up: f64,
}

impl Speeds {
    /// Embedded stores open in milliseconds: 30 s are 3 s of work.
    pub const EMBEDDED: Self = Self { starting: 10.0, catching_up: 20.0 };
    /// Servers are asked for connections, groups and templates first: 30 s are 15 s of work.
    pub const SERVERS: Self = Self { starting: 2.0, catching_up: 10.0 };
}

/// Speed from close on: the bell has rung, the rest is work.
const CLOSING: f64 = 1.0;
/// Speed while the day is held.
pub const HELD: f64 = 0.0;
/// Records that may wait between two hops before the clock slows down: at the opening burst about a minute of
/// trades.
const BEHIND: u64 = 250;
/// How often the clock is looked at, of real time, and how far ahead of an edge it slows down.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const AHEAD: Duration = Duration::from_millis(150);

/// Adjusts the clock until dropped. From the time in `hold` on, if there is one, it stands still.
pub async fn keep(
    clock: Clock,
    handle: Handle,
    day: RunId,
    (speed, speeds): (f64, Speeds),
    hold: watch::Receiver<Option<Timestamp>>,
) {
    let mut snapshots = handle.subscribe();
    loop {
        let (now, hold) = (clock.now(), *hold.borrow());
        let needed = need(&snapshots.borrow_and_update(), &day, now);
        let wanted = wanted(needed, speed, speeds, hold.map(|at| seconds(now, at)));
        if (clock.speed() - wanted).abs() > f64::EPSILON {
            clock.set_speed(wanted);
        }
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// What there is to do, as far as the clock is concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Need {
    /// Services come up, at the beginning or again.
    Starting,
    /// A store is behind the feed, or a check asks all of them, this many seconds before the close.
    CatchingUp(f64),
    /// The day only passes, this many seconds before the close.
    Passing(f64),
    /// Everything stops, drains and is torn down.
    Closing,
    /// The run is over.
    Over,
}

/// The run that is played; where days overlap, the next one may be there too.
pub(super) fn of<'a>(snapshot: &'a Snapshot, day: &RunId) -> Option<&'a RunView> {
    snapshot.runs.iter().find(|view| view.run.id == *day)
}

fn need(snapshot: &Snapshot, day: &RunId, now: Timestamp) -> Need {
    let Some(view) = of(snapshot, day) else { return Need::Starting };
    match view.run.state {
        RunState::Closing => return Need::Closing,
        RunState::Running => {}
        RunState::Succeeded | RunState::Failed | RunState::Cancelled => return Need::Over,
    }
    let left = view.run.window.close_at.map_or(f64::INFINITY, |close| seconds(now, close));
    if left <= 0.0 {
        return Need::Closing;
    }
    let coming_up = view.run.dag.steps().iter().any(|step| {
        let state = view.run.steps.get(&step.name).map_or(StepState::Pending, |s| s.state);
        match step.kind {
            StepKind::Service => {
                matches!(
                    state,
                    StepState::Pending | StepState::Starting | StepState::Running | StepState::Waiting
                )
            }
            StepKind::Task => !state.is_terminal(),
            StepKind::Check | StepKind::Teardown => false,
        }
    });
    if coming_up {
        return Need::Starting;
    }
    // A check asks every store, and servers take real time to answer.
    let checking = view.run.dag.steps().iter().any(|step| {
        let state = view.run.steps.get(&step.name).map(|s| s.state);
        step.kind == StepKind::Check && state.is_some_and(StepState::is_alive)
    });
    if checking || behind(snapshot, day) > BEHIND { Need::CatchingUp(left) } else { Need::Passing(left) }
}

/// The clock's speed; `hold` is how many seconds before the time the day is held at, negative after it.
fn wanted(need: Need, speed: f64, speeds: Speeds, hold: Option<f64>) -> f64 {
    let held = hold.is_some_and(|left| left <= 0.0);
    let near = |left: f64| left < speed * AHEAD.as_secs_f64();
    let most = match need {
        // What has to start or to stop waits for the clock, and is not kept waiting by a day that is held.
        Need::Starting => speeds.starting,
        Need::Closing => CLOSING,
        Need::Over | Need::CatchingUp(_) | Need::Passing(_) if held => HELD,
        Need::CatchingUp(close) | Need::Passing(close) if near(close) || hold.is_some_and(near) => {
            speeds.starting
        }
        Need::CatchingUp(_) => speeds.catching_up,
        Need::Passing(_) => speed,
        // The proof takes real time, and the next day, which may have begun, is not what is played.
        Need::Over => CLOSING,
    };
    speed.min(most)
}

/// The longest queue between two hops.
fn behind(snapshot: &Snapshot, day: &RunId) -> u64 {
    let lag = snapshot.gauges.group_lag.values().copied().max().unwrap_or(0);
    let facts =
        of(snapshot, day).into_iter().flat_map(|view| view.statuses.values()).map(|status| &status.facts);
    let spooled = facts.filter_map(|facts| {
        let at = |name: &str| facts.get(name).and_then(serde_json::Value::as_u64);
        Some(at("spool_seq")?.saturating_sub(at("log_seq")?.min(at("raw_seq")?)))
    });
    lag.max(spooled.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: f64 = 3600.0;

    fn paced(need: Need, hold: Option<f64>) -> f64 {
        wanted(need, 300.0, Speeds::EMBEDDED, hold)
    }

    #[test]
    fn the_clock_races_only_while_the_day_just_passes() {
        assert_eq!(paced(Need::Passing(FAR), None), 300.0);
        assert_eq!(paced(Need::Passing(44.0), None), Speeds::EMBEDDED.starting, "just before the close");
        assert_eq!(paced(Need::Starting, None), Speeds::EMBEDDED.starting);
        assert_eq!(paced(Need::CatchingUp(FAR), None), Speeds::EMBEDDED.catching_up);
        assert_eq!(paced(Need::Closing, None), CLOSING);
        assert_eq!(wanted(Need::Passing(FAR), 1.0, Speeds::EMBEDDED, None), 1.0);
        assert_eq!(wanted(Need::Starting, 1.0, Speeds::EMBEDDED, None), 1.0);
    }

    #[test]
    fn a_day_that_is_held_stands_still_but_for_what_has_to_start_or_to_stop() {
        for need in [Need::Passing(FAR), Need::CatchingUp(FAR), Need::Over] {
            assert_eq!(paced(need, Some(0.0)), HELD);
            assert_eq!(paced(need, Some(-60.0)), HELD, "also later, if it was not kept there in time");
        }
        assert_eq!(paced(Need::Starting, Some(0.0)), Speeds::EMBEDDED.starting);
        assert_eq!(paced(Need::Closing, Some(0.0)), CLOSING);
        assert_eq!(
            paced(Need::Passing(FAR), Some(44.0)),
            Speeds::EMBEDDED.starting,
            "it comes to rest slowly"
        );
        assert_eq!(paced(Need::Passing(FAR), Some(46.0)), 300.0);
    }
}
