//! Makes the ledger of a day from a seed: the same seed, session, symbols and size give the same trades.
//!
//! A symbol's day is a list of moments (auction prints, bursts of continuous trading, prints at the closing
//! price), walked in order by a price on KRX's grid. One moment is one frame on the wire.

use std::collections::BTreeSet;
use std::sync::Arc;

use fastrand::Rng;
use jiff::civil::{Date, time};
use jiff::{SignedDuration, Timestamp};

use super::grid;
use super::ledger::{DaySoFar, Instrument, LedgerTrade, Phase, Side};
use super::profile::Profile;
use crate::korea::instant;
use domain::calendar::TradingSession;
use domain::retry::{hash, mix};

/// Makes days.
pub struct Market;

/// Trades of a day when nobody asks for another number.
pub const TARGET_TRADES: usize = 24_000;

/// Continuous trading ends this long before the close, for the closing auction.
const CLOSING_AUCTION: SignedDuration = SignedDuration::from_mins(10);
/// Prints at the closing price: from, to, and from when a symbol's last one may come; after the close.
const POST_CLOSE: (SignedDuration, SignedDuration, SignedDuration) =
    (SignedDuration::from_mins(10), SignedDuration::from_mins(28), SignedDuration::from_mins(20));
/// The after-market since 2026-09-14: from and to, after the close.
const AFTER_MARKET: (SignedDuration, SignedDuration) =
    (SignedDuration::from_mins(30), SignedDuration::from_mins(270));
/// A volatility interruption lasts two minutes and a random end.
const INTERRUPTION: SignedDuration = SignedDuration::from_mins(2);

/// The regular session of a date: 09:00 to 15:30 in Korea.
pub fn regular_session(date: Date) -> TradingSession {
    TradingSession { date, open: instant(date, time(9, 0, 0, 0)), close: instant(date, time(15, 30, 0, 0)) }
}

impl Market {
    /// The whole day's trades in the order in which the exchange sends them, about `target_trades` of them.
    /// The first symbols trade most; symbols named twice count once.
    pub fn generate(
        seed: u64,
        session: &TradingSession,
        symbols: &[String],
        target_trades: usize,
    ) -> Vec<LedgerTrade> {
        Self::make(seed, session, symbols, target_trades, false)
    }

    /// The same day, and after it the after-market: from half an hour to four and a half hours after the
    /// close, continuous, with a tenth of the day's trades.
    pub fn generate_with_after_market(
        seed: u64,
        session: &TradingSession,
        symbols: &[String],
        target_trades: usize,
    ) -> Vec<LedgerTrade> {
        Self::make(seed, session, symbols, target_trades, true)
    }

    fn make(
        seed: u64,
        session: &TradingSession,
        symbols: &[String],
        target_trades: usize,
        after_market: bool,
    ) -> Vec<LedgerTrade> {
        let mut seen = BTreeSet::new();
        let symbols: Vec<&String> = symbols.iter().filter(|s| seen.insert(s.as_str())).collect();
        let mut rng = Rng::with_seed(mix(seed ^ hash(&session.date.to_string())));
        let length = session.close.duration_since(session.open) - CLOSING_AUCTION;
        let profile = Profile::new(length.as_secs());
        // An opening and a closing print and about five after the close are there whatever the size.
        let continuous = target_trades.saturating_sub(symbols.len() * 7);
        let weights: Vec<usize> = (0..symbols.len()).map(|rank| 100_000 / (10 + rank * 3 / 2)).collect();
        let sum: usize = weights.iter().sum();
        // The interruption hits a busy symbol, where its trades are missed.
        let interrupted =
            (length > SignedDuration::from_hours(3)).then(|| rng.usize(0..symbols.len().clamp(1, 10)));
        let mut ledger = Vec::with_capacity(target_trades + symbols.len() * 8);
        for (rank, symbol) in symbols.iter().enumerate() {
            let trades = (continuous * weights[rank]).div_ceil(sum).max(1);
            let rng = Rng::with_seed(mix(rng.u64(..) ^ hash(symbol)));
            let mut day = SymbolDay::new(rng, session, symbol, &profile);
            day.run(trades, interrupted == Some(rank), &mut ledger);
            if after_market {
                day.run_after_market(trades / 10, &mut ledger);
            }
        }
        // Stable: a moment's trades share their instant and stay together.
        ledger.sort_by_key(|trade| trade.at);
        number_frames(&mut ledger);
        ledger
    }
}

/// Gives each moment of a symbol its place in the ledger as the number of its frame.
fn number_frames(ledger: &mut [LedgerTrade]) {
    let mut last: Option<(Arc<str>, u32)> = None;
    let mut number = 0;
    for trade in ledger {
        let moment = (trade.symbol.clone(), trade.frame);
        if last.as_ref().is_some_and(|last| *last != moment) {
            number += 1;
        }
        last = Some(moment);
        trade.frame = number;
    }
}

