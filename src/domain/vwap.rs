//! Volume-weighted average prices, exact: sums of price × quantity in 1/100 KRW, divided only to be shown.
//!
//! Trades are folded by event id and by their own trade time, so any order and any repetition of the same trades gives the
//! same sums. Windows tumble (`[start, start + length)`); a late trade corrects its window as long as the window is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

use super::recent::RecentIds;
use super::trade::Trade;

/// A price in 1/100 KRW; `None` when it is finer than that or does not fit.
pub fn hundredths(price: Decimal) -> Option<i64> {
    let scaled = price.checked_mul(Decimal::ONE_HUNDRED)?;
    scaled.is_integer().then(|| scaled.to_i64()).flatten()
}

/// Sums over some trades.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Σ price × quantity, in 1/100 KRW.
    pub value: i128,
    /// Σ quantity, shares.
    pub volume: i128,
    /// Number of trades.
    pub trades: u64,
    /// Σ price, in 1/100 KRW.
    pub prices: i128,
    /// Lowest price, in 1/100 KRW; 0 without trades.
    pub low: i64,
    /// Highest price, in 1/100 KRW; 0 without trades.
    pub high: i64,
}

impl Sums {
    /// Adds a trade: price in 1/100 KRW, quantity in shares.
    pub fn add(&mut self, price: i64, quantity: i64) {
        self.value += i128::from(price) * i128::from(quantity);
        self.volume += i128::from(quantity);
        self.prices += i128::from(price);
        (self.low, self.high) = if self.trades == 0 { (price, price) } else { (self.low.min(price), self.high.max(price)) };
        self.trades += 1;
    }

    /// Σ price·quantity / Σ quantity in KRW, rounded half up to 4 places; `None` without volume.
    pub fn vwap(&self) -> Option<Decimal> {
        let value = Decimal::try_from_i128_with_scale(self.value, 2).ok()?;
        let volume = Decimal::try_from_i128_with_scale(self.volume, 0).ok()?;
        value.checked_div(volume).map(|v| v.round_dp_with_strategy(4, RoundingStrategy::MidpointAwayFromZero))
    }

    /// The range rule: the price span is at least 5 % of the lowest price, and the highest price at least 3 % above the
    /// average of the trades' prices.
    pub fn is_anomalous(&self) -> bool {
        if self.trades == 0 || self.low <= 0 {
            return false;
        }
        let (low, high, n) = (i128::from(self.low), i128::from(self.high), i128::from(self.trades));
        (high - low) * 100 >= 5 * low && (high * n - self.prices) * 100 >= 3 * self.prices
    }
}

/// A window of one symbol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Start, seconds since 1970.
    pub start: i64,
    /// Its sums.
    pub sums: Sums,
    /// Ids of its trades, at most [`Window::IDS`], until the window is judged.
    pub ids: Vec<String>,
    /// An anomaly of it was told.
    pub told: bool,
    /// The watermark has passed it, and it was judged.
    pub judged: bool,
}

impl Window {
    /// Ids kept of a window.
    pub const IDS: usize = 500;

    /// Start as an instant.
    pub fn start_at(&self) -> Timestamp {
        Timestamp::from_second(self.start).unwrap_or_default()
    }
}

/// One symbol's day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbol {
    /// Exchange's business date.
    pub date: Date,
    /// Feed prefix.
    pub feed: String,
    /// Instrument.
    pub symbol: String,
    /// Sums of the session.
    pub session: Sums,
    /// The exchange's own totals at the trade with the highest accumulated volume: (volume in shares, value in KRW).
    pub exchange: (i64, i64),
    /// Trade time of the newest trade, seconds since 1970.
    pub newest: i64,
    /// Kept windows, by start.
    pub windows: Vec<Window>,
    /// Trades that came after their window was dropped; they count in the session only.
    pub too_late: u64,
}

/// What was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The price is not positive, or finer than 1/100 KRW.
    #[error("trade {id}: price {price} is not usable")]
    Price {
        /// Event id.
        id: String,
        /// The price.
        price: Decimal,
    },
    /// The quantity is negative, or not whole.
    #[error("trade {id}: quantity {quantity} is not usable")]
    Quantity {
        /// Event id.
        id: String,
        /// The quantity.
        quantity: Decimal,
    },
    /// The trade time is not a time.
    #[error("trade {id}: trade time \"{text}\" is not RFC 3339")]
    Time {
        /// Event id.
        id: String,
        /// The text.
        text: String,
    },
}

