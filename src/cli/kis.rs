//! `openbell kis`: tools for the KIS feed.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};

use serde::{Serialize, Serializer};
use serde_json::json;

use super::exit::{Exit, Failure};
use feed::Refused;
use feed::kis::{Content, Control, Essence, Frame, Message, Record, Seal, parse};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Decode frames: one WebSocket message a line on stdin, one JSON object a record on stdout
    #[command(
        long_about = "Reads WebSocket messages of the KIS feed on stdin, one a line, and prints one JSON object for each record on stdout:\n\
        id (null where the feed has none), tr_id, symbol, trade_time (RFC 3339; null for books, whose hour comes without a date), and fields \
        with KIS's names and the texts as sent.\n\n\
        Control messages are printed as {\"control\": …} without keys. Encrypted frames are decrypted when the subscription's reply came before. \
        Faults go to stderr as \"line N: cause: message\".",
        after_help = "Example:\n  openbell kis decode < frames.txt | jq -r '[.id, .fields.STCK_PRPR] | @tsv'\n\n\
        Exit codes: 0 every line was good; 1 at least one was not; 3 stdin or stdout failed."
    )]
    Decode,
}

/// Carries out the command.
pub fn main(command: Command) -> super::exit::Result {
    match command {
        Command::Decode => {
            let stdout = io::BufWriter::new(io::stdout().lock());
            match decode(io::stdin().lock(), stdout, io::stderr().lock()) {
                Ok(exit) => Ok(exit),
                // The reader of our output went away; it has what it wanted.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Fine),
                Err(e) => Err(Failure::unusable(format!("reading frames from stdin or writing records: {e}"))),
            }
        }
    }
}

/// One line of output.
#[derive(Serialize)]
struct Line<'a> {
    id: Option<String>,
    tr_id: &'a str,
    symbol: &'a str,
    trade_time: Option<String>,
    #[serde(serialize_with = "in_order")]
    fields: Record<'a>,
}

fn in_order<S: Serializer>(record: &Record<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(record.fields())
}

fn decode(mut input: impl BufRead, mut out: impl Write, mut errors: impl Write) -> io::Result<Exit> {
    let mut decoder = Decoder { seals: HashMap::new() };
    let mut exit = Exit::Fine;
    let mut line = Vec::new();
    let mut number = 0u64;
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        for error in decoder.line(line.trim_ascii(), &mut out)? {
            exit = Exit::Fault;
            writeln!(errors, "line {number}: {}: {}", error.cause, error.message)?;
        }
    }
    out.flush()?;
    Ok(exit)
}

struct Decoder {
    /// What opens the encrypted frames of a message type, from its reply.
    seals: HashMap<String, Seal>,
}

impl Decoder {
    fn line(&mut self, line: &[u8], out: &mut impl Write) -> io::Result<Vec<Refused>> {
        if line.is_empty() {
            return Ok(Vec::new());
        }
        match parse(line) {
            Ok(Message::Data(frame)) => records(&frame, out),
            Ok(Message::Sealed(sealed)) => {
                let Some(seal) = self.seals.get(sealed.tr_id) else {
                    let message = "the frame is encrypted, and no reply with its key came before".to_owned();
                    return Ok(vec![Refused { cause: "no_key", message }]);
                };
                let plain = match sealed.open(seal) {
                    Ok(plain) => plain,
                    Err(error) => return Ok(vec![error]),
                };
                match Frame::new(sealed.tr_id, sealed.count, &plain) {
                    Ok(frame) => records(&frame, out),
                    Err(error) => Ok(vec![error]),
                }
            }
            Ok(Message::Control(control)) => {
                writeln!(out, "{}", self.control(control))?;
                Ok(Vec::new())
            }
            Err(error) => Ok(vec![error]),
        }
    }

    fn control(&mut self, control: Control) -> serde_json::Value {
        match control {
            Control::PingPong { text } => {
                let datetime = serde_json::from_str::<serde_json::Value>(&text).map(|v| v["header"]["datetime"].clone());
                json!({"control": {"type": "pingpong", "datetime": datetime.unwrap_or_default()}})
            }
            Control::Reply(reply) => {
                let keyed = reply.seal.is_some();
                if let (Some(tr_id), Some(seal)) = (&reply.tr_id, reply.seal) {
                    self.seals.insert(tr_id.clone(), seal);
                }
                let mut control = json!({
                    "type": "reply", "tr_id": reply.tr_id, "tr_key": reply.tr_key, "encrypt": reply.encrypted,
                    "rt_cd": reply.rt_cd, "msg_cd": reply.code.as_str(), "msg1": reply.text,
                });
                if keyed {
                    control["output"] = json!({"iv": "[redacted]", "key": "[redacted]"});
                }
                json!({ "control": control })
            }
        }
    }
}

fn records(frame: &Frame<'_>, out: &mut impl Write) -> io::Result<Vec<Refused>> {
    let mut faults = Vec::new();
    for (n, record) in frame.records().enumerate() {
        let (id, trade_time) = match record.content() {
            Content::Trade { .. } => match Essence::of(&record) {
                Ok(essence) => (Some(essence.id().to_string()), Some(essence.trade_time())),
                Err(error) if frame.len() > 1 => {
                    faults.push(Refused { message: format!("record {}: {}", n + 1, error.message), ..error });
                    continue;
                }
                Err(error) => {
                    faults.push(error);
                    continue;
                }
            },
            _ => (None, None),
        };
        let line = Line { id, tr_id: record.tr_id(), symbol: record.symbol(), trade_time, fields: record };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
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
        assert!(errors[0].starts_with("line 2: wrong_width: 2 fields in 1 record(s) of H0STCNT0"), "{}", errors[0]);
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
}
