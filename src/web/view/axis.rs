//! The time axis of a run: places of instants, ticks and pieces, as shares of its width, so that a page needs
//! no script to lay it out.

use std::fmt;

use jiff::Timestamp;

use super::format::Zone;
use crate::locale::Text;
use daemon::snapshot::RunView;

/// A share of the track's width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}%", self.0)
    }
}

/// A labelled place on the axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Where.
    pub x: Percent,
    /// `09:00`
    pub label: String,
    /// Text anchor, so that the outermost labels stay inside.
    pub anchor: &'static str,
    /// So close to the now-line's own label that a narrow page has no room for both.
    pub near: bool,
}

/// A coloured piece of a bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Left end.
    pub x: Percent,
    /// Width.
    pub width: Percent,
    /// Style class: `starting`, `ready`, `degraded`, `stopping`, `waiting`, `running`, `done`, `bad`,
    /// `rounds`, `stall`.
    pub class: &'static str,
    /// Shown on hover.
    pub title: Text,
}

/// From instants to places.
pub(crate) struct Scale {
    from: Timestamp,
    seconds: f64,
}

impl Scale {
    pub(crate) fn of(view: &RunView, now: Timestamp) -> Self {
        let run = &view.run;
        let last_stop = run.steps.values().filter_map(|s| s.stopped_at).max();
        let open_end = if run.state.is_terminal() { run.finished_at.or(last_stop) } else { Some(now) };
        let to = [run.window.close_at, last_stop, open_end].into_iter().flatten().max().unwrap_or(now);
        let from =
            run.steps.values().filter_map(|s| s.started_at).chain([run.window.open_at]).min().unwrap_or(now);
        let length = to.duration_since(from).as_secs_f64().max(1.0);
        // A little air after the close, where teardown steps live.
        Self { from, seconds: length * 1.02 }
    }

    /// Whether a time lies on the axis.
    pub(crate) fn holds(&self, at: Timestamp) -> bool {
        (0.0..=self.seconds).contains(&at.duration_since(self.from).as_secs_f64())
    }

    pub(crate) fn at(&self, at: Timestamp) -> Percent {
        Percent((at.duration_since(self.from).as_secs_f64() / self.seconds * 100.0).clamp(0.0, 100.0))
    }

    pub(crate) fn piece(&self, from: Timestamp, to: Timestamp, class: &'static str, title: Text) -> Segment {
        let (x, end) = (self.at(from), self.at(to.max(from)));
        // Wide enough to be seen, without running off the right edge.
        let width = (end.0 - x.0).max(0.35);
        Segment { x: Percent(x.0.min(100.0 - width)), width: Percent(width), class, title }
    }

    fn ticks(&self, zone: &Zone) -> Vec<Tick> {
        const STEPS: [i64; 11] = [10, 60, 300, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];
        let step = STEPS.into_iter().find(|s| self.seconds / (*s as f64) <= 9.0).unwrap_or(604_800);
        let offset = zone.offset_seconds(self.from);
        let first = (self.from.as_second() + offset).div_euclid(step) * step + step - offset;
        let mut ticks = Vec::new();
        let mut second = first;
        while (second - self.from.as_second()) as f64 <= self.seconds * 0.995 {
            let Ok(at) = Timestamp::from_second(second) else { break };
            let x = self.at(at);
            let label = if step < 60 { zone.time(at) } else { zone.minute(at) };
            ticks.push(Tick { x, label, anchor: anchor(x), near: false });
            second += step;
        }
        ticks
    }
}

/// What the drawings of a run's steps share: the ticks above their rows, and the lines through them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub(crate) ticks: Vec<Tick>,
    /// Where now is, with its time; `None` once the run has ended.
    pub(crate) now: Option<Tick>,
    /// Where the window closes.
    pub(crate) close: Option<Percent>,
    /// Short name of the zone.
    pub(crate) zone: String,
}

impl Axis {
    pub(crate) fn of(view: &RunView, scale: &Scale, now: Timestamp, zone: &Zone) -> Self {
        let (mut ticks, at) = (scale.ticks(zone), scale.at(now));
        let open = !view.run.state.is_terminal();
        if open {
            make_room(&mut ticks, at);
        }
        Self {
            ticks,
            now: open.then(|| Tick { x: at, label: zone.minute(now), anchor: anchor(at), near: false }),
            close: view.run.window.close_at.map(|at| scale.at(at)),
            zone: zone.label(now),
        }
    }
}

/// Leaves the place around the now-line to its own label.
fn make_room(ticks: &mut [Tick], now: Percent) {
    for tick in ticks {
        let away = (tick.x.0 - now.0).abs();
        tick.near = away < 13.0;
        if away < 5.0 {
            tick.label.clear();
        }
    }
}

fn anchor(x: Percent) -> &'static str {
    match x.0 {
        x if x < 4.0 => "start",
        x if x > 96.0 => "end",
        _ => "middle",
    }
}
