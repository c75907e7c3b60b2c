//! A symbol's day as a drawing: price and average as lines, the volume of each window as bars, windows that
//! broke a rule as bands.
//!
//! Lines are in a box of their own that stretches with the page; words and grid lie around it in percent, as
//! in the timeline.

use std::fmt::Write;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::data::Window;
use crate::locale::{Text, say};
use crate::view::axis::{Percent, Tick};
use crate::view::format::{Zone, amount, count, krw, quantity};

/// Width of the lines' box, in its own units.
pub(crate) const WIDTH: f64 = 1_000.0;
/// Height of the price box, in its own units.
pub(crate) const HEIGHT: f64 = 260.0;
/// Height of the volume box, in its own units.
pub(crate) const LOW: f64 = 70.0;
/// Without trades for this long, the line is broken.
const BREAK_SECONDS: i64 = 300;

/// A level of the price.
#[derive(Debug, PartialEq)]
pub(crate) struct Level {
    pub(crate) y: Percent,
    pub(crate) label: String,
}

/// A window that broke a rule.
#[derive(Debug, PartialEq)]
pub(crate) struct Band {
    pub(crate) x: Percent,
    pub(crate) width: Percent,
    pub(crate) title: Text,
}

/// The drawing.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Drawing {
    /// The price of each window, as an SVG path.
    pub(crate) price: String,
    /// The average from the first window on.
    pub(crate) vwap: String,
    /// One bar a window.
    pub(crate) volume: String,
    pub(crate) levels: Vec<Level>,
    pub(crate) ticks: Vec<Tick>,
    pub(crate) bands: Vec<Band>,
    /// Largest volume of a window.
    pub(crate) most: String,
    /// Volume of the highest bar; larger ones are cut off there.
    pub(crate) top: String,
    /// What it shows, for who cannot see it.
    pub(crate) words: Text,
}

struct Scale {
    from: i64,
    seconds: f64,
    low: f64,
    span: f64,
}

impl Scale {
    fn share(&self, at: Timestamp) -> f64 {
        ((at.as_second() - self.from) as f64 / self.seconds).clamp(0.0, 1.0)
    }
    fn x(&self, at: Timestamp) -> f64 {
        self.share(at) * WIDTH
    }
    fn y(&self, price: f64) -> f64 {
        HEIGHT * (1.0 - (price - self.low) / self.span)
    }
}

fn scale(windows: &[Window]) -> Option<Scale> {
    let (first, last) = (windows.first()?, windows.last()?);
    let prices = windows.iter().flat_map(|w| [w.min_price, w.max_price]).filter(|p| p.is_finite());
    let (low, high) = prices.fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p), high.max(p)));
    if low > high {
        return None;
    }
    // A flat day is a line in the middle.
    let margin = ((high - low) * 0.06).max(high.abs() * 0.001).max(1.0);
    let from = first.window_start.as_second();
    let seconds = (last.window_end.as_second() - from).max(1) as f64;
    Some(Scale { from, seconds, low: low - margin, span: high - low + 2.0 * margin })
}

/// Draws windows, which are in the order of their starts. `told` are those that broke a rule.
pub(crate) fn draw<'a>(windows: &[Window], told: impl Iterator<Item = &'a Window>, zone: &Zone) -> Drawing {
    let Some(scale) = scale(windows) else { return Drawing::default() };
    let mut drawing = Drawing::default();
    let most = windows.iter().map(|w| w.volume).max().unwrap_or_default();
    let top = Some(top(windows)).filter(|top| *top > Decimal::ZERO).unwrap_or(Decimal::ONE);
    let (mut value, mut volume, mut before) = (0.0, 0.0, None::<Timestamp>);
    for window in windows {
        let (start, end) = (scale.x(window.window_start), scale.x(window.window_end));
        let middle = (start + end) / 2.0;
        let height = amount(window.volume.clamp(Decimal::ZERO, top)) / amount(top) * LOW;
        // Writing into a text cannot fail.
        let _ = write!(drawing.volume, "M{start:.1} {LOW}V{:.1}H{end:.1}V{LOW}Z", LOW - height);
        (value, volume) = (value + window.value, volume + amount(window.volume));
        let joined = before.is_some_and(|b| window.window_start.as_second() - b.as_second() <= BREAK_SECONDS);
        let pen = if joined { 'L' } else { 'M' };
        if let Some(price) = window.vwap.filter(|p| p.is_finite()) {
            let _ = write!(drawing.price, "{pen}{middle:.1} {:.1}", scale.y(price));
            // A window alone is a dot.
            if !joined {
                drawing.price.push_str("h.1");
            }
            before = Some(window.window_end);
        }
        if volume > 0.0 {
            let pen = if drawing.vwap.is_empty() { 'M' } else { 'L' };
            let _ = write!(drawing.vwap, "{pen}{middle:.1} {:.1}", scale.y(value / volume));
        }
    }
    drawing.levels = levels(&scale);
    drawing.ticks = ticks(&scale, zone);
    drawing.bands = told
        .map(|w| {
            let (start, end) = (scale.share(w.window_start), scale.share(w.window_end));
            let title = say!(
                "{}–{}: {} to {} KRW",
                zone.time(w.window_start),
                zone.time(w.window_end),
                krw(w.min_price),
                krw(w.max_price)
            );
            Band { x: Percent(start * 100.0), width: Percent(((end - start) * 100.0).max(0.3)), title }
        })
        .collect();
    (drawing.most, drawing.top) = (quantity(most), quantity(top));
    let bounds =
        windows.iter().fold((f64::MAX, f64::MIN), |(l, h), w| (l.min(w.min_price), h.max(w.max_price)));
    drawing.words = say!(
        "{} windows from {} to {}, prices from {} to {} KRW",
        count(windows.len() as u64),
        zone.time(windows[0].window_start),
        zone.time(windows[windows.len() - 1].window_end),
        krw(bounds.0),
        krw(bounds.1)
    );
    drawing
}

