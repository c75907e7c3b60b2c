//! Gaps: what the exchange traded that was never received; found where each trade says the day's volume so
//! far.
//!
//! Each such trade carries the day's accumulated volume up to and including itself, so it covers the shares
//! `accumulated - quantity .. accumulated` of its symbol's day. Shares below the highest accumulated volume
//! that no trade covers are a gap. This holds whatever the order of receipt: a late trade covers its shares
//! and the gap shrinks, splits or goes away.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::trade::quantity;

/// Shares or units of a symbol that were traded and not received.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// Instrument.
    pub symbol: String,
    /// Since when (RFC 3339): trade time of the last good trade before; `None` from the start of the session.
    pub from: Option<String>,
    /// Until when: trade time of the first good trade after.
    pub to: String,
    /// How many.
    #[serde(rename = "shares", with = "quantity")]
    pub quantity: Decimal,
}

/// One received trade, as far as gaps care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill<'a> {
    /// Instrument.
    pub symbol: &'a str,
    /// Trade time, RFC 3339.
    pub traded_at: &'a str,
    /// Shares of this trade.
    pub quantity: i64,
    /// Shares of the day up to and including this trade.
    pub accumulated: i64,
}

/// What a trade meant to the gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FillOutcome {
    /// It follows the one before.
    Next,
    /// Shares before it are missing.
    Opened {
        /// How many.
        shares: i64,
    },
    /// It came late and covers shares that were missing.
    Filled {
        /// How many.
        shares: i64,
    },
    /// Its shares were covered before.
    Duplicate,
    /// Its volumes cannot be right; nothing changes, except that an overlap moves the day's volume on.
    Anomaly(Anomaly),
}

/// Why volumes cannot be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anomaly {
    /// No shares, or a negative number of them.
    Quantity,
    /// Negative accumulated volume.
    Accumulated,
    /// More shares in this trade than in the day.
    MoreThanTheDay,
    /// Some of its shares, not all, were covered before.
    Overlap,
}

/// The gaps of one feed on one session date.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeGaps {
    symbols: BTreeMap<String, Chain>,
    /// Sum of all gaps; wide, because each symbol's can be as large as 64 bits hold.
    missing: i128,
}

/// One symbol's day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Chain {
    /// Highest accumulated volume seen.
    end: i64,
    /// Trade time of the trade that brought it.
    last: Option<String>,
    /// Missing shares `start..end` by `end`; none touch each other.
    open: BTreeMap<i64, MissingRange>,
    /// Gaps that left the window in which late trades are looked for.
    sealed: Vec<MissingRange>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct MissingRange {
    start: i64,
    end: i64,
    from: Option<String>,
    to: String,
}

impl VolumeGaps {
    /// Gaps of a symbol that late trades can still close; older ones are final. Bounds the work for a trade,
    /// not the list.
    pub const WINDOW: usize = 4096;

    /// None yet: every symbol's day starts at 0, so shares before the first received trade are a gap.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the day of a symbol as covered up to a trade: for counting from the middle of a day. Has no
    /// effect once the symbol was seen.
    pub fn start_after(&mut self, fill: Fill<'_>) {
        if fill.accumulated >= 0 && !self.symbols.contains_key(fill.symbol) {
            let chain =
                Chain { end: fill.accumulated, last: Some(fill.traded_at.to_owned()), ..Chain::default() };
            self.symbols.insert(fill.symbol.to_owned(), chain);
        }
    }

    /// Takes in a received trade.
    pub fn see(&mut self, fill: Fill<'_>) -> FillOutcome {
        if fill.accumulated < 0 {
            return FillOutcome::Anomaly(Anomaly::Accumulated);
        }
        if fill.quantity <= 0 {
            return FillOutcome::Anomaly(Anomaly::Quantity);
        }
        if fill.quantity > fill.accumulated {
            return FillOutcome::Anomaly(Anomaly::MoreThanTheDay);
        }
        if !self.symbols.contains_key(fill.symbol) {
            self.symbols.insert(fill.symbol.to_owned(), Chain::default());
        }
        let chain = self.symbols.get_mut(fill.symbol).expect("just inserted");
        let (seen, change) = chain.see(fill.accumulated - fill.quantity, fill.accumulated, fill.traded_at);
        self.missing += i128::from(change);
        seen
    }

