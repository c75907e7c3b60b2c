//! Makes the ledger of a day from a seed: the same seed, day, markets and size give the same trades.
//!
//! The exchange never closes, so the ledger begins an hour before the day and ends an hour after it, and
//! every market trades in that first hour: whoever subscribes gets a last trade.

use std::collections::BTreeSet;
use std::sync::Arc;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use super::ledger::{DaySoFar, LedgerTrade, VOLUME_DECIMALS, delay, sequential_id};
use super::markets::{KRW20, PRICE_DECIMALS, tick};
use domain::calendar::TradingSession;
use domain::retry::{hash, mix};

/// Trades of a day when nobody asks for another number.
pub const TARGET_TRADES: usize = 24_000;

/// How much of the days around is in a ledger, on each side.
pub const MARGIN: SignedDuration = SignedDuration::from_hours(1);

/// How busy each hour in Korea is: the new daily candle at nine, the evening, the small hours.
const HOURS: [u32; 24] =
    [90, 70, 50, 38, 30, 26, 30, 48, 95, 190, 130, 100, 84, 78, 80, 86, 92, 96, 92, 96, 112, 140, 165, 130];

/// Makes days.
pub struct Market;

impl Market {
    /// The trades of a day and of an hour on each side of it, in the order in which they are sent; about
    /// `target` of them in the day. The first markets trade most; markets named twice count once.
    pub fn generate(seed: u64, day: &TradingSession, codes: &[String], target: usize) -> Vec<LedgerTrade> {
        let mut known = BTreeSet::new();
        let codes: Vec<&String> = codes.iter().filter(|code| known.insert(code.as_str())).collect();
        let weights: Vec<usize> = (0..codes.len()).map(|rank| 100_000 / (4 + rank * 2)).collect();
        let sum: usize = weights.iter().sum::<usize>().max(1);
        let mut rng = Rng::with_seed(mix(seed ^ hash("upbit") ^ hash(&day.date.to_string())));
        let mut ledger = Vec::with_capacity(target + target / 8);
        for (code, weight) in codes.into_iter().zip(weights) {
            let rng = Rng::with_seed(mix(rng.u64(..) ^ hash(code)));
            let trades = (target * weight).div_ceil(sum).max(1);
            MarketDay::new(rng, code).run(day, trades, &mut ledger);
        }
        // Stable: what a taker bought at one instant stays together.
        ledger.sort_by_key(|trade| trade.at);
        ledger
    }
}

/// A moment of the day, its hours as busy as they are.
fn draw(rng: &mut Rng, from: Timestamp, to: Timestamp) -> Timestamp {
    let span = to.duration_since(from).as_millis() as i64;
    let busiest = HOURS.iter().max().copied().unwrap_or(1);
    loop {
        let at = from + SignedDuration::from_millis(rng.i64(0..span.max(1)));
        let hour = crate::korea::korean(at).hour();
        if rng.u32(0..busiest) < HOURS[usize::try_from(hour).unwrap_or(0)] {
            return at;
        }
    }
}

struct MarketDay {
    rng: Rng,
    code: Arc<str>,
    bid: i64,
    day: DaySoFar,
    /// The exchange's own day, in London.
    date: Option<jiff::civil::Date>,
}

impl MarketDay {
    fn new(mut rng: Rng, code: &str) -> Self {
        let about = KRW20
            .iter()
            .find(|(known, _)| *known == code)
            .map_or_else(|| f64::from(rng.u32(5..5_000_000)), |(_, won)| *won);
        let units = (about * 10_f64.powi(PRICE_DECIMALS as i32) * (0.95 + rng.f64() / 10.0)) as i64;
        let price = (units - units % tick(units)).max(tick(units));
        let day = DaySoFar {
            previous_close: price,
            prices: (price, price, price),
            volumes: (0, 0),
            value: 0,
            best: (price, price),
        };
        Self { rng, code: code.into(), bid: price, day, date: None }
    }

    fn run(mut self, day: &TradingSession, trades: usize, ledger: &mut Vec<LedgerTrade>) {
        let (from, to) = (day.open - MARGIN, day.close + MARGIN);
        let mut moments: Vec<(Timestamp, u32)> = Vec::new();
        let all = trades + trades / 12;
        let mut left = u32::try_from(all).unwrap_or(u32::MAX);
        while left > 0 {
            // A taker's order often meets several of the other side at once.
            let count = match self.rng.u32(0..100) {
                ..70 => 1,
                70..88 => 2,
                88..96 => 3,
                _ => self.rng.u32(4..=8),
            };
            let count = count.min(left);
            left -= count;
            moments.push((draw(&mut self.rng, from, to), count));
        }
        moments.push((from + SignedDuration::from_millis(self.rng.i64(0..600_000)), 1));
        moments.sort_unstable();
        let mut last = Timestamp::MIN;
        for (at, count) in moments {
            // One order a millisecond: their numbers are told apart by it.
            last = at.max(last.saturating_add(SignedDuration::from_millis(1)).unwrap_or(at));
            self.take(last, count, ledger);
        }
    }