/// The volume that all but the largest two in a hundred windows stay below: an opening auction would flatten
/// all others.
fn top(windows: &[Window]) -> Decimal {
    let mut volumes: Vec<Decimal> = windows.iter().map(|w| w.volume).collect();
    volumes.sort_unstable();
    let largest = windows.len().saturating_sub(1);
    volumes.get(largest.saturating_sub(windows.len() / 50)).copied().unwrap_or_default()
}

/// A round distance: 1, 2 or 5 times a power of ten.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.max(1.0).log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|t| t * power >= rough).unwrap_or(10.0);
    times * power
}

fn levels(scale: &Scale) -> Vec<Level> {
    let step = round_step(scale.span / 4.0);
    let first = (scale.low / step).ceil();
    (0..6u8)
        .map(|n| (first + f64::from(n)) * step)
        .take_while(|price| *price < scale.low + scale.span)
        .map(|price| Level { y: Percent(scale.y(price) / HEIGHT * 100.0), label: krw(price) })
        .collect()
}

fn ticks(scale: &Scale, zone: &Zone) -> Vec<Tick> {
    let hours = scale.seconds / 3_600.0;
    let step = if hours > 4.0 {
        3_600
    } else if hours > 1.0 {
        1_800
    } else {
        600
    };
    let first = scale.from.div_euclid(step) * step + step;
    let mut ticks = Vec::new();
    let mut at = first;
    while (at - scale.from) as f64 <= scale.seconds && ticks.len() < 30 {
        if let Ok(time) = Timestamp::from_second(at) {
            let share = scale.share(time);
            let anchor = if share < 0.03 {
                "start"
            } else if share > 0.97 {
                "end"
            } else {
                "middle"
            };
            ticks.push(Tick { x: Percent(share * 100.0), label: zone.minute(time), anchor, near: false });
        }
        at += step;
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing::at;

    fn window(start: &str, price: f64, volume: i64) -> Window {
        let window_start = at(start);
        Window {
            window_start,
            window_end: window_start + std::time::Duration::from_secs(30),
            vwap: Some(price),
            volume: volume.into(),
            value: price * volume as f64,
            trades: 1,
            min_price: price,
            max_price: price,
        }
    }

    #[test]
    fn a_day_is_drawn_with_breaks_levels_and_hours() {
        let windows =
            [window("09:00:00", 100.0, 10), window("09:00:30", 110.0, 30), window("15:29:30", 90.0, 20)];
        let drawing = draw(&windows, windows[1..2].iter(), &Zone::new("Asia/Seoul"));
        assert_eq!(
            drawing.price.matches('M').count(),
            2,
            "hours without a trade are no line: {}",
            drawing.price
        );
        assert_eq!((drawing.vwap.matches('M').count(), drawing.vwap.matches('L').count()), (1, 2));
        assert!(drawing.volume.contains(&format!("V{:.1}H", 0.0)), "the largest is as high as the box");
        let mut busy = vec![window("09:00:00", 100.0, 10); 99];
        busy.push(window("09:00:30", 100.0, 5_000));
        assert_eq!(top(&busy), Decimal::TEN, "one auction does not flatten the day");
        let hours: Vec<_> = drawing.ticks.iter().map(|t| t.label.as_str()).collect();
        assert_eq!(hours, ["10:00", "11:00", "12:00", "13:00", "14:00", "15:00"]);
        assert!(
            drawing.levels.iter().any(|l| l.label == "100")
                && drawing.levels.iter().all(|l| (0.0..=100.0).contains(&l.y.0))
        );
        assert_eq!(drawing.bands[0].title, "09:00:30–09:01:00: 110 to 110 KRW");
        assert_eq!(drawing.words, "3 windows from 09:00:00 to 15:30:00, prices from 90 to 110 KRW");
    }

    #[test]
    fn nothing_and_odd_numbers_are_drawn_as_nothing() {
        let zone = Zone::new("Asia/Seoul");
        assert_eq!(draw(&[], [].iter(), &zone), Drawing::default());
        let odd = Window { min_price: f64::NAN, max_price: f64::NAN, ..window("09:00:00", f64::NAN, -5) };
        assert!(
            !format!("{:?}", draw(&[odd.clone(), window("09:00:30", 1e9, 1)], [odd].iter(), &zone).price)
                .contains("NaN")
        );
        assert_eq!(
            [round_step(0.3), round_step(13.0), round_step(450.0), round_step(51.0)],
            [1.0, 20.0, 500.0, 100.0]
        );
    }
}