/// What happens at a moment of a symbol's day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// So many trades of one aggressor.
    Burst(u32),
    /// One trade on the way of a price that runs away, this many thousandths above the reference.
    RunUp(i64),
    /// A single-price print.
    Print(Phase),
}

struct SymbolDay<'a> {
    rng: Rng,
    session: &'a TradingSession,
    profile: &'a Profile,
    instrument: Arc<Instrument>,
    bid: i64,
    price: i64,
    volume: i64,
    value: i64,
    open: (i64, Timestamp),
    high: (i64, Timestamp),
    low: (i64, Timestamp),
    counts: (i64, i64),
    volumes: (i64, i64),
    reference: i64,
    frame: u32,
}

impl<'a> SymbolDay<'a> {
    fn new(mut rng: Rng, session: &'a TradingSession, symbol: &str, profile: &'a Profile) -> Self {
        // Prices from about 2,000 to 700,000 KRW, as many in each octave.
        let octave = rng.u32(0..8);
        let previous_close = grid::floor((2_100_i64 << octave) * rng.i64(100..240) / 100);
        let listed = rng.i64(20..600) * 1_000_000;
        let instrument = Instrument {
            symbol: symbol.into(),
            date: session.date,
            previous_close,
            limits: grid::limits(previous_close),
            listed,
            previous_volume: listed / rng.i64(150..900),
        };
        let nothing = (previous_close, session.open);
        Self {
            rng,
            session,
            profile,
            instrument: instrument.into(),
            bid: previous_close,
            price: previous_close,
            volume: 0,
            value: 0,
            open: nothing,
            high: nothing,
            low: nothing,
            counts: (0, 0),
            volumes: (0, 0),
            reference: previous_close,
            frame: 0,
        }
    }

    fn run(&mut self, trades: usize, interrupted: bool, ledger: &mut Vec<LedgerTrade>) {
        for (at, moment) in self.moments(trades, interrupted) {
            match moment {
                Moment::Burst(count) => self.burst(at, count, Phase::Continuous, ledger),
                Moment::RunUp(thousandths) => self.run_up(at, thousandths, ledger),
                Moment::Print(phase) => self.print(at, phase, ledger),
            }
            self.frame += 1;
        }
    }

    /// The evening goes on where the day ended, so that the day is the same with it and without it.
    fn run_after_market(&mut self, trades: usize, ledger: &mut Vec<LedgerTrade>) {
        let (from, to) = AFTER_MARKET;
        let span = (to - from).as_millis() as i64;
        let mut times: Vec<i64> = (0..trades).map(|_| self.rng.i64(0..span)).collect();
        times.sort_unstable();
        for millis in times {
            let at = self.session.close + from + SignedDuration::from_millis(millis);
            self.burst(at, 1, Phase::AfterMarket, ledger);
            self.frame += 1;
        }
    }

    /// When what happens, in order.
    fn moments(&mut self, trades: usize, interrupted: bool) -> Vec<(Timestamp, Moment)> {
        let session = self.session;
        let rng = &mut self.rng;
        let millis = SignedDuration::from_millis;
        let opening = session.open + millis(rng.i64(2_000..29_000));
        let mut moments = vec![(opening, Moment::Print(Phase::Opening))];

        let halt = interrupted.then(|| {
            let from = session.open + SignedDuration::from_mins(105) + millis(rng.i64(0..30 * 60_000));
            (from, from + INTERRUPTION + millis(rng.i64(1_000..29_000)))
        });
        if let Some((from, to)) = halt {
            for step in 0..10 {
                let before = millis((9 - step) * 4_000 + rng.i64(0..3_000));
                moments.push((from - before, Moment::RunUp(10 + step * 10)));
            }
            moments.push((to, Moment::Print(Phase::Interruption)));
        }

        let mut left = u32::try_from(trades).unwrap_or(u32::MAX);
        while left > 0 {
            let offset = self.profile.draw(rng);
            let mut at = session.open + millis(offset);
            if at <= opening + millis(500) {
                at = opening + millis(500 + rng.i64(0..30_000));
            }
            // Nobody trades while the price is being found anew, and the run-up is one path.
            if halt.is_some_and(|(from, to)| at >= from - SignedDuration::from_secs(45) && at <= to) {
                continue;
            }
            let count = if offset < 5 * 60_000 {
                rng.u32(1..=6)
            } else {
                match rng.u32(0..100) {
                    ..72 => 1,
                    72..88 => 2,
                    88..95 => 3,
                    _ => rng.u32(4..=6),
                }
            };
            let count = count.min(left);
            left -= count;
            moments.push((at, Moment::Burst(count)));
        }

        moments.push((session.close + millis(rng.i64(0..30_000)), Moment::Print(Phase::Closing)));
        let (from, to, last_from) = POST_CLOSE;
        for _ in 0..rng.u32(3..=5) {
            let at = session.close + from + millis(rng.i64(0..(last_from - from).as_millis() as i64));
            moments.push((at, Moment::Print(Phase::PostClose)));
        }
        let last = session.close + last_from + millis(rng.i64(0..(to - last_from).as_millis() as i64));
        moments.push((last, Moment::Print(Phase::PostClose)));
        moments.sort_by_key(|(at, _)| *at);
        moments
    }

