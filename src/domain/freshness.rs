//! Does data still arrive? Each hop judged by itself, so that one broken hop is named and not everything
//! behind it.
//!
//! The feed hop is stale when the exchange must have sent trades and none arrived. Every later hop is stale
//! only when the hop before it has had a record for too long that it has not: a quiet market never makes a
//! sink stale, and a dead feed neither.
//!
//! Nobody is blamed for a time in which he was not there ([`Life`]): a day that was joined late begins when
//! it was joined, and what was started again has a moment to go on where it stopped before anybody is told.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::calendar::TradingSession;
use super::finding::Finding;
use super::hop::Hop;
use super::ids::StepName;
use super::run::Run;

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A hop may be this long without what it should have.
    pub stale_after: SignedDuration,
    /// Nothing is expected for this long after the open, nor after a hop's step was started or got ready.
    pub grace: SignedDuration,
}

/// How the step that fills a hop has lived in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// When the run was there: before, the step could not have been.
    pub began: Timestamp,
    /// Start of the attempt before the living one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// Since when the living attempt is ready; its start, while it is not. `None`: no attempt lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<Timestamp>,
}

impl Life {
    /// The life of a step of a run.
    pub fn of(run: &Run, step: &StepName) -> Self {
        let state = run.steps.get(step);
        let alive = state.filter(|s| s.state.is_alive());
        let ended = state.into_iter().flat_map(|s| s.history.iter().rev());
        let before = ended
            .filter(|ended| alive.is_none_or(|s| ended.attempt < s.attempt))
            .map(|ended| ended.started_at)
            .next();
        Self { began: run.created_at, before, up: alive.and_then(|s| s.ready_since.or(s.attempt_started_at)) }
    }

    /// Whether the step was started, or got ready, so short a time ago that what has been overdue since
    /// `reference` proves nothing yet. Of the attempts since then only the first is given that time: one that
    /// comes up again and again does not bring anything either.
    fn settles(&self, now: Timestamp, grace: SignedDuration, reference: Option<Timestamp>) -> bool {
        let first = self.before.is_none_or(|before| reference.is_some_and(|reference| before <= reference));
        first && self.up.is_some_and(|up| now < plus(up, grace))
    }
}

/// What was found at a hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation<'a> {
    /// The hop.
    pub hop: &'a Hop,
    /// How the step that fills it has lived.
    pub life: Life,
    /// Length of its feed's closing auction before the close, in which orders are collected and nothing
    /// trades; zero where there is none.
    pub auction: SignedDuration,
    /// Receipt time of the newest record there (`None`: it is empty), or why the store cannot be asked.
    pub newest: Result<Option<Timestamp>, String>,
    /// Receipt time of the oldest record that the hop before has and this one has not.
    pub waiting_since: Option<Timestamp>,
}

/// A hop's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// The hop.
    pub hop: &'a Hop,
    /// Receipt time of its newest record.
    pub newest: Option<Timestamp>,
    /// Time since the newest record, or since the open when that is later; `None` while nothing was expected
    /// yet.
    pub age: Option<SignedDuration>,
    /// How long the oldest record that it lacks has been waiting.
    pub lag: SignedDuration,
    /// How it stands.
    pub state: State,
    /// Since when, if it is stale or settling and that is known.
    pub since: Option<Timestamp>,
    /// What was found there.
    pub finding: Finding,
}

/// How a hop stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has what it should have.
    Fresh,
    /// It is too old or too far behind, and whoever fills it was started only just now: nothing can be said
    /// yet.
    Settling,
    /// It is too old, or too far behind.
    Stale,
    /// The store cannot be asked.
    Unreachable,
}

impl State {
    /// The word used in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Settling => "settling",
            Self::Stale => "stale",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether people have to hear of it.
    pub fn is_stale(self) -> bool {
        matches!(self, Self::Stale | Self::Unreachable)
    }
}

/// Judges the hops, in their order. `session` is the day's, `None` on a day without one; `open` is when
/// collection was due to begin, in case it began inside the session.
pub fn judge<'a>(
    now: Timestamp,
    session: Option<&TradingSession>,
    open: Timestamp,
    limits: &Limits,
    seen: &[Observation<'a>],
) -> Vec<Verdict<'a>> {
    seen.iter().map(|o| judge_one(now, session, open, limits, o)).collect()
}

