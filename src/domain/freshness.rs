//! Does data still arrive? Each hop judged by itself, so that one broken hop is named and not everything behind it.
//!
//! The feed hop is stale when the exchange must have sent trades and none arrived. Every later hop is stale only when the hop
//! before it has had a record for too long that it has not: a quiet market never makes a sink stale, and a dead feed neither.

use jiff::{SignedDuration, Timestamp};

use super::calendar::Session;
use super::ledger::Hop;

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A hop may be this long without what it should have.
    pub stale_after: SignedDuration,
    /// Nothing is expected for this long after the open.
    pub grace: SignedDuration,
    /// Length of the closing auction before the close, in which orders are collected and nothing trades.
    pub auction: SignedDuration,
}

/// What was found at a hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The hop.
    pub hop: Hop,
    /// Receipt time of the newest record there (`None`: it is empty), or why the store cannot be asked.
    pub newest: Result<Option<Timestamp>, String>,
    /// Receipt time of the oldest record that the hop before has and this one has not.
    pub waiting_since: Option<Timestamp>,
}

/// A hop's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The hop.
    pub hop: Hop,
    /// Receipt time of its newest record.
    pub newest: Option<Timestamp>,
    /// Time since the newest record, or since the open when that is later; `None` while nothing was expected yet.
    pub age: Option<SignedDuration>,
    /// How long the oldest record that it lacks has been waiting.
    pub lag: SignedDuration,
    /// Whether it is too old, too far behind, or cannot be asked.
    pub stale: bool,
    /// Since when, if it is stale and that is known.
    pub since: Option<Timestamp>,
    /// The store could not be asked: why.
    pub unreachable: Option<String>,
    /// One line for people.
    pub detail: String,
}

/// The name of a hop on pages and in mails: the spool stands for the feed.
pub fn name(hop: Hop) -> &'static str {
    match hop {
        Hop::Spool => "feed",
        other => other.as_str(),
    }
}

/// Judges the hops, in their order. `session` is the day's, `None` on a day without one; `up_since` is when collection was
/// due to begin, in case it began inside the session.
pub fn judge(
    now: Timestamp,
    session: Option<&Session>,
    up_since: Timestamp,
    limits: &Limits,
    seen: &[Observation],
) -> Vec<Verdict> {
    seen.iter().map(|o| judge_one(now, session, up_since, limits, o)).collect()
}

/// The hop to name: the first stale one.
pub fn culprit(verdicts: &[Verdict]) -> Option<&Verdict> {
    verdicts.iter().find(|v| v.stale)
}

fn judge_one(now: Timestamp, session: Option<&Session>, up_since: Timestamp, limits: &Limits, seen: &Observation) -> Verdict {
    let newest = match &seen.newest {
        Ok(newest) => *newest,
        Err(why) => {
            return Verdict {
                hop: seen.hop,
                newest: None,
                age: None,
                lag: SignedDuration::ZERO,
                stale: true,
                since: None,
                unreachable: Some(why.clone()),
                detail: format!("unreachable: {why}"),
            };
        }
    };
    let begun = session.map(|s| s.open.max(up_since)).filter(|from| now >= *from);
    let age = begun.map(|from| now.duration_since(newest.map_or(from, |n| n.max(from))).max(SignedDuration::ZERO));
    let lag = seen.waiting_since.map_or(SignedDuration::ZERO, |since| now.duration_since(since).max(SignedDuration::ZERO));
    let (stale, since, detail) = if seen.hop == Hop::Spool {
        feed(now, session, up_since, limits, newest)
    } else if lag > limits.stale_after {
        (true, seen.waiting_since, format!("a record has been waiting for {}", human(lag)))
    } else if lag > SignedDuration::ZERO {
        (false, None, format!("{} behind", human(lag)))
    } else {
        (false, None, "has everything".to_owned())
    };
    Verdict { hop: seen.hop, newest, age, lag, stale, since, unreachable: None, detail }
}

