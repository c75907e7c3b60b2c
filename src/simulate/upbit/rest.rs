//! The REST side: candles, markets, tickers and past trades, out of the ledger, and its budget of calls.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::ledger::{LedgerTrade, VOLUME_DECIMALS, fixed};
use super::markets::PRICE_DECIMALS;
use crate::korea::korean;
use crate::port::{Call, Reply};

/// Calls of a group in a second.
const A_SECOND: u32 = 10;
/// Refused calls after which the address is blocked.
const PATIENCE: u32 = 30;
/// Rows of a call at most.
const ROWS: usize = 200;
/// Past trades of a call at most.
const TRADES: usize = 500;

/// How many calls were made of late.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Group → second and calls in it.
    groups: HashMap<&'static str, (i64, u32)>,
    refused: u32,
    blocked_until: Option<Timestamp>,
}

/// What a call may be refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    TooMany,
    Blocked { seconds: i64 },
}

impl Budget {
    /// Counts a call; says what is left, or why it is refused. A fast clock leaves a client no time to space
    /// its calls, so it has more.
    pub(super) fn spend(&mut self, group: &'static str, now: Timestamp, speed: f64) -> Result<u32, Refused> {
        if let Some(until) = self.blocked_until.filter(|until| *until > now) {
            return Err(Refused::Blocked { seconds: until.duration_since(now).as_secs() + 1 });
        }
        let most = (f64::from(A_SECOND) * (speed / 20.0).max(1.0)) as u32;
        let spent = self.groups.entry(group).or_default();
        if spent.0 != now.as_second() {
            *spent = (now.as_second(), 0);
        }
        if spent.1 >= most {
            self.refused += 1;
            if self.refused > PATIENCE {
                self.refused = 0;
                self.blocked_until = Some(now + SignedDuration::from_secs(60));
            }
            return Err(Refused::TooMany);
        }
        spent.1 += 1;
        Ok(most - spent.1)
    }
}

/// The group of a path, whose calls share a budget.
pub(super) fn group(path: &str) -> &'static str {
    match path {
        "/v1/market/all" => "market",
        "/v1/ticker" => "ticker",
        "/v1/trades/ticks" => "crix-trades",
        _ => "candles",
    }
}

/// The answer to a refused call.
pub(super) fn refusal(refused: Refused) -> Reply {
    let error = |name: &str, message: &str| json!({"error": {"name": name, "message": message}}).to_string();
    match refused {
        Refused::TooMany => Reply {
            status: 429,
            headers: vec![("remaining-req", "group=candles; min=600; sec=0".to_owned())],
            body: error("too_many_requests", "Too many API requests."),
        },
        Refused::Blocked { seconds } => Reply {
            status: 418,
            headers: vec![("retry-after", seconds.to_string())],
            body: error("blocked", &format!("This IP has been blocked for {seconds} seconds.")),
        },
    }
}

/// The ledger by market, in the order in which trades were made.
#[derive(Debug)]
pub(super) struct Past {
    ledger: Arc<[LedgerTrade]>,
    markets: HashMap<String, Vec<usize>>,
    /// The markets in their order.
    codes: Vec<String>,
}

impl Past {
    pub(super) fn new(ledger: Arc<[LedgerTrade]>, codes: Vec<String>) -> Self {
        let mut markets: HashMap<String, Vec<usize>> =
            codes.iter().map(|code| (code.clone(), Vec::new())).collect();
        for (index, trade) in ledger.iter().enumerate() {
            markets.entry(trade.code.to_string()).or_default().push(index);
        }
        for of in markets.values_mut() {
            of.sort_by_key(|index| (ledger[*index].traded, ledger[*index].at));
        }
        Self { ledger, markets, codes }
    }

    pub(super) fn has(&self, code: &str) -> bool {
        self.markets.contains_key(code)
    }

    /// Trades of a market that were made by then, oldest first.
    fn of(&self, code: &str, by: Timestamp) -> impl DoubleEndedIterator<Item = &LedgerTrade> {
        let all = self.markets.get(code).map_or(&[][..], Vec::as_slice);
        let made = all.partition_point(|index| self.ledger[*index].traded <= by);
        all[..made].iter().map(|index| &self.ledger[*index])
    }

