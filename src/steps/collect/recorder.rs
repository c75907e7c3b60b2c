//! Data → spool entries: every trade once, every message that cannot be read as it came.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;

use super::dedup::Dedup;
use crate::spooled;
use backends::spool::{Entry, Kind, MalformedBody, NewEntry, TradeBody};
use domain::trade::{Total, Trade};
use feed::{Completeness, Data, Feed, Malformed, Received, Refused};

/// Counters of a collector's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages with data received, malformed ones included.
    pub(super) frames: u64,
    /// Trades put into the spool.
    pub(super) records: u64,
    /// Messages that could not be read, wholly or in part.
    pub(super) malformed: u64,
    /// Trades received before.
    pub(super) duplicates: u64,
}

/// Feeds and dates whose gaps are counted at a time.
const DAYS: usize = 8;

/// A day of a feed (and venue), and what is missing of it.
struct Day {
    feed: String,
    date: Date,
    rule: Box<dyn Completeness>,
}

/// Decides what goes into the spool.
pub(super) struct Recorder {
    feed: &'static dyn Feed,
    dedup: Dedup,
    days: Vec<Day>,
    counts: Counts,
    last: Latest,
}

/// When each instrument's newest trade came; nothing for one that is asked for and has not traded yet.
pub(super) type Latest = BTreeMap<String, Option<Timestamp>>;

/// Instruments whose newest trade is remembered.
const INSTRUMENTS: usize = 500;

impl Recorder {
    pub(super) fn new(feed: &'static dyn Feed) -> Self {
        Self {
            feed,
            dedup: Dedup::default(),
            days: Vec::new(),
            counts: Counts::default(),
            last: Latest::new(),
        }
    }

    /// Says which instruments are asked for, so that one without any trade is known too.
    pub(super) fn expect(&mut self, symbols: &[String]) {
        for symbol in symbols.iter().take(INSTRUMENTS) {
            self.last.entry(symbol.clone()).or_default();
        }
    }

    fn note(&mut self, symbol: &str, at: Timestamp) {
        let room = self.last.len() < INSTRUMENTS;
        match self.last.get_mut(symbol) {
            Some(last) => *last = Some(at).max(*last),
            None if room => drop(self.last.insert(symbol.to_owned(), Some(at))),
            None => {}
        }
    }

    /// Takes in what the spool holds already, oldest first, so that it is not taken in again. `whole`: from
    /// its very first entry.
    pub(super) fn remember(&mut self, entries: &[Entry], whole: bool) {
        for entry in entries {
            // What is in the spool was judged when it came; the forwarders tell people if it is damaged.
            if let Some(Ok(trade)) = spooled::trade(entry) {
                if self.dedup.is_new(&trade) {
                    self.note(&trade.symbol, entry.received_at);
                    self.see(Received::Trade(&trade), !whole);
                }
            } else if let Some(total) = spooled::total(entry) {
                self.see(Received::Total(&total), !whole);
            }
        }
    }

    /// A message with data came; what is in it follows.
    pub(super) fn frame(&mut self) {
        self.counts.frames += 1;
    }

    /// Takes in what came.
    pub(super) fn data(&mut self, data: Data, received_at: Timestamp, out: &mut Vec<NewEntry>) {
        match data {
            Data::Trade(trade) => self.trade(&trade, received_at, out),
            Data::Total(total) => self.total(&total, received_at, out),
            Data::Malformed(malformed) => self.malformed(&malformed, received_at, out),
        }
    }

    fn trade(&mut self, trade: &Trade, received_at: Timestamp, out: &mut Vec<NewEntry>) {
        if !self.dedup.is_new(trade) {
            self.counts.duplicates += 1;
            return;
        }
        match spooled::to_json(trade) {
            Ok(json) => {
                self.counts.records += 1;
                self.note(&trade.symbol, received_at);
                self.see(Received::Trade(trade), false);
                let body = TradeBody { id: trade.id.as_str(), symbol: &trade.symbol, json: &json }.encode();
                out.push(NewEntry { kind: Kind::Trade, received_at, body });
            }
            Err(refused) => self.malformed(
                &Malformed { refused, bytes: format!("{trade:?}").into_bytes() },
                received_at,
                out,
            ),
        }
    }

    fn total(&mut self, total: &Total, received_at: Timestamp, out: &mut Vec<NewEntry>) {
        self.see(Received::Total(total), false);
        if let Ok(body) = serde_json::to_vec(total) {
            out.push(NewEntry { kind: Kind::Total, received_at, body });
        }
    }

    /// Takes in what cannot be read.
    pub(super) fn malformed(
        &mut self,
        malformed: &Malformed,
        received_at: Timestamp,
        out: &mut Vec<NewEntry>,
    ) {
        self.counts.malformed += 1;
        let Malformed { refused: Refused { cause, message }, bytes } = malformed;
        let body =
            MalformedBody { cause: Cow::Borrowed(cause), message: Cow::Borrowed(message), bytes }.encode();
        out.push(NewEntry { kind: Kind::Malformed, received_at, body });
    }

    /// Tells the rule of the day.
    fn see(&mut self, received: Received<'_>, from_the_middle: bool) {
        let (feed, date) = match received {
            Received::Trade(trade) => (&trade.feed, trade.session_date),
            Received::Total(total) => (&total.feed, total.session_date),
        };
        let at = self.days.iter().position(|d| d.feed == *feed && d.date == date).unwrap_or_else(|| {
            if self.days.len() == DAYS
                && let Some(oldest) = (0..DAYS).min_by_key(|at| self.days[*at].date)
            {
                self.days.swap_remove(oldest);
            }
            self.days.push(Day { feed: feed.clone(), date, rule: self.feed.completeness() });
            self.days.len() - 1
        });
        let rule = &mut self.days[at].rule;
        if from_the_middle {
            rule.start_after(received);
        }
        rule.see(received);
    }

    /// Counters so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// When each instrument's newest trade came.
    pub(super) fn latest(&self) -> &Latest {
        &self.last
    }

    /// Gaps known now, and what is missing in them.
    pub(super) fn gaps(&self) -> (usize, Decimal) {
        let count = self.days.iter().map(|day| day.rule.count()).sum();
        (count, self.days.iter().fold(Decimal::ZERO, |sum, day| sum.saturating_add(day.rule.missing())))
    }
}

#[cfg(test)]
mod tests;
