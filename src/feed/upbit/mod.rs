//! Upbit's public WebSocket (trades, tickers) and the candles of its REST side.
//!
//! | file | what it decides |
//! |---|---|
//! | `message`, `names`, `number` | bytes → records and replies, with full or short names, numbers as exact decimals |
//! | `trade` | a record → the house's own [`Trade`], with its identity |
//! | `request`, `answer` | what is sent; what the REST side answers |
//! | `session` | what to send when: subscription, signs of life, reconnects, calls for candles |
//! | `completeness` | candles against what was received |
//!
//! The exchange never closes. A trade's session date is the date of its time in Korea, so a day is cut at
//! midnight there, although the exchange itself counts its days in UTC.

mod answer;
mod completeness;
mod message;
mod names;
mod number;
mod request;
mod session;
#[cfg(test)]
mod tests;
mod trade;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::{
    Address, Completeness, Feed, Parameter, Parameters, Refused, SecretName, Session, Setup, SetupError,
    Shape,
};
use domain::trade::Trade;

/// Korea has had one offset, all year, since 1988.
const KOREA: Offset = jiff::tz::offset(9);

/// Markets of one session at most: about as many as there are in won, twice.
const MOST_CODES: usize = 500;

const EXAMPLE: &str = "write symbols: [KRW-BTC, KRW-ETH] or symbols: \"file:symbols/upbit20.txt\"";

/// The feed.
pub struct Upbit;

/// What the server sends of a market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Every trade.
    Trade,
    /// The state of the market with its last trade; not every trade has one.
    Ticker,
}

impl Channel {
    const ALL: [Self; 2] = [Self::Trade, Self::Ticker];
    const WORDS: &'static [&'static str] = &["trade", "ticker"];

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == word)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Trade => "trade",
            Self::Ticker => "ticker",
        }
    }

    /// First part of the ids: tickers are no trades, and never fold into them.
    fn feed(self) -> &'static str {
        match self {
            Self::Trade => "upbit",
            Self::Ticker => "upbit-ticker",
        }
    }
}

/// How messages name their fields, and whether each comes in an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Default,
    Simple,
    JsonList,
    SimpleList,
}

impl Format {
    const ALL: [Self; 4] = [Self::Default, Self::Simple, Self::JsonList, Self::SimpleList];
    const WORDS: &'static [&'static str] = &["default", "simple", "json_list", "simple_list"];

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str().eq_ignore_ascii_case(word))
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Default => "DEFAULT",
            Self::Simple => "SIMPLE",
            Self::JsonList => "JSON_LIST",
            Self::SimpleList => "SIMPLE_LIST",
        }
    }
}

impl Feed for Upbit {
    fn name(&self) -> &'static str {
        "upbit"
    }

    fn title(&self) -> &'static str {
        "Upbit"
    }

    fn about(&self) -> &'static str {
        "collects trades, or tickers, of Upbit's markets and checks them against the exchange's candles"
    }

    fn addresses(&self) -> &'static [Address] {
        &[
            Address {
                key: "websocket",
                default: "wss://api.upbit.com/websocket/v1",
                help: "WebSocket of public data",
            },
            Address {
                key: "rest",
                default: "https://api.upbit.com",
                help: "REST base, for candles and the list of markets",
            },
        ]
    }

    fn parameters(&self) -> &'static [Parameter] {
        const {
            &[
                Parameter::required(
                    "symbols",
                    Shape::NAMES,
                    "markets (KRW-BTC), or file:PATH with one a line",
                ),
                Parameter::new(
                    "channel",
                    Shape::OneOf(Channel::WORDS),
                    "what is collected; tickers need a topic of their own",
                )
                .or("trade"),
                Parameter::new(
                    "format",
                    Shape::OneOf(Format::WORDS),
                    "form of the messages; simple has short names and costs less",
                )
                .or("default"),
                Parameter::new(
                    "stale_after",
                    Shape::Duration,
                    "a connection without any message for this long is dead",
                )
                .or("75s"),
                Parameter::new(
                    "settle",
                    Shape::Duration,
                    "how long after a minute's end its candle is asked for",
                )
                .or("10s"),
            ]
        }
    }

    fn secrets(&self) -> &'static [SecretName] {
        &[]
    }

    fn default_topic(&self) -> &'static str {
        "upbit.trades"
    }

    fn zone(&self) -> TimeZone {
        TimeZone::fixed(KOREA)
    }

    fn symbols(&self, with: &Parameters<'_>) -> Result<Vec<String>, SetupError> {
        let codes = with.codes("symbols", EXAMPLE)?;
        match codes.iter().find(|code| !trade::is_code(code)) {
            Some(bad) => Err(with
                .wrong("symbols", format!("\"{bad}\" is not a market, quote first, in capitals; {EXAMPLE}"))),
            None if codes.len() > MOST_CODES => {
                Err(with
                    .wrong("symbols", format!("there are {}; one collector takes {MOST_CODES}", codes.len())))
            }
            None => Ok(codes),
        }
    }

    fn session(&self, setup: &Setup<'_>) -> Result<Box<dyn Session>, SetupError> {
        let settings = session::Settings::read(setup, self.symbols(&setup.with)?)?;
        Ok(Box::new(session::Machine::new(settings, setup.seed, setup.now)))
    }

    fn trades(&self, message: &[u8], received_at: Timestamp) -> Result<Vec<Trade>, Refused> {
        trade::trades(message, received_at)
    }

    fn completeness(&self) -> Box<dyn Completeness> {
        Box::new(completeness::Minutes::default())
    }
}