    /// Answers a call; only what was traded before `now` is known.
    pub(super) fn answer(&self, call: &Call, now: Timestamp) -> (u16, String) {
        if call.method != "GET" {
            return problem(405, "method not allowed");
        }
        let market = call.asked("market").filter(|code| self.has(code));
        match (call.path.as_str(), market) {
            ("/v1/market/all", _) => {
                let row = |code: &String| json!({"market": code, "korean_name": code, "english_name": code});
                (200, Value::Array(self.codes.iter().map(row).collect()).to_string())
            }
            ("/v1/candles/minutes/1", Some(code)) => self.candles(call, code, now),
            ("/v1/trades/ticks", Some(code)) => ticks(call, self.of(code, now), code),
            ("/v1/candles/minutes/1" | "/v1/trades/ticks", None) => problem(404, "Code not found"),
            ("/v1/ticker", _) => {
                let codes = call.asked("markets").unwrap_or_default().split(',').collect::<Vec<_>>();
                if codes.iter().any(|code| !self.has(code)) {
                    return problem(404, "Code not found");
                }
                let last: Vec<String> =
                    codes.into_iter().filter_map(|code| self.of(code, now).next_back()).map(ticker).collect();
                (200, format!("[{}]", last.join(",")))
            }
            (path, _) => problem(404, &format!("the simulator has no {path}")),
        }
    }

    /// Candles, the newest first; a minute without a trade has none.
    fn candles(&self, call: &Call, code: &str, now: Timestamp) -> (u16, String) {
        let bad = || problem(400, "Invalid parameter. Check the given value!");
        let to = match call.asked("to").filter(|to| !to.is_empty()).map(instant) {
            None => Timestamp::MAX,
            Some(Some(to)) => to,
            Some(None) => return bad(),
        };
        let count = call
            .asked("count")
            .map_or(Some(1), |count| count.parse::<usize>().ok())
            .filter(|count| *count <= ROWS);
        let Some(count) = count else { return bad() };
        let mut candles: Vec<(i64, Candle)> = Vec::new();
        for trade in self.of(code, now).rev() {
            let minute = trade.traded.as_second().div_euclid(60) * 60;
            // A candle is known by its first instant, and the time asked for is not in.
            if minute >= to.as_second() {
                continue;
            }
            if candles.last().is_none_or(|(last, _)| *last != minute) {
                if candles.len() == count {
                    break;
                }
                candles.push((minute, Candle::new(trade)));
            }
            if let Some((_, candle)) = candles.last_mut() {
                candle.add(trade);
            }
        }
        let rows: Vec<String> = candles.iter().map(|(minute, candle)| row(code, *minute, candle)).collect();
        (200, format!("[{}]", rows.join(",")))
    }
}

fn problem(status: u16, message: &str) -> (u16, String) {
    (status, json!({"error": {"name": status, "message": message}}).to_string())
}

#[derive(Debug)]
struct Candle {
    open: i64,
    high: i64,
    low: i64,
    close: i64,
    volume: i128,
    value: i128,
    last: i64,
}

impl Candle {
    /// Begins with its last trade.
    fn new(trade: &LedgerTrade) -> Self {
        let (price, last) = (trade.price, trade.traded.as_millisecond());
        Self { open: price, high: price, low: price, close: price, volume: 0, value: 0, last }
    }

    /// Takes in a trade, from the last to the first.
    fn add(&mut self, trade: &LedgerTrade) {
        self.open = trade.price;
        self.high = self.high.max(trade.price);
        self.low = self.low.min(trade.price);
        self.volume += i128::from(trade.volume);
        self.value += i128::from(trade.price) * i128::from(trade.volume);
    }
}

