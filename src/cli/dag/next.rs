//! `dag next`: the next windows, and what the calendar says about the days between them.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::{Value, json};

use super::{Failure, Result, print, print_json, table};
use clock::Clock;
use domain::calendar::{Calendar, Day};
use domain::dag::Dag;
use domain::schedule::{Occurrence, Schedule};

pub(super) fn next(
    dag: &Dag,
    calendar: Option<&Calendar>,
    count: usize,
    from: Option<Date>,
    json: bool,
) -> Result {
    let Some(schedule) = &dag.schedule else {
        return Err(Failure::fault(format!(
            "\"{}\" has no schedule; it runs by hand only: openbell run trigger {}",
            dag.name, dag.name
        )));
    };
    let zone = schedule.zone().map_err(Failure::fault)?;
    let after = match from {
        Some(date) => {
            date.to_zoned(zone.clone()).map_err(Failure::usage)?.timestamp()
                - jiff::SignedDuration::from_nanos(1)
        }
        None => Clock::system().now(),
    };
    let windows = schedule.next_windows(after, calendar, count);
    let closed = calendar.map(|c| closed_days(c, &windows, after, &zone)).unwrap_or_default();
    let warning = calendar.and_then(|c| beyond(c, &windows));
    if json {
        return print_json(&as_json(
            dag,
            schedule,
            (calendar, &zone),
            (&windows, &closed),
            warning.as_deref(),
        ));
    }
    let mut lines: Vec<(Date, Timestamp, [String; 4])> = windows
        .iter()
        .map(|w| {
            (
                w.date,
                w.window.open_at,
                [
                    day(w.date),
                    clock(w, &zone),
                    length(w),
                    calendar.and_then(|c| note(c, w.date)).unwrap_or_default(),
                ],
            )
        })
        .collect();
    lines.extend(
        closed
            .into_iter()
            .map(|(date, name)| (date, Timestamp::MIN, [day(date), "closed".into(), String::new(), name])),
    );
    lines.sort_by_key(|(date, at, _)| (*date, *at));
    let mut rows = vec![["DAY", "WINDOW", "LENGTH", "NOTE"].map(String::from)];
    rows.extend(lines.into_iter().map(|(_, _, row)| row));
    let calendar = schedule.calendar.as_ref().map(|c| format!(", calendar {c}")).unwrap_or_default();
    let mut text =
        format!("{}: next windows in {}{calendar}\n\n{}", dag.name, schedule.timezone, table::columns(&rows));
    if windows.is_empty() {
        text.push_str("no window opens within nine years\n");
    }
    if let Some(warning) = warning {
        text.push_str(&format!("\nwarning: {warning}\n"));
    }
    print(&text)
}

/// The same for programs.
fn as_json(
    dag: &Dag,
    schedule: &Schedule,
    (calendar, zone): (Option<&Calendar>, &TimeZone),
    (windows, closed): (&[Occurrence], &[(Date, String)]),
    warning: Option<&str>,
) -> Value {
    let windows: Vec<_> = windows
        .iter()
        .map(|w| {
            let local =
                |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            json!({
                "key": w.key, "date": w.date.to_string(), "open_at": local(w.window.open_at),
                "close_at": w.window.close_at.map(local), "note": calendar.and_then(|c| note(c, w.date)),
            })
        })
        .collect();
    let closed: Vec<_> =
        closed.iter().map(|(date, name)| json!({"date": date.to_string(), "name": name})).collect();
    json!({
        "dag": dag.name.as_str(), "timezone": schedule.timezone, "calendar": schedule.calendar,
        "windows": windows, "closed": closed, "warning": warning,
    })
}

fn day(date: Date) -> String {
    date.strftime("%a %Y-%m-%d").to_string()
}

/// Open and close, with the date and zone only where they differ from what one expects.
fn clock(occurrence: &Occurrence, zone: &TimeZone) -> String {
    let local = |at: Timestamp| -> Zoned { at.to_zoned(zone.clone()) };
    let show = |at: &Zoned| match at.date() == occurrence.date {
        true => at.strftime("%H:%M").to_string(),
        false => at.strftime("%m-%d %H:%M").to_string(),
    };
    let open = local(occurrence.window.open_at);
    match occurrence.window.close_at.map(local) {
        Some(close) => format!("{} - {} {}", show(&open), show(&close), close.strftime("%Z")),
        None => format!("{} {}", show(&open), open.strftime("%Z")),
    }
}

fn length(occurrence: &Occurrence) -> String {
    let length = occurrence
        .window
        .close_at
        .map(|close| close.duration_since(occurrence.window.open_at).unsigned_abs());
    length.map(table::duration).unwrap_or_default()
}

/// What the calendar says about an open day that is not a plain one.
fn note(calendar: &Calendar, date: Date) -> Option<String> {
    match calendar.day(date)? {
        Day::Hours { name, open, close } => {
            Some(format!("session {} - {}: {name}", open.strftime("%H:%M"), close.strftime("%H:%M")))
        }
        Day::Closed { name } => Some(name.clone()),
    }
}

/// The days between now and the last window on which the exchange is closed, weekends aside.
fn closed_days(
    calendar: &Calendar,
    windows: &[Occurrence],
    after: Timestamp,
    zone: &TimeZone,
) -> Vec<(Date, String)> {
    let Some(last) = windows.last() else { return Vec::new() };
    let first =
        zone.to_datetime(after.saturating_add(jiff::SignedDuration::from_nanos(1)).unwrap_or(after)).date();
    let closed = |(date, day): (&Date, &Day)| match day {
        Day::Closed { name } if !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday) => {
            Some((*date, name.clone()))
        }
        _ => None,
    };
    if first > last.date {
        Vec::new()
    } else {
        calendar.days.range(first..=last.date).filter_map(closed).collect()
    }
}

/// Whether some of the windows lie where the calendar knows nothing.
fn beyond(calendar: &Calendar, windows: &[Occurrence]) -> Option<String> {
    let (_, last) = calendar.covered()?;
    windows.last().filter(|w| w.date > last)?;
    Some(format!("the calendar {} ends {last}; later holidays are not known", calendar.name))
}
