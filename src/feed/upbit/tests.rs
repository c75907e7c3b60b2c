use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use super::message::{Fault, Message, Remedy, Subscribed, parse};
use super::{Channel, Upbit, names, trade};
use crate::{Feed, Parameters, Refused, SetupError};
use domain::trade::{Side, Trade};

/// Recorded on 2026-09-02; trailing zeros and the number beyond 2^53 as they came.
pub(super) const TRADE: &str = r#"{"type":"trade","code":"KRW-BTC","timestamp":1788335180423,"trade_date":"2026-09-02","trade_time":"07:46:20","trade_timestamp":1788335180377,"trade_price":106691000.00000000,"trade_volume":0.00009372,"ask_bid":"ASK","prev_closing_price":107005000.00000000,"change":"FALL","change_price":314000.00000000,"sequential_id":17883351803770004,"best_ask_price":106705000,"best_ask_size":0.00906333,"best_bid_price":106691000,"best_bid_size":0.00702247,"stream_type":"SNAPSHOT"}"#;

/// From the documentation, 2023-02-21.
const TICKER: &str = r#"{"type":"ticker","code":"KRW-BTC","opening_price":31883000,"high_price":32310000,"low_price":31855000,"trade_price":32287000,"prev_closing_price":31883000.0,"acc_trade_price":78039261076.51241,"change":"RISE","change_price":404000,"signed_change_price":404000,"change_rate":0.0126713295,"signed_change_rate":0.0126713295,"ask_bid":"ASK","trade_volume":0.03103806,"acc_trade_volume":2429.58834336,"trade_date":"20230221","trade_time":"074102","trade_timestamp":1676965262139,"acc_ask_volume":1146.25573608,"acc_bid_volume":1283.33260728,"highest_52_week_price":57678000,"highest_52_week_date":"2022-03-28","lowest_52_week_price":20700000,"lowest_52_week_date":"2022-12-30","market_state":"ACTIVE","is_trading_suspended":false,"delisting_date":{"year":2023,"month":3,"day":1},"timestamp":1676965262177,"stream_type":"REALTIME"}"#;

fn now() -> Timestamp {
    "2026-09-02T07:46:20.5Z".parse().expect("a time")
}

fn one(message: &str) -> Result<Trade, Refused> {
    trade::trades(message.as_bytes(), now()).map(|mut trades| trades.pop().expect("a trade"))
}

fn cause(message: &[u8]) -> &'static str {
    trade::trades(message, now()).expect_err("refused").cause
}

/// The same message with one field replaced by another piece of JSON, or taken out.
fn with(message: &str, name: &str, value: Option<&str>) -> String {
    let mut fields: Map<String, Value> = serde_json::from_str(message).expect("JSON");
    fields.remove(name);
    let mut text = Value::Object(fields).to_string();
    if let Some(value) = value {
        text.insert_str(1, &format!("\"{name}\":{value},"));
    }
    text
}

/// The same message in short names.
fn simple(message: &str, ticker: bool) -> String {
    let mut text = message.to_owned();
    let fields: Map<String, Value> = serde_json::from_str(message).expect("JSON");
    for name in fields.keys() {
        text = text.replace(&format!("\"{name}\":"), &format!("\"{}\":", names::short(name, ticker)));
    }
    text
}

#[test]
fn a_trade_keeps_every_digit_and_field() {
    let trade = one(TRADE).expect("a trade");
    assert_eq!(trade.id.as_str(), "upbit:2026-09-02:KRW-BTC:17883351803770004");
    assert_eq!(
        (trade.feed.as_str(), trade.channel.as_str(), trade.symbol.as_str()),
        ("upbit", "trade", "KRW-BTC")
    );
    assert_eq!(trade.trade_time, "2026-09-02T16:46:20.377+09:00");
    assert_eq!(trade.received_at, "2026-09-02T16:46:20.5+09:00");
    assert_eq!(
        (trade.price.to_string(), trade.quantity.to_string()),
        ("106691000".into(), "0.00009372".into())
    );
    assert_eq!(
        (trade.side, trade.accumulated_volume, trade.accumulated_value),
        (Some(Side::Sell), None, None)
    );
    assert_eq!(trade.fields.len(), 18);
    assert_eq!(trade.fields["trade_price"], "106691000.00000000", "as sent");
    assert_eq!(trade.fields["sequential_id"], "17883351803770004");
    let written: Trade = serde_json::from_str(&serde_json::to_string(&trade).expect("JSON")).expect("read");
    assert_eq!(written, trade);
}