    /// All gaps: by symbol, in the order of the day.
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (symbol, chain) in &self.symbols {
            let mut holes: Vec<&MissingRange> = chain.sealed.iter().chain(chain.open.values()).collect();
            holes.sort_by_key(|h| h.start);
            gaps.extend(holes.into_iter().map(|hole| Gap {
                symbol: symbol.clone(),
                from: hole.from.clone(),
                to: hole.to.clone(),
                quantity: (hole.end - hole.start).into(),
            }));
        }
        gaps
    }

    /// Missing shares of all symbols; at most `i64::MAX`.
    pub fn missing_shares(&self) -> i64 {
        i64::try_from(self.missing).unwrap_or(i64::MAX)
    }

    /// Number of gaps.
    pub fn count(&self) -> usize {
        self.symbols.values().map(|c| c.sealed.len() + c.open.len()).sum()
    }
}

impl Chain {
    /// Takes in a trade; says what it meant and by how much the missing shares changed.
    fn see(&mut self, start: i64, end: i64, at: &str) -> (FillOutcome, i64) {
        if start >= self.end {
            let shares = start - self.end;
            if shares > 0 {
                let hole =
                    MissingRange { start: self.end, end: start, from: self.last.take(), to: at.to_owned() };
                self.open.insert(hole.end, hole);
                if self.open.len() > VolumeGaps::WINDOW
                    && let Some((_, oldest)) = self.open.pop_first()
                {
                    self.sealed.push(oldest);
                }
            }
            self.end = end;
            self.last = Some(at.to_owned());
            return (if shares > 0 { FillOutcome::Opened { shares } } else { FillOutcome::Next }, shares);
        }
        let filled = self.fill(start, end, at);
        if end > self.end {
            self.end = end;
            self.last = Some(at.to_owned());
            return (FillOutcome::Anomaly(Anomaly::Overlap), -filled);
        }
        let seen = match filled {
            0 => FillOutcome::Duplicate,
            shares if shares == end - start => FillOutcome::Filled { shares },
            _ => FillOutcome::Anomaly(Anomaly::Overlap),
        };
        (seen, -filled)
    }

