//! Volume-weighted average prices, exact for any decimals: sums of price × quantity, divided only to be
//! shown.
//!
//! Trades are folded by event id and by their own trade time, so any order and any repetition of the same
//! trades gives the same sums. Windows tumble (`[start, start + length)`); a late trade corrects its window
//! as long as the window is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::exact::Exact;
use super::recent::RecentIds;
use super::trade::Trade;

/// Sums over some trades; prices in the market's currency, quantities in shares or units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Σ price × quantity.
    pub value: Exact,
    /// Σ quantity.
    pub volume: Exact,
    /// Number of trades.
    pub trades: u64,
    /// Σ price.
    pub prices: Exact,
    /// Lowest price; 0 without trades.
    pub low: Exact,
    /// Highest price; 0 without trades.
    pub high: Exact,
}

/// Decimal places of an average, unless prices have more than two of their own.
const PLACES: u32 = 4;

impl Sums {
    /// The sums with a trade more; `None` when they would not fit.
    #[must_use]
    pub fn with(self, price: Decimal, quantity: Decimal) -> Option<Self> {
        let exact = Exact::from(price);
        let (low, high) =
            if self.trades == 0 { (exact, exact) } else { (self.low.min(exact), self.high.max(exact)) };
        Some(Self {
            value: self.value.checked_add(Exact::product(price, quantity)?)?,
            volume: self.volume.checked_add(quantity.into())?,
            trades: self.trades + 1,
            prices: self.prices.checked_add(exact)?,
            low,
            high,
        })
    }

    /// Σ price·quantity / Σ quantity, rounded half up to 4 places, or to two more than the prices have;
    /// `None` without volume.
    pub fn vwap(&self) -> Option<Decimal> {
        self.value.divide(self.volume, PLACES.max(self.prices.scale() + 2))
    }

    /// The average of the trades' prices, to be shown; `None` without trades.
    pub fn average(&self) -> Option<f64> {
        (self.trades > 0).then(|| self.prices.to_f64() / self.trades as f64)
    }

    /// The range rule: the price span is at least 5 % of the lowest price, and the highest price at least 3 %
    /// above the average of the trades' prices.
    pub fn is_anomalous(&self) -> bool {
        let scale = self.prices.scale().max(self.low.scale()).max(self.high.scale());
        let (Some(low), Some(high), Some(prices)) =
            (self.low.at(scale), self.high.at(scale), self.prices.at(scale))
        else {
            return false;
        };
        if self.trades == 0 || low <= 0 {
            return false;
        }
        let n = i128::from(self.trades);
        let least = |part: i128, of: i128, percent: i128| {
            part.checked_mul(100).zip(of.checked_mul(percent)).is_some_and(|(part, of)| part >= of)
        };
        least(high - low, low, 5) && high.checked_mul(n).is_some_and(|sum| least(sum - prices, prices, 3))
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
    /// The exchange's own totals at the trade with the highest accumulated volume, volume and value, where
    /// its feed says them.
    pub exchange: Option<(i64, i64)>,
    /// Trade time of the newest trade, seconds since 1970.
    pub newest: i64,
    /// The last trade: that of the highest accumulated volume, or else of the newest time and the highest
    /// number.
    pub last: Last,
    /// Kept windows, by start.
    pub windows: Vec<Window>,
    /// Trades that came after their window was dropped; they count in the session only.
    pub too_late: u64,
}

/// A symbol's last trade.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Last {
    /// Accumulated volume, where its feed says it.
    accumulated: Option<i64>,
    /// Trade time, nanoseconds since 1970.
    at: i64,
    /// Length of the id: of two numbers in it the longer one is higher.
    length: usize,
    /// Its event id.
    pub id: String,
}

impl Last {
    fn of(trade: &Trade, at: Timestamp) -> Self {
        let (id, at) = (trade.id.to_string(), i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX));
        Self { accumulated: trade.accumulated_volume, at, length: id.len(), id }
    }
}

