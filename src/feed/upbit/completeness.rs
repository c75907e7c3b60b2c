//! Completeness without a chain: the exchange's candle of each minute against the sum of the trades that were
//! received of that minute.
//!
//! A trade belongs to the minute of its trade time. A minute is judged once its total is known; a total
//! replaces an earlier one of the same minute, for a candle that was read early may still have grown. Trades
//! fold by their number, so repetitions count once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use super::KOREA;
use crate::{Completeness, Received};
use domain::gaps::Gap;
use domain::retry::hash;
use domain::trade::{Total, Trade, rfc3339};

/// The minutes of one session date.
#[derive(Debug, Default)]
pub(super) struct Minutes {
    symbols: BTreeMap<String, Day>,
    missing: Decimal,
    /// Runs of neighbouring minutes in which something is missing.
    runs: usize,
}

/// A symbol's day, by minutes since 1970.
#[derive(Debug, Default)]
struct Day {
    /// Minutes before this one are taken as complete.
    from: i64,
    minutes: BTreeMap<i64, Minute>,
}

#[derive(Debug, Default)]
struct Minute {
    /// Numbers of the trades received, sorted.
    numbers: Vec<u64>,
    received: Decimal,
    /// What the exchange says.
    traded: Option<Decimal>,
}

impl Minute {
    fn missing(&self) -> Decimal {
        self.traded.map_or(Decimal::ZERO, |traded| (traded - self.received).max(Decimal::ZERO))
    }
}

impl Day {
    fn missing(&self, minute: i64) -> Decimal {
        self.minutes.get(&minute).map_or(Decimal::ZERO, Minute::missing)
    }

    /// The first minute of each run in which something is missing, the first after it, and how much is
    /// missing.
    fn runs(&self) -> Vec<(i64, i64, Decimal)> {
        let mut runs: Vec<(i64, i64, Decimal)> = Vec::new();
        for (minute, of) in self.minutes.range(self.from..) {
            let missing = of.missing();
            match runs.last_mut() {
                _ if missing.is_zero() => {}
                Some((_, to, sum)) if *to == *minute => (*to, *sum) = (*minute + 1, *sum + missing),
                _ => runs.push((*minute, *minute + 1, missing)),
            }
        }
        runs
    }
}

fn minute_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

/// What tells a trade from the others of its minute. An id that ends in something else than a number has the
/// number of its text.
fn number_of(trade: &Trade) -> u64 {
    let id = trade.id.as_str();
    id.rsplit(':').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| hash(id))
}

impl Minutes {
    /// Changes a minute and keeps the sums in step.
    fn change(&mut self, symbol: &str, minute: i64, change: impl FnOnce(&mut Minute)) {
        if !self.symbols.contains_key(symbol) {
            self.symbols.insert(symbol.to_owned(), Day { from: i64::MIN, ..Day::default() });
        }
        let Some(day) = self.symbols.get_mut(symbol).filter(|day| minute >= day.from) else { return };
        let before = day.missing(minute);
        change(day.minutes.entry(minute).or_default());
        let after = day.missing(minute);
        self.missing += after - before;
        if before.is_zero() == after.is_zero() {
            return;
        }
        let neighbours = [minute - 1, minute + 1]
            .into_iter()
            .filter(|m| *m >= day.from && !day.missing(*m).is_zero())
            .count();
        // A minute alone is a run of its own; one beside a run belongs to it; one between two joins them.
        if before.is_zero() {
            self.runs = self.runs + 1 - neighbours;
        } else {
            self.runs = self.runs + neighbours - 1;
        }
    }

    fn trade(&mut self, trade: &Trade) {
        // A trade without a readable time was refused at receipt.
        let Ok(at) = trade.traded() else { return };
        let number = number_of(trade);
        self.change(&trade.symbol, minute_of(at), |minute| {
            if let Err(place) = minute.numbers.binary_search(&number) {
                minute.numbers.insert(place, number);
                minute.received += trade.quantity;
            }
        });
    }