fn row(code: &str, minute: i64, candle: &Candle) -> String {
    let at = Timestamp::from_second(minute).unwrap_or(Timestamp::UNIX_EPOCH);
    let form = "%Y-%m-%dT%H:%M:%S";
    let price = |units: i64| fixed(units.into(), PRICE_DECIMALS);
    format!(
        r#"{{"market":"{code}","candle_date_time_utc":"{}","candle_date_time_kst":"{}","opening_price":{},"high_price":{},"low_price":{},"trade_price":{},"timestamp":{},"candle_acc_trade_price":{},"candle_acc_trade_volume":{},"unit":1}}"#,
        at.strftime(form),
        korean(at).strftime(form),
        price(candle.open),
        price(candle.high),
        price(candle.low),
        price(candle.close),
        candle.last,
        fixed(candle.value, PRICE_DECIMALS + VOLUME_DECIMALS),
        fixed(candle.volume, VOLUME_DECIMALS),
    )
}

/// Past trades, the newest first; those before `cursor`, which is a number of one.
fn ticks<'a>(
    call: &Call,
    trades: impl DoubleEndedIterator<Item = &'a LedgerTrade>,
    code: &str,
) -> (u16, String) {
    let count = call.asked("count").and_then(|count| count.parse().ok()).unwrap_or(1_usize).min(TRADES);
    let cursor: u64 = call.asked("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(u64::MAX);
    let mut trades: Vec<&LedgerTrade> = trades.filter(|trade| trade.sequential_id < cursor).collect();
    trades.sort_by_key(|trade| std::cmp::Reverse(trade.sequential_id));
    let row = |trade: &&LedgerTrade| {
        let utc = TimeZone::UTC.to_datetime(trade.traded);
        format!(
            r#"{{"market":"{code}","trade_date_utc":"{}","trade_time_utc":"{}","timestamp":{},"trade_price":{},"trade_volume":{},"prev_closing_price":{},"ask_bid":"{}","sequential_id":{}}}"#,
            utc.strftime("%Y-%m-%d"),
            utc.strftime("%H:%M:%S"),
            trade.traded.as_millisecond(),
            fixed(trade.price.into(), PRICE_DECIMALS),
            fixed(trade.volume.into(), VOLUME_DECIMALS),
            fixed(trade.so_far.previous_close.into(), PRICE_DECIMALS),
            if trade.buy { "BID" } else { "ASK" },
            trade.sequential_id,
        )
    };
    (200, format!("[{}]", trades.iter().take(count).map(row).collect::<Vec<_>>().join(",")))
}

fn ticker(trade: &LedgerTrade) -> String {
    let text = trade.message(
        super::ledger::Channel::Ticker,
        super::ledger::Format::default(),
        super::ledger::Stream::Snapshot,
    );
    text.replacen("\"code\":", "\"market\":", 1)
}

/// `2026-11-20T00:01:00Z`, with an offset, or without: then it is London's.
fn instant(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().or_else(|| {
        let local: DateTime = text.parse().ok()?;
        Some(local.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_beyond_the_budget_are_refused_and_then_blocked() {
        let mut budget = Budget::default();
        let now = Timestamp::UNIX_EPOCH;
        for left in (0..10).rev() {
            assert_eq!(budget.spend("candles", now, 1.0), Ok(left));
        }
        assert_eq!(budget.spend("candles", now, 1.0), Err(Refused::TooMany));
        assert_eq!(budget.spend("market", now, 1.0), Ok(9), "each group has its own");
        let later = now + SignedDuration::from_secs(1);
        assert_eq!(budget.spend("candles", later, 1.0), Ok(9));
        for _ in 0..60 {
            let _ = budget.spend("candles", later, 1.0);
        }
        assert_eq!(budget.spend("market", later, 1.0), Err(Refused::Blocked { seconds: 61 }));
        assert!(budget.spend("market", later + SignedDuration::from_secs(60), 1.0).is_ok());
    }

    #[test]
    fn times_are_read_with_and_without_an_offset() {
        let at = |text: &str| instant(text).map(|at| at.to_string());
        assert_eq!(at("2026-11-20T00:01:00Z").as_deref(), Some("2026-11-20T00:01:00Z"));
        assert_eq!(at("2026-11-20T09:01:00+09:00").as_deref(), Some("2026-11-20T00:01:00Z"));
        assert_eq!(at("2026-11-20 00:01:00").as_deref(), Some("2026-11-20T00:01:00Z"));
        assert_eq!(at("noon"), None);
    }
}
