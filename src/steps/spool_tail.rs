//! What a collector's spool holds, read a little further each time: a check every five minutes must not read
//! the whole day.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::spooled::{self, Spooled};
use backends::spool::{self, Kind, Reader};
use backends::{BackendError, Result};
use domain::freshness::Activity;

/// Entries of one read.
const CHUNK: usize = 4_096;

/// The folder of a collector's spool.
pub fn folder(data: &Path, dag: &str, collector: &str) -> PathBuf {
    data.join("spool").join(dag).join(collector)
}

/// Reads all entries from `seq` on and hands each to `visit` until it says stop (`false`).
///
/// # Errors
/// What the spool fails with.
pub fn for_each(dir: &Path, seq: u64, mut visit: impl FnMut(spool::Entry) -> bool) -> Result<()> {
    let mut reader = Reader::open(dir, seq)?;
    loop {
        let entries = reader.next(CHUNK)?;
        if entries.is_empty() {
            return Ok(());
        }
        for entry in entries {
            if !visit(entry) {
                return Ok(());
            }
        }
    }
}

/// What is known of a spool on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    spool: String,
    date: Date,
    /// The next entry to read.
    next: u64,
    /// The newest record: its receipt time, and its symbol.
    pub newest: Option<(Timestamp, String)>,
    /// The last change of the feed's session: came up (true) or went down, and when.
    pub session: Option<(bool, Timestamp)>,
    /// First record of each minute (seconds since 1970) that has any, and its entry: where to look for a
    /// time.
    minutes: BTreeMap<i64, u64>,
    /// Symbol → first, last, number of records.
    symbols: BTreeMap<String, (Timestamp, Timestamp, u64)>,
}

impl Tail {
    /// Continues from `saved`, if it is about the same spool and day, to the spool's end. `None`: there is no
    /// spool yet.
    ///
    /// # Errors
    /// What the spool fails with.
    pub fn read(dir: &Path, date: Date, zone: &TimeZone, saved: Option<Self>) -> Result<Option<Self>> {
        let Some(spool) = spool::id(dir)? else { return Ok(None) };
        let mut tail = saved.filter(|s| s.spool == spool && s.date == date).unwrap_or(Self {
            spool,
            date,
            next: 1,
            newest: None,
            session: None,
            minutes: BTreeMap::new(),
            symbols: BTreeMap::new(),
        });
        let midnight = date.to_zoned(zone.clone()).map(|z| z.timestamp()).map_err(|e| {
            BackendError::new(backends::ErrorKind::Rejected, format!("date {date}"), e.to_string())
        })?;
        for_each(dir, tail.next, |entry| {
            tail.next = entry.seq + 1;
            match entry.kind {
                Kind::Trade | Kind::Record => {
                    let symbol = Spooled::of(&entry).and_then(Result::ok).map(|trade| trade.symbol);
                    tail.record(entry.seq, entry.received_at, symbol.as_deref(), midnight);
                }
                Kind::SessionUp => tail.session = Some((true, entry.received_at)),
                Kind::SessionDown => tail.session = Some((false, entry.received_at)),
                Kind::Malformed | Kind::Total => {}
            }
            true
        })?;
        Ok(Some(tail))
    }

    fn record(&mut self, seq: u64, at: Timestamp, symbol: Option<&str>, midnight: Timestamp) {
        let symbol = symbol.unwrap_or("?");
        if self.newest.as_ref().is_none_or(|(newest, _)| *newest <= at) {
            self.newest = Some((at, symbol.to_owned()));
        }
        if at < midnight {
            return;
        }
        self.minutes.entry(at.as_second().div_euclid(60)).or_insert(seq);
        match self.symbols.get_mut(symbol) {
            Some((_, last, count)) => (*last, *count) = ((*last).max(at), *count + 1),
            None => {
                self.symbols.insert(symbol.to_owned(), (at, at, 1));
            }
        }
    }

    /// Receipt time of the first record later than `after`.
    ///
    /// # Errors
    /// What the spool fails with.
    pub fn first_after(&self, dir: &Path, after: Option<Timestamp>) -> Result<Option<Timestamp>> {
        let minute = after.map_or(i64::MIN, |a| a.as_second().div_euclid(60));
        // Receipt times may step back a little when the machine's clock is set: look from the minute before.
        let before = self.minutes.range(..minute).next_back().or_else(|| self.minutes.first_key_value());
        let Some((_, seq)) = before else { return Ok(None) };
        let mut found = None;
        for_each(dir, *seq, |entry| {
            if spooled::is_trade(&entry) && after.is_none_or(|a| entry.received_at > a) {
                found = Some(entry.received_at);
            }
            found.is_none() && entry.seq < self.next
        })?;
        Ok(found)
    }

    /// Activity of every symbol on the day.
    pub fn activity(&self) -> Vec<Activity> {
        self.symbols
            .iter()
            .map(|(symbol, (first, last, trades))| Activity {
                symbol: symbol.clone(),
                first: *first,
                last: *last,
                trades: *trades,
            })
            .collect()
    }

    /// How long the feed's session has been down at `now`, if it is.
    pub fn down_for(&self, now: Timestamp) -> Option<SignedDuration> {
        self.session.filter(|(up, _)| !up).map(|(_, at)| now.duration_since(at))
    }
}