/// The hop to name: the first stale one.
pub fn culprit<'v, 'a>(verdicts: &'v [Verdict<'a>]) -> Option<&'v Verdict<'a>> {
    verdicts.iter().find(|v| v.state.is_stale())
}

/// All of it in one finding: the hop to name, else one that settles. `last` is the time of day of the feed's
/// newest trade, and `down` how long its session has been down; both are told where the feed is to be named.
pub fn found(verdicts: &[Verdict<'_>], last: Option<String>, down: Option<SignedDuration>) -> Finding {
    if let Some(v) = culprit(verdicts) {
        let (last, down) =
            if v.hop.is_spool() { (last, down.map(|down| down.as_secs())) } else { (None, None) };
        return Finding::Stalled { hop: v.hop.checked_as(), what: Box::new(v.finding.clone()), last, down };
    }
    match verdicts.iter().find(|v| v.state == State::Settling) {
        Some(v) => {
            let what = Box::new(v.finding.clone());
            Finding::Settling { hop: v.hop.checked_as(), what, step: v.hop.step.to_string() }
        }
        None => Finding::Arrives,
    }
}

/// What was found, and since when it is so.
type Found = (State, Option<Timestamp>, Finding);

fn judge_one<'a>(
    now: Timestamp,
    session: Option<&TradingSession>,
    open: Timestamp,
    limits: &Limits,
    seen: &Observation<'a>,
) -> Verdict<'a> {
    let newest = match &seen.newest {
        Ok(newest) => *newest,
        Err(why) => {
            return Verdict {
                hop: seen.hop,
                newest: None,
                age: None,
                lag: SignedDuration::ZERO,
                state: State::Unreachable,
                since: None,
                finding: Finding::Unreachable { why: why.clone() },
            };
        }
    };
    let from = session.map(|s| s.open.max(open).max(seen.life.began));
    let age = from.filter(|from| now >= *from).map(|from| length(now, newest.map_or(from, |n| n.max(from))));
    let lag = seen.waiting_since.map_or(SignedDuration::ZERO, |since| length(now, since));
    let (state, since, finding) = match (seen.hop.is_spool(), session, from) {
        (true, Some(session), Some(from)) => feed(now, session, from, limits, seen, newest),
        (true, ..) => (State::Fresh, None, Finding::NoSession),
        (false, ..) => behind(now, limits, seen, lag),
    };
    Verdict { hop: seen.hop, newest, age, lag, state, since, finding }
}

/// A hop that others fill, judged by what waits for it.
fn behind(now: Timestamp, limits: &Limits, seen: &Observation<'_>, lag: SignedDuration) -> Found {
    let Some(since) = seen.waiting_since.filter(|_| lag > SignedDuration::ZERO) else {
        return (State::Fresh, None, Finding::HasEverything);
    };
    // What was left from before the run is its step's to fetch from when there was one.
    if length(now, since.max(seen.life.began)) <= limits.stale_after {
        return (State::Fresh, None, Finding::Behind { seconds: lag.as_secs() });
    }
    let state =
        if seen.life.settles(now, limits.grace, Some(since)) { State::Settling } else { State::Stale };
    (state, Some(since), Finding::Waiting { seconds: lag.as_secs() })
}

fn feed(
    now: Timestamp,
    session: &TradingSession,
    from: Timestamp,
    limits: &Limits,
    seen: &Observation<'_>,
    newest: Option<Timestamp>,
) -> Found {
    if now < plus(from, limits.grace) {
        let finding = if from > session.open { Finding::JustBegun } else { Finding::NotBegun };
        return (State::Fresh, None, finding);
    }
    let auction = plus(session.close, -seen.auction);
    let last = newest.map_or(from, |n| n.max(from));
    // In the auction and after the close nothing new is expected; what was overdue when it began still is.
    let silent = now.min(auction).duration_since(last);
    if silent > limits.stale_after {
        let seconds = now.duration_since(from).as_secs();
        let finding = match newest {
            Some(newest) if newest >= from => {
                Finding::NoTrade { seconds: now.duration_since(last).as_secs() }
            }
            _ if from > session.open => Finding::NoTradeSinceStart { seconds },
            _ => Finding::NoTradeInSession { seconds },
        };
        let state = if seen.life.settles(now, limits.grace, newest) { State::Settling } else { State::Stale };
        return (state, Some(last), finding);
    }
    let finding = if now >= session.close {
        Finding::SessionEnded
    } else if now >= auction {
        Finding::ClosingAuction
    } else {
        Finding::LastTrade { seconds: now.duration_since(last).as_secs() }
    };
    (State::Fresh, None, finding)
}