    /// One order that takes what several offered: at one instant, on one side.
    fn take(&mut self, at: Timestamp, count: u32, ledger: &mut Vec<LedgerTrade>) {
        let buy = self.rng.bool();
        let date = jiff::tz::TimeZone::UTC.to_datetime(at).date();
        let delay = delay(self.rng.u64(..));
        let first = self.rng.u64(0..1_000);
        // Their numbers say nothing about their order.
        let mut numbers: Vec<u64> = (first..first + u64::from(count)).collect();
        self.rng.shuffle(&mut numbers);
        for number in numbers {
            if self.rng.u32(0..3) == 0 {
                let step = tick(self.bid);
                self.bid = (if buy { self.bid + step } else { self.bid - step }).max(step);
            }
            let ask = self.bid + tick(self.bid);
            let price = if buy { ask } else { self.bid };
            let volume = self.volume(price);
            self.note(date, price, volume, buy);
            self.day.best = (ask, self.bid);
            ledger.push(LedgerTrade {
                at: at + delay,
                traded: at,
                code: self.code.clone(),
                price,
                volume,
                buy,
                sequential_id: sequential_id(at, number),
                so_far: self.day.clone(),
            });
        }
    }

    /// A volume worth about 5,000 to 20 million won, many small and few large.
    fn volume(&mut self, price: i64) -> i64 {
        let won = (5_000_i128 << self.rng.u32(0..11)) * i128::from(self.rng.i64(50..200)) / 100;
        let units = won * 10_i128.pow(PRICE_DECIMALS + VOLUME_DECIMALS) / i128::from(price.max(1));
        i64::try_from(units).unwrap_or(i64::MAX / 1_000).max(1)
    }

    fn note(&mut self, date: jiff::civil::Date, price: i64, volume: i64, buy: bool) {
        let day = &mut self.day;
        if self.date != Some(date) {
            let previous_close = if self.date.is_some() { self.bid } else { day.previous_close };
            *day = DaySoFar {
                previous_close,
                prices: (price, price, price),
                volumes: (0, 0),
                value: 0,
                best: day.best,
            };
            self.date = Some(date);
        }
        day.prices = (day.prices.0, day.prices.1.max(price), day.prices.2.min(price));
        let side = if buy { &mut day.volumes.1 } else { &mut day.volumes.0 };
        *side += i128::from(volume);
        day.value += i128::from(price) * i128::from(volume);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::civil::{Date, date, time};

    use super::*;
    use crate::korea::{instant, korean};
    use crate::upbit::markets::codes;

    const DAY: Date = date(2026, 11, 20);

    fn day() -> TradingSession {
        let midnight = |date: Date| instant(date, time(0, 0, 0, 0));
        TradingSession { date: DAY, open: midnight(DAY), close: midnight(DAY.tomorrow().expect("a day")) }
    }

    #[test]
    fn a_seed_makes_one_day_and_another_seed_another() {
        let ledger = |seed| Market::generate(seed, &day(), &codes(), 3_000);
        assert_eq!(ledger(7), ledger(7));
        assert_ne!(ledger(7), ledger(8));
    }

    #[test]
    fn the_day_has_its_shape_and_every_trade_its_number() {
        for seed in [1, 2, 3] {
            let ledger = Market::generate(seed, &day(), &codes(), TARGET_TRADES);
            let of_the_day = ledger.iter().filter(|t| t.session_date() == DAY).count();
            assert!((20_000..28_000).contains(&of_the_day), "{of_the_day}");
            assert!(ledger.is_sorted_by_key(|t| t.at));
            let hour = |h: i8| {
                ledger.iter().filter(|t| t.session_date() == DAY && korean(t.traded).hour() == h).count()
            };
            assert!(hour(9) > 4 * hour(5) && hour(22) > 3 * hour(5), "{} {} {}", hour(5), hour(9), hour(22));
            let mut ids: Vec<_> = ledger.iter().map(LedgerTrade::id).collect();
            ids.sort_unstable();
            assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "two trades with one id");
            let mut first: BTreeMap<&str, Timestamp> = BTreeMap::new();
            for trade in &ledger {
                first.entry(&trade.code).or_insert(trade.traded);
                assert!(
                    trade.price > 0
                        && trade.volume > 0
                        && trade.at > trade.traded
                        && trade.price % tick(trade.price) == 0
                );
            }
            assert!(
                first.len() == 20
                    && first.values().all(|at| *at < day().open - SignedDuration::from_mins(45))
            );
            // Trades of the last milliseconds of a day arrive on the next.
            assert!(
                ledger.iter().any(|t| t.traded < day().close)
                    && ledger.iter().any(|t| t.traded >= day().close)
            );
        }
    }

    #[test]
    fn the_exchange_s_day_begins_in_london() {
        let ledger = Market::generate(1, &day(), &codes()[..1], 2_000);
        let nine = instant(DAY, time(9, 0, 0, 0));
        let at = ledger.iter().position(|t| t.traded >= nine).expect("a trade after nine");
        assert_eq!(ledger[at].so_far.volumes.0 + ledger[at].so_far.volumes.1, i128::from(ledger[at].volume));
        assert!(ledger[at - 1].so_far.value > ledger[at].so_far.value);
    }
}
