//! The months of a schedule: which days are open, which are not and why, and what became of those that
//! passed.

use std::collections::BTreeMap;

use askama::Template;
use jiff::civil::{Date, Weekday};

use crate::locale::{Text, filters, say, words};
use crate::view::dates;
use crate::view::format::Zone;
use crate::view::states::{run_class, run_glyph};
use daemon::history::Brief;
use daemon::snapshot::DagView;
use daemon::upcoming::{PlannedDay, Special};
use domain::schedule::Window;

/// Next windows listed.
const NEXT: usize = 5;

/// The calendar.
#[derive(Debug, Template)]
#[template(path = "pages/dag/calendar.html")]
pub struct Calendar {
    /// Months in order.
    pub months: Vec<Month>,
    /// The next windows.
    pub next: Vec<Text>,
    /// Zone of the times.
    pub zone: String,
    /// Starts by schedule are blocked.
    pub paused: bool,
    /// The calendar's file ends in these months.
    pub ends: bool,
}

/// A month.
#[derive(Debug, Clone, PartialEq)]
pub struct Month {
    /// `November 2026`
    pub name: Text,
    /// Weeks from Monday to Sunday; `None` for days of other months.
    pub weeks: Vec<Vec<Option<Cell>>>,
    /// Days that differ from plain ones, in words.
    pub special: Vec<Text>,
}

/// A day.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Day of the month.
    pub day: i8,
    /// Style class.
    pub class: &'static str,
    /// Its sign.
    pub glyph: &'static str,
    /// What it is, in words.
    pub title: Text,
    /// It is today.
    pub today: bool,
    /// Its run; empty if there is none.
    pub run: String,
}

fn hours(window: &Window, zone: &Zone) -> String {
    match window.close_at {
        Some(close) => format!("{}–{}", zone.minute(window.open_at), zone.minute(close)),
        None => zone.minute(window.open_at),
    }
}

fn kind(special: Special) -> Text {
    match special {
        Special::Plain => Text::default(),
        Special::Closed => say!("closed"),
        Special::LateOpen => say!("late open"),
        Special::OtherHours => say!("other hours"),
        Special::Unknown => say!("beyond the calendar's file"),
    }
}

fn cell(day: &PlannedDay, run: Option<&Brief>, today: Date, zone: &Zone) -> Cell {
    let mut title = vec![dates::day(day.date)];
    if day.date == today {
        title.push(say!("today"));
    }
    title.push(Text::joined(": ", vec![kind(day.special), Text::plain(day.why.clone())]));
    if day.windows.is_empty() {
        title.push(say!("no window"));
    }
    title.extend(day.windows.iter().map(|w| Text::plain(hours(w, zone))));
    if day.more > 0 {
        title.push(say!("and {} more", day.more));
    }
    title.extend(run.map(|run| say!("run {}", words::run_state(run.state))));
    let (class, glyph) = match (run, day.special, day.windows.is_empty()) {
        (Some(run), ..) => (run_class(run.state), run_glyph(run.state)),
        (None, Special::Closed, _) => ("closed", "×"),
        (None, Special::LateOpen | Special::OtherHours, false) => ("special", "◔"),
        (None, Special::Unknown, _) => ("unknown", "?"),
        (None, _, false) => ("open", "○"),
        (None, _, true) => ("none", ""),
    };
    let run = run.map(|r| r.id.to_string()).unwrap_or_default();
    Cell {
        day: day.date.day(),
        class,
        glyph,
        title: Text::joined(", ", title),
        today: day.date == today,
        run,
    }
}

