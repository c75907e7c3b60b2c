//! The exchange's own ledger: every trade of the day with all that its wire record says.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use serde::ser::SerializeStruct;

use super::grid;
use crate::korea::{KST, korean};
use domain::retry::mix;
use domain::trade::EventId;

/// `HHMMSS`.
pub fn wire_time(at: Timestamp) -> String {
    korean(at).strftime("%H%M%S").to_string()
}

/// Who took the liquidity (`CCLD_DVSN`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// A buyer lifted the ask: 1.
    Buy,
    /// Nobody: a single-price auction, or a match at the closing price: 3.
    Auction,
    /// A seller hit the bid: 5.
    Sell,
}

impl Side {
    /// The code on the wire.
    pub fn code(self) -> &'static str {
        match self {
            Self::Buy => "1",
            Self::Auction => "3",
            Self::Sell => "5",
        }
    }
}

/// Which part of the day a trade belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The print of the opening auction.
    Opening,
    /// Continuous trading.
    Continuous,
    /// The print that ends a volatility interruption.
    Interruption,
    /// The print of the closing auction.
    Closing,
    /// After the close, at the closing price.
    PostClose,
    /// Continuous trading in the evening, 16:00 to 20:00.
    AfterMarket,
}

/// What a symbol is for a whole day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instrument {
    /// Code.
    pub symbol: Arc<str>,
    /// Business date.
    pub date: Date,
    /// Previous close, KRW.
    pub previous_close: i64,
    /// Highest and lowest price of the day, KRW: 30 % around the previous close.
    pub limits: (i64, i64),
    /// Listed shares.
    pub listed: i64,
    /// Volume of the whole previous day, shares.
    pub previous_volume: i64,
}

/// What the record of a trade says besides the trade: the symbol's day so far, the trade included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaySoFar {
    /// Price and time of the opening print.
    pub open: (i64, Timestamp),
    /// Highest price and its first time.
    pub high: (i64, Timestamp),
    /// Lowest price and its first time.
    pub low: (i64, Timestamp),
    /// Number of sell-initiated and of buy-initiated trades.
    pub counts: (i64, i64),
    /// Shares of sell-initiated and of buy-initiated trades.
    pub volumes: (i64, i64),
    /// Best ask and best bid, KRW.
    pub best: (i64, i64),
    /// Shares at the best ask and at the best bid.
    pub best_quantity: (i64, i64),
    /// Shares on all ask and on all bid levels.
    pub total_quantity: (i64, i64),
    /// The previous day's volume at the same time, shares.
    pub previous_same_time: i64,
    /// Reference price of the static volatility interruption, KRW.
    pub reference: i64,
}

/// One trade in the exchange's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerTrade {
    /// When the exchange sent it. The wire's time is this, cut to whole seconds.
    pub at: Timestamp,
    /// Code of the instrument.
    pub symbol: Arc<str>,
    /// Price, KRW.
    pub price: i64,
    /// Quantity, shares.
    pub quantity: i64,
    /// Volume of the day up to and including this trade, shares.
    pub accumulated_volume: i64,
    /// Traded value of the day up to and including this trade, KRW.
    pub accumulated_value: i64,
    /// Who took the liquidity.
    pub side: Side,
    /// Part of the day.
    pub phase: Phase,
    /// Neighbours in the ledger with the same number travel in one frame.
    pub frame: u32,
    /// The symbol's day so far.
    pub so_far: DaySoFar,
    /// The symbol.
    pub instrument: Arc<Instrument>,
}

impl LedgerTrade {
    /// The id that a collector gives this trade.
    pub fn id(&self) -> EventId {
        EventId::new("kis", self.instrument.date, &self.symbol, self.accumulated_volume)
    }

    /// The fields of the H0STCNT0 record, in wire order. `width` is 47, or 46 for the layout before
    /// 2026-09-14.
    pub fn fields(&self, width: usize) -> Vec<String> {
        let (day, instrument) = (&self.so_far, &*self.instrument);
        let change = self.price - instrument.previous_close;
        let (volume, value) = (i128::from(self.accumulated_volume), i128::from(self.accumulated_value));
        let (sells, buys) = (i128::from(day.volumes.0), i128::from(day.volumes.1));
        let mut fields = Vec::with_capacity(47);
        let mut push = |text: String| fields.push(text);
        push(self.symbol.to_string());
        push(wire_time(self.at));
        push(self.price.to_string());
        push(limit_sign(self.price, instrument).to_owned());
        push(change.to_string());
        push(hundredths(i128::from(change) * 100, i128::from(instrument.previous_close)));
        push(hundredths(value, volume));
        push(day.open.0.to_string());
        push(day.high.0.to_string());
        push(day.low.0.to_string());
        push(day.best.0.to_string());
        push(day.best.1.to_string());
        push(self.quantity.to_string());
        push(self.accumulated_volume.to_string());
        push(self.accumulated_value.to_string());
        push(day.counts.0.to_string());
        push(day.counts.1.to_string());
        push((day.counts.1 - day.counts.0).to_string());
        push(hundredths(buys * 100, sells));
        push(day.volumes.0.to_string());
        push(day.volumes.1.to_string());
        push(self.side.code().to_owned());
        push(hundredths(buys, volume));
        push(hundredths(volume * 100, i128::from(instrument.previous_volume)));
        for (price, at) in [day.open, day.high, day.low] {
            push(wire_time(at));
            push(sign(self.price - price).to_owned());
            push((self.price - price).to_string());
        }
        push(instrument.date.strftime("%Y%m%d").to_string());
        push(if self.phase == Phase::PostClose { "31" } else { "20" }.to_owned());
        push("N".to_owned());
        push(day.best_quantity.0.to_string());
        push(day.best_quantity.1.to_string());
        push(day.total_quantity.0.to_string());
        push(day.total_quantity.1.to_string());
        push(hundredths(volume * 100, i128::from(instrument.listed)));
        push(day.previous_same_time.to_string());
        push(hundredths(volume * 100, i128::from(day.previous_same_time)));
        push("0".to_owned());
        push(String::new());
        push(day.reference.to_string());
        push(self.market_class().to_owned());
        fields.truncate(width);
        fields
    }

