//! A day that waits: its clock stands still from a time of day on, until whoever started it lets it go on.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use tokio::sync::{mpsc, oneshot, watch};

use super::pace;
use crate::exit::Failure;
use clock::Clock;
use domain::schedule::Window;

/// How often is looked whether the clock stands still, of real time.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A time of day from the command line.
///
/// # Errors
/// What is wrong with it, and what may be written.
pub fn time(text: &str) -> Result<Time, String> {
    text.parse().map_err(|e: jiff::Error| format!("{e}; write hours and minutes, such as 13:30"))
}

/// When the day is held: `time` on the window's date.
///
/// # Errors
/// A time outside the window: the day would end, or not have begun, without being held.
pub fn instant(time: Time, date: Date, window: Window, zone: &TimeZone) -> Result<Timestamp, Failure> {
    let at = zone
        .to_timestamp(date.to_datetime(time))
        .map_err(|e| Failure::usage(format!("--hold-at {time}: {e}")))?;
    if window.contains(at) {
        return Ok(at);
    }
    let clock = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%H:%M").to_string();
    let close = window.close_at.map_or_else(|| "its end".to_owned(), clock);
    Err(Failure::usage(format!(
        "--hold-at {}: the day runs from {} to {close} ({}); choose a time in between",
        clock(at),
        clock(window.open_at),
        zone.iana_name().unwrap_or("its own zone")
    )))
}

/// Waits until the clock stands still, says so, and lets it go on when standard input has a line or ends.
/// Whoever started this holds the other end of it, so that a day is never held for somebody who is gone.
pub async fn until_told(
    clock: Clock,
    at: Timestamp,
    zone: TimeZone,
    hold: watch::Sender<Option<Timestamp>>,
    say: mpsc::Sender<String>,
) {
    clock.sleep_until(at).await;
    while clock.speed() > pace::HELD {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let now = clock.now().to_zoned(zone).strftime("%H:%M:%S %Z").to_string();
    tell(&say, format!("held at {now}; the day goes on when Enter is pressed here, or standard input ends"));
    match a_line().await {
        Ok(()) => tell(&say, "the day goes on".to_owned()),
        Err(error) => tell(&say, format!("standard input cannot be read ({error}); the day goes on")),
    }
    hold.send_replace(None);
}

/// Nobody listens once the view has ended, and the day with it.
fn tell(say: &mpsc::Sender<String>, words: String) {
    say.try_send(words).unwrap_or_default();
}

/// A line of standard input, or its end. The thread that waits for it does not keep the program from ending.
async fn a_line() -> std::io::Result<()> {
    let (told, line) = oneshot::channel();
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut text = String::new();
        let read = std::io::stdin().read_line(&mut text).map(drop);
        // Nobody waits for it any more where the day was interrupted.
        told.send(read).unwrap_or_default();
    })?;
    line.await.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_inside_the_day_is_an_instant_and_another_is_refused_with_what_may_be_written() {
        let zone = TimeZone::get("Asia/Seoul").expect("a zone");
        let at = |text: &str| text.parse::<Timestamp>().expect("a timestamp");
        let window = Window {
            open_at: at("2026-11-20T08:50:00+09:00"),
            close_at: Some(at("2026-11-20T16:00:00+09:00")),
        };
        let date = "2026-11-20".parse().expect("a date");
        let held = |text: &str| instant(time(text).expect("a time"), date, window, &zone);
        assert_eq!(held("08:50").expect("the open"), window.open_at);
        assert_eq!(held("14:30:05").expect("a time"), at("2026-11-20T14:30:05+09:00"));
        for outside in ["08:49", "16:00", "23:00"] {
            let failure = held(outside).expect_err("outside");
            assert!(failure.message.contains(outside), "{failure}");
            assert!(failure.message.contains("from 08:50 to 16:00 (Asia/Seoul)"), "{failure}");
        }
        assert!(time("half past one").expect_err("no time").ends_with("such as 13:30"));
    }
}