fn feed(
    now: Timestamp,
    session: Option<&Session>,
    up_since: Timestamp,
    limits: &Limits,
    newest: Option<Timestamp>,
) -> (bool, Option<Timestamp>, String) {
    let Some(session) = session else { return (false, None, "no session today".to_owned()) };
    let from = session.open.max(up_since);
    if now < plus(from, limits.grace) {
        return (false, None, "the session has not begun".to_owned());
    }
    let auction = plus(session.close, -limits.auction);
    let last = newest.map_or(from, |n| n.max(from));
    // In the auction and after the close nothing new is expected; what was overdue when it began still is.
    let silent = now.min(auction).duration_since(last);
    if silent > limits.stale_after {
        let text = match newest {
            Some(newest) if newest >= from => format!("no trade for {}", human(now.duration_since(last))),
            _ => format!("no trade since the session began {} ago", human(now.duration_since(from))),
        };
        return (true, Some(last), text);
    }
    let text = if now >= session.close {
        "the session has ended".to_owned()
    } else if now >= auction {
        "closing auction: no trades are expected".to_owned()
    } else {
        format!("last trade {} ago", human(now.duration_since(last)))
    };
    (false, None, text)
}

fn plus(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(at)
}

/// A symbol's activity since the session began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// Instrument.
    pub symbol: String,
    /// Receipt time of its first trade.
    pub first: Timestamp,
    /// Receipt time of its last trade.
    pub last: Timestamp,
    /// Trades.
    pub trades: u64,
}

/// Symbols silent much longer than usual: more than `limit`, and more than ten times their mean interval so far. A hint for
/// people, no alert: thin symbols pause.
pub fn silent(now: Timestamp, limit: SignedDuration, symbols: &[Activity]) -> Vec<(&Activity, SignedDuration)> {
    symbols
        .iter()
        .map(|a| (a, now.duration_since(a.last)))
        .filter(|(a, silence)| {
            let mean = a.last.duration_since(a.first).as_secs_f64() / a.trades.saturating_sub(1).max(1) as f64;
            a.trades >= 5 && *silence > limit && silence.as_secs_f64() > 10.0 * mean
        })
        .collect()
}