/// What a trade did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folded {
    /// Counted in its window and in the session.
    Counted,
    /// Counted in the session; its window is gone.
    TooLate,
    /// Counted before.
    Duplicate,
}

/// Which symbol of which day: date, feed, symbol.
pub type Key = (Date, String, String);

/// Something that changed since it was last taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Changed {
    /// A symbol's session.
    Session(Key),
    /// The window with this start.
    Window(Key, i64),
}

/// The symbols of a partition: their sessions and windows.
#[derive(Debug, Clone)]
pub struct Book {
    length: i64,
    lateness: i64,
    symbols: BTreeMap<Key, Symbol>,
    recent: RecentIds,
    changed: BTreeSet<Changed>,
    /// Newest trade time, seconds since 1970.
    watermark: i64,
    unjudged: BTreeSet<(i64, Key)>,
    /// Old trades are being told again: no window is too old.
    retelling: bool,
}

/// Windows are judged this long after their end, so that trades of the same second are in.
const SLACK_SECONDS: i64 = 2;

impl Book {
    /// A book of windows of `length`, kept for `lateness` after their symbol's newest trade, folding by the last `remember`
    /// ids. Both are whole seconds, at least one.
    pub fn new(length: Duration, lateness: Duration, remember: usize) -> Self {
        let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX / 4).max(1);
        Self {
            length: seconds(length),
            lateness: seconds(lateness),
            symbols: BTreeMap::new(),
            recent: RecentIds::new(remember),
            changed: BTreeSet::new(),
            watermark: i64::MIN,
            unjudged: BTreeSet::new(),
            retelling: false,
        }
    }

    /// Says whether the trades that follow are old ones, told again behind newer ones. While they are, every window is kept and can be
    /// corrected, however late.
    pub fn retell(&mut self, retelling: bool) {
        self.retelling = retelling;
    }

    /// Takes up what [`Book::symbols`] gave before.
    pub fn restore(&mut self, symbols: Vec<Symbol>) {
        for symbol in symbols {
            let key = (symbol.date, symbol.feed.clone(), symbol.symbol.clone());
            self.watermark = self.watermark.max(symbol.newest);
            self.unjudged.extend(symbol.windows.iter().filter(|w| !w.judged).map(|w| (w.start, key.clone())));
            self.symbols.insert(key, symbol);
        }
    }

    /// Remembers an id that was counted before.
    pub fn remember(&mut self, id: &str) {
        self.recent.insert(id);
    }

    /// Length of a window.
    pub fn length(&self) -> SignedDuration {
        SignedDuration::from_secs(self.length)
    }

    /// Counts a trade.
    ///
    /// # Errors
    /// When it has no usable price, quantity or time; nothing changed then.
    pub fn fold(&mut self, trade: &Trade) -> Result<Folded, Refused> {
        let id = || trade.id.to_string();
        let price = hundredths(trade.price).filter(|p| *p > 0).ok_or_else(|| Refused::Price { id: id(), price: trade.price })?;
        let whole = trade.quantity.is_integer().then(|| trade.quantity.to_i64()).flatten();
        let quantity =
            whole.filter(|q| *q >= 0).ok_or_else(|| Refused::Quantity { id: id(), quantity: trade.quantity })?;
        let time = trade.traded().map_err(|_| Refused::Time { id: id(), text: trade.trade_time.clone() })?.as_second();
        if !self.recent.insert(trade.id.as_str()) {
            return Ok(Folded::Duplicate);
        }
        let key: Key = (trade.session_date, trade.feed.clone(), trade.symbol.clone());
        let symbol = self.symbols.entry(key.clone()).or_insert_with(|| Symbol {
            date: trade.session_date,
            feed: trade.feed.clone(),
            symbol: trade.symbol.clone(),
            session: Sums::default(),
            exchange: (-1, 0),
            newest: i64::MIN,
            windows: Vec::new(),
            too_late: 0,
        });
        symbol.session.add(price, quantity);
        if let Some(volume) = trade.accumulated_volume
            && volume > symbol.exchange.0
        {
            symbol.exchange = (volume, trade.accumulated_value.unwrap_or_default());
        }
        self.changed.insert(Changed::Session(key.clone()));
        let start = time.div_euclid(self.length) * self.length;
        symbol.newest = symbol.newest.max(time);
        self.watermark = self.watermark.max(time);
        let oldest = symbol.newest.saturating_sub(self.lateness);
        let at = symbol.windows.binary_search_by_key(&start, |w| w.start);
        if start + self.length <= oldest && at.is_err() && !self.retelling {
            symbol.too_late += 1;
            return Ok(Folded::TooLate);
        }
        let at = match at {
            Ok(at) => at,
            Err(at) => {
                symbol.windows.insert(at, Window { start, sums: Sums::default(), ids: Vec::new(), told: false, judged: false });
                at
            }
        };
        let window = &mut symbol.windows[at];
        window.sums.add(price, quantity);
        if !window.told && window.ids.len() < Window::IDS {
            window.ids.push(trade.id.to_string());
        }
        if !window.told {
            window.judged = false;
            self.unjudged.insert((start, key.clone()));
        }
        self.changed.insert(Changed::Window(key, start));
        Ok(Folded::Counted)
    }

    /// What changed since [`Book::settled`].
    pub fn changed(&self) -> impl Iterator<Item = &Changed> {
        self.changed.iter()
    }

    /// Everything changed so far is stored.
    pub fn settled(&mut self) {
        self.changed.clear();
    }

    /// A symbol's day.
    pub fn symbol(&self, key: &Key) -> Option<&Symbol> {
        self.symbols.get(key)
    }

    /// A window of a symbol.
    pub fn window(&self, key: &Key, start: i64) -> Option<&Window> {
        let windows = &self.symbols.get(key)?.windows;
        windows.binary_search_by_key(&start, |w| w.start).ok().map(|at| &windows[at])
    }

    /// All symbols, for a checkpoint.
    pub fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.values()
    }

    /// Windows that the watermark has passed (all of them, when `all`) and that break the range rule: to be told once.
    pub fn anomalies(&self, all: bool) -> Vec<(Key, Window)> {
        self.passed(all)
            .filter_map(|(start, key)| self.window(key, *start).map(|w| (key.clone(), w.clone())))
            .filter(|(_, w)| w.sums.is_anomalous())
            .collect()
    }

    fn passed(&self, all: bool) -> impl Iterator<Item = &(i64, Key)> {
        let (watermark, length) = (self.watermark, self.length);
        self.unjudged.iter().take_while(move |(start, _)| all || start + length + SLACK_SECONDS <= watermark)
    }

    /// The anomalies of [`Book::anomalies`] are told: passed windows are judged, and windows beyond the lateness are dropped
    /// (those that changed since [`Book::settled`] are kept).
    pub fn judged(&mut self, all: bool) {
        let passed: Vec<_> = self.passed(all).cloned().collect();
        for (start, key) in passed {
            if let Some(symbol) = self.symbols.get_mut(&key)
                && let Ok(at) = symbol.windows.binary_search_by_key(&start, |w| w.start)
            {
                let window = &mut symbol.windows[at];
                window.judged = true;
                window.told |= window.sums.is_anomalous();
                if window.told {
                    window.ids = Vec::new();
                }
            }
            self.unjudged.remove(&(start, key));
        }
        if self.retelling {
            return;
        }
        let Self { symbols, changed, unjudged, length, lateness, .. } = self;
        for (key, symbol) in symbols.iter_mut() {
            let oldest = symbol.newest.saturating_sub(*lateness);
            if symbol.windows.first().is_some_and(|w| w.start + *length <= oldest) {
                symbol.windows.retain(|w| {
                    w.start + *length > oldest
                        || changed.contains(&Changed::Window(key.clone(), w.start))
                        || unjudged.contains(&(w.start, key.clone()))
                });
            }
        }
    }

    /// Forgets sessions before `date`.
    pub fn forget_before(&mut self, date: Date) {
        self.symbols.retain(|key, _| key.0 >= date);
        self.unjudged.retain(|(_, key)| key.0 >= date);
        self.changed.retain(|c| match c {
            Changed::Session(key) | Changed::Window(key, _) => key.0 >= date,
        });
    }
}

#[cfg(test)]
mod tests;
