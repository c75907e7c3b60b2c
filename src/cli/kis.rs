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
                Err(e) => {
                    Err(Failure::unusable(format!("reading frames from stdin or writing records: {e}")))
                }
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
                let datetime =
                    serde_json::from_str::<serde_json::Value>(&text).map(|v| v["header"]["datetime"].clone());
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
mod tests;
