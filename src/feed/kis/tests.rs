use jiff::Timestamp;
use jiff::civil::date;
use proptest::prelude::*;
use rust_decimal::Decimal;

use super::samples::*;
use super::*;
use domain::trade::Trade;

fn received() -> Timestamp {
    "2026-09-22T14:06:10.25+09:00".parse().expect("a timestamp")
}

fn frame(text: &str) -> Frame<'_> {
    match parse(text.as_bytes()) {
        Ok(Message::Data(frame)) => frame,
        other => panic!("not a data frame: {other:?}"),
    }
}

fn cause(bytes: &[u8]) -> &'static str {
    parse(bytes).expect_err("refused").cause
}

fn reply(text: &str) -> Reply {
    match parse(text.as_bytes()) {
        Ok(Message::Control(Control::Reply(reply))) => reply,
        other => panic!("not a reply: {other:?}"),
    }
}

#[test]
fn the_recorded_47_field_trade_has_its_values() {
    let frame = frame(TRADE_47);
    assert_eq!((frame.tr_id(), frame.len()), ("H0STCNT0", 1));
    let record = frame.records().next().expect("one");
    assert_eq!(record.get("MARKET_CLS_CODE"), Some("2"));
    assert_eq!(record.get("MRKT_TRTM_CLS_CODE"), Some(""));
    assert_eq!(record.get("CCLD_DVSN"), Some("5"));
    assert_eq!(record.fields().count(), 47);
    let trade = trade(&record.wire(), received()).expect("a trade");
    assert_eq!(trade.id.as_str(), "kis:2026-09-22:005930:11955000");
    assert_eq!(
        (trade.feed.as_str(), trade.channel.as_str(), trade.symbol.as_str()),
        ("kis", "H0STCNT0", "005930")
    );
    assert_eq!(trade.session_date, date(2026, 9, 22));
    assert_eq!(trade.trade_time, "2026-09-22T14:06:10+09:00");
    assert_eq!(trade.received_at, "2026-09-22T14:06:10.25+09:00");
    // A mid-point trade: half a tick off the 500 KRW grid.
    assert_eq!(trade.price, Decimal::from(277_750));
    assert_eq!(trade.quantity, Decimal::from(5));
    assert_eq!(
        (trade.accumulated_volume, trade.accumulated_value),
        (Some(11_955_000), Some(3_352_130_122_500))
    );
    assert_eq!(trade.fields.len(), 47);
    assert_eq!(trade.fields["WGHN_AVRG_STCK_PRC"], "280395.69");
    assert_eq!(trade.fields["OPRC_VRSS_PRPR"], "-5250");
}

#[test]
fn all_records_of_a_frame_are_kept_and_their_volumes_chain() {
    let frame = frame(TRADES_46);
    let trades: Vec<_> = frame.records().map(|r| trade(&r.wire(), received()).expect("a trade")).collect();
    assert_eq!(
        trades.iter().map(|t| t.accumulated_volume).collect::<Vec<_>>(),
        [8_305_216, 8_305_218, 8_305_293].map(Some)
    );
    assert_eq!(trades.iter().map(|t| t.quantity).collect::<Vec<_>>(), [1, 2, 75].map(Decimal::from));
    assert_eq!(
        trades.iter().map(|t| t.price).collect::<Vec<_>>(),
        [71_950, 71_900, 72_000].map(Decimal::from)
    );
    assert_eq!(trades.iter().map(|t| t.fields["CCLD_DVSN"].as_str()).collect::<Vec<_>>(), ["5", "5", "1"]);
    assert!(trades.iter().all(|t| t.fields.len() == 46 && !t.fields.contains_key("MARKET_CLS_CODE")));
    for pair in trades.windows(2) {
        let volume = |trade: &Trade| Decimal::from(trade.accumulated_volume.expect("a volume"));
        assert_eq!(volume(&pair[1]), volume(&pair[0]) + pair[1].quantity);
    }
    let old =
        trade(&self::frame(TRADE_46).records().next().expect("one").wire(), received()).expect("a trade");
    assert_eq!(old.id.as_str(), "kis:2023-06-12:005930:3052507");
    assert_eq!(old.fields["VI_STND_PRC"], "72100");
}

