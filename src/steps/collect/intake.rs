//! Frames → spool entries: every good record once, every bad frame as it came.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;

use super::seen::Seen;
use backends::spool::{Entry, Kind, NewEntry};
use domain::gaps::{Fill, Ledger};
use feed::kis::{Essence, Frame, FrameError};

/// Counters of a collector's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Data frames received, malformed ones included.
    pub(super) frames: u64,
    /// Records put into the spool.
    pub(super) records: u64,
    /// Frames that could not be decoded, wholly or in part.
    pub(super) malformed: u64,
    /// Records received before.
    pub(super) duplicates: u64,
}

/// Feeds and dates whose gaps are counted at a time.
const LEDGERS: usize = 8;

/// Decides what goes into the spool.
#[derive(Debug, Default)]
pub(super) struct Intake {
    seen: Seen,
    ledgers: Vec<(&'static str, Date, Ledger)>,
    counts: Counts,
    last: Latest,
}

/// When each instrument's newest trade came; nothing for one that is asked for and has not traded yet.
pub(super) type Latest = BTreeMap<String, Option<Timestamp>>;

/// Instruments whose newest trade is remembered; a session of KIS has at most 41.
const INSTRUMENTS: usize = 500;

impl Intake {
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

    /// Takes in what the spool holds already, oldest first, so that it is not taken in again. `whole`: from its very first entry.
    pub(super) fn remember(&mut self, entries: &[Entry], whole: bool) {
        for entry in entries.iter().filter(|e| e.kind == Kind::Record) {
            let Ok(wire) = std::str::from_utf8(&entry.body) else { continue };
            let Some((tr_id, payload)) = wire.split_once('|') else { continue };
            // What is in the spool was judged when it came; the forwarders tell people if it is damaged.
            let Ok(frame) = Frame::new(tr_id, 1, payload) else { continue };
            for essence in frame.records().filter_map(|r| Essence::of(&r).ok()) {
                if self.seen.is_new(&essence) {
                    self.note(essence.symbol, entry.received_at);
                    self.count_gap(&essence, !whole);
                }
            }
        }
    }

    /// Takes in a data frame.
    pub(super) fn frame(&mut self, bytes: &[u8], frame: &Frame<'_>, received_at: Timestamp, out: &mut Vec<NewEntry>) {
        self.counts.frames += 1;
        let mut fault = None;
        for (n, record) in frame.records().enumerate() {
            match Essence::of(&record) {
                Ok(essence) if self.seen.is_new(&essence) => {
                    self.counts.records += 1;
                    self.note(essence.symbol, received_at);
                    self.count_gap(&essence, false);
                    out.push(NewEntry { kind: Kind::Record, received_at, body: record.wire().into_bytes() });
                }
                Ok(_) => self.counts.duplicates += 1,
                Err(error) => {
                    let message = if frame.len() == 1 { error.message } else { format!("record {}: {}", n + 1, error.message) };
                    fault.get_or_insert(FrameError { cause: error.cause, message });
                }
            }
        }
        // One dead letter a frame: its good records are kept, and a replay of the whole frame folds into them.
        if let Some(fault) = fault {
            self.push_malformed(bytes, &fault, received_at, out);
        }
    }

    /// Takes in a message that is no frame.
    pub(super) fn malformed(&mut self, bytes: &[u8], fault: &FrameError, received_at: Timestamp, out: &mut Vec<NewEntry>) {
        self.counts.frames += 1;
        self.push_malformed(bytes, fault, received_at, out);
    }

    fn push_malformed(&mut self, bytes: &[u8], fault: &FrameError, received_at: Timestamp, out: &mut Vec<NewEntry>) {
        self.counts.malformed += 1;
        let mut body = format!("{}\n{}\n", fault.cause, fault.message.replace('\n', " ")).into_bytes();
        body.extend_from_slice(bytes);
        out.push(NewEntry { kind: Kind::Malformed, received_at, body });
    }

    fn count_gap(&mut self, trade: &Essence<'_>, from_the_middle: bool) {
        let at =
            self.ledgers.iter().position(|(feed, date, _)| *feed == trade.feed && *date == trade.date).unwrap_or_else(|| {
                if self.ledgers.len() == LEDGERS
                    && let Some(oldest) = (0..LEDGERS).min_by_key(|at| self.ledgers[*at].1)
                {
                    self.ledgers.swap_remove(oldest);
                }
                self.ledgers.push((trade.feed, trade.date, Ledger::new()));
                self.ledgers.len() - 1
            });
        let traded_at = trade.trade_time();
        let fill =
            Fill { symbol: trade.symbol, traded_at: &traded_at, quantity: trade.quantity, accumulated: trade.accumulated_volume };
        if from_the_middle {
            self.ledgers[at].2.start_after(fill);
        }
        self.ledgers[at].2.see(fill);
    }

    /// Counters so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// When each instrument's newest trade came.
    pub(super) fn latest(&self) -> &Latest {
        &self.last
    }