    /// A total is of one minute, or of several in which nothing was traded.
    fn total(&mut self, total: &Total) {
        let mut volume = total.volume;
        for minute in minute_of(total.from)..minute_of(total.to) {
            self.change(&total.symbol, minute, |of| of.traded = Some(std::mem::take(&mut volume)));
        }
    }
}

impl Completeness for Minutes {
    fn see(&mut self, received: Received<'_>) {
        match received {
            Received::Trade(trade) => self.trade(trade),
            Received::Total(total) => self.total(total),
        }
    }

    /// The minute of the trade itself is known in part only, so it is left out too.
    fn start_after(&mut self, received: Received<'_>) {
        let (symbol, from) = match received {
            Received::Trade(trade) => match trade.traded() {
                Ok(at) => (&trade.symbol, minute_of(at) + 1),
                Err(_) => return,
            },
            Received::Total(total) => (&total.symbol, minute_of(total.to)),
        };
        if !self.symbols.contains_key(symbol) {
            self.symbols.insert(symbol.clone(), Day { from, ..Day::default() });
        }
    }

    fn gaps(&self) -> Vec<Gap> {
        let zone = TimeZone::fixed(KOREA);
        let text =
            |minute: i64| rfc3339(Timestamp::from_second(minute * 60).unwrap_or(Timestamp::MAX), &zone);
        let mut gaps = Vec::new();
        for (symbol, day) in &self.symbols {
            gaps.extend(day.runs().into_iter().map(|(from, to, missing)| Gap {
                symbol: symbol.clone(),
                from: Some(text(from)),
                to: text(to),
                quantity: missing,
            }));
        }
        gaps
    }

    fn missing(&self) -> Decimal {
        self.missing
    }

