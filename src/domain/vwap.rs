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
    /// The quantity is negative.
    #[error("trade {id}: quantity {quantity} is negative")]
    Quantity {
        /// Event id.
        id: String,
        /// The quantity.
        quantity: i64,
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
        }
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
        if trade.quantity < 0 {
            return Err(Refused::Quantity { id: id(), quantity: trade.quantity });
        }
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
        symbol.session.add(price, trade.quantity);
        if trade.accumulated_volume > symbol.exchange.0 {
            symbol.exchange = (trade.accumulated_volume, trade.accumulated_value);
        }
        self.changed.insert(Changed::Session(key.clone()));
        let start = time.div_euclid(self.length) * self.length;
        symbol.newest = symbol.newest.max(time);
        self.watermark = self.watermark.max(time);
        let oldest = symbol.newest.saturating_sub(self.lateness);
        let at = symbol.windows.binary_search_by_key(&start, |w| w.start);
        if start + self.length <= oldest && at.is_err() {
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
        window.sums.add(price, trade.quantity);
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::trade::EventId;

    fn trade(symbol: &str, at_second: i64, price: &str, quantity: i64, accumulated: i64) -> Trade {
        let date: Date = "2026-11-20".parse().expect("a date");
        let at = "2026-11-20T09:00:00+09:00".parse::<Timestamp>().expect("a time") + SignedDuration::from_secs(at_second);
        Trade {
            id: EventId::kis("kis", date, symbol, accumulated),
            feed: "kis".into(),
            tr_id: "H0STCNT0".into(),
            symbol: symbol.into(),
            session_date: date,
            trade_time: at.to_string(),
            received_at: at.to_string(),
            price: price.parse().expect("a price"),
            quantity,
            accumulated_volume: accumulated,
            accumulated_value: accumulated * 100,
            fields: BTreeMap::new(),
        }
    }

    fn book() -> Book {
        Book::new(Duration::from_secs(30), Duration::from_secs(86_400), 100_000)
    }

    #[test]
    fn prices_are_exact_or_refused() {
        for (text, expected) in
            [("277750", Some(27_775_000)), ("0.5", Some(50)), ("10.25", Some(1_025)), ("10.250", Some(1_025)), ("0.001", None)]
        {
            assert_eq!(hundredths(text.parse().expect("a decimal")), expected, "{text}");
        }
        let mut book = book();
        for bad in ["0", "-5", "1.005"] {
            assert!(book.fold(&trade("A", 0, bad, 1, 1)).is_err(), "{bad}");
        }
        assert_eq!(book.fold(&trade("A", 0, "5", 1, 1)), Ok(Folded::Counted), "a refusal must not mark the id as seen");
    }

    #[test]
    fn windows_tumble_on_trade_time_and_late_trades_correct_them() {
        let mut book = book();
        for (second, price, quantity, acc) in [(0, "100", 1, 1), (29, "200", 3, 4), (30, "300", 1, 5), (10, "400", 4, 9)] {
            assert_eq!(book.fold(&trade("A", second, price, quantity, acc)), Ok(Folded::Counted));
        }
        let symbol = book.symbols().next().expect("a symbol");
        let sums: Vec<_> =
            symbol.windows.iter().map(|w| (w.sums.vwap().expect("volume").normalize().to_string(), w.sums.trades)).collect();
        assert_eq!(sums, [("287.5".to_owned(), 3), ("300".to_owned(), 1)]);
        assert_eq!(symbol.session.volume, 9);
        assert_eq!(symbol.exchange, (9, 900));
    }

    #[test]
    fn vwap_rounds_half_up() {
        let mut sums = Sums::default();
        sums.add(10_000, 1);
        sums.add(10_001, 2);
        assert_eq!(sums.vwap().expect("volume").to_string(), "100.0067");
        assert_eq!(Sums::default().vwap(), None);
    }

    #[test]
    fn trades_beyond_the_lateness_count_in_the_session_only() {
        let mut book = Book::new(Duration::from_secs(30), Duration::from_secs(60), 100);
        book.fold(&trade("A", 0, "100", 1, 1)).expect("counted");
        book.fold(&trade("A", 200, "100", 1, 2)).expect("counted");
        book.settled();
        book.judged(false);
        assert_eq!(book.fold(&trade("A", 1, "100", 1, 3)), Ok(Folded::TooLate));
        let symbol = book.symbols().next().expect("a symbol");
        assert_eq!((symbol.session.trades, symbol.too_late, symbol.windows.len()), (3, 1, 1));
    }

    #[test]
    fn an_anomaly_is_told_once_after_the_window_passed() {
        let mut book = book();
        for (second, price, acc) in [(0, "100", 1), (1, "100", 2), (2, "100", 3), (3, "106", 4)] {
            book.fold(&trade("A", second, price, 1, acc)).expect("counted");
        }
        assert!(book.anomalies(false).is_empty(), "the window is still open");
        book.fold(&trade("B", 40, "100", 1, 1)).expect("counted");
        let found = book.anomalies(false);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.ids.len(), 4);
        book.judged(false);
        book.fold(&trade("A", 4, "107", 1, 5)).expect("counted");
        assert!(book.anomalies(true).is_empty());
        // 4.9 % is no anomaly.
        let mut calm = Sums::default();
        [10_000, 10_000, 10_490].into_iter().for_each(|p| calm.add(p, 1));
        assert!(!calm.is_anomalous());
    }

    #[test]
    fn a_restored_book_goes_on_where_it_was() {
        let trades: Vec<_> = (1..200).map(|n| trade("A", n, &format!("{}", 100 + n % 7), n, n)).collect();
        let mut whole = book();
        trades.iter().for_each(|t| assert_eq!(whole.fold(t), Ok(Folded::Counted)));
        let mut first = book();
        trades[..100].iter().for_each(|t| assert_eq!(first.fold(t), Ok(Folded::Counted)));
        let saved = serde_json::to_vec(&first.symbols().collect::<Vec<_>>()).expect("saved");
        let mut second = book();
        second.restore(serde_json::from_slice(&saved).expect("read"));
        trades[..100].iter().for_each(|t| second.remember(t.id.as_str()));
        trades.iter().for_each(|t| assert!(second.fold(t).is_ok()));
        assert_eq!(whole.symbols().collect::<Vec<_>>(), second.symbols().collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_gives_the_same_sums(
            steps in prop::collection::vec((0..3usize, 0..600i64, 1..50i64, 1..1000i64), 1..80),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let mut accumulated = [0i64; 3];
            let trades: Vec<_> = steps.iter().map(|(s, at, quantity, price)| {
                accumulated[*s] += quantity;
                trade(["A", "B", "C"][*s], *at, &format!("{price}.5"), *quantity, accumulated[*s])
            }).collect();
            let mut plain = book();
            for t in &trades { prop_assert_eq!(plain.fold(t), Ok(Folded::Counted)); }
            let mut shuffled = book();
            for index in &order { shuffled.fold(index.get(&trades)).expect("a good trade"); }
            for t in trades.iter().rev() { shuffled.fold(t).expect("a good trade"); }
            let sums = |b: &Book| b.symbols().map(|s| (s.symbol.clone(), s.session, s.exchange,
                s.windows.iter().map(|w| (w.start, w.sums)).collect::<Vec<_>>())).collect::<Vec<_>>();
            prop_assert_eq!(sums(&plain), sums(&shuffled));
            let value: i128 = trades.iter().map(|t| i128::from(hundredths(t.price).expect("exact")) * i128::from(t.quantity)).sum();
            prop_assert_eq!(value, plain.symbols().map(|s| s.session.value).sum::<i128>());
        }
    }
}