#[test]
fn books_of_62_and_63_fields_add_up() {
    for (text, mid) in [(BOOK_63, "277750"), (BOOK_62, "65950")] {
        let frame = frame(text);
        assert_eq!(frame.content(), Content::Book);
        let record = frame.records().next().expect("one");
        let sum = |side: &str| -> i64 {
            (1..=10)
                .map(|n| {
                    record.get(&format!("{side}_RSQN{n}")).expect("named").parse::<i64>().expect("a number")
                })
                .sum()
        };
        assert_eq!(sum("ASKP").to_string(), record.get("TOTAL_ASKP_RSQN").expect("named"));
        assert_eq!(sum("BIDP").to_string(), record.get("TOTAL_BIDP_RSQN").expect("named"));
        assert_eq!(record.get("MID_PRC"), Some(mid));
        assert_eq!(trade(&record.wire(), received()).expect_err("a book").cause, "not_a_trade");
    }
    assert_eq!(frame(BOOK_63).records().next().expect("one").get("MARKET_CLS_CODE"), Some("2"));
}

#[test]
fn other_venues_have_their_own_ids_and_side_field() {
    for (tr_id, feed) in [("H0UNCNT0", "kis-un"), ("H0NXCNT0", "kis-nx")] {
        let text = TRADE_47.replace("H0STCNT0", tr_id);
        let record_frame = frame(&text);
        let record = record_frame.records().next().expect("one");
        let trade = trade(&record.wire(), received()).expect("a trade");
        assert_eq!(trade.id.as_str(), format!("{feed}:2026-09-22:005930:11955000"));
        assert_eq!(trade.fields["CNTG_CLS_CODE"], "5");
    }
}

#[test]
fn the_sealed_notice_opens_with_the_key_of_its_reply() {
    let seal = reply(
        r#"{"header":{"tr_id":"H0STCNI0","tr_key":"LOGIN","encrypt":"Y"},"body":{"rt_cd":"0","msg_cd":"OPSP0000","msg1":"SUBSCRIBE SUCCESS","output":{"iv":"0123456789abcdef","key":"abcdefghijklmnopabcdefghijklmnop"}}}"#,
    )
    .seal
    .expect("a seal");
    assert_eq!(format!("{seal:?}"), "Seal(***)");
    assert_eq!(seal.close(NOTICE_PLAIN), NOTICE_BASE64);
    let text = format!("1|H0STCNI0|001|{NOTICE_BASE64}");
    let Ok(Message::Sealed(sealed)) = parse(text.as_bytes()) else { panic!("not sealed") };
    let plain = sealed.open(&seal).expect("opens");
    assert_eq!(plain, NOTICE_PLAIN);
    let frame = Frame::new(sealed.tr_id, sealed.count, &plain).expect("26 fields");
    let record = frame.records().next().expect("one");
    assert_eq!(
        (record.symbol(), record.get("ACNT_NAME"), record.get("ODER_PRC")),
        ("005930", Some("TEST"), Some("000071900"))
    );
    let wrong = Seal::new("00000000000000000000000000000000", "0123456789abcdef").expect("a seal");
    // The wrong key gives wrong padding or, rarely, text that is not a notice: never a record.
    assert!(sealed.open(&wrong).is_err_and(|e| e.cause == "bad_cipher" || e.cause == "bad_utf8"));
    let cut = Sealed { payload: &NOTICE_BASE64[..21], ..sealed };
    assert_eq!(cut.open(&seal).expect_err("cut").cause, "bad_base64");
}

#[test]
fn bad_frames_have_a_stable_cause_and_say_where() {
    assert_eq!(cause(b""), "empty");
    assert_eq!(cause(b"hello"), "truncated");
    assert_eq!(cause(b"0|H0STCNT0|001"), "truncated");
    assert_eq!(cause(b"2|H0STCNT0|001|x"), "bad_flag");
    for count in ["000", "", "+01", "1x", "99999999999"] {
        assert_eq!(cause(format!("0|H0STCNT0|{count}|x").as_bytes()), "bad_count", "{count}");
    }
    assert_eq!(cause(b"0|H0STXXX0|001|x"), "unknown_tr_id");
    assert_eq!(cause(b"0|H0STCNT0|001|005930^1"), "wrong_width");
    assert_eq!(cause(TRADES_46.replace("|003|", "|002|").as_bytes()), "wrong_width");
    assert_eq!(cause(format!("{TRADE_47}^1").as_bytes()), "wrong_width");
    let mut torn = TRADE_47.as_bytes().to_vec();
    torn[40] = 0xff;
    let error = parse(&torn).expect_err("refused");
    assert_eq!((error.cause, error.message.as_str()), ("bad_utf8", "byte 40 is not UTF-8"));

    let wire = frame(TRADE_47).records().next().expect("one").wire();
    let changed = |from: &str, to: &str| trade(&wire.replacen(from, to, 1), received()).expect_err("refused");
    let error = changed("^277750^", "^27x750^");
    assert_eq!(
        (error.cause, error.message.as_str()),
        ("bad_number", "field 2 STCK_PRPR is \"27x750\", expected a number")
    );
    assert_eq!(changed("^277750^", "^^").cause, "missing_field");
    assert_eq!(changed("^11955000^", "^(null)^").cause, "missing_field");
    assert_eq!(changed("^11955000^", "^99999999999999999999^").cause, "bad_number");
    assert_eq!(changed("^277750^", "^99999999999999999999999999999999999999^").cause, "bad_number");
    assert_eq!(changed("^20260922^", "^20260931^").cause, "bad_date");
    assert_eq!(changed("^140610^", "^246010^").cause, "bad_time");
    assert_eq!(changed("005930^", "../../x^").cause, "bad_symbol");
    assert_eq!(trade("H0STCNT0", received()).expect_err("refused").cause, "truncated");
    assert_eq!(trade("H0STCNT0|1^2", received()).expect_err("refused").cause, "wrong_width");
}