#[test]
fn short_names_arrays_and_texts_mean_the_same() {
    let trade = one(TRADE).expect("a trade");
    let short = simple(TRADE, false);
    assert!(short.contains("\"sid\":17883351803770004") && !short.contains("sequential_id"), "{short}");
    assert_eq!(one(&short).expect("SIMPLE"), trade);
    assert_eq!(one(&format!("[{short}]")).expect("SIMPLE_LIST"), trade);
    assert_eq!(one(&format!(" [ {TRADE} ] ")).expect("JSON_LIST"), trade);
    let ticker = one(TICKER).expect("a ticker");
    assert_eq!(one(&simple(TICKER, true)).expect("SIMPLE"), ticker);
    // Another exchange of this family writes its numbers as texts.
    let quoted = with(
        &with(TRADE, "trade_volume", Some("\"0.00009372\"")),
        "sequential_id",
        Some("\"17883351803770004\""),
    );
    assert_eq!(one(&quoted).expect("texts").id, trade.id);
}

#[test]
fn a_ticker_is_a_trade_of_another_feed() {
    let ticker = one(TICKER).expect("a ticker");
    assert_eq!(ticker.id.as_str(), "upbit-ticker:2023-02-21:KRW-BTC:1676965262177");
    assert_eq!((ticker.channel.as_str(), ticker.side), ("ticker", Some(Side::Sell)));
    assert_eq!(ticker.quantity, Decimal::new(3_103_806, 8));
    assert_eq!(ticker.fields["delisting_date"], r#"{"year":2023,"month":3,"day":1}"#);
    assert_eq!(
        (ticker.fields["is_trading_suspended"].as_str(), ticker.fields["acc_trade_price"].as_str()),
        ("false", "78039261076.51241")
    );
    assert_eq!(crate::of_trade(&ticker.feed).map(Feed::name), crate::find("upbit").map(Feed::name));
}

#[test]
fn exponents_and_zeros_are_the_numbers_they_say() {
    for (text, price) in [
        ("1.5243E8", "152430000"),
        ("152430000.00000000", "152430000"),
        ("0.00100", "0.001"),
        ("1e-8", "0.00000001"),
    ] {
        assert_eq!(one(&with(TRADE, "trade_price", Some(text))).expect(text).price.to_string(), price);
    }
    for (text, quantity) in
        [("5E-8", "0.00000005"), ("12000", "12000.00000000"), ("1.5E10", "15000000000.00000000")]
    {
        assert_eq!(
            one(&with(TRADE, "trade_volume", Some(text))).expect(text).quantity.to_string(),
            quantity,
            "one scale"
        );
    }
    let largest = one(&with(TRADE, "sequential_id", Some("18446744073709551615"))).expect("64 bits");
    assert!(largest.id.as_str().ends_with(":18446744073709551615"));
}

#[test]
fn a_day_is_cut_at_midnight_in_korea() {
    let at = |time: &str| {
        let millis = time.parse::<Timestamp>().expect("a time").as_millisecond();
        let trade = one(&with(TRADE, "trade_timestamp", Some(&millis.to_string()))).expect("a trade");
        (trade.session_date.to_string(), trade.trade_time)
    };
    assert_eq!(at("2026-11-20T14:59:59.999Z"), ("2026-11-20".into(), "2026-11-20T23:59:59.999+09:00".into()));
    assert_eq!(at("2026-11-20T15:00:00Z"), ("2026-11-21".into(), "2026-11-21T00:00:00+09:00".into()));
}

#[test]
fn what_is_missing_or_wrong_has_a_cause_and_a_name() {
    for (name, value, expected) in [
        ("code", None, "missing_field"),
        ("code", Some("null"), "missing_field"),
        ("code", Some("\"krw-btc\""), "bad_code"),
        ("code", Some("\"KRW-BTC:1\""), "bad_code"),
        ("code", Some("5"), "bad_code"),
        ("trade_price", None, "missing_field"),
        ("trade_price", Some("\"N/A\""), "bad_number"),
        ("trade_price", Some("0"), "bad_number"),
        ("trade_price", Some("-1"), "bad_number"),
        ("trade_price", Some("true"), "bad_number"),
        ("trade_volume", Some("[1]"), "bad_number"),
        ("trade_volume", Some("0.0"), "bad_number"),
        ("sequential_id", Some("1.7883351803770004E16"), "bad_number"),
        ("sequential_id", Some("-1"), "bad_number"),
        ("sequential_id", Some("18446744073709551616"), "bad_number"),
        ("trade_timestamp", Some("1788335180"), "bad_time"),
        ("trade_timestamp", Some("\"yesterday\""), "bad_time"),
        ("trade_timestamp", Some("1788335180377000"), "bad_time"),
        ("ask_bid", Some("\"BUY\""), "bad_side"),
        ("type", Some("\"orderbook\""), "unknown_type"),
        ("type", None, "unknown_type"),
    ] {
        let refused = one(&with(TRADE, name, value)).expect_err(name);
        assert_eq!(refused.cause, expected, "{name} {value:?}: {refused}");
        assert!(refused.message.contains(name) || name == "type", "{refused}");
        assert!(refused.message.len() < 200, "{refused}");
    }
    assert_eq!(
        one(&with(TRADE, "ask_bid", None)).expect("a trade").side,
        None,
        "a trade without its side is a trade"
    );
}

#[test]
fn messages_that_cannot_be_read_have_a_cause() {
    for (bytes, expected) in [
        (&b""[..], "empty"),
        (b"  ", "empty"),
        (b"[]", "empty"),
        (b"\xC3\x28", "bad_utf8"),
        (b"\x00\x01\x02", "not_an_object"),
        (b"42", "not_an_object"),
        (b"\"text\"", "not_an_object"),
        (b"null", "not_an_object"),
        (b"[1,2]", "not_an_object"),
        (b"[[]]", "not_an_object"),
        (b"{\"type\":\"trade\",\"code\":", "truncated"),
        (b"{\"type\":\"trade\"", "truncated"),
        (b"{type:trade}", "bad_json"),
        (b"{}", "unknown_type"),
        (b"{\"type\":\"trade\"} {}", "bad_json"),
        (b"{\"status\":\"UP\"}", "not_a_trade"),
        (b"{\"error\":{\"name\":\"NO_CODES\",\"message\":\"m\"}}", "not_a_trade"),
    ] {
        assert_eq!(cause(bytes), expected, "{}", String::from_utf8_lossy(bytes));
    }
    for at in 1..TRADE.len() {
        let cut = &TRADE.as_bytes()[..at];
        assert!(matches!(cause(cut), "truncated" | "not_an_object"), "{at}");
    }
}

#[test]
fn replies_are_told_from_records() {
    fn read(text: &str) -> Message<'_> {
        parse(text.as_bytes()).expect(text)
    }
    assert!(matches!(read(r#"{"status":"UP"}"#), Message::Status(status) if status == "UP"));
    let Message::Fault(fault) =
        read(r#"{"error":{"name":"INVALID_PARAM","message":"codes 필드가 비어 있습니다."}}"#)
    else {
        panic!()
    };
    assert_eq!(fault, Fault { name: "INVALID_PARAM".into(), message: "codes 필드가 비어 있습니다.".into() });
    let listed =
        vec![Subscribed { channel: "trade".into(), codes: vec!["KRW-BTC".into(), "KRW-ETH".into()] }];
    for text in [
        r#"{"method":"LIST_SUBSCRIPTIONS","result":[{"type":"trade","codes":["KRW-BTC","KRW-ETH"]}],"ticket":"t"}"#,
        r#"[{"mthd":"LIST_SUBSCRIPTIONS","rslt":[{"ty":"trade","cds":["KRW-BTC","KRW-ETH"]}],"tckt":"t"}]"#,
    ] {
        let Message::Subscriptions(lines) = read(text) else { panic!("{text}") };
        assert_eq!(lines, listed);
    }
    let remedy = |name: &str| Fault { name: name.into(), message: String::new() }.remedy();
    assert_eq!((remedy("INVALID_AUTH"), remedy("INVALID_PARAM")), (Remedy::Fatal, Remedy::CheckCodes));
    for name in ["WRONG_FORMAT", "NO_TICKET", "NO_TYPE", "SOMETHING_NEW"] {
        assert_eq!(remedy(name), Remedy::Reconnect, "{name}");
    }
}

#[test]
fn one_bad_record_of_several_is_known_by_its_place() {
    let both = format!("[{TRADE},{}]", with(TRADE, "code", None));
    let Ok(Message::Records(records)) = parse(both.as_bytes()) else { panic!() };
    let judged: Vec<_> =
        records.into_iter().map(|record| record.and_then(|r| trade::trade(&r, now()))).collect();
    assert!(judged[0].is_ok() && judged[1].as_ref().is_err_and(|refused| refused.cause == "missing_field"));
    assert_eq!(cause(both.as_bytes()), "missing_field", "a replay takes all or nothing");
}

#[test]
fn the_step_s_symbols_are_markets() {
    let symbols = |value: Value| {
        let with = json!({"symbols": value});
        let with = with.as_object().expect("an object");
        Upbit.symbols(&Parameters::new(&Upbit, with, &|_| {
            Ok("# twenty\nKRW-BTC 비트코인\nKRW-ETH\nKRW-BTC\n".into())
        }))
    };
    assert_eq!(symbols(json!(["KRW-BTC", "USDT-1INCH"])).expect("markets"), ["KRW-BTC", "USDT-1INCH"]);
    assert_eq!(symbols(json!("file:symbols/upbit20.txt")).expect("a file"), ["KRW-BTC", "KRW-ETH"]);
    for bad in [
        json!(["005930"]),
        json!(["krw-btc"]),
        json!(["KRW-"]),
        json!([]),
        json!((0..600).map(|n| format!("KRW-C{n}")).collect::<Vec<_>>()),
    ] {
        assert!(
            matches!(symbols(bad.clone()), Err(SetupError::Parameter { name, .. }) if name == "symbols"),
            "{bad}"
        );
    }
}

#[test]
fn words_of_parameters_are_words_of_the_exchange() {
    assert_eq!(Channel::WORDS.iter().filter_map(|word| Channel::of(word)).count(), Channel::ALL.len());
    assert_eq!(
        super::Format::WORDS.iter().filter_map(|word| super::Format::of(word)).count(),
        super::Format::ALL.len()
    );
    let names: BTreeSet<_> = Upbit.parameters().iter().map(|p| p.name).collect();
    assert_eq!(names.len(), Upbit.parameters().len());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(refused) = trade::trades(&bytes, now()) {
            prop_assert!(refused.message.len() < 300);
        }
    }

    #[test]
    fn no_json_panics(name in "[a-z_]{1,12}", value in "[-+.eE0-9]{1,30}|\"[a-zA-Z0-9:\\-]{0,20}\"|null|true|\\{\\}|\\[\\]") {
        let known = ["code", "trade_price", "trade_volume", "sequential_id", "trade_timestamp", "ask_bid", "type"];
        for name in known.into_iter().chain([name.as_str()]) {
            let text = with(TRADE, name, Some(&value));
            if let Ok(trade) = one(&text) {
                prop_assert!(trade.price > Decimal::ZERO && trade.quantity > Decimal::ZERO && trade.quantity.scale() >= 8);
            }
        }
    }
}
