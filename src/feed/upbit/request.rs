//! What is sent: subscriptions over the WebSocket, and calls of the REST side.
//!
//! A subscription replaces everything that was subscribed before, so the full list is sent each time; there
//! is no unsubscribing.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Channel, Format};
use crate::{Method, Request};
use domain::retry::mix;

/// A sign of life, answered with `{"status":"UP"}`: a connection without traffic is closed after about two
/// minutes.
pub(super) const PING: &str = "PING";

/// The markets of one call at most, and candles of one call at most.
pub(super) const MOST_CANDLES: i64 = 200;

/// Subscribes to these markets and nothing else. Each sends its last trade at once, and then what comes.
pub(super) fn subscription(ticket: &str, channel: Channel, codes: &[&str], format: Format) -> String {
    array(ticket, json!({"type": channel.as_str(), "codes": codes}), format)
}

/// Asks what is subscribed. The format has to be the subscription's: it changes that of the whole connection.
pub(super) fn list(ticket: &str, format: Format) -> String {
    array(ticket, json!({"method": "LIST_SUBSCRIPTIONS"}), format)
}

fn array(ticket: &str, content: Value, format: Format) -> String {
    json!([{"ticket": ticket}, content, {"format": format.as_str()}]).to_string()
}

/// A ticket: it only has to differ from those of other connections.
pub(super) fn ticket(unique: u64) -> String {
    let (high, low) = (mix(unique), mix(unique ^ 1));
    let part = |word: u64, shift: u32, mask: u64| (word >> shift) & mask;
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        part(high, 16, 0xffff),
        high & 0xfff,
        0x8000 | part(low, 48, 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

/// Asks for the candles of `count` minutes before `to`, newest first; minutes without a trade have none.
pub(super) fn candles(rest: &str, code: &str, to: Timestamp, count: i64, within: Duration) -> Request {
    // The colons of the time are escaped: some servers in between take them amiss.
    let to = to.strftime("%Y-%m-%dT%H%%3A%M%%3A%SZ");
    get(
        format!("{}/v1/candles/minutes/1?market={code}&to={to}&count={count}", rest.trim_end_matches('/')),
        within,
    )
}

/// Asks for all markets there are.
pub(super) fn markets(rest: &str, within: Duration) -> Request {
    get(format!("{}/v1/market/all", rest.trim_end_matches('/')), within)
}

/// No `Origin` header is ever sent: with one, a client may call once in ten seconds.
fn get(url: String, within: Duration) -> Request {
    Request {
        method: Method::Get,
        url,
        headers: vec![("accept".to_owned(), "application/json".to_owned())],
        body: None,
        within,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_ticket_type_and_format() {
        let ticket = ticket(7);
        assert_eq!((ticket.len(), &ticket[14..15]), (36, "4"));
        let text = subscription(&ticket, Channel::Trade, &["KRW-BTC", "KRW-ETH"], Format::Default);
        let read: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            read,
            json!([{"ticket": ticket}, {"type": "trade", "codes": ["KRW-BTC", "KRW-ETH"]}, {"format": "DEFAULT"}])
        );
        let read: Value = serde_json::from_str(&list("t", Format::Simple)).expect("JSON");
        assert_eq!(read, json!([{"ticket": "t"}, {"method": "LIST_SUBSCRIPTIONS"}, {"format": "SIMPLE"}]));
    }

    #[test]
    fn calls_have_their_times_escaped() {
        let to = "2026-11-20T00:01:00Z".parse().expect("a time");
        let call = candles("https://host/", "KRW-BTC", to, 3, Duration::from_secs(1));
        assert_eq!(
            call.url,
            "https://host/v1/candles/minutes/1?market=KRW-BTC&to=2026-11-20T00%3A01%3A00Z&count=3"
        );
        assert!(call.headers.iter().all(|(name, _)| name != "origin"));
        assert_eq!(markets("https://host", Duration::from_secs(1)).url, "https://host/v1/market/all");
    }
}