    /// Gaps known now, and their shares.
    pub(super) fn gaps(&self) -> (usize, i64) {
        let count = self.ledgers.iter().map(|(_, _, l)| l.count()).sum();
        (count, self.ledgers.iter().fold(0, |sum, (_, _, l)| sum.saturating_add(l.missing_shares())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use feed::kis::{Message, encode, parse};

    fn record(symbol: &str, quantity: i64, accumulated: i64) -> Vec<String> {
        let mut fields = vec![String::new(); 47];
        for (at, text) in [(0, symbol), (1, "093000"), (2, "70000"), (33, "20261120")] {
            fields[at] = text.to_owned();
        }
        (fields[12], fields[13], fields[14]) =
            (quantity.to_string(), accumulated.to_string(), (accumulated * 70_000).to_string());
        fields
    }

    fn take(intake: &mut Intake, text: &str) -> Vec<NewEntry> {
        let mut out = Vec::new();
        let now = Timestamp::UNIX_EPOCH;
        match parse(text.as_bytes()) {
            Ok(Message::Data(frame)) => intake.frame(text.as_bytes(), &frame, now, &mut out),
            Err(error) => intake.malformed(text.as_bytes(), &error, now, &mut out),
            other => panic!("not data: {other:?}"),
        }
        out
    }

    fn stored(entries: Vec<NewEntry>) -> Vec<Entry> {
        let entry =
            |(n, e): (usize, NewEntry)| Entry { seq: n as u64 + 1, kind: e.kind, received_at: e.received_at, body: e.body };
        entries.into_iter().enumerate().map(entry).collect()
    }

    #[test]
    fn every_good_record_is_kept_once_also_across_a_restart() {
        let mut intake = Intake::default();
        let text = encode("H0STCNT0", &[record("A", 5, 5), record("B", 1, 1), record("A", 2, 7)]);
        let entries = take(&mut intake, &text);
        assert_eq!(entries.len(), 3);
        assert!(entries.iter().all(|e| e.kind == Kind::Record && e.body.starts_with(b"H0STCNT0|")));
        assert_eq!(take(&mut intake, &text), []);
        assert_eq!(intake.counts(), Counts { frames: 2, records: 3, malformed: 0, duplicates: 3 });

        let mut restarted = Intake::default();
        restarted.remember(&stored(entries), true);
        assert_eq!(take(&mut restarted, &text), []);
        assert_eq!(take(&mut restarted, &encode("H0STCNT0", &[record("A", 3, 20)])).len(), 1);
        assert_eq!(restarted.gaps(), (1, 10));
    }

    #[test]
    fn a_rebuild_from_the_middle_invents_no_gap() {
        let mut intake = Intake::default();
        let entries = take(&mut intake, &encode("H0STCNT0", &[record("A", 1, 500)]));
        assert_eq!(intake.gaps(), (1, 499));
        let mut restarted = Intake::default();
        restarted.remember(&stored(entries), false);
        take(&mut restarted, &encode("H0STCNT0", &[record("A", 1, 501)]));
        assert_eq!(restarted.gaps(), (0, 0));
    }

    #[test]
    fn a_bad_record_costs_neither_its_neighbours_nor_its_bytes() {
        let mut intake = Intake::default();
        let mut bad = record("B", 1, 1);
        bad[2] = "seventy".into();
        let text = encode("H0STCNT0", &[record("A", 5, 5), bad, record("A", 2, 7)]);
        let entries = take(&mut intake, &text);
        assert_eq!(entries.iter().map(|e| e.kind).collect::<Vec<_>>(), [Kind::Record, Kind::Record, Kind::Malformed]);
        let body = String::from_utf8(entries[2].body.clone()).expect("text");
        let expected = format!("bad_number\nrecord 2: field 2 STCK_PRPR is \"seventy\", expected a number\n{text}");
        assert_eq!(body, expected);
        let entries = take(&mut intake, "0|H0STCNT0|001|1^2");
        assert!(
            entries.len() == 1
                && entries[0].body.starts_with(b"wrong_width\n")
                && entries[0].body.ends_with(b"\n0|H0STCNT0|001|1^2")
        );
        assert_eq!(intake.counts(), Counts { frames: 2, records: 2, malformed: 2, duplicates: 0 });
    }

    #[test]
    fn the_newest_trade_of_each_instrument_is_known() {
        let mut intake = Intake::default();
        intake.expect(&["005930".into(), "373220".into()]);
        let mut out = Vec::new();
        let text = encode("H0STCNT0", &[record("005930", 1, 1), record("000660", 1, 1)]);
        let Ok(Message::Data(frame)) = parse(text.as_bytes()) else { panic!("not data: {text}") };
        let at = Timestamp::from_second(90).expect("a time");
        intake.frame(text.as_bytes(), &frame, at, &mut out);
        assert_eq!(intake.latest().get("005930"), Some(&Some(at)));
        assert_eq!((intake.latest().get("000660"), intake.latest().get("373220")), (Some(&Some(at)), Some(&None)));
        // After a restart the spool tells it.
        let mut again = Intake::default();
        again.remember(&stored(out), true);
        assert_eq!(again.latest().get("000660"), Some(&Some(at)));
    }

    #[test]
    fn a_record_older_than_the_window_counts_as_new() {
        let mut intake = Intake::default();
        for n in 1..=2000 {
            assert_eq!(take(&mut intake, &encode("H0STCNT0", &[record("A", 1, n)])).len(), 1);
        }
        assert_eq!(take(&mut intake, &encode("H0STCNT0", &[record("A", 1, 1990)])), []);
        assert_eq!(take(&mut intake, &encode("H0STCNT0", &[record("A", 1, 3)])).len(), 1);
    }
}