/// What was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The price is not positive.
    #[error("trade {id}: price {price} is not usable")]
    Price {
        /// Event id.
        id: String,
        /// The price.
        price: Decimal,
    },
    /// The quantity is negative.
    #[error("trade {id}: quantity {quantity} is negative")]
    Quantity {
        /// Event id.
        id: String,
        /// The quantity.
        quantity: Decimal,
    },
    /// With it, a sum would need more than 128 bits.
    #[error("trade {id}: {quantity} at {price} is more than the sums can hold")]
    Size {
        /// Event id.
        id: String,
        /// The price.
        price: Decimal,
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
pub struct Averages {
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

impl Averages {
    /// A book of windows of `length`, kept for `lateness` after their symbol's newest trade, folding by the
    /// last `remember` ids. Both are whole seconds, at least one.
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

    /// Says whether the trades that follow are old ones, told again behind newer ones. While they are, every
    /// window is kept and can be corrected, however late.
    pub fn retell(&mut self, retelling: bool) {
        self.retelling = retelling;
    }

    /// Takes up what [`Averages::symbols`] gave before.
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
        if trade.price <= Decimal::ZERO {
            return Err(Refused::Price { id: id(), price: trade.price });
        }
        if trade.quantity < Decimal::ZERO {
            return Err(Refused::Quantity { id: id(), quantity: trade.quantity });
        }
        let size = || Refused::Size { id: id(), price: trade.price, quantity: trade.quantity };
        let at = trade.traded().map_err(|_| Refused::Time { id: id(), text: trade.trade_time.clone() })?;
        if self.recent.contains(trade.id.as_str()) {
            return Ok(Folded::Duplicate);
        }
        let key: Key = (trade.session_date, trade.feed.clone(), trade.symbol.clone());
        let start = at.as_second().div_euclid(self.length) * self.length;
        // A window's sums are part of the session's, or begin anew: they fit where the session's do.
        let session = self.symbols.get(&key).map_or_else(Sums::default, |s| s.session);
        let session = session.with(trade.price, trade.quantity).ok_or_else(size)?;
        let window = self.window(&key, start).map_or_else(Sums::default, |w| w.sums);
        let window = window.with(trade.price, trade.quantity).ok_or_else(size)?;
        self.recent.insert(trade.id.as_str());
        let last = Last::of(trade, at);
        let symbol = self.symbols.entry(key.clone()).or_insert_with(|| Symbol {
            date: trade.session_date,
            feed: trade.feed.clone(),
            symbol: trade.symbol.clone(),
            session: Sums::default(),
            exchange: None,
            newest: i64::MIN,
            last: last.clone(),
            windows: Vec::new(),
            too_late: 0,
        });
        symbol.session = session;
        symbol.newest = symbol.newest.max(at.as_second());
        if last > symbol.last {
            symbol.last = last;
        }
        if let Some(volume) = trade.accumulated_volume
            && symbol.exchange.is_none_or(|(highest, _)| volume > highest)
        {
            symbol.exchange = Some((volume, trade.accumulated_value.unwrap_or_default()));
        }
        self.watermark = self.watermark.max(at.as_second());
        self.changed.insert(Changed::Session(key.clone()));
        Ok(self.fold_window(&key, start, window, trade))
    }

    /// Counts a trade in its window, whose sums it makes `sums`.
    fn fold_window(&mut self, key: &Key, start: i64, sums: Sums, trade: &Trade) -> Folded {
        let Some(symbol) = self.symbols.get_mut(key) else { return Folded::TooLate };
        let oldest = symbol.newest.saturating_sub(self.lateness);
        let at = symbol.windows.binary_search_by_key(&start, |w| w.start);
        if start + self.length <= oldest && at.is_err() && !self.retelling {
            symbol.too_late += 1;
            return Folded::TooLate;
        }
        let at = at.unwrap_or_else(|at| {
            symbol.windows.insert(
                at,
                Window { start, sums: Sums::default(), ids: Vec::new(), told: false, judged: false },
            );
            at
        });
        let window = &mut symbol.windows[at];
        window.sums = sums;
        if !window.told && window.ids.len() < Window::IDS {
            window.ids.push(trade.id.to_string());
        }
        if !window.told {
            window.judged = false;
            self.unjudged.insert((start, key.clone()));
        }
        self.changed.insert(Changed::Window(key.clone(), start));
        Folded::Counted
    }

    /// What changed since [`Averages::settled`].
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

    /// Windows that the watermark has passed (all of them, when `all`) and that break the range rule: to be
    /// told once.
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

    /// The anomalies of [`Averages::anomalies`] are told: passed windows are judged, and windows beyond the
    /// lateness are dropped (those that changed since [`Averages::settled`] are kept).
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