    /// The fields of the H0STASP0 record (ten levels a side, 63 fields) as the book stood with this trade.
    pub fn book_fields(&self) -> Vec<String> {
        let day = &self.so_far;
        let mut asks = vec![day.best.0];
        let mut bids = vec![day.best.1];
        for level in 1..10 {
            asks.push(grid::up(asks[level - 1]));
            bids.push(grid::down(bids[level - 1]));
        }
        let spread = mix(self.accumulated_volume as u64);
        let ask_sizes = levels(day.best_quantity.0, day.total_quantity.0, spread);
        let bid_sizes = levels(day.best_quantity.1, day.total_quantity.1, !spread);
        let mut fields = vec![self.symbol.to_string(), wire_time(self.at), "0".to_owned()];
        for list in [&asks, &bids, &ask_sizes, &bid_sizes] {
            fields.extend(list.iter().map(ToString::to_string));
        }
        fields.push(day.total_quantity.0.to_string());
        fields.push(day.total_quantity.1.to_string());
        // Off-hours totals, then the expected print: none outside an auction.
        fields.extend(["0", "0", "0", "0", "0"].map(str::to_owned));
        fields.push((-self.instrument.previous_close).to_string());
        fields.extend(["5", "-100.00"].map(str::to_owned));
        fields.push(self.accumulated_volume.to_string());
        fields.extend(["0", "0", "0", "0", "0"].map(str::to_owned));
        fields.push(((day.best.0 + day.best.1) / 2).to_string());
        fields.push((spread % 9_000).to_string());
        fields.push("2".to_owned());
        fields.push(self.market_class().to_owned());
        fields
    }

    /// `MARKET_CLS_CODE`: 2 regular, 3 after-market, 5 closing.
    fn market_class(&self) -> &'static str {
        match self.phase {
            Phase::PostClose => "5",
            Phase::AfterMarket => "3",
            _ => "2",
        }
    }
}

impl Serialize for LedgerTrade {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("LedgerTrade", 9)?;
        out.serialize_field("id", self.id().as_str())?;
        out.serialize_field("at", &self.at.display_with_offset(KST).to_string())?;
        out.serialize_field("symbol", &*self.symbol)?;
        out.serialize_field("price", &self.price)?;
        out.serialize_field("quantity", &self.quantity)?;
        out.serialize_field("accumulated_volume", &self.accumulated_volume)?;
        out.serialize_field("accumulated_value", &self.accumulated_value)?;
        out.serialize_field("side", &self.side)?;
        out.serialize_field("phase", &self.phase)?;
        out.end()
    }
}

/// Shares of ten levels: the first as given, the rest spread so that the sum is `total`.
fn levels(best: i64, total: i64, spread: u64) -> Vec<i64> {
    let mut sizes = vec![best];
    let mut left = (total - best).max(0);
    for level in 1..9 {
        let even = left / (10 - level);
        let size = (even * (50 + (mix(spread ^ level as u64) % 100) as i64) / 100).min(left);
        sizes.push(size);
        left -= size;
    }
    sizes.push(left);
    sizes
}

fn sign(change: i64) -> &'static str {
    match change {
        1.. => "2",
        0 => "3",
        _ => "5",
    }
}

fn limit_sign(price: i64, instrument: &Instrument) -> &'static str {
    if price >= instrument.limits.0 {
        "1"
    } else if price <= instrument.limits.1 {
        "4"
    } else {
        sign(price - instrument.previous_close)
    }
}

/// `numerator / denominator` with two decimals, halves away from zero; `0.00` where there is nothing to
/// divide by.
fn hundredths(numerator: i128, denominator: i128) -> String {
    if denominator == 0 {
        return "0.00".to_owned();
    }
    let scaled = numerator * 100;
    let half = denominator.abs() / 2;
    let rounded = (scaled.abs() + half) / denominator.abs();
    let minus = if (scaled < 0) != (denominator < 0) && rounded != 0 { "-" } else { "" };
    format!("{minus}{}.{:02}", rounded / 100, rounded % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_round_halves_away_from_zero() {
        // From the recorded frames: -100 of 72000 is -0.14 %, 3750 of 274000 is 1.37 %.
        assert_eq!(hundredths(-100 * 100, 72_000), "-0.14");
        assert_eq!(hundredths(3_750 * 100, 274_000), "1.37");
        assert_eq!(hundredths(1, 200), "0.01");
        assert_eq!(hundredths(-1, 200), "-0.01");
        assert_eq!(hundredths(-1, 2_000), "0.00");
        assert_eq!(hundredths(5, 0), "0.00");
    }

    #[test]
    fn levels_add_up() {
        for spread in 0..200 {
            let sizes = levels(50, 731, spread);
            assert_eq!((sizes.len(), sizes[0], sizes.iter().sum::<i64>()), (10, 50, 731));
            assert!(sizes.iter().all(|s| *s >= 0));
        }
    }

    #[test]
    fn korean_time_is_nine_hours_ahead() {
        let at =
            crate::korea::instant(jiff::civil::date(2026, 11, 20), jiff::civil::time(9, 0, 12, 345_000_000));
        assert_eq!((at.to_string().as_str(), wire_time(at).as_str()), ("2026-11-20T00:00:12.345Z", "090012"));
    }
}
