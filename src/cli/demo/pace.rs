//! The demo's hand on the clock: fast while the day only passes, slow while there is real work to do.
//!
//! Starting, draining and tearing down take real time, which does not get shorter when the clock runs faster; and a machine
//! that is busy with something else may fall behind the feed for a moment. So the clock races only while everything that
//! should be up is up and keeps up, and it slows down a little ahead of the close.

use std::time::Duration;

use clock::Clock;
use daemon::{Handle, Snapshot};
use domain::dag::StepKind;
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
/// Records that may wait between two hops before the clock slows down: at the opening burst about a minute of trades.
const BEHIND: u64 = 250;
/// How often the clock is looked at, of real time, and how far ahead of an edge it slows down.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const AHEAD: Duration = Duration::from_millis(150);

/// Adjusts the clock until dropped.
pub async fn keep(clock: Clock, handle: Handle, speed: f64, speeds: Speeds) {
    let mut snapshots = handle.subscribe();
    loop {
        let wanted = wanted(&snapshots.borrow_and_update(), speed, speeds, clock.now());
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

fn wanted(snapshot: &Snapshot, speed: f64, speeds: Speeds, now: jiff::Timestamp) -> f64 {
    let Some(view) = snapshot.today() else { return speed.min(speeds.starting) };
    match view.run.state {
        RunState::Closing => return speed.min(CLOSING),
        RunState::Running => {}
        RunState::Succeeded | RunState::Failed | RunState::Cancelled => return speed,
    }
    if let Some(close) = view.run.window.close_at {
        let left = close.duration_since(now).as_secs_f64();
        if left <= 0.0 {
            return speed.min(CLOSING);
        }
        if left < speed * AHEAD.as_secs_f64() {
            return speed.min(speeds.starting);
        }
    }
    let coming_up = view.run.dag.steps().iter().any(|step| {
        let state = view.run.steps.get(&step.name).map_or(StepState::Pending, |s| s.state);
        match step.kind {
            StepKind::Service => {
                matches!(state, StepState::Pending | StepState::Starting | StepState::Running | StepState::Waiting)
            }
            StepKind::Task => !state.is_terminal(),
            StepKind::Check | StepKind::Teardown => false,
        }
    });
    if coming_up {
        return speed.min(speeds.starting);
    }
    // A check asks every store, and servers take real time to answer.
    let checking = view.run.dag.steps().iter().any(|step| {
        let state = view.run.steps.get(&step.name).map(|s| s.state);
        step.kind == StepKind::Check && state.is_some_and(StepState::is_alive)
    });
    if checking || behind(snapshot) > BEHIND {
        return speed.min(speeds.catching_up);
    }
    speed
}

/// The longest queue between two hops.
fn behind(snapshot: &Snapshot) -> u64 {
    let lag = snapshot.gauges.group_lag.values().copied().max().unwrap_or(0);
    let facts = snapshot.today().into_iter().flat_map(|view| view.statuses.values()).map(|status| &status.facts);
    let spooled = facts.filter_map(|facts| {
        let at = |name: &str| facts.get(name).and_then(serde_json::Value::as_u64);
        Some(at("spool_seq")?.saturating_sub(at("log_seq")?.min(at("raw_seq")?)))
    });
    lag.max(spooled.max().unwrap_or(0))
}