/// From a time until now; nothing for one to come.
fn length(now: Timestamp, since: Timestamp) -> SignedDuration {
    now.duration_since(since).max(SignedDuration::ZERO)
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

/// Symbols silent much longer than usual: more than `limit`, and more than ten times their mean interval so
/// far. A hint for people, no alert: thin symbols pause.
pub fn silent(
    now: Timestamp,
    limit: SignedDuration,
    symbols: &[Activity],
) -> Vec<(&Activity, SignedDuration)> {
    symbols
        .iter()
        .map(|a| (a, now.duration_since(a.last)))
        .filter(|(a, silence)| {
            let mean =
                a.last.duration_since(a.first).as_secs_f64() / a.trades.saturating_sub(1).max(1) as f64;
            a.trades >= 5 && *silence > limit && silence.as_secs_f64() > 10.0 * mean
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::hop::Kind;
    use super::super::program::Store;
    use super::*;

    const LIMITS: Limits =
        Limits { stale_after: SignedDuration::from_mins(5), grace: SignedDuration::from_mins(1) };
    const AUCTION: SignedDuration = SignedDuration::from_mins(10);

    fn at(time: &str) -> Timestamp {
        format!("2026-11-20T{time}+09:00").parse().expect("a time")
    }

    fn session(open: &str, close: &str) -> TradingSession {
        TradingSession { date: "2026-11-20".parse().expect("a date"), open: at(open), close: at(close) }
    }

    fn hop(kind: Kind) -> Hop {
        Hop {
            name: kind.as_str().to_owned(),
            kind,
            step: "a-step".parse().expect("a name"),
            program: "p".into(),
            feed: None,
            group: None,
            topic: "t".into(),
            place: String::new(),
            timezone: None,
        }
    }

    /// Nothing happened to the step since before the open.
    fn steady() -> Life {
        Life { began: at("08:50:00"), before: None, up: Some(at("08:50:05")) }
    }

    /// Nothing is in the hop, and nothing waits for it.
    fn seen_at(hop: &Hop, life: Life) -> Observation<'_> {
        Observation { hop, life, auction: AUCTION, newest: Ok(None), waiting_since: None }
    }

    fn feed_state(now: &str, newest: Option<&str>, session: &TradingSession, life: Life) -> State {
        let hop = hop(Kind::Spool);
        let seen = [Observation { newest: Ok(newest.map(at)), ..seen_at(&hop, life) }];
        judge(at(now), Some(session), at("08:50:00"), &LIMITS, &seen)[0].state
    }

    fn feed_is_stale(now: &str, newest: Option<&str>, session: &TradingSession) -> bool {
        feed_state(now, newest, session, steady()).is_stale()
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
    fn a_feed_without_an_auction_has_to_trade_until_its_close() {
        let (hop, session) = (hop(Kind::Spool), session("00:00:00", "23:59:59"));
        let found = |auction| {
            let seen = [Observation { auction, newest: Ok(Some(at("23:50:00"))), ..seen_at(&hop, steady()) }];
            judge(at("23:56:00"), Some(&session), at("08:50:00"), &LIMITS, &seen).remove(0).finding
        };
        assert_eq!(found(AUCTION), Finding::ClosingAuction);
        assert_eq!(found(SignedDuration::ZERO), Finding::NoTrade { seconds: 360 });
    }

    #[test]
    fn collection_that_began_late_is_given_its_time() {
        let hop = hop(Kind::Spool);
        let seen = [seen_at(&hop, steady())];
        let regular = session("09:00:00", "15:30:00");
        assert!(culprit(&judge(at("11:04:00"), Some(&regular), at("11:00:00"), &LIMITS, &seen)).is_none());
        assert!(culprit(&judge(at("11:05:30"), Some(&regular), at("11:00:00"), &LIMITS, &seen)).is_some());
        assert!(culprit(&judge(at("11:05:30"), None, at("08:50:00"), &LIMITS, &seen)).is_none(), "a holiday");
    }

    #[test]
    fn a_day_that_was_joined_late_begins_then() {
        let regular = session("09:00:00", "15:30:00");
        let joined = |up: Option<&str>| Life { began: at("10:00:00"), before: None, up: up.map(at) };
        for (now, newest, up, state, why) in [
            ("10:00:00", None, None, State::Fresh, "the collector is not even started"),
            (
                "10:00:05",
                Some("09:20:00"),
                Some("10:00:03"),
                State::Fresh,
                "what came before is no silence of this run",
            ),
            ("10:04:00", None, Some("10:00:03"), State::Fresh, "age counts from the join"),
            ("10:05:01", None, Some("10:00:03"), State::Stale, "nothing since the join"),
            ("10:05:01", None, None, State::Stale, "a collector that never comes up hides nothing"),
            ("10:20:00", None, Some("10:19:30"), State::Settling, "it got ready a moment ago"),
            ("10:20:31", None, Some("10:19:30"), State::Stale, "that moment is over"),
            ("10:20:00", Some("10:19:50"), Some("10:00:03"), State::Fresh, "trades arrive"),
        ] {
            assert_eq!(
                feed_state(now, newest, &regular, joined(up)),
                state,
                "{now} {newest:?} {up:?}: {why}"
            );
        }
    }

    #[test]
    fn a_restart_is_given_a_moment_and_a_row_of_restarts_is_not() {
        let regular = session("09:00:00", "15:30:00");
        let state = |now, before: &str, up: Option<&str>| {
            let life = Life { before: Some(at(before)), up: up.map(at), ..steady() };
            feed_state(now, Some("10:00:00"), &regular, life)
        };
        assert_eq!(
            state("10:30:05", "08:50:00", Some("10:30:02")),
            State::Settling,
            "the machine was down for half an hour"
        );
        assert_eq!(state("10:31:02", "08:50:00", Some("10:30:02")), State::Stale);
        assert_eq!(
            state("10:30:05", "10:20:00", Some("10:30:02")),
            State::Stale,
            "the second start since data came"
        );
        assert_eq!(state("10:30:05", "08:50:00", None), State::Stale, "nobody is up");
        assert_eq!(state("10:00:30", "08:50:00", Some("10:00:20")), State::Fresh);
    }

    #[test]
    fn a_sink_is_not_blamed_for_what_waited_before_its_run() {
        let (regular, hop) = (session("09:00:00", "15:30:00"), hop(Kind::Store(Store::Index)));
        let state = |now: &str, waiting: &str, life: Life| {
            let seen = [Observation { waiting_since: Some(at(waiting)), ..seen_at(&hop, life) }];
            let verdict = judge(at(now), Some(&regular), at("08:50:00"), &LIMITS, &seen).remove(0);
            (verdict.state, verdict.lag.as_secs())
        };
        let late = Life { began: at("10:00:00"), before: None, up: Some(at("10:00:02")) };
        assert_eq!(state("10:00:05", "09:00:00", late), (State::Fresh, 3_605), "the lag is told as it is");
        assert_eq!(state("10:05:01", "09:00:00", late).0, State::Stale);
        let again = Life { before: Some(at("08:50:00")), up: Some(at("10:30:00")), ..steady() };
        assert_eq!(state("10:30:30", "10:10:00", again).0, State::Settling);
        assert_eq!(state("10:31:00", "10:10:00", again).0, State::Stale);
        assert_eq!(
            state("10:30:30", "10:10:00", Life { before: Some(at("10:20:00")), ..again }).0,
            State::Stale
        );
    }

    #[test]
    fn only_the_hop_that_lags_is_named() {
        let regular = session("09:00:00", "15:30:00");
        let [spool, log, raw, index, objects] = [
            Kind::Spool,
            Kind::Log,
            Kind::Store(Store::Raw),
            Kind::Store(Store::Index),
            Kind::Store(Store::Objects),
        ]
        .map(hop);
        let seen = |hop, newest: &str, waiting: Option<&str>| Observation {
            newest: Ok(Some(at(newest))),
            waiting_since: waiting.map(at),
            ..seen_at(hop, steady())
        };
        let fresh = |hop| seen(hop, "11:00:00", None);
        let old = |hop, waiting| seen(hop, "10:40:00", waiting);
        let judged = |seen: &[Observation<'_>]| {
            let verdicts = judge(at("11:00:01"), Some(&regular), at("08:50:00"), &LIMITS, seen);
            culprit(&verdicts).map(|v| (v.hop.checked_as(), v.since))
        };
        let named = |name: &str, since: Option<&str>| Some((name.to_owned(), since.map(at)));
        let seen = [fresh(&spool), fresh(&log), fresh(&raw), old(&index, Some("10:40:01")), fresh(&objects)];
        assert_eq!(judged(&seen), named("index", Some("10:40:01")));
        // The market paused and goes on: the sinks' newest records are old, but nothing has waited long.
        let seen =
            [fresh(&spool), old(&log, Some("11:00:00")), old(&raw, None), old(&index, Some("11:00:00"))];
        assert_eq!(judged(&seen), None);
        // A dead feed: everything is old, only the feed is named.
        let seen =
            [old(&spool, None), old(&log, None), old(&raw, None), old(&index, None), old(&objects, None)];
        assert_eq!(judged(&seen), named("feed", Some("10:40:00")));
        // A store that does not answer is its own state.
        let silent = Observation { newest: Err("refused".into()), ..fresh(&raw) };
        assert_eq!(judged(&[fresh(&spool), fresh(&log), silent]), named("raw", None));
    }

    #[test]
    fn what_is_found_names_one_hop_and_of_the_feed_a_little_more() {
        let [spool, index] = [Kind::Spool, Kind::Store(Store::Index)].map(hop);
        let verdict = |hop, state, finding| Verdict {
            hop,
            newest: None,
            age: None,
            lag: SignedDuration::ZERO,
            state,
            since: None,
            finding,
        };
        let said = |verdicts: &[Verdict<'_>]| {
            found(verdicts, Some("13:04:48".into()), Some(SignedDuration::from_secs(30))).to_string()
        };
        let waits = Finding::Waiting { seconds: 372 };
        let [fresh, silent] = [
            (State::Fresh, Finding::LastTrade { seconds: 3 }),
            (State::Stale, Finding::NoTrade { seconds: 372 }),
        ]
        .map(|(state, finding)| verdict(&spool, state, finding));
        let [settling, stale] =
            [State::Settling, State::Stale].map(|state| verdict(&index, state, waits.clone()));
        assert_eq!(said(std::slice::from_ref(&fresh)), "data arrives at every hop");
        assert_eq!(
            said(&[fresh.clone(), settling.clone()]),
            "index: a record has been waiting for 6m12s, and a-step was started only just now"
        );
        assert_eq!(said(&[settling, stale.clone()]), "index: a record has been waiting for 6m12s");
        assert_eq!(
            said(&[silent, stale]),
            "feed: no trade for 6m12s (last at 13:04:48); the feed's session has been down for 30s"
        );
    }

    #[test]
    fn unusually_silent_symbols_are_listed() {
        let activity = |symbol: &str, last: &str, trades| Activity {
            symbol: symbol.into(),
            first: at("09:00:00"),
            last: at(last),
            trades,
        };
        let symbols = [
            activity("busy", "10:50:00", 10_000),
            activity("thin", "10:40:00", 6),
            activity("fresh", "10:59:59", 10_000),
        ];
        let names: Vec<_> = silent(at("11:00:00"), LIMITS.stale_after, &symbols)
            .into_iter()
            .map(|(a, _)| a.symbol.as_str())
            .collect();
        assert_eq!(names, ["busy"]);
    }
}
