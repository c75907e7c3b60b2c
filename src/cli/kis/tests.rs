use super::*;

const TRADE: &str = "0|H0STCNT0|001|005930^140610^277750^2^3750^1.37^280395.69^283000^283500^276500^278000^277500^5^11955000^3352130122500^83251^86830^3579^120.39^5217059^6280658^5^0.53^53.70^090023^5^-5250^090048^5^-5750^135824^2^1250^20260922^20^N^47588^70626^794823^496479^0.20^17123443^69.82^0^^283000^2";
const REPLY: &str = r#"{"header":{"tr_id":"H0STCNI0","tr_key":"LOGIN","encrypt":"Y"},"body":{"rt_cd":"0","msg_cd":"OPSP0000","msg1":"SUBSCRIBE SUCCESS","output":{"iv":"0123456789abcdef","key":"abcdefghijklmnopabcdefghijklmnop"}}}"#;
const NOTICE: &str = "1|H0STCNI0|001|z/qqgvGrR936uUr499eAx2lI4cOH7w0xIFl4WjMM3WFDM0N5q1wmNS7+Ad+jIqF2LbVPL6lIImviPD2RlC/xE/qMs9Ix0YCuPmXSPwfAQwTeZA0Rp8HRmxrhntf9+M3CfPOsfEfn5x8MfVcJ4SMdjJPqxH3pzRMsuBG3Nyq0FmXI1abZmStK2hKgHKQAzIKv4xC0Zc7r7Yems5r/EeRqEQ==";

fn run(input: &[u8]) -> (Exit, Vec<serde_json::Value>, String) {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let exit = decode(input, &mut out, &mut errors).expect("memory does not fail");
    let lines = String::from_utf8(out).expect("text");
    let lines = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    (exit, lines, String::from_utf8(errors).expect("text"))
}

#[test]
fn good_lines_become_objects_and_blank_ones_nothing() {
    let (exit, lines, errors) = run(format!("\r\n{TRADE}\r\n\n{TRADE}").as_bytes());
    assert_eq!((exit, lines.len(), errors.as_str()), (Exit::Fine, 2, ""));
    assert_eq!(lines[0]["id"], "kis:2026-09-22:005930:11955000");
    assert_eq!(lines[0]["tr_id"], "H0STCNT0");
    assert_eq!(lines[0]["symbol"], "005930");
    assert_eq!(lines[0]["trade_time"], "2026-09-22T14:06:10+09:00");
    assert_eq!(lines[0]["fields"]["ACML_TR_PBMN"], "3352130122500");
    assert_eq!(lines[0]["fields"].as_object().map(serde_json::Map::len), Some(47));
}

#[test]
fn bad_lines_are_named_and_the_others_still_printed() {
    let mut input = format!("{TRADE}\n0|H0STCNT0|001|1^2\n").into_bytes();
    input.extend_from_slice(b"0|H0STCNT0|001|\xff\xfe\n");
    input.extend_from_slice(TRADE.replace("^277750^", "^abc^").as_bytes());
    input.extend_from_slice(format!("\n{TRADE}\n").as_bytes());
    let (exit, lines, errors) = run(&input);
    assert_eq!((exit, lines.len()), (Exit::Fault, 2));
    let errors: Vec<_> = errors.lines().collect();
    assert_eq!(errors.len(), 3);
    assert!(
        errors[0].starts_with("line 2: wrong_width: 2 fields in 1 record(s) of H0STCNT0"),
        "{}",
        errors[0]
    );
    assert!(errors[1].starts_with("line 3: bad_utf8: "), "{}", errors[1]);
    assert_eq!(errors[2], "line 4: bad_number: field 2 STCK_PRPR is \"abc\", expected a number");
}

#[test]
fn encrypted_frames_open_after_their_reply_and_keys_stay_hidden() {
    let (exit, lines, errors) = run(format!("{NOTICE}\n{REPLY}\n{NOTICE}\n").as_bytes());
    assert_eq!(exit, Exit::Fault);
    assert!(errors.starts_with("line 1: no_key: "), "{errors}");
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["control"]["msg_cd"], "OPSP0000");
    let shown = lines[0].to_string();
    assert!(!shown.contains("abcdefghijklmnop") && !shown.contains("0123456789abcdef"), "{shown}");
    assert_eq!((lines[1]["symbol"].as_str(), lines[1]["id"].is_null()), (Some("005930"), true));
    let echo = r#"{"header":{"tr_id":"H0STCNT0"},"body":{"rt_cd":"1","msg_cd":"OPSP0011","msg1":"invalid approval : 3daa450a-0685"}}"#;
    let (_, lines, _) = run(echo.as_bytes());
    assert_eq!(lines[0]["control"]["msg1"], "invalid approval : [redacted]");
}