    fn count(&self) -> usize {
        self.runs
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use domain::trade::EventId;

    fn at(minute: i64, second: i64) -> Timestamp {
        Timestamp::from_second((29_394_000 + minute) * 60 + second).expect("a time")
    }

    fn fill(symbol: &str, number: u64, (minute, second): (i64, i64), hundredths: i64) -> Trade {
        let zone = TimeZone::fixed(KOREA);
        let traded = at(minute, second);
        let date = zone.to_datetime(traded).date();
        Trade {
            id: EventId::new("upbit", date, symbol, number),
            feed: "upbit".into(),
            channel: "trade".into(),
            symbol: symbol.into(),
            session_date: date,
            trade_time: rfc3339(traded, &zone),
            received_at: rfc3339(traded, &zone),
            price: Decimal::ONE,
            quantity: Decimal::new(hundredths, 2),
            side: None,
            accumulated_volume: None,
            accumulated_value: None,
            fields: BTreeMap::new(),
        }
    }

    fn total(symbol: &str, minutes: std::ops::Range<i64>, hundredths: i64) -> Total {
        let (from, to) = (at(minutes.start, 0), at(minutes.end, 0));
        Total {
            feed: "upbit".into(),
            symbol: symbol.into(),
            session_date: TimeZone::fixed(KOREA).to_datetime(from).date(),
            from,
            to,
            volume: Decimal::new(hundredths, 2),
            value: None,
            trades: None,
        }
    }

    fn missing(minutes: &Minutes) -> Vec<(String, Decimal)> {
        minutes.gaps().into_iter().map(|gap| (gap.symbol, gap.quantity)).collect()
    }

    #[test]
    fn what_a_minute_lacks_is_named_with_its_size() {
        let mut minutes = Minutes::default();
        minutes.see(Received::Trade(&fill("A", 1, (0, 5), 150)));
        minutes.see(Received::Trade(&fill("A", 2, (0, 59), 50)));
        minutes.see(Received::Trade(&fill("A", 3, (2, 0), 100)));
        assert_eq!(
            (minutes.missing(), minutes.count()),
            (Decimal::ZERO, 0),
            "no minute is judged before its total is known"
        );
        minutes.see(Received::Total(&total("A", 0..1, 200)));
        minutes.see(Received::Total(&total("A", 1..2, 300)));
        minutes.see(Received::Total(&total("A", 2..3, 175)));
        minutes.see(Received::Total(&total("A", 3..60, 0)));
        minutes.see(Received::Total(&total("A", 60..61, 1)));
        assert_eq!((minutes.missing(), minutes.count()), (Decimal::new(376, 2), 2));
        let gaps = minutes.gaps();
        assert_eq!(
            missing(&minutes),
            [("A".to_owned(), Decimal::new(375, 2)), ("A".to_owned(), Decimal::new(1, 2))]
        );
        assert!(gaps[0].from.as_deref().is_some_and(|from| from.ends_with(":01:00+09:00")), "{gaps:?}");
        assert!(gaps[0].to.ends_with(":03:00+09:00"), "{gaps:?}");
        // What comes late closes it.
        minutes.see(Received::Trade(&fill("A", 4, (1, 30), 300)));
        minutes.see(Received::Trade(&fill("A", 5, (2, 30), 75)));
        assert_eq!((minutes.missing(), minutes.count()), (Decimal::new(1, 2), 1));
    }

    #[test]
    fn a_candle_that_grew_replaces_itself() {
        let mut minutes = Minutes::default();
        minutes.see(Received::Total(&total("A", 0..5, 0)));
        minutes.see(Received::Total(&total("A", 4..5, 70)));
        assert_eq!(minutes.missing(), Decimal::new(70, 2));
        minutes.see(Received::Total(&total("A", 4..5, 90)));
        minutes.see(Received::Trade(&fill("A", 1, (4, 1), 90)));
        minutes.see(Received::Trade(&fill("A", 1, (4, 1), 90)));
        assert_eq!((minutes.missing(), minutes.count()), (Decimal::ZERO, 0));
    }

    #[test]
    fn counting_can_start_in_the_middle() {
        let mut minutes = Minutes::default();
        minutes.start_after(Received::Trade(&fill("A", 1, (10, 30), 1)));
        minutes.see(Received::Total(&total("A", 0..1, 100)));
        minutes.see(Received::Total(&total("A", 10..11, 100)));
        assert_eq!(minutes.count(), 0);
        minutes.see(Received::Total(&total("A", 11..12, 100)));
        assert_eq!(missing(&minutes), [("A".to_owned(), Decimal::new(100, 2))]);
        minutes.start_after(Received::Trade(&fill("A", 1, (20, 0), 1)));
        assert_eq!(minutes.count(), 1, "no effect once the symbol was seen");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn gaps_explain_every_dropped_unit_in_any_order(
            trades in proptest::collection::vec((0usize..3, 0i64..6, 1i64..1000, any::<bool>(), any::<u32>()), 1..120),
        ) {
            let names = ["A", "B", "C"];
            let mut sums: BTreeMap<(usize, i64), i64> = BTreeMap::new();
            let mut dropped = 0;
            let mut received = Vec::new();
            for (n, (symbol, minute, hundredths, kept, key)) in trades.iter().enumerate() {
                *sums.entry((*symbol, *minute)).or_default() += hundredths;
                if *kept {
                    received.push((*key, fill(names[*symbol], n as u64, (*minute, 0), *hundredths)));
                } else {
                    dropped += hundredths;
                }
            }
            received.sort_by_key(|(key, _)| *key);
            let mut minutes = Minutes::default();
            for (n, ((symbol, minute), sum)) in sums.iter().enumerate() {
                if let Some((_, trade)) = received.get(n) {
                    minutes.see(Received::Trade(trade));
                }
                minutes.see(Received::Total(&total(names[*symbol], *minute..*minute + 1, *sum)));
            }
            for (_, trade) in received.iter().chain(&received) {
                minutes.see(Received::Trade(trade));
            }
            let sum: Decimal = missing(&minutes).into_iter().map(|(_, units)| units).sum();
            prop_assert_eq!(minutes.missing(), Decimal::new(dropped, 2));
            prop_assert_eq!(sum, minutes.missing());
            prop_assert_eq!(minutes.gaps().len(), minutes.count());
        }
    }
}
