//! What the exchange says was traded: the candles of each minute that has ended, asked for one call after the
//! other.
//!
//! Each call covers all minutes of a market that are not known yet, so an outage, or a start in the middle of
//! the day, is caught up with a call of up to 200 minutes. The last minute of the call before is read once
//! more: its candle may have grown.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

use super::{KOREA, Settings, after};
use crate::upbit::answer::{self, Outcome};
use crate::upbit::request::{self, MOST_CANDLES};
use crate::{Answer, Data, Output, Request};
use domain::retry::Backoff;
use domain::trade::Total;

/// Minutes that are this far behind are worth telling.
const LATE_MINUTES: i64 = 10;

/// After a failure without a word on when to come again.
const BACKOFF: Backoff =
    Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60), jitter: false };

/// The same after a block, which grows with every call that comes too early.
const BLOCKED: Backoff =
    Backoff { initial: Duration::from_secs(60), max: Duration::from_secs(3600), jitter: false };

#[derive(Debug)]
struct Market {
    code: String,
    /// The first minute (since 1970) that is not known.
    next: i64,
    /// Volume of the minute before, as it was told.
    told: Option<Decimal>,
    /// There is no such market.
    unknown: bool,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    market: usize,
    from: i64,
    to: i64,
}

pub(super) struct Totals {
    markets: Vec<Market>,
    rest: String,
    feed: &'static str,
    asked: Option<Asked>,
    next_call: Timestamp,
    failures: u32,
    /// Why the last call failed.
    failed: Option<String>,
    /// Minutes that had ended at the last look.
    ended: i64,
    pace: Duration,
    within: Duration,
    settle: Duration,
}

impl Totals {
    pub(super) fn new(settings: &Settings) -> Self {
        let midnight =
            settings.day.to_zoned(TimeZone::fixed(KOREA)).map_or(Timestamp::MAX, |day| day.timestamp());
        let next = midnight.as_second().div_euclid(60);
        Self {
            markets: settings
                .codes
                .iter()
                .map(|code| Market { code: code.clone(), next, told: None, unknown: false })
                .collect(),
            rest: settings.rest.clone(),
            feed: settings.channel.feed(),
            asked: None,
            next_call: Timestamp::MIN,
            failures: 0,
            failed: None,
            ended: next,
            pace: settings.call_pace,
            within: settings.call_within,
            settle: settings.settle,
        }
    }

    /// The market whose candles are known least far.
    fn first(&self) -> Option<(usize, &Market)> {
        self.markets
            .iter()
            .enumerate()
            .filter(|(_, market)| !market.unknown)
            .min_by_key(|(_, market)| market.next)
    }

    /// When [`Totals::next`] has something to do.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if self.asked.is_some() {
            return None;
        }
        let (_, market) = self.first()?;
        let ends = Timestamp::from_second((market.next + 1) * 60).ok()?;
        Some(after(ends, self.settle).max(self.next_call))
    }

    /// The call to make now, if one is due; one at a time.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Request> {
        let settle = SignedDuration::try_from(self.settle).unwrap_or(SignedDuration::MAX);
        self.ended = now.checked_sub(settle).map_or(self.ended, |at| at.as_second().div_euclid(60));
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        let (at, market) = self.first()?;
        let from = if market.told.is_some() { market.next - 1 } else { market.next };
        let to = self.ended.min(from + MOST_CANDLES);
        let call = request::candles(
            &self.rest,
            &market.code,
            Timestamp::from_second(to * 60).ok()?,
            to - from,
            self.within,
        );
        self.asked = Some(Asked { market: at, from, to });
        self.next_call = after(now, self.pace);
        Some(call)
    }

    /// The answer to the call came.
    pub(super) fn answered(&mut self, result: Result<Answer, String>, now: Timestamp, out: &mut Vec<Output>) {
        let Some(asked) = self.asked.take() else { return };
        if result.as_ref().ok().and_then(answer::remaining) == Some(0) {
            // The budget is counted by the second.
            self.next_call = self.next_call.max(after(now, Duration::from_secs(1)));
        }
        match result.map_or_else(Outcome::Failed, |answer| answer::candles(&answer)) {
            Outcome::Good(candles) => {
                (self.failures, self.failed) = (0, None);
                self.tell(asked, &candles, out);
            }
            Outcome::Unknown => {
                let market = &mut self.markets[asked.market];
                market.unknown = true;
                out.push(Output::Note(format!(
                    "Upbit has no candles of {}: its trades cannot be checked",
                    market.code
                )));
            }
            Outcome::TooMany { blocked, wait } => {
                self.failures = self.failures.saturating_add(1);
                let backoff = if blocked { BLOCKED } else { BACKOFF };
                let wait = wait.unwrap_or_default().max(backoff.delay(self.failures, 0));
                self.next_call = after(now, wait);
                let what = if blocked { "blocks this address" } else { "takes no more calls just now" };
                self.failed(
                    format!("Upbit {what}; candles are asked for again in {} s", wait.as_secs()),
                    out,
                );
            }
            Outcome::Failed(why) => {
                self.failures = self.failures.saturating_add(1);
                self.next_call = after(now, BACKOFF.delay(self.failures, 0));
                self.failed(
                    format!("the candles of {} cannot be read: {why}", self.markets[asked.market].code),
                    out,
                );
            }
        }
    }

    /// The first failure in a row is worth a line; what follows is in [`Totals::trouble`].
    fn failed(&mut self, why: String, out: &mut Vec<Output>) {
        if self.failed.replace(why.clone()).is_none() {
            out.push(Output::Note(why));
        }
    }

    /// Tells the totals of the minutes that were asked for: one of each minute with trades, one of each run
    /// of minutes without.
    fn tell(&mut self, asked: Asked, candles: &BTreeMap<i64, Decimal>, out: &mut Vec<Output>) {
        let market = &mut self.markets[asked.market];
        let volume = |minute: i64| candles.get(&minute).copied().unwrap_or_default();
        // The minute that was read before is told again only if its candle has changed.
        let same = asked.from < market.next && market.told == Some(volume(asked.from));
        let mut minute = if same { asked.from + 1 } else { asked.from };
        while minute < asked.to {
            let mut to = minute + 1;
            while volume(minute).is_zero()
                && to < asked.to
                && volume(to).is_zero()
                && date(to) == date(minute)
            {
                to += 1;
            }
            let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap_or(Timestamp::MAX);
            out.push(Output::Data(Data::Total(Total {
                feed: self.feed.to_owned(),
                symbol: market.code.clone(),
                session_date: date(minute),
                from: at(minute),
                to: at(to),
                volume: volume(minute),
                value: None,
                trades: None,
            })));
            minute = to;
        }
        (market.next, market.told) = (asked.to, Some(volume(asked.to - 1)));
    }

    /// What is not known although it should be, in one line.
    pub(super) fn trouble(&self) -> Option<String> {
        let (_, market) = self.first()?;
        let behind = self.ended - market.next;
        if behind < LATE_MINUTES || self.failed.is_none() {
            return None;
        }
        let why = self.failed.as_deref().unwrap_or_default();
        Some(format!("what was traded in the last {behind} minutes is not checked: {why}"))
    }
}

fn date(minute: i64) -> jiff::civil::Date {
    let at = Timestamp::from_second(minute * 60).unwrap_or(Timestamp::MAX);
    TimeZone::fixed(KOREA).to_datetime(at).date()
}