    /// Covers `start..end` in the open holes; returns how many shares were missing there.
    fn fill(&mut self, start: i64, end: i64, at: &str) -> i64 {
        let touched: Vec<i64> =
            self.open.range(start + 1..).take_while(|(_, h)| h.start < end).map(|(key, _)| *key).collect();
        let mut filled = 0;
        for key in touched {
            let Some(hole) = self.open.remove(&key) else { continue };
            filled += hole.end.min(end) - hole.start.max(start);
            if hole.start < start {
                let left = MissingRange {
                    start: hole.start,
                    end: start,
                    from: hole.from.clone(),
                    to: at.to_owned(),
                };
                self.open.insert(left.end, left);
            }
            if hole.end > end {
                let right =
                    MissingRange { start: end, end: hole.end, from: Some(at.to_owned()), to: hole.to };
                self.open.insert(right.end, right);
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill<'a>(symbol: &'a str, traded_at: &'a str, quantity: i64, accumulated: i64) -> Fill<'a> {
        Fill { symbol, traded_at, quantity, accumulated }
    }

    #[test]
    fn shares_before_the_first_trade_and_between_trades_are_gaps() {
        let mut volumes = VolumeGaps::new();
        assert_eq!(volumes.see(fill("A", "t1", 5, 15)), FillOutcome::Opened { shares: 10 });
        assert_eq!(volumes.see(fill("A", "t2", 5, 20)), FillOutcome::Next);
        assert_eq!(volumes.see(fill("A", "t3", 1, 28)), FillOutcome::Opened { shares: 7 });
        assert_eq!(volumes.see(fill("B", "t3", 3, 3)), FillOutcome::Next);
        let gap = |from: Option<&str>, to: &str, shares| Gap {
            symbol: "A".into(),
            from: from.map(Into::into),
            to: to.into(),
            quantity: shares,
        };
        assert_eq!(volumes.gaps(), [gap(None, "t1", 10.into()), gap(Some("t2"), "t3", 7.into())]);
        assert_eq!((volumes.missing_shares(), volumes.count()), (17, 2));
    }

    #[test]
    fn late_trades_shrink_split_and_close_the_gap_they_belong_to() {
        let mut volumes = VolumeGaps::new();
        volumes.see(fill("A", "t1", 10, 10));
        volumes.see(fill("A", "t9", 5, 45));
        assert_eq!(volumes.see(fill("A", "t5", 10, 30)), FillOutcome::Filled { shares: 10 });
        let parts: Vec<_> = volumes.gaps().into_iter().map(|g| (g.from, g.to, g.quantity)).collect();
        let ten = Decimal::TEN;
        assert_eq!(parts, [(Some("t1".into()), "t5".into(), ten), (Some("t5".into()), "t9".into(), ten)]);
        assert_eq!(volumes.see(fill("A", "t5", 10, 30)), FillOutcome::Duplicate);
        volumes.see(fill("A", "t3", 10, 20));
        volumes.see(fill("A", "t7", 10, 40));
        assert_eq!(volumes.gaps(), []);
    }

    #[test]
    fn impossible_volumes_are_anomalies() {
        let mut volumes = VolumeGaps::new();
        volumes.see(fill("A", "t1", 10, 10));
        for (quantity, accumulated, anomaly) in [
            (-1, 9, Anomaly::Quantity),
            (0, 10, Anomaly::Quantity),
            (i64::MIN, i64::MAX, Anomaly::Quantity),
            (1, -1, Anomaly::Accumulated),
            (1, i64::MIN, Anomaly::Accumulated),
            (i64::MAX, 20, Anomaly::MoreThanTheDay),
            (5, 12, Anomaly::Overlap),
        ] {
            assert_eq!(
                volumes.see(fill("A", "t2", quantity, accumulated)),
                FillOutcome::Anomaly(anomaly),
                "{quantity} {accumulated}"
            );
        }
        assert_eq!(volumes.see(fill("A", "t3", 1, 13)), FillOutcome::Next);
        assert_eq!(volumes.see(fill("A", "t4", 1, i64::MAX)), FillOutcome::Opened { shares: i64::MAX - 14 });
        assert_eq!(volumes.missing_shares(), i64::MAX - 14);
    }

    #[test]
    fn counting_can_start_in_the_middle_of_a_day() {
        let mut volumes = VolumeGaps::new();
        volumes.start_after(fill("A", "t1", 1, 100));
        volumes.start_after(fill("A", "t2", 1, 500));
        assert_eq!(volumes.see(fill("A", "t3", 7, 107)), FillOutcome::Next);
        assert_eq!(volumes.see(fill("A", "t0", 1, 50)), FillOutcome::Duplicate);
    }

    proptest! {
        #[test]
        fn gaps_explain_every_dropped_share(
            trades in proptest::collection::vec((0usize..3, 1i64..1000, any::<bool>()), 1..200),
        ) {
            let names = ["A", "B", "C"];
            let mut accumulated = [0i64; 3];
            let mut dropped = [0i64; 3];
            // Shares dropped since the last received trade: nobody can know of them before another trade
            // comes.
            let mut unknown = [0i64; 3];
            let mut volumes = VolumeGaps::new();
            for (n, (symbol, quantity, received)) in trades.iter().enumerate() {
                accumulated[*symbol] += quantity;
                if *received {
                    dropped[*symbol] += unknown[*symbol];
                    unknown[*symbol] = 0;
                    volumes.see(fill(names[*symbol], &n.to_string(), *quantity, accumulated[*symbol]));
                } else {
                    unknown[*symbol] += quantity;
                }
            }
            for (at, name) in names.iter().enumerate() {
                let sum: Decimal = volumes.gaps().iter().filter(|g| g.symbol == *name).map(|g| g.quantity).sum();
                prop_assert_eq!(sum, Decimal::from(dropped[at]));
            }
            prop_assert_eq!(volumes.missing_shares(), dropped.iter().sum::<i64>());
        }

        #[test]
        fn order_and_repeats_do_not_matter(
            quantities in proptest::collection::vec(1i64..100, 1..60),
            keys in proptest::collection::vec(any::<u32>(), 60),
            keep in proptest::collection::vec(any::<bool>(), 60),
        ) {
            let mut total = 0;
            let mut trades: Vec<(u32, i64, i64)> = Vec::new();
            for (n, quantity) in quantities.iter().enumerate() {
                total += quantity;
                if keep[n] {
                    trades.push((keys[n], *quantity, total));
                }
            }
            let highest = trades.iter().map(|t| t.2).max().unwrap_or(0);
            let received: i64 = trades.iter().map(|t| t.1).sum();
            trades.sort_unstable();
            let mut volumes = VolumeGaps::new();
            for (_, quantity, accumulated) in trades.iter().chain(&trades) {
                volumes.see(fill("A", "t", *quantity, *accumulated));
            }
            prop_assert_eq!(volumes.missing_shares(), highest - received);
        }

        #[test]
        fn any_numbers_never_panic(fills in proptest::collection::vec((any::<i64>(), any::<i64>()), 0..50)) {
            let mut volumes = VolumeGaps::new();
            for (quantity, accumulated) in fills {
                volumes.see(fill("A", "t", quantity, accumulated));
                volumes.start_after(fill("B", "t", quantity, accumulated));
            }
            let sum: Decimal = volumes.gaps().iter().map(|g| g.quantity).sum();
            prop_assert_eq!(Decimal::from(volumes.missing_shares()), sum);
        }
    }
}