#[test]
fn fields_without_which_there_still_is_a_trade_may_be_empty_or_null() {
    let wire = frame(TRADE_47).records().next().expect("one").wire();
    let trade = trade(&wire.replacen("^120.39^", "^(null)^", 1).replacen("^0.53^", "^^", 1), received())
        .expect("a trade");
    assert_eq!((trade.fields["CTTR"].as_str(), trade.fields["SHNU_RATE"].as_str()), ("(null)", ""));
}

#[test]
fn replies_are_read_with_and_without_their_parts() {
    let done = reply(
        r#"{"header":{"tr_id":"H0STCNT0","tr_key":"005930","encrypt":"N"},"body":{"rt_cd":"0","msg_cd":"OPSP0001","msg1":"UNSUBSCRIBE SUCCESS"}}"#,
    );
    assert_eq!(
        (done.code, done.tr_key.as_deref(), done.encrypted),
        (Code::UnsubscribeSuccess, Some("005930"), false)
    );
    for header in [r#"{"tr_id":"(null)","tr_key":""}"#, r#"{"tr_id":null}"#, "{}"] {
        let text = format!(
            r#"{{"header":{header},"body":{{"rt_cd":"9","msg_cd":"OPSP8996","msg1":"ALREADY IN USE appkey"}}}}"#
        );
        let busy = reply(&text);
        assert_eq!((busy.tr_id, busy.tr_key, busy.code.action()), (None, None, Action::WaitForSlot));
    }
    let unnamed = reply(r#"{"header":{},"body":{"rt_cd":"0","msg1":"UNSUBSCRIBE SUCCESS"}}"#);
    assert_eq!(unnamed.code, Code::UnsubscribeSuccess);
    let unknown = reply(r#"{"header":{},"body":{"rt_cd":"1","msg_cd":"OPSP7777","msg1":"?"}}"#);
    assert_eq!((unknown.code.as_str(), unknown.code.action()), ("OPSP7777", Action::RetryLater));
    assert_eq!(cause(b"{"), "bad_json");
    assert_eq!(cause(b"{}"), "bad_control");
    assert_eq!(cause(br#"{"header":{"tr_id":"X"}}"#), "bad_control");
    let deep = "[".repeat(100_000);
    assert_eq!(cause(format!("{{\"header\":{deep}").as_bytes()), "bad_json");
}

#[test]
fn every_code_has_its_action() {
    let codes = Code::all();
    assert_eq!(codes.len(), 29);
    let action = |text: &str| {
        let message = format!(r#"{{"header":{{}},"body":{{"rt_cd":"1","msg_cd":"{text}","msg1":""}}}}"#);
        let code = reply(&message).code;
        assert_eq!(code.as_str(), text);
        code.action()
    };
    for (text, expected) in [
        ("OPSP0002", Action::TreatAsActive),
        ("OPSP0003", Action::MarkInactive),
        ("OPSP0007", Action::RetryLater),
        ("OPSP0008", Action::LearnLimit),
        ("OPSP0009", Action::RetryLater),
        ("OPSP0010", Action::FatalConfig),
        ("OPSP0011", Action::RenewKey),
        ("OPSP0017", Action::FatalForType),
        ("OPSP8991", Action::RejectedRequest),
        ("OPSP8994", Action::FatalConfig),
        ("OPSP8996", Action::WaitForSlot),
        ("OPSP8999", Action::RetryLater),
        ("OPSP9993", Action::RetryLater),
        ("OPSP9994", Action::FatalConfig),
        ("OPSP9995", Action::RetryLater),
        ("OPSP9996", Action::FatalConfig),
        ("OPSP9999", Action::RejectedRequest),
    ] {
        assert_eq!(action(text), expected, "{text}");
    }
}

#[test]
fn an_echoed_approval_key_never_leaves_the_codec() {
    let key = "3daa450a-0685-4c31-b015-99c5e5f4b11d";
    let text = format!(
        r#"{{"header":{{"tr_id":"H0STCNT0","tr_key":"005930"}},"body":{{"rt_cd":"1","msg_cd":"OPSP0011","msg1":"invalid approval : {key}"}}}}"#
    );
    let refused = reply(&text);
    assert_eq!(refused.text, "invalid approval : [redacted]");
    assert!(!format!("{refused:?}").contains(key));
    let missing = text.replace(&format!(" : {key}"), "(appkey) : NOT FOUND");
    assert_eq!(reply(&missing).text, "invalid approval(appkey) : NOT FOUND");
    let odd = text.replace("approval : ", "approval ");
    assert!(!reply(&odd).text.contains(key));
}

#[test]
fn pingpong_keeps_its_text() {
    let text = r#"{"header":{"tr_id":"PINGPONG","datetime":"20261121090012"}}"#;
    assert_eq!(parse(text.as_bytes()), Ok(Message::Control(Control::PingPong { text: text.into() })));
}

#[test]
fn approval_answers_are_told_apart() {
    use approval::{Refusal, answer};
    assert_eq!(answer(200, r#"{"approval_key":"k"}"#), Ok("k".into()));
    let bad = r#"{"error_description":"유효하지 않은 AppKey입니다.","error_code":"EGW00103"}"#;
    assert!(matches!(answer(403, bad), Err(Refusal::Credentials(_))));
    assert!(matches!(answer(403, &bad.replace("00103", "00105")), Err(Refusal::Credentials(_))));
    assert!(matches!(answer(403, &bad.replace("00103", "00133")), Err(Refusal::TooOften(_))));
    assert!(matches!(
        answer(500, r#"{"rt_cd":"1","msg_cd":"EGW00201","msg1":"x"}"#),
        Err(Refusal::TooOften(_))
    ));
    assert!(matches!(answer(503, "<html>"), Err(Refusal::Failed(_))));
    assert!(matches!(answer(200, "{}"), Err(Refusal::Failed(_))));
    let body = approval::body("a", "s");
    assert_eq!((body["secretkey"].as_str(), body.get("appsecret")), (Some("s"), None));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
    }

    #[test]
    fn damaged_real_frames_never_panic(
        which in 0usize..5,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut bytes = [TRADE_47, TRADES_46, TRADE_46, BOOK_63, BOOK_62][which].as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(&bytes);
    }

    #[test]
    fn text_like_frames_never_panic(text in "[01]\\|H0STCNT0\\|00[0-3]\\|[0-9^|.()-]{0,300}") {
        exercise(text.as_bytes());
    }

    #[test]
    fn decode_undoes_encode(
        layout in prop::sample::select(LAYOUTS.iter().filter(|l| l.content != Content::Notice).collect::<Vec<_>>()),
        shape in any::<prop::sample::Index>(),
        texts in proptest::collection::vec("[^^]{0,12}", 1..80),
        count in 1usize..7,
    ) {
        let shape = layout.shapes[shape.index(layout.shapes.len())];
        let records: Vec<Vec<String>> = (0..count)
            .map(|r| (0..shape.len()).map(|f| texts[(r * shape.len() + f) % texts.len()].clone()).collect())
            .collect();
        let text = encode(layout.tr_id, &records);
        let frame = frame(&text);
        prop_assert_eq!(frame.tr_id(), layout.tr_id);
        let decoded: Vec<Vec<String>> =
            frame.records().map(|r| (0..shape.len()).map(|at| r.field(at).to_owned()).collect()).collect();
        prop_assert_eq!(&decoded, &records);
        for (record, sent) in frame.records().zip(&records) {
            prop_assert_eq!(record.text(), sent.join("^"));
        }
    }
}

/// Everything that can be asked of bytes from the wire.
fn exercise(bytes: &[u8]) {
    let seal = Seal::new("abcdefghijklmnopabcdefghijklmnop", "0123456789abcdef").expect("a seal");
    match parse(bytes) {
        Ok(Message::Data(frame)) => {
            for record in frame.records() {
                assert_eq!(
                    record.text(),
                    record.fields().map(|(_, text)| text).collect::<Vec<_>>().join("^")
                );
                if let Ok(essence) = Essence::of(&record) {
                    let trade = trade(&record.wire(), received()).expect("the same judgement");
                    assert_eq!(trade.id, essence.id());
                    trade.traded().expect("a valid time");
                }
            }
        }
        Ok(Message::Sealed(sealed)) => {
            if let Ok(plain) = sealed.open(&seal) {
                assert!(
                    Frame::new(sealed.tr_id, sealed.count, &plain).is_ok_and(|f| !f.is_empty())
                        || !plain.contains('\0')
                );
            }
        }
        Ok(Message::Control(_)) => {}
        Err(error) => assert!(!error.cause.is_empty() && !error.message.is_empty()),
    }
}