    /// A quantity worth about 0.5 to 32 million KRW, many small and few large.
    fn quantity(&mut self) -> i64 {
        let value = (500_000_i64 << self.rng.u32(0..6)) * self.rng.i64(50..150) / 100;
        (value / self.price).max(1)
    }

    fn burst(&mut self, at: Timestamp, count: u32, phase: Phase, ledger: &mut Vec<LedgerTrade>) {
        let side = if self.rng.bool() { Side::Buy } else { Side::Sell };
        for _ in 0..count {
            if self.rng.u32(0..4) == 0 {
                self.bid = if side == Side::Buy { grid::up(self.bid) } else { grid::down(self.bid) };
            }
            let (bid, ask) = self.clamp();
            let midpoint = (bid + ask) % 2 == 0 && self.rng.u32(0..40) == 0;
            self.price = match side {
                _ if midpoint => (bid + ask) / 2,
                Side::Buy => ask,
                _ => bid,
            };
            let quantity = self.quantity();
            self.record(at, quantity, side, phase, ledger);
        }
    }

    fn run_up(&mut self, at: Timestamp, thousandths: i64, ledger: &mut Vec<LedgerTrade>) {
        let target = self.reference * (1000 + thousandths) / 1000;
        self.bid = self.bid.max(grid::ceil(target));
        self.price = self.clamp().1;
        let quantity = self.quantity() * 3;
        self.record(at, quantity, Side::Buy, Phase::Continuous, ledger);
    }

    fn print(&mut self, at: Timestamp, phase: Phase, ledger: &mut Vec<LedgerTrade>) {
        if phase != Phase::PostClose {
            for _ in 0..self.rng.u32(0..8) {
                self.bid = if self.rng.bool() { grid::up(self.bid) } else { grid::down(self.bid) };
            }
            self.price = self.clamp().0;
        }
        let larger = if phase == Phase::PostClose { 2 } else { self.rng.i64(40..160) };
        let quantity = self.quantity() * larger;
        if phase == Phase::Opening {
            (self.open, self.high, self.low) = ((self.price, at), (self.price, at), (self.price, at));
        }
        if matches!(phase, Phase::Opening | Phase::Interruption) {
            self.reference = self.price;
        }
        self.record(at, quantity, Side::Auction, phase, ledger);
    }

    /// Keeps the quotes inside the day's limits.
    fn clamp(&mut self) -> (i64, i64) {
        let (highest, lowest) = self.instrument.limits;
        self.bid = self.bid.clamp(lowest, grid::down(highest));
        (self.bid, grid::up(self.bid))
    }

    fn record(
        &mut self,
        at: Timestamp,
        quantity: i64,
        side: Side,
        phase: Phase,
        ledger: &mut Vec<LedgerTrade>,
    ) {
        self.volume += quantity;
        self.value += self.price * quantity;
        match side {
            Side::Buy => {
                self.counts.1 += 1;
                self.volumes.1 += quantity;
            }
            Side::Sell => {
                self.counts.0 += 1;
                self.volumes.0 += quantity;
            }
            Side::Auction => {}
        }
        if self.price > self.high.0 {
            self.high = (self.price, at);
        }
        if self.price < self.low.0 {
            self.low = (self.price, at);
        }
        let elapsed = at.duration_since(self.session.open).as_secs();
        let usual = self.profile.thousandths(elapsed, at >= self.session.close);
        let best_quantity = (self.quantity() * 4, self.quantity() * 4);
        let total_quantity = (best_quantity.0 * self.rng.i64(6..14), best_quantity.1 * self.rng.i64(6..14));
        ledger.push(LedgerTrade {
            at,
            symbol: self.instrument.symbol.clone(),
            price: self.price,
            quantity,
            accumulated_volume: self.volume,
            accumulated_value: self.value,
            side,
            phase,
            frame: self.frame,
            so_far: DaySoFar {
                open: self.open,
                high: self.high,
                low: self.low,
                counts: self.counts,
                volumes: self.volumes,
                best: (grid::up(self.bid), self.bid),
                best_quantity,
                total_quantity,
                previous_same_time: (self.instrument.previous_volume * usual / 1000).max(1),
                reference: self.reference,
            },
            instrument: self.instrument.clone(),
        });
    }
}

#[cfg(test)]
mod tests;