/// Puts days into months and weeks.
fn months(days: &[PlannedDay], runs: &BTreeMap<Date, &Brief>, today: Date, zone: &Zone) -> Vec<Month> {
    let mut months: Vec<Month> = Vec::new();
    for day in days {
        if day.date.day() == 1 || months.is_empty() {
            let name = dates::month(day.date);
            let before = usize::try_from(day.date.weekday().to_monday_zero_offset()).unwrap_or(0);
            months.push(Month { name, weeks: vec![vec![None; before]], special: Vec::new() });
        }
        let Some(month) = months.last_mut() else { continue };
        if day.date.weekday() == Weekday::Monday && month.weeks.last().is_some_and(|w| !w.is_empty()) {
            month.weeks.push(Vec::new());
        }
        if let Some(week) = month.weeks.last_mut() {
            week.push(Some(cell(day, runs.get(&day.date).copied(), today, zone)));
        }
        if !day.why.is_empty() {
            let which = Text::joined(" ", vec![dates::day_of_month(day.date), kind(day.special)]);
            month.special.push(Text::joined(": ", vec![which, Text::plain(day.why.clone())]));
        }
    }
    for week in months.iter_mut().flat_map(|m| &mut m.weeks) {
        week.resize(7, None);
    }
    months
}

/// The calendar of a DAG; `runs` are its runs, newest first.
pub fn calendar(
    dag: &DagView,
    runs: &[std::sync::Arc<Brief>],
    now: jiff::Timestamp,
    fallback: &str,
) -> Calendar {
    let schedule = dag.dag.as_ref().and_then(|d| d.schedule.as_ref());
    let zone = Zone::new(schedule.map_or(fallback, |s| s.timezone.as_str()));
    // The session's own run rather than one by hand on the same date.
    let by_date =
        runs.iter().rev().filter(|r| !r.id.key().contains('+')).map(|r| (r.session_date, &**r)).collect();
    let next = dag.next.iter().filter(|w| w.open_at > now).take(NEXT);
    Calendar {
        months: months(&dag.days, &by_date, zone.date(now), &zone),
        next: next
            .map(|w| Text::joined(" ", vec![zone.day(w.open_at), Text::plain(hours(w, &zone))]))
            .collect(),
        zone: zone.label(now),
        paused: dag.paused,
        ends: dag.days.iter().any(|d| d.special == Special::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locale::Reader;
    use crate::view::Html;
    use daemon::testing;
    use daemon::upcoming;

    #[test]
    fn months_begin_on_the_right_weekday_and_say_why_days_differ() {
        let snapshot = testing::snapshot();
        let dag = snapshot.dag("kis-trading-day").expect("a DAG");
        let drawn = calendar(dag, &snapshot.briefs(Some("kis-trading-day")), snapshot.now, "UTC");
        assert_eq!(drawn.months.len(), 3);
        let november = &drawn.months[0];
        assert_eq!(november.weeks[0].iter().filter(|c| c.is_none()).count(), 6, "the first is a Sunday");
        assert!(november.weeks.iter().all(|w| w.len() == 7));
        let cells: Vec<&Cell> = drawn.months.iter().flat_map(|m| &m.weeks).flatten().flatten().collect();
        assert_eq!(cells.len(), 30 + 31 + 31);
        let today = cells.iter().find(|c| c.today).expect("today");
        assert_eq!((today.day, today.run.as_str()), (20, "kis-trading-day@2026-11-20"));
        let late =
            november.special.iter().find(|s| s.starts_with("Thu 19 late open")).expect("the late open");
        assert!(late.contains("10:00–16:30"), "{late}");
        assert!(
            drawn.months[1].special.iter().any(|s| s.starts_with("Fri 25 closed: ")),
            "{:?}",
            drawn.months[1].special
        );
        let html = Html::of(&drawn, &Reader::default()).to_string();
        assert!(html.contains("Mon 23 Nov 08:50–16:00"), "{html}");
    }

    #[test]
    fn a_day_beyond_the_calendar_is_a_guess_and_says_so() {
        let day = upcoming::PlannedDay {
            date: jiff::civil::date(2028, 1, 3),
            special: Special::Unknown,
            why: String::new(),
            windows: Vec::new(),
            more: 0,
        };
        let cell = cell(&day, None, jiff::civil::date(2026, 1, 1), &Zone::new("UTC"));
        assert!(cell.title.contains("beyond the calendar's file") && cell.glyph == "?", "{cell:?}");
    }
}
