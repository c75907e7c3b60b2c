//! Trades as a spool holds them, whatever version of openbell wrote them: the one place where the forms are
//! told apart.

use std::borrow::Cow;

use backends::spool::{Entry, Kind, TradeBody};
use domain::trade::{Total, Trade};
use feed::Refused;

/// A trade as it is handed on: nothing of it is read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled<'a> {
    /// Event id.
    pub id: Cow<'a, str>,
    /// Instrument.
    pub symbol: Cow<'a, str>,
    /// The trade as JSON, as every store holds it.
    pub json: Cow<'a, [u8]>,
}

impl<'a> Spooled<'a> {
    /// The trade of an entry; `None` for an entry of another kind.
    ///
    /// # Errors
    /// `undecodable` for a damaged entry, and what a feed says of a wire text that an older version spooled.
    pub fn of(entry: &'a Entry) -> Option<Result<Self, Refused>> {
        match entry.kind {
            Kind::Trade => Some(body(entry).map(|body| Self {
                id: Cow::Borrowed(body.id),
                symbol: Cow::Borrowed(body.symbol),
                json: Cow::Borrowed(body.json),
            })),
            Kind::Record => Some(feed::decode(&entry.body, entry.received_at).and_then(|trade| {
                let json = Cow::Owned(to_json(&trade)?);
                Ok(Self { id: Cow::Owned(trade.id.to_string()), symbol: Cow::Owned(trade.symbol), json })
            })),
            Kind::Malformed | Kind::SessionUp | Kind::SessionDown | Kind::Total => None,
        }
    }
}

fn body(entry: &Entry) -> Result<TradeBody<'_>, Refused> {
    TradeBody::parse(&entry.body).ok_or_else(|| undecodable("is not a trade"))
}

fn undecodable(what: &str) -> Refused {
    Refused { cause: "undecodable", message: format!("the spool entry {what}") }
}

/// Whether an entry holds a trade.
pub fn is_trade(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::Trade | Kind::Record)
}

/// The trade of an entry, read; `None` for an entry of another kind.
///
/// # Errors
/// As [`Spooled::of`].
pub fn trade(entry: &Entry) -> Option<Result<Trade, Refused>> {
    match entry.kind {
        Kind::Trade => Some(body(entry).and_then(|body| {
            serde_json::from_slice(body.json).map_err(|e| undecodable(&format!("is not a trade: {e}")))
        })),
        Kind::Record => Some(feed::decode(&entry.body, entry.received_at)),
        Kind::Malformed | Kind::SessionUp | Kind::SessionDown | Kind::Total => None,
    }
}

/// What the exchange said was traded, if an entry says it.
pub fn total(entry: &Entry) -> Option<Total> {
    (entry.kind == Kind::Total).then(|| serde_json::from_slice(&entry.body).ok()).flatten()
}

/// The JSON object that every store holds.
///
/// # Errors
/// `bad_json` when there is no such object, `bad_name` when id or symbol would break the spool's lines.
pub fn to_json(trade: &Trade) -> Result<Vec<u8>, Refused> {
    if trade.id.as_str().contains('\n') || trade.symbol.contains('\n') {
        return Err(Refused {
            cause: "bad_name",
            message: "the trade's id or symbol holds a line break".into(),
        });
    }
    serde_json::to_vec(trade).map_err(|e| Refused {
        cause: "bad_json",
        message: format!("the trade cannot be written as JSON: {e}"),
    })
}
