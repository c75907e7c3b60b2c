use jiff::civil::date;

use super::*;

fn cron(text: &str) -> Edge {
    Edge::Cron(text.parse().expect("a cron expression"))
}

fn schedule(zone: &str, open: Edge, close: Option<Edge>) -> Schedule {
    Schedule {
        timezone: zone.into(),
        calendar: None,
        open,
        close,
        late_start: LateStart::Join,
        catchup: Catchup::None,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn opens(schedule: &Schedule, after: &str, n: usize) -> Vec<String> {
    let zone = schedule.zone().expect("a zone");
    schedule
        .next_windows(at(after), None, n)
        .iter()
        .map(|s| s.window.open_at.to_zoned(zone.clone()).strftime("%m-%d %H:%M%:z").to_string())
        .collect()
}

#[test]
fn a_window_needs_both_edges_on_the_date() {
    let day = schedule("Asia/Seoul", cron("50 8 * * MON-FRI"), Some(cron("0 16 * * MON-THU")));
    let window = day.window_on(date(2026, 11, 19), None).expect("a Thursday");
    assert_eq!(
        window,
        Window { open_at: at("2026-11-19T08:50+09"), close_at: Some(at("2026-11-19T16:00+09")) }
    );
    assert_eq!(day.window_on(date(2026, 11, 20), None), None, "no close on Fridays");
    assert_eq!(day.window_on(date(2026, 11, 21), None), None, "Saturday");
    let reversed = schedule("Asia/Seoul", cron("0 16 * * *"), Some(cron("50 8 * * *")));
    assert_eq!(reversed.window_on(date(2026, 11, 19), None), None, "the close comes first");
}

#[test]
fn a_named_calendar_that_is_not_there_opens_nothing() {
    let mut day = schedule("Asia/Seoul", cron("50 8 * * *"), None);
    day.calendar = Some("krx".into());
    assert!(day.sessions_on(date(2026, 11, 19), None).is_empty());
}

#[test]
fn session_edges_without_a_calendar_are_midnights() {
    let edge = |anchor, offset_seconds| Edge::Session { anchor, offset_seconds };
    let day = schedule("Asia/Seoul", edge(Anchor::Open, -600), Some(edge(Anchor::Close, 1800)));
    let sessions = day.next_windows(at("2026-11-18T12:00+09"), None, 2);
    assert_eq!(sessions[0].key, "2026-11-19");
    assert_eq!(
        sessions[0].window,
        Window { open_at: at("2026-11-18T23:50+09"), close_at: Some(at("2026-11-20T00:30+09")) }
    );
    assert_eq!(sessions[1].key, "2026-11-20");
    assert_eq!(day.open.to_string(), "session.open - 10m");
    assert_eq!(day.close.map(|c| c.to_string()).as_deref(), Some("session.close + 30m"));
}

#[test]
fn plain_cron_has_several_sessions_a_day() {
    let day = schedule("Asia/Seoul", cron("0 9,13 * * *"), None);
    let keys: Vec<_> =
        day.next_windows(at("2026-11-19T09:00+09"), None, 3).into_iter().map(|s| s.key).collect();
    assert_eq!(keys, ["2026-11-19T1300", "2026-11-20T0900", "2026-11-20T1300"]);
}

#[test]
fn clock_changes_fire_once() {
    // New York: 02:00 to 03:00 skipped on 2026-03-08, 01:00 to 02:00 repeated on 2026-11-01.
    let skipped = schedule("America/New_York", cron("30 2 * * *"), None);
    assert_eq!(opens(&skipped, "2026-03-07T12:00-05", 2), ["03-08 03:30-04:00", "03-09 02:30-04:00"]);
    let repeated = schedule("America/New_York", cron("30 1 * * *"), None);
    assert_eq!(opens(&repeated, "2026-10-31T12:00-04", 2), ["11-01 01:30-04:00", "11-02 01:30-05:00"]);
    let often = schedule("America/New_York", cron("*/30 * * * *"), None);
    let sessions = often.sessions_on(date(2026, 3, 8), None);
    assert_eq!(sessions.len(), 46, "skipped times fall on later ones and count once");
    assert!(sessions.windows(2).all(|w| w[0].key < w[1].key && w[0].window.open_at < w[1].window.open_at));
}

#[test]
fn sparse_and_impossible_schedules_end() {
    let leap = schedule("UTC", cron("0 0 29 2 *"), None);
    assert_eq!(opens(&leap, "2096-03-01T00:00Z", 1), ["02-29 00:00+00:00"], "2100 has no leap day");
    let never = schedule("UTC", cron("0 0 * * SAT"), Some(cron("0 1 * * SUN")));
    assert_eq!(opens(&never, "2026-01-01T00:00Z", 1), [""; 0]);
}

#[test]
fn sessions_between_is_open_at_the_start_and_closed_at_the_end() {
    let day = schedule("UTC", cron("0 * * * *"), None);
    let keys: Vec<_> =
        day.sessions_between(at("2026-01-01T00:00Z"), at("2026-01-01T02:00Z"), None).map(|s| s.key).collect();
    assert_eq!(keys, ["2026-01-01T0100", "2026-01-01T0200"]);
    assert_eq!(day.sessions_between(at("2026-01-01T02:00Z"), at("2026-01-01T01:00Z"), None).count(), 0);
}