/// A duration for people: `6m12s`.
pub fn human(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        stale_after: SignedDuration::from_mins(5),
        grace: SignedDuration::from_mins(1),
        auction: SignedDuration::from_mins(10),
    };

    fn at(time: &str) -> Timestamp {
        format!("2026-11-20T{time}+09:00").parse().expect("a time")
    }

    fn session(open: &str, close: &str) -> Session {
        Session { date: "2026-11-20".parse().expect("a date"), open: at(open), close: at(close) }
    }

    fn feed_is_stale(now: &str, newest: Option<&str>, session: &Session) -> bool {
        let seen = [Observation { hop: Hop::Spool, newest: Ok(newest.map(at)), waiting_since: None }];
        culprit(&judge(at(now), Some(session), at("08:50:00"), &LIMITS, &seen)).is_some()
    }

    #[test]
    fn the_feed_is_judged_by_calendar_and_session() {
        let regular = session("09:00:00", "15:30:00");
        let exam = session("10:00:00", "16:30:00");
        for (now, newest, session, stale, why) in [
            ("08:55:00", None, &regular, false, "before the open"),
            ("09:00:59", None, &regular, false, "grace"),
            ("09:04:00", None, &regular, false, "age counts from the open"),
            ("09:05:01", None, &regular, true, "nothing since the open"),
            ("09:05:01", Some("08:59:59"), &regular, true, "a record of before the open does not count"),
            ("11:00:00", Some("10:55:01"), &regular, false, "just inside"),
            ("11:00:00", Some("10:54:59"), &regular, true, "stalled"),
            ("15:25:00", Some("15:19:58"), &regular, false, "closing auction"),
            ("15:29:59", Some("15:16:00"), &regular, false, "was not overdue when the auction began"),
            ("15:25:00", Some("15:10:00"), &regular, true, "was overdue when the auction began"),
            ("15:35:00", Some("15:30:02"), &regular, false, "after the close"),
            ("15:59:00", Some("15:30:02"), &regular, false, "after the close"),
            ("09:30:00", None, &exam, false, "an exam day opens at ten"),
            ("10:06:00", None, &exam, true, "an exam day has opened"),
            ("15:25:00", Some("15:19:00"), &exam, true, "an exam day still trades at 15:25"),
            ("16:25:00", Some("16:19:58"), &exam, false, "an exam day's auction"),
        ] {
            assert_eq!(feed_is_stale(now, newest, session), stale, "{now} {newest:?}: {why}");
        }
    }

    #[test]
    fn collection_that_began_late_is_given_its_time() {
        let seen = [Observation { hop: Hop::Spool, newest: Ok(None), waiting_since: None }];
        let regular = session("09:00:00", "15:30:00");
        assert!(culprit(&judge(at("11:04:00"), Some(&regular), at("11:00:00"), &LIMITS, &seen)).is_none());
        assert!(culprit(&judge(at("11:05:30"), Some(&regular), at("11:00:00"), &LIMITS, &seen)).is_some());
        assert!(culprit(&judge(at("11:05:30"), None, at("08:50:00"), &LIMITS, &seen)).is_none(), "a holiday");
    }

    #[test]
    fn only_the_hop_that_lags_is_named() {
        let regular = session("09:00:00", "15:30:00");
        let fresh = |hop| Observation { hop, newest: Ok(Some(at("11:00:00"))), waiting_since: None };
        let old =
            |hop, waiting: Option<&str>| Observation { hop, newest: Ok(Some(at("10:40:00"))), waiting_since: waiting.map(at) };
        let judged = |seen: &[Observation]| {
            let verdicts = judge(at("11:00:01"), Some(&regular), at("08:50:00"), &LIMITS, seen);
            culprit(&verdicts).map(|v| (name(v.hop), v.since))
        };
        let seen = [fresh(Hop::Spool), fresh(Hop::Log), fresh(Hop::Raw), old(Hop::Index, Some("10:40:01")), fresh(Hop::Objects)];
        assert_eq!(judged(&seen), Some(("index", Some(at("10:40:01")))));
        // The market paused and goes on: the sinks' newest records are old, but nothing has waited long.
        let seen = [fresh(Hop::Spool), old(Hop::Log, Some("11:00:00")), old(Hop::Raw, None), old(Hop::Index, Some("11:00:00"))];
        assert_eq!(judged(&seen), None);
        // A dead feed: everything is old, only the feed is named.
        let seen =
            [old(Hop::Spool, None), old(Hop::Log, None), old(Hop::Raw, None), old(Hop::Index, None), old(Hop::Objects, None)];
        assert_eq!(judged(&seen), Some(("feed", Some(at("10:40:00")))));
        // A store that does not answer is its own state.
        let seen = [
            fresh(Hop::Spool),
            fresh(Hop::Log),
            Observation { hop: Hop::Raw, newest: Err("refused".into()), waiting_since: None },
        ];
        assert_eq!(judged(&seen), Some(("raw", None)));
    }

    #[test]
    fn unusually_silent_symbols_are_listed() {
        let activity =
            |symbol: &str, last: &str, trades| Activity { symbol: symbol.into(), first: at("09:00:00"), last: at(last), trades };
        let symbols =
            [activity("busy", "10:50:00", 10_000), activity("thin", "10:40:00", 6), activity("fresh", "10:59:59", 10_000)];
        let names: Vec<_> =
            silent(at("11:00:00"), LIMITS.stale_after, &symbols).into_iter().map(|(a, _)| a.symbol.as_str()).collect();
        assert_eq!(names, ["busy"]);
    }

    #[test]
    fn durations_for_people() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (372, "6m12s"), (7260, "2h01m")] {
            assert_eq!(human(SignedDuration::from_secs(seconds)), text);
        }
    }
}
